//! Opening after a close and after a kill.

use crate::small::{Small, create, expected, key, open, open_with, plan, value};
use base::fs::{CrashModel, Fs, SimFs};
use base::{FileName, RelPath};
use recovery::{Create, Plan, Verify};

fn filled(fs: &SimFs, count: usize) -> Small {
    let mut small = create(fs).unwrap();
    small.keyspace().unwrap();
    (0..count).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    small
}

fn names(fs: &SimFs) -> Vec<String> {
    fs.files().iter().map(ToString::to_string).collect()
}

#[test]
fn after_a_kill_the_log_is_replayed_and_after_a_close_it_is_not() {
    let fs = SimFs::new(1);
    drop(filled(&fs, 300));
    let small = open(&fs).unwrap();
    assert_eq!(small.content(), expected(300));
    assert_eq!(small.recovered.report.commits_replayed, 300);
    assert!(!small.recovered.report.was_closed);
    small.close().unwrap();
    let small = open(&fs).unwrap();
    assert!(small.recovered.report.was_closed);
    assert_eq!(small.recovered.report.commits_replayed, 0);
    assert_eq!(small.content(), expected(300));
}

#[test]
fn ticks_go_on_where_they_were() {
    let fs = SimFs::new(1);
    let small = filled(&fs, 10);
    let last = small.tick;
    drop(small);
    let small = open(&fs).unwrap();
    assert_eq!(small.recovered.last_tick, last);
    small.close().unwrap();
    assert_eq!(open(&fs).unwrap().recovered.last_tick, last);
}

#[test]
fn commits_that_tables_hold_are_not_replayed_again() {
    let fs = SimFs::new(1);
    let mut small = filled(&fs, 100);
    small.flush().unwrap();
    (100..150).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    drop(small);
    let small = open(&fs).unwrap();
    assert_eq!(small.recovered.report.commits_replayed, 50);
    assert_eq!(small.content(), expected(150));
}

#[test]
fn a_replay_larger_than_memory_makes_several_tables() {
    let fs = SimFs::new(1);
    drop(filled(&fs, 2000));
    let memory_bytes = 64 << 10;
    let small = open_with(Plan { memory_bytes, ..plan(&fs, Create::Never) }).unwrap();
    assert!(small.recovered.report.tables_written > 2);
    assert_eq!(small.content(), expected(2000));
    assert_eq!(small.recovered.state.version.runs().len(), small.recovered.report.tables_written);
}

/// Nothing grows from reopening, and the second open finds what the first found.
#[test]
fn reopening_changes_nothing() {
    let fs = SimFs::new(1);
    drop(filled(&fs, 100));
    let first = open(&fs).unwrap();
    let content = first.content();
    let version = first.recovered.state.version.clone();
    let files = names(&fs).len();
    drop(first);
    for _ in 0..5 {
        let again = open(&fs).unwrap();
        assert_eq!(again.content(), content);
        assert_eq!(again.recovered.state.version, version);
        assert_eq!(names(&fs).len(), files);
    }
}

#[test]
fn after_a_close_the_data_is_complete_without_the_log() {
    let fs = SimFs::new(1);
    filled(&fs, 100).close().unwrap();
    for name in names(&fs).iter().filter(|name| name.starts_with("wal/")) {
        fs.remove_file(&FileName::parse(name).unwrap().path()).unwrap();
    }
    let small = open(&fs).unwrap();
    assert!(small.recovered.report.was_closed);
    assert_eq!(small.content(), expected(100));
}

#[test]
fn every_level_of_verification_opens_a_sound_database() {
    for verify in [Verify::Quick, Verify::Full, Verify::Paranoid] {
        let fs = SimFs::new(1);
        let mut small = filled(&fs, 100);
        small.flush().unwrap();
        small.close().unwrap();
        let small = open_with(Plan { verify, ..plan(&fs, Create::Never) }).unwrap();
        assert_eq!(small.content(), expected(100));
    }
}

#[test]
fn strangers_are_reported_and_stay() {
    let fs = SimFs::new(1);
    drop(filled(&fs, 3));
    let largest = FileName::Segment(u64::MAX).path();
    let strangers = ["notes.txt", "wal/readme", "tables/7.sst", largest.as_str()];
    let path =
        |name: &str| name.split('/').fold(RelPath::root(), |path, step| path.join(step).unwrap());
    for name in strangers {
        fs.write_file(&path(name), b"mine".to_vec()).unwrap();
    }
    let small = open(&fs).unwrap();
    let mut reported = small.recovered.report.strangers.clone();
    reported.sort();
    assert_eq!(reported, ["notes.txt", "tables/7.sst", largest.as_str(), "wal/readme"]);
    for name in strangers {
        assert_eq!(fs.read_file(&path(name)).unwrap(), b"mine");
    }
}

/// Tables without an edit, temporary roots, manifests of openings that died: all gone afterwards.
#[test]
fn leftovers_are_removed() {
    let fs = SimFs::new(1);
    let small = filled(&fs, 3);
    let manifest = small.recovered.manifest.number();
    drop(small);
    let bytes = fs.read_file(&FileName::Manifest(manifest).path()).unwrap();
    for leftover in [FileName::Table(77), FileName::CurrentTemp, FileName::Manifest(1)] {
        fs.write_file(&leftover.path(), bytes.clone()).unwrap();
    }
    let small = open(&fs).unwrap();
    assert!(small.recovered.report.removed >= 4, "and the old manifest and segment");
    let left = names(&fs);
    assert_eq!(left.len(), 7, "{left:?}"); // lock, identity, roots, manifest, segment, table
    assert_eq!(small.content(), expected(3));
    assert!(small.recovered.state.next_table > 77, "no number is used twice");
}

/// What the crash cut off is set aside byte for byte, zeros apart.
#[test]
fn a_torn_tail_goes_to_quarantine() {
    let fs = SimFs::new(1);
    let mut small = filled(&fs, 20);
    small.sync().unwrap();
    let synced = small.recovered.log.end();
    (20..40).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    let end = small.recovered.log.end();
    drop(small);
    let segment = FileName::Segment(synced.segment).path();
    let mut bytes = fs.read_file(&segment).unwrap();
    let torn = synced.offset as usize + 200;
    bytes[torn] ^= 1;
    fs.write_file(&segment, bytes.clone()).unwrap();

    let small = open(&fs).unwrap();
    let report = &small.recovered.report;
    let at = report.torn_log.unwrap();
    assert_eq!(at.segment, synced.segment);
    assert!(synced.offset <= at.offset && at.offset as usize <= torn);
    assert_eq!(report.quarantined.len(), 1);
    let quarantined = fs.files().into_iter().find(|file| file.as_str() == report.quarantined[0]);
    let quarantined = fs.read_file(&quarantined.unwrap()).unwrap();
    assert_eq!(quarantined, bytes[at.offset as usize..end.offset as usize]);
    let content = small.content();
    assert!((20..40).contains(&content.len()));
    assert_eq!(content, expected(content.len()));
    drop(small);
    assert!(open(&fs).unwrap().recovered.report.torn_log.is_none(), "once is enough");
}

/// Segments behind a torn one are set aside whole.
#[test]
fn segments_behind_a_torn_one_go_to_quarantine() {
    let fs = SimFs::new(1);
    let mut small = filled(&fs, 10);
    let first = small.recovered.log.end().segment;
    let mut n = 10;
    while small.recovered.log.end().segment < first + 2 {
        small.put(&key(n), &value(n)).unwrap();
        n += 1;
    }
    drop(small);
    let path = FileName::Segment(first).path();
    let mut bytes = fs.read_file(&path).unwrap();
    bytes[9000] ^= 1;
    fs.write_file(&path, bytes).unwrap();
    let small = open(&fs).unwrap();
    let torn = small.recovered.report.torn_log.unwrap();
    assert_eq!(torn.segment, first);
    assert_eq!(small.recovered.report.quarantined.len(), 3);
    let content = small.content();
    assert_eq!(content, expected(content.len()));
    let again = fs.crash(CrashModel::Synced);
    drop(small);
    assert_eq!(open(&again).unwrap().content(), content);
    let set_aside = again.list(&RelPath::folder("quarantine")).unwrap();
    assert_eq!(set_aside.len(), 3, "and it is durable");
}

#[test]
fn an_open_can_be_cancelled_and_leaves_no_trace() {
    let fs = SimFs::new(1);
    drop(filled(&fs, 100));
    let before = names(&fs);
    let progress = recovery::Progress::default();
    progress.cancel();
    let mut sink = crate::small::Memory::default();
    let error = recovery::recover(plan(&fs, Create::Never), &mut sink, &progress).unwrap_err();
    assert!(matches!(error, base::Error::Cancelled));
    assert_eq!(names(&fs), before);
    assert_eq!(open(&fs).unwrap().content(), expected(100));
}
