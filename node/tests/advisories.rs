//! What the workspace depends on: no version below one that mends a known flaw, no licence that was
//! not agreed to, and few packages below the engine.
//!
//! Read from `Cargo.lock` and, for licences and edges, from `cargo metadata`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The lowest version of a package that may be locked.
const FLOORS: [(&str, [u64; 3]); 9] = [
    ("bytes", [1, 11, 1]),
    ("crossbeam-channel", [0, 5, 15]),
    ("crossbeam-epoch", [0, 9, 20]),
    ("memmap2", [0, 9, 11]),
    ("quinn-proto", [0, 11, 18]),
    ("rkyv", [0, 8, 17]),
    ("rustls", [0, 23, 18]),
    ("rustls-webpki", [0, 103, 13]),
    ("tracing-subscriber", [0, 3, 20]),
];

/// Licences that a dependency may be under.
const LICENCES: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Packages that the engine may pull in, itself included.
const ENGINE_PACKAGES_MAX: usize = 45;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The packages of a lock file, with their versions.
fn locked(lock: &str) -> Vec<(&str, [u64; 3])> {
    let mut name = "";
    let mut packages = Vec::new();
    for line in lock.lines() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let value = value.trim_matches('"');
        match key {
            "name" => name = value,
            // Before the first package stands the version of the lock file itself.
            "version" if !name.is_empty() => packages.push((name, version(value))),
            _ => {}
        }
    }
    packages
}

/// Major, minor and patch. A pre-release counts as the release before it.
fn version(text: &str) -> [u64; 3] {
    let core = text.split('+').next().unwrap_or_default();
    let (core, is_release) = core.split_once('-').map_or((core, true), |(core, _)| (core, false));
    let mut parts = core.split('.').map(|part| part.parse().unwrap());
    let mut version: [u64; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    version[2] = if is_release { version[2] } else { version[2].saturating_sub(1) };
    version
}

fn below_floor(lock: &str) -> Vec<String> {
    let packages = locked(lock).into_iter();
    packages
        .filter_map(|(name, version)| {
            let (_, floor) = FLOORS.iter().find(|(floored, _)| *floored == name)?;
            (version < *floor).then(|| format!("{name} {version:?} is below {floor:?}"))
        })
        .collect()
}

/// Whether an SPDX expression without nested brackets can be met: some alternative, all of it.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let parts: Vec<&str> = expression.split(" AND ").collect();
    let is_agreed =
        |licence: &str| LICENCES.contains(&licence.trim().trim_matches(['(', ')']).trim());
    let is_whole_bracket = |part: &str| part.trim().starts_with('(') || parts.len() == 1;
    if parts.iter().all(|part| is_whole_bracket(part) || !part.contains(" OR ")) {
        return parts.iter().all(|part| part.split(" OR ").any(is_agreed));
    }
    // AND binds closer than OR.
    expression.split(" OR ").any(|part| part.split(" AND ").all(is_agreed))
}

/// What cargo knows of the packages of this machine's platform.
fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or("cargo".to_owned());
    let version = Command::new(&cargo).arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(&cargo)
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--offline",
            "--filter-platform",
            host,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The packages that `package` needs when it is built and run, without those for tests.
fn needs(metadata: &Value, package: &str) -> BTreeSet<String> {
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let packages = list(&metadata["packages"]);
    let named = packages.filter(|other| other["name"] == package);
    let mut waiting: Vec<&str> = named.map(|found| found["id"].as_str().unwrap()).collect();
    let mut needed = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !needed.insert(id.to_owned()) {
            continue;
        }
        for dependency in list(&nodes[id]["deps"]) {
            if list(&dependency["dep_kinds"]).any(|kind| kind["kind"] != "dev") {
                waiting.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    needed
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

#[test]
fn no_dependency_is_below_its_floor() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert!(locked(&lock).iter().any(|(name, _)| *name == "blake3"), "the lock file was not read");
    assert_eq!(below_floor(&lock), [""; 0]);
}

#[test]
fn every_dependency_is_under_an_agreed_licence() {
    let metadata = metadata();
    let mut seen = 0;
    for package in list(&metadata["packages"]) {
        let licence = package["license"].as_str().unwrap_or("no licence");
        assert!(is_allowed(licence), "{}: {licence}", package["name"]);
        seen += 1;
    }
    assert!(seen > 20, "only {seen} packages were seen");
}

#[test]
fn the_engine_stays_small() {
    let needs = needs(&metadata(), "esker");
    let count = needs.len();
    println!("the engine and what it needs: {count} packages");
    assert!((5..=ENGINE_PACKAGES_MAX).contains(&count), "{count}: {needs:#?}");
}

#[test]
fn a_version_below_a_floor_is_found() {
    let lock = |version| {
        format!("version = 4\n\n[[package]]\nname = \"rustls\"\nversion = \"{version}\"\n")
    };
    for bad in ["0.23.17", "0.21.99", "0.23.18-rc.1"] {
        assert_eq!(below_floor(&lock(bad)).len(), 1, "{bad}");
    }
    for good in ["0.23.18", "0.24.0", "1.0.0", "0.23.18+metadata"] {
        assert_eq!(below_floor(&lock(good)), [""; 0], "{good}");
    }
}

#[test]
fn a_licence_that_was_not_agreed_to_is_found() {
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND LGPL-2.1", "no licence"] {
        assert!(!is_allowed(bad), "{bad}");
    }
    let good = [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR GPL-3.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 OR MIT AND GPL-3.0",
        "Apache-2.0 WITH LLVM-exception OR MIT",
    ];
    good.iter().for_each(|good| assert!(is_allowed(good), "{good}"));
}
