use super::*;
use crate::crypto::Suite;
use siprtc_core::media::{Codec, VideoCodec};
use siprtc_rtp::{format, video};

const OP: &str = "test";

fn local(port: u16) -> Local {
    Local {
        rtp: Some(SocketAddr::from(([192, 0, 2, 1], port))),
        rtcp: Some(SocketAddr::from(([192, 0, 2, 1], port + 1))),
        ice: None,
        fingerprint: None,
        source: Some("7 cname:us".to_owned()),
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
    let offer = a.offer(places.0, None);
    a.offered(None);
    b.set_remote_offer(OP, &offer).unwrap();
    let (answer, theirs) = b.answer(OP, places.1, None).unwrap();
    b.answered(&theirs);
    let ours = a.set_remote_answer(OP, &answer, true).unwrap();
    (offer, answer, ours, theirs)
}

#[test]
fn a_plain_offer_reads_as_a_telephone_writes_it() {
    let mut machine = machine(Keying::None);
    machine.config.rtcp_mux = false;
    assert_eq!(
        machine.offer(&local(4000), None),
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
    assert!(!a.offer(&local(4000), None).contains("rtcp-mux"));
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
    let (answer, _) = machine.answer(OP, &local(5000), None).unwrap();
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
    strict.offer(&local(4000), None);
    strict.offered(None);
    assert!(
        strict
            .set_remote_answer(OP, plain, true)
            .unwrap_err()
            .to_string()
            .contains("without encryption")
    );
    // A peer that says SAVP owes a key, and one of ours.
    let mut secure = machine(Keying::Sdes);
    secure.offer(&local(4000), None);
    secure.offered(None);
    let savp = plain.replace("RTP/AVP", "RTP/SAVP");
    assert!(secure.set_remote_answer(OP, &savp, true).is_err());
    let foreign = format!(
        "{savp}a=crypto:{}\r\n",
        Crypto::fresh(9, Suite::AesCm128HmacSha1_80).unwrap()
    );
    assert!(secure.set_remote_answer(OP, &foreign, true).is_err());
    assert!(secure.set_remote_answer(OP, plain, true).is_err(), "a downgrade");
}

#[test]
fn who_cannot_encrypt_gets_plain_rtp_from_an_opportunist() {
    let plain =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let mut opportunist = machine(Keying::Opportunistic);
    assert!(opportunist.offer(&local(4000), None).contains("a=crypto:1 "));
    opportunist.offered(None);
    let agreement = opportunist.set_remote_answer(OP, plain, true).unwrap();
    assert_eq!(agreement.keys, Keys::None);
}

#[test]
fn an_offer_with_handshake_and_key_is_answered_with_the_handshake() {
    let crypto = Crypto::fresh(1, Suite::AesCm128HmacSha1_80).unwrap();
    let offer = format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n\
         a=crypto:{crypto}\r\na=setup:actpass\r\na=fingerprint:SHA-256 AB:CD\r\n"
    );
    let mut machine = machine(Keying::None);
    machine.set_remote_offer(OP, &offer).unwrap();
    assert!(machine.wants_dtls());
    let (answer, agreement) = machine.answer(OP, &with_dtls(5000), None).unwrap();
    assert!(answer.contains("a=setup:active") && !answer.contains("a=crypto"));
    assert!(matches!(agreement.keys, Keys::Dtls { is_client: true, .. }));
}

fn video(of: &Machine, codecs: &[VideoCodec]) -> Machine {
    of.beside(video::formats(codecs))
}

#[test]
fn video_has_an_m_line_with_a_key_of_its_own_and_keeps_its_place() {
    let (mut a, mut b) = (machine(Keying::Sdes), machine(Keying::None));
    let (mut seen_by_a, mut seen_by_b) = (video(&a, &VideoCodec::ALL), video(&b, &[VideoCodec::H264]));
    for turn in 0..3 {
        let at = a.place_of("video");
        assert_eq!(at, 1);
        // The second time there is none, and the third time there is again.
        let part = (turn != 1).then(|| seen_by_a.offer_part(&local(4002), at));
        let offer = a.offer(&local(4000), part.as_ref());
        a.offered(part.is_some().then_some((at, &mut seen_by_a)));
        let keys: Vec<&str> = offer
            .lines()
            .filter(|line| line.starts_with("a=crypto:1"))
            .collect();
        b.set_remote_offer(OP, &offer).unwrap();
        let heard = seen_by_b.set_remote_offer(OP, &offer);
        assert_eq!(heard.is_ok(), turn != 1, "turn {turn}: {offer}");
        let answered = heard
            .ok()
            .map(|()| seen_by_b.answer_part(OP, &local(5002)).unwrap());
        let (answer, theirs) = b
            .answer(OP, &local(5000), answered.as_ref().map(|(part, _)| part))
            .unwrap();
        b.answered(&theirs);
        a.set_remote_answer(OP, &answer, true).unwrap();
        assert_eq!(
            (offer.matches("m=").count(), answer.matches("m=").count()),
            (2, 2),
            "{answer}"
        );
        let Some((_, agreement)) = answered else {
            assert!(
                offer.contains("m=video 0 ") && answer.contains("m=video 0 "),
                "{offer}{answer}"
            );
            continue;
        };
        seen_by_b.answered(&agreement);
        assert_ne!(keys[0], keys[1]);
        assert_eq!(agreement.rtp.unwrap().port(), 4002);
        let agreed = seen_by_a.set_remote_answer(OP, &answer, true).unwrap();
        assert_eq!(agreed.rtp.unwrap().port(), 5002);
        assert_eq!(agreed.formats.names(), "H264 H264");
        assert!(matches!(agreed.keys, Keys::Sdes { .. }));
    }
}

#[test]
fn video_that_stands_first_is_answered_first() {
    let mut machine = machine(Keying::None);
    let mut seen = video(&machine, &[VideoCodec::Vp8]);
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
        m=video 4002 RTP/AVP 96\r\na=mid:v\r\na=rtpmap:96 VP8/90000\r\na=sendonly\r\nm=audio 4000 RTP/AVP 0\r\na=mid:a\r\n";
    machine.set_remote_offer(OP, offer).unwrap();
    seen.set_remote_offer(OP, offer).unwrap();
    let (part, agreement) = seen.answer_part(OP, &local(5002)).unwrap();
    let (answer, _) = machine.answer(OP, &local(5000), Some(&part)).unwrap();
    let heads: Vec<&str> = answer.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(heads, ["m=video 5002 RTP/AVP 96", "m=audio 5000 RTP/AVP 0"]);
    assert!(
        answer.contains("m=video 5002 RTP/AVP 96\r\nc=IN IP4 192.0.2.1\r\na=mid:v\r\n"),
        "{answer}"
    );
    assert!(answer.contains("a=recvonly"), "{answer}");
    assert_eq!(agreement.formats.payload_types(), [96]);
}

#[test]
fn offers_are_taken_back_and_answers_without_an_offer_refused() {
    let mut machine = machine(Keying::None);
    assert!(!machine.rollback());
    let error = machine.set_remote_answer(OP, "v=0\r\n", true).unwrap_err();
    assert_eq!(error.fault(), Fault::ApiMisuse);
    assert_eq!(
        machine.answer(OP, &local(1), None).unwrap_err().fault(),
        Fault::ApiMisuse
    );
    machine.offered(None);
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
        let offer = machine.offer(&local, None);
        let line = offer.lines().find(|line| line.starts_with("m=audio")).unwrap();
        assert!(line.contains(profile), "{line} after {heard}");
    }
}

#[test]
fn our_stream_is_announced_to_peers_with_ice_and_to_no_others() {
    let parameters = IceParameters {
        ufrag: "abcd".to_owned(),
        pwd: "efghijklmnopqrstuvwxyz".to_owned(),
        lite: false,
    };
    let plain = local(4000);
    let with_ice = Local {
        ice: Some((parameters, Vec::new())),
        ..with_dtls(4000)
    };
    let machine = machine(Keying::Dtls);
    assert!(!machine.offer(&plain, None).contains("a=ssrc:"));
    assert!(machine.offer(&with_ice, None).contains("a=ssrc:7 cname:us\r\n"));
}

#[test]
fn a_fork_takes_another_answer_to_the_same_offer_and_offers_as_it_agreed() {
    let mut first = machine(Keying::Sdes);
    assert!(first.fork().is_none(), "nothing is offered");
    let offer = first.offer(&local(4000), None);
    first.offered(None);
    let mut second = first.fork().unwrap();
    let answers = [(5000, Codec::Pcmu), (6000, Codec::G722)].map(|(port, codec)| {
        let mut other = Machine::new(RtpConfig::default(), format::formats(&[codec]), 9);
        other.set_remote_offer(OP, &offer).unwrap();
        other.answer(OP, &local(port), None).unwrap().0
    });
    let agreed = [&mut first, &mut second]
        .into_iter()
        .zip(&answers)
        .map(|(machine, answer)| machine.set_remote_answer(OP, answer, true).unwrap());
    let ports: Vec<_> = agreed.map(|agreed| agreed.rtp.unwrap().port()).collect();
    assert_eq!(ports, [5000, 6000]);
    // Of the same session, and each with the codec that it agreed on before all others.
    let again = [&first, &second].map(|machine| machine.offer(&local(4000), None));
    let origin = |sdp: &str| sdp.lines().nth(1).unwrap().to_owned();
    assert_eq!(origin(&again[0]), origin(&again[1]));
    assert_eq!(origin(&again[0]), origin(&offer).replace(" 1 IN", " 2 IN"));
    assert!(again[0].contains("RTP/SAVP 0 "), "{}", again[0]);
    assert!(again[1].contains("RTP/SAVP 9 "), "{}", again[1]);
    // A second offer is nobody else's to answer.
    first.offered(None);
    assert!(first.fork().is_none());
}

#[test]
fn an_offer_to_a_browser_has_one_port_and_takes_no_answer_with_two() {
    let config = RtpConfig::default().for_browsers();
    let mut web = Machine::new(config, format::formats(&[Codec::Pcmu]), 7_000);
    let parameters = IceParameters {
        ufrag: "ufrag".to_owned(),
        pwd: "a-password-of-22-letters".to_owned(),
        lite: false,
    };
    let here = Local {
        rtcp: None,
        ice: Some((parameters, Vec::new())),
        ..with_dtls(4000)
    };
    let offer = web.offer(&here, None);
    web.offered(None);
    for line in [
        "m=audio 4000 UDP/TLS/RTP/SAVPF 0 101",
        "a=mid:0",
        "a=rtcp-mux",
        "a=setup:actpass",
        "a=ice-ufrag:ufrag",
    ] {
        assert!(offer.lines().any(|written| written == line), "{line}: {offer}");
    }
    assert!(!offer.contains("a=rtcp:"), "{offer}");
    let mut phone = machine(Keying::None);
    phone.set_remote_offer(OP, &offer).unwrap();
    let (answer, _) = phone.answer(OP, &with_dtls(5000), None).unwrap();
    assert!(
        answer.contains("a=rtcp-mux") && answer.contains("a=mid:0"),
        "{answer}"
    );
    let two_ports = answer.replace("a=rtcp-mux\r\n", "");
    let error = web.set_remote_answer(OP, &two_ports, true).unwrap_err();
    assert!(error.to_string().contains("one port for RTP and RTCP"), "{error}");
    web.set_remote_answer(OP, &answer, true).unwrap();
}

#[test]
fn who_offers_to_browsers_may_hold_a_telephone_that_called_with_two_ports() {
    let mut web = machine(Keying::Dtls);
    web.config = RtpConfig::default().for_browsers();
    let mut phone = machine(Keying::None);
    phone.config.rtcp_mux = false;
    negotiate(&mut phone, &mut web, (&local(4000), &local(5000)));
    let (offer, ..) = negotiate(&mut web, &mut phone, (&local(5000), &local(4000)));
    assert!(!offer.contains("a=rtcp-mux"), "{offer}");
}

/// RFC 4585 section 4.2: an answer adds no feedback to what was offered.
#[test]
fn an_answer_with_feedback_says_none_that_was_not_offered() {
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVPF 0\r\n";
    let mut machine = machine(Keying::None);
    machine.set_remote_offer(OP, offer).unwrap();
    let (answer, _) = machine.answer(OP, &local(5000), None).unwrap();
    assert!(answer.contains("m=audio 5000 RTP/AVPF 0\r\n"), "{answer}");
    assert!(!answer.contains("rtcp-fb"), "{answer}");
}
