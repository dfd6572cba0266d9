//! The `webrtc` crate on the other side: without the rule it fails, with it it answers or connects.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;
mod engine;

use common::lines;
use engine::{Engine, block_on};
use siprtc_sdp_translator::{
    SdpFrag, SipForm, Trickle, answer_to_sip, answer_to_sip_as, answer_to_webrtc, says_end_of_candidates,
    says_trickle, to_sip, to_sip_as, to_webrtc,
};
use std::time::Duration;

/// Long enough for an engine that takes 0.2 s, when it connects at all.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// An engine's offer as a peer would send it.
fn peers_offer() -> String {
    block_on(async { Engine::new().await.offer().await })
}

fn answer(offer: &str) -> Result<String, String> {
    block_on(async { Engine::new().await.answer(offer).await })
}

/// `offer` cannot be answered as it is, and can be after translation; the answer, as it goes to the wire.
#[track_caller]
fn answered_only_after_translation(offer: &str) -> String {
    let untranslated = answer(offer);
    assert!(
        untranslated.is_err(),
        "the engine takes this by itself now: the rule may go\n{untranslated:?}"
    );
    answered_after_translation(offer)
}

#[track_caller]
fn answered_after_translation(offer: &str) -> String {
    let shown = to_webrtc(offer).unwrap().sdp;
    let answer = answer(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    answer_to_sip(offer, &answer)
        .unwrap_or_else(|error| panic!("{error}\n{answer}"))
        .sdp
}

fn without(sdp: &str, prefix: &str) -> String {
    sdp.split_inclusive("\r\n")
        .filter(|line| !line.starts_with(prefix))
        .collect()
}

fn ports(sdp: &str) -> Vec<&str> {
    lines(sdp, "m=")
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap_or_default())
        .collect()
}

#[test]
fn two_engines_connect_over_the_wires_form_both_ways() {
    block_on(async {
        let (mut caller, mut callee) = (Engine::new().await, Engine::new().await);
        let offer = to_sip(&caller.offer().await).unwrap().sdp;
        assert!(
            !ports(&offer).contains(&"9"),
            "the default candidate is named:\n{offer}"
        );
        let answer = callee.accept(&to_webrtc(&offer).unwrap().sdp).await.unwrap();
        let answer = answer_to_sip(&offer, &answer).unwrap().sdp;
        caller
            .answered(&answer_to_webrtc(&offer, &answer).unwrap().sdp)
            .await
            .unwrap();
        assert!(caller.connects().await && callee.connects().await);
    });
}

#[test]
fn two_engines_connect_over_descriptions_that_are_cut_as_far_as_it_goes() {
    let form = SipForm {
        octets: Some(0),
        ..SipForm::default()
    };
    block_on(async {
        let (mut caller, mut callee) = (Engine::new().await, Engine::new().await);
        let ours = caller.offer().await;
        let offer = to_sip_as(&ours, form).unwrap().sdp;
        assert!(offer.len() < to_sip(&ours).unwrap().sdp.len());
        let answer = callee.accept(&to_webrtc(&offer).unwrap().sdp).await.unwrap();
        let answer = answer_to_sip_as(&offer, &answer, form).unwrap().sdp;
        caller
            .answered(&answer_to_webrtc(&offer, &answer).unwrap().sdp)
            .await
            .unwrap();
        assert!(caller.connects().await && callee.connects().await);
    });
}

/// Connects engines whose descriptions have no candidates; `tell` says whether fragments bring them.
fn connects_by_trickle(tell: bool) -> bool {
    let form = SipForm {
        trickle: Trickle::Full,
        ..SipForm::default()
    };
    let bare = |sdp: &str| without(&without(sdp, "a=candidate:"), "a=end-of-candidates");
    async fn take(engine: &Engine, body: &str, description: &str) {
        let frag: SdpFrag = body.parse().unwrap();
        assert!(frag.belongs_to(description) && frag.is_complete());
        let news = frag.beyond(&SdpFrag::of(description).unwrap());
        for media in news.media() {
            for candidate in media.candidates() {
                engine.trickled(media.mid(), candidate).await;
            }
        }
    }
    block_on(async {
        let (mut caller, mut callee) = (Engine::new().await, Engine::new().await);
        let offer = to_sip_as(&caller.offer().await, form).unwrap().sdp;
        let early = bare(&offer);
        assert!(says_trickle(&early) && !says_end_of_candidates(&early));
        let answer = callee.accept(&to_webrtc(&early).unwrap().sdp).await.unwrap();
        let answer = answer_to_sip_as(&early, &answer, form).unwrap().sdp;
        let early_answer = bare(&answer);
        let shown = answer_to_webrtc(&early, &early_answer).unwrap().sdp;
        caller.answered(&shown).await.unwrap();
        if tell {
            take(&callee, &SdpFrag::of(&offer).unwrap().to_string(), &early).await;
            take(&caller, &SdpFrag::of(&answer).unwrap().to_string(), &early_answer).await;
        }
        caller.connects_within(LONG_ENOUGH).await
    })
}

#[test]
fn candidates_that_come_in_fragments_alone_connect_two_engines() {
    assert!(connects_by_trickle(true));
    assert!(!connects_by_trickle(false));
}

/// Connects a caller and a callee; `mangle` is what the wire does to the callee's answer, `translate` what we do.
fn connects(
    role: rtc::peer_connection::transport::RTCDtlsRole,
    mangle: fn(&str) -> String,
    translated: bool,
) -> bool {
    block_on(async {
        let (mut caller, mut callee) = (Engine::new().await, Engine::answering_as(role).await);
        let offer = caller.offer().await;
        let answer = mangle(&callee.accept(&offer).await.unwrap());
        let shown = if translated {
            answer_to_webrtc(&offer, &answer).unwrap().sdp
        } else {
            answer
        };
        caller.answered(&shown).await.unwrap();
        let patience = if translated {
            Duration::from_secs(10)
        } else {
            LONG_ENOUGH
        };
        caller.connects_within(patience).await
    })
}

#[test]
fn an_upper_case_hash_name_never_connects_unless_translated() {
    use rtc::peer_connection::transport::RTCDtlsRole::Client;
    let shout: fn(&str) -> String = |answer| answer.replace("fingerprint:sha-256", "fingerprint:SHA-256");
    assert!(connects(Client, shout, true));
    assert!(
        !connects(Client, shout, false),
        "the engine takes this by itself now: the rule may go"
    );
}

#[test]
fn a_passive_answer_that_says_so_only_in_the_session_or_not_at_all_connects_only_when_translated() {
    use rtc::peer_connection::transport::RTCDtlsRole::Server;
    let in_session: fn(&str) -> String =
        |answer| without(answer, "a=setup").replace("t=0 0\r\n", "t=0 0\r\na=setup:passive\r\n");
    let nowhere: fn(&str) -> String = |answer| without(answer, "a=setup");
    for mangle in [in_session, nowhere] {
        assert!(connects(Server, mangle, true));
        assert!(
            !connects(Server, mangle, false),
            "the engine takes this by itself now: the rule may go"
        );
    }
}

#[test]
fn an_offer_without_a_role_is_answered_active_and_connects() {
    block_on(async {
        let (mut caller, mut callee) = (Engine::new().await, Engine::new().await);
        let offer = without(&caller.offer().await, "a=setup");
        let answer = callee.accept(&to_webrtc(&offer).unwrap().sdp).await.unwrap();
        assert_eq!(lines(&answer, "a=setup:"), ["active"]);
        caller.answered(&answer).await.unwrap();
        assert!(caller.connects().await);
    });
}

#[test]
fn an_m_line_without_a_mid_is_answered() {
    let wire = answered_only_after_translation(&without(&without(&peers_offer(), "a=mid"), "a=group"));
    assert!(!wire.contains("a=mid") && !wire.contains("a=group"), "{wire}");
}

#[test]
fn one_m_line_without_a_group_is_not_rejected() {
    let offer = without(&peers_offer(), "a=group");
    assert_eq!(
        ports(&answer(&offer).unwrap()),
        ["0"],
        "the engine takes this by itself now: the rule may go"
    );
    assert_ne!(ports(&answered_after_translation(&offer)), ["0"]);
}

#[test]
fn static_payload_types_without_rtpmap_are_answered() {
    let offer = without(&peers_offer(), "a=rtpmap").replace("SAVPF 111 9 0 8 101", "SAVPF 0 8");
    let wire = answered_only_after_translation(&without(&offer, "a=fmtp"));
    assert!(lines(&wire, "m=")[0].ends_with("SAVPF 0 8"), "{wire}");
}

#[test]
fn a_dynamic_payload_type_without_rtpmap_does_not_stop_the_others() {
    answered_only_after_translation(&peers_offer().replace("SAVPF 111", "SAVPF 99 111"));
}

#[test]
fn an_m_line_without_a_direction_is_answered() {
    let offer = without(&peers_offer(), "a=sendrecv");
    assert_eq!(
        ports(&answer(&offer).unwrap()).len(),
        0,
        "the engine takes this by itself now: the rule may go"
    );
    assert_eq!(ports(&answered_after_translation(&offer)).len(), 1);
}

#[test]
fn a_rejected_line_of_any_kind_keeps_its_place_and_leaves_the_audio_alive() {
    for line in [
        "m=audio 0 RTP/AVP 8",
        "m=video 0 RTP/AVP 31",
        "m=image 0 udptl t38",
        "m=text 0 RTP/AVP 98",
    ] {
        let offer = peers_offer().replacen("m=audio", &format!("{line}\r\nm=audio"), 1);
        let wire = answered_only_after_translation(&offer);
        assert_eq!(&wire[wire.find("m=").unwrap()..][..line.len()], line);
        assert_eq!(ports(&wire)[0], "0");
        assert_ne!(ports(&wire)[1], "0", "{wire}");
        assert_eq!(
            lines(&wire, "a=sendrecv").len(),
            1,
            "our own transceiver serves it:\n{wire}"
        );
    }
}

#[test]
fn audio_and_video_on_two_transports_leave_the_audio_alive() {
    let offer = without(&peers_offer(), "a=group");
    let video = "m=video 40002 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\na=sendrecv\r\na=rtpmap:96 VP8/90000\r\n\
                 a=ice-ufrag:elsewhere\r\na=ice-pwd:elsewhereelsewhereelsewhere\r\na=setup:actpass\r\n";
    let offer = format!("{offer}{video}");
    answered_only_after_translation(&offer);
    let wire = answered_after_translation(&offer);
    assert_ne!(ports(&wire)[0], "0");
    assert_eq!(ports(&wire)[1], "0");
}

#[test]
fn several_fingerprints_are_one_to_the_engine() {
    let offer = peers_offer().replace("m=audio", "a=fingerprint:sha-1 11:22\r\nm=audio");
    let offer = format!("{offer}a=fingerprint:sha-1 11:22\r\n");
    answered_only_after_translation(&offer);
}

#[test]
fn candidates_by_name_do_not_stop_the_others() {
    answered_only_after_translation(&format!(
        "{}a=candidate:9 1 udp 5 host.example.com 4 typ host\r\n",
        peers_offer()
    ));
}

#[test]
fn a_header_extension_without_a_uri_is_answered() {
    answered_only_after_translation(&format!("{}a=extmap:1 URI-toffset\r\n", peers_offer()));
}

#[test]
fn missing_and_misplaced_session_lines_are_answered() {
    answered_only_after_translation(&without(&peers_offer(), "t="));
    answered_only_after_translation(&without(&peers_offer(), "s="));
    answered_only_after_translation(&without(&peers_offer(), "o="));
    answered_only_after_translation(&peers_offer().replace("m=audio", "c=IN IP4 192.0.2.1\r\nm=audio"));
    answered_only_after_translation(&peers_offer().replace("m=audio", "not an SDP line\r\nm=audio"));
}

#[test]
fn our_later_offer_still_has_the_peers_rejected_line() {
    block_on(async {
        let image = "m=image 0 udptl t38\r\nm=audio";
        let (mut caller, mut callee) = (Engine::new().await, Engine::new().await);
        let offer = caller.offer().await.replacen("m=audio", image, 1);
        let answer = callee.accept(&to_webrtc(&offer).unwrap().sdp).await.unwrap();
        let answer = answer_to_sip(&offer, &answer).unwrap().sdp;
        caller.answered(&without_first_medium(&answer)).await.unwrap();
        assert!(callee.connects().await);

        let again = to_sip(&callee.peer.create_offer(None).await.unwrap().sdp)
            .unwrap()
            .sdp;
        assert!(again.contains("m=image 0 udptl t38\r\n"), "{again}");
        assert_eq!(ports(&again).len(), 2, "{again}");
        assert_ne!(ports(&again)[1], "0", "{again}");
    });
}

fn without_first_medium(sdp: &str) -> String {
    let first = sdp.find("m=").unwrap();
    let second = first + 2 + sdp[first + 2..].find("m=").unwrap();
    format!("{}{}", &sdp[..first], &sdp[second..])
}
