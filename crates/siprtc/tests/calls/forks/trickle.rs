//! The same with candidates that come in INFOs (RFC 8840), before anybody has answered for good.

use super::{KINDS, Scene, Telephones};
use siprtc::core::sip::{
    CSeq, Headers, Method, NameAddr, Route, SipRequest, SipUri, StackEvent, TxIds, TxOwner, Uri,
};
use siprtc::registry;
use siprtc_testkit::sip::answer;
use std::time::Duration;

/// What a telephone makes of Alice's offer: it knows of no candidate that leads to her, so that nothing comes about before she knows
/// of its own.
fn misled(offer: &str) -> String {
    let line = |line: &str| match line.starts_with("a=candidate:") {
        true => "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n".to_owned(),
        false => format!("{line}\r\n"),
    };
    let mut known = false;
    let once = |line: &&str| !line.starts_with("a=candidate:") || !std::mem::replace(&mut known, true);
    offer.lines().filter(once).map(line).collect()
}

fn tells_candidates(line: &&str) -> bool {
    line.starts_with("a=candidate:") || *line == "a=end-of-candidates"
}

/// The answer without its candidates.
fn without(answer: &str) -> String {
    let lines = answer.lines().filter(|line| !tells_candidates(line));
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    lines.replacen("t=0 0\r\n", "t=0 0\r\na=ice-options:trickle\r\n", 1)
}

/// And these (RFC 8840 section 9).
fn fragment(answer: &str) -> String {
    let find = |name: &str| {
        let line = answer.lines().find(|line| line.starts_with(name));
        format!("{}\r\n", line.expect("it has ICE"))
    };
    let candidates = answer.lines().filter(tells_candidates);
    let candidates: String = candidates.map(|line| format!("{line}\r\n")).collect();
    let (ufrag, pwd, mid) = (find("a=ice-ufrag:"), find("a=ice-pwd:"), find("a=mid:"));
    format!("{ufrag}{pwd}m=audio 9 RTP/AVP 0\r\n{mid}{candidates}")
}

impl Scene {
    /// A provisional answer of a telephone that takes INFOs.
    async fn trickles(&self, tag: &str, sdp: &str) {
        let mut response = answer(&self.invite, 183, tag);
        let contact = SipUri::from_addr(self.stack.listeners()[0].advertised);
        response.headers.set("Contact", NameAddr::new(contact));
        response.headers.set("Supported", "trickle-ice");
        response.headers.set("Recv-Info", "trickle-ice");
        let response = response.with_body("application/sdp", without(sdp));
        self.stack.respond(self.tx, response).await.unwrap();
        // RFC 8840 section 4.3: Alice's tells it that she knows of the dialog.
        loop {
            let info = self.answers_info(self.sink.next().await).await;
            if info.is_some_and(|info| info.headers.to().unwrap().tag() == Some(tag)) {
                return;
            }
        }
    }

    /// What Alice tells any of them is fine with it.
    async fn answers_info(&self, event: StackEvent) -> Option<SipRequest> {
        let StackEvent::Request { tx, request, .. } = event else {
            return None;
        };
        assert_eq!(request.method, Method::Info);
        self.stack.respond(tx, request.response(200)).await.unwrap();
        Some(request)
    }

    /// An INFO of that telephone's.
    async fn informs(&self, tag: &str, sdp: &str) {
        let invite = &self.invite.headers;
        let contact = invite
            .value("Contact")
            .unwrap()
            .trim_matches(['<', '>'])
            .to_owned();
        let target: Uri = contact.parse().unwrap();
        let method = Method::Info;
        let mut info = SipRequest::new(method.clone(), target);
        let headers: &mut Headers = &mut info.headers;
        headers.push("From", invite.to().unwrap().with_tag(tag));
        headers.push("To", invite.from().unwrap());
        headers.push("Call-ID", invite.call_id().unwrap());
        headers.push("CSeq", CSeq { sequence: 1, method });
        headers.push("Info-Package", "trickle-ice");
        headers.push("Content-Disposition", "Info-Package");
        let info = info.with_body("application/trickle-ice-sdpfrag", fragment(sdp));
        let tx = TxIds::new(TxOwner::user(9)).mint();
        self.stack
            .send_request(tx, info, Route::by_request())
            .await
            .unwrap();
        loop {
            match self.sink.next().await {
                StackEvent::Response { response, .. } if response.status == 100 => {}
                StackEvent::Response { response, .. } => return assert_eq!(response.status, 200),
                event => _ = self.answers_info(event).await,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_fork_trickles_while_another_is_heard_is_its_own() {
    let (engine, media) = KINDS[0];
    let mut telephones = Telephones::of(registry::media_engine("rtp").unwrap());
    telephones.reads = misled;
    let mut scene = Scene::with(engine, "first", media, &mut telephones).await;
    let (up, down) = (scene.up.answer.clone(), scene.down.answer.clone());
    scene.trickles("up", &up).await;
    scene.trickles("down", &down).await;
    // The one that is not heard is known first.
    scene.informs("down", &down).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(*scene.ear.borrow(), 0, "nobody knows how to reach the first one");
    scene.informs("up", &up).await;
    scene.hears_only(1).await;
    scene.up.is_spoken_to().await;
    scene.down.answer = without(&down);
    while let Some(event) = scene.sink.try_next() {
        scene.answers_info(event).await;
    }
    scene.the_second_answers().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_heard_by_candidates_that_come_in_infos_before_it_answers() {
    // The other engine's m-lines have no name that candidates could be trickled for (a=mid).
    let (engine, media) = KINDS[0];
    let mut telephones = Telephones::of(registry::media_engine("rtp").unwrap());
    telephones.reads = misled;
    let mut scene = Scene::with(engine, "latest", media, &mut telephones).await;
    let (up, down) = (scene.up.answer.clone(), scene.down.answer.clone());
    scene.trickles("up", &up).await;
    scene.informs("up", &up).await;
    scene.hears(1).await;
    scene.trickles("down", &down).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(scene.down.heard().await, 0, "nobody knows how to reach it");
    scene.informs("down", &down).await;
    scene.hears_only(-1).await;
    scene.down.is_spoken_to().await;
    scene.down.answer = without(&down);
    // What Alice had to say meanwhile.
    while let Some(event) = scene.sink.try_next() {
        scene.answers_info(event).await;
    }
    scene.the_second_answers().await;
    scene.end().await;
}
