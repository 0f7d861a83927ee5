//! The check of a closed database.

use crate::small::{Small, create, key, open, value};
use base::fs::{CrashModel, SimFs};
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
    let expected = open(&fs.crash(CrashModel::Kill)).unwrap().content();
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
            let small = open(&fs.crash(CrashModel::Kill))
                .unwrap_or_else(|e| panic!("{path} bit {bit} is only noticed by an open: {e}"));
            assert_eq!(small.content(), expected, "{path} bit {bit}");
        }
        fs.write_file(&path, bytes).unwrap();
        // A segment has its header twice, in pages of their own.
        let is_log = path.as_str().starts_with("wal/");
        assert!(is_log || found * 100 >= all * 95, "{path}: {found} of {all}");
    }
}

/// Each kind of file, damaged in each way: the finding names the file and nothing is changed. The level
/// is the lowest that finds it.
#[test]
fn every_kind_of_damage_to_every_kind_of_file_is_found_and_named() {
    let fs = SimFs::new(1);
    let mut small = filled(&fs);
    small.flush().unwrap();
    let old = content(&fs.crash(CrashModel::Kill));
    small.seal().unwrap();
    drop(small);
    let mut small = open(&fs).unwrap();
    (40..50).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    small.sync().unwrap();
    small.seal().unwrap();
    drop(small);
    let other = SimFs::new(2);
    drop(filled(&other));
    let whole = fs.crash(CrashModel::Kill);
    let of_folder = |files: &[(RelPath, Vec<u8>)], path: &RelPath| -> Vec<Vec<u8>> {
        let is_kin =
            |it: &RelPath| it.parent() == path.parent() && it.as_str()[..2] == path.as_str()[..2];
        files.iter().filter(|(it, _)| is_kin(it)).map(|(_, bytes)| bytes.clone()).collect()
    };
    let mut found = 0;
    for (path, bytes) in content(&whole).iter().filter(|(path, _)| *path != FileName::Lock.path()) {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let mut cases: Vec<(String, Option<Vec<u8>>)> = vec![("removed".to_owned(), None)];
        for at in [end / 4, end / 2, end * 3 / 4] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            cases.push((format!("flipped at {at}"), Some(flipped)));
            cases.push((format!("cut at {at}"), Some(bytes[..at].to_vec())));
        }
        let mut zeroed = bytes.clone();
        zeroed[..end.min(4096)].fill(0);
        cases.push(("zeroed in front".to_owned(), Some(zeroed)));
        cases.push(("extended".to_owned(), Some([&bytes[..end], &[3; 700]].concat())));
        let foreign = of_folder(&content(&other), path).into_iter().map(|it| ("foreign", it));
        let stale = of_folder(&old, path).into_iter().map(|it| ("stale", it));
        let kin = of_folder(&content(&whole), path).into_iter().map(|it| ("exchanged", it));
        let exchanged = foreign.chain(stale).chain(kin).filter(|(_, it)| it != bytes);
        cases.extend(exchanged.map(|(what, it)| (what.to_owned(), Some(it))));
        for (what, damaged) in cases {
            let fs = whole.crash(CrashModel::Kill);
            match damaged {
                Some(damaged) => fs.write_file(path, damaged).unwrap(),
                None => fs.remove_file(path).unwrap(),
            }
            let before = content(&fs);
            let findings = check(&fs, Verify::Paranoid).unwrap();
            let full = base::fs::full_path(&fs, path);
            let names_it = findings.iter().any(|finding| finding.file == full);
            // An identity, a root and a manifest that do not go together: which is wrong?
            let top =
                findings.iter().any(|it| it.code == "RootCorrupt" || it.code == "StaleManifest");
            assert!(
                names_it || top && path.parent() == RelPath::root(),
                "{path} {what}: {findings:?}"
            );
            assert!(content(&fs) == before, "{path} {what}: it changed something");
            found += 1;
        }
    }
    assert!(found > 60, "{found}");
}

/// What each level reads, as its documentation says.
#[test]
fn each_level_finds_what_it_reads() {
    let fs = SimFs::new(1);
    drop(filled(&fs));
    let table = FileName::Table(1).path();
    let bytes = fs.read_file(&table).unwrap();
    let found_from = |path: &RelPath, damaged: Vec<u8>| {
        let fs = fs.crash(CrashModel::Kill);
        fs.write_file(path, damaged).unwrap();
        LEVELS.into_iter().find(|level| worst(&fs, *level) == Some(Severity::Damage))
    };
    let flipped = |path: &RelPath, at: usize| {
        let mut bytes = fs.read_file(path).unwrap();
        bytes[at] ^= 1;
        bytes
    };
    let identity = FileName::Identity.path();
    assert_eq!(found_from(&identity, flipped(&identity, 50)), Some(Verify::Quick));
    let manifest = FileName::Manifest(2).path();
    assert_eq!(found_from(&manifest, flipped(&manifest, 100)), Some(Verify::Quick));
    assert_eq!(found_from(&table, bytes[..bytes.len() - 1].to_vec()), Some(Verify::Quick));
    assert_eq!(found_from(&table, flipped(&table, bytes.len() - 9)), Some(Verify::Full));
    assert_eq!(found_from(&table, flipped(&table, 40)), Some(Verify::Paranoid));
}
