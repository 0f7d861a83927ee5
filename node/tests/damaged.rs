//! The real command against the damaged databases that are kept as files in
//! `recovery/tests/fixtures/damaged`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod shell;

use shell::{Place, content_of};
use std::path::{Path, PathBuf};

/// Name of the fixture, code of the finding, the file it names. There is one more: `healthy`.
const FIXTURES: &[(&str, &str, &str)] = &[
    ("table-bit-flip", "TableCorrupt", "tables/00000000000000000002.sst"),
    ("table-truncated", "TableCorrupt", "tables/00000000000000000002.sst"),
    ("table-extended", "TableCorrupt", "tables/00000000000000000002.sst"),
    ("table-zeroed", "TableCorrupt", "tables/0000000000000000000"),
    ("table-missing", "TableMissing", "tables/00000000000000000002.sst"),
    ("tables-swapped", "TableCorrupt", "tables/00000000000000000003.sst"),
    ("log-bit-flip", "WalCorrupt", "wal/00000000000000000001.log"),
    ("log-truncated", "WalCorrupt", "wal/00000000000000000001.log"),
    ("log-missing", "WalMissing", "wal/00000000000000000001.log"),
    ("log-foreign", "WalForeign", "wal/00000000000000000001.log"),
    ("root-stale", "StaleManifest", "CURRENT"),
    ("root-copy-corrupt", "RootCorrupt", "CURRENT.copy"),
    ("roots-corrupt", "RootCorrupt", "CURRENT"),
    ("manifest-corrupt", "ManifestCorrupt", "manifest/00000000000000000002.mf"),
    ("manifest-missing", "ManifestMissing", "manifest/00000000000000000002.mf"),
    ("identity-corrupt", "IdentityCorrupt", "IDENTITY"),
    ("identity-missing", "IdentityMissing", "IDENTITY"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../recovery/tests/fixtures/damaged")
}

fn copy(name: &str) -> Place {
    let place = Place::new();
    let root = folder().join(name);
    for (path, bytes) in content_of(&root) {
        let to = place.path("data").join(path.strip_prefix(&root).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
    place
}

#[test]
fn every_fixture_is_here() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name != "healthy");
    names.sort();
    let mut listed: Vec<&str> = FIXTURES.iter().map(|(name, _, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(names, listed);
}

#[test]
fn check_names_the_damaged_file_of_every_fixture_and_changes_nothing() {
    let place = copy("healthy");
    place.run("check --level paranoid").ok();
    for (name, code, file) in FIXTURES {
        let place = copy(name);
        let before = content_of(&place.path("data"));
        let ended = place.run("check --level paranoid").fails(10, "error[Integrity]: ");
        let is_it = |line: &str| line.contains(&format!("[{code}]: ")) && line.contains(file);
        assert!(ended.text().lines().any(is_it), "{name}: {}", ended.text());
        let ended = place.run("check --level paranoid --output json").fails(10, "Integrity");
        let lines = ended.json();
        let finding = lines.iter().find(|finding| {
            finding["code"] == *code && finding["file"].as_str().unwrap().contains(file)
        });
        let finding = finding.unwrap_or_else(|| panic!("{name}: {lines:?}"));
        assert!(["damage", "warning"].contains(&finding["severity"].as_str().unwrap()));
        assert!(before == content_of(&place.path("data")), "{name}: check changed a byte");
    }
}

#[test]
fn every_fixture_is_repaired_after_a_copy_and_then_checks_out() {
    for (name, code, _) in FIXTURES {
        let place = copy(name);
        let before = content_of(&place.path("data"));
        let copy = place.path("copy");
        let line = format!("repair --output json --backup {}", copy.display());
        let ended = place.run(&line).ok();
        let object = &ended.json()[0];
        assert_eq!(object["healthy"], false, "{name}");
        let found = object["findings"].as_array().unwrap();
        assert!(found.iter().any(|finding| finding["code"] == *code), "{name}: {object}");
        for (path, bytes) in &before {
            let path = copy.join(path.strip_prefix(place.path("data")).unwrap());
            assert!(*bytes == std::fs::read(&path).unwrap(), "{name}: {}", path.display());
        }
        place.run("check --level paranoid").ok();
        let told = std::fs::read_to_string(copy.join("lost.txt")).unwrap();
        assert_eq!(told.lines().count(), object["losses"].as_array().unwrap().len(), "{name}");
        let ended = place.run("repair").ok();
        assert!(ended.text().contains("nothing to repair"), "{name}: {}", ended.text());
    }
}

#[test]
fn what_can_not_be_rebuilt_ends_with_8_and_stays_as_it_is() {
    let place = copy("healthy");
    for (path, bytes) in content_of(&place.path("data")) {
        std::fs::write(path, vec![b'x'; bytes.len()]).unwrap();
    }
    let before = content_of(&place.path("data"));
    place.run("repair").fails(8, "error[NotADatabase]: ");
    assert!(before == content_of(&place.path("data")));
    place.run_with("repair --backup", b"").fails(2, "error[Usage]: ");
}

#[test]
fn the_losses_of_a_damaged_table_name_keyspace_and_keys() {
    let place = copy("table-bit-flip");
    let ended = place.run("repair").ok();
    let text = ended.text();
    let line = text.lines().find(|line| line.starts_with("lost[Keys]: ")).unwrap();
    assert!(line.contains("tables/") && line.contains("at byte"), "{line}");
    assert!(line.contains("\"users\"") && line.contains("\"user 0"), "{line}");
    assert!(text.contains("copied to ") && text.contains("repaired: "), "{text}");
}
