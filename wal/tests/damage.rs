//! Damage of every bit, cut and file of a log that is whole: found, or without any effect.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod log;

use base::error::FileKind;
use base::fs::{Fs, SimFs};
use base::{Corruption, Error, Position};
use log::*;
use std::sync::Arc;

/// Two segments, a run, large frames of their own, sealed.
fn sealed(promised: Promised) -> (SimFs, Commits, Position) {
    let (sim, fs) = disk(5);
    let mut log = create(&fs).unwrap();
    let mut expected = Vec::new();
    for (seqno, len) in [(1, 30), (2, 40), (3, 700), (4, 3000), (5, 20), (6, 0), (7, 90)] {
        append(&mut log, seqno, len);
        expected.push((seqno, payload(seqno, len)));
        if seqno == 3 {
            sync(&mut log).unwrap();
        }
    }
    let end = log.finish().unwrap();
    assert_eq!(end.segment, 2);
    let promise = if promised == Promised::ByManifest { end } else { Position::ZERO };
    (sim, expected, promise)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Promised {
    ByManifest,
    BySealOnly,
}

/// Replays the log and allows damage to be found, but not to be believed.
fn found_or_harmless(fs: &dyn Fs, expected: &Commits, promise: Position, what: &str) -> bool {
    match scan_promised(fs, promise).and_then(|scan| commits(fs, &scan)) {
        Ok(found) => {
            assert!(found == *expected, "{what}: {} of {} commits", found.len(), expected.len());
            false
        }
        Err(error) => {
            assert!(is_damage(&error), "{what}: {error}");
            true
        }
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_log_is_found_or_harmless() {
    let (sim, expected, promise) = sealed(Promised::BySealOnly);
    let (mut flips, mut found) = (0u64, 0u64);
    for number in segments(&sim) {
        let whole = read(&sim, number);
        let padding = 160..4096; // zeros between the copies of the header
        for at in (0..whole.len()).filter(|at| !padding.contains(at) || at % 97 == 0) {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                write(&sim, number, &bytes);
                flips += 1;
                let what = format!("segment {number}, byte {at}, bit {bit}");
                found += u64::from(found_or_harmless(&sim, &expected, promise, &what));
            }
        }
        write(&sim, number, &whole);
    }
    // Harmless: one copy of a header, the zeros between the copies, and the seal itself.
    assert!(found * 10 > flips * 8, "{found} of {flips}");
}

#[test]
fn every_cut_of_a_log_is_found_or_harmless() {
    let (sim, expected, promise) = sealed(Promised::ByManifest);
    for number in segments(&sim) {
        let whole = read(&sim, number);
        for len in 0..whole.len() {
            write(&sim, number, &whole[..len]);
            let what = format!("segment {number} cut to {len}");
            assert!(found_or_harmless(&sim, &expected, promise, &what), "{what}");
        }
        write(&sim, number, &whole);
    }
    assert!(!found_or_harmless(&sim, &expected, promise, "whole"));
}

#[test]
fn every_zeroed_page_is_found_or_harmless() {
    let (sim, expected, promise) = sealed(Promised::ByManifest);
    for number in segments(&sim) {
        let whole = read(&sim, number);
        for page in (0..whole.len()).step_by(4096) {
            let mut bytes = whole.clone();
            let end = bytes.len().min(page + 4096);
            bytes[page..end].fill(0);
            write(&sim, number, &bytes);
            let what = format!("segment {number}, page at {page}");
            let is_found = found_or_harmless(&sim, &expected, promise, &what);
            assert_eq!(is_found, page > 0, "{what}: only a header is there twice");
        }
        write(&sim, number, &whole);
    }
}

#[test]
fn a_missing_segment_is_named() {
    for number in [1, 2] {
        let (sim, _, promise) = sealed(Promised::ByManifest);
        sim.remove_file(&path(number)).unwrap();
        let error = scan_promised(&sim, promise).unwrap_err();
        assert_eq!(error.code(), "WalMissing");
        assert_eq!(error.path().unwrap().file_name(), path(number).below("".as_ref()).file_name());
    }
}

#[test]
fn a_missing_middle_is_named() {
    let (sim, fs) = disk(5);
    let mut log = create(&fs).unwrap();
    for seqno in 1..20 {
        append(&mut log, seqno, 1000);
    }
    assert!(log.finish().unwrap().segment > 3);
    sim.remove_file(&path(2)).unwrap();
    let error = scan(&sim).unwrap_err();
    assert!(
        matches!(&error, Error::Missing { file: FileKind::Log, path: found } if found.ends_with(path(2).as_str())),
        "{error}"
    );
}

#[test]
fn a_segment_of_another_database_or_under_another_name_is_refused() {
    let (sim, _, promise) = sealed(Promised::ByManifest);
    let (other, fs) = disk(6);
    let foreign = wal::SegmentOwner { database: [9; 16], ..owner(1) };
    let rng = base::rng::SeededRng::new(1);
    wal::Appender::create(fs, &rng, foreign, 2, None, wal::LogOptions { segment_bytes: 8192 })
        .unwrap();

    let second = read(&sim, 2);
    write(&sim, 2, &read(&other, 2));
    assert_eq!(scan_promised(&sim, promise).unwrap_err().code(), "WalForeign");
    write(&sim, 2, &read(&sim, 1));
    let error = scan_promised(&sim, promise).unwrap_err();
    assert!(matches!(error, Error::Corrupt { found: Corruption::Misplaced, .. }));
    write(&sim, 2, &second);
    assert!(scan_promised(&sim, promise).is_ok());
}

/// A segment of another copy of the same directory: its frames verify, its place in the chain does
/// not.
#[test]
fn a_segment_of_another_history_is_refused() {
    let (sim, ..) = sealed(Promised::BySealOnly);
    let (other, fs) = disk(7);
    let mut log = create(&fs).unwrap();
    for (seqno, len) in [(1, 31), (2, 39), (3, 700), (4, 3000)] {
        append(&mut log, seqno, len);
    }
    log.finish().unwrap();
    assert_eq!(read(&other, 1).len(), read(&sim, 1).len());
    write(&sim, 1, &read(&other, 1));
    let error = scan(&sim).unwrap_err();
    assert!(matches!(error, Error::Corrupt { found: Corruption::BrokenChain, .. }), "{error}");
}

/// Frames of two histories with the same key, spliced where both have a frame: every frame
/// verifies by itself, only the chain does not.
#[test]
fn a_frame_of_another_history_breaks_the_chain() {
    let history = |byte: u8| {
        let (sim, fs) = disk(9);
        let mut log = create(&fs).unwrap();
        log.append(tick(1), &[byte; 100]).unwrap();
        let middle = sync(&mut log).unwrap();
        log.append(tick(2), &[byte; 100]).unwrap();
        sync(&mut log).unwrap();
        (sim, middle.offset as usize)
    };
    let ((sim, middle), (other, _)) = (history(1), history(2));
    let spliced = [&read(&sim, 1)[..middle], &read(&other, 1)[middle..]].concat();
    write(&sim, 1, &spliced);
    let torn = scan(&sim).unwrap().torn.unwrap();
    assert_eq!((torn.at.offset as usize, torn.found), (middle, Some(Corruption::BrokenChain)));
}

#[test]
fn a_bad_byte_in_the_last_unpromised_group_is_torn_and_told() {
    let (sim, fs) = disk(5);
    let mut log = create(&fs).unwrap();
    let secured = append(&mut log, 1, 500);
    sync(&mut log).unwrap();
    let torn_at = log.end();
    append(&mut log, 2, 500);
    sync(&mut log).unwrap();
    drop(log);
    let mut bytes = read(&sim, 1);
    bytes[torn_at.offset as usize + 200] ^= 1;
    write(&sim, 1, &bytes);

    let scan = scan(&sim).unwrap();
    let torn = scan.torn.as_ref().unwrap();
    assert!(torn.at > secured && torn.found.is_some(), "{torn:?}");
    assert_eq!(commits(&sim, &scan).unwrap(), [(1, payload(1, 500))]);

    let error =
        scan_promised(&sim, Position { segment: 1, offset: torn.at.offset + 1 }).unwrap_err();
    assert_eq!((error.code(), error.offset()), ("WalCorrupt", Some(torn.at.offset)));
}

/// The same bad byte, once a later frame promises it.
#[test]
fn a_bad_byte_below_a_promise_is_corruption_with_file_and_offset() {
    let (sim, fs) = disk(5);
    let mut log = create(&fs).unwrap();
    append(&mut log, 1, 500);
    sync(&mut log).unwrap();
    let bad = log.end().offset + 200;
    append(&mut log, 2, 500);
    sync(&mut log).unwrap();
    append(&mut log, 3, 500);
    drop(log);
    let mut bytes = read(&sim, 1);
    bytes[bad as usize] ^= 1;
    write(&sim, 1, &bytes);

    let error = scan(&sim).unwrap_err();
    assert_eq!(error.code(), "WalCorrupt");
    assert!(error.offset().unwrap() <= bad && error.offset().unwrap() + 200 > bad);
}

#[test]
fn a_blank_or_torn_newest_segment_is_left_over_unless_promised() {
    let (sim, expected, _) = sealed(Promised::BySealOnly);
    write(&sim, 3, &[0; 8192]);
    let found = scan(&sim).unwrap();
    assert_eq!((found.leftovers.as_slice(), found.torn.as_ref()), (&[3][..], None));
    assert_eq!(commits(&sim, &found).unwrap(), expected);

    write(&sim, 3, b"half a header");
    let found = scan(&sim).unwrap();
    assert_eq!(found.torn.as_ref().unwrap().at, Position { segment: 3, offset: 0 });
    assert_eq!(commits(&sim, &found).unwrap(), expected);

    let promise = Position { segment: 3, offset: 5000 };
    assert_eq!(scan_promised(&sim, promise).unwrap_err().code(), "WalCorrupt");
}

/// A recovery that died left a segment that names nothing before it.
#[test]
fn an_unlinked_segment_without_commits_is_left_over_and_one_with_commits_is_refused() {
    let (sim, expected, promise) = sealed(Promised::ByManifest);
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let mut stray = create_behind(&fs, 3, None).unwrap();
    let found = scan_promised(&sim, promise).unwrap();
    assert_eq!(found.leftovers, [3]);
    assert_eq!(commits(&sim, &found).unwrap(), expected);
    assert_eq!(wal::newer_commits(&sim, DATABASE, &segments(&sim), 1).unwrap(), None);

    append(&mut stray, 100, 10);
    let error = scan_promised(&sim, promise).unwrap_err();
    assert!(matches!(error, Error::Corrupt { found: Corruption::BrokenChain, .. }));
    assert_eq!(wal::newer_commits(&sim, DATABASE, &segments(&sim), 1).unwrap(), Some((3, 3)));
}

/// A recovery that died behind the accepted end left a segment that links, but holds nothing.
#[test]
fn a_linked_segment_of_a_newer_generation_is_told() {
    let (sim, expected, promise) = sealed(Promised::ByManifest);
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let end = scan_promised(&sim, promise).unwrap().end();
    drop(create_behind(&fs, 3, end).unwrap());
    let found = scan_promised(&sim, promise).unwrap();
    assert_eq!(commits(&sim, &found).unwrap(), expected);
    assert_eq!(found.abandoned(1).collect::<Vec<_>>(), [3]);
    assert_eq!(found.abandoned(3).count(), 0);
}

/// A value that holds frames, even of this very segment, is only a value: their promises count for
/// nothing.
#[test]
fn frames_inside_a_value_are_never_taken_for_frames() {
    let (old, fs) = disk(8);
    let mut log = create(&fs).unwrap();
    append(&mut log, 1, 1500);
    sync(&mut log).unwrap();
    assert!(log.seal().unwrap());
    let promised = log.durable().offset;
    drop(log);
    let value = read(&old, 1)[wal::HEADER_LEN as usize..][..2000].to_vec();

    let (sim, fs) = disk(8);
    let mut log = create(&fs).unwrap();
    append(&mut log, 1, 10);
    sync(&mut log).unwrap();
    let at = log.end().offset;
    assert_eq!(log.append(tick(2), &value).unwrap().segment, 1);
    drop(log);
    let mut bytes = read(&sim, 1);
    bytes[at as usize + 100] ^= 1;
    write(&sim, 1, &bytes);
    let found = scan(&sim).unwrap();
    assert_eq!(found.commits(), 1);
    assert!(found.torn.unwrap().at.offset < promised);
}
