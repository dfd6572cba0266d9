//! The actor answers as the functions do.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use actix::Actor;
use common::sample;
use siprtc_core::Fault;
use siprtc_sdp_translator::{
    AnswerToSip, AnswerToWebrtc, Negotiate, Negotiated, SdpTranslator, SipForm, ToSip, ToWebrtc,
    answer_to_sip_as, answer_to_webrtc, negotiated_audio, negotiated_video, to_sip_as, to_webrtc,
};

#[actix_rt::test]
async fn every_message_is_answered_as_by_its_function() {
    let translator = SdpTranslator.start();
    let offer = sample("sdp/rtpe-gh850-chrome-chrome.offer.sdp");
    let answer = sample("sdp/rtpe-gh850-chrome-chrome.answer.sdp");

    for form in [SipForm::default(), SipForm::beside(600)] {
        let sdp = offer.clone();
        let said = translator.send(ToSip { sdp, form }).await.unwrap();
        assert_eq!(said.unwrap(), to_sip_as(&offer, form).unwrap());
        let answer_to_sip = AnswerToSip {
            offer: offer.clone(),
            answer: answer.clone(),
            form,
        };
        let said = translator.send(answer_to_sip).await.unwrap();
        assert_eq!(said.unwrap(), answer_to_sip_as(&offer, &answer, form).unwrap());
    }
    let said = translator.send(ToWebrtc { sdp: offer.clone() }).await.unwrap();
    assert_eq!(said.unwrap(), to_webrtc(&offer).unwrap());
    let said = translator
        .send(AnswerToWebrtc {
            offer: offer.clone(),
            answer: answer.clone(),
        })
        .await
        .unwrap();
    assert_eq!(said.unwrap(), answer_to_webrtc(&offer, &answer).unwrap());
    let said = translator
        .send(Negotiate {
            local: offer.clone(),
            remote: answer.clone(),
            answerer: None,
        })
        .await
        .unwrap();
    let expected = Negotiated {
        audio: negotiated_audio(&offer, &answer).unwrap(),
        video: negotiated_video(&offer, &answer, None).unwrap(),
    };
    assert_eq!(said.unwrap(), expected);
}

#[actix_rt::test]
async fn a_refusal_is_an_answer_and_the_next_message_is_served() {
    let translator = SdpTranslator.start();
    let plain = ToWebrtc {
        sdp: sample("sdp/plain-rtp-pcmu.sdp"),
    };
    assert_eq!(
        translator.send(plain).await.unwrap().unwrap_err().fault(),
        Fault::PeerIncompatible
    );
    let webrtc = ToWebrtc {
        sdp: sample("sdp/chrome-audio-2018.sdp"),
    };
    assert!(translator.send(webrtc).await.unwrap().is_ok());
}
