//! Which crate uses which: a golden file, so that a new edge is seen in review, and the layers, so
//! that some edges can never be put into it.
//!
//! After a wanted change: `UPDATE_GOLDEN=1 cargo test -p holdfast-tidy --test edges`.

use holdfast_tidy::root;
use std::{collections::BTreeMap, fmt::Write, fs};

/// For each crate, the crates of ours it may use. `agent` and `edge` never see `domain` or `log`:
/// what they obey are plans, and they cannot reach for a policy even by mistake.
const MAY_USE: [(&str, &[&str]); 14] = [
    ("types", &[]),
    ("domain", &["types"]),
    ("api", &["types"]),
    ("rt", &["types"]),
    // The server pins images, the agent fetches what was pinned.
    ("oci", &["types"]),
    ("log", &["types", "rt"]),
    // Sees entries, never what is in an event.
    ("backup", &["types", "rt", "log"]),
    ("control", &["types", "domain", "api", "rt", "oci", "log", "backup"]),
    ("agent", &["types", "api", "rt", "oci"]),
    ("edge", &["types", "api", "rt"]),
    ("holdfast", &["types", "domain", "api", "rt", "oci", "log", "backup", "control", "agent", "edge"]),
    ("sim", &["types", "domain", "api", "rt", "oci", "log", "backup", "control", "agent", "edge"]),
    // The driver of the demo does what a user does: through the binary, never through our crates.
    ("demo", &[]),
    ("tidy", &[]),
];

/// Crates of ours that only tests use.
const TESTS_MAY_USE: [(&str, &[&str]); 1] = [("holdfast", &["demo"])];

const GOLDEN: &str = "crates/tidy/golden/crate_edges.txt";

type Edges = BTreeMap<String, Vec<String>>;

/// Reads one section of every crate's manifest and keeps the dependencies that are ours.
fn edges(section: &str) -> Edges {
    let mut all = Edges::new();
    for entry in fs::read_dir(root().join("crates")).expect("the crates") {
        let path = entry.expect("a readable folder").path();
        let Ok(text) = fs::read_to_string(path.join("Cargo.toml")) else { continue };
        let manifest: toml::Table = text.parse().expect("a sound Cargo.toml");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let used = manifest.get(section).and_then(toml::Value::as_table);
        let mut ours: Vec<String> = used
            .into_iter()
            .flat_map(toml::Table::keys)
            .map(|key| key.trim_start_matches("holdfast-").to_owned())
            .filter(|key| root().join("crates").join(key).is_dir())
            .collect();
        ours.sort();
        all.insert(name, ours);
    }
    all
}

fn rendered() -> String {
    let mut text = String::from("# crate: the crates of ours it uses (tests: those only its tests use)\n");
    let tests = edges("dev-dependencies");
    for (name, used) in edges("dependencies") {
        let _ = write!(text, "{name}: {}", used.join(" "));
        let only: Vec<&String> = tests[&name].iter().filter(|other| !used.contains(other)).collect();
        if !only.is_empty() {
            let _ =
                write!(text, " (tests: {})", only.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(" "));
        }
        text = text.trim_end().to_owned() + "\n";
    }
    text
}

#[test]
fn crates_use_each_other_as_written_down() {
    let path = root().join(GOLDEN);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, rendered()).expect("a writable golden file");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, rendered(), "{GOLDEN} differs; if the change is wanted, set UPDATE_GOLDEN=1");
}

#[test]
fn edges_obey_the_layers() {
    let allowed = |table: &[(&str, &[&str])], name: &str, other: &str| {
        table.iter().any(|(user, used)| *user == name && used.contains(&other))
    };
    for (name, used) in edges("dependencies") {
        assert!(MAY_USE.iter().any(|(known, _)| *known == name), "crate {name} has no layer");
        for other in used {
            assert!(allowed(&MAY_USE, &name, &other), "{name} must not use {other}");
        }
    }
    for (name, used) in edges("dev-dependencies") {
        for other in used {
            let fine = allowed(&MAY_USE, &name, &other) || allowed(&TESTS_MAY_USE, &name, &other);
            assert!(fine, "tests of {name} must not use {other}");
        }
    }
}
