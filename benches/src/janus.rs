//! Janus and its SIP plugin (Debian package janus), and a WebRTC peer in the place of a browser.

use crate::children::{ADDRESS, Folder, Program, failed};
use serde_json::{Value, json};
use siprtc::nat_agent::{self, NatConfig};
use siprtc::registry;
use siprtc_core::Result;
use siprtc_core::ice::{IceConfig, IcePolicy};
use siprtc_core::media::{
    Codec, MediaEngine, MediaEvent, MediaPeer, PacketSink, PeerConfig, RtpPacket, SdpKind,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

const API: &str = "127.0.0.1:8088";
const PATIENCE: Duration = Duration::from_secs(20);

/// One plugin and one transport, as somebody would run it for this alone.
const CONFIG: &str = r#"general: {
    configs_folder = "@RUN@"
    session_timeout = 0
    debug_level = 3
    debug_colors = false
}
media: { ipv6 = false }
plugins: { disable = "libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_nosip.so,libjanus_recordplay.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_videoroom.so,libjanus_voicemail.so" }
transports: { disable = "libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so,libjanus_websockets.so" }
events: { broadcast = false }
"#;
const HTTP: &str = "general: { json = \"compact\" base_path = \"/janus\" http = true port = 8088 ip = \"127.0.0.1\" https = false }\nadmin: { admin_http = false }\n";
const SIP: &str =
    "general: { local_ip = \"@ADDRESS@\" behind_nat = false rtp_port_range = \"20000-40000\" }\n";

pub(crate) async fn start(folder: &Folder) -> Result<Program> {
    let run = folder.path().to_string_lossy();
    for (name, text) in [
        ("janus.jcfg", CONFIG),
        ("janus.transport.http.jcfg", HTTP),
        ("janus.plugin.sip.jcfg", SIP),
    ] {
        let text = text.replace("@RUN@", &run).replace("@ADDRESS@", ADDRESS);
        std::fs::write(folder.path().join(name), text)
            .map_err(|error| failed("start Janus", "its configuration cannot be written").caused_by(error))?;
    }
    let command = format!("ulimit -n $(ulimit -Hn); exec janus -C {run}/janus.jcfg -F {run}");
    let program = Program::start(folder.path(), "janus", "sh", &["-c", &command])?;
    for _ in 0..100 {
        if request("GET", "/janus/info", None).await.is_ok() {
            return Ok(program);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(failed("start Janus", "its HTTP API does not answer")
        .advice("install Debian's janus; its log says more"))
}

/// A call: the browser's peer, which sends a packet every 20 ms, and its place at Janus.
pub(crate) struct WebCall {
    peer: Arc<dyn MediaPeer>,
    path: String,
    sending: JoinHandle<()>,
}

struct Nowhere;

impl PacketSink for Nowhere {
    fn push(&self, _: RtpPacket) {}
}

impl WebCall {
    /// Calls `target` through Janus; returns when DTLS is up.
    pub(crate) async fn dial(engine: &Arc<dyn MediaEngine>, target: &str) -> Result<Self> {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let name = NAMES.fetch_add(1, Relaxed);
        let (up, mut is_up) = watch::channel(false);
        let peer = engine
            .create_peer(PeerConfig {
                ice: IceConfig {
                    bind: vec![
                        format!("{ADDRESS}:0")
                            .parse()
                            .map_err(|_| failed("call", "no address"))?,
                    ],
                    servers: Vec::new(),
                    policy: IcePolicy::All,
                    gather_budget: Duration::from_millis(200),
                    paths: nat_agent::paths(&NatConfig {
                        agent: registry::ice_agents().into_iter().next(),
                        ..NatConfig::default()
                    }),
                },
                codecs: vec![Codec::Pcmu],
                remote_offer: None,
                heard: None,
                video: None,
                packets: Arc::new(Nowhere),
                events: Arc::new(move |event| {
                    if matches!(event, MediaEvent::Connected) {
                        up.send_replace(true);
                    }
                }),
            })
            .await?;
        let offer = peer.create_offer().await?;
        let offer = peer.set_local(SdpKind::Offer, &offer).await?;
        let session = created(&ask("/janus", json!({ "janus": "create" })).await?)?;
        let path = format!("/janus/{session}");
        let attach = json!({ "janus": "attach", "plugin": "janus.plugin.sip" });
        let handle = format!("{path}/{}", created(&ask(&path, attach).await?)?);
        let register = json!({
            "request": "register", "type": "guest", "username": format!("sip:bench{name}@{ADDRESS}"),
        });
        ask(&handle, json!({ "janus": "message", "body": register })).await?;
        event(&path, "registered").await?;
        let call = json!({ "request": "call", "uri": target });
        let jsep = json!({ "type": "offer", "sdp": offer });
        ask(&handle, json!({ "janus": "message", "body": call, "jsep": jsep })).await?;
        let answer = event(&path, "accepted").await?;
        peer.set_remote(SdpKind::Answer, &answer).await?;
        timeout(PATIENCE, is_up.wait_for(|up| *up))
            .await
            .map_err(|_| failed("call through Janus", "DTLS does not come up"))?
            .map_err(|_| failed("call through Janus", "the peer is gone"))?;
        let sending = tokio::spawn(send(Arc::clone(&peer)));
        Ok(WebCall { peer, path, sending })
    }

    pub(crate) async fn end(self) {
        self.sending.abort();
        // Janus hangs up what its session had.
        drop(ask(&self.path, json!({ "janus": "destroy" })).await);
        self.peer.close().await;
    }
}

async fn send(peer: Arc<dyn MediaPeer>) {
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0u32.. {
        ticks.tick().await;
        let packet = RtpPacket {
            payload_type: 0,
            marker: number == 0,
            sequence: number as u16,
            timestamp: number.wrapping_mul(160),
            ssrc: 0,
            payload: bytes::Bytes::new(),
        };
        // One that is not sent was counted as sent, and is lost.
        drop(peer.send(packet).await);
    }
}

fn created(answer: &Value) -> Result<u64> {
    answer["data"]["id"]
        .as_u64()
        .ok_or_else(|| failed("ask Janus", format!("no id in {answer}")))
}

async fn ask(path: &str, mut body: Value) -> Result<Value> {
    body["transaction"] = json!("bench");
    let answer = request("POST", path, Some(&body)).await?;
    match answer["janus"].as_str() {
        Some("success" | "ack") => Ok(answer),
        _ => Err(failed("ask Janus", format!("{path}: {answer}"))),
    }
}

/// Waits for an event of the plugin's; gives the description that came with it, or before it.
async fn event(path: &str, wanted: &str) -> Result<String> {
    let mut sdp = String::new();
    let waiting = async {
        loop {
            let event = request("GET", &format!("{path}?maxev=1"), None).await?;
            if let Some(description) = event["jsep"]["sdp"].as_str() {
                description.clone_into(&mut sdp);
            }
            match event["plugindata"]["data"]["result"]["event"].as_str() {
                Some(name) if name == wanted => return Ok(sdp),
                Some("hangup" | "registration_failed") => {
                    return Err(failed("call through Janus", event.to_string()));
                }
                _ => {}
            }
        }
    };
    let late = |_| failed("call through Janus", format!("it does not say {wanted:?}"));
    timeout(PATIENCE, waiting).await.map_err(late)?
}

/// HTTP/1.1, a connection for each.
async fn request(method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let broken = |error: std::io::Error| failed("ask Janus", "its HTTP API is not there").caused_by(error);
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(API).await.map_err(broken)?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {API}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(broken)?;
    let answer = String::from_utf8_lossy(&answer);
    let (begin, end) = (answer.find('{'), answer.rfind('}'));
    let text = match (begin, end) {
        (Some(begin), Some(end)) => answer.get(begin..=end).unwrap_or_default(),
        _ => "",
    };
    serde_json::from_str(text)
        .map_err(|error| failed("ask Janus", format!("unreadable: {answer:?}")).caused_by(error))
}
