//! The shared corpus of real messages: it stands beside the workspace, and nothing of it is copied here.

use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folders with SIP messages, one message in a file.
pub const SIP_FOLDERS: [&str; 8] = [
    "rfc3327", "rfc3515", "rfc3665", "rfc4475", "rfc4916", "rfc5118", "rfc5626", "sip",
];

/// Where it is. Panics when it is not there: a test without its input must not pass.
pub fn corpus() -> PathBuf {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
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
    let wrong = |error: std::io::Error| -> ! { panic!("{}: {error}", path.display()) };
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&path)
        .unwrap_or_else(|error| wrong(error))
        .map(|entry| entry.unwrap_or_else(|error| wrong(error)).path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (name, std::fs::read(&path).unwrap_or_else(|error| wrong(error)))
        })
        .collect();
    assert!(!files.is_empty(), "the corpus folder {} is empty", path.display());
    files.sort();
    files
}

/// Every SIP message of the corpus under its name (`rfc4475/wsinv.dat`), in order.
pub fn sip_messages() -> Vec<(String, Bytes)> {
    SIP_FOLDERS
        .iter()
        .flat_map(|folder| corpus_files(folder).into_iter().map(move |file| (folder, file)))
        .filter(|(_, (name, _))| !name.ends_with(".sdp"))
        .map(|(folder, (name, octets))| (format!("{folder}/{name}"), octets.into()))
        .collect()
}

/// The names of the files with a deviation that a receiver may refuse or overlook, as the index says.
pub fn tolerable() -> BTreeSet<String> {
    let index = corpus().join("INDEX.tsv");
    let text = std::fs::read_to_string(&index).unwrap_or_else(|error| panic!("{}: {error}", index.display()));
    let names: BTreeSet<String> = text
        .lines()
        .filter(|line| line.ends_with("\ttolerated"))
        .filter_map(|line| line.split('\t').next().map(str::to_owned))
        .collect();
    assert!(
        !names.is_empty(),
        "{} lists nothing as tolerated",
        index.display()
    );
    names
}
