//! The real file system, in temporary folders.

use super::*;
use crate::dir::FileName;
use crate::fs::SimFs;
use proptest::prelude::*;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

fn temp() -> (TempDir, OsFs) {
    let dir = TempDir::new().unwrap();
    let fs = OsFs::new(dir.path());
    (dir, fs)
}

fn path(name: &str) -> RelPath {
    RelPath::root().join(name).unwrap()
}

fn read_all(fs: &dyn Fs, path: &RelPath) -> Vec<u8> {
    let file = fs.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Bytes that differ from place to place, so that misplaced ones show.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn appends_across_windows_and_the_reserved_end_come_back() {
    let (_dir, fs) = temp();
    let mut file = fs.create(&path("a"), 9 * MIB + 123).unwrap();
    let mut expected = Vec::new();
    for (index, len) in [1, 150, 4096, 65_535, 65_536, 300_000, 0, 7].iter().cycle().enumerate() {
        if expected.len() as u64 > 10 * MIB {
            break;
        }
        let bytes = noise(*len, index as u64);
        file.append(&bytes).unwrap();
        expected.extend_from_slice(&bytes);
    }
    assert_eq!(file.len(), expected.len() as u64);
    assert!(read_all(&fs, &path("a")).starts_with(&expected), "while still growing");
    assert_eq!(file.finish().unwrap(), expected.len() as u64);
    assert_eq!(read_all(&fs, &path("a")), expected);
}

#[test]
fn reserved_space_reads_as_zeros_until_finish_gives_it_back() {
    let (_dir, fs) = temp();
    for name in ["mapped", "grown"] {
        let mut file = fs.create(&path(name), if name == "mapped" { MIB } else { 0 }).unwrap();
        file.append(b"tide").unwrap();
        if name == "mapped" {
            let bytes = read_all(&fs, &path(name));
            assert_eq!(bytes.len() as u64, MIB);
            assert!(bytes.starts_with(b"tide") && bytes[4..].iter().all(|byte| *byte == 0));
        }
        file.sync_handle().sync_data().unwrap();
        assert_eq!(file.finish().unwrap(), 4);
        assert_eq!(read_all(&fs, &path(name)), b"tide");
    }
}

#[test]
fn a_file_is_created_once_and_a_read_past_its_end_fails() {
    let (_dir, fs) = temp();
    let mut file = fs.create(&path("a"), 0).unwrap();
    file.append(b"12345678").unwrap();
    let error = fs.create(&path("a"), 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    let reader = fs.open(&path("a")).unwrap();
    let error = reader.read_exact_at(&mut [0; 4], 6).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_reservation_beyond_the_disk_fails_at_once_and_leaves_nothing() {
    let (_dir, fs) = temp();
    let too_much = fs.space().unwrap().disk_bytes + (1 << 40);
    let error = fs.create(&path("a"), too_much).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(fs.list(&RelPath::root()).unwrap(), []);
}

#[test]
fn a_sync_handle_works_from_another_thread_and_outlives_its_file() {
    let (_dir, fs) = temp();
    let mut file = fs.create(&path("a"), MIB).unwrap();
    let handle = file.sync_handle();
    std::thread::scope(|scope| {
        let syncs = scope.spawn(|| (0..20).for_each(|_| handle.sync_data().unwrap()));
        (0..1000).for_each(|_| file.append(&[7; 150]).unwrap());
        syncs.join().unwrap();
    });
    assert_eq!(file.finish().unwrap(), 150_000);
    handle.sync_data().unwrap();
}

#[test]
fn a_lock_names_its_holder_and_ends_with_its_guard() {
    let (_dir, fs) = temp();
    let lock = FileName::Lock.path();
    let guard = fs.lock(&lock).unwrap();
    let Err(LockError::Held(holder)) = fs.lock(&lock) else { panic!("two holders") };
    assert_eq!(holder, Some(std::process::id()));
    drop(guard);
    fs.lock(&lock).unwrap();
}

/// As when a child process that was just started still has our open files.
#[test]
fn a_lock_that_is_about_to_be_let_go_is_waited_for() {
    let (_dir, fs) = temp();
    let lock = FileName::Lock.path();
    let guard = fs.lock(&lock).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            drop(guard);
        });
        fs.lock(&lock).unwrap();
    });
}

#[test]
fn a_lock_file_with_strange_text_still_locks() {
    let (dir, fs) = temp();
    fs::write(dir.path().join("LOCK"), "someone, long ago, with a long text").unwrap();
    let _guard = fs.lock(&FileName::Lock.path()).unwrap();
    assert_eq!(read_all(&fs, &path("LOCK")), format!("{}\n", std::process::id()).as_bytes());
}

#[test]
fn links_and_pipes_are_neither_opened_nor_listed_as_files() {
    let (dir, fs) = temp();
    fs::write(dir.path().join("file"), "x").unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    fs.create_dir(&path("folder")).unwrap();
    for name in ["link", "pipe", "folder"] {
        assert!(fs.open(&path(name)).is_err(), "{name}");
        assert!(fs.lock(&path(name)).is_err(), "{name}");
    }
    let listed = fs.list(&RelPath::root()).unwrap();
    let kinds: Vec<_> = listed.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    let expected = [
        ("file", DirEntryKind::File),
        ("folder", DirEntryKind::Folder),
        ("link", DirEntryKind::Other),
        ("pipe", DirEntryKind::Other),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn a_file_is_linked_or_copied_to_another_directory() {
    let (_dir, fs) = temp();
    let (other_dir, _) = temp();
    let mut file = fs.create(&path("a"), 0).unwrap();
    let bytes = noise(3 << 20, 1);
    file.append(&bytes).unwrap();
    file.finish().unwrap();

    let deep = fs.at(&other_dir.path().join("x/y"));
    deep.create_dir(&RelPath::root()).unwrap();
    fs.link(&path("a"), &*deep, &path("b")).unwrap();
    let sim = SimFs::new(1);
    fs.link(&path("a"), &sim, &path("b")).unwrap();

    assert_eq!(read_all(&*deep, &path("b")), bytes);
    assert_eq!(read_all(&sim, &path("b")), bytes);
    assert!(fs.link(&path("a"), &*deep, &path("b")).is_err(), "nothing is replaced");
    assert!(fs.link(&path("none"), &sim, &path("c")).is_err());
}

#[test]
fn a_folder_can_be_created_again_but_not_over_a_file() {
    let (_dir, fs) = temp();
    fs.create_dir(&RelPath::root()).unwrap();
    fs.create_dir(&path("wal")).unwrap();
    fs.create_dir(&path("wal")).unwrap();
    fs.create(&path("tables"), 0).unwrap();
    let error = fs.create_dir(&path("tables")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    fs.sync_dir(&RelPath::root()).unwrap();
}

#[test]
fn space_counts_disk_and_handles() {
    let (_dir, fs) = temp();
    let space = fs.space().unwrap();
    assert!(space.disk_bytes > 0 && space.handles > 0);
}

/// Run by the test below in a process of its own; elsewhere there is nothing to do.
#[test]
fn child_appends_until_it_is_killed() {
    let Ok(root) = std::env::var("ESKER_TEST_ROOT") else { return };
    let mut file = OsFs::new(root).create(&path("a"), 8 * MIB).unwrap();
    for number in 0u64.. {
        file.append(&number.to_le_bytes()).unwrap();
        println!("appended {number}");
    }
}

#[test]
fn appended_bytes_survive_the_death_of_the_process_without_a_sync() {
    let (dir, fs) = temp();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fs::os::tests::child_appends_until_it_is_killed"])
        .arg("--nocapture")
        .env("ESKER_TEST_ROOT", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged = lines
        .filter_map(|line| line.unwrap().strip_prefix("appended ")?.parse::<u64>().ok())
        .find(|number| *number >= 1000)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let bytes = read_all(&fs, &path("a"));
    for number in 0..=acknowledged {
        let at = number as usize * 8;
        assert_eq!(bytes[at..at + 8], number.to_le_bytes());
    }
}

/// What callers do with names and bytes.
#[derive(Clone, Debug)]
enum Step {
    Create { name: u8, preallocate: u16 },
    Append { name: u8, len: u16 },
    Finish { name: u8 },
    Rename { from: u8, to: u8 },
    Link { from: u8, to: u8 },
    Remove { name: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0u8..4;
    let step = prop_oneof![
        (name.clone(), any::<u16>()).prop_map(|(name, preallocate)| {
            Step::Create { name, preallocate: preallocate / 2 * u16::from(preallocate % 2 == 0) }
        }),
        (name.clone(), any::<u16>()).prop_map(|(name, len)| Step::Append { name, len }),
        name.clone().prop_map(|name| Step::Finish { name }),
        (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename { from, to }),
        (name.clone(), name.clone()).prop_map(|(from, to)| Step::Link { from, to }),
        name.prop_map(|name| Step::Remove { name }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Does the steps and writes down everything a caller can see.
fn observe(fs: &dyn Fs, steps: &[Step]) -> Vec<String> {
    // Half of the names are in a folder, so that renames cross it.
    let at = |name: u8| {
        let folder = if name < 2 { RelPath::root() } else { RelPath::folder("tables") };
        folder.join(&name.to_string()).unwrap()
    };
    let mut seed = 0;
    let mut open = std::collections::BTreeMap::new();
    fs.create_dir(&RelPath::folder("tables")).unwrap();
    let mut seen = Vec::new();
    for step in steps {
        let result = match step {
            Step::Create { name, preallocate } => {
                fs.create(&at(*name), u64::from(*preallocate)).map(|file| {
                    open.insert(*name, file);
                    0
                })
            }
            Step::Append { name, len } => open.get_mut(name).map_or(Ok(0), |file| {
                let bytes = noise(usize::from(*len), seed);
                seed += 1;
                file.append(&bytes).map(|()| file.len())
            }),
            Step::Finish { name } => open.remove(name).map_or(Ok(0), |file| file.finish()),
            Step::Rename { from, to } => fs.rename(&at(*from), &at(*to)).map(|()| 0),
            Step::Link { from, to } => fs.link(&at(*from), fs, &at(*to)).map(|()| 0),
            Step::Remove { name } => fs.remove(&at(*name)).map(|()| 0),
        };
        seen.push(format!("{step:?}: {:?}", result.map_err(|error| error.kind())));
    }
    for folder in [RelPath::root(), RelPath::folder("tables")] {
        for entry in fs.list(&folder).unwrap() {
            let is_file = entry.kind == DirEntryKind::File;
            let bytes = is_file.then(|| read_all(fs, &folder.join(&entry.name).unwrap()));
            let digest = bytes.map(|bytes| blake3::hash(&bytes));
            seen.push(format!("{folder} {} {:?} {digest:?}", entry.name, entry.kind));
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_simulated_disk_behaves_like_this_one(steps in steps()) {
        let (_dir, fs) = temp();
        prop_assert_eq!(observe(&fs, &steps), observe(&SimFs::new(1), &steps));
    }
}
