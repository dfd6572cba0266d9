//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand};
use siprtc::gateway::MediaPlan;
use siprtc::media_session::{Sink, Source, VideoPlan, VideoSink, VideoSource};
use siprtc::{Config, Layers, sound};
use siprtc_core::Result;
use siprtc_core::media::Direction;
use std::path::PathBuf;

/// A native endpoint that fuses a WebRTC PeerConnection with SIP inside the client.
#[derive(Debug, Parser)]
#[command(name = "siprtc", version, after_help = crate::exit::HELP)]
pub(crate) struct Args {
    /// A TOML file over the defaults (config/default.toml); may be given several times, a later one wins
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// One key over files and environment, such as ice.policy=relay
    #[arg(long, short, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// One JSON object per line on standard output, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// More log on standard error: -v info, -vv debug, -vvv trace (log.filter gives finer control)
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Wait for calls and answer them; make those that others ask for (call.referrals)
    Answer(AnswerArgs),
    /// Draw what a call does: the gateway's table as an automaton
    Automaton(AutomatonArgs),
    /// Call two parties and join them: each hears the other
    Bridge(BridgeArgs),
    /// Call a SIP URI, or a user of the account's domain
    Call(CallArgs),
    /// Say how alike two recordings are: what was played, and what was heard
    Compare(CompareArgs),
    /// The microphones and loudspeakers of this machine
    Devices,
    /// Home server, Alice and Bob in one process: a whole call, checked by ear
    Demo(DemoArgs),
    /// Ask somebody, without a call, to call somebody (click-to-dial), and say how it goes
    Refer(ReferArgs),
    /// Register the account, say how it went, unregister
    Register(RegisterArgs),
    /// The embedded home server alone: SIP registrar and proxy, STUN and TURN
    ServeHome,
    /// Run every pair of the ICE agents of this build behind every pair of NATs, in virtual time
    Ice,
    /// Session descriptions: why the translator changes them, what a peer would refuse, an answer, and what each needs
    #[command(subcommand)]
    Sdp(SdpCommand),
    /// Run the conformance scenarios on every SIP stack of this build, and on every pair of them
    Stacks(StacksArgs),
    /// Subscribe to somebody's events (waiting messages, calls, presence) and say what comes
    Subscribe(SubscribeArgs),
    /// STUN and TURN for others, over UDP, TCP and TLS
    Turn,
}

/// How the automaton is drawn; `--json` for programs.
#[derive(ClapArgs, Debug)]
pub(crate) struct AutomatonArgs {
    /// As SVG: what is done when nothing else is asked for
    #[arg(long, conflicts_with_all = ["dot", "json"])]
    svg: bool,
    /// For Graphviz
    #[arg(long, conflicts_with = "json")]
    pub(crate) dot: bool,
    /// Where to write it; else on standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// What a call plays and records.
#[derive(ClapArgs, Debug)]
pub(crate) struct MediaArgs {
    /// A WAV file to play; silence follows it
    #[arg(long, value_name = "WAV", conflicts_with = "tone")]
    play: Option<PathBuf>,
    /// Begin the WAV file anew when it is over
    #[arg(long, requires = "play")]
    repeat: bool,
    /// A sine tone to send
    #[arg(long, value_name = "HZ", conflicts_with = "mic")]
    tone: Option<f32>,
    /// Send what a microphone hears: the default one, or one that `siprtc devices` lists
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, default_missing_value = "default", conflicts_with = "play")]
    mic: Option<String>,
    /// Where to record what is heard, as WAV
    #[arg(long, value_name = "WAV", conflicts_with = "speaker")]
    pub(crate) record: Option<PathBuf>,
    /// Play what is heard over a loudspeaker: the default one, or one that `siprtc devices` lists
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, default_missing_value = "default")]
    speaker: Option<String>,
    /// A video to show: IVF with VP8 or VP9, or an H.264 byte stream of 30 pictures a second
    #[arg(long, value_name = "FILE")]
    show: Option<PathBuf>,
    /// Begin the video anew when it is over
    #[arg(long, requires = "show")]
    repeat_show: bool,
    /// Where to record what is seen: IVF for VP8 and VP9, a byte stream for H.264
    #[arg(long, value_name = "FILE")]
    record_video: Option<PathBuf>,
}

impl MediaArgs {
    /// Opens the sound card, if one is wanted.
    pub(crate) async fn plan(&self) -> Result<MediaPlan> {
        let source = match (&self.play, self.tone, &self.mic) {
            (Some(path), ..) => Source::File {
                path: path.clone(),
                repeat: self.repeat,
            },
            (None, Some(hz), _) => Source::Tone {
                hz,
                level_dbfs: -12.0,
            },
            (None, None, Some(device)) => sound::microphone(device).await?,
            (None, None, None) => Source::Silence,
        };
        let sink = match (&self.record, &self.speaker) {
            (Some(path), _) => Sink::File { path: path.clone() },
            (None, Some(device)) => sound::loudspeaker(device).await?,
            (None, None) => Sink::Null,
        };
        Ok(MediaPlan {
            source,
            sink,
            video: self.video(),
            ..MediaPlan::default()
        })
    }

    fn video(&self) -> Option<VideoPlan> {
        if self.show.is_none() && self.record_video.is_none() {
            return None;
        }
        let (source, direction) = match self.show.clone() {
            Some(path) => {
                let repeat = self.repeat_show;
                (VideoSource::File { path, repeat }, Direction::SendRecv)
            }
            None => (VideoSource::None, Direction::RecvOnly),
        };
        let sink = match self.record_video.clone() {
            Some(path) => VideoSink::File { path },
            None => VideoSink::Null,
        };
        Some(VideoPlan {
            direction,
            ..VideoPlan::new(source, sink)
        })
    }

    /// Whether the call is over when the file is.
    pub(crate) fn ends(&self) -> bool {
        self.play.is_some() && !self.repeat
    }

    /// Whether the call is over when the video is: nothing else says when.
    pub(crate) fn ends_with_video(&self) -> bool {
        self.play.is_none() && self.show.is_some() && !self.repeat_show
    }
}

#[derive(ClapArgs, Debug)]
pub(crate) struct CallArgs {
    /// sip:bob@example.com, or bob
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) media: MediaArgs,
    /// Hang up this many seconds after the call is confirmed; without it a file's end, or Ctrl-C, ends the call
    #[arg(long, value_name = "S")]
    pub(crate) duration: Option<f64>,
    /// A header field for the INVITE, such as "X-Order: 17"; may be given several times
    #[arg(long = "header", value_name = "FIELD")]
    pub(crate) headers: Vec<String>,
    /// Do not tell the callee who calls
    #[arg(long)]
    pub(crate) anonymous: bool,
    /// DTMF digits to send once the call is confirmed
    #[arg(long, value_name = "DIGITS")]
    pub(crate) dtmf: Option<String>,
    /// Obey standard input during the call, a line each: hold, hold playing, resume, mute, unmute, dtmf DIGITS, codecs NAME ..., show FILE, show nothing, say TEXT, transfer URI, consult URI,
    /// transfer (to who is consulted), accept, refuse, hangup
    #[arg(long)]
    pub(crate) control: bool,
    /// Write the call's ladder as SVG
    #[arg(long, value_name = "SVG")]
    pub(crate) ladder: Option<PathBuf>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct AnswerArgs {
    #[command(flatten)]
    pub(crate) media: MediaArgs,
    /// Stop after this many calls, made or answered; without it, Ctrl-C stops
    #[arg(long, value_name = "N")]
    pub(crate) calls: Option<usize>,
    /// Hang up this many seconds after a call is confirmed
    #[arg(long, value_name = "S")]
    pub(crate) duration: Option<f64>,
    /// Let it ring this many seconds before answering
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub(crate) ring: f64,
    /// Be heard this many seconds before answering (183): an announcement. With --refuse the call is refused after it
    #[arg(long, value_name = "S", conflicts_with = "forward")]
    pub(crate) early: Option<f64>,
    /// Refuse every call with this status (486 is busy here)
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(400..700))]
    pub(crate) refuse: Option<u16>,
    /// What those are told who watch this endpoint: presence=here.xml (RFC 3863), message-summary=box.txt (RFC 3842); several may be given.
    /// call.notifies names what may be watched, call.watchers by whom
    #[arg(long, value_name = "EVENT=FILE", value_parser = told)]
    pub(crate) tell: Vec<(String, PathBuf)>,
    /// Send every caller elsewhere (302)
    #[arg(long, value_name = "URI", conflicts_with = "refuse")]
    pub(crate) forward: Option<String>,
    /// Obey standard input during the call, a line each: hold, hold playing, resume, mute, unmute, dtmf DIGITS, codecs NAME ..., show FILE, show nothing, say TEXT, transfer URI, consult URI,
    /// transfer (to who is consulted), accept, refuse, hangup
    #[arg(long)]
    pub(crate) control: bool,
    /// Write the last call's ladder as SVG
    #[arg(long, value_name = "SVG")]
    pub(crate) ladder: Option<PathBuf>,
}

fn told(word: &str) -> Result<(String, PathBuf), String> {
    let pair = word.split_once('=').filter(|(_, file)| !file.is_empty());
    pair.map(|(event, file)| (event.to_owned(), file.into()))
        .ok_or_else(|| "write an event package and a file, such as presence=here.xml".to_owned())
}

#[derive(ClapArgs, Debug)]
pub(crate) struct BridgeArgs {
    /// sip:bob@example.com, or bob
    pub(crate) first: String,
    /// Whom they talk to
    pub(crate) second: String,
    /// Where to record both, as WAV in stereo: the second on the left, the first on the right
    #[arg(long, value_name = "WAV")]
    pub(crate) record: Option<PathBuf>,
    /// Hang both up this many seconds after they are joined; without it either's end, or Ctrl-C, ends it
    #[arg(long, value_name = "S")]
    pub(crate) duration: Option<f64>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ReferArgs {
    /// Who is asked: sip:desk@example.com, or desk
    pub(crate) target: String,
    /// Whom they shall call; with ?Replaces= in whose place
    pub(crate) to: String,
    /// A header field for the REFER, such as "X-Order: 17"; may be given several times
    #[arg(long = "header", value_name = "FIELD")]
    pub(crate) headers: Vec<String>,
    /// How it goes need not be told (RFC 4488)
    #[arg(long)]
    pub(crate) untold: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct SubscribeArgs {
    /// sip:alice@example.com, or alice
    pub(crate) target: String,
    /// message-summary, dialog or presence
    #[arg(long, value_name = "PACKAGE", default_value = "message-summary")]
    pub(crate) event: String,
    /// Take leave after this many seconds; without it, Ctrl-C does
    #[arg(long, value_name = "S")]
    pub(crate) duration: Option<f64>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct CompareArgs {
    /// What was played
    pub(crate) played: PathBuf,
    /// What was heard
    pub(crate) heard: PathBuf,
    /// The least correlation that counts as the same
    #[arg(long, default_value_t = crate::compare::ENOUGH)]
    pub(crate) least: f64,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct DemoArgs {
    /// The WAV that Alice plays; without it, four seconds of a made-up song
    #[arg(long, value_name = "WAV")]
    pub(crate) play: Option<PathBuf>,
    /// Where Alice's WAV, Bob's recording and the ladder are written
    #[arg(long, value_name = "FOLDER", default_value = "siprtc-demo")]
    pub(crate) out: PathBuf,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct RegisterArgs {
    /// Stay registered this many seconds, 0 is for ever
    #[arg(long, value_name = "S")]
    pub(crate) hold: Option<f64>,
    /// Give up after this many seconds
    #[arg(long, value_name = "S", default_value_t = 35.0)]
    pub(crate) wait: f64,
}

/// What to do with a session description.
#[derive(Debug, Subcommand)]
pub(crate) enum SdpCommand {
    /// The least answer to an offer, without an engine (RFC 3264 section 6)
    Answer(SdpAnswerArgs),
    /// Translate, and say of each change which rule made it, why, and whether the peer needs it
    Explain(SdpExplainArgs),
    /// What a reader would refuse or misread, and why
    Lint(SdpLintArgs),
}

/// Who reads a description.
#[derive(ClapArgs, Debug)]
pub(crate) struct PeerArgs {
    /// The reader: asterisk, baresip, chrome, cisco, firefox, freeswitch, kamailio, teams, twilio, yealink ..., or a profile's file
    #[arg(long, value_name = "PEER")]
    pub(crate) peer: Option<String>,
    /// A folder with profiles of your own
    #[arg(long, value_name = "FOLDER", requires = "peer")]
    pub(crate) peers: Option<PathBuf>,
}

/// Which side a translation is for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Reader {
    /// Ours, to the wire
    Sip,
    /// The peer's, to our engine
    Webrtc,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct SdpExplainArgs {
    /// The description; - is standard input
    pub(crate) file: PathBuf,
    /// Which way it goes
    #[arg(long, value_enum, default_value = "sip")]
    pub(crate) to: Reader,
    /// The description is an answer to this offer
    #[arg(long, value_name = "FILE")]
    pub(crate) offer: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct SdpLintArgs {
    /// The description; - is standard input
    pub(crate) file: PathBuf,
    /// The description is an answer to this offer
    #[arg(long, value_name = "FILE")]
    pub(crate) offer: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct SdpAnswerArgs {
    /// The offer; - is standard input
    pub(crate) file: PathBuf,
    /// Where the answer says that it receives; without it an address of documentation, of the offer's family
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<std::net::IpAddr>,
    /// The same, the port
    #[arg(long, value_name = "PORT", default_value_t = 40_000)]
    pub(crate) port: u16,
    /// Encodings as in a=rtpmap, each with what a=fmtp says of us behind a blank
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "opus/48000/2 minptime=10;useinbandfec=1,G722/8000,PCMU/8000,PCMA/8000,telephone-event/8000 0-16,telephone-event/48000 0-16"
    )]
    pub(crate) codecs: Vec<String>,
    /// The same of video, two ports further; none: video is rejected
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) video: Vec<String>,
    /// The certificate's fingerprint, as in a=fingerprint, where keys come by DTLS; without it one is made up, of no certificate
    #[arg(long, value_name = "HASH")]
    pub(crate) fingerprint: Option<String>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct StacksArgs {
    /// Only this stack: alone, with itself, and with every other
    #[arg(long, value_name = "STACK")]
    pub(crate) only: Option<String>,
    /// Only scenarios whose name contains this
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Option<String>,
}

impl Args {
    /// Defaults, files, environment, `--set`, `-v`. The demo is self-contained: no environment may break it.
    pub(crate) fn config(&self, self_contained: bool) -> Result<Config> {
        let mut layers = Layers::new();
        if !self_contained {
            layers = layers.environment();
        }
        for path in &self.config {
            layers = layers.file(path);
        }
        match self.verbose {
            0 => {}
            1 => {
                layers = layers.set(
                    "log.filter",
                    "info,ezk_sip_core=error,rtc=error,stun_types=error,stun_proto=off,turn_client_proto=error,webrtc=error",
                )
            }
            2 => {
                layers = layers.set(
                    "log.filter",
                    "debug,ezk_sip_core=info,h2=info,rtc=info,stun_types=info,webrtc=info",
                )
            }
            _ => layers = layers.set("log.filter", "trace,h2=info"),
        }
        for setting in &self.set {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            layers = layers.set(key.trim(), value.trim());
        }
        layers.load()
    }
}
