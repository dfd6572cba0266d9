//! A process of ours: its output goes to a file, and it ends, by its id, when it is dropped.

use crate::patience::wait;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long a process may take to end when asked to.
const GRACE: Duration = Duration::from_secs(5);

/// A server or client that a test started.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; output and errors go to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file =
            File::create(log).unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let errors = file
            .try_clone()
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} does not start ({error}): integration-tests/run installs what the tests need")
            });
        Process {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        }
    }

    /// Everything it has said.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| error.to_string(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// How often `words` are in what it has said.
    pub fn said(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    /// Waits until it has said `words` at least `times` times.
    pub fn says(&self, words: &str, times: usize, limit: Duration) {
        let said = wait(limit, || (self.said(words) >= times).then_some(()));
        assert!(
            said.is_some(),
            "{} did not say {words:?} {times} times in {limit:?}:\n{}",
            self.name,
            tail(&self.log(), 60)
        );
    }

    /// Waits until `ready` holds; a process that ends before has failed.
    pub fn ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) {
        let child = &mut self.child;
        let state = wait(limit, || match child.try_wait() {
            Ok(Some(status)) => Some(Err(status)),
            _ => ready().then_some(Ok(())),
        });
        match state {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!("{} ended with {status}:\n{}", self.name, tail(&self.log(), 40)),
            None => panic!(
                "{} was not ready after {limit:?}:\n{}",
                self.name,
                tail(&self.log(), 40)
            ),
        }
    }

    /// Waits for its end.
    pub fn finish(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        wait(limit, || child.try_wait().ok().flatten()).unwrap_or_else(|| {
            panic!(
                "{} did not end in {limit:?}:\n{}",
                self.name,
                tail(&self.log(), 40)
            )
        })
    }

    /// Asks it to end, and ends it if it does not.
    pub fn stop(&mut self) {
        stop(&mut self.child);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends a signal to one process.
pub fn signal(name: &str, id: u32) {
    // The shell's own word: sending a signal is unsafe code in Rust, and this workspace has none.
    let status = Command::new("kill")
        .args([format!("-{name}"), id.to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok(), "kill is missing: {status:?}");
}

/// SIGTERM, then patience, then SIGKILL.
pub(crate) fn stop(child: &mut Child) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    signal("TERM", child.id());
    if wait(GRACE, || child.try_wait().ok().flatten()).is_none() {
        drop(child.kill());
        drop(child.wait());
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
