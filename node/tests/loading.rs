//! Load and export: formats, batches, bad lines, round trips.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shell::Place;
use std::collections::BTreeMap;

#[test]
fn what_is_exported_loads_again_byte_for_byte() {
    let place = Place::new();
    let mut runner = TestRunner::new(Config { cases: 4, ..Config::default() });
    let bytes = |len| proptest::collection::vec(any::<u8>(), len);
    let value = prop_oneof![bytes(0..200), any::<String>().prop_map(String::into_bytes)];
    let records = proptest::collection::btree_map(bytes(1..30), value, 1..400);
    let case = std::cell::Cell::new(0);
    let property = |records: BTreeMap<Vec<u8>, Vec<u8>>| {
        case.set(case.get() + 1);
        let (from, to) = (format!("from{}", case.get()), format!("to{}", case.get()));
        let run = |name: &str, line: &str, input: &[u8]| {
            shell::esker_with(shell::arguments(line, &place.path(name)), input).ok()
        };
        run(&from, "load --batch 37 -", lines_of(&records).as_bytes());
        let exported = run(&from, "export -", b"");
        run(&to, "load -", &exported.out);
        prop_assert_eq!(&run(&to, "export -", b"").out, &exported.out);
        prop_assert_eq!(&run(&to, "scan --output json", b"").out, &exported.out);
        prop_assert_eq!(run(&to, "digest", b"").out, run(&from, "digest", b"").out);
        prop_assert_eq!(exported.text().lines().count(), records.len());
        Ok(())
    };
    runner.run(&records, property).unwrap();
}

/// All of `records` as bytes in base64, which is the other way to write what export writes as text.
fn lines_of(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    use base64::Engine;
    let encode = |bytes: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
    let line = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        format!("{{\"key_b64\":\"{}\",\"value_b64\":\"{}\"}}\n", encode(key), encode(value))
    };
    records.iter().map(line).collect()
}

#[test]
fn all_keyspaces_travel_in_one_export() {
    let place = Place::new();
    place.run("put a 1").ok();
    place.run("put --keyspace users b 2").ok();
    let file = place.path("all.ndjson");
    let line = format!("export --all {}", file.display());
    assert_eq!(place.run(&line).ok().text(), "exported 2 records\n");
    let copy = Place::new();
    copy.run(&format!("load {}", file.display())).ok();
    assert_eq!(copy.run("digest").ok().text(), place.run("digest").ok().text());
    assert_eq!(copy.run("get --keyspace users b").ok().text(), "2\n");
    assert!(!place.path("all.ndjson.partial").exists());
    let only = place.run("export --keyspace users -").ok();
    assert_eq!(only.text(), "{\"key\":\"b\",\"value\":\"2\"}\n");
}

#[test]
fn an_export_that_can_not_be_written_leaves_nothing() {
    let place = Place::new();
    place.run("put a 1").ok();
    let line = format!("export {}", place.path("missing/all.ndjson").display());
    place.run(&line).fails(7, "error[Io]: ");
    place.run("export --all --keyspace users -").fails(2, "error[Usage]: ");
}

#[test]
fn csv_and_keyed_json_are_stored_whole() {
    let place = Place::new();
    let csv = place.path("users.csv");
    std::fs::write(&csv, "name,born\n\"Lovelace, Ada\",1815\nAlan,1912\n").unwrap();
    place.run(&format!("load --key name {}", csv.display())).ok();
    assert_eq!(place.run("get Alan").ok().text(), "{\"name\":\"Alan\",\"born\":\"1912\"}\n");
    let json = b"{\"id\":7, \"tags\":[\"x\"]}\n{\"id\":\"s\"}\n";
    place.run_with("load --key id -", json).ok();
    assert_eq!(place.run("get 7").ok().text(), "{\"id\":7, \"tags\":[\"x\"]}\n");
    assert_eq!(place.run("keyspaces").ok().text().split('\t').nth(1), Some("4"));
    place.run_with("load --format csv -", b"a,b\n").fails(5, "--key");
    place.run_with("load --format csv --key z -", b"a,b\n").fails(5, "\"z\"");
    place.run_with("load --format tsv --key z -", b"a\tb\n").fails(5, "--key");
}

#[test]
fn a_bad_line_is_named_and_nothing_of_its_batch_is_stored() {
    let place = Place::new();
    let input = b"a\t1\nb\t2\nc\t3\nno tab here\ne\t5\n";
    let ended = place.run_with("load --format tsv --batch 2 --ack -", input);
    let ended = ended.fails(5, "error[BadLine]: ");
    assert!(ended.err.contains("line 4") && !ended.err.contains("no tab here"), "{}", ended.err);
    assert_eq!(ended.text(), "2\n");
    assert_eq!(place.run("scan --keys-only").ok().text(), "a\nb\n");

    let ended = place.run_with("load --format tsv --batch 2 --output json -", input);
    let error = ended.fails(5, "BadLine").error();
    assert_eq!((&error["code"], &error["line"]), (&"BadLine".into(), &4.into()));
    assert_eq!(error["category"], "invalid_input");
}

#[test]
fn skipped_lines_are_counted_and_the_others_stored() {
    let place = Place::new();
    let input = b"a\t1\nbad\nb\t2\n\xff\xfe\nc\t3\n\t\n";
    let ended = place.run_with("load --format tsv --skip-bad -", input).ok();
    assert_eq!(ended.text(), "loaded 3 records in 1 batches, 3 bad lines skipped\n");
    assert_eq!(ended.err.lines().count(), 3);
    let ended = place.run_with("load --format tsv --skip-bad --output json --quiet -", input).ok();
    assert_eq!((ended.text(), ended.err.as_str()), ("", ""));
    assert_eq!(place.run("scan --keys-only").ok().text(), "a\nb\nc\n");
}

#[test]
fn acknowledgements_count_records_of_full_batches_and_then_the_rest() {
    let place = Place::new();
    let input: String = (0..25).map(|n| format!("{n}\tv\n")).collect();
    let ended = place.run_with("load --format tsv --batch 10 --ack -", input.as_bytes()).ok();
    assert_eq!(ended.text(), "10\n20\n25\n");
    let line = "load --format tsv --batch 10 --ack --output json -";
    let objects = place.run_with(line, input.as_bytes()).ok().json();
    assert_eq!(objects[2]["acknowledged"], 25);
    assert_eq!(objects[3]["loaded"], 25);
    assert_eq!(place.run_with("load --ack -", b"").ok().text(), "");
}

#[test]
fn input_that_is_not_text_is_bytes_in_tsv_and_a_bad_line_in_json() {
    let place = Place::new();
    place.run_with("load --format tsv -", b"k\xff\tv\xfe\0\n").ok();
    let line = place.run("scan --output json").ok();
    assert_eq!(line.text(), "{\"key_b64\":\"a/8=\",\"value_b64\":\"dv4A\"}\n");
    place.run_with("load -", b"{\"key\":\"\xff\",\"value\":\"\"}\n").fails(5, "BadLine");
    place.run_with("load --format csv --key a -", b"a\n\xff\n").fails(5, "UTF-8");
    place.run_with("load -", &[0; 4096]).fails(5, "BadLine");
    let deep = "[".repeat(200_000);
    place.run_with("load --key a -", deep.as_bytes()).fails(5, "BadLine");
    let deep = format!("{{\"a\":\"k\",\"b\":{}}}", "[".repeat(200_000));
    place.run_with("load --key a -", deep.as_bytes()).fails(5, "BadLine");
}

#[test]
fn every_sync_mode_loads_the_same() {
    let place = Place::new();
    for mode in ["sync", "periodic", "async"] {
        let line = format!("load --format tsv --sync {mode} --keyspace {mode} -");
        place.run_with(&line, b"a\t1\nb\t2\n").ok();
        let scan = place.run(&format!("scan --keyspace {mode}")).ok();
        assert_eq!(scan.text(), "a\t1\nb\t2\n");
    }
}

#[test]
fn large_values_are_committed_in_smaller_batches() {
    let place = Place::new();
    let value = "x".repeat(20 << 20);
    let input: String = (0..5).map(|n| format!("{n}\t{value}\n")).collect();
    let ended = place.run_with("load --format tsv -", input.as_bytes()).ok();
    assert_eq!(ended.text(), "loaded 5 records in 2 batches\n");
    assert_eq!(place.run("get 4").ok().out.len(), value.len() + 1);
}
