//! Fragments as INFOs carry them (RFC 8840).
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::samples;
use proptest::prelude::*;
use siprtc_core::Fault;
use siprtc_core::ice::Candidate;
use siprtc_sdp_translator::{
    MAX_CANDIDATES, MAX_FRAG, MAX_LINES, MAX_MEDIA, Rule, SdpFrag, SipForm, Trickle, says_end_of_candidates,
    says_trickle, to_sip, to_sip_as,
};

const HOST: &str = "1 1 UDP 2130706431 192.0.2.1 40000 typ host";
const REFLEXIVE: &str = "2 1 UDP 1694498815 203.0.113.1 50000 typ srflx raddr 192.0.2.1 rport 40000";

/// Two m-lines, as an agent sends them that had its credentials at session level.
const FRAG: &str = "a=ice-ufrag:8hhY\r\n\
a=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
m=audio 9 RTP/AVP 0\r\n\
a=mid:1\r\n\
a=candidate:1 1 UDP 2130706431 192.0.2.1 40000 typ host\r\n\
a=candidate:2 1 UDP 1694498815 203.0.113.1 50000 typ srflx raddr 192.0.2.1 rport 40000\r\n\
a=end-of-candidates\r\n\
m=audio 9 RTP/AVP 0\r\n\
a=mid:2\r\n\
a=candidate:1 1 UDP 2130706431 192.0.2.1 40002 typ host\r\n";

/// The description that `FRAG` belongs to.
const OFFER: &str = "v=0\r\n\
o=- 1 1 IN IP4 192.0.2.1\r\n\
s=-\r\n\
t=0 0\r\n\
a=ice-options:trickle\r\n\
a=ice-ufrag:8hhY\r\n\
a=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
m=audio 40000 UDP/TLS/RTP/SAVPF 0\r\n\
c=IN IP4 192.0.2.1\r\n\
a=mid:1\r\n\
a=candidate:1 1 UDP 2130706431 192.0.2.1 40000 typ host\r\n\
m=video 0 UDP/TLS/RTP/SAVPF 96\r\n\
a=mid:rejected\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96\r\n\
a=mid:2\r\n";

#[track_caller]
fn frag(text: &str) -> SdpFrag {
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[track_caller]
fn refused(text: &str) -> String {
    let error = text.parse::<SdpFrag>().expect_err("must be refused");
    assert_eq!(error.fault(), Fault::PeerMisbehaved);
    error.to_string()
}

/// `FRAG` after a replacement that must find something.
#[track_caller]
fn with(from: &str, to: &str) -> String {
    assert!(FRAG.contains(from), "{from}");
    FRAG.replace(from, to)
}

#[test]
fn a_fragment_is_read_and_written_as_it_came() {
    let read = frag(FRAG);
    assert_eq!(read.to_string(), FRAG);
    let [one, two] = read.media() else {
        panic!("{read:?}")
    };
    assert_eq!((one.mid(), two.mid()), ("1", "2"));
    assert_eq!(one.candidates(), [HOST, REFLEXIVE]);
    assert_eq!((one.end_of_candidates(), two.end_of_candidates()), (true, false));
    let credentials = read.credentials(one).unwrap();
    assert_eq!(
        (credentials.ufrag(), credentials.pwd()),
        ("8hhY", "asd88fgpdd777uzjYhagZg")
    );
    assert!(!read.is_complete());
}

#[test]
fn what_is_not_understood_is_passed_over() {
    let odd = with(
        "a=mid:1\r\n",
        "a=x-new:1\r\nb=AS:64\r\nnonsense\r\n\r\na=candidate:what\r\na=mid:1\r\n",
    );
    let odd = odd.replace("a=ice-ufrag", "a=ice-options:trickle\r\na=group:BUNDLE 1 2\r\na=candidate:0 1 UDP 1 1.1.1.1 1 typ host\r\na=ice-ufrag");
    assert_eq!(frag(&odd), frag(FRAG));
    assert_eq!(frag(&FRAG.replace("\r\n", "\n")), frag(FRAG));
    // A pseudo m-line that names no m-line and carries nothing.
    assert_eq!(
        frag(&format!("{FRAG}m=audio 9 RTP/AVP 0\r\na=sendrecv\r\n")),
        frag(FRAG)
    );
}

#[test]
fn credentials_of_an_m_line_outrank_those_of_the_session() {
    let own = with(
        "a=mid:2\r\n",
        "a=ice-ufrag:own\r\na=ice-pwd:ownownownownownownownow\r\na=mid:2\r\n",
    );
    let read = frag(&own);
    assert_eq!(read.credentials(&read.media()[0]).unwrap().ufrag(), "8hhY");
    assert_eq!(read.credentials(&read.media()[1]).unwrap().ufrag(), "own");
    assert_eq!(read.to_string(), own);
}

#[test]
fn a_fragment_without_its_generation_or_its_m_line_is_the_peers_fault() {
    assert!(refused("").contains("no a=ice-ufrag"));
    assert!(refused("m=audio 9 RTP/AVP 0\r\na=mid:1\r\n").contains("no a=ice-ufrag"));
    assert!(refused(&with("a=ice-pwd:asd88fgpdd777uzjYhagZg\r\n", "")).contains("not both"));
    assert!(refused(&with("8hhY", "two words")).contains("not both"));
    assert!(refused(&with("a=mid:2\r\n", "")).contains("m-line 1 has candidates and no a=mid"));
}

#[test]
fn a_fragment_that_is_too_big_is_the_peers_fault() {
    assert!(refused(&" ".repeat(MAX_FRAG + 1)).contains("octets"));
    assert!(
        frag(&format!("{FRAG}{}", "a=x\r\n".repeat(MAX_LINES - 11)))
            .media()
            .len()
            == 2
    );
    assert!(refused(&format!("{FRAG}{}", "a=x\r\n".repeat(MAX_LINES))).contains("lines"));
    let lines = |count| format!("{FRAG}{}", "m=audio 9 RTP/AVP 0\r\n".repeat(count));
    assert_eq!(frag(&lines(MAX_MEDIA - 2)).media().len(), 2);
    assert!(refused(&lines(MAX_MEDIA - 1)).contains("m-lines"));
    let candidates = |count: usize| -> String {
        let lines = (0..count).map(|port| format!("a=candidate:1 1 UDP 1 192.0.2.1 {port} typ host\r\n"));
        FRAG.to_owned() + &lines.collect::<String>()
    };
    assert!(candidates(MAX_CANDIDATES - 3).parse::<SdpFrag>().is_ok());
    assert!(refused(&candidates(MAX_CANDIDATES - 2)).contains("candidates"));
}

#[test]
fn a_fragment_is_complete_when_the_session_or_every_m_line_says_so() {
    let session = with(
        "m=audio 9 RTP/AVP 0\r\na=mid:1",
        "a=end-of-candidates\r\nm=audio 9 RTP/AVP 0\r\na=mid:1",
    );
    assert!(frag(&session).is_complete());
    assert_eq!(frag(&session).to_string(), session);
    assert!(frag(&format!("{FRAG}a=end-of-candidates\r\n")).is_complete());
    assert!(!frag("a=ice-ufrag:u\r\na=ice-pwd:p\r\n").is_complete());
}

#[test]
fn a_fragment_of_a_description_has_all_its_candidates_in_their_places() {
    let made = SdpFrag::of(OFFER).unwrap();
    assert_eq!(
        made.to_string(),
        format!(
            "a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
             m=audio 40000 UDP/TLS/RTP/SAVPF 0\r\na=mid:1\r\na=candidate:{HOST}\r\n"
        )
    );
    assert!(made.belongs_to(OFFER));
    // Nothing found yet: the first live m-line names the generation.
    let bare = OFFER.replace(&format!("a=candidate:{HOST}\r\n"), "");
    let bare = bare.replace("a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n", "");
    assert!(SdpFrag::of(&bare).is_err());
    let bare = bare.replace("a=mid:1\r\n", "a=mid:1\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n");
    let made = SdpFrag::of(&bare).unwrap();
    assert_eq!(
        made.to_string(),
        "m=audio 40000 UDP/TLS/RTP/SAVPF 0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=mid:1\r\n"
    );
    assert!(
        SdpFrag::of(&OFFER.replace("a=mid:1\r\n", ""))
            .unwrap_err()
            .to_string()
            .contains("no a=mid")
    );
}

#[test]
fn a_fragment_of_another_generation_or_of_unknown_m_lines_does_not_belong() {
    assert!(frag(FRAG).belongs_to(OFFER));
    for (from, to) in [("8hhY", "9uB6"), ("uzjYhagZg", "uzjYhagZh"), ("mid:2", "mid:3")] {
        assert!(!frag(&with(from, to)).belongs_to(OFFER), "{to}");
    }
    let empty = frag("a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n");
    assert!(empty.belongs_to(OFFER));
    assert!(!empty.belongs_to(&OFFER.replace("8hhY", "9uB6")));
    assert!(!frag(FRAG).belongs_to("no SDP"));
}

#[test]
fn only_news_are_left_beyond_what_is_known() {
    let known = SdpFrag::of(OFFER).unwrap();
    let news = frag(FRAG).beyond(&known);
    assert_eq!(news.media()[0].candidates(), [REFLEXIVE]);
    assert_eq!(news.media()[1].candidates(), frag(FRAG).media()[1].candidates());
    assert!(news.media()[0].end_of_candidates());
    // The same address with another priority and foundation is the same candidate (RFC 8840 section 4.4).
    let again = frag(&with(
        "1 1 UDP 2130706431 192.0.2.1 40000",
        "7 1 udp 5 192.0.2.1 40000",
    ));
    assert!(
        again
            .beyond(&frag(FRAG))
            .media()
            .iter()
            .all(|media| media.candidates().is_empty())
    );
    // Another m-line may share the address: it is a candidate of that one too.
    let shared = frag(&with("40002", "40000"));
    assert_eq!(shared.beyond(&known).media()[1], shared.media()[1]);
    let other_generation = frag(&with("8hhY", "9uB6"));
    assert_eq!(other_generation.beyond(&frag(FRAG)), other_generation);
}

#[test]
fn a_description_says_whether_it_trickles_and_whether_it_is_complete() {
    assert!(says_trickle(OFFER));
    assert!(says_trickle(
        "v=0\r\nm=audio 9 RTP/AVP 0\r\na=ice-options:ice2 trickle\r\n"
    ));
    assert!(!says_trickle(
        "v=0\r\nm=audio 0 RTP/AVP 0\r\na=ice-options:trickle\r\n"
    ));
    assert!(!says_trickle(
        "v=0\r\na=ice-options:trickled\r\nm=audio 9 RTP/AVP 0\r\n"
    ));
    assert!(!says_trickle("nothing"));
    assert!(!says_end_of_candidates(OFFER));
    assert!(says_end_of_candidates(
        &OFFER.replace("a=ice-options", "a=end-of-candidates\r\na=ice-options")
    ));
    let audio = OFFER.replace("typ host\r\n", "typ host\r\na=end-of-candidates\r\n");
    assert!(says_end_of_candidates(&audio));
    assert!(!says_end_of_candidates(&format!("{audio}a=candidate:{HOST}\r\n")));
    assert!(!says_end_of_candidates("nothing"));
}

#[test]
fn the_form_of_our_description_says_trickle_or_takes_it_out() {
    let as_is = |trickle| {
        to_sip_as(
            OFFER,
            SipForm {
                trickle,
                ..SipForm::default()
            },
        )
        .unwrap()
    };
    assert_eq!(as_is(Trickle::None), to_sip(OFFER).unwrap());
    assert!(!says_trickle(&as_is(Trickle::None).sdp));
    let full = as_is(Trickle::Full);
    assert!(
        full.changes
            .iter()
            .all(|change| change.rule == Rule::DefaultCandidate)
    );
    assert!(says_trickle(&full.sdp) && !says_end_of_candidates(&full.sdp));
    let half = as_is(Trickle::Half);
    assert!(says_trickle(&half.sdp) && says_end_of_candidates(&half.sdp));
    let plain = to_sip(OFFER).unwrap().sdp;
    let form = SipForm {
        trickle: Trickle::Half,
        ..SipForm::default()
    };
    let added = to_sip_as(&plain, form).unwrap();
    assert!(says_trickle(&added.sdp) && says_end_of_candidates(&added.sdp));
    let rules: Vec<Rule> = added.changes.iter().map(|change| change.rule).collect();
    assert_eq!(rules, [Rule::TrickleOffered, Rule::EndOfCandidates]);
}

#[test]
fn an_offer_that_trickles_may_go_out_before_anything_is_gathered() {
    let engine = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
        c=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n";
    let form = SipForm {
        trickle: Trickle::Full,
        ..SipForm::default()
    };
    let wire = to_sip_as(engine, form).unwrap().sdp;
    // RFC 8840 section 4.1.1.
    assert!(wire.contains("m=audio 9 ") && wire.contains("c=IN IP4 0.0.0.0"));
    assert!(says_trickle(&wire) && !says_end_of_candidates(&wire));
}

/// Every description of the corpus that has ICE and mids makes a fragment of it, which is read as it was written.
#[test]
fn descriptions_of_the_corpus_make_fragments_that_belong_to_them() {
    let mut made = 0;
    for sample in samples() {
        let Ok(frag) = SdpFrag::of(&sample.text) else {
            continue;
        };
        assert_eq!(
            frag.to_string().parse::<SdpFrag>().unwrap(),
            frag,
            "{}",
            sample.name
        );
        assert!(frag.belongs_to(&sample.text), "{}\n{frag}", sample.name);
        assert!(
            frag.beyond(&frag)
                .media()
                .iter()
                .all(|media| media.candidates().is_empty())
        );
        made += 1;
    }
    assert!(made > 30, "{made}");
}

/// Lines that a fragment may have, and some that it may not.
fn line() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "m=audio 9 RTP/AVP 0",
        "m=",
        "m= video  9",
        "a=mid:1",
        "a=mid: two",
        "a=mid:",
        "a=ice-ufrag:8hhY",
        "a=ice-ufrag",
        "a=ice-pwd:asd88fgpdd777uzjYhagZg",
        "a=ice-pwd:pass word",
        "a=end-of-candidates",
        "a=candidate:1 1 UDP 1 192.0.2.1 4 typ host",
        "a=candidate: 1\t1 tcp 1 h.local 4 typ srflx raddr :: rport 0",
        "a=candidate:candidate:1 1 UDP 1 192.0.2.1 4 typ host generation 0",
        "a=candidate:1 1 UDP",
        "a = mid:1",
        "v=0",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => "\\PC{0,20}", 1 => any::<String>()]
}

fn text() -> impl Strategy<Value = String> {
    let end = prop::sample::select(vec!["\r\n", "\n", "\r", "\r\r\n"]);
    let credentials = "a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n";
    let lines = prop::collection::vec((line(), end), 0..24);
    (any::<bool>(), lines).prop_map(move |(with, lines)| {
        let head = if with { credentials } else { "" };
        lines
            .into_iter()
            .fold(head.to_owned(), |text, (line, end)| text + &line + end)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_written_so_that_it_is_read_the_same(text in text()) {
        if let Ok(frag) = text.parse::<SdpFrag>() {
            prop_assert_eq!(frag.to_string().parse::<SdpFrag>().unwrap(), frag.clone(), "{:?}", frag.to_string());
            let same = frag.beyond(&frag);
            prop_assert!(same.media().iter().all(|media| media.candidates().is_empty()));
            for media in frag.media() {
                prop_assert!(frag.credentials(media).is_some());
                prop_assert!(media.candidates().iter().all(|line| line.parse::<Candidate>().is_ok()));
            }
        }
        if let Ok(frag) = SdpFrag::of(&format!("v=0\r\n{text}")) {
            prop_assert_eq!(frag.to_string().parse::<SdpFrag>().unwrap(), frag);
        }
    }

    #[test]
    fn anything_is_read_or_refused(text in any::<String>()) {
        let _ = text.parse::<SdpFrag>();
        let _ = (SdpFrag::of(&text), says_trickle(&text), says_end_of_candidates(&text));
    }
}
