use super::*;
use crate::crypto::{Crypto, Suite};
use crate::remote::Fingerprint;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use siprtc_core::media::Codec;
use std::time::UNIX_EPOCH;

fn addr(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], port))
}

/// One end, with what it did.
struct End {
    transport: Transport,
    here: SocketAddr,
    identity: Identity,
    heard: Vec<RtpPacket>,
    told: Vec<Feedback>,
    connected: bool,
    failed: Option<&'static str>,
    moved: Vec<(Port, SocketAddr)>,
    sent: Vec<(Port, Vec<u8>)>,
}

impl End {
    fn new(ssrc: u32, here: SocketAddr, now: Instant) -> Self {
        let reports = Reports::new(now, UNIX_EPOCH, ssrc, "end".to_owned());
        End {
            transport: Transport::new(ssrc, reports, true),
            here,
            identity: Identity::fresh().unwrap(),
            heard: Vec::new(),
            told: Vec::new(),
            connected: false,
            failed: None,
            moved: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        let text = self.identity.fingerprint();
        let (hash, octets) = text.split_once(' ').unwrap();
        Fingerprint {
            hash: hash.to_owned(),
            octets: octets
                .split(':')
                .map(|pair| u8::from_str_radix(pair, 16).unwrap())
                .collect(),
        }
    }

    fn agree(&mut self, now: Instant, keys: &Agreed, there: SocketAddr, rtcp: Option<SocketAddr>) {
        let formats = siprtc_rtp::format::formats(&[Codec::Pcmu]).into();
        self.transport
            .agree(
                now,
                keys,
                &formats,
                Some((there, rtcp)),
                false,
                Some(&self.identity),
            )
            .unwrap();
        self.transport.path_up(now);
        self.drain();
    }

    fn drain(&mut self) {
        let mut outputs = Vec::new();
        self.transport.drain(&mut outputs);
        for output in outputs {
            match output {
                Output::Connected => self.connected = true,
                Output::Feedback(feedback) => self.told.push(feedback),
                Output::Failed(text) => self.failed = Some(text),
                Output::Move(port, to) => self.moved.push((port, to)),
                Output::Send(port, data) => self.sent.push((port, data)),
            }
        }
    }

    fn take(&mut self, now: Instant, port: Port, from: SocketAddr, data: &[u8]) {
        let heard = self.transport.handle(now, port, from, data);
        self.drain();
        self.heard.extend(heard);
    }

    fn tick(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
        self.drain();
    }

    fn protect(&mut self, now: Instant, packet: &RtpPacket) -> Vec<u8> {
        let mut wire = Vec::new();
        let sent = (self.transport).protect(now, packet, |datagram| wire.extend_from_slice(datagram));
        sent.unwrap();
        wire
    }

    fn packet(&mut self, now: Instant, sequence: u16) -> Vec<u8> {
        let packet = RtpPacket {
            payload_type: 0,
            marker: sequence == 0,
            sequence,
            timestamp: 160 * u32::from(sequence),
            ssrc: 0,
            payload: Bytes::from(vec![sequence as u8; 160]),
        };
        self.protect(now, &packet)
    }
}

struct Pair {
    a: End,
    b: End,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::from(tokio::time::Instant::now());
        Pair {
            a: End::new(1, addr(1, 4000), now),
            b: End::new(2, addr(2, 5000), now),
            now,
        }
    }

    fn agree(mut self, ours: &Agreed, theirs: &Agreed) -> Self {
        let (here, there) = (self.a.here, self.b.here);
        self.a.agree(self.now, ours, there, None);
        self.b.agree(self.now, theirs, here, None);
        self
    }

    fn sdes(suite: Suite) -> Self {
        let (x, y) = (Crypto::fresh(1, suite).unwrap(), Crypto::fresh(1, suite).unwrap());
        let keys = |ours: &Crypto, theirs: &Crypto| Agreed::Sdes {
            ours: ours.clone(),
            theirs: theirs.clone(),
        };
        Pair::new().agree(&keys(&x, &y), &keys(&y, &x))
    }

    fn dtls() -> Self {
        let pair = Pair::new();
        let (x, y) = (pair.a.fingerprint(), pair.b.fingerprint());
        let keys = |is_client, peer: Fingerprint| Agreed::Dtls {
            is_client,
            peer: vec![peer],
        };
        pair.agree(&keys(true, y), &keys(false, x))
    }

    /// Carries what was sent, and lets time pass.
    fn carry(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for (_, data) in std::mem::take(&mut self.a.sent) {
                self.b.take(self.now, Port::Rtp, self.a.here, &data);
            }
            for (_, data) in std::mem::take(&mut self.b.sent) {
                self.a.take(self.now, Port::Rtp, self.b.here, &data);
            }
            self.now += Duration::from_millis(50);
            self.a.tick(self.now);
            self.b.tick(self.now);
        }
    }

    /// So many packets each way.
    fn talk(&mut self, packets: u16) {
        for sequence in 0..packets {
            self.now += Duration::from_millis(20);
            let (x, y) = (
                self.a.packet(self.now, sequence),
                self.b.packet(self.now, sequence),
            );
            self.b.take(self.now, Port::Rtp, self.a.here, &x);
            self.a.take(self.now, Port::Rtp, self.b.here, &y);
        }
    }
}

#[test]
fn audio_goes_both_ways_plain_with_keys_and_after_a_handshake() {
    let suites = Suite::ALL.map(Pair::sdes);
    let plain = Pair::new().agree(&Agreed::None, &Agreed::None);
    for mut pair in suites.into_iter().chain([plain, Pair::dtls()]) {
        pair.carry(20);
        assert!(pair.a.connected && pair.b.connected);
        pair.talk(30);
        for end in [&pair.a, &pair.b] {
            assert_eq!(end.heard.len(), 30);
            assert_eq!(end.heard[7].payload[..], [7; 160]);
            assert!(end.heard[0].marker && !end.heard[1].marker);
            assert_eq!(end.transport.discarded.total(), 0);
        }
        assert_eq!((pair.a.heard[0].ssrc, pair.b.heard[0].ssrc), (2, 1));
    }
}

#[test]
fn reports_go_each_second_and_a_goodbye_at_the_end() {
    let mut pair = Pair::sdes(Suite::AesCm128HmacSha1_80);
    pair.talk(60);
    pair.carry(30);
    let view = pair.a.transport.reports.remote().expect("b has reported");
    assert_eq!(view.loss, 0.0);
    pair.a.sent.clear();
    pair.a.transport.close(pair.now);
    pair.a.drain();
    assert_eq!(pair.a.sent.len(), 1, "a report and a BYE in one");
}

#[test]
fn what_cannot_be_the_peers_is_dropped_and_counted() {
    let mut pair = Pair::sdes(Suite::AesCm128HmacSha1_80);
    pair.talk(3);
    let good = pair.a.packet(pair.now, 3);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let stranger = addr(66, 6666);
    pair.b.take(pair.now, Port::Rtp, stranger, &forged);
    pair.b.take(pair.now, Port::Rtp, pair.a.here, &good);
    pair.b.take(pair.now, Port::Rtp, pair.a.here, &good);
    pair.b.take(pair.now, Port::Rtp, pair.a.here, &[]);
    pair.b.take(pair.now, Port::Rtp, pair.a.here, &[0x80, 0]);
    pair.b.take(pair.now, Port::Rtp, pair.a.here, &[0x40; 40]);
    assert_eq!(pair.b.heard.len(), 4);
    let expected = Discarded {
        forged: 1,
        malformed: 1,
        replayed: 1,
        unknown: 2,
        ..Discarded::default()
    };
    assert_eq!(pair.b.transport.discarded, expected);
    assert!(!pair.b.moved.contains(&(Port::Rtp, stranger)));
}

#[test]
fn plain_packets_with_wrong_versions_numbers_lengths_and_padding_are_dropped_and_others_read() {
    let mut pair = Pair::new().agree(&Agreed::None, &Agreed::None);
    let good = pair.a.packet(pair.now, 1);
    let change = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    // Unknown payload type; our own SSRC; an extension longer than the packet; as many sources as do not fit; padding.
    let mut own = good.clone();
    own[8..12].copy_from_slice(&2_u32.to_be_bytes());
    let mut padded = change(0, 0xa0);
    *padded.last_mut().unwrap() = 255;
    for wrong in [
        change(1, 77),
        own,
        change(0, 0x90)[..14].to_vec(),
        change(0, 0x8f)[..20].to_vec(),
        padded,
    ] {
        pair.b.take(pair.now, Port::Rtp, pair.a.here, &wrong);
    }
    let expected = Discarded {
        looped: 1,
        malformed: 3,
        payload_type: 1,
        ..Discarded::default()
    };
    assert_eq!((pair.b.heard.len(), pair.b.transport.discarded), (0, expected));
    // One contributing source, an extension of one word, four octets of padding: legal, and not audio.
    let mut full = vec![0x80 | 0x20 | 0x10 | 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1];
    full.extend([9; 4]);
    full.extend([0xbe, 0xde, 0, 1, 0, 0, 0, 0]);
    full.extend([5; 160]);
    full.extend([0, 0, 0, 4]);
    pair.b.take(pair.now, Port::Rtp, pair.a.here, &full);
    assert_eq!(pair.b.heard[0].payload[..], [5; 160]);
}

#[test]
fn a_peer_behind_a_nat_is_answered_where_it_speaks_from() {
    for mut pair in [
        Pair::new().agree(&Agreed::None, &Agreed::None),
        Pair::sdes(Suite::AeadAes128Gcm),
    ] {
        let nat = addr(99, 40_000);
        for sequence in 0..6 {
            let data = pair.a.packet(pair.now, sequence);
            pair.b.take(pair.now, Port::Rtp, nat, &data);
            pair.now += Duration::from_millis(20);
        }
        assert_eq!(pair.b.moved.last(), Some(&(Port::Rtp, nat)));
        assert!(pair.b.heard.len() >= 3);
        // The same description again, as when a call is held and resumed, does not lead back.
        let before = pair.b.moved.len();
        let there = pair.a.here;
        pair.b.agree(pair.now, &Agreed::None, there, None);
        assert_eq!(pair.b.moved.len(), before);
    }
}

#[test]
fn a_stranger_hears_and_says_nothing_in_a_plain_call() {
    let mut pair = Pair::new().agree(&Agreed::None, &Agreed::None);
    pair.talk(5);
    let before = pair.b.moved.len();
    for sequence in 5..200 {
        let data = pair.a.packet(pair.now, sequence);
        pair.b.take(pair.now, Port::Rtp, addr(66, 6666), &data);
        pair.b.take(pair.now, Port::Rtp, pair.a.here, &data);
        pair.now += Duration::from_millis(20);
    }
    assert_eq!(
        (pair.b.heard.len(), pair.b.transport.discarded.stranger),
        (200, 195)
    );
    assert_eq!(pair.b.moved.len(), before);
}

#[test]
fn a_new_source_and_a_jump_of_the_numbers_are_heard() {
    let mut pair = Pair::sdes(Suite::AesCm128HmacSha1_80);
    pair.talk(3);
    pair.a.transport.ssrc = 77;
    let later = pair.a.packet(pair.now, 50_000);
    pair.b.take(pair.now, Port::Rtp, pair.a.here, &later);
    assert_eq!(
        pair.b.heard.last().map(|packet| (packet.ssrc, packet.sequence)),
        Some((77, 50_000))
    );
}

#[test]
fn rtcp_has_its_own_port_when_it_is_not_multiplexed() {
    let mut pair = Pair::new();
    let (here, there) = (pair.a.here, pair.b.here);
    let ports = (addr(1, 4001), addr(2, 5001));
    pair.a.agree(pair.now, &Agreed::None, there, Some(ports.1));
    pair.b.agree(pair.now, &Agreed::None, here, Some(ports.0));
    pair.talk(60);
    pair.a.tick(pair.now + Duration::from_secs(1));
    let (port, report) = pair.a.sent.pop().expect("a report");
    assert_eq!(port, Port::Rtcp);
    // On the other port it is nobody's.
    pair.b.take(pair.now, Port::Rtp, here, &report);
    assert_eq!(
        (
            pair.b.transport.discarded.unknown,
            pair.b.transport.reports.remote()
        ),
        (1, None)
    );
    // Its NAT mapped it elsewhere; the address is the one RTP comes from.
    pair.b.take(pair.now, Port::Rtcp, addr(1, 40_001), &report);
    assert!(pair.b.transport.reports.remote().is_some());
    assert_eq!(pair.b.moved.last(), Some(&(Port::Rtcp, addr(1, 40_001))));
    pair.b.take(pair.now, Port::Rtcp, addr(66, 1), &report);
    assert_eq!(pair.b.transport.discarded.stranger, 1);
}

#[test]
fn a_handshake_with_the_wrong_certificate_fails_with_a_reason_and_nothing_is_heard() {
    let pair = Pair::new();
    let other = Identity::fresh().unwrap();
    let wrong = Fingerprint {
        hash: "sha-256".to_owned(),
        octets: vec![1; 32],
    };
    assert_ne!(other.fingerprint(), pair.a.identity.fingerprint());
    let (x, y) = (pair.a.fingerprint(), wrong);
    let keys = |is_client, peer: Fingerprint| Agreed::Dtls {
        is_client,
        peer: vec![peer],
    };
    let mut pair = pair.agree(&keys(true, y), &keys(false, x));
    pair.carry(220);
    assert!(!pair.a.connected);
    assert!(
        pair.a.failed.is_some_and(|text| text.contains("fingerprint")),
        "{:?}",
        pair.a.failed
    );
}

#[test]
fn keys_that_change_in_the_call_are_used_at_once() {
    let mut pair = Pair::sdes(Suite::AesCm128HmacSha1_80);
    pair.talk(3);
    let suite = Suite::AeadAes256Gcm;
    let (x, y) = (Crypto::fresh(1, suite).unwrap(), Crypto::fresh(1, suite).unwrap());
    let (here, there) = (pair.a.here, pair.b.here);
    let keys = |ours: &Crypto, theirs: &Crypto| Agreed::Sdes {
        ours: ours.clone(),
        theirs: theirs.clone(),
    };
    pair.a.agree(pair.now, &keys(&x, &y), there, None);
    pair.b.agree(pair.now, &keys(&y, &x), here, None);
    pair.talk(3);
    assert_eq!((pair.a.heard.len(), pair.b.heard.len()), (6, 6));
}

proptest::proptest! {
    #[test]
    fn no_datagram_makes_it_panic(datagrams in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80), 0..8)) {
        for mut pair in [
            Pair::new().agree(&Agreed::None, &Agreed::None),
            Pair::sdes(Suite::AesCm128HmacSha1_80),
            Pair::dtls(),
        ] {
            for data in &datagrams {
                pair.a.take(pair.now, Port::Rtp, pair.b.here, data);
                for first in [0x80, 22] {
                    let mut shaped = data.clone();
                    if let Some(octet) = shaped.first_mut() {
                        *octet = first;
                    }
                    if let (Some(octet), true) = (shaped.get_mut(1), first == 0x80) {
                        *octet = 200 + (*octet % 8);
                    }
                    pair.a.take(pair.now, Port::Rtp, pair.b.here, &shaped);
                }
            }
        }
    }
}

#[test]
fn what_is_told_of_video_arrives_at_its_sender() {
    let formats: Formats = siprtc_rtp::video::formats(&[siprtc_core::media::VideoCodec::Vp8]).into();
    let Pair { mut a, mut b, now } = Pair::new().agree(&Agreed::None, &Agreed::None);
    let (here, there) = (a.here, b.here);
    for (end, there) in [(&mut a, there), (&mut b, here)] {
        let to = Some((there, None));
        (end.transport)
            .agree(now, &Agreed::None, &formats, to, false, None)
            .unwrap();
        end.drain();
    }
    let packet = RtpPacket {
        payload_type: 96,
        marker: true,
        sequence: 1,
        timestamp: 2,
        ssrc: 0,
        payload: Bytes::from_static(b"picture"),
    };
    b.transport.tell(&Feedback::KeyFrame);
    b.drain();
    assert!(
        b.sent.is_empty(),
        "before the first packet there is nobody to tell it"
    );
    let wire = a.protect(now, &packet);
    b.take(now, Port::Rtp, a.here, &wire);
    assert_eq!(b.heard.len(), 1);
    for feedback in [Feedback::KeyFrame, Feedback::Lost(vec![1, 9])] {
        b.transport.tell(&feedback);
        b.drain();
        let (_, told) = b.sent.pop().unwrap();
        a.take(now, Port::Rtp, b.here, &told);
        assert_eq!(a.told.pop(), Some(feedback));
    }
}

#[test]
fn a_sender_is_told_when_its_numbered_packets_came() {
    let formats: Formats = siprtc_rtp::video::formats(&[siprtc_core::media::VideoCodec::Vp8]).into();
    let element = formats.transport_sequence().unwrap();
    let Pair { a, mut b, now } = Pair::new().agree(&Agreed::None, &Agreed::None);
    let to = Some((a.here, None));
    (b.transport)
        .agree(now, &Agreed::None, &formats, to, false, None)
        .unwrap();
    b.drain();
    // One element of two octets, and one of padding.
    let packet = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let head = [0x90, 96, high, low, 0, 0, 0, 9, 0, 0, 0, 1];
        [
            &head[..],
            &[0xbe, 0xde, 0, 1, element << 4 | 1, high, low, 0],
            b"picture",
        ]
        .concat()
    };
    b.take(now, Port::Rtp, a.here, &packet(7));
    b.take(now, Port::Rtp, a.here, &packet(9));
    assert_eq!(b.heard.len(), 2);
    b.tick(now + Duration::from_millis(100));
    let (_, told) = b.sent.pop().expect("after a tenth of a second");
    let packets = rtc_rtcp::packet::unmarshal(&mut Bytes::from(told)).unwrap();
    let told = packets
        .iter()
        .find_map(|packet| packet.as_any().downcast_ref::<TransportLayerCc>());
    let told = told.expect("when they came");
    assert_eq!(
        (
            told.media_ssrc,
            told.base_sequence_number,
            told.packet_status_count
        ),
        (1, 7, 3)
    );
    assert_eq!(told.recv_deltas.len(), 2);
}

#[test]
fn a_payload_of_any_size_arrives_as_it_was_sent() {
    for pair in [
        Pair::new().agree(&Agreed::None, &Agreed::None),
        Pair::sdes(Suite::ALL[0]),
    ] {
        let Pair { mut a, mut b, now } = pair;
        for (sequence, size) in [0, 1, 160, USUAL - HEADER, USUAL - HEADER + 1, 8_000]
            .into_iter()
            .enumerate()
        {
            let packet = RtpPacket {
                payload_type: 0,
                marker: false,
                sequence: sequence as u16,
                timestamp: 7,
                ssrc: 0,
                payload: Bytes::from(vec![sequence as u8; size]),
            };
            let wire = a.protect(now, &packet);
            b.take(now, Port::Rtp, a.here, &wire);
            assert_eq!(
                b.heard.pop().map(|heard| heard.payload),
                Some(packet.payload),
                "{size}"
            );
        }
    }
}
