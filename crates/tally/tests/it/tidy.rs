//! Rules of the house that a compiler does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn crates() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(root().join("crates")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.map(|name| (name.clone(), read(format!("crates/{name}/Cargo.toml")))).collect()
}

#[test]
fn only_the_lake_and_the_wire_name_the_heavy_engines() {
    for (name, manifest) in crates() {
        let heavy = ["datafusion", "deltalake-core", "parquet", "arrow"];
        let named: Vec<_> =
            heavy.iter().filter(|crate_name| manifest.contains(&format!("{crate_name}.workspace"))).collect();
        let allowed = match name.as_str() {
            "lake" => &heavy[..],
            "wire" => &heavy[..1],
            _ => &[],
        };
        assert!(named.iter().all(|name| allowed.contains(name)), "{name} names {named:?}");
    }
}

#[test]
fn the_crate_graph_is_the_one_that_architecture_shows() {
    let mut graph = BTreeMap::new();
    for (name, manifest) in crates() {
        let dependencies =
            manifest.split("[dependencies]").nth(1).unwrap_or("").split("\n[").next().unwrap_or("").to_owned();
        let ours = dependencies
            .lines()
            .filter_map(|line| line.strip_prefix("tally-")?.strip_suffix(".workspace = true").map(str::to_owned));
        graph.insert(name, ours.collect::<BTreeSet<_>>());
    }
    let mut shown = BTreeMap::new();
    for line in read("ARCHITECTURE.md").lines() {
        if let Some((name, dependencies)) = line.split_once(" -> ") {
            let names = dependencies
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty() && name != "nothing");
            shown.insert(name.trim().to_owned(), names.collect::<BTreeSet<_>>());
        }
    }
    assert_eq!(graph, shown, "left: Cargo.toml, right: ARCHITECTURE.md");
}

#[test]
fn no_page_waits_to_be_filled_in() {
    let mut pages = vec![root().join("README.md"), root().join("ARCHITECTURE.md"), root().join("CHANGELOG.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap().flatten().map(|entry| entry.path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|kind| kind == "md")));
    }
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for mark in ["{{", "TODO", "TBD"] {
            assert!(!text.contains(mark), "{} holds {mark}", page.display());
        }
    }
}

#[test]
fn every_setting_has_its_comment() {
    let text = read("crates/tally/src/default.toml");
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(lines[at - 1].starts_with('#'), "`{line}` has no comment above it");
        }
    }
}
