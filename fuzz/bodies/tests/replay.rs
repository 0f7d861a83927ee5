//! Every target on the seeds of the corpus, on damaged copies of them, and on random bytes.

use bodies::{TARGETS, Target};
use std::fs;
use std::path::Path;

/// Inputs derived from each seed.
const COPIES: u64 = 20;
/// Inputs of random bytes.
const RANDOM: u64 = 60;

/// The seeds that are checked in; not what a fuzzer has found since on this machine.
fn seeds((name, _): Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("seed-"));
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

fn replay(name: &str) {
    let target = *TARGETS.iter().find(|target| target.0 == name).unwrap();
    let mut random = Random(42);
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "no seeds for {name}");
    for seed in seeds {
        target.1(&seed);
        for _ in 0..COPIES {
            target.1(&damaged(&seed, &mut random));
        }
    }
    for number in 0..RANDOM {
        let len = 1 << (2 + number % 9);
        let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        target.1(&bytes);
    }
}

fn damaged(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.next() % 4 {
        let len = bytes.len().max(1) as u64;
        let at = (random.next() % len) as usize;
        match random.next() % 3 {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.insert(at, random.next() as u8),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.next() as u8),
        }
    }
    bytes
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }
}

#[test]
fn logs_never_give_what_was_not_written() {
    replay("frame");
}

#[test]
fn records_have_one_encoding() {
    replay("batch");
}

#[test]
fn blocks_that_decode_are_in_order() {
    replay("block");
}

#[test]
fn tables_answer_with_an_error_or_the_truth() {
    replay("table_open");
}

#[test]
fn manifests_replay_to_a_state_that_was() {
    replay("manifest");
}

#[test]
fn databases_answer_as_a_map_does() {
    replay("operations");
}

#[test]
fn roots_are_those_that_were_written() {
    replay("root");
}

#[test]
fn a_mutated_directory_never_holds_what_never_was() {
    replay("directory");
}

#[test]
fn what_is_restored_from_a_mutated_store_was_there_at_a_moment() {
    replay("backup");
}

#[test]
fn frames_come_out_of_streams_as_they_went_in() {
    replay("stream");
}

#[test]
fn introductions_have_one_form_and_no_slips() {
    replay("introductions");
}

#[test]
fn messages_that_decode_come_back() {
    replay("message");
}

#[test]
fn a_session_outlives_whatever_a_peer_says() {
    replay("session");
}

#[test]
fn frames_of_a_session_are_an_error_or_the_truth() {
    replay("lane");
}

#[test]
fn shipments_are_taken_or_refused_whatever_is_in_them() {
    replay("shipment");
}

#[test]
fn chunks_of_a_state_are_taken_or_refused_whatever_is_in_them() {
    replay("state");
}

#[test]
fn catalogs_of_tables_are_refused_or_begin_an_import() {
    replay("catalog");
}

#[test]
fn whatever_is_heard_on_the_network_is_bounded() {
    replay("beacon");
}

#[test]
fn comparisons_find_what_differs_whoever_is_in_between() {
    replay("reconcile");
}

#[test]
fn requests_to_join_are_as_long_as_one_or_refused() {
    replay("request");
}

#[test]
fn certificates_show_no_name_that_is_not_proved() {
    replay("certificate");
}

#[test]
fn rosters_are_bounded_whatever_was_written() {
    replay("roster");
}

#[test]
fn documents_are_merged_to_their_union() {
    replay("json_merge");
}
