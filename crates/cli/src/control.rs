//! Orders during a call, a line each on standard input.

use siprtc::Call;
use siprtc::gateway::{CallEventKind, MediaPlan};
use siprtc::prelude::{Sink, VideoPlan, VideoSink, VideoSource};
use siprtc_core::media::Codec;
use siprtc_core::{Error, Fault, Result};
use std::io::BufRead;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Lines that wait to be obeyed; more are not read until there is room.
const WAITING: usize = 16;

/// What a user may say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// To the transfer that the peer wants.
    Accept,
    /// Another call, to whom this one may be transferred.
    Consult(String),
    /// Other codecs, best first.
    Codecs(Vec<Codec>),
    Digits(String),
    HangUp,
    Hold,
    /// The source goes on: music on hold.
    HoldPlaying,
    /// Silence in the place of the source, or not.
    Mute(bool),
    /// A message to the peer.
    Say(String),
    /// To the transfer that the peer wants.
    Refuse,
    Resume,
    /// A video file; `None`: no video any more.
    Show(Option<PathBuf>),
    /// To that address; `None`: to who is consulted.
    Transfer(Option<String>),
}

impl std::str::FromStr for Order {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        Ok(match words[..] {
            ["accept"] => Order::Accept,
            ["refuse"] => Order::Refuse,
            ["consult", target] => Order::Consult(target.to_owned()),
            ["transfer"] => Order::Transfer(None),
            ["transfer", target] => Order::Transfer(Some(target.to_owned())),
            ["hangup"] => Order::HangUp,
            ["hold"] => Order::Hold,
            ["hold", "playing"] => Order::HoldPlaying,
            ["resume"] => Order::Resume,
            ["mute"] => Order::Mute(true),
            ["unmute"] => Order::Mute(false),
            ["show", "nothing"] => Order::Show(None),
            ["show", _, ..] => Order::Show(Some(line.trim().trim_start_matches("show").trim().into())),
            ["codecs", ref names @ ..] if !names.is_empty() => {
                Order::Codecs(names.iter().map(|name| codec(name)).collect::<Result<_>>()?)
            }
            ["say", _, ..] => Order::Say(line.trim().trim_start_matches("say").trim().to_owned()),
            ["dtmf", digits] => Order::Digits(digits.to_owned()),
            _ => {
                return Err(
                    Error::new(Fault::ApiMisuse, "obey", format!("{:?} is no order", line.trim()))
                        .advice("say hold, hold playing, resume, mute, unmute, dtmf DIGITS, say TEXT, codecs NAME ..., show FILE, show nothing, transfer URI, consult URI, transfer (to who is consulted), accept, refuse or hangup, each on a line"),
                );
            }
        })
    }
}

impl Order {
    /// Obeys, in a call that may have others beside it; a call that the order makes has this `media`.
    pub(crate) async fn obey(&self, call: &Call, others: &mut Others, media: &MediaPlan) -> Result<()> {
        match self {
            Order::Accept => {
                others.successor = Some(call.accept_transfer(others.media(media)).await?);
                Ok(())
            }
            Order::Consult(target) => {
                others.consulted = Some(call.consult(target, others.media(media)).await?);
                Ok(())
            }
            Order::Codecs(codecs) => call.set_codecs(codecs).await,
            Order::Digits(digits) => call.send_dtmf(digits).await,
            Order::HangUp => call.hangup().await,
            Order::Hold => call.hold().await,
            Order::HoldPlaying => call.hold_playing().await,
            Order::Mute(muted) => call.set_muted(*muted).await,
            Order::Refuse => call.refuse_transfer().await,
            Order::Resume => call.resume().await,
            Order::Say(text) => call.send_message(text).await,
            Order::Show(path) => call.set_video(path.clone().map(|path| video(path, media))).await,
            Order::Transfer(Some(target)) => call.transfer(target).await,
            Order::Transfer(None) => match &others.consulted {
                Some(consulted) => call.transfer_to(consulted).await,
                None => Err(Error::new(Fault::ApiMisuse, "obey", "nobody is consulted")
                    .advice("say consult URI first, or transfer URI")),
            },
        }
    }
}

fn codec(name: &str) -> Result<Codec> {
    Codec::from_name(name).ok_or_else(|| {
        Error::new(Fault::ApiMisuse, "obey", format!("{name:?} is no codec"))
            .advice("known are opus, G722, PCMU and PCMA")
    })
}

/// A film, and what becomes of the peer's as it was before.
fn video(path: PathBuf, media: &MediaPlan) -> VideoPlan {
    let sink = media.video.as_ref().map(|plan| plan.sink.clone());
    VideoPlan::new(
        VideoSource::File { path, repeat: false },
        sink.unwrap_or(VideoSink::Null),
    )
}

/// `heard-2.wav` of `heard.wav`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path.extension().map(|end| format!(".{}", end.to_string_lossy()));
    path.with_file_name(format!("{stem}-{number}{}", end.unwrap_or_default()))
}

/// The calls beside the one that is lived through.
#[derive(Default)]
pub(crate) struct Others {
    pub(crate) consulted: Option<Call>,
    /// It goes on when this one is over.
    pub(crate) successor: Option<Call>,
    made: u32,
}

impl Others {
    /// The same media for another call: recorded into `heard-2.wav` where the first one is recorded into `heard.wav`.
    pub(crate) fn media(&mut self, first: &MediaPlan) -> MediaPlan {
        self.made += 1;
        let number = self.made + 1;
        let mut media = first.clone();
        if let Sink::File { path } = &mut media.sink {
            *path = numbered(path, number);
        }
        if let Some(VideoSink::File { path }) = media.video.as_mut().map(|video| &mut video.sink) {
            *path = numbered(path, number);
        }
        media
    }

    /// What happens to who is consulted; never, when there is nobody.
    pub(crate) async fn next(&mut self) -> Option<CallEventKind> {
        match &mut self.consulted {
            Some(consulted) => consulted.next().await,
            None => std::future::pending().await,
        }
    }
}

/// Standard input, if anybody listens to it.
pub(crate) struct Control(Option<mpsc::Receiver<String>>);

impl Control {
    /// Reads from now on when `wanted`, in a thread: a read from a terminal cannot be taken back, and ends with the program.
    pub(crate) fn new(wanted: bool) -> Self {
        Control(wanted.then(|| {
            let (sender, lines) = mpsc::channel(WAITING);
            std::thread::spawn(move || {
                for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
                    if !line.trim().is_empty() && sender.blocking_send(line).is_err() {
                        return;
                    }
                }
            });
            lines
        }))
    }

    /// The next order; never, when nobody listens or nothing more comes.
    pub(crate) async fn next(&mut self) -> Result<Order> {
        let line = match &mut self.0 {
            Some(lines) => lines.recv().await,
            None => None,
        };
        match line {
            Some(line) => line.parse(),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_words() {
        for (line, order) in [
            ("mute", Order::Mute(true)),
            ("unmute", Order::Mute(false)),
            ("codecs PCMA opus", Order::Codecs(vec![Codec::Pcma, Codec::Opus])),
            ("show a film.ivf", Order::Show(Some("a film.ivf".into()))),
            ("show nothing", Order::Show(None)),
            ("hold", Order::Hold),
            (" hold  playing ", Order::HoldPlaying),
            ("resume\r", Order::Resume),
            ("dtmf 12#", Order::Digits("12#".to_owned())),
            ("hangup", Order::HangUp),
            ("accept", Order::Accept),
            ("refuse", Order::Refuse),
            ("say  Hello, Bob", Order::Say("Hello, Bob".to_owned())),
            ("consult carol", Order::Consult("carol".to_owned())),
            ("transfer", Order::Transfer(None)),
            ("transfer carol", Order::Transfer(Some("carol".to_owned()))),
        ] {
            assert_eq!(line.parse::<Order>().ok(), Some(order), "{line}");
        }
        let error = "hold on".parse::<Order>().err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("say hold")));
    }

    #[test]
    fn each_call_is_recorded_into_a_file_of_its_own() {
        let first = MediaPlan {
            sink: Sink::File {
                path: "kept/heard.wav".into(),
            },
            ..MediaPlan::default()
        };
        let mut others = Others::default();
        for expected in ["kept/heard-2.wav", "kept/heard-3.wav"] {
            let Sink::File { path } = others.media(&first).sink else {
                panic!("it is recorded");
            };
            assert_eq!(path, Path::new(expected));
        }
        assert_eq!(numbered(Path::new("heard"), 2), Path::new("heard-2"));
    }
}
