//! baresip as the other telephone: an independent implementation of SIP, ICE, DTLS-SRTP and Opus.

use crate::lab::{Lab, PASSWORD, REALM};
use crate::patience::wait;
use crate::process::Process;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How it does media.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// DTLS-SRTP without ICE.
    Dtls,
    /// DTLS-SRTP and ICE, RTCP on a port of its own.
    DtlsIce,
    /// RTP without encryption.
    Plain,
    /// RTP/SAVP with keys in the SDP.
    Sdes,
    /// The same in RTP/AVP, if the other wants it.
    SdesOptional,
    /// DTLS-SRTP, ICE and rtcp-mux: what a browser speaks.
    Web,
}

/// A baresip that runs.
#[derive(Debug)]
pub struct Baresip {
    /// Its process, with its log.
    pub process: Process,
    folder: PathBuf,
    address: Ipv4Addr,
}

impl Baresip {
    /// Starts one that is registered as `user`, plays `play`, and answers by itself; with a target it calls.
    pub fn start(
        lab: &Lab,
        user: &str,
        address: Ipv4Addr,
        mode: Mode,
        play: &Path,
        dial: Option<&str>,
    ) -> Self {
        Baresip::with_contacts(lab, user, address, (mode, play, dial), "")
    }

    /// Starts one that watches whether `friend` is there (RFC 3856).
    pub fn watching(lab: &Lab, user: &str, address: Ipv4Addr, friend: &str) -> Self {
        let contacts = format!("\"Friend\" <sip:{friend}@{REALM}>;presence=p2p\n");
        let media = (Mode::Plain, Path::new("/dev/null"), None);
        Baresip::with_contacts(lab, user, address, media, &contacts)
    }

    fn with_contacts(
        lab: &Lab,
        user: &str,
        address: Ipv4Addr,
        (mode, play, dial): (Mode, &Path, Option<&str>),
        contacts: &str,
    ) -> Self {
        let folder = lab.folder.join(format!("baresip-{user}"));
        std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        };
        let mux = if mode == Mode::Web { "yes" } else { "no" };
        write(
            "config",
            include_str!("../lab/baresip.config")
                .replace("@ADDRESS@", &address.to_string())
                .replace("@FOLDER@", &folder.display().to_string())
                .replace("@PLAY@", &play.display().to_string())
                .replace("@MUX@", mux),
        );
        let media = match mode {
            Mode::Dtls => "mediaenc=dtls_srtp;",
            Mode::DtlsIce | Mode::Web => "mediaenc=dtls_srtp;medianat=ice;",
            Mode::Plain => "",
            Mode::Sdes => "mediaenc=srtp-mand;",
            Mode::SdesOptional => "mediaenc=srtp;",
        };
        let answer = if dial.is_some() { "manual" } else { "auto" };
        write(
            "accounts",
            format!(
                "<sip:{user}@{REALM};transport=udp>;auth_user={user};auth_pass={PASSWORD};\
                 outbound=\"sip:{}:5060;transport=udp\";regint=60;answermode={answer};\
                 {media}rtcp_mux={mux};audio_codecs=opus/48000/2,PCMU/8000/1\n",
                lab.server
            ),
        );
        write("contacts", contacts.to_owned());
        let mut command = lab.place.command("baresip");
        // -t: an end of its own, should everything else fail.
        command.arg("-f").arg(&folder).args(["-t", "60", "-v"]);
        if let Some(target) = dial {
            command.args(["-e", &format!("/dial sip:{target}@{REALM}")]);
        }
        let mut process = Process::start("baresip", &mut command, &folder.join("log"));
        let log = folder.join("log");
        process.ready(Duration::from_secs(20), || {
            std::fs::read_to_string(&log)
                .is_ok_and(|log| log.contains("200 OK") || log.contains("registered successfully"))
        });
        Baresip {
            process,
            folder,
            address,
        }
    }

    /// Gives it a command of its menu, as `hold` or `resume`.
    pub fn command(&self, lab: &Lab, command: &str) {
        // It hears the command before it hears the end.
        let text = self.asked(lab, command, "head -c 20");
        assert!(
            text.contains("response"),
            "baresip does not obey {command}: {text}"
        );
    }

    /// What it says to a command, within two seconds.
    pub fn says_to(&self, lab: &Lab, command: &str) -> String {
        self.asked(lab, command, "cat")
    }

    fn asked(&self, lab: &Lab, command: &str, read: &str) -> String {
        let json = format!("{{\"command\":\"{command}\"}}");
        // Its ctrl_tcp module reads netstrings.
        let script = format!(
            "exec 3<>/dev/tcp/{}/4444 && printf '%s' '{}:{json},' >&3 && timeout 2 {read} <&3",
            self.address,
            json.len()
        );
        let output = lab.place.command("bash").args(["-c", &script]).output();
        let output = output.unwrap_or_else(|error| panic!("bash does not start: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it heard, once its process is over.
    pub fn heard(&self) -> PathBuf {
        let find = || {
            let files = std::fs::read_dir(&self.folder).ok()?;
            let mut dumps: Vec<PathBuf> = files
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    path.file_name()
                        .is_some_and(|name| name.to_string_lossy().ends_with("-dec.wav"))
                })
                .collect();
            dumps.sort_by_key(|path| std::fs::metadata(path).map_or(0, |data| data.len()));
            dumps.pop()
        };
        wait(Duration::from_secs(5), find).unwrap_or_else(|| {
            panic!(
                "baresip recorded nothing:\n{}",
                crate::process::tail(&self.process.log(), 60)
            )
        })
    }
}
