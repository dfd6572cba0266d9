use super::*;
use Behaviour::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

fn at(net: &Net, host: HostId, port: u16) -> SocketAddr {
    SocketAddr::new(net.ip(host), port)
}

/// Sends, lets a second pass, and says how the packet looks to its receiver.
fn carry(net: &mut Net, from: (HostId, u16), to: SocketAddr, receiver: HostId) -> Option<Packet> {
    let source = at(net, from.0, from.1);
    net.send(from.0, source, to, b"x".to_vec());
    net.advance(net.now() + Duration::from_secs(1));
    net.receive(receiver)
}

#[test]
fn a_nat_maps_and_filters_as_its_kind_says() {
    for mapping in [EndpointIndependent, AddressDependent, AddressAndPortDependent] {
        for filtering in [EndpointIndependent, AddressDependent, AddressAndPortDependent] {
            let mut net = Net::new(tokio::time::Instant::now().into_std(), 1);
            let home = net.nat(NatKind::of(mapping, filtering), Realm::INTERNET);
            let inside = net.host(home, Link::default());
            let (one, two) = (
                net.host(Realm::INTERNET, Link::default()),
                net.host(Realm::INTERNET, Link::default()),
            );
            let mut outer = |host, port| {
                let to = at(&net, host, port);
                carry(&mut net, (inside, 5000), to, host).unwrap().from
            };
            let first = outer(one, 1);
            assert_eq!(outer(one, 1), first);
            assert_eq!(outer(one, 2) == first, mapping != AddressAndPortDependent);
            assert_eq!(outer(two, 1) == first, mapping == EndpointIndependent);
            // The first mapping was written from to one's port 1, and with a wider mapping to more.
            let stranger = net.host(Realm::INTERNET, Link::default());
            let answers = carry(&mut net, (stranger, 9), first, inside).is_some();
            assert_eq!(
                answers,
                filtering == EndpointIndependent,
                "{mapping:?} {filtering:?}"
            );
            let other_port = carry(&mut net, (one, 3), first, inside).is_some();
            assert_eq!(other_port, filtering != AddressAndPortDependent);
            assert!(carry(&mut net, (one, 1), first, inside).is_some());
        }
    }
}

#[test]
fn a_nat_behind_a_nat_translates_twice_and_hairpins_only_when_it_can() {
    for hairpinning in [false, true] {
        let mut net = Net::new(tokio::time::Instant::now().into_std(), 1);
        let carrier = net.nat(
            NatKind {
                hairpinning,
                ..NatKind::FULL_CONE
            },
            Realm::INTERNET,
        );
        let homes = [0, 1].map(|_| net.nat(NatKind::FULL_CONE, carrier));
        let [alice, bob] = homes.map(|home| net.host(home, Link::default()));
        let server = net.host(Realm::INTERNET, Link::default());
        let to = at(&net, server, 3478);
        let bobs = carry(&mut net, (bob, 5000), to, server).unwrap().from;
        let reached = carry(&mut net, (alice, 5000), bobs, bob);
        assert_eq!(reached.is_some(), hairpinning);
    }
}

#[test]
fn a_link_loses_repeats_delays_and_drops_what_is_too_long_alike_in_every_run() {
    let run = || {
        let mut net = Net::new(tokio::time::Instant::now().into_std(), 7);
        let link = Link {
            jitter: Duration::from_millis(30),
            lost: 20,
            twice: 10,
            ..Link::default()
        };
        let (alice, bob) = (
            net.host(Realm::INTERNET, link),
            net.host(Realm::INTERNET, Link::default()),
        );
        let (from, to) = (at(&net, alice, 1), at(&net, bob, 2));
        for number in 0..200_u8 {
            net.send(alice, from, to, vec![number]);
        }
        net.send(alice, from, to, vec![0; 1473]);
        net.advance(net.now() + Duration::from_secs(1));
        std::iter::from_fn(|| net.receive(bob).map(|packet| packet.data[0])).collect::<Vec<_>>()
    };
    let heard = run();
    assert_eq!(heard, run());
    assert!((140..200).contains(&heard.len()), "{}", heard.len());
    assert!(!heard.is_sorted(), "jitter reorders");
    let mut kinds = heard.clone();
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.len() < heard.len(), "some came twice");
}
