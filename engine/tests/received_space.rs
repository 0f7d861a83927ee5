//! What other nodes send takes no more of the disk than leaves users' writes their space.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::Fs;
use base::state::{StateEntry, StateKind, StateWriter};
use esker::replicate::{DeltaHead, ExportHead, NodeId, Origin, Purpose, ScopeId, Settled, Stamp};
use esker::{Db, Error, Keyspace, Status, Tick};
use fixture::{Dice, Disk, START_MS, fast, keyspace, local_keyspace, small};

const MAIN: ScopeId = ScopeId::MAIN;
const PLENTY: u64 = 1 << 40;
/// What a test's disk has once the database is open.
const FREE: u64 = 2 << 20;
/// Longer than all that fits.
const CHUNKS: u32 = 1000;

fn is_disk_full<T>(done: Result<T, Error>) -> bool {
    matches!(done.err(), Some(Error::DiskFull { .. }))
}

fn free(disk: &Disk) -> u64 {
    disk.fs.space().unwrap().disk_bytes
}

/// So many values that users write. Three hundred are more than memory and a segment of the log hold.
fn users_write(k: &Keyspace, count: u32) {
    for number in 0..count {
        k.put(number.to_be_bytes(), [7; 600]).unwrap();
    }
}

/// The chunk of this number of a delta that always has news: about 16 KiB.
fn chunk(name: &str, number: u32) -> Vec<u8> {
    let mut writer = StateWriter::new(MAIN);
    let origin = Origin { node: NodeId([9; 16]), ..Origin::default() };
    let stamp = Stamp { tick: Tick::from_ms(START_MS), origin };
    for at in 0..16u32 {
        let key = [number.to_be_bytes(), at.to_be_bytes()].concat();
        let kind = StateKind::Put(&[number as u8; 1000]);
        writer.push(&StateEntry { keyspace: name, key: &key, stamp, kind });
    }
    writer.finish()
}

/// Into tables, as they are prepared, and into the file of a stage.
#[test]
fn a_delta_without_end_is_refused_before_users_notice() {
    for (name, purpose) in
        [("known", Purpose::CatchUp), ("unknown", Purpose::CatchUp), ("known", Purpose::Rejoin)]
    {
        let disk = Disk::new(1);
        let db = disk.open(fast());
        let k = keyspace(&db, "users");
        keyspace(&db, "known");
        users_write(&k, 300);
        db.flush().unwrap();
        disk.fs.set_free(FREE);
        let files = disk.files_in("tables/");
        let mut stage = db.replication().stage(MAIN, &DeltaHead::default(), purpose).unwrap();

        let refused = (0..CHUNKS).find_map(|number| {
            k.put(b"meanwhile", number.to_be_bytes()).unwrap();
            stage.add(&chunk(name, number)).err()
        });

        assert!(is_disk_full(refused.map_or(Ok(()), Err)), "{name} {purpose:?}");
        assert_eq!(db.health().status, Status::Healthy, "nobody noticed");
        assert!(free(&disk) < FREE / 2, "most of the space was given");
        users_write(&k, 50);
        drop(stage);
        users_write(&k, 300);
        db.flush().unwrap();
        db.compact_all().unwrap();
        let left = disk.files_in("tables/");
        assert!(left.len() <= files.len(), "{left:?}");
        assert!(free(&disk) > FREE / 2, "{} are free", free(&disk));
        assert!(!db.keyspaces().iter().any(|keyspace| keyspace.name() == "unknown"));
    }
}

/// What it would write anew at its place in the order does not fit besides what came.
#[test]
fn a_delta_that_can_not_be_written_is_not_installed() {
    let disk = Disk::new(1);
    let db = disk.open(fast());
    let k = keyspace(&db, "users");
    let mut stage = db.replication().stage(MAIN, &DeltaHead::default(), Purpose::Rejoin).unwrap();
    (0..100).for_each(|number| stage.add(&chunk("k", number)).unwrap());
    disk.fs.set_free(1 << 20);
    assert!(is_disk_full(stage.install()));
    assert_eq!(db.health().status, Status::Healthy);
    users_write(&k, 300);
}

/// Tables of two megabytes, and what announces them.
fn giver() -> (Db, ExportHead) {
    let db = Disk::new(2).open(fast());
    let k = keyspace(&db, "k");
    for number in 0..2000u32 {
        let mut dice = Dice::of(number.into());
        let value: Vec<u8> = (0..1200).map(|_| dice.below(256) as u8).collect();
        k.put(number.to_be_bytes(), value).unwrap();
    }
    db.compact_all().unwrap();
    let head = db.replication().export(MAIN).unwrap().head().clone();
    assert!(head.files.iter().map(|file| file.len).sum::<u64>() > FREE);
    (db, head)
}

#[test]
fn tables_are_refused_when_they_are_announced_if_they_do_not_fit() {
    let (_, head) = giver();
    let disk = Disk::new(1);
    let db = disk.open(fast());
    let own = local_keyspace(&db, "own");
    disk.fs.set_free(FREE);
    let files = disk.files_in("tables/");
    assert!(is_disk_full(db.replication().import(MAIN, &head)));
    assert_eq!(disk.files_in("tables/"), files, "no file was begun");
    users_write(&own, 300);
    assert_eq!(db.health().status, Status::Healthy);
    disk.fs.set_free(PLENTY);
    db.replication().import(MAIN, &head).unwrap();
}

/// Somebody else takes the space while the files come.
#[test]
fn files_that_no_longer_fit_are_refused_and_go() {
    let (giver, head) = giver();
    let mut export = giver.replication().export(MAIN).unwrap();
    let disk = Disk::new(1);
    let db = disk.open(fast());
    let own = local_keyspace(&db, "own");
    let files = disk.files_in("tables/");
    let mut import = db.replication().import(MAIN, &head).unwrap();
    let file = &head.files[0];
    let bytes = export.read(file.id, 0, 2000).unwrap();
    import.add(file.id, 0, &bytes[..1000]).unwrap();
    disk.fs.set_free(100 << 10);
    assert!(is_disk_full(import.add(file.id, 1000, &bytes[1000..])));
    drop(import);
    assert_eq!(disk.files_in("tables/"), files, "nothing is kept for another try");
    own.put("k", "v").unwrap();
}

/// What is kept of an import that broke off is nobody's as soon as users need its space.
#[test]
fn what_is_kept_of_an_import_gives_way_to_puts_that_are_refused() {
    let (giver, head) = giver();
    let mut export = giver.replication().export(MAIN).unwrap();
    let disk = Disk::new(1);
    let db = disk.open(small());
    let own = local_keyspace(&db, "own");
    let mut import = db.replication().import(MAIN, &head).unwrap();
    let last = head.files.last().unwrap().id;
    for file in &head.files {
        let missing = usize::from(file.id == last);
        let bytes = export.read(file.id, 0, file.len as usize - missing).unwrap();
        import.add(file.id, 0, &bytes).unwrap();
    }
    assert_eq!(import.settle().unwrap(), Settled::NotYet);
    drop(import);
    let kept = disk.files_in("tables/").len();
    assert!(kept >= head.files.len());
    disk.fs.set_free(300 << 10);
    let written = (0u32..3000).take_while(|it| own.put(it.to_be_bytes(), [1; 700]).is_ok()).count();
    // One is refused for a moment at the most: then there is space again.
    let more = (3000u32..6000).filter(|it| own.put(it.to_be_bytes(), [1; 700]).is_ok()).count();
    // Without what was kept the disk has room for no more than eight hundred.
    assert!(written + more > 1200, "{written} and {more}");
}

#[test]
fn a_payload_in_pieces_is_refused_before_users_notice() {
    let disk = Disk::new(1);
    let db = disk.open(fast());
    let k = keyspace(&db, "users");
    disk.fs.set_free(FREE);
    let files = disk.files_in("tables/");
    let mut spool = db.replication().spool().unwrap();
    let refused = (0..CHUNKS).find_map(|_| spool.append(&[1; 16 << 10]).err());
    assert!(is_disk_full(refused.map_or(Ok(()), Err)));
    users_write(&k, 50);
    assert_eq!(db.health().status, Status::Healthy);
    assert_eq!(disk.files_in("tables/").len(), files.len() + 1);
    drop(spool);
    assert_eq!(disk.files_in("tables/"), files);
    users_write(&k, 300);
}
