//! A program's code over the fake endpoint: both sides of each deed, by a clock that stands still.

use siprtc::core::media::Codec;
use siprtc::fake::{Deed, fake};
use siprtc::gateway::{ReferralEvent, SubscriptionEvent};
use siprtc::prelude::*;
use siprtc::{ReferOptions, Registration};
use std::time::Duration;

/// A program: calls until somebody answers, waiting a minute in between, and reads out what it hears.
async fn caller(endpoint: &Endpoint) -> Result<Option<Ending>> {
    for _ in 0..3 {
        let mut call = endpoint.dial("bob", MediaPlan::default()).await?;
        if call.confirmed().await.is_ok() {
            call.hold().await?;
            call.resume().await?;
            call.send_message("here I am").await?;
            return Ok(Some(call.finished().await?.ending));
        }
        let retry = call
            .report()
            .is_some_and(|report| report.ending.is_worth_a_retry());
        if !retry {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    Ok(None)
}

#[tokio::test(start_paused = true)]
async fn a_program_that_calls_is_answered_refused_and_hung_up() {
    let (endpoint, fake) = fake("sip:alice@example.com").unwrap();
    endpoint.registered(Duration::from_secs(1)).await.unwrap();
    let began = tokio::time::Instant::now();
    let test = async {
        let Deed::Dialled { target, .. } = fake.deed().await else {
            panic!("it dials first");
        };
        assert_eq!(target, "sip:bob@example.com");
        fake.rings();
        fake.refuse(486);
        assert!(matches!(fake.deed().await, Deed::Dialled { .. }));
        assert_eq!(
            began.elapsed(),
            Duration::from_secs(60),
            "it waits before it tries again"
        );
        fake.answer();
        fake.connect();
        for expected in [Deed::Held, Deed::Resumed] {
            assert_eq!(fake.deed().await, expected);
        }
        assert!(matches!(fake.deed().await, Deed::Message { to: None, .. }));
        fake.hang_up();
    };
    let (ending, ()) = tokio::join!(caller(&endpoint), test);
    let ending = ending.unwrap().unwrap();
    assert_eq!(
        (ending.cause, ending.by, ending.established),
        (Cause::Bye, Side::Remote, true)
    );
    assert_eq!(
        (fake.calls(), endpoint.open_calls().await, fake.deeds()),
        (0, 0, Vec::new())
    );
    fake.register(Registration::None);
    assert!(endpoint.registered(Duration::from_secs(1)).await.is_err());
    endpoint.shutdown().await;
    assert_eq!(fake.deed().await, Deed::ShutDown);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_called_refuses_forwards_answers_and_speaks() {
    let (mut endpoint, fake) = fake("sip:bot@example.com").unwrap();
    let from = "sip:carol@example.com";
    for (index, refused) in [
        Deed::Refused(486),
        Deed::Forwarded(vec!["sip:dave@example.com".to_owned()]),
    ]
    .into_iter()
    .enumerate()
    {
        fake.ring(from).unwrap();
        let incoming = endpoint.incoming().await.unwrap();
        assert_eq!(incoming.from().uri.to_string(), from);
        match index {
            0 => incoming.refuse(486).await.unwrap(),
            _ => incoming.forward(&["dave"]).await.unwrap(),
        }
        assert_eq!(fake.deed().await, refused);
    }
    // Who is heard first is answered later, refused, or gives up.
    fake.ring(from).unwrap();
    let hello = MediaPlan {
        source: Source::Tone {
            hz: 440.0,
            level_dbfs: -12.0,
        },
        ..MediaPlan::default()
    };
    let early = endpoint
        .incoming()
        .await
        .unwrap()
        .early_media(hello)
        .await
        .unwrap();
    assert_eq!(fake.deed().await, Deed::AnsweredEarly);
    assert!(matches!(fake.plan().unwrap().source, Source::Tone { .. }));
    let call = early.answer().await.unwrap();
    assert_eq!(fake.deed().await, Deed::Answered);
    assert!(
        matches!(fake.plan().unwrap().source, Source::Tone { .. }),
        "the same goes on"
    );
    fake.hang_up();
    assert_eq!(call.finished().await.unwrap().ending.cause, Cause::Bye);
    fake.ring(from).unwrap();
    let ringing = endpoint.incoming().await.unwrap();
    let early = ringing.early_media(MediaPlan::default()).await.unwrap();
    let other = MediaPlan {
        direction: Direction::SendOnly,
        ..MediaPlan::default()
    };
    drop(early.answer_with(other).await.unwrap());
    assert_eq!(
        [fake.deed().await, fake.deed().await],
        [Deed::AnsweredEarly, Deed::Answered]
    );
    assert_eq!(fake.plan().unwrap().direction, Direction::SendOnly);
    fake.hang_up();
    fake.ring(from).unwrap();
    let ringing = endpoint.incoming().await.unwrap();
    let early = ringing.early_media(MediaPlan::default()).await.unwrap();
    early.refuse(603).await.unwrap();
    assert_eq!(
        [fake.deed().await, fake.deed().await],
        [Deed::AnsweredEarly, Deed::Refused(603)]
    );
    fake.ring(from).unwrap();
    let ringing = endpoint.incoming().await.unwrap();
    let mut early = ringing.early_media(MediaPlan::default()).await.unwrap();
    fake.hang_up();
    assert!(early.given_up().await.is_some());
    assert_eq!(early.answer().await.err().unwrap().fault(), Fault::ApiMisuse);
    assert_eq!(fake.deed().await, Deed::AnsweredEarly);
    // Whoever gave up before it was taken is not offered.
    fake.ring(from).unwrap();
    fake.hang_up();
    fake.ring(from).unwrap();
    let (mut voice, source, sink) = Voice::open(16_000).unwrap();
    let media = MediaPlan {
        source,
        sink,
        ..MediaPlan::default()
    };
    let call = endpoint.incoming().await.unwrap().answer(media).await.unwrap();
    assert_eq!(fake.deed().await, Deed::Answered);
    fake.say(16_000, &[7; 640]);
    assert_eq!(voice.hear().await.unwrap(), [7; 320]);
    voice.say(&[9; 320]);
    assert_eq!(fake.hear(16_000), [9; 320]);
    call.set_muted(true).await.unwrap();
    call.set_codecs(&[Codec::Pcma]).await.unwrap();
    call.set_video(None).await.unwrap();
    call.set_direction(Direction::SendOnly).await.unwrap();
    call.set_audio(Source::Silence, fake.plan().unwrap().sink)
        .await
        .unwrap();
    let deeds = [
        Deed::Muted(true),
        Deed::ChangedCodecs(vec![Codec::Pcma]),
        Deed::ChangedVideo(false),
        Deed::ChangedDirection(Direction::SendOnly),
        Deed::ChangedAudio,
    ];
    for expected in deeds {
        assert_eq!(fake.deed().await, expected);
    }
    fake.lose_media();
    assert_eq!(
        call.stats().await.unwrap_err().fault(),
        Fault::ApiMisuse,
        "it is over"
    );
    assert_eq!(call.finished().await.unwrap().ending.cause, Cause::MediaFailed);
    assert!(voice.hear().await.is_some() && voice.hear().await.is_none());
    fake.close();
    assert!(endpoint.incoming().await.is_none());
    assert!(endpoint.dial("bob", MediaPlan::default()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_program_that_has_another_telephone_call_hears_what_the_test_says() {
    let (endpoint, fake) = fake("sip:alice@example.com").unwrap();
    let mut options = ReferOptions::default();
    options.headers.push("X-Order", "17");
    let mut requested = endpoint.refer_with("desk", "carol", options).await.unwrap();
    let Deed::AskedForCall { target, to, headers } = fake.deed().await else {
        panic!("it asks first");
    };
    assert_eq!(
        (target.as_str(), to.as_deref(), headers.value("X-Order")),
        ("sip:desk@example.com", Some("sip:carol@example.com"), Some("17"))
    );
    fake.report(ReferralEvent::Accepted { tells: true });
    fake.report(ReferralEvent::Progress { status: 180 });
    fake.report(ReferralEvent::Succeeded);
    requested.answered().await.unwrap();
    assert!(requested.next().await.is_none() && requested.end().await.is_err());

    // Its own call moves to the telephone, and it listens no more.
    let call = endpoint.dial("bob", MediaPlan::default()).await.unwrap();
    fake.answer();
    let mut requested = endpoint.refer_call("desk", &call).await.unwrap();
    requested.end().await.unwrap();
    assert!(matches!(
        requested.next().await,
        Some(ReferralEvent::Untold { .. })
    ));
    let deeds = fake.deeds();
    assert!(matches!(deeds[0], Deed::Dialled { .. }));
    assert!(matches!(deeds[1], Deed::AskedForCall { to: None, .. }));
    assert_eq!(deeds[2], Deed::EndedNews);
}

#[tokio::test(start_paused = true)]
async fn a_program_records_its_call_and_reads_its_numbers() {
    let (endpoint, fake) = fake("sip:alice@example.com").unwrap();
    let call = endpoint.dial("bob", MediaPlan::default()).await.unwrap();
    fake.answer();
    assert!(matches!(fake.deed().await, Deed::Dialled { .. }));
    assert_eq!(call.stop_recording().await.unwrap_err().fault(), Fault::ApiMisuse);
    call.record("call.wav", Sides::Both).await.unwrap();
    assert!(call.record("again.wav", Sides::Both).await.is_err());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(call.stop_recording().await.unwrap(), Duration::from_secs(3));
    let records = Deed::Records {
        path: "call.wav".into(),
        sides: Sides::Both,
    };
    assert_eq!(fake.deeds(), [records, Deed::StoppedRecording]);

    assert_eq!(call.stats().await.unwrap(), SessionStats::default());
    let poor = SessionStats {
        mos: 2.1,
        ..SessionStats::default()
    };
    fake.measure(poor.clone());
    assert_eq!(call.stats().await.unwrap(), poor);
    assert_eq!(fake.deeds(), [Deed::ReadStats, Deed::ReadStats]);
    fake.hang_up();
    let ending = call.finished().await.unwrap().ending;
    assert_eq!(ending.stats.as_deref(), Some(&poor));
    let bridged = endpoint.dial("carol", MediaPlan::default()).await.unwrap();
    let other = endpoint.dial("dave", MediaPlan::default()).await.unwrap();
    let refused = endpoint.bridge(&bridged, &other).await.unwrap_err();
    assert_eq!(refused.fault(), Fault::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn a_program_subscribes_tells_its_state_and_is_asked_for_calls() {
    let (mut endpoint, fake) = fake("sip:desk@example.com").unwrap();
    let ended = SubscriptionEvent::Ended {
        status: None,
        reason: None,
        retry_after: None,
        contacts: Vec::new(),
    };
    let mut lamp = endpoint.subscribe("colleague", "dialog").await.unwrap();
    let mut mail = endpoint.subscribe("desk", "message-summary").await.unwrap();
    let Deed::Subscribed { target, event, .. } = fake.deed().await else {
        panic!("it subscribes first");
    };
    assert_eq!(
        (target.as_str(), event.as_str()),
        ("sip:colleague@example.com", "dialog")
    );
    assert!(matches!(fake.deed().await, Deed::Subscribed { .. }));
    let active = SubscriptionEvent::Active {
        expires: Duration::from_secs(60),
    };
    fake.notify("desk", "message-summary", active.clone()).unwrap();
    assert_eq!(mail.next().await, Some(active));
    lamp.end().await.unwrap();
    assert_eq!(lamp.next().await, Some(ended.clone()));
    assert!(lamp.next().await.is_none() && lamp.end().await.is_err());
    assert!(fake.notify("colleague", "dialog", ended.clone()).is_err());
    assert_eq!(fake.deed().await, Deed::Unsubscribed);
    fake.notify("desk", "message-summary", ended).unwrap();
    assert!(mail.next().await.is_some() && mail.next().await.is_none());

    endpoint.notify("presence", "<presence/>").await.unwrap();
    let told = Deed::Notified {
        event: "presence".to_owned(),
        body: b"<presence/>".to_vec(),
    };
    assert_eq!(fake.deed().await, told);

    let mut referrals = endpoint.referrals().unwrap();
    fake.asks_for_call("carol", Some("boss")).unwrap();
    fake.asks_for_call("dave", None).unwrap();
    let (first, second) = (referrals.next().await.unwrap(), referrals.next().await.unwrap());
    assert_eq!(first.to().to_string(), "sip:carol@example.com");
    assert_eq!(
        first.referred_by().unwrap().uri.to_string(),
        "sip:boss@example.com"
    );
    let call = first.accept(MediaPlan::default()).await.unwrap();
    second.refuse(603).await.unwrap();
    assert_eq!(fake.deeds(), [Deed::AcceptedReferral, Deed::RefusedReferral(603)]);
    fake.answer();
    fake.hang_up();
    assert_eq!(call.finished().await.unwrap().ending.cause, Cause::Bye);
}
