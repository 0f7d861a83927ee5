//! A real disk that is really full: a small file system in memory, where this user may mount one.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use esker::{Db, Error, Keyspace, KeyspaceOptions, Options, Status};
use fixture::eventually;
use std::path::Path;
use std::process::Command;

/// A mounted file system, unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn of_bytes(bytes: u64) -> Option<Mount> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Mount(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// More entries than the file system has bytes for.
const ENTRIES_MAX: u32 = 1_000_000;

fn fill_up(k: &Keyspace, from: u32) -> u32 {
    let refused = (from..ENTRIES_MAX).find(|number| match k.put(number.to_be_bytes(), [7; 1000]) {
        Ok(_) => false,
        Err(Error::DiskFull { .. }) => true,
        Err(error) => panic!("{error}"),
    });
    assert!(refused.is_some(), "the file system never counts as full");
    refused.unwrap()
}

#[test]
fn a_full_file_system_refuses_puts_takes_deletes_and_resumes() {
    let Some(mount) = Mount::of_bytes(48 << 20) else {
        eprintln!("this user may not mount; nothing was tested");
        return;
    };
    let dir = mount.path().join("data");
    let options = Options { memtable_bytes: 4 << 20, memory_bytes: 32 << 20, ..Options::default() };
    let db = Db::open(&dir, options.clone()).unwrap();
    let k = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    let ballast = mount.path().join("ballast");
    std::fs::write(&ballast, vec![1; 16 << 20]).unwrap();
    let mut end = fill_up(&k, 0);
    assert!(end > 5000, "{end}");
    assert_eq!(db.health().status, Status::ReadOnly);
    for number in 0..2000u32 {
        // A merge may have the space for a moment.
        eventually("a delete gets through", || match k.delete(number.to_be_bytes()) {
            Ok(_) => true,
            Err(Error::DiskFull { .. }) => false,
            Err(error) => panic!("{error}"),
        });
    }
    db.flush().unwrap();
    assert_eq!(k.count(..).unwrap(), u64::from(end - 2000));

    std::fs::remove_file(&ballast).unwrap();
    eventually("it takes puts again", || db.health().status != Status::ReadOnly);
    assert!(dir.join("RESERVE").exists());
    end = fill_up(&k, end);
    assert_eq!(k.count(..).unwrap(), u64::from(end - 2000));
    drop((k, db));
    // Full as it is, it opens, and deletes.
    let db = Db::open(&dir, options).unwrap();
    let k = db.existing_keyspace("k").unwrap();
    assert_eq!(k.count(..).unwrap(), u64::from(end - 2000));
    k.delete_range(b"", b"").unwrap();
    db.compact_all().unwrap();
    eventually("a put gets through", || k.put(b"k", b"v").is_ok());
    assert_eq!(k.count(..).unwrap(), 1);
}
