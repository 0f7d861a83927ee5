//! A loader killed at any moment keeps every promise it made, in every sync mode.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Place, arguments, start};
use std::io::{BufRead, BufReader, BufWriter, Write};

const BATCH: usize = 20;

fn record(number: usize) -> (String, String) {
    (format!("key{number:08}"), format!("value {number} {}", "x".repeat(number % 200)))
}

/// Loads records from `first` on until `kill_after` of them are acknowledged, then kills the
/// process. Returns how many it had acknowledged.
fn load_and_kill(place: &Place, mode: &str, first: usize, kill_after: usize) -> usize {
    let line = format!("load --format tsv --batch {BATCH} --ack --sync {mode} -");
    let mut child = start(arguments(&line, &place.path("data")));
    let pipe = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let mut pipe = BufWriter::new(pipe);
        let mut number = first;
        // Until the pipe breaks: the loader can only end by being killed.
        while {
            let (key, value) = record(number);
            number += 1;
            writeln!(pipe, "{key}\t{value}").is_ok()
        } {}
    });
    let mut acknowledged = 0;
    let mut is_killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        acknowledged = line.unwrap().parse().unwrap();
        if !is_killed && acknowledged >= kill_after {
            child.kill().unwrap();
            is_killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(is_killed && status.code().is_none(), "it was to be killed, but ended: {status:?}");
    feeder.join().unwrap();
    acknowledged
}

/// Compares the database with the records it should hold; returns how many it does.
fn stored(place: &Place, promised: usize) -> usize {
    let scan = place.run("scan").ok();
    let mut count = 0;
    for (number, line) in scan.text().lines().enumerate() {
        let (key, value) = record(number);
        assert_eq!(line, format!("{key}\t{value}"), "record {number}");
        count += 1;
    }
    assert!(count >= promised, "{promised} were promised, {count} are there");
    assert_eq!(count % BATCH, 0, "a part of a batch is there");
    count
}

#[test]
fn what_was_acknowledged_survives_a_kill_in_every_mode() {
    let place = Place::new();
    let mut next = 0;
    for round in 0..4 {
        for mode in ["sync", "periodic", "async"] {
            let kill_after = BATCH * (1 + 7 * round);
            let acknowledged = load_and_kill(&place, mode, next, kill_after);
            next = stored(&place, next + acknowledged);
        }
    }
    place.run("check --level paranoid").ok();
}

/// Killed again before it could even recover, and while it recovers, it still keeps them.
#[test]
fn kills_while_opening_lose_nothing() {
    let place = Place::new();
    let promised = load_and_kill(&place, "async", 0, 50 * BATCH);
    for round in 0..12u64 {
        let mut child = start(arguments("flush", &place.path("data")));
        std::thread::sleep(std::time::Duration::from_micros(300 * round));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    stored(&place, promised);
    place.run("check --level paranoid").ok();
}
