//! A call of a media session over the engine, with a telephone that is a socket and says what it likes.

use actix::{Actor, Addr, Context, Handler};
use rtc_srtp::context::Context as Srtp;
use rtc_srtp::crypto::default_provider;
use rtc_srtp::protection_profile::ProtectionProfile;
use siprtc_core::CallId;
use siprtc_core::ice::{IceConfig, IcePolicy};
use siprtc_core::media::{Codec, Direction, NegotiatedAudio};
use siprtc_media_rtp::RtpConfig;
use siprtc_media_session::{
    AnswerOffer, AudioSink, Begin, Close, MediaSession, SessionConfig, SessionEvent, SessionEventKind,
    SessionStats, Sink, Snapshot, Source,
};
use siprtc_nat_agent::NatConfig;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

/// Samples of a packet of 20 ms.
const FRAME: usize = 160;
/// Before anything bad is sent, and after it.
const BEFORE: u16 = 20;
const AFTER: u16 = 70;
/// What is judged of what was said afterwards: from its first jitter on to before the end.
const JUDGED: std::ops::Range<usize> = 15 * FRAME..60 * FRAME;
/// Each is looked for by itself, and the median counts: a machine that stands still for a moment moves what comes after.
const PIECE: usize = 10 * FRAME;
/// The telephone's stream.
pub(crate) const SSRC: u32 = 0x5151_5151;

pub(crate) const KEY: [u8; 16] = [0x42; 16];
const SALT: [u8; 14] = [0x17; 14];
/// KEY and SALT in base 64.
const INLINE: &str = "QkJCQkJCQkJCQkJCQkJCQhcXFxcXFxcXFxcXFxcX";

struct Collector(Arc<Mutex<Vec<SessionEventKind>>>);

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<SessionEvent> for Collector {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        self.0.lock().unwrap().push(event.kind);
    }
}

#[derive(Default)]
struct Ear(Mutex<Vec<i16>>);

impl AudioSink for Ear {
    fn write(&self, _: u32, frame: &[i16]) {
        self.0.lock().unwrap().extend(frame);
    }
}

/// See the module.
pub(crate) struct Call {
    pub(crate) socket: UdpSocket,
    /// The session's.
    pub(crate) to: SocketAddr,
    /// `None`: nothing is encrypted.
    srtp: Option<Srtp>,
    session: Addr<MediaSession>,
    told: Arc<Mutex<Vec<SessionEventKind>>>,
    ear: Arc<Ear>,
    /// Of the next packet.
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    random: u32,
}

pub(crate) fn context(key: &[u8; 16]) -> Srtp {
    let provider = default_provider().unwrap();
    let profile = ProtectionProfile::Aes128CmHmacSha1_80;
    Srtp::new(key, &SALT, profile, None, None, provider.crypto()).unwrap()
}

impl Call {
    pub(crate) async fn new(is_encrypted: bool) -> Call {
        Call::latching(is_encrypted, true).await
    }

    /// `is_reached`: the telephone says where it is; else its description names a port where nobody is.
    pub(crate) async fn latching(is_encrypted: bool, is_reached: bool) -> Call {
        let nat = NatConfig {
            agent: Some(siprtc_ice_is::factory()),
            ..NatConfig::default()
        };
        let told = Arc::default();
        let ear = Arc::new(Ear::default());
        let config = SessionConfig {
            call: CallId::fresh(),
            engine: siprtc_media_rtp::engine(RtpConfig {
                comfort_noise: true,
                ..RtpConfig::default()
            }),
            runtime: tokio::runtime::Handle::current(),
            ice: IceConfig {
                bind: vec!["127.0.0.1:0".parse().unwrap()],
                policy: IcePolicy::All,
                gather_budget: Duration::ZERO,
                paths: siprtc_nat_agent::paths(&nat),
                ..IceConfig::default()
            },
            codecs: vec![Codec::Pcmu],
            source: Source::Tone {
                hz: 440.0,
                level_dbfs: -20.0,
            },
            sink: Sink::Samples(Arc::clone(&ear) as Arc<dyn AudioSink>),
            direction: Direction::SendRecv,
            ptime: 20,
            video: None,
            heard: None,
        };
        let collector = Collector(Arc::clone(&told)).start();
        let session = MediaSession::new(config, collector.recipient()).start();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = match is_reached {
            true => socket.local_addr().unwrap().port(),
            false => 9,
        };
        let (profile, crypto) = match is_encrypted {
            true => (
                "RTP/SAVP",
                format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}\r\n"),
            ),
            false => ("RTP/AVP", String::new()),
        };
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} {profile} 0 13 101\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=rtcp-mux\r\n{crypto}"
        );
        let answer = session.send(AnswerOffer { sdp: offer }).await.unwrap().unwrap();
        let audio = NegotiatedAudio {
            telephone_event: Some((101, 8_000)),
            ..NegotiatedAudio::of(Codec::Pcmu)
        };
        session.send(Begin { audio, video: None }).await.unwrap().unwrap();
        let line = answer.lines().find(|line| line.starts_with("m=audio ")).unwrap();
        let port: u16 = line.split(' ').nth(1).unwrap().parse().unwrap();
        Call {
            socket,
            to: SocketAddr::from(([127, 0, 0, 1], port)),
            srtp: is_encrypted.then(|| context(&KEY)),
            session,
            told,
            ear,
            sequence: 65_500,
            timestamp: 1_000,
            ssrc: SSRC,
            random: 0x1234_5678,
        }
    }

    /// Noise with the loudness of syllables: like nothing but itself.
    fn voice(&mut self) -> Vec<i16> {
        let loudness = 1_000 + 5_000 * ((self.timestamp / 800) % 3) as i32;
        let mut before = 0;
        let sample = |_| {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 17;
            self.random ^= self.random << 5;
            before = (before + (self.random >> 16) as i32 % (2 * loudness) - loudness) / 2;
            before as i16
        };
        (0..FRAME).map(sample).collect()
    }

    /// The next packet of the stream in the clear, with this payload.
    pub(crate) fn packet(&mut self, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
        packet
    }

    /// As it goes over the wire.
    pub(crate) fn sealed(&mut self, packet: &[u8]) -> Vec<u8> {
        match &mut self.srtp {
            Some(ours) => {
                // The library's reader makes another size of an extension that is odd.
                let read = siprtc_rtp::Header::read(packet).unwrap();
                let mut header = rtc_rtp::Header {
                    version: 2,
                    ssrc: read.ssrc,
                    sequence_number: read.sequence,
                    csrc: vec![0; read.sources.into()],
                    extension: read.extension.is_some(),
                    ..rtc_rtp::Header::default()
                };
                header
                    .extensions
                    .extend(read.extension.map(|content| rtc_rtp::header::Extension {
                        id: 0,
                        payload: packet[content].to_vec().into(),
                    }));
                ours.encrypt_rtp_with_header(packet, &header).unwrap().to_vec()
            }
            None => packet.to_vec(),
        }
    }

    pub(crate) fn sealed_rtcp(&mut self, packet: &[u8]) -> Vec<u8> {
        match &mut self.srtp {
            Some(ours) => ours.encrypt_rtcp(packet).unwrap().to_vec(),
            None => packet.to_vec(),
        }
    }

    pub(crate) async fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.to).await.unwrap();
    }

    /// Speaks for so many packets; what was said. `form` makes of a packet in the clear what goes out, before it is encrypted.
    pub(crate) async fn speak_in(
        &mut self,
        packets: u16,
        form: impl Fn(u16, Vec<u8>) -> Vec<u8>,
    ) -> Vec<i16> {
        let mut said = Vec::new();
        let begin = Instant::now();
        for number in 0..packets {
            let samples = self.voice();
            let payload: Vec<u8> = samples.iter().map(|sample| mulaw(*sample)).collect();
            said.extend(samples);
            let packet = self.packet(0, &payload);
            let packet = self.sealed(&form(number, packet));
            self.send(&packet).await;
            sleep_until(begin + Duration::from_millis(20) * u32::from(number + 1)).await;
        }
        said
    }

    pub(crate) async fn speak(&mut self, packets: u16) -> Vec<i16> {
        self.speak_in(packets, |_, packet| packet).await
    }

    pub(crate) async fn begin(&mut self) {
        self.speak(BEFORE).await;
    }

    /// Speaks on, and says how much of it was heard as it was said; and how the call fared.
    pub(crate) async fn end(mut self) -> (f64, SessionStats, Vec<SessionEventKind>) {
        let said = self.speak(AFTER).await;
        self.judge(&said).await
    }

    pub(crate) async fn judge(self, said: &[i16]) -> (f64, SessionStats, Vec<SessionEventKind>) {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let stats = self.session.send(Close).await.unwrap().unwrap();
        let heard = self.ear.0.lock().unwrap().clone();
        let told = self.told.lock().unwrap().clone();
        let mut pieces: Vec<f64> = said[JUDGED]
            .chunks(PIECE)
            .map(|piece| likeness(piece, &heard))
            .collect();
        pieces.sort_by(f64::total_cmp);
        (pieces[pieces.len() / 2], stats, told)
    }

    pub(crate) async fn stats(&self) -> SessionStats {
        self.session.send(Snapshot).await.unwrap().unwrap()
    }

    /// What the session sends until nothing has come for a moment; the packet that was sealed in the clear.
    pub(crate) async fn hear(&mut self) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        let mut buffer = [0; 2_048];
        while let Ok(length) = self.socket.try_recv(&mut buffer) {
            heard.push(buffer[..length].to_vec());
        }
        heard
    }
}

/// The highest normalised correlation of what was said with any piece of what was heard.
fn likeness(said: &[i16], heard: &[i16]) -> f64 {
    let alike = |heard: &[i16], step: usize| {
        let (mut cross, mut power, mut other) = (0.0, 1e-9, 1e-9);
        for (a, b) in said.iter().zip(heard).step_by(step) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            cross += a * b;
            power += a * a;
            other += b * b;
        }
        cross / f64::sqrt(power * other)
    };
    (0..heard.len().saturating_sub(said.len() - 1))
        .map(|offset| (offset, alike(&heard[offset..], 7)))
        .filter(|(_, rough)| *rough > 0.4)
        .map(|(offset, _)| alike(&heard[offset..], 1))
        .fold(0.0, f64::max)
}

/// ITU-T G.711.
pub(crate) fn mulaw(sample: i16) -> u8 {
    let (sign, magnitude) = match sample < 0 {
        true => (0x80, -i32::from(sample)),
        false => (0, i32::from(sample)),
    };
    let magnitude = magnitude.min(32_635) + 132;
    let exponent = 31 - magnitude.leading_zeros() as i32 - 7;
    let mantissa = magnitude >> (exponent + 3) & 0x0f;
    !(sign | exponent << 4 | mantissa) as u8
}
