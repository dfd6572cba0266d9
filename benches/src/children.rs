//! The programs that the contest takes place between: Kamailio, baresip, tcpdump.

use siprtc_core::{Error, Fault, Result};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where everything in the contest's namespace binds.
pub(crate) const ADDRESS: &str = "203.0.113.1";
/// The contest's SIP domain, at Kamailio.
pub(crate) const DOMAIN: &str = "siprtc.test";
pub(crate) const PASSWORD: &str = "secret";

const KAMAILIO: &str = include_str!("../kamailio.cfg");

pub(crate) fn failed(operation: &'static str, what: impl Into<String>) -> Error {
    Error::new(Fault::Backend, operation, what)
}

/// Where the peers of one measurement write; removed at its end, unless `SIPRTC_BENCHES_KEEP` is set.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("siprtc-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| failed("measure", "no folder").caused_by(error))?;
        Ok(Folder(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("SIPRTC_BENCHES_KEEP").is_none() {
            drop(fs::remove_dir_all(&self.0));
        }
    }
}

/// A program that is told to end when this is dropped; also when this process dies.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    pub(crate) fn start(folder: &Path, name: &str, program: &str, arguments: &[&str]) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let start = || {
            let output = File::create(&log)?;
            Command::new("setpriv")
                .args(["--pdeathsig", "TERM", "--", program])
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                .spawn()
        };
        let child = start()
            .map_err(|error| failed("start a peer", format!("{program} does not start")).caused_by(error))?;
        Ok(Program { child, log })
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its log has `text`.
    pub(crate) async fn says(&mut self, text: &str) -> Result<()> {
        for _ in 0..100 {
            let log = fs::read(&self.log).unwrap_or_default();
            if String::from_utf8_lossy(&log).contains(text) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.silent(text, &format!("it ended with {status}")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(self.silent(text, "10 s went by"))
    }

    fn silent(&self, text: &str, why: &str) -> Error {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let last: Vec<&str> = log.lines().rev().take(8).collect();
        failed(
            "wait for a peer",
            format!(
                "{} never said {text:?}: {why}; its last lines: {last:?}",
                self.log.display()
            ),
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        drop(Command::new("kill").args(["-TERM", &id]).status());
        drop(self.child.wait());
    }
}

/// Starts Kamailio with a registrar's and proxy's configuration.
pub(crate) async fn kamailio(folder: &Path) -> Result<Program> {
    let path = folder.join("kamailio.cfg");
    let run = folder.to_string_lossy();
    fs::write(&path, KAMAILIO.replace("@RUN@", &run))
        .map_err(|error| failed("start Kamailio", "its configuration cannot be written").caused_by(error))?;
    let path = path.to_string_lossy();
    let arguments = ["-DD", "-E", "-f", &path, "-Y", &run, "-m", "64", "-M", "8"];
    let mut program = Program::start(folder, "kamailio", "kamailio", &arguments)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    match program.child.try_wait() {
        Ok(None) => Ok(program),
        _ => Err(program.silent("that it is ready", "it ended")),
    }
}

/// Starts a capture of everything in the namespace, the first octets of each packet.
pub(crate) async fn tcpdump(folder: &Path) -> Result<(Program, PathBuf)> {
    let file = folder.join("wire.pcap");
    let path = file.to_string_lossy();
    let arguments = [
        "-i", "lo", "-Z", "root", "-n", "-U", "-B", "16384", "-s", "128", "-w", &path, "udp",
    ];
    let mut program = Program::start(folder, "tcpdump", "tcpdump", &arguments)?;
    program.says("listening on").await?;
    Ok((program, file))
}

/// A baresip with ICE and DTLS-SRTP, remote-controlled.
pub(crate) struct Baresip {
    control: TcpStream,
    _program: Program,
}

impl Baresip {
    /// Starts one and waits until it is registered. One that `answers` takes every call at once.
    pub(crate) async fn start(folder: &Path, name: &str, control: u16, answers: bool) -> Result<Self> {
        let own = folder.join(name);
        write_configuration(&own, name, control, answers).map_err(|error| {
            failed("start baresip", "its configuration cannot be written").caused_by(error)
        })?;
        let mut program = Program::start(folder, name, "baresip", &["-f", &own.to_string_lossy(), "-v"])?;
        program.says("200 OK").await?;
        let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], control))).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        let control = stream
            .map_err(|error| failed("start baresip", "its control port does not answer").caused_by(error))?;
        Ok(Baresip {
            control,
            _program: program,
        })
    }

    /// Runs a command of its menu, as a netstring with JSON (module ctrl_tcp).
    pub(crate) fn command(&mut self, command: &str, parameters: &str) -> Result<()> {
        // Events that nobody reads would fill the connection.
        let mut events = [0; 65_536];
        while self.control.read(&mut events).is_ok_and(|octets| octets > 0) {}
        let json =
            serde_json::json!({ "command": command, "params": parameters, "token": "bench" }).to_string();
        let written = self
            .control
            .write_all(format!("{}:{json},", json.len()).as_bytes());
        written
            .map_err(|error| failed("control baresip", format!("{command} cannot be told")).caused_by(error))
    }
}

fn write_configuration(folder: &Path, name: &str, control: u16, answers: bool) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let tone = folder.join("tone.wav");
    write_silence(&tone)?;
    let tone = tone.display();
    let mut text = format!(
        "poll_method epoll\nsip_listen {ADDRESS}:0\ncall_max_calls 4\naudio_path /usr/share/baresip\n\
         audio_source aufile,{tone}\naudio_player none,\naudio_alert none,\nausrc_srate 48000\nauplay_srate 48000\n\
         ausrc_channels 1\nauplay_channels 1\naudio_level no\nrtp_ports 20000-29999\nrtcp_mux yes\n\
         jitter_buffer_delay 2-10\nnet_interface {ADDRESS}\nmodule_path /usr/lib/baresip/modules\n\
         ctrl_tcp_listen 127.0.0.1:{control}\n"
    );
    for module in [
        "stdio",
        "opus",
        "g711",
        "aufile",
        "stun",
        "turn",
        "ice",
        "srtp",
        "dtls_srtp",
        "uuid",
    ] {
        text.push_str(&format!("module {module}.so\n"));
    }
    text.push_str("module_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n");
    fs::write(folder.join("config"), text)?;
    let mode = if answers { "auto" } else { "manual" };
    let account = format!(
        "<sip:{name}@{DOMAIN}>;auth_user={name};auth_pass={PASSWORD};outbound=\"sip:{ADDRESS}:5060\";regint=600;\
         answermode={mode};mediaenc=dtls_srtp;medianat=ice;rtcp_mux=yes;audio_codecs=opus/48000/2,PCMU/8000/1\n"
    );
    fs::write(folder.join("accounts"), account)?;
    fs::write(folder.join("contacts"), "")
}

/// Ten minutes of silence would be much to write: baresip begins the file anew.
fn write_silence(path: &Path) -> std::io::Result<()> {
    let form = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let written = hound::WavWriter::create(path, form).and_then(|mut writer| {
        (0..48_000 * 5).try_for_each(|_| writer.write_sample(0i16))?;
        writer.finalize()
    });
    written.map_err(std::io::Error::other)
}
