//! Asterisk as registrar, back-to-back user agent and media server at once: what a PBX is to a telephone.
//!
//! It runs in a chroot, because Debian 12 has none (`lab/asterisk/install`), with the test's own folder mounted at `/lab`.

use crate::lab::Lab;
use crate::netns::Place;
use crate::patience::wait;
use crate::process::Process;
use crate::wav;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the chroot is, if the environment does not say.
const ROOT: &str = "/opt/siprtc-asterisk";
/// The longest it may take to start on a busy machine.
const START: Duration = Duration::from_secs(20);
/// Its configuration.
const FILES: [(&str, &str); 8] = [
    ("asterisk.conf", include_str!("../lab/asterisk/asterisk.conf")),
    ("extensions.conf", include_str!("../lab/asterisk/extensions.conf")),
    ("http.conf", include_str!("../lab/asterisk/http.conf")),
    (
        "indications.conf",
        include_str!("../lab/asterisk/indications.conf"),
    ),
    ("logger.conf", include_str!("../lab/asterisk/logger.conf")),
    ("modules.conf", include_str!("../lab/asterisk/modules.conf")),
    ("pjsip.conf", include_str!("../lab/asterisk/pjsip.conf")),
    ("rtp.conf", include_str!("../lab/asterisk/rtp.conf")),
];

/// An Asterisk that runs at its lab's server address, port 5060.
#[derive(Debug)]
pub struct Asterisk {
    /// Its process, with its log.
    pub process: Process,
    place: Place,
    folder: PathBuf,
}

impl Asterisk {
    /// Starts one whose prompt is `tune`.
    pub fn start(lab: &Lab, tune: &[usize]) -> Self {
        let folder = lab.folder.join("asterisk");
        std::fs::create_dir_all(folder.join("run"))
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for (name, text) in FILES {
            let text = text.replace("@ADDRESS@", &lab.server.to_string());
            lab.folder.write(Path::new("asterisk").join(name), text);
        }
        prompt(&folder, tune);
        let mut command = run(&lab.place, &folder);
        // -f: stay in the foreground; -n: no colours.
        let mut process = Process::start(
            "asterisk",
            command.args(["-f", "-n"]),
            &lab.folder.join("asterisk.log"),
        );
        let log = lab.folder.join("asterisk.log");
        process.ready(START, || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains("Asterisk Ready."))
        });
        Asterisk {
            process,
            place: lab.place.clone(),
            folder,
        }
    }

    /// What it says to a command of its console.
    pub fn console(&self, command: &str) -> String {
        let output = run(&self.place, &self.folder).args(["-rx", command]).output();
        let output = output.unwrap_or_else(|error| panic!("asterisk -rx does not start: {error}"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "asterisk -rx {command:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    /// Calls a telephone, and gives it what `extension` gives a caller.
    pub fn calls(&self, telephone: &str, extension: &str) {
        self.console(&format!(
            "channel originate PJSIP/{telephone} extension {extension}@lab"
        ));
    }

    /// Waits until it has no call any more: a call that one side believes to be over, and the other not, is a defect.
    pub fn is_idle(&self, limit: Duration) {
        let idle = || {
            self.console("core show channels count")
                .contains("0 active channels")
        };
        assert!(
            wait(limit, || idle().then_some(())).is_some(),
            "Asterisk still has a call: {}",
            self.console("core show channels verbose")
        );
    }
}

/// Its prompt, as it reads it: at 8 kHz.
fn prompt(folder: &Path, tune: &[usize]) {
    let (wide, narrow) = (folder.join("wide.wav"), folder.join("prompt.wav"));
    wav::write_tune(&wide, tune);
    let made = Command::new("sox")
        .arg(&wide)
        .args(["-r", "8000"])
        .arg(&narrow)
        .output();
    assert!(
        made.as_ref().is_ok_and(|made| made.status.success()),
        "sox: {made:?}"
    );
}

/// `asterisk`, to be run there: inside the chroot, with that folder at `/lab`, which nobody else sees.
fn run(place: &Place, folder: &Path) -> Command {
    let root = std::env::var_os("SIPRTC_ASTERISK").map_or_else(|| PathBuf::from(ROOT), PathBuf::from);
    assert!(
        root.join("usr/sbin/asterisk").is_file(),
        "there is no Asterisk in {}: `integration-tests/run install` puts it there",
        root.display()
    );
    let mut command = place.command("unshare");
    // Each of these becomes the next, so that the process's id is Asterisk's own.
    let script = "mount --bind \"$2\" \"$1/lab\" && mount --rbind /dev \"$1/dev\" && root=$1 && shift 2 && \
                  exec chroot \"$root\" /usr/sbin/asterisk -C /lab/asterisk.conf \"$@\"";
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(root)
        .arg(folder);
    command
}
