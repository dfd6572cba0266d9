//! Where things are: the workspace, the corpus, the program, and a test's own folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .map(Path::to_owned)
        .unwrap_or_else(|| panic!("{} has no parent", here.display()))
}

/// The shared corpus of messages; it stands beside the workspace.
pub fn corpus() -> PathBuf {
    let corpus = workspace().join("../shared/corpus");
    assert!(
        corpus.join("INDEX.tsv").is_file(),
        "the corpus is missing: {} should hold INDEX.tsv",
        corpus.display()
    );
    corpus
}

/// The files of one folder of the corpus with their contents, in order of their names.
pub fn corpus_files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = corpus().join(folder);
    let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            entry
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
                .path()
        })
        .filter(|path| path.is_file())
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                bytes,
            )
        })
        .collect();
    assert!(!files.is_empty(), "the corpus folder {} is empty", path.display());
    files.sort();
    files
}

/// The folder of this build: `target/release` or wherever the tests were compiled to.
pub fn build() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_else(|error| panic!("a test without a path: {error}"));
    let deps = exe
        .parent()
        .unwrap_or_else(|| panic!("{} has no folder", exe.display()));
    if deps.ends_with("deps") {
        deps.parent().unwrap_or(deps).to_owned()
    } else {
        deps.to_owned()
    }
}

/// The `siprtc` program of this build.
pub fn siprtc() -> PathBuf {
    let program = build().join("siprtc");
    assert!(
        program.is_file(),
        "{} is missing: `cargo build --release -p siprtc-cli` builds it, and integration-tests/run does so by itself",
        program.display()
    );
    program
}

/// A test's own folder. It is removed when the test succeeds, and kept for reading when it fails.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new empty folder below the build's.
    pub fn new(story: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{story}-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = build().join("stories").join(name);
        std::fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Folder(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and says where it is.
    pub fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs and recordings are kept in {}", self.0.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}
