//! The manifest on a disk that crashes, lies and rots.

use super::samples::{added, full_edit};
use super::*;
use base::error::FileKind;
use base::frame;
use base::fs::{CrashModel, Fault, FaultPlan, Fs, SimFs, SimOp};
use base::rng::SeededRng;
use base::{Corruption, Error, FileName, RelPath};

const DATABASE: [u8; 16] = [5; 16];

fn disk() -> SimFs {
    let fs = SimFs::new(1);
    fs.create_dir(&RelPath::folder("manifest")).unwrap();
    fs.sync_dir(&RelPath::root()).unwrap();
    fs
}

fn create(fs: &SimFs, number: u64, state: &State) -> base::Result<ManifestLog> {
    let log = ManifestLog::create(fs, &SeededRng::new(3), DATABASE, 1, number, state)?;
    write_root(fs, log.root())?;
    Ok(log)
}

/// Adds table `id`, and removes the one before it from the third on.
fn edit(id: u64) -> Edit {
    let key = format!("{id:03}");
    let removed = if id > 2 { vec![id - 1] } else { Vec::new() };
    Edit { added: vec![added(id, 0, id, &key, &key)], removed, ..Edit::default() }
}

/// The state after the first `count` edits.
fn state_after(count: u64) -> State {
    let mut state = State::default();
    (1..=count).for_each(|id| state.apply(&edit(id)).unwrap());
    state
}

fn reopen(fs: &SimFs) -> base::Result<Replayed> {
    replay(fs, &read_root(fs)?.root)
}

fn manifest(number: u64) -> RelPath {
    FileName::Manifest(number).path()
}

fn flip(fs: &SimFs, path: &RelPath, bit: usize) {
    let mut bytes = fs.read_file(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs.write_file(path, bytes).unwrap();
}

#[test]
fn edits_come_back() {
    let fs = disk();
    let mut log = create(&fs, 1, &State::default()).unwrap();
    let mut state = State::default();
    let next = Edit { removed: vec![4], ..edit(10) };
    for edit in [full_edit_first(), next, Edit::default()] {
        state.apply(&edit).unwrap();
        log.append(&edit).unwrap();
    }
    let replayed = reopen(&fs).unwrap();
    assert_eq!(replayed.state, state);
    assert_eq!((replayed.edits, replayed.end, replayed.torn), (4, log.len(), None));
    log.finish().unwrap();
    let replayed = reopen(&fs).unwrap();
    assert_eq!(replayed.state, state);
    assert_eq!(fs.read_file(&manifest(1)).unwrap().len() as u64, replayed.end);
}

/// One that a default state takes: nothing to remove yet.
fn full_edit_first() -> Edit {
    Edit { removed: Vec::new(), ..full_edit() }
}

#[test]
fn a_state_comes_back_from_its_snapshot() {
    let fs = disk();
    let mut state = State::default();
    state.apply(&full_edit_first()).unwrap();
    create(&fs, 1, &state).unwrap();
    let closed = None;
    assert_eq!(reopen(&fs).unwrap().state, State { closed, ..state });
}

#[test]
fn an_edit_is_promised_by_the_next_frame() {
    let fs = disk();
    let mut log = create(&fs, 1, &State::default()).unwrap();
    assert_eq!((log.edits(), log.promised_edits()), (0, 0));
    log.append(&edit(1)).unwrap();
    assert_eq!((log.edits(), log.promised_edits()), (1, 0));
    log.append(&edit(2)).unwrap();
    assert_eq!((log.edits(), log.promised_edits()), (2, 1));
    log.seal().unwrap();
    assert_eq!((log.edits(), log.promised_edits()), (2, 2));
    log.append(&edit(3)).unwrap();
    assert_eq!(log.roll(&fs, &SeededRng::new(4), &state_after(3)).unwrap(), 1);
    assert_eq!((log.number(), log.edits(), log.promised_edits()), (2, 3, 3));
    log.append(&edit(4)).unwrap();
    assert_eq!(reopen(&fs).unwrap().state, state_after(4));
}

#[test]
fn it_wants_to_roll_before_its_reservation_is_used_up() {
    let fs = disk();
    let mut log = create(&fs, 1, &State::default()).unwrap();
    let reserved = fs.read_file(&manifest(1)).unwrap().len() as u64;
    let big = Edit { removed: vec![u64::MAX; 500], ..Edit::default() };
    while !log.wants_roll() {
        log.append(&big).unwrap();
    }
    assert!(log.len() > reserved / 2 && log.len() < reserved);
}

#[test]
fn after_a_failed_sync_nothing_is_appended() {
    let fs = disk();
    let mut log = create(&fs, 1, &State::default()).unwrap();
    fs.inject(FaultPlan::new(SimOp::SyncData, Fault::Io));
    assert!(matches!(log.append(&edit(1)), Err(Error::Io { .. })));
    fs.clear_faults();
    assert!(matches!(log.append(&edit(2)), Err(Error::Poisoned)));
    assert!(matches!(log.seal(), Err(Error::Poisoned)));
}

/// No space for a new manifest: the old one goes on, and later the next number is taken.
#[test]
fn a_roll_that_can_not_be_created_changes_nothing() {
    let fs = disk();
    let mut log = create(&fs, 1, &State::default()).unwrap();
    log.append(&edit(1)).unwrap();
    for op in [SimOp::Create, SimOp::Append, SimOp::SyncData, SimOp::SyncDir] {
        fs.inject(FaultPlan::new(op, Fault::DiskFull));
        log.roll(&fs, &SeededRng::new(4), &state_after(1)).unwrap_err();
        fs.clear_faults();
    }
    log.append(&edit(2)).unwrap();
    assert_eq!(reopen(&fs).unwrap().state, state_after(2));
    log.roll(&fs, &SeededRng::new(4), &state_after(2)).unwrap();
    assert_eq!(log.number(), 6);
    assert_eq!(reopen(&fs).unwrap().state, state_after(2));
}

/// It is unknown which manifest counts, so neither may be written to.
#[test]
fn a_roll_whose_root_can_not_be_written_poisons() {
    for after in 0..2 {
        let fs = disk();
        let mut log = create(&fs, 1, &State::default()).unwrap();
        fs.inject(FaultPlan::new(SimOp::Rename, Fault::Io).after(after));
        log.roll(&fs, &SeededRng::new(4), &State::default()).unwrap_err();
        fs.clear_faults();
        assert!(matches!(log.append(&edit(1)), Err(Error::Poisoned)));
        assert_eq!(reopen(&fs).unwrap().state, State::default());
    }
}

/// Cut at every operation, under every model: what was acknowledged is there, and nothing but a
/// prefix of what was tried.
#[test]
fn acknowledged_edits_survive_a_crash_at_every_operation() {
    let workload = |fs: &SimFs| -> Option<u64> {
        let mut log = create(fs, 1, &State::default()).ok()?;
        for id in 1..=3 {
            if log.append(&edit(id)).is_err() {
                return Some(id - 1);
            }
        }
        if log.roll(fs, &SeededRng::new(4), &state_after(3)).is_err() {
            return Some(3);
        }
        Some(if log.append(&edit(4)).is_ok() && log.finish().is_ok() { 4 } else { 3 })
    };
    let whole = disk();
    let before = whole.ops();
    assert_eq!(workload(&whole), Some(4));
    for stop in before..=whole.ops() {
        let fs = disk();
        fs.stop_after(stop);
        let acknowledged = workload(&fs);
        for model in [
            CrashModel::Kill,
            CrashModel::Synced,
            CrashModel::Prefix,
            CrashModel::Sectors,
            CrashModel::Garbage,
            CrashModel::Directory,
        ] {
            let image = fs.crash(model);
            let found = match reopen(&image) {
                Ok(replayed) => (0..=4).find(|count| state_after(*count) == replayed.state),
                // The root was never written.
                Err(Error::Missing { file: FileKind::Root, .. }) => {
                    assert_eq!(acknowledged, None, "{model:?} at {stop}");
                    continue;
                }
                Err(error) => panic!("{model:?} at {stop}: {error}"),
            };
            assert!(found >= acknowledged, "{model:?} at {stop}: {found:?} < {acknowledged:?}");
        }
    }
}

/// Only in the very last frame may a flipped bit look like a crash: all before it is promised.
#[test]
fn every_flipped_bit_of_a_manifest_is_detected_or_harmless() {
    let fs = disk();
    let mut log = create(&fs, 1, &State::default()).unwrap();
    (1..=3).for_each(|id| log.append(&edit(id)).unwrap());
    let last_edit = log.len();
    log.finish().unwrap();
    let sealed = fs.read_file(&manifest(1)).unwrap();
    for bit in 0..sealed.len() * 8 {
        flip(&fs, &manifest(1), bit);
        match reopen(&fs) {
            Ok(replayed) => {
                assert!(bit as u64 / 8 >= last_edit, "bit {bit} of a promised byte");
                assert_eq!(replayed.state, state_after(3));
                assert_eq!(replayed.torn, Some(last_edit));
            }
            Err(Error::Corrupt { file: FileKind::Manifest, .. }) => {
                assert!((bit as u64) / 8 < last_edit, "a torn seal is no corruption");
            }
            Err(error) => panic!("bit {bit}: {error}"),
        }
        fs.write_file(&manifest(1), sealed.clone()).unwrap();
    }
}

#[test]
fn a_torn_last_edit_is_dropped_and_a_torn_promised_one_refused() {
    for later in [false, true] {
        let fs = disk();
        let mut log = create(&fs, 1, &State::default()).unwrap();
        log.append(&edit(1)).unwrap();
        let second = log.len();
        log.append(&edit(2)).unwrap();
        if later {
            log.append(&edit(3)).unwrap();
        }
        flip(&fs, &manifest(1), (second as usize + frame::HEADER_LEN) * 8);
        match reopen(&fs) {
            Ok(replayed) => {
                assert!(!later);
                assert_eq!((replayed.state, replayed.torn), (state_after(1), Some(second)));
            }
            Err(Error::Corrupt { offset, found, .. }) => {
                assert!(later);
                assert_eq!((offset, found), (second, Corruption::DigestMismatch));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_manifest_that_is_not_the_one_named_is_refused() {
    let fs = disk();
    create(&fs, 1, &State::default()).unwrap();
    let first = fs.read_file(&manifest(1)).unwrap();
    create(&fs, 2, &State::default()).unwrap();
    fs.write_file(&manifest(2), first).unwrap();
    assert_eq!(reopen(&fs).unwrap_err().code(), "ManifestCorrupt");
    fs.remove_file(&manifest(2)).unwrap();
    assert_eq!(reopen(&fs).unwrap_err().code(), "ManifestMissing");
    fs.write_file(&manifest(2), Vec::new()).unwrap();
    assert_eq!(reopen(&fs).unwrap_err().code(), "ManifestCorrupt");
}

/// Same database, number and generation, sound in itself, and yet not the one that was named.
#[test]
fn a_manifest_of_another_history_is_refused() {
    let (fs, other) = (disk(), disk());
    create(&fs, 1, &State::default()).unwrap();
    create(&other, 1, &state_after(3)).unwrap();
    fs.write_file(&manifest(1), other.read_file(&manifest(1)).unwrap()).unwrap();
    assert_eq!(reopen(&fs).unwrap_err().code(), "ManifestCorrupt");
}

#[test]
fn an_edit_that_breaks_an_invariant_is_refused() {
    let fs = disk();
    let mut log = create(&fs, 1, &State::default()).unwrap();
    log.append(&Edit { removed: vec![77], ..Edit::default() }).unwrap();
    let error = reopen(&fs).unwrap_err();
    let Error::VersionInvalid { rule, offset, .. } = &error else { panic!("{error}") };
    assert_eq!(*rule, "a table that leaves was there");
    assert!(*offset > 0 && error.code() == "VersionInvalid");
}

#[test]
fn a_survey_counts_edits_and_sees_whose_it_is() {
    let fs = disk();
    let mut log = create(&fs, 1, &State::default()).unwrap();
    let survey_of = |database| survey(&fs, database, 1).unwrap();
    assert_eq!(survey_of(DATABASE), Some(Survey { generation: 1, edits: 1 }));
    log.append(&edit(1)).unwrap();
    log.seal().unwrap();
    assert_eq!(survey_of(DATABASE), Some(Survey { generation: 1, edits: 2 }));
    assert_eq!(survey_of([6; 16]), None);
}

mod root {
    use super::*;

    fn sample(generation: u64, manifest: u64) -> Root {
        Root {
            required_features: 0,
            optional_features: 1 << 40,
            database: DATABASE,
            generation,
            manifest,
            prefix_len: 900,
            prefix_digest: [9; 32],
        }
    }

    const FILES: [FileName; 2] = [FileName::Current, FileName::CurrentCopy];

    #[test]
    fn a_root_comes_back_from_either_file() {
        let fs = disk();
        write_root(&fs, &sample(3, 4)).unwrap();
        let roots = read_root(&fs).unwrap();
        assert_eq!((roots.root, roots.source), (sample(3, 4), FileName::Current));
        assert!(roots.other.is_none());
        for file in FILES {
            let bytes = fs.read_file(&file.path()).unwrap();
            fs.remove_file(&file.path()).unwrap();
            let roots = read_root(&fs).unwrap();
            assert_eq!(roots.root, sample(3, 4));
            assert_eq!(roots.other.unwrap().code(), "RootMissing");
            fs.write_file(&file.path(), bytes).unwrap();
        }
    }

    #[test]
    fn every_flipped_bit_of_one_file_is_survived_and_of_both_detected() {
        let fs = disk();
        write_root(&fs, &sample(3, 4)).unwrap();
        let bytes = fs.read_file(&FILES[0].path()).unwrap();
        for bit in 0..bytes.len() * 8 {
            for file in FILES {
                flip(&fs, &file.path(), bit);
                let roots = read_root(&fs).unwrap();
                assert_eq!(roots.root, sample(3, 4));
                assert_eq!(roots.other.unwrap().code(), "RootCorrupt");
                fs.write_file(&file.path(), bytes.clone()).unwrap();
            }
            FILES.iter().for_each(|file| flip(&fs, &file.path(), bit));
            assert_eq!(read_root(&fs).unwrap_err().code(), "RootCorrupt");
            FILES.iter().for_each(|file| fs.write_file(&file.path(), bytes.clone()).unwrap());
        }
    }

    #[test]
    fn the_newer_of_two_counts() {
        let fs = disk();
        for (current, copy) in [(sample(3, 4), sample(2, 3)), (sample(2, 3), sample(2, 4))] {
            write_root(&fs, &copy).unwrap();
            let bytes = fs.read_file(&FILES[1].path()).unwrap();
            write_root(&fs, &current).unwrap();
            fs.write_file(&FILES[1].path(), bytes).unwrap();
            let roots = read_root(&fs).unwrap();
            let newer = if current.generation > copy.generation { current } else { copy };
            assert_eq!(roots.root, newer);
            assert_eq!(roots.other.unwrap().code(), "StaleManifest");
        }
    }

    #[test]
    fn no_root_at_all_is_missing_and_one_bad_one_is_corrupt() {
        let fs = disk();
        assert_eq!(read_root(&fs).unwrap_err().code(), "RootMissing");
        fs.write_file(&FILES[1].path(), b"nonsense".to_vec()).unwrap();
        assert_eq!(read_root(&fs).unwrap_err().code(), "RootCorrupt");
        fs.write_file(&FILES[0].path(), vec![0; 9999]).unwrap();
        assert_eq!(read_root(&fs).unwrap_err().code(), "RootCorrupt");
    }

    /// A root of a newer version is not replaced by its older copy.
    #[test]
    fn an_unknown_required_feature_refuses_to_open() {
        let fs = disk();
        write_root(&fs, &sample(3, 4)).unwrap();
        let old = fs.read_file(&FILES[1].path()).unwrap();
        write_root(&fs, &Root { required_features: 2, ..sample(4, 5) }).unwrap();
        fs.write_file(&FILES[1].path(), old).unwrap();
        let Error::FormatUnsupported { found, supported, .. } = read_root(&fs).unwrap_err() else {
            panic!()
        };
        assert_eq!((found, supported), (2, 0));
    }

    #[test]
    fn a_crash_at_every_operation_leaves_the_old_root_or_the_new_one() {
        let start = |fs: &SimFs| write_root(fs, &sample(1, 1)).unwrap();
        let whole = disk();
        start(&whole);
        let before = whole.ops();
        write_root(&whole, &sample(2, 2)).unwrap();
        for stop in before..=whole.ops() {
            for model in [CrashModel::Synced, CrashModel::Directory, CrashModel::Garbage] {
                let fs = disk();
                start(&fs);
                fs.stop_after(stop);
                let result = write_root(&fs, &sample(2, 2));
                let found = read_root(&fs.crash(model)).unwrap().root;
                assert!(found == sample(2, 2) || (result.is_err() && found == sample(1, 1)));
            }
        }
    }
}
