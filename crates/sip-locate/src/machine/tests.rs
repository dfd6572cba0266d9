//! The examples of RFC 3263, RFC 2782 and RFC 7118, and what is not to happen.

use super::*;
use std::collections::HashMap;

const TTL: u64 = 300;

fn usable(transports: &[Transport]) -> Usable {
    Usable {
        stack: "test",
        transports: transports.to_vec(),
        udp_v4: true,
        udp_v6: true,
        ipv6: Ipv6::Last,
    }
}

fn everything() -> Usable {
    usable(&[
        Transport::Udp,
        Transport::Tcp,
        Transport::Tls,
        Transport::Ws,
        Transport::Wss,
    ])
}

/// A little DNS: `name KIND rdata`.
#[derive(Default)]
struct Zone {
    records: HashMap<(String, &'static str), Vec<Data>>,
    silent: Vec<&'static str>,
}

impl Zone {
    fn new(lines: &[&str]) -> Self {
        let mut zone = Zone::default();
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (kind, data) = match words[1] {
                "A" | "AAAA" => (words[1], Data::Address(words[2].parse().unwrap())),
                "SRV" => (
                    "SRV",
                    Data::Srv(Srv {
                        priority: words[2].parse().unwrap(),
                        weight: words[3].parse().unwrap(),
                        port: words[4].parse().unwrap(),
                        target: words[5].trim_end_matches('.').to_owned(),
                    }),
                ),
                _ => (
                    "NAPTR",
                    Data::Naptr(Naptr {
                        order: words[2].parse().unwrap(),
                        preference: words[3].parse().unwrap(),
                        flags: words[4].to_owned(),
                        service: words[5].to_owned(),
                        replacement: words[6].to_owned(),
                    }),
                ),
            };
            let kind = ["A", "AAAA", "SRV", "NAPTR"]
                .into_iter()
                .find(|known| *known == kind)
                .unwrap();
            let key = (words[0].to_owned(), kind);
            zone.records.entry(key).or_default().push(data);
        }
        zone
    }

    fn answer(&self, question: &Question) -> Answer {
        let kind = match question.kind {
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
            Kind::Naptr => "NAPTR",
            Kind::Srv => "SRV",
        };
        if self.silent.contains(&kind) {
            return Answer::Failed(Failure::new(Fault::TimedOut, "nobody answers", "wait"));
        }
        match self.records.get(&(question.name.clone(), kind)) {
            Some(records) => Answer::Found(
                records
                    .iter()
                    .map(|data| Record {
                        ttl: Duration::from_secs(TTL),
                        data: data.clone(),
                    })
                    .collect(),
            ),
            None => Answer::Absent {
                exists: self.records.keys().any(|(name, _)| *name == question.name),
            },
        }
    }
}

struct Run {
    result: Result<Found, Failure>,
    asked: Vec<String>,
}

fn run_seeded(uri: &str, usable: Usable, zone: &Zone, seed: u64) -> Run {
    let uri: SipUri = uri.parse().unwrap();
    let mut locator = Locator::new(&uri, Arc::new(usable), false, seed);
    let mut asked = Vec::new();
    loop {
        match locator.poll() {
            Step::Done(result) => return Run { result, asked },
            Step::Ask(questions) => {
                assert!(asked.len() < 100, "it asks without end: {asked:?}");
                asked.extend(questions.iter().map(|q| format!("{} {:?}", q.name, q.kind)));
                let answers = questions.iter().map(|question| zone.answer(question)).collect();
                locator.handle(answers);
            }
        }
    }
}

fn run(uri: &str, usable: Usable, zone: &Zone) -> Run {
    run_seeded(uri, usable, zone, 1)
}

fn targets(run: &Run) -> Vec<String> {
    match &run.result {
        Ok(found) => found
            .targets
            .iter()
            .map(|t| format!("{} {}", t.transport, t.addr))
            .collect(),
        Err(why) => panic!("{why:?}"),
    }
}

fn failure(run: &Run) -> &Failure {
    run.result.as_ref().unwrap_err()
}

/// RFC 3263 section 4.1's example.
fn rfc3263() -> Zone {
    Zone::new(&[
        "example.com NAPTR 50 50 s SIPS+D2T _sips._tcp.example.com.",
        "example.com NAPTR 90 50 s SIP+D2T _sip._tcp.example.com.",
        "example.com NAPTR 100 50 s SIP+D2U _sip._udp.example.com.",
        "_sips._tcp.example.com SRV 0 1 5061 server1.example.com.",
        "_sip._tcp.example.com SRV 0 1 5060 server1.example.com.",
        "_sip._tcp.example.com SRV 1 2 5060 server2.example.com.",
        "_sip._udp.example.com SRV 0 1 5060 server1.example.com.",
        "server1.example.com A 192.0.2.1",
        "server2.example.com A 192.0.2.2",
        "server2.example.com AAAA 2001:db8::2",
        "example.com A 192.0.2.99",
    ])
}

#[test]
fn naptr_chooses_the_transport_in_its_order_among_those_that_are_spoken() {
    let found = run(
        "sip:user@example.com",
        usable(&[Transport::Udp, Transport::Tcp]),
        &rfc3263(),
    );
    assert_eq!(
        targets(&found),
        [
            "TCP 192.0.2.1:5060",
            "TCP 192.0.2.2:5060",
            "TCP [2001:db8::2]:5060",
            "UDP 192.0.2.1:5060"
        ]
    );
    assert_eq!(
        found.asked,
        [
            "example.com Naptr",
            "_sip._tcp.example.com Srv",
            "_sip._udp.example.com Srv",
            "server1.example.com A",
            "server1.example.com Aaaa",
            "server2.example.com A",
            "server2.example.com Aaaa"
        ]
    );
    let found_all = found.result.unwrap();
    assert!(found_all.targets.iter().all(|target| target.forced));
    assert_eq!(found_all.ttl, Some(Duration::from_secs(TTL)));
    // Whoever speaks TLS takes it first, for a sip: URI too.
    let found = run("sip:user@example.com", everything(), &rfc3263());
    assert_eq!(targets(&found)[0], "TLS 192.0.2.1:5061");
}

#[test]
fn an_address_is_taken_as_it_is() {
    for (uri, target) in [
        ("sip:192.0.2.7", "UDP 192.0.2.7:5060"),
        ("sip:192.0.2.7:5070", "UDP 192.0.2.7:5070"),
        ("sip:[2001:db8::7];transport=tcp", "TCP [2001:db8::7]:5060"),
        ("sip:192.0.2.7;transport=tls", "TLS 192.0.2.7:5061"),
        ("sip:192.0.2.7;transport=ws", "WS 192.0.2.7:80"),
        ("sip:192.0.2.7;transport=wss", "WSS 192.0.2.7:443"),
        ("sips:192.0.2.7", "TLS 192.0.2.7:5061"),
        ("sips:192.0.2.7:5065;transport=tcp", "TLS 192.0.2.7:5065"),
        ("sips:192.0.2.7;transport=ws", "WSS 192.0.2.7:443"),
        ("sip:example.com;maddr=192.0.2.8", "UDP 192.0.2.8:5060"),
    ] {
        let found = run(uri, everything(), &Zone::default());
        assert_eq!(targets(&found), [target], "{uri}");
        assert!(found.asked.is_empty());
    }
    let found = run(
        "sip:192.0.2.7",
        usable(&[Transport::Tls, Transport::Tcp]),
        &Zone::default(),
    );
    assert_eq!(targets(&found), ["TCP 192.0.2.7:5060"]);
}

#[test]
fn a_port_skips_naptr_and_srv_and_a_transport_skips_naptr() {
    let found = run("sip:example.com:5080", everything(), &rfc3263());
    assert_eq!(targets(&found), ["UDP 192.0.2.99:5080"]);
    assert_eq!(found.asked, ["example.com A", "example.com Aaaa"]);
    let found = run("sip:example.com;transport=tcp", everything(), &rfc3263());
    assert_eq!(found.asked[0], "_sip._tcp.example.com Srv");
    assert_eq!(targets(&found)[0], "TCP 192.0.2.1:5060");
    assert!(!found.result.unwrap().targets[0].forced);
    let found = run("sip:example.com;transport=ws", everything(), &rfc3263());
    assert_eq!(found.asked[0], "_sip._ws.example.com Srv");
    assert_eq!(targets(&found), ["WS 192.0.2.99:80"]);
    let found = run(
        "sip:x.org;maddr=example.com;transport=tls",
        everything(),
        &rfc3263(),
    );
    assert_eq!(targets(&found), ["TLS 192.0.2.1:5061"]);
}

#[test]
fn a_host_of_the_hosts_file_is_asked_for_by_address_only() {
    let uri: SipUri = "sip:pbx;transport=tcp".parse().unwrap();
    let locator = Locator::new(&uri, Arc::new(everything()), true, 1);
    let Step::Ask(questions) = locator.poll() else {
        panic!()
    };
    assert_eq!((questions[0].name.as_str(), questions[0].kind), ("pbx", Kind::A));
}

#[test]
fn without_naptr_every_spoken_transports_srv_is_asked_for_and_udp_comes_first() {
    let zone = Zone::new(&[
        "_sip._udp.example.com SRV 0 0 5062 a.example.com.",
        "_sip._tcp.example.com SRV 0 0 5063 a.example.com.",
        "a.example.com A 192.0.2.1",
    ]);
    let found = run("sip:example.com", everything(), &zone);
    assert_eq!(targets(&found), ["UDP 192.0.2.1:5062", "TCP 192.0.2.1:5063"]);
    assert!(found.result.unwrap().targets.iter().all(|target| !target.forced));
    let found = run("sip:example.com", usable(&[Transport::Tcp]), &zone);
    assert_eq!(targets(&found), ["TCP 192.0.2.1:5063"]);
}

#[test]
fn without_naptr_and_srv_the_name_itself_is_the_host() {
    let zone = Zone::new(&["example.com A 192.0.2.1", "example.com AAAA 2001:db8::1"]);
    let found = run("sip:example.com", everything(), &zone);
    assert_eq!(targets(&found), ["UDP 192.0.2.1:5060", "UDP [2001:db8::1]:5060"]);
    let found = run("sips:example.com", everything(), &zone);
    assert_eq!(targets(&found), ["TLS 192.0.2.1:5061", "TLS [2001:db8::1]:5061"]);
    let mut first = everything();
    first.ipv6 = Ipv6::First;
    assert_eq!(
        targets(&run("sip:example.com", first, &zone))[0],
        "UDP [2001:db8::1]:5060"
    );
    let mut never = everything();
    never.ipv6 = Ipv6::Never;
    let found = run("sip:example.com", never, &zone);
    assert_eq!(targets(&found), ["UDP 192.0.2.1:5060"]);
    assert!(!found.asked.contains(&"example.com Aaaa".to_owned()));
}

#[test]
fn sips_is_never_downgraded() {
    let clear = Zone::new(&[
        "example.com NAPTR 10 10 s SIP+D2T _sip._tcp.example.com.",
        "example.com NAPTR 20 10 s SIP+D2U _sip._udp.example.com.",
        "_sip._tcp.example.com SRV 0 0 5060 a.example.com.",
        "a.example.com A 192.0.2.1",
        "example.com A 192.0.2.1",
    ]);
    let found = run("sips:example.com", everything(), &clear);
    let why = failure(&found);
    assert_eq!(why.fault, Fault::PeerIncompatible);
    assert_eq!(
        why.message,
        "example.com offers SIP+D2T, SIP+D2U, none of it secure, which sips: needs"
    );
    assert_eq!(found.asked, ["example.com Naptr"]);
    // Of an offer with both, only the secure half is taken.
    for uri in [
        "sips:example.com",
        "sips:example.com;transport=tcp",
        "sips:example.com:5061",
    ] {
        let found = run(uri, everything(), &rfc3263());
        assert!(
            targets(&found).iter().all(|target| target.starts_with("TLS ")),
            "{uri}"
        );
    }
    let found = run("sips:example.com;transport=udp", everything(), &rfc3263());
    assert!(failure(&found).message.contains("never spoken over UDP"));
    for uri in [
        "sips:example.com",
        "sips:192.0.2.1",
        "sips:example.com;transport=tcp",
    ] {
        let found = run(uri, usable(&[Transport::Udp, Transport::Tcp]), &clear);
        let why = failure(&found);
        assert!(
            matches!(why.fault, Fault::Unsupported | Fault::PeerIncompatible),
            "{uri}: {why:?}"
        );
    }
}

#[test]
fn naptr_knows_websockets_and_hosts_and_passes_by_what_is_not_sip() {
    let zone = Zone::new(&[
        "example.com NAPTR 5 10 u E2U+sip _x.example.com.",
        "example.com NAPTR 10 10 s SIP+D2S _sip._sctp.example.com.",
        "example.com NAPTR 20 10 S sips+d2w _sips._ws.example.com.",
        "_sips._ws.example.com SRV 0 0 443 web.example.com.",
        "web.example.com A 192.0.2.5",
        "host.example.org NAPTR 10 10 a SIP+D2T web.example.com.",
        "sctp.example.org NAPTR 10 10 s SIP+D2S _sip._sctp.example.org.",
        "enum.example.org NAPTR 10 10 u E2U+sip _x.example.com.",
        "enum.example.org A 192.0.2.6",
    ]);
    assert_eq!(
        targets(&run("sip:example.com", everything(), &zone)),
        ["WSS 192.0.2.5:443"]
    );
    assert_eq!(
        targets(&run("sip:host.example.org", everything(), &zone)),
        ["TCP 192.0.2.5:5060"]
    );
    assert_eq!(
        targets(&run("sip:enum.example.org", everything(), &zone)),
        ["UDP 192.0.2.6:5060"]
    );
    let found = run("sip:sctp.example.org", everything(), &zone);
    assert_eq!(
        failure(&found).message,
        "sctp.example.org offers SIP+D2S, which this stack does not speak"
    );
}

#[test]
fn srv_records_go_by_priority_and_then_at_random_by_weight() {
    let srv = |priority, weight, target: &str| Srv {
        priority,
        weight,
        port: 5060,
        target: target.to_owned(),
    };
    let records = vec![
        srv(2, 0, "last"),
        srv(1, 75, "heavy"),
        srv(1, 0, "zero"),
        srv(1, 25, "light"),
    ];
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut random = SmallRng::seed_from_u64(7);
    for _ in 0..10_000 {
        let order = super::srv::order(records.clone(), &mut random);
        assert_eq!(order.len(), 4);
        assert_eq!(order[3].target, "last");
        *first.entry(order[0].target.clone()).or_default() += 1;
    }
    // 1 in 101 for the weight of 0, the rest 1 to 3 (RFC 2782).
    assert!((7_200..=7_700).contains(&first["heavy"]), "{first:?}");
    assert!((2_200..=2_700).contains(&first["light"]), "{first:?}");
    assert!((40..=200).contains(&first["zero"]), "{first:?}");
    let order = |seed| super::srv::order(records.clone(), &mut SmallRng::seed_from_u64(seed));
    assert_eq!(order(3), order(3));
}

#[test]
fn a_domain_that_declines_sip_is_not_looked_for_any_further() {
    let zone = Zone::new(&["_sip._udp.example.com SRV 0 0 1 .", "example.com A 192.0.2.1"]);
    let found = run("sip:example.com", everything(), &zone);
    assert!(failure(&found).message.contains("says that it has no SIP server"));
    assert!(!found.asked.iter().any(|asked| asked.ends_with(" A")));
}

#[test]
fn what_does_not_exist_and_what_has_no_address_are_told_apart() {
    let zone = Zone::new(&["here.example.com NAPTR 1 1 s SIP+D2U _sip._udp.here.example.com."]);
    let found = run("sip:gone.example.com", everything(), &zone);
    assert_eq!(failure(&found).message, "there is no gone.example.com in the DNS");
    let found = run("sip:here.example.com", everything(), &zone);
    assert_eq!(
        failure(&found).message,
        "here.example.com has no address in the DNS"
    );
}

#[test]
fn a_name_server_that_answers_for_addresses_only_is_enough() {
    let mut zone = rfc3263();
    zone.silent = vec!["NAPTR", "SRV"];
    let found = run("sip:example.com", everything(), &zone);
    assert_eq!(targets(&found), ["UDP 192.0.2.99:5060"]);
    zone.silent = vec!["NAPTR", "SRV", "A", "AAAA"];
    let found = run("sip:example.com", everything(), &zone);
    assert_eq!(failure(&found).fault, Fault::TimedOut);
    assert_eq!(failure(&found).message, "nobody answers");
}

#[test]
fn udp_targets_of_a_family_without_a_socket_are_left_out() {
    let zone = Zone::new(&[
        "example.com A 192.0.2.1",
        "example.com AAAA 2001:db8::1",
        "v6.example.com AAAA 2001:db8::1",
    ]);
    let mut v4 = everything();
    v4.udp_v6 = false;
    assert_eq!(
        targets(&run("sip:example.com", v4.clone(), &zone)),
        ["UDP 192.0.2.1:5060"]
    );
    let found = run("sip:v6.example.com", v4, &zone);
    assert_eq!(failure(&found).fault, Fault::ConfigInvalid);
    assert!(
        failure(&found)
            .advice
            .contains("UDP listener with an IPv6 address")
    );
}

#[test]
fn a_transport_that_is_not_spoken_is_an_error_that_names_those_that_are() {
    for uri in [
        "sip:example.com;transport=ws",
        "sip:192.0.2.1;transport=sctp",
        "sip:192.0.2.1;transport=tls",
    ] {
        let found = run(uri, usable(&[Transport::Udp, Transport::Tcp]), &rfc3263());
        let why = failure(&found);
        assert_eq!(why.fault, Fault::Unsupported, "{uri}");
        assert!(why.advice.contains("UDP, TCP"), "{uri}: {why:?}");
        assert!(found.asked.is_empty());
    }
}

#[test]
fn a_malicious_zone_cannot_make_it_ask_or_try_without_end() {
    let lines: Vec<String> = (0..100)
        .flat_map(|n| {
            [
                format!("example.com NAPTR 1 {n} s SIP+D2U _sip{n}.example.com."),
                format!("_sip{n}.example.com SRV 0 0 5060 host{n}.example.com."),
                format!("_sip0.example.com SRV 0 0 5060 host{n}.example.com."),
                format!("host{n}.example.com A 192.0.2.{n}"),
                format!("example.org A 198.51.100.{n}"),
            ]
        })
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let zone = Zone::new(&lines);
    let found = run("sip:example.com", everything(), &zone);
    assert!(found.asked.len() <= 1 + MAX_SERVICES + 2 * MAX_PLACES);
    assert!(targets(&found).len() <= MAX_TARGETS);
    assert_eq!(
        targets(&run("sip:example.org", everything(), &zone)).len(),
        MAX_TARGETS
    );
}
