//! A gateway against a peer whose every message the test writes itself: forks, early media, re-INVITEs.

use crate::bench::{Phone, alone, alone_hearing};
use siprtc_core::ice::IceConfig;
use siprtc_core::media::{Codec, MediaEngine, MediaPeer, PacketSink, PeerConfig, RtpPacket, SdpKind};
use siprtc_core::sip::{
    CSeq, Headers, Method, NameAddr, Route, SipRequest, SipResponse, SipStack, TxId, TxIds, TxOwner, Uri,
};
use siprtc_core::{CallId, Cause};
use siprtc_gateway::{Answer, CallEventKind, EarlyMedia, MediaPlan, Side, StartRegistration};
use siprtc_nat_agent::NatEvent;
use siprtc_testkit::sip::{RecordingSink, answer, request};
use std::sync::Arc;
use std::time::Duration;

/// A description of a peer whose packets go nowhere.
pub(crate) fn sdp(fork: u32, codec: &str) -> String {
    format!(
        "v=0\r\no=- {fork} 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio 4000 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 {codec}\r\na=setup:passive\r\na=mid:0\r\n\
         a=fingerprint:sha-256 {}\r\na=ice-ufrag:fake9{fork}x0\r\na=ice-pwd:fakefakefakefakefakefake\r\n\
         a=candidate:1 1 udp 2130706431 127.0.0.1 4000 typ host\r\na=rtcp-mux\r\na=sendrecv\r\n",
        ["0F"; 32].join(":")
    )
}

pub(crate) const PCMA: &str = "PCMA/8000";
const UNHEARD_OF: &str = "speex/16000";

/// The test's end of the wire.
pub(crate) struct Raw {
    pub(crate) stack: Arc<dyn SipStack>,
    pub(crate) sink: Arc<RecordingSink>,
    pub(crate) ids: TxIds,
    /// From the INVITE that made the dialog: our own view of it.
    dialog: Headers,
    pub(crate) sequence: u32,
}

impl Raw {
    pub(crate) fn new(stack: Arc<dyn SipStack>, sink: Arc<RecordingSink>) -> Self {
        Raw {
            stack,
            sink,
            ids: TxIds::new(TxOwner::user(9)),
            dialog: Headers::new(),
            sequence: 0,
        }
    }

    async fn request(&self, method: Method) -> (TxId, SipRequest) {
        let (tx, request, _) = self.sink.expect_request(method).await;
        (tx, request)
    }

    fn contact(&self) -> NameAddr {
        NameAddr::new(siprtc_core::sip::SipUri::from_addr(
            self.stack.listeners()[0].advertised,
        ))
    }

    async fn respond(&self, tx: TxId, request: &SipRequest, status: u16, tag: &str, body: Option<String>) {
        let mut response: SipResponse = answer(request, status, tag);
        response.headers.push("Contact", self.contact());
        if let Some(sdp) = body {
            response = response.with_body("application/sdp", sdp);
        }
        self.stack.respond(tx, response).await.unwrap();
    }

    /// Takes the dialog that our 200 with this tag made.
    fn enter(&mut self, invite: &SipRequest, tag: &str) {
        self.dialog = Headers::new();
        self.dialog
            .push("From", invite.headers.to().unwrap().with_tag(tag));
        self.dialog.push("To", invite.headers.from().unwrap());
        self.dialog.push("Call-ID", invite.headers.call_id().unwrap());
        self.dialog.push(
            "Target",
            invite.headers.value("Contact").unwrap().trim_matches(['<', '>']),
        );
    }

    /// Calls without an offer, with more in the INVITE.
    pub(crate) async fn invite_offerless(
        &mut self,
        whom: &Phone,
        more: &[(&'static str, &str)],
    ) -> SipRequest {
        let uri =
            siprtc_core::sip::SipUri::from_addr(whom.stack.listeners()[0].advertised).with_user("alice");
        let mut invite = request(Method::Invite, uri);
        invite.headers.set("Contact", self.contact());
        for (name, value) in more {
            invite.headers.push(*name, value);
        }
        self.stack
            .send_request(self.ids.mint(), invite.clone(), Route::by_request())
            .await
            .unwrap();
        invite
    }

    /// Takes the dialog that the answer to our INVITE made.
    pub(crate) fn enter_as_caller(&mut self, invite: &SipRequest, response: &SipResponse) {
        self.dialog = Headers::new();
        self.dialog.push("From", invite.headers.value("From").unwrap());
        self.dialog.push("To", response.headers.value("To").unwrap());
        self.dialog
            .push("Call-ID", invite.headers.value("Call-ID").unwrap());
        let contact = response.headers.value("Contact").unwrap();
        self.dialog.push("Target", contact.trim_matches(['<', '>']));
        self.sequence = invite.headers.cseq().unwrap().sequence;
    }

    /// A request within the dialog.
    pub(crate) fn within(&mut self, method: Method, body: Option<String>) -> SipRequest {
        self.sequence += 1;
        let target: Uri = self.dialog.value("Target").unwrap().parse().unwrap();
        let mut request = SipRequest::new(method.clone(), target);
        for name in ["From", "To", "Call-ID"] {
            request.headers.push(name, self.dialog.value(name).unwrap());
        }
        request.headers.push(
            "CSeq",
            CSeq {
                sequence: self.sequence,
                method,
            },
        );
        request.headers.push("Contact", self.contact());
        match body {
            Some(sdp) => request.with_body("application/sdp", sdp),
            None => request,
        }
    }

    /// A re-INVITE and its final answer.
    async fn reinvite(&mut self, body: Option<String>, status: u16) -> SipResponse {
        let invite = self.within(Method::Invite, body);
        self.stack
            .send_request(self.ids.mint(), invite, Route::by_request())
            .await
            .unwrap();
        self.sink.expect_response(100).await;
        self.sink.expect_response(status).await.1
    }

    pub(crate) async fn ack(&mut self, body: Option<String>) {
        let mut ack = self.within(Method::Ack, body);
        self.sequence -= 1;
        ack.headers.set(
            "CSeq",
            CSeq {
                sequence: self.sequence,
                method: Method::Ack,
            },
        );
        self.stack.send_ack(ack, Route::by_request()).await.unwrap();
    }
}

/// Alice calls the raw peer, which answers with PCMA.
async fn connect(alice: &mut Phone, raw: &mut Raw) -> CallId {
    let call = alice.dial_stack(&*raw.stack).await;
    let (tx, invite) = raw.request(Method::Invite).await;
    raw.respond(tx, &invite, 200, "a", Some(sdp(1, PCMA))).await;
    raw.sink.expect_ack().await;
    raw.enter(&invite, "a");
    alice.confirmed().await;
    call
}

pub(crate) fn body(response: &SipResponse) -> String {
    String::from_utf8(response.body.to_vec()).unwrap()
}

#[test]
fn early_media_of_the_fork_that_answers_needs_no_second_negotiation() {
    alone(|mut alice, stack, sink| async move {
        let raw = Raw::new(stack, sink);
        alice.dial_stack(&*raw.stack).await;
        let (tx, invite) = raw.request(Method::Invite).await;
        raw.respond(tx, &invite, 183, "a", Some(sdp(1, PCMA))).await;
        alice
            .until(|kind| {
                matches!(
                    kind,
                    CallEventKind::Progress {
                        status: 183,
                        early_media: true
                    }
                )
            })
            .await;
        alice
            .until(|kind| matches!(kind, CallEventKind::Negotiated(_)))
            .await;
        raw.respond(tx, &invite, 200, "a", Some(sdp(1, PCMA))).await;
        raw.sink.expect_ack().await;
        alice.confirmed().await;
        assert_eq!(alice.network.open_peers(), 1);
    });
}

#[test]
fn a_fork_other_than_the_one_with_early_media_is_offered_a_new_media_peer() {
    alone(|mut alice, stack, sink| async move {
        let mut raw = Raw::new(stack, sink);
        alice.dial_stack(&*raw.stack).await;
        let (tx, invite) = raw.request(Method::Invite).await;
        raw.respond(tx, &invite, 183, "a", Some(sdp(1, PCMA))).await;
        raw.respond(tx, &invite, 200, "b", Some(sdp(2, PCMA))).await;
        raw.sink.expect_ack().await;
        let (tx, again) = raw.request(Method::Invite).await;
        assert_eq!(again.headers.to().unwrap().tag(), Some("b"));
        assert_ne!(
            again.body, invite.body,
            "a new media peer has a description of its own"
        );
        raw.respond(tx, &again, 200, "b", Some(sdp(2, PCMA))).await;
        raw.sink.expect_ack().await;
        let negotiated = alice
            .before_confirmed(|kind| matches!(kind, CallEventKind::Negotiated(_)))
            .await;
        assert_eq!(negotiated, 1, "of the media peer that is left, and no other");
        assert_eq!(alice.network.open_peers(), 1);
        raw.enter(&again, "b");
        let bye = raw.within(Method::Bye, None);
        raw.stack
            .send_request(raw.ids.mint(), bye, Route::by_request())
            .await
            .unwrap();
        assert_eq!(alice.over().await.unwrap().cause, Cause::Bye);
    });
}

/// Who answers Alice's offer: a media peer of the same network, with this codec.
async fn answerer(alice: &Phone, invite: &SipRequest, codec: Codec) -> (Arc<dyn MediaPeer>, String) {
    let offer = String::from_utf8(invite.body.to_vec()).unwrap();
    let config = PeerConfig {
        ice: IceConfig::default(),
        codecs: vec![codec],
        remote_offer: Some(offer.clone()),
        heard: None,
        packets: Arc::new(Deaf),
        video: None,
        events: Arc::new(|_| ()),
    };
    let peer = alice.network.engine().create_peer(config).await.unwrap();
    peer.set_remote(SdpKind::Offer, &offer).await.unwrap();
    let answer = peer.create_answer().await.unwrap();
    let answer = peer.set_local(SdpKind::Answer, &answer).await.unwrap();
    (peer, answer)
}

struct Deaf;

impl PacketSink for Deaf {
    fn push(&self, _: RtpPacket) {}
}

/// Two telephones answer Alice's INVITE early, `a` with PCMA and then `b` with PCMU.
async fn two_early_answers(
    alice: &mut Phone,
    raw: &Raw,
) -> (CallId, TxId, SipRequest, [Arc<dyn MediaPeer>; 2]) {
    alice.engine.let_fork();
    let call = alice.dial_stack(&*raw.stack).await;
    let (tx, invite) = raw.request(Method::Invite).await;
    let (a, of_a) = answerer(alice, &invite, Codec::Pcma).await;
    let (b, of_b) = answerer(alice, &invite, Codec::Pcmu).await;
    raw.respond(tx, &invite, 183, "a", Some(of_a)).await;
    let is = |codec| move |kind: &CallEventKind| matches!(kind, CallEventKind::Negotiated(audio) if audio.codec == codec);
    alice.until(is(Codec::Pcma)).await;
    raw.respond(tx, &invite, 183, "b", Some(of_b)).await;
    (call, tx, invite, [a, b])
}

/// That a peer hears Alice, or hears nothing of her.
async fn is_spoken_to(peer: &Arc<dyn MediaPeer>) -> bool {
    let before = peer.stats().await.packets_received;
    tokio::time::sleep(Duration::from_secs(1)).await;
    peer.stats().await.packets_received > before + 10
}

#[test]
fn the_latest_of_two_forks_is_spoken_to_and_its_200_changes_nothing() {
    alone_hearing(EarlyMedia::Latest, |mut alice, stack, sink| async move {
        let mut raw = Raw::new(stack, sink);
        let (_, tx, invite, [a, b]) = two_early_answers(&mut alice, &raw).await;
        let heard = alice
            .until(|kind| matches!(kind, CallEventKind::Negotiated(_)))
            .await;
        assert!(matches!(heard.kind, CallEventKind::Negotiated(audio) if audio.codec == Codec::Pcmu));
        assert_eq!((is_spoken_to(&a).await, is_spoken_to(&b).await), (false, true));
        raw.respond(tx, &invite, 200, "b", None).await;
        raw.sink.expect_ack().await;
        alice.confirmed().await;
        assert!(is_spoken_to(&b).await);
        assert_eq!(alice.network.open_peers(), 3, "Alice has one, beside the two");
        raw.enter(&invite, "b");
        let bye = raw.within(Method::Bye, None);
        let tx = raw.ids.mint();
        raw.stack
            .send_request(tx, bye, Route::by_request())
            .await
            .unwrap();
        // Nothing but the answer to it came: no re-INVITE.
        raw.sink.expect_response(200).await;
        assert_eq!(alice.over().await.unwrap().cause, Cause::Bye);
        assert_eq!(alice.network.open_peers(), 2);
    });
}

#[test]
fn the_first_of_two_forks_is_spoken_to_until_the_200_of_the_second() {
    alone(|mut alice, stack, sink| async move {
        let raw = Raw::new(stack, sink);
        let (_, tx, invite, [a, b]) = two_early_answers(&mut alice, &raw).await;
        assert_eq!((is_spoken_to(&a).await, is_spoken_to(&b).await), (true, false));
        raw.respond(tx, &invite, 200, "b", None).await;
        raw.sink.expect_ack().await;
        let agreed = alice
            .before_confirmed(
                |kind| matches!(kind, CallEventKind::Negotiated(audio) if audio.codec == Codec::Pcmu),
            )
            .await;
        assert_eq!(agreed, 1);
        assert_eq!((is_spoken_to(&a).await, is_spoken_to(&b).await), (false, true));
    });
}

#[test]
fn a_call_that_is_hung_up_while_it_forks_closes_all_its_media_peers() {
    alone(|mut alice, stack, sink| async move {
        let raw = Raw::new(stack, sink);
        let (call, tx, invite, _peers) = two_early_answers(&mut alice, &raw).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(alice.network.open_peers(), 4);
        alice.hang_up(call).await;
        raw.respond(tx, &invite, 487, "a", None).await;
        assert_eq!(alice.over().await.unwrap_err().cause, Cause::Cancelled);
        assert_eq!(alice.network.open_peers(), 2);
    });
}

#[test]
fn after_glare_our_offer_is_rolled_back_and_the_peer_s_is_answered() {
    alone(|mut alice, stack, sink| async move {
        let mut raw = Raw::new(stack, sink);
        alice.dial_stack(&*raw.stack).await;
        let (tx, invite) = raw.request(Method::Invite).await;
        raw.respond(tx, &invite, 183, "a", Some(sdp(1, PCMA))).await;
        raw.respond(tx, &invite, 200, "b", Some(sdp(2, PCMA))).await;
        raw.sink.expect_ack().await;
        let (tx, again) = raw.request(Method::Invite).await;
        raw.enter(&again, "b");
        raw.respond(tx, &again, 491, "b", None).await;
        let accepted = raw.reinvite(Some(sdp(2, PCMA)), 200).await;
        assert!(body(&accepted).contains("a=setup:active"));
        raw.ack(None).await;
        let negotiated = alice
            .before_confirmed(|kind| matches!(kind, CallEventKind::Negotiated(_)))
            .await;
        assert_eq!(negotiated, 1, "of the media peer that is left, and no other");
    });
}

#[test]
fn a_200_without_anything_in_common_gets_a_bye_that_says_why() {
    alone(|mut alice, stack, sink| async move {
        let raw = Raw::new(stack, sink);
        alice.dial_stack(&*raw.stack).await;
        let (tx, invite) = raw.request(Method::Invite).await;
        raw.respond(tx, &invite, 200, "a", Some(sdp(1, UNHEARD_OF))).await;
        raw.sink.expect_ack().await;
        let (tx, bye) = raw.request(Method::Bye).await;
        assert!(
            bye.headers
                .value("Reason")
                .unwrap()
                .starts_with("SIP;cause=488;text=")
        );
        raw.respond(tx, &bye, 200, "a", None).await;
        let ending = alice.over().await.unwrap();
        assert_eq!((ending.cause, ending.by), (Cause::IncompatibleMedia, Side::Local));
    });
}

#[test]
fn a_200_without_sdp_ends_the_call() {
    alone(|mut alice, stack, sink| async move {
        let raw = Raw::new(stack, sink);
        alice.dial_stack(&*raw.stack).await;
        let (tx, invite) = raw.request(Method::Invite).await;
        raw.respond(tx, &invite, 200, "a", None).await;
        raw.sink.expect_ack().await;
        raw.request(Method::Bye).await;
        assert_eq!(alice.over().await.unwrap_err().cause, Cause::ProtocolError);
    });
}

#[test]
fn a_re_invite_is_answered_or_refused_and_the_call_goes_on() {
    alone(|mut alice, stack, sink| async move {
        let mut raw = Raw::new(stack, sink);
        let call = connect(&mut alice, &mut raw).await;
        let refused = raw.reinvite(Some(sdp(1, UNHEARD_OF)), 488).await;
        assert!(refused.body.is_empty());
        let hold = sdp(1, PCMA).replace("a=sendrecv", "a=sendonly");
        let accepted = raw.reinvite(Some(hold), 200).await;
        assert!(body(&accepted).contains("a=recvonly"), "{}", body(&accepted));
        raw.ack(None).await;
        let resumed = raw.reinvite(Some(sdp(1, PCMA)), 200).await;
        assert!(body(&resumed).contains("a=sendrecv"));
        raw.ack(None).await;
        alice.hang_up(call).await;
        raw.request(Method::Bye).await;
        assert_eq!(alice.over().await.unwrap().cause, Cause::Bye);
    });
}

#[test]
fn a_re_invite_without_an_offer_gets_one_and_its_ack_answers() {
    alone(|mut alice, stack, sink| async move {
        let mut raw = Raw::new(stack, sink);
        connect(&mut alice, &mut raw).await;
        let offered = raw.reinvite(None, 200).await;
        assert!(body(&offered).contains("a=setup:actpass"));
        raw.ack(Some(sdp(1, PCMA))).await;
        alice
            .until(|kind| matches!(kind, CallEventKind::Negotiated(_)))
            .await;
        // An ACK that owes an answer and has none ends the call.
        raw.reinvite(None, 200).await;
        raw.ack(None).await;
        raw.request(Method::Bye).await;
        assert_eq!(alice.over().await.unwrap().cause, Cause::ProtocolError);
    });
}

#[test]
fn an_invite_without_an_offer_is_offered_something() {
    alone(|mut alice, stack, sink| async move {
        let mut raw = Raw::new(stack, sink);
        let invite = raw.invite_offerless(&alice, &[]).await;
        let call = alice.incoming().await;
        alice
            .tell(Answer {
                call,
                media: Some(MediaPlan::default()),
            })
            .await
            .unwrap();
        raw.sink.expect_response(100).await;
        raw.sink.expect_response(180).await;
        let (_, accepted) = raw.sink.expect_response(200).await;
        assert!(body(&accepted).contains("m=audio "));
        raw.enter_as_caller(&invite, &accepted);
        raw.ack(Some(sdp(1, PCMA))).await;
        alice.confirmed().await;
    });
}

/// Has Alice's gateway hear that her addresses changed.
async fn addresses_change(alice: &Phone) {
    let addresses = vec![[192, 0, 2, 8].into()];
    alice
        .gateway
        .send(NatEvent::AddressesChanged(addresses))
        .await
        .unwrap();
}

#[test]
fn another_address_is_registered_and_told_to_the_peer_once_a_route_leads_out() {
    const NEW: &str = "sip:alice@192.0.2.8:5060";
    alone(|mut alice, stack, sink| async move {
        let mut raw = Raw::new(stack, sink);
        alice.tell(StartRegistration).await.unwrap();
        let (tx, register) = raw.request(Method::Register).await;
        let old = register.headers.contact_uri().unwrap().to_string();
        let mut ok = register.response(200);
        ok.headers.copy_from(&register.headers, "Contact");
        raw.stack.respond(tx, ok).await.unwrap();
        connect(&mut alice, &mut raw).await;

        addresses_change(&alice).await;
        let contact_of = |answer: &SipResponse| answer.headers.contact_uri().unwrap().to_string();
        let answer = raw.reinvite(Some(sdp(1, PCMA)), 200).await;
        raw.ack(None).await;
        assert_eq!(contact_of(&answer), old, "there is no route yet");

        *alice.contact.lock().unwrap() = Some(NameAddr::new(NEW.parse::<Uri>().unwrap()));
        let (tx, register) = raw.request(Method::Register).await;
        let contacts: Vec<&str> = register
            .headers
            .iter()
            .filter(|(name, _)| name.as_str().eq_ignore_ascii_case("Contact"))
            .map(|(_, value)| value)
            .collect();
        assert_eq!(contacts.len(), 2, "{contacts:?}");
        assert!(contacts[0].contains(NEW), "{contacts:?}");
        assert!(
            contacts[1].contains(&old) && contacts[1].contains("expires=0"),
            "{contacts:?}"
        );
        let mut ok = register.response(200);
        ok.headers.push("Contact", contacts[0]);
        raw.stack.respond(tx, ok).await.unwrap();
        let (_, invite) = raw.request(Method::Invite).await;
        let told = invite.headers.contact_uri().unwrap().to_string();
        assert_eq!(told, NEW, "where a BYE to her is to be sent");
    });
}
