//! Backups that come back as new writes: cut short, refused, and what is left of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::RelPath;
use base::fs::{CrashModel, Fs};
use esker::replicate::{Replication, ScopeId};
use esker::{
    BackupKind, BackupOptions, Backups, Create, Db, Error, NewWrites, Options, Platform, Progress,
    RestorePoint, Restored, Result,
};
use fixture::{Content, Disk, content, keyspace, local_keyspace, small};
use std::path::Path;

const STORE: &str = "/backups";

fn at(disk: &Disk, path: &str) -> Platform {
    Platform { fs: disk.fs.at(Path::new(path)), ..disk.platform() }
}

fn open(disk: &Disk, path: &str) -> Result<Db> {
    Db::open_on(at(disk, path), Options { create: Create::Never, ..small() })
}

fn restore(
    disk: &Disk,
    path: &str,
    judge: impl FnOnce(&Replication) -> Result<()>,
) -> Result<(Restored, NewWrites)> {
    let backups = Backups::open_on(at(disk, STORE))?;
    backups.restore_as_new_writes(path, RestorePoint::Newest, &Progress::default(), judge)
}

fn exists(disk: &Disk, path: &str) -> bool {
    disk.fs.at(Path::new(path)).list(&RelPath::root()).is_ok()
}

/// A backup, and what is in it.
fn prepare() -> (Disk, Content) {
    let disk = Disk::new(9);
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    for number in 0..30u8 {
        k.put([number], [number; 50]).unwrap();
    }
    k.delete([3]).unwrap();
    local_keyspace(&db, "local").put(b"x", b"1").unwrap();
    db.replication().keyspace(ScopeId::MAIN, "esker.roster").unwrap().put(b"x", b"1").unwrap();
    back_up(&db);
    (disk, content(&k))
}

fn back_up(db: &Db) {
    let kind = BackupKind::Full;
    let options = BackupOptions { kind, bytes_per_second: u64::MAX, ..BackupOptions::default() };
    db.backup(STORE, &options).unwrap();
}

#[test]
fn the_life_that_goes_on_is_not_the_one_that_wrote() {
    let (disk, expected) = prepare();
    let mut writer = None;
    let (restored, written) = restore(&disk, "/new", |replication| {
        writer = Some(replication.origin());
        Ok(())
    })
    .unwrap();
    assert_eq!((written.keyspaces, written.entries, written.commits), (1, 29, 1));
    let db = open(&disk, "/new").unwrap();
    let own = db.replication().origin();
    assert_eq!(own.incarnation, restored.identity.incarnation);
    assert_eq!(Some(own.node), writer.map(|writer| writer.node));
    assert_ne!(Some(own), writer);
    let k = keyspace(&db, "k");
    assert_eq!(content(&k), expected);
    assert_eq!(local_keyspace(&db, "local").get(b"x").unwrap().unwrap(), b"1");
    for key in expected.keys() {
        let (_, stamp) = k.get_stamped(key).unwrap().unwrap();
        assert_eq!((Some(stamp.origin), stamp.tick), (writer, written.last));
    }
    let vector = db.replication().durable(ScopeId::MAIN);
    assert_eq!(vector.get(writer.unwrap()), written.last, "peers are told that they lack it");
    let (_, of_roster) =
        db.existing_keyspace("esker.roster").unwrap().get_stamped(b"x").unwrap().unwrap();
    assert!(of_roster.tick < written.last, "what replication keeps for itself is as it was");
    assert!(k.put(b"later", b"1").unwrap() > written.last);
    db.compact_all().unwrap();
    assert!(db.replication().dropped(ScopeId::MAIN) < written.last, "peers still have to get it");
    drop(db);
    let db = open(&disk, "/new").unwrap();
    assert_eq!(content(&keyspace(&db, "k")).len(), expected.len() + 1);
}

/// The place that was asked for holds no database, or all of it.
#[test]
fn a_crash_anywhere_leaves_all_or_no_database() {
    let (prepared, expected) = prepare();
    let whole = Disk { fs: prepared.fs.fork(), clock: prepared.clock.clone() };
    let start = whole.fs.ops();
    restore(&whole, "/new", |_| Ok(())).unwrap();
    let (mut none, mut all) = (0, 0);
    for stop in start..=whole.fs.ops() + 5 {
        let disk = Disk { fs: prepared.fs.fork(), clock: prepared.clock.clone() };
        disk.fs.stop_after(stop);
        let is_done = restore(&disk, "/new", |_| Ok(())).is_ok();
        for model in [CrashModel::Kill, CrashModel::Synced, CrashModel::Directory] {
            let disk = Disk { fs: disk.fs.crash(model), clock: disk.clock.clone() };
            match open(&disk, "/new") {
                Ok(db) => {
                    all += 1;
                    assert_eq!(content(&keyspace(&db, "k")), expected, "{stop} {model:?}");
                    let vector = db.replication().durable(ScopeId::MAIN);
                    assert_eq!(vector.len(), 2, "{stop} {model:?}: it was written anew");
                }
                Err(error) => {
                    none += 1;
                    assert!(!is_done, "{stop} {model:?} {error}");
                }
            }
        }
    }
    assert!(none > 100 && all > 10, "{none} {all}");
}

#[test]
fn what_is_refused_leaves_nothing() {
    let (disk, _) = prepare();
    let refused = restore(&disk, "/new", |_| Err(Error::invalid("no"))).unwrap_err();
    assert_eq!(refused.to_string(), "no");
    assert!(!exists(&disk, "/new") && !exists(&disk, "/new.anew"));
    // What an earlier one has left is not overwritten.
    let fs = disk.fs.at(Path::new("/new.anew"));
    fs.create_dir(&RelPath::root()).unwrap();
    let refused = restore(&disk, "/new", |_| Ok(())).unwrap_err();
    assert!(matches!(&refused, Error::AlreadyExists { path } if path.ends_with("new.anew")));
    assert!(!exists(&disk, "/new"));
    fs.remove_dir(&RelPath::root()).unwrap();
    restore(&disk, "/new", |_| Ok(())).unwrap();
    let again = restore(&disk, "/new", |_| Ok(())).unwrap_err();
    assert!(matches!(&again, Error::AlreadyExists { path } if path.ends_with("new")), "{again}");
    assert!(!exists(&disk, "/new.anew"));
}

/// What it lacks was not deleted by anybody.
#[test]
fn a_database_that_had_lost_content_does_not_come_back_as_new_writes() {
    let disk = Disk::new(10);
    let db = disk.open(small());
    keyspace(&db, "k").put(b"x", b"1").unwrap();
    db.replication().set_incomplete(ScopeId::MAIN).unwrap();
    back_up(&db);
    let refused = restore(&disk, "/new", |_| Ok(())).unwrap_err();
    assert_eq!(refused.code(), "InvalidInput");
    assert!(refused.to_string().contains("choose another moment"), "{refused}");
    assert!(!exists(&disk, "/new") && !exists(&disk, "/new.anew"));
}
