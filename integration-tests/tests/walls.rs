//! Who may name whom, and what every crate and source file keeps to.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use cargo_metadata::{DependencyKind, MetadataCommand};
use siprtc::{Config, Layers};
use siprtc_integration_tests::folder::workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The actors: the gateway knows all five, and none knows another.
const ACTORS: [&str; 5] = [
    "siprtc-dialog-manager",
    "siprtc-media-session",
    "siprtc-nat-agent",
    "siprtc-registrar-client",
    "siprtc-sdp-translator",
];
/// What the SIP plugins stand on together: names and certificates, transactions, transports.
const SIP_GROUND: [&str; 3] = ["siprtc-sip-locate", "siprtc-sip-stack", "siprtc-sip-transactions"];
/// What the media plugins stand on together: formats, lines of SDP, RTCP reports.
const MEDIA_GROUND: &str = "siprtc-rtp";
/// The words of SDP that the translator and the media plugins read alike.
const SDP_WORDS: &str = "siprtc-sdp-words";
/// A source file past this many lines holds two concepts.
const MOST_LINES: usize = 600;

/// Normal dependencies of each member of the workspace, by name.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .unwrap();
    let members = metadata.packages.iter().map(|package| {
        let names = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal);
        (
            package.name.to_string(),
            names.map(|dependency| dependency.name.clone()).collect(),
        )
    });
    members.collect()
}

/// The libraries behind the ports: only a plugin may name one.
fn is_backend(name: &str) -> bool {
    [
        "cpal",
        "rtc",
        "webrtc",
        "turn",
        "is",
        "str0m",
        "rsip",
        "rsipstack",
    ]
    .contains(&name)
        || ["rtc-", "webrtc-", "ezk-", "rvoip"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn is_ours(name: &str) -> bool {
    name == "siprtc" || name.starts_with("siprtc-")
}

fn is_runtime(name: &str) -> bool {
    name == "actix" || name == "tokio" || name.starts_with("actix-") || name.starts_with("tokio-")
}

fn plugins() -> BTreeSet<String> {
    let members = dependencies().into_keys();
    let plugin = |name: &String| {
        workspace()
            .join("plugins")
            .join(name.trim_start_matches("siprtc-"))
            .is_dir()
    };
    members.filter(plugin).collect()
}

/// Asserts that `room` names nothing that `forbidden` says.
fn may_not(room: &str, forbidden: impl Fn(&str) -> bool) {
    let all = dependencies();
    let named = all
        .get(room)
        .unwrap_or_else(|| panic!("there is no {room} among {:?}", all.keys()));
    let wrong: Vec<&String> = named.iter().filter(|name| forbidden(name)).collect();
    assert!(wrong.is_empty(), "{room} may not name {wrong:?}");
}

#[test]
fn core_names_no_runtime_no_backend_and_no_other_room() {
    may_not("siprtc-core", |name| {
        is_runtime(name) || is_backend(name) || is_ours(name)
    });
}

#[test]
fn an_actor_names_core_and_no_other_room_but_the_translator_its_words() {
    for actor in ACTORS {
        let words = (actor == "siprtc-sdp-translator").then_some(SDP_WORDS);
        may_not(actor, |name| {
            is_ours(name) && name != "siprtc-core" && Some(name) != words
        });
    }
}

#[test]
fn the_words_of_sdp_name_core_only() {
    may_not(SDP_WORDS, |name| {
        is_runtime(name) || is_backend(name) || (is_ours(name) && name != "siprtc-core")
    });
}

#[test]
fn an_actor_names_no_backend_but_the_words_of_its_own_protocol() {
    for actor in ACTORS {
        let own: &[&str] = match actor {
            // The congestion control of RTP, as functions: no interceptor of it is used.
            "siprtc-media-session" => &["rtc-interceptor"],
            "siprtc-sdp-translator" => &["rtc-sdp"],
            "siprtc-nat-agent" => &["rtc-stun", "turn-client-proto"],
            _ => &[],
        };
        may_not(actor, |name| is_backend(name) && !own.contains(&name));
    }
}

#[test]
fn the_gateway_names_core_and_the_five_actors_only() {
    may_not("siprtc-gateway", |name| {
        is_backend(name) || (is_ours(name) && name != "siprtc-core" && !ACTORS.contains(&name))
    });
    let all = dependencies();
    ACTORS.iter().for_each(|actor| {
        assert!(
            all["siprtc-gateway"].contains(*actor),
            "the gateway does not know {actor}"
        )
    });
}

#[test]
fn a_plugin_names_core_and_its_library_and_no_actor_runtime() {
    let plugins = plugins();
    assert!(plugins.len() >= 2, "plugins are missing: {plugins:?}");
    for plugin in &plugins {
        may_not(plugin, |name| {
            (is_ours(name)
                && !["siprtc-core", MEDIA_GROUND, SDP_WORDS].contains(&name)
                && !SIP_GROUND.contains(&name))
                || name.starts_with("actix")
        });
        let library = dependencies()[plugin].iter().any(|name| is_backend(name));
        // What sip-native wraps is our own, and what sip-sofia wraps is no crate.
        let other = ["siprtc-sip-native", "siprtc-sip-sofia"].contains(&plugin.as_str());
        assert!(library || other, "{plugin} wraps no library");
    }
}

#[test]
fn the_ground_of_the_sip_plugins_names_core_and_itself_only() {
    for room in SIP_GROUND {
        may_not(room, |name| {
            (is_ours(name) && name != "siprtc-core" && !SIP_GROUND.contains(&name))
                || name.starts_with("actix")
                || (is_backend(name) && name != "rtc-stun")
        });
    }
    may_not("siprtc-sip-transactions", |name| {
        is_runtime(name) || name == "siprtc-sip-stack"
    });
}

#[test]
fn the_ground_of_the_media_plugins_names_core_and_the_words_of_rtcp_only() {
    may_not(MEDIA_GROUND, |name| {
        is_runtime(name)
            || (is_ours(name) && name != "siprtc-core" && name != SDP_WORDS)
            || (is_backend(name) && name != "rtc-rtcp")
    });
}

#[test]
fn the_testkit_and_the_servers_know_only_core_and_relaying() {
    for room in ["siprtc-testkit", "siprtc-turn-server"] {
        may_not(room, |name| is_ours(name) && name != "siprtc-core");
    }
    may_not("siprtc-home-server", |name| {
        is_backend(name) || (is_ours(name) && name != "siprtc-core" && name != "siprtc-turn-server")
    });
}

#[test]
fn only_the_facade_names_plugins() {
    let plugins = plugins();
    for (room, named) in dependencies() {
        // The benches hold a plugin against the bare library.
        if room != "siprtc" && room != "siprtc-benches" {
            let wrong: Vec<_> = named.intersection(&plugins).collect();
            assert!(wrong.is_empty(), "{room} names {wrong:?}");
        }
    }
}

#[test]
fn every_crate_is_one_of_the_rooms() {
    let known = [
        "siprtc",
        "siprtc-benches",
        "siprtc-cli",
        "siprtc-core",
        "siprtc-gateway",
    ]
    .into_iter();
    let known = known
        .chain([
            "siprtc-home-server",
            "siprtc-integration-tests",
            "siprtc-testkit",
            "siprtc-turn-server",
        ])
        .chain(ACTORS)
        .chain([MEDIA_GROUND, SDP_WORDS])
        .chain(SIP_GROUND);
    let known: BTreeSet<String> = known.map(str::to_owned).chain(plugins()).collect();
    let unknown: Vec<String> = dependencies()
        .into_keys()
        .filter(|name| !known.contains(name))
        .collect();
    assert!(
        unknown.is_empty(),
        "no wall is known for {unknown:?}: say here which"
    );
}

#[test]
fn every_crate_has_a_readme_that_says_something() {
    let words = |folder: &PathBuf| {
        std::fs::read_to_string(folder.join("README.md")).map_or(0, |text| text.split_whitespace().count())
    };
    let bare: Vec<PathBuf> = crate_folders()
        .into_iter()
        .filter(|folder| words(folder) < 40)
        .collect();
    assert!(
        bare.is_empty(),
        "README.md is missing or says nothing in {bare:#?}"
    );
}

#[test]
fn no_source_file_holds_two_concepts() {
    let sizes = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()));
    let long: Vec<(PathBuf, usize)> = sizes.filter(|(_, lines)| *lines > MOST_LINES).collect();
    assert!(long.is_empty(), "split these by concept: {long:#?}");
}

#[test]
fn nothing_is_ignored_unfinished_or_sent_past_a_mailbox() {
    // Put together here, so that this file does not find itself.
    let banned = [
        ["#[", "ignore"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["do_", "send("].concat(),
    ];
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let words = banned.iter().filter(|word| line.contains(word.as_str()));
            found.extend(words.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_allow_says_its_reason() {
    let attribute = ["[", "allow("].concat();
    let mut silent = Vec::new();
    for (path, text) in sources() {
        for (at, _) in text.match_indices(&attribute) {
            if !text[at..]
                .split(")]")
                .next()
                .unwrap_or_default()
                .contains("reason =")
            {
                silent.push(format!("{}:{}", path.display(), text[..at].lines().count()));
            }
        }
    }
    assert!(silent.is_empty(), "an allow without its reason: {silent:#?}");
}

#[test]
fn every_example_configuration_loads() {
    let files: Vec<PathBuf> = files_below(&workspace().join("config"), "toml");
    assert!(files.len() >= 2, "config/ holds {files:?}");
    for file in files {
        Layers::new()
            .file(&file)
            .load()
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

#[test]
fn the_defaults_document_every_key() {
    Config::defaults().unwrap();
    let text = std::fs::read_to_string(workspace().join("config/default.toml")).unwrap();
    // A comment stands for the keys below it until the next one; three that belong together may share one.
    let mut since_comment = usize::MAX;
    for line in text.lines().map(str::trim) {
        if line.starts_with('#') {
            since_comment = 0;
        } else if line.starts_with('[') {
            since_comment = usize::MAX;
        } else if let Some((key, _)) = line.split_once('=') {
            since_comment = since_comment.saturating_add(1);
            assert!(
                since_comment <= 3,
                "config/default.toml does not say what {} means",
                key.trim()
            );
        }
    }
}

#[test]
fn the_defaults_hold_every_key_that_can_be_set() {
    let source = std::fs::read_to_string(workspace().join("crates/siprtc/src/config.rs")).unwrap();
    let defaults = std::fs::read_to_string(workspace().join("config/default.toml")).unwrap();
    let fields = source
        .lines()
        .filter_map(|line| line.strip_prefix("    pub ")?.split_once(": "));
    let fields: Vec<&str> = fields
        .map(|(name, _)| name)
        .filter(|name| !name.contains('('))
        .collect();
    assert!(
        fields.len() > 30,
        "the fields are not where they were: {fields:?}"
    );
    let sections =
        |name: &str| defaults.contains(&format!("[{name}]")) || defaults.contains(&format!(".{name}]"));
    let key = |name: &str| {
        defaults
            .lines()
            .any(|line| line.starts_with(&format!("{name} = ")))
    };
    let in_example = |name: &str| defaults.contains(&format!("{name} = "));
    let missing: Vec<_> = fields
        .iter()
        .filter(|name| !(sections(name) || key(name) || in_example(name)))
        .collect();
    assert!(
        missing.is_empty(),
        "config/default.toml does not name {missing:?}"
    );
}

#[test]
fn every_program_or_library_forbids_unsafe_code_and_asks_for_documentation() {
    for folder in crate_folders() {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let kept = match folder.ends_with("plugins/sip-sofia") {
            // A C library is behind it: the workspace's, but that two of its files may allow it.
            true => [
                "unsafe_code = \"deny\"",
                "missing_docs = \"warn\"",
                "undocumented_unsafe_blocks",
            ]
            .iter()
            .all(|lint| manifest.contains(lint)),
            false => manifest
                .split("[lints]")
                .nth(1)
                .is_some_and(|lints| lints.trim_start().starts_with("workspace = true")),
        };
        assert!(kept, "{} takes no workspace lints", folder.display());
    }
}

fn crate_folders() -> Vec<PathBuf> {
    let below = |name: &str| {
        let entries = std::fs::read_dir(workspace().join(name)).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("Cargo.toml").is_file())
            .collect::<Vec<_>>()
    };
    let mut folders = [below("crates"), below("plugins")].concat();
    folders.extend(["integration-tests", "benches"].map(|name| workspace().join(name)));
    folders
}

/// Every Rust file of the workspace with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let files: Vec<PathBuf> = crate_folders()
        .iter()
        .flat_map(|folder| files_below(folder, "rs"))
        .collect();
    assert!(
        files.len() > 50,
        "the sources are not where they were: {}",
        files.len()
    );
    files
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    files
}
