//! The check of a closed database.

use crate::small::{Small, create, key, open, value};
use base::fs::SimFs;
use base::{Error, FileName, RelPath};
use recovery::{Severity, Verify, check};

const LEVELS: [Verify; 3] = [Verify::Quick, Verify::Full, Verify::Paranoid];

fn filled(fs: &SimFs) -> Small {
    let mut small = create(fs).unwrap();
    small.keyspace().unwrap();
    (0..30).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    small.flush().unwrap();
    (30..40).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    small
}

fn content(fs: &SimFs) -> Vec<(RelPath, Vec<u8>)> {
    fs.files().into_iter().map(|path| (path.clone(), fs.read_file(&path).unwrap())).collect()
}

fn worst(fs: &SimFs, level: Verify) -> Option<Severity> {
    check(fs, level).unwrap().into_iter().map(|finding| finding.severity).max()
}

#[test]
fn a_sound_database_has_no_findings_and_stays_as_it_is() {
    for closed in [false, true] {
        let fs = SimFs::new(1);
        let small = filled(&fs);
        if closed {
            small.close().unwrap()
        } else {
            drop(small)
        }
        let before = content(&fs);
        for level in LEVELS {
            assert_eq!(check(&fs, level).unwrap(), [], "{level:?}, closed: {closed}");
        }
        assert_eq!(content(&fs), before);
    }
}

#[test]
fn there_is_nothing_to_check_without_a_database_or_while_it_is_in_use() {
    let fs = SimFs::new(1);
    assert!(matches!(check(&fs, Verify::Quick), Err(Error::NotADatabase { .. })));
    assert!(fs.files().is_empty());
    let small = filled(&fs);
    assert!(matches!(check(&fs, Verify::Quick), Err(Error::Locked { .. })));
    drop(small);
}

/// Three things are wrong, and all three are found.
#[test]
fn it_does_not_stop_at_the_first_finding() {
    let fs = SimFs::new(1);
    drop(filled(&fs));
    let damage = |path: RelPath, at: usize| {
        let mut bytes = fs.read_file(&path).unwrap();
        bytes[at] ^= 1;
        fs.write_file(&path, bytes).unwrap();
    };
    damage(FileName::Identity.path(), 50);
    damage(FileName::CurrentCopy.path(), 50);
    fs.remove_file(&FileName::Table(1).path()).unwrap();
    let codes: Vec<&str> = check(&fs, Verify::Quick).unwrap().iter().map(|it| it.code).collect();
    assert_eq!(codes, ["IdentityCorrupt", "RootCorrupt", "TableMissing"]);
}

#[test]
fn what_the_next_open_tidies_up_is_only_noted() {
    let fs = SimFs::new(1);
    drop(filled(&fs));
    fs.write_file(&FileName::Table(99).path(), b"left".to_vec()).unwrap();
    fs.write_file(&RelPath::root().join("notes.txt").unwrap(), b"mine".to_vec()).unwrap();
    assert_eq!(worst(&fs, Verify::Paranoid), Some(Severity::Note));
    assert_eq!(check(&fs, Verify::Quick).unwrap().len(), 2);
}

/// One bit anywhere in any file of a closed database: found at the paranoid level, or it changes
/// nothing that an open returns.
#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let fs = SimFs::new(1);
    filled(&fs).close().unwrap();
    let expected = open(&fs.crash(base::fs::CrashModel::Kill)).unwrap().content();
    for (path, bytes) in content(&fs) {
        if path == FileName::Lock.path() {
            continue;
        }
        // Every bit of small files, and of larger ones some from everywhere.
        let step = (bytes.len() * 8 / 1200).max(1) | 1;
        let (mut found, mut all) = (0u64, 0u64);
        for bit in (0..bytes.len() * 8).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs.write_file(&path, flipped).unwrap();
            all += 1;
            if !check(&fs, Verify::Paranoid).unwrap().is_empty() {
                found += 1;
                continue;
            }
            let small = open(&fs.crash(base::fs::CrashModel::Kill))
                .unwrap_or_else(|e| panic!("{path} bit {bit} is only noticed by an open: {e}"));
            assert_eq!(small.content(), expected, "{path} bit {bit}");
        }
        fs.write_file(&path, bytes).unwrap();
        // A segment has its header twice, in pages of their own.
        let is_log = path.as_str().starts_with("wal/");
        assert!(is_log || found * 100 >= all * 95, "{path}: {found} of {all}");
    }
}
