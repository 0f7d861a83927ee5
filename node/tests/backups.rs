//! Backups from a shell: made, listed, verified, pruned and restored to any moment between them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use serde_json::Value;
use shell::{Ended, Place, content_of, esker};

fn words(place: &Place, line: &str) -> Ended {
    let all = line.split(' ').map(|word| match word.strip_prefix('@') {
        Some(name) => place.path(name).into_os_string(),
        None => word.into(),
    });
    esker(all)
}

fn load(place: &Place, from: u32, to: u32) {
    let lines: String = (from..to).map(|n| format!("key {n:06}\tvalue {n}\n")).collect();
    place.run_with("load --format tsv --batch 100 -", lines.as_bytes()).ok();
}

fn digest(place: &Place, name: &str) -> String {
    words(place, &format!("digest --path @{name} --output json")).ok().json()[0]["digest"]
        .to_string()
}

fn now_ms() -> u128 {
    std::thread::sleep(std::time::Duration::from_millis(20));
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
}

fn create(place: &Place, more: &str) -> Value {
    let line = format!("backup create --path @data --to @store{more} --output json");
    words(place, &line).ok().json().remove(0)
}

#[test]
fn a_moment_between_two_backups_comes_back_exactly() {
    let place = Place::new();
    load(&place, 0, 2000);
    let first = create(&place, "");
    assert_eq!((&first["backup"], &first["kind"]), (&1.into(), &"full".into()));
    let at_first = digest(&place, "data");
    load(&place, 2000, 3000);
    let (between, at_between) = (now_ms(), digest(&place, "data"));
    place.run("delete key_none").ok();
    now_ms();
    load(&place, 1000, 5000);
    let second = create(&place, " --incremental");
    assert_eq!((&second["kind"], &second["parent"]), (&"incremental".into(), &1.into()));
    let at_second = digest(&place, "data");
    load(&place, 9000, 9010);

    let list = words(&place, "backup list --from @store --output json").ok().json();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["restores_until_ms"], second["covered_ms"], "the log leads on");
    let verified = words(&place, "backup verify --to @store --output json").ok().json();
    assert_eq!((&verified[0]["backups"], &verified[0]["findings"]), (&2.into(), &0.into()));

    words(&place, &format!("restore --from @store --path @between --at {between}")).ok();
    assert_eq!(digest(&place, "between"), at_between);
    let until = first["covered"].as_str().unwrap();
    words(&place, &format!("restore --from @store --path @first --at {until}")).ok();
    assert_eq!(digest(&place, "first"), at_first);
    let newest = words(&place, "restore --from @store --path @newest --output json").ok().json();
    assert_eq!(digest(&place, "newest"), at_second);
    assert_eq!(newest[0]["backup"], 2);
    let id = |name: &str| words(&place, &format!("id --path @{name} --output json")).ok().json();
    assert_eq!(id("newest")[0]["node"], id("data")[0]["node"]);
    assert_ne!(id("newest")[0]["incarnation"], id("data")[0]["incarnation"]);
    words(&place, "check --path @between --level paranoid").ok();
    words(&place, "put --path @between key value").ok();
}

#[test]
fn what_is_not_covered_or_makes_no_sense_is_refused_and_makes_nothing() {
    let place = Place::new();
    words(&place, "backup list --from @store").fails(3, "NoBackups");
    words(&place, "restore --from @store --path @new").fails(3, "NoBackups");
    load(&place, 0, 10);
    words(&place, "backup create --path @data --to @data").fails(5, "no directory of backups");
    words(&place, "backup create --path @nothing --to @store").fails(8, "NotADatabase");
    let made = create(&place, "");
    let covered = made["covered"].as_str().unwrap().to_owned();
    for at in ["1", "2024-01-01T00:00:00Z", "2500-01-01T00:00:00Z"] {
        let line = format!("restore --from @store --path @new --at {at}");
        words(&place, &line).fails(5, &covered);
    }
    words(&place, "restore --from @store --path @new --at yesterday").fails(5, "--at");
    words(&place, "restore --from @store --path @data").fails(4, "AlreadyExists");
    assert!(!place.path("new").exists());
    words(&place, "backup prune --from @store --keep 0").fails(5, "keep at least 1");
    let other = Place::new();
    load(&other, 0, 1);
    let store = place.path("store").display().to_string();
    words(&other, &format!("backup create --path @data --to {store}")).fails(5, "another database");
}

#[test]
fn damage_is_found_and_never_restored() {
    let place = Place::new();
    load(&place, 0, 500);
    create(&place, "");
    load(&place, 500, 600);
    create(&place, " --incremental");
    for (path, bytes) in content_of(&place.path("store")) {
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        words(&place, "backup verify --from @store")
            .fails(10, "BackupCorrupt")
            .text()
            .contains(name);
        std::fs::remove_file(&path).unwrap();
        let gone = words(&place, "backup verify --from @store");
        let is_record = name.ends_with(".backup");
        assert_eq!(gone.code, Some(if is_record { 0 } else { 10 }), "{name}: {}", gone.err);
        if name.ends_with(".sst") {
            let restored = words(&place, "restore --from @store --path @new");
            assert!(matches!(restored.code, Some(0 | 10)), "{}", restored.err);
            let _ = std::fs::remove_dir_all(place.path("new"));
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    words(&place, "backup verify --from @store").ok();
}

#[test]
fn pruning_keeps_what_the_newest_need() {
    let place = Place::new();
    for round in 0..4 {
        load(&place, round * 100, round * 100 + 100);
        create(&place, if round == 0 { "" } else { " --incremental" });
    }
    let pruned = words(&place, "backup prune --from @store --keep 2 --output json").ok().json();
    assert_eq!(pruned[0]["removed"], serde_json::json!([1, 2]));
    words(&place, "backup verify --from @store").ok();
    let list = words(&place, "backup list --from @store --output json").ok().json();
    assert_eq!(list.len(), 2);
    let from = list[0]["restores_from"].as_str().unwrap();
    words(&place, &format!("restore --from @store --path @old --at {from}")).ok();
    let scan = words(&place, "scan --path @old --keys-only").ok();
    assert_eq!(scan.text().lines().count(), 300);
    words(&place, "restore --from @store --path @new").ok();
    assert_eq!(digest(&place, "new"), digest(&place, "data"));
}
