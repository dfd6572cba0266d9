use super::*;
use crate::crypto::Suite;
use siprtc_core::media::Codec;

const OP: &str = "test";

fn local(port: u16) -> Local {
    Local {
        rtp: Some(SocketAddr::from(([192, 0, 2, 1], port))),
        rtcp: Some(SocketAddr::from(([192, 0, 2, 1], port + 1))),
        ice: None,
        fingerprint: None,
    }
}

fn with_dtls(port: u16) -> Local {
    Local {
        fingerprint: Some("sha-256 AB:CD".to_owned()),
        ..local(port)
    }
}

fn machine(keying: Keying) -> Machine {
    let config = RtpConfig {
        keying,
        ..RtpConfig::default()
    };
    Machine::new(config, format::formats(&[Codec::Pcmu, Codec::G722]), 7_000)
}

/// An offer of `a`'s, answered by `b`: what both say and what both agree on.
fn negotiate(
    a: &mut Machine,
    b: &mut Machine,
    places: (&Local, &Local),
) -> (String, String, Agreement, Agreement) {
    let offer = a.offer(places.0);
    a.offered();
    b.set_remote_offer(OP, &offer).unwrap();
    let (answer, theirs) = b.answer(OP, places.1).unwrap();
    b.answered(&theirs);
    let ours = a.set_remote_answer(OP, &answer, true).unwrap();
    (offer, answer, ours, theirs)
}

#[test]
fn a_plain_offer_reads_as_a_telephone_writes_it() {
    let mut machine = machine(Keying::None);
    machine.config.rtcp_mux = false;
    assert_eq!(
        machine.offer(&local(4000)),
        "v=0\r\no=- 3500 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP 0 9 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:9 G722/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=rtcp:4001\r\na=sendrecv\r\n"
    );
}

#[test]
fn every_keying_agrees_with_itself() {
    for keying in Keying::ALL {
        let (mut a, mut b) = (machine(keying), machine(Keying::None));
        let (mine, yours) = match keying {
            Keying::Dtls => (with_dtls(4000), with_dtls(5000)),
            _ => (local(4000), local(5000)),
        };
        let (offer, answer, ours, theirs) = negotiate(&mut a, &mut b, (&mine, &yours));
        let profile = |sdp: &str| {
            sdp.split(' ')
                .find(|word| word.contains("AVP"))
                .unwrap()
                .to_owned()
        };
        assert_eq!(profile(&offer), profile(&answer), "{keying:?}");
        assert_eq!(ours.rtp, yours.rtp, "{keying:?}");
        assert_eq!(theirs.rtp, mine.rtp, "{keying:?}");
        assert_eq!((ours.rtcp, theirs.rtcp), (None, None), "both multiplex");
        match (keying, &ours.keys, &theirs.keys) {
            (Keying::None, Keys::None, Keys::None) => {}
            (Keying::Dtls, Keys::Dtls { is_client: false, .. }, Keys::Dtls { is_client: true, .. }) => {}
            (
                Keying::Opportunistic | Keying::Sdes,
                Keys::Sdes { ours: a, theirs: b },
                Keys::Sdes { ours: c, theirs: d },
            ) => {
                assert_eq!((a.key(), b.key()), (d.key(), c.key()));
                assert_eq!(a.suite, Suite::AeadAes256Gcm);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_does_not_multiplex_gets_two_ports() {
    let (mut a, mut b) = (machine(Keying::None), machine(Keying::None));
    b.config.rtcp_mux = false;
    let (offer, answer, ours, theirs) = negotiate(&mut a, &mut b, (&local(4000), &local(5000)));
    assert!(offer.contains("a=rtcp-mux") && offer.contains("a=rtcp:4001"));
    assert!(!answer.contains("a=rtcp-mux") && answer.contains("a=rtcp:5001"));
    assert_eq!(ours.rtcp, local(5000).rtcp);
    assert_eq!(theirs.rtcp, local(4000).rtcp);
    // And a re-offer does not ask again.
    assert!(!a.offer(&local(4000)).contains("rtcp-mux"));
}

#[test]
fn a_new_offer_in_the_call_keeps_keys_numbers_roles_and_session() {
    for keying in Keying::ALL {
        let (mut a, mut b) = (machine(keying), machine(Keying::None));
        let place = if keying == Keying::Dtls {
            with_dtls(4000)
        } else {
            local(4000)
        };
        let (offer, _, first, _) = negotiate(&mut a, &mut b, (&place, &place));
        // The other side offers now.
        let (again, answer, theirs, ours) = negotiate(&mut b, &mut a, (&place, &place));
        let line = |sdp: &str, prefix: &str| {
            sdp.lines()
                .find(|line| line.starts_with(prefix))
                .map(str::to_owned)
        };
        let word = |sdp: &str, at| line(sdp, "o=").unwrap().split(' ').nth(at).unwrap().to_owned();
        assert_eq!(word(&offer, 1), word(&answer, 1), "{keying:?}: the session");
        assert_eq!(
            (word(&offer, 2), word(&answer, 2)),
            ("1".to_owned(), "2".to_owned())
        );
        if let (Keys::Sdes { ours: before, .. }, Keys::Sdes { ours: now, .. }) = (&first.keys, &ours.keys) {
            assert_eq!(before.key(), now.key(), "{keying:?}");
        }
        if keying == Keying::Dtls {
            // RFC 8842 section 5.3: a new role would be a new association.
            assert_eq!(line(&again, "a=setup"), Some("a=setup:active".to_owned()));
            assert_eq!(line(&answer, "a=setup"), Some("a=setup:passive".to_owned()));
            assert!(matches!(theirs.keys, Keys::Dtls { is_client: true, .. }));
        }
    }
}

#[test]
fn hold_and_resume_have_the_directions_of_rfc_3264() {
    let (mut a, mut b) = (machine(Keying::None), machine(Keying::None));
    let place = local(4000);
    negotiate(&mut a, &mut b, (&place, &place));
    for (wanted, offered, answered) in [
        (Direction::SendOnly, "a=sendonly", "a=recvonly"),
        (Direction::Inactive, "a=inactive", "a=inactive"),
        (Direction::SendRecv, "a=sendrecv", "a=sendrecv"),
    ] {
        a.wanted = wanted;
        let (offer, answer, ..) = negotiate(&mut a, &mut b, (&place, &place));
        assert!(
            offer.contains(offered) && answer.contains(answered),
            "{offer}{answer}"
        );
    }
}

#[test]
fn an_answer_has_the_offers_lines_one_by_one() {
    let mut machine = machine(Keying::None);
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
        m=video 6000 RTP/AVP 96\r\na=mid:v\r\nm=audio 4000 rtp/avp 8 0\r\na=mid:a\r\nm=image 7000 udptl t38\r\n";
    machine.set_remote_offer(OP, offer).unwrap();
    let (answer, _) = machine.answer(OP, &local(5000)).unwrap();
    let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        lines,
        [
            "m=video 0 RTP/AVP 96",
            "m=audio 5000 rtp/avp 0",
            "m=image 0 udptl t38"
        ]
    );
    assert!(answer.contains("a=mid:v") && answer.contains("a=mid:a"));
}

#[test]
fn encryption_that_is_required_is_not_talked_away() {
    let plain =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let config = RtpConfig {
        require_encryption: true,
        ..RtpConfig::default()
    };
    let mut strict = Machine::new(config, format::formats(&[Codec::Pcmu]), 1);
    let error = strict.set_remote_offer(OP, plain).unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    strict.offer(&local(4000));
    strict.offered();
    assert!(
        strict
            .set_remote_answer(OP, plain, true)
            .unwrap_err()
            .to_string()
            .contains("without encryption")
    );
    // A peer that says SAVP owes a key, and one of ours.
    let mut secure = machine(Keying::Sdes);
    secure.offer(&local(4000));
    secure.offered();
    let savp = plain.replace("RTP/AVP", "RTP/SAVP");
    assert!(secure.set_remote_answer(OP, &savp, true).is_err());
    let foreign = format!(
        "{savp}a=crypto:{}\r\n",
        Crypto::fresh(9, Suite::AesCm128HmacSha1_80)
    );
    assert!(secure.set_remote_answer(OP, &foreign, true).is_err());
    assert!(secure.set_remote_answer(OP, plain, true).is_err(), "a downgrade");
}

#[test]
fn who_cannot_encrypt_gets_plain_rtp_from_an_opportunist() {
    let plain =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let mut opportunist = machine(Keying::Opportunistic);
    assert!(opportunist.offer(&local(4000)).contains("a=crypto:1 "));
    opportunist.offered();
    let agreement = opportunist.set_remote_answer(OP, plain, true).unwrap();
    assert_eq!(agreement.keys, Keys::None);
}

#[test]
fn an_offer_with_handshake_and_key_is_answered_with_the_handshake() {
    let crypto = Crypto::fresh(1, Suite::AesCm128HmacSha1_80);
    let offer = format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n\
         a=crypto:{crypto}\r\na=setup:actpass\r\na=fingerprint:SHA-256 AB:CD\r\n"
    );
    let mut machine = machine(Keying::None);
    machine.set_remote_offer(OP, &offer).unwrap();
    assert!(machine.wants_dtls());
    let (answer, agreement) = machine.answer(OP, &with_dtls(5000)).unwrap();
    assert!(answer.contains("a=setup:active") && !answer.contains("a=crypto"));
    assert!(matches!(agreement.keys, Keys::Dtls { is_client: true, .. }));
}

#[test]
fn offers_are_taken_back_and_answers_without_an_offer_refused() {
    let mut machine = machine(Keying::None);
    assert!(!machine.rollback());
    let error = machine.set_remote_answer(OP, "v=0\r\n", true).unwrap_err();
    assert_eq!(error.fault(), Fault::ApiMisuse);
    assert_eq!(
        machine.answer(OP, &local(1)).unwrap_err().fault(),
        Fault::ApiMisuse
    );
    machine.offered();
    assert!(machine.rollback());
}

#[test]
fn an_offer_is_keyed_as_the_peer_answered_another_engine() {
    let answer = |profile: &str, keys: &str| {
        format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 {profile} 0\r\n{keys}"
        )
    };
    let dtls = answer(
        "UDP/TLS/RTP/SAVPF",
        "a=setup:active\r\na=fingerprint:sha-256 AB:CD\r\n",
    );
    let sdes = answer(
        "RTP/SAVP",
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n",
    );
    let rejected =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 0 RTP/SAVPF 0\r\n";
    for (heard, profile) in [
        (&*dtls, "UDP/TLS/RTP/SAVP"),
        (&*sdes, "RTP/SAVP "),
        (rejected, "RTP/AVP "),
        ("garbage", "RTP/AVP "),
    ] {
        let mut machine = machine(Keying::Opportunistic);
        machine.hear(heard);
        let local = if machine.wants_dtls() {
            with_dtls(5000)
        } else {
            local(5000)
        };
        let offer = machine.offer(&local);
        let line = offer.lines().find(|line| line.starts_with("m=audio")).unwrap();
        assert!(line.contains(profile), "{line} after {heard}");
    }
}
