//! `siprtc` as a process of its own, read by its JSON lines.

use crate::folder;
use crate::patience::wait;
use crate::process::{signal, stop, tail};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long an event may take that needs no more than a few round trips.
pub const SOON: Duration = Duration::from_secs(20);

/// A `siprtc` that runs.
#[derive(Debug)]
pub struct Siprtc {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    errors: PathBuf,
}

/// What a `siprtc` that is over leaves behind.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its JSON lines.
    pub events: Vec<Value>,
    /// Its standard error.
    pub errors: String,
}

impl Siprtc {
    /// Starts `command`, which names the program and its arguments, with its standard error in `errors`.
    pub fn start(name: &str, command: &mut Command, errors: &Path) -> Self {
        let log =
            File::create(errors).unwrap_or_else(|error| panic!("cannot write {}: {error}", errors.display()));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: siprtc does not start: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        if let Some(stdout) = child.stdout.take() {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let value = serde_json::from_str(&line).unwrap_or_else(|error| {
                        serde_json::json!({ "event": "not json", "error": error.to_string(), "line": line })
                    });
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(value);
                }
            });
        }
        Siprtc {
            name: name.to_owned(),
            child,
            lines,
            errors: errors.to_owned(),
        }
    }

    /// Runs `siprtc --json` with `arguments` to its end, on this machine's network.
    pub fn run(arguments: &[&str], limit: Duration) -> Outcome {
        let folder = folder::Folder::new("run");
        let mut command = Command::new(folder::siprtc());
        command.arg("--json").args(arguments).current_dir(folder.path());
        Siprtc::start("siprtc", &mut command, &folder.join("stderr")).finish(limit)
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its events until now.
    pub fn events(&self) -> Vec<Value> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether an event of that name has come.
    pub fn has(&self, event: &str) -> bool {
        self.events().iter().any(|line| line["event"] == event)
    }

    /// Waits for the first event of that name.
    pub fn event(&mut self, event: &str, limit: Duration) -> Value {
        self.event_where(event, limit, |_| true)
    }

    /// Waits for the first event of that name that `fits`.
    pub fn event_where(&mut self, event: &str, limit: Duration, fits: impl Fn(&Value) -> bool) -> Value {
        let lines = Arc::clone(&self.lines);
        let child = &mut self.child;
        let find = || {
            let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines
                .iter()
                .find(|line| line["event"] == event && fits(line))
                .cloned()
        };
        // One more look after its end: the last lines may still be on their way through the pipe.
        let mut last_look = false;
        let found = wait(limit, || match (find(), last_look) {
            (Some(line), _) => Some(Some(line)),
            (None, true) => Some(None),
            (None, false) => {
                last_look = matches!(child.try_wait(), Ok(Some(_)));
                None
            }
        });
        match found {
            Some(Some(line)) => line,
            Some(None) => panic!("{} ended without {event}:\n{}", self.name, self.story()),
            None => panic!("{} has no {event} after {limit:?}:\n{}", self.name, self.story()),
        }
    }

    /// Says a line to its standard input, which it obeys with `--control`.
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut();
        let said = stdin.map(|stdin| writeln!(stdin, "{line}").and_then(|()| stdin.flush()));
        assert!(matches!(said, Some(Ok(()))), "{}: {said:?}", self.name);
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        signal("INT", self.child.id());
    }

    /// Pulls its plug.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub fn finish(mut self, limit: Duration) -> Outcome {
        let child = &mut self.child;
        let status = wait(limit, || child.try_wait().ok().flatten())
            .unwrap_or_else(|| panic!("{} did not end in {limit:?}:\n{}", self.name, self.story()));
        // The reader holds the other count; it is done when the pipe is read empty.
        let lines = Arc::clone(&self.lines);
        let read_empty = wait(Duration::from_secs(5), || {
            (Arc::strong_count(&lines) <= 2).then_some(())
        });
        assert!(
            read_empty.is_some(),
            "{}: somebody else holds its standard output",
            self.name
        );
        Outcome {
            code: status.code(),
            events: self.events(),
            errors: self.errors(),
        }
    }

    /// Its standard error until now.
    pub fn errors(&self) -> String {
        std::fs::read(&self.errors).map_or_else(
            |error| error.to_string(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    fn story(&self) -> String {
        let events: Vec<String> = self.events().iter().map(Value::to_string).collect();
        format!(
            "{}\n--- standard error\n{}",
            tail(&events.join("\n"), 40),
            tail(&self.errors(), 40)
        )
    }
}

impl Drop for Siprtc {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.story());
        }
        stop(&mut self.child);
    }
}

impl Outcome {
    /// The first event of that name.
    pub fn event(&self, name: &str) -> &Value {
        self.events
            .iter()
            .find(|line| line["event"] == name)
            .unwrap_or_else(|| panic!("no {name} among {:#?}\n{}", self.events, self.errors))
    }

    /// Whether there is an event of that name.
    pub fn has(&self, name: &str) -> bool {
        self.events.iter().any(|line| line["event"] == name)
    }

    /// The report of its call.
    pub fn report(&self) -> &Value {
        self.event("report")
    }

    /// Asserts on the exit code, with the whole story when it is another.
    pub fn exits_with(&self, code: i32) -> &Self {
        assert_eq!(
            self.code,
            Some(code),
            "events: {:#?}\nstandard error: {}",
            self.events,
            self.errors
        );
        self
    }

    /// Asserts that it says `words` in a sentence for people, on standard error or in the report, and that it ended in
    /// good order: no panic, no backtrace.
    pub fn explains(&self, words: &str) -> &Self {
        let report = self.events.iter().find(|line| line["event"] == "report");
        let sentence = report
            .and_then(|report| report["ending"]["sentence"].as_str())
            .unwrap_or_default();
        let said = self.errors.contains(words) || sentence.contains(words);
        assert!(
            said,
            "neither standard error nor the report says {words:?}:\n{sentence}\n{}",
            self.errors
        );
        assert!(!self.errors.contains("panicked"), "{}", self.errors);
        self
    }
}
