//! What the simulated disk promises to the tests that stand on it.

use super::*;
use crate::fs::read_small;
use std::collections::BTreeSet;

mod faults;
mod moments;
mod surgery;

const MODELS: [CrashModel; 7] = CrashModel::ALL;

fn path(name: &str) -> RelPath {
    RelPath::root().join(name).unwrap()
}

/// A disk with the safe, empty file `a`, still open.
fn disk_with_file(seed: u64, preallocate: u64) -> (SimFs, Box<dyn AppendFile>) {
    let fs = SimFs::new(seed);
    let file = fs.create(&path("a"), preallocate).unwrap();
    file.sync_handle().sync_data().unwrap();
    fs.sync_dir(&RelPath::root()).unwrap();
    (fs, file)
}

fn names(fs: &SimFs) -> Vec<String> {
    fs.files().iter().map(ToString::to_string).collect()
}

#[test]
fn bytes_are_safe_from_their_sync_on() {
    let (fs, mut file) = disk_with_file(1, 0);
    file.append(b"synced").unwrap();
    file.sync_handle().sync_data().unwrap();
    file.append(b", not synced").unwrap();
    let after = |model| fs.crash(model).read_file(&path("a")).unwrap();
    assert_eq!(after(CrashModel::Kill), b"synced, not synced");
    assert_eq!(after(CrashModel::Synced), b"synced");
    assert_eq!(after(CrashModel::SyncLied), b"");
}

#[test]
fn a_name_is_safe_from_the_sync_of_its_folder_on() {
    let fs = SimFs::new(1);
    let wal = RelPath::folder("wal");
    fs.create_dir(&wal).unwrap();
    fs.create(&wal.join("1").unwrap(), 0).unwrap().finish().unwrap();
    fs.sync_dir(&wal).unwrap();
    assert_eq!(names(&fs.crash(CrashModel::Kill)), ["wal/1"]);
    assert!(names(&fs.crash(CrashModel::Synced)).is_empty(), "the folder has no safe name");
    fs.sync_dir(&RelPath::root()).unwrap();
    let after = fs.crash(CrashModel::Synced);
    assert_eq!(names(&after), ["wal/1"]);
    assert_eq!(after.list(&RelPath::root()).unwrap().len(), 1);
    let lied = fs.crash(CrashModel::SyncLied);
    assert!(names(&lied).is_empty(), "the last sync was of the root");
}

#[test]
fn a_rename_is_atomic_even_between_folders() {
    let fs = SimFs::new(1);
    let to = RelPath::folder("quarantine").join("a").unwrap();
    fs.create_dir(&RelPath::folder("quarantine")).unwrap();
    fs.write_file(&path("a"), "old").unwrap();
    fs.write_file(&path("b"), "new").unwrap();
    fs.rename(&path("a"), &to).unwrap();
    fs.rename(&path("b"), &path("a")).unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(names(&fs.crash(CrashModel::Prefix)).join(" "));
    }
    let expected = ["a b", "a quarantine/a", "b quarantine/a"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn the_sync_of_either_folder_secures_a_rename_between_them() {
    let quarantine = RelPath::folder("quarantine");
    for synced in [RelPath::root(), quarantine.clone()] {
        let fs = SimFs::new(1);
        fs.create_dir(&quarantine).unwrap();
        fs.sync_dir(&RelPath::root()).unwrap();
        fs.create(&path("a"), 0).unwrap();
        fs.rename(&path("a"), &quarantine.join("a").unwrap()).unwrap();
        fs.sync_dir(&synced).unwrap();
        for model in [CrashModel::Synced].into_iter().chain([CrashModel::Directory; 20]) {
            assert_eq!(names(&fs.crash(model)), ["quarantine/a"]);
        }
    }
}

#[test]
fn names_changed_twice_before_a_sync_end_as_they_were_last() {
    let fs = SimFs::new(1);
    fs.create(&path("a"), 0).unwrap();
    fs.remove(&path("a")).unwrap();
    fs.create(&path("b"), 0).unwrap();
    fs.rename(&path("b"), &path("c")).unwrap();
    fs.sync_dir(&RelPath::root()).unwrap();
    assert_eq!(names(&fs.crash(CrashModel::Synced)), ["c"]);
}

#[test]
fn changes_of_names_get_lost_one_by_one() {
    let fs = SimFs::new(1);
    for name in ["a", "b", "c"] {
        fs.create(&path(name), 0).unwrap();
    }
    let seen: BTreeSet<_> =
        (0..100).map(|_| names(&fs.crash(CrashModel::Directory)).concat()).collect();
    assert_eq!(seen.len(), 8, "every subset of three names: {seen:?}");
}

#[test]
fn synced_bytes_survive_every_crash_but_a_lying_one() {
    let mut varied = BTreeSet::new();
    for seed in 0..50 {
        let (fs, mut file) = disk_with_file(seed, if seed % 2 == 0 { 0 } else { 8192 });
        file.append(&[1; 700]).unwrap();
        file.sync_handle().sync_data().unwrap();
        (0..9).for_each(|_| file.append(&[2; 300]).unwrap());
        for model in MODELS.into_iter().filter(|model| *model != CrashModel::SyncLied) {
            let bytes = fs.crash(model).read_file(&path("a")).unwrap();
            assert!(bytes.starts_with(&[1; 700]), "{model:?} of seed {seed}");
            let rest = &bytes[700..];
            if model == CrashModel::Prefix {
                let end = rest.iter().position(|byte| *byte != 2).unwrap_or(rest.len());
                assert!(rest[end..].iter().all(|byte| *byte == 0), "no holes, seed {seed}");
            }
            if model != CrashModel::Garbage {
                assert!(rest.iter().all(|byte| matches!(byte, 0 | 2)), "{model:?} of {seed}");
            }
            varied.insert((model as u8, blake3::hash(&bytes).to_hex()));
        }
    }
    assert!(varied.len() > 100, "the models make different choices: {}", varied.len());
}

#[test]
fn sectors_get_lost_in_any_order() {
    let holes = (0..100).filter(|seed| {
        let (fs, mut file) = disk_with_file(*seed, 4096);
        file.append(&[2; 100]).unwrap();
        file.sync_handle().sync_data().unwrap();
        file.append(&[2; 3996]).unwrap();
        let mut bytes = fs.crash(CrashModel::Sectors).read_file(&path("a")).unwrap();
        bytes.copy_within(100..200, 0); // the first sector's new part instead of its safe one
        bytes.chunks(512).for_each(|sector| assert!(sector.iter().all(|byte| *byte == sector[0])));
        bytes[..512] == [0; 512] && bytes.contains(&2)
    });
    assert!(holes.count() > 10);
}

#[test]
fn a_failed_sync_loses_what_it_should_have_secured_for_ever() {
    let (fs, mut file) = disk_with_file(1, 0);
    file.append(b"lost").unwrap();
    fs.inject(FaultPlan::new(OpKind::SyncData, Fault::Io));
    file.sync_handle().sync_data().unwrap_err();
    file.append(b"kept").unwrap();
    file.sync_handle().sync_data().unwrap();
    assert_eq!(fs.read_file(&path("a")).unwrap(), b"lostkept");
    assert_eq!(fs.crash(CrashModel::Synced).read_file(&path("a")).unwrap(), b"\0\0\0\0kept");
}

#[test]
fn a_lying_sync_secures_nothing() {
    let (fs, mut file) = disk_with_file(1, 0);
    file.append(b"risked").unwrap();
    fs.inject(FaultPlan::new(OpKind::SyncData, Fault::LyingSync).on("/a"));
    file.sync_handle().sync_data().unwrap();
    assert_eq!(fs.crash(CrashModel::Synced).read_file(&path("a")).unwrap(), b"");
    file.sync_handle().sync_data().unwrap();
    assert_eq!(fs.crash(CrashModel::Synced).read_file(&path("a")).unwrap(), b"risked");
}

#[test]
fn the_power_fails_at_the_ordered_change() {
    let workload = |fs: &SimFs| -> io::Result<()> {
        let mut file = fs.create(&path("a"), 0)?;
        file.append(b"12345678")?;
        file.finish()?;
        fs.rename(&path("a"), &path("b"))?;
        fs.sync_dir(&RelPath::root())
    };
    let whole = SimFs::new(1);
    workload(&whole).unwrap();
    assert_eq!(whole.ops(), 6, "create, append, finish with its sync, rename, sync of the folder");
    for stop in 0..whole.ops() {
        let fs = SimFs::new(1);
        fs.stop_after(stop);
        assert_eq!(workload(&fs).unwrap_err().to_string(), "power is off");
        assert_eq!(fs.ops(), stop);
        assert!(fs.open(&path("a")).is_err() && fs.list(&RelPath::root()).is_err());
        let after = fs.crash(CrashModel::Kill);
        let name = if stop == 5 { path("b") } else { path("a") };
        assert_eq!(after.files(), if stop == 0 { vec![] } else { vec![name.clone()] });
        if stop >= 2 {
            assert_eq!(after.read_file(&name).unwrap(), b"12345678");
        }
        workload(&fs.crash(CrashModel::Synced)).unwrap();
    }
}

#[test]
fn the_same_seed_makes_the_same_disk() {
    let run = |seed| {
        let (fs, mut file) = disk_with_file(seed, 4096);
        (0..20).for_each(|byte| file.append(&[byte; 300]).unwrap());
        let images = MODELS.map(|model| fs.crash(model).read_file(&path("a")).ok());
        (fs.trace(), images)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn faults_strike_where_and_when_they_are_told() {
    let fs = SimFs::new(1);
    fs.inject(FaultPlan::new(OpKind::Create, Fault::TooManyFiles).on(".sst").after(1));
    fs.create(&path("1.log"), 0).unwrap();
    fs.create(&path("1.sst"), 0).unwrap();
    assert_eq!(fs.create(&path("2.sst"), 0).unwrap_err().raw_os_error(), Some(24));
    fs.create(&path("2.sst"), 0).unwrap();
    fs.inject(FaultPlan::new(OpKind::Create, Fault::Io).sticky());
    for _ in 0..3 {
        fs.create(&path("3.sst"), 0).unwrap_err();
    }
    fs.clear_faults();
    fs.create(&path("3.sst"), 0).unwrap();
}

#[test]
fn reads_come_back_short_or_with_a_flipped_bit() {
    let fs = SimFs::new(1);
    fs.write_file(&path("a"), "abc").unwrap();
    fs.inject(FaultPlan::new(OpKind::Read, Fault::BitFlip(8)));
    fs.inject(FaultPlan::new(OpKind::Read, Fault::ShortRead).after(1));
    assert_eq!(read_small(&fs, &path("a"), 10).unwrap(), b"acc");
    let error = read_small(&fs, &path("a"), 10).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(read_small(&fs, &path("a"), 10).unwrap(), b"abc");
}

#[test]
fn a_full_disk_shows_at_create_or_append_and_removal_frees_it() {
    let fs = SimFs::new(1);
    fs.set_free(1000);
    let mut reserved = fs.create(&path("a"), 800).unwrap();
    assert_eq!(fs.create(&path("b"), 800).unwrap_err().kind(), io::ErrorKind::StorageFull);
    reserved.append(&[1; 700]).unwrap();
    let mut growing = fs.create(&path("b"), 0).unwrap();
    assert_eq!(growing.append(&[2; 300]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(growing.len(), 0, "the part that is there does not count");
    assert_eq!(fs.space().unwrap().disk_bytes, 0);
    reserved.append(&[1; 100]).unwrap();
    fs.link(&path("a"), &fs, &path("c")).unwrap();
    fs.remove(&path("a")).unwrap();
    assert_eq!(growing.append(&[2; 300]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    fs.remove(&path("c")).unwrap();
    growing.append(&[2; 300]).unwrap();
    assert_eq!(growing.finish().unwrap(), 300);
    assert_eq!(fs.space().unwrap().disk_bytes, 700);
    fs.create(&path("d"), 600).unwrap().finish().unwrap();
    assert_eq!(fs.space().unwrap().disk_bytes, 700, "unused space is given back");
}

#[test]
fn an_open_file_outlives_its_name() {
    let fs = SimFs::new(1);
    fs.write_file(&path("a"), "abc").unwrap();
    let reader = fs.open(&path("a")).unwrap();
    fs.remove(&path("a")).unwrap();
    let mut bytes = [0; 3];
    reader.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"abc");
    assert_eq!(names(&fs.crash(CrashModel::Synced)), ["a"], "the removal was not synced");
}

#[test]
fn a_crash_leaves_no_locks_and_no_faults() {
    let fs = SimFs::new(1);
    let lock = crate::dir::FileName::Lock.path();
    let guard = fs.lock(&lock).unwrap();
    assert!(matches!(fs.lock(&lock), Err(LockError::Held(Some(_)))));
    fs.inject(FaultPlan::new(OpKind::Lock, Fault::Io).sticky());
    fs.crash(CrashModel::Kill).lock(&lock).unwrap();
    fs.clear_faults();
    drop(guard);
    fs.lock(&lock).unwrap();
}

#[test]
fn two_directories_of_one_disk_share_files_and_crashes() {
    let fs = SimFs::new(1);
    let copy = fs.at(Path::new("/copy"));
    assert!(copy.list(&RelPath::root()).is_err());
    copy.create_dir(&RelPath::root()).unwrap();
    fs.write_file(&path("a"), "abc").unwrap();
    fs.link(&path("a"), &*copy, &path("b")).unwrap();
    fs.remove(&path("a")).unwrap();
    assert_eq!(read_small(&*copy, &path("b"), 10).unwrap(), b"abc");
    copy.sync_dir(&RelPath::root()).unwrap();
    let after = fs.crash(CrashModel::Synced);
    assert_eq!(names(&after), ["a"]);
    let after_copy = after.at(Path::new("/copy"));
    assert_eq!(read_small(&*after_copy, &path("b"), 10).unwrap(), b"abc");
}
