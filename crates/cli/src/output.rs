//! What people and machines see: a live line and a summary, or one JSON object per line.

use crate::exit::Exit;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use siprtc::CallReport;
use siprtc::gateway::{CallEventKind, Ending, Side};
use siprtc::media_session::{PartedBy, SessionStats, VideoStats};
use siprtc_core::Error;
use siprtc_core::media::Discarded;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// Where things are said.
pub(crate) struct Output {
    json: bool,
    line: ProgressBar,
    colour: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let line = if json || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let style = ProgressStyle::with_template("{spinner:.cyan} {msg}")
                .unwrap_or(ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        };
        Output {
            json,
            line,
            colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// The live line, for people.
    pub(crate) fn progress(&self, text: impl Into<String>) {
        self.line.set_message(text.into());
        self.line.tick();
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        if !self.json {
            self.line.suspend(|| write_out(text));
        }
    }

    /// What somebody asked for in a form of its own.
    pub(crate) fn raw(&self, text: &str) {
        write_out(text);
    }

    /// An object for machines.
    pub(crate) fn emit(&self, value: Value) {
        if self.json {
            write_out(&value.to_string());
        }
    }

    /// The live line is over.
    pub(crate) fn done(&self) {
        self.line.finish_and_clear();
    }

    /// A sentence that says whose fault and what next, on standard error and in the JSON.
    pub(crate) fn failure(&self, sentence: &str) {
        self.line.finish_and_clear();
        self.emit(json!({ "event": "error", "sentence": sentence }));
        eprintln!("siprtc: {sentence}");
    }

    pub(crate) fn error(&self, error: &Error) -> Exit {
        self.line.finish_and_clear();
        let (fault, sentence) = (error.fault().as_str(), error.to_string());
        self.emit(json!({ "event": "error", "fault": fault, "sentence": sentence }));
        eprintln!("siprtc: {sentence}");
        Exit::of_error(error)
    }

    /// One of a call's events.
    pub(crate) fn event(&self, who: &str, event: &CallEventKind) {
        let (name, text, data) = describe(event);
        if !text.is_empty() {
            self.progress(format!("{who}: {text}"));
        }
        if matches!(
            event,
            CallEventKind::SinkFailed(_) | CallEventKind::SourceFailed(_) | CallEventKind::Silent(_)
        ) {
            self.line.suspend(|| eprintln!("siprtc: {text}"));
        }
        let mut object = json!({ "event": name, "who": who });
        if let (Some(object), Value::Object(data)) = (object.as_object_mut(), data) {
            object.extend(data);
        }
        self.emit(object);
    }

    /// What a call came to.
    pub(crate) fn report(&self, report: &CallReport) {
        self.done();
        self.emit(report_json(report));
        if !self.json {
            write_out(&report_text(report));
        }
        // Standard error, as every other failure: a script that keeps only the one still learns why.
        if let Some(sentence) = &report.ending.sentence {
            eprintln!("siprtc: {sentence}");
        }
    }

    /// The ladder, in the terminal and as a file.
    pub(crate) fn ladder(&self, ladder: &siprtc::ladder::Ladder, svg: Option<&Path>) -> Result<(), Error> {
        if !self.json {
            let width = std::env::var("COLUMNS")
                .ok()
                .and_then(|columns| columns.parse().ok())
                .unwrap_or(100);
            write_out(&ladder.to_text(width, self.colour));
        }
        let Some(path) = svg else { return Ok(()) };
        std::fs::write(path, ladder.to_svg()).map_err(|error| {
            Error::new(
                siprtc_core::Fault::ConfigInvalid,
                "write the ladder",
                path.display().to_string(),
            )
            .caused_by(error)
            .advice("choose a path that can be written")
        })?;
        self.emit(json!({ "event": "ladder", "svg": path.display().to_string() }));
        self.say(&format!("ladder: {}", path.display()));
        Ok(())
    }
}

fn write_out(text: &str) {
    // A reader that is gone (a closed pipe) is no reason to end a call.
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

fn describe(event: &CallEventKind) -> (&'static str, String, Value) {
    match event {
        CallEventKind::Accepted => ("accepted", "answered".to_owned(), json!({})),
        CallEventKind::Bridged {
            with,
            from_peer,
            to_peer,
        } => (
            "bridged",
            format!("joined, packets are {from_peer} one way and {to_peer} the other"),
            json!({
                "with": with.to_string(),
                "from_peer": from_peer.to_string(),
                "to_peer": to_peer.to_string(),
            }),
        ),
        CallEventKind::Parted(by) => {
            let by = match by {
                PartedBy::Application => "us",
                PartedBy::OtherEnded => "the other's end",
            };
            ("parted", format!("parted by {by}"), json!({ "by": by }))
        }
        CallEventKind::Confirmed => ("confirmed", "confirmed".to_owned(), json!({})),
        CallEventKind::Connected => ("connected", "DTLS connected".to_owned(), json!({})),
        CallEventKind::Dtmf { digit, duration } => (
            "dtmf",
            format!("digit {digit}"),
            json!({ "digit": digit.to_string(), "ms": millis(*duration) }),
        ),
        CallEventKind::Ended(ending) => ("ended", ending.cause.to_string(), ending_json(ending)),
        CallEventKind::Failed(ending) => ("failed", ending.cause.to_string(), ending_json(ending)),
        CallEventKind::FirstPacket { inbound } => {
            let way = if *inbound { "in" } else { "out" };
            (
                "first_packet",
                format!("first packet {way}"),
                json!({ "direction": way }),
            )
        }
        CallEventKind::Held { by } => held("held", *by, "on hold"),
        CallEventKind::HoldRefused { held } => (
            "hold_refused",
            format!(
                "the peer refuses to be {}",
                if *held { "held" } else { "resumed" }
            ),
            json!({ "held": held }),
        ),
        CallEventKind::MediaChanged => ("media_changed", "the media are as asked".to_owned(), json!({})),
        CallEventKind::MediaRefused => (
            "media_refused",
            "the media cannot be as asked: they are as before".to_owned(),
            json!({}),
        ),
        CallEventKind::VideoBridged {
            with,
            from_peer,
            to_peer,
        } => (
            "video_bridged",
            match (from_peer, to_peer) {
                (true, true) => "video goes across, both ways",
                (false, false) => "video does not go across: no codec in common",
                _ => "video goes across one way",
            }
            .to_owned(),
            json!({ "with": with.to_string(), "from_peer": from_peer, "to_peer": to_peer }),
        ),
        CallEventKind::VideoFailed(why) => {
            ("video_failed", format!("no video: {why}"), json!({ "why": why }))
        }
        CallEventKind::Resumed { by } => held("resumed", *by, "resumed"),
        CallEventKind::Quiet { by, since } => {
            let (who, by) = side(*by);
            (
                "quiet",
                format!("nothing to be heard of {who}"),
                json!({ "by": by, "seconds": since.as_secs_f64() }),
            )
        }
        CallEventKind::Voice { by } => {
            let (who, by) = side(*by);
            ("voice", format!("a voice of {who}"), json!({ "by": by }))
        }
        CallEventKind::Ice(state) => (
            "ice",
            format!("ICE {state}"),
            json!({ "state": state.to_string() }),
        ),
        CallEventKind::Incoming { from, to, .. } => (
            "incoming",
            format!("call from {}", from.uri),
            json!({ "from": from.to_string(), "to": to.to_string() }),
        ),
        CallEventKind::Message(note) => (
            "message",
            format!("says: {}", note.body),
            json!({ "content_type": note.content_type, "text": note.body }),
        ),
        CallEventKind::Negotiated(audio) => {
            let codec = audio.codec.to_string();
            (
                "negotiated",
                codec.clone(),
                json!({ "codec": codec, "direction": audio.direction.to_string() }),
            )
        }
        CallEventKind::NegotiatedVideo(Some(video)) => {
            let codec = video.codec.to_string();
            (
                "negotiated_video",
                codec.clone(),
                json!({ "codec": codec, "direction": video.direction.to_string() }),
            )
        }
        CallEventKind::NegotiatedVideo(None) => (
            "negotiated_video",
            "no video".to_owned(),
            json!({ "codec": null }),
        ),
        CallEventKind::FirstFrame => ("first_frame", "the peer's video is here".to_owned(), json!({})),
        CallEventKind::Progress { status, early_media } => (
            "progress",
            format!("ringing ({status})"),
            json!({ "status": status, "early_media": early_media }),
        ),
        CallEventKind::Replaced { by } => (
            "replaced",
            "another call takes its place".to_owned(),
            json!({ "by": by.to_string() }),
        ),
        CallEventKind::TransferLapsed => (
            "transfer_lapsed",
            "nobody answered the transfer".to_owned(),
            json!({}),
        ),
        CallEventKind::TransferProgress { status } => (
            "transfer_progress",
            format!("transferring ({status})"),
            json!({ "status": status }),
        ),
        CallEventKind::TransferRefused { status } => (
            "transfer_refused",
            format!("the transfer came to nothing ({status})"),
            json!({ "status": status }),
        ),
        CallEventKind::TransferTaken { call } => (
            "transfer_taken",
            "calling whom the peer asked for".to_owned(),
            json!({ "call": call.to_string() }),
        ),
        CallEventKind::TransferWanted {
            to,
            referred_by,
            replaces,
        } => (
            "transfer_wanted",
            format!("the peer wants us to call {to}"),
            json!({
                "to": to.to_string(),
                "referred_by": referred_by.as_ref().map(ToString::to_string),
                "replaces": replaces,
            }),
        ),
        CallEventKind::Transferred => ("transferred", "transferred".to_owned(), json!({})),
        CallEventKind::Selected(pair) => ("selected", pair.to_string(), json!({ "pair": pair.to_string() })),
        CallEventKind::Signalling { sip_call_id } => {
            ("signalling", String::new(), json!({ "sip_call_id": sip_call_id }))
        }
        CallEventKind::Silent(since) => {
            let text = format!(
                "nothing was heard for {:.0} s: the peer or the network is silent; the call goes on",
                since.as_secs_f64()
            );
            (
                "silent",
                text.clone(),
                json!({ "seconds": since.as_secs_f64(), "sentence": text }),
            )
        }
        CallEventKind::SinkFailed(error) => (
            "recording_failed",
            error.to_string(),
            json!({ "sentence": error.to_string() }),
        ),
        CallEventKind::SourceEnded => ("source_ended", "played to the end".to_owned(), json!({})),
        CallEventKind::VideoSourceEnded => ("video_ended", "shown to the end".to_owned(), json!({})),
        CallEventKind::SourceFailed(error) => (
            "source_failed",
            error.to_string(),
            json!({ "sentence": error.to_string() }),
        ),
        _ => ("event", String::new(), json!({})),
    }
}

fn held(name: &'static str, by: Side, word: &str) -> (&'static str, String, Value) {
    let (who, by) = side(by);
    (name, format!("{word} by {who}"), json!({ "by": by }))
}

fn side(by: Side) -> (&'static str, &'static str) {
    match by {
        Side::Local => ("us", "local"),
        Side::Remote => ("the peer", "remote"),
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

pub(crate) fn ending_json(ending: &Ending) -> Value {
    json!({
        "cause": ending.cause.as_str(),
        "by": format!("{:?}", ending.by).to_lowercase(),
        "status": ending.status,
        "sentence": ending.sentence,
        "contacts": ending.contacts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "retry_after_s": ending.retry_after.map(|wait| wait.as_secs()),
        "worth_a_retry": ending.is_worth_a_retry(),
    })
}

fn stats_json(stats: &SessionStats) -> Value {
    json!({
        "codec": stats.codec.map(|codec| codec.to_string()),
        "packets_sent": stats.transport.packets_sent,
        "packets_received": stats.transport.packets_received,
        "packets_lost": stats.packets_lost,
        "packets_late": stats.packets_late,
        "duplicates": stats.duplicates,
        "unreadable": stats.unreadable,
        "queue_dropped": stats.queue_dropped,
        "discarded": discarded_json(&stats.transport.discarded),
        "loss": stats.loss,
        "remote_loss": stats.transport.remote_loss,
        "jitter_ms": millis(stats.jitter),
        "buffer_ms": millis(stats.buffer_delay),
        "concealed_ms": millis(stats.concealed),
        "round_trip_ms": stats.round_trip.map(millis),
        "mos": stats.mos,
        "r_factor": stats.r_factor,
        "recorded_s": stats.recorded.as_secs_f64(),
        "video": stats.video.as_ref().map(video_json),
    })
}

fn discarded_json(discarded: &Discarded) -> Value {
    let by_reason = discarded.by_reason().into_iter();
    by_reason
        .map(|(reason, count)| (reason.to_owned(), count.into()))
        .collect::<Map<_, _>>()
        .into()
}

fn video_json(video: &VideoStats) -> Value {
    json!({
        "codec": video.codec.map(|codec| codec.to_string()),
        "packets_sent": video.transport.packets_sent,
        "packets_received": video.transport.packets_received,
        "packets_lost": video.packets_lost,
        "packets_recovered": video.packets_recovered,
        "packets_resent": video.packets_resent,
        "frames_sent": video.frames_sent,
        "frames_received": video.frames_received,
        "frames_dropped": video.frames_dropped,
        "key_frames_received": video.key_frames_received,
        "key_frames_wanted": video.key_frames_wanted,
        "key_frames_asked": video.key_frames_asked,
        "bitrate_allowed": video.bitrate_allowed,
        "unsent": video.unsent,
    })
}

/// The whole report as one object.
pub(crate) fn report_json(report: &CallReport) -> Value {
    let timings = &report.timings;
    json!({
        "event": "report",
        "role": report.role.as_str(),
        "sip_call_id": report.sip_call_id,
        "established": report.ending.established,
        "ending": ending_json(&report.ending),
        "pair": report.pair.map(|pair| pair.to_string()),
        "local_candidate": report.pair.map(|pair| pair.local.kind.as_str()),
        "remote_candidate": report.pair.map(|pair| pair.remote.kind.as_str()),
        "timings_ms": {
            "ringing": timings.ringing.map(millis),
            "accepted": timings.accepted.map(millis),
            "ice": timings.ice.map(millis),
            "dtls": timings.dtls.map(millis),
            "first_sent": timings.first_sent.map(millis),
            "first_received": timings.first_received.map(millis),
            "ended": timings.ended.map(millis),
        },
        "media": report.ending.stats.as_deref().map(stats_json),
    })
}

fn report_text(report: &CallReport) -> String {
    let ending = &report.ending;
    let mut lines = vec![format!(
        "{}: {} (by {})",
        report.role.as_str(),
        ending.cause,
        if ending.by == Side::Local {
            "us"
        } else {
            "the peer"
        }
    )];
    if let Some(pair) = report.pair {
        lines.push(format!("  candidate pair  {pair}"));
    }
    let times = [
        ("answered", report.timings.accepted),
        ("ICE", report.timings.ice),
        ("DTLS", report.timings.dtls),
        ("first packet heard", report.timings.first_received),
    ];
    let times: Vec<String> = times
        .iter()
        .filter_map(|(name, at)| at.map(|at| format!("{name} {:.0} ms", millis(at))))
        .collect();
    if !times.is_empty() {
        lines.push(format!("  since the start {}", times.join(", ")));
    }
    if let Some((stats, codec)) = ending
        .stats
        .as_ref()
        .and_then(|stats| Some((stats, stats.codec?)))
    {
        lines.push(format!(
            "  audio           {codec}, {} packets out, {} in, loss {:.2} %, jitter {:.1} ms{}",
            stats.transport.packets_sent,
            stats.transport.packets_received,
            stats.loss * 100.0,
            millis(stats.jitter),
            stats
                .round_trip
                .map_or_else(String::new, |rtt| format!(", round trip {:.1} ms", millis(rtt))),
        ));
        if stats.packets_expected > 0 {
            lines.push(format!(
                "  MOS             {:.2} (R {:.0})",
                stats.mos, stats.r_factor
            ));
        }
    }
    lines.join("\n")
}
