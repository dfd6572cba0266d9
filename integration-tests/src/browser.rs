//! Chromium with JsSIP as the other endpoint: the browser's own PeerConnection, and SIP over WebSocket in JavaScript.
//!
//! The page is `lab/browser/phone.js`. Orders go over the browser's debugging pipe (the DevTools protocol, messages that end
//! with a NUL octet), so that nothing listens on a port for it.

use crate::lab::{Lab, PASSWORD, REALM, text};
use crate::patience::wait;
use crate::process::Process;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long the browser may take for what needs no more than a few round trips.
const SOON: Duration = Duration::from_secs(30);

/// What keeps it to itself: no first run, no updates, no reports; and what a test needs: a camera that is made up, and sound
/// without a click.
const SWITCHES: [&str; 17] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-file-access-from-files",
    "--remote-debugging-pipe",
];

/// A browser with a registered telephone in it.
#[derive(Debug)]
pub struct Browser {
    /// Its process, with its log.
    pub process: Process,
    folder: PathBuf,
    orders: File,
    replies: Receiver<Value>,
    orders_given: u64,
    page: String,
}

/// What a browser brings to a call.
#[derive(Clone, Copy, Debug)]
pub struct Brings<'a> {
    /// A WAV file that is played once the path is there.
    pub tune: &'a Path,
    /// The picture of the made-up camera.
    pub camera: bool,
}

impl Brings<'_> {
    fn to_script(self) -> Value {
        let tune =
            std::fs::read(self.tune).unwrap_or_else(|error| panic!("{}: {error}", self.tune.display()));
        json!({ "play": BASE64.encode(tune), "camera": self.camera })
    }
}

impl Browser {
    /// Starts one whose telephone is registered as `user` over WebSocket at the lab's Kamailio, which must be a secure one.
    pub fn start(lab: &Lab, user: &str) -> Self {
        let folder = lab.folder.join(format!("browser-{user}"));
        std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        };
        write(
            "phone.html",
            include_str!("../lab/browser/phone.html").replace("@JSSIP@", &text(&jssip())),
        );
        write("phone.js", include_str!("../lab/browser/phone.js").to_owned());
        let (orders, replies) = (pipe(&folder.join("orders")), pipe(&folder.join("replies")));
        let mut command = lab.place.command("sh");
        // The pipe is the browser's descriptors 3 and 4.
        command
            .args(["-c", "exec \"$@\" 3<orders 4>replies", "sh", "chromium"])
            .args(SWITCHES)
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg(format!("file://{}", folder.join("phone.html").display()))
            .current_dir(&folder)
            .env("HOME", &folder);
        let process = Process::start("chromium", &mut command, &folder.join("log"));
        let mut browser = Browser {
            process,
            folder,
            orders,
            replies: read(replies),
            orders_given: 0,
            page: String::new(),
        };
        browser.page = browser.attach();
        let server = format!("ws://{}:5080", lab.server);
        browser.run(&format!(
            "phone.register('sip:{user}@{REALM}', '{PASSWORD}', '{server}')"
        ));
        browser
    }

    /// Has it answer calls with this.
    pub fn answers(&mut self, brings: Brings<'_>) {
        self.run(&format!("phone.answering({})", brings.to_script()));
    }

    /// Has it call this user with this.
    pub fn calls(&mut self, target: &str, brings: Brings<'_>) {
        self.run(&format!(
            "phone.call('sip:{target}@{REALM}', {})",
            brings.to_script()
        ));
    }

    /// Waits for the first event of its telephone of that name.
    pub fn event(&mut self, name: &str) -> Value {
        self.run(&format!("phone.until('{name}', {})", SOON.as_secs()))
    }

    /// Waits for the first of them that this side began: `local` or `remote`.
    pub fn event_of(&mut self, name: &str, originator: &str) -> Value {
        let seconds = SOON.as_secs();
        self.run(&format!("phone.until('{name}', {seconds}, '{originator}')"))
    }

    /// Writes what it has heard as a WAV file; it records no more after it.
    pub fn heard(&mut self, wav: &Path) {
        let recorded = self.file("heard.webm", "phone.heard()");
        let decoded = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-i"])
            .arg(&recorded)
            .args(["-ac", "1", "-ar", "48000"])
            .arg(wav)
            .output();
        assert!(
            decoded.as_ref().is_ok_and(|done| done.status.success()),
            "ffmpeg on {}: {decoded:?}",
            recorded.display()
        );
    }

    /// Writes what a script gives in base64 to a file in its folder.
    fn file(&mut self, name: &str, script: &str) -> PathBuf {
        let path = self.folder.join(name);
        let text = self.run(script);
        let bytes = text.as_str().and_then(|text| BASE64.decode(text).ok());
        let bytes = bytes.unwrap_or_else(|| panic!("{script} gives no base64: {text}"));
        std::fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// What its PeerConnection counts of video: `RTCStats` of that type, such as `inbound-rtp`.
    pub fn video(&mut self, kind: &str) -> Value {
        self.run(&format!("phone.numbers('{kind}', 'video')"))
    }

    /// Runs a script in the page and gives what comes of it, awaited.
    ///
    /// # Panics
    /// With the script's own exception, or when nothing comes of it in time.
    pub fn run(&mut self, script: &str) -> Value {
        let page = self.page.clone();
        let result = self.order(
            "Runtime.evaluate",
            &json!({ "expression": script, "awaitPromise": true, "returnByValue": true }),
            Some(&page),
        );
        let failed = &result["exceptionDetails"];
        assert!(
            failed.is_null(),
            "{}: {}",
            script.chars().take(80).collect::<String>(),
            failed["exception"]["description"].as_str().unwrap_or("failed")
        );
        result["result"]["value"].clone()
    }

    /// Finds the page and takes hold of it.
    fn attach(&mut self) -> String {
        let page = wait(SOON, || {
            let targets = self.order("Target.getTargets", &json!({}), None);
            let all = targets["targetInfos"].as_array()?;
            let page = all.iter().find(|target| target["type"] == "page")?;
            page["targetId"].as_str().map(str::to_owned)
        });
        let page = page.unwrap_or_else(|| panic!("the browser has no page:\n{}", self.process.log()));
        let taken = json!({ "targetId": page, "flatten": true });
        let session = self.order("Target.attachToTarget", &taken, None)["sessionId"].clone();
        let session = session
            .as_str()
            .unwrap_or_else(|| panic!("no session: {session}"))
            .to_owned();
        self.page = session.clone();
        let loaded = wait(SOON, || {
            let loaded = "document.readyState === 'complete' && typeof phone === 'object'";
            (self.run(loaded) == true).then_some(())
        });
        assert!(
            loaded.is_some(),
            "the telephone's page does not load:\n{}",
            self.process.log()
        );
        session
    }

    fn order(&mut self, method: &str, params: &Value, page: Option<&str>) -> Value {
        self.orders_given += 1;
        let id = self.orders_given;
        let mut order = json!({ "id": id, "method": method, "params": params });
        if let Some(page) = page {
            order["sessionId"] = page.into();
        }
        let written = self.orders.write_all(format!("{order}\0").as_bytes());
        assert!(written.is_ok(), "{method}: {written:?}");
        loop {
            let Ok(reply) = self.replies.recv_timeout(SOON + SOON) else {
                panic!("the browser does not answer {method}:\n{}", self.process.log());
            };
            if reply["id"] == id {
                assert!(reply["error"].is_null(), "{method}: {}", reply["error"]);
                return reply["result"].clone();
            }
        }
    }
}

/// What `integration-tests/run` has made of JsSIP.
fn jssip() -> PathBuf {
    let folder = std::env::var_os("SIPRTC_BROWSER").unwrap_or_else(|| "/opt/siprtc-browser".into());
    let folder = PathBuf::from(folder);
    assert!(
        folder.join("jssip.js").is_file(),
        "{} is missing: integration-tests/run makes it",
        folder.join("jssip.js").display()
    );
    folder
}

/// A pipe with a name. Opened for both ways, so that nobody waits for the other end.
fn pipe(path: &Path) -> File {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(
        made.as_ref().is_ok_and(std::process::ExitStatus::success),
        "mkfifo {}: {made:?}",
        path.display()
    );
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Replies and events, as they come, until the browser is gone and nobody asks any more.
fn read(replies: File) -> Receiver<Value> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for message in BufReader::new(replies).split(0).map_while(Result::ok) {
            if let Ok(message) = serde_json::from_slice(&message)
                && send.send(message).is_err()
            {
                return;
            }
        }
    });
    receive
}
