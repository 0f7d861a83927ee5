//! Keyspaces come and go, are many, and share everything but their keys.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, SimOp};
use esker::replicate::{Purpose, Replication, ScopeId, Vector};
use esker::{
    Batch, Compression, Conflict, Db, Error, KeyspaceOptions, Options, Resolution, Scope, SyncMode,
};
use fixture::{Disk, content, fast, keyspace, local_keyspace, own, small};

const MAIN: ScopeId = ScopeId::MAIN;

#[test]
fn ten_thousand_keyspaces_are_cheap() {
    const COUNT: u32 = 10_000;
    let disk = Disk::new(1);
    let options = Options {
        sync: SyncMode::Async,
        memory_bytes: 64 << 20,
        memtable_bytes: 16 << 20,
        ..small()
    };
    let db = disk.open(options.clone());
    let name = |number: u32| format!("keyspace {number}");
    let before = db.stats().memtable_bytes;
    let all: Vec<_> = (0..COUNT).map(|number| keyspace(&db, &name(number))).collect();
    assert_eq!(db.stats().memtable_bytes, before, "an idle keyspace takes no memtable");
    for (number, keyspace) in all.iter().enumerate().step_by(3) {
        keyspace.put(b"k", number.to_be_bytes()).unwrap();
    }
    db.flush().unwrap();
    let stats = db.stats();
    assert_eq!(stats.runs.iter().map(|run| run.tables).sum::<u64>(), 1, "they share tables");
    for (number, keyspace) in all.iter().enumerate().step_by(77) {
        let expected = number.is_multiple_of(3).then(|| number.to_be_bytes().to_vec());
        assert_eq!(keyspace.get(b"k").unwrap().map(Vec::from), expected);
        assert_eq!(keyspace.iter().count(), usize::from(expected.is_some()));
    }
    db.compact_all().unwrap();
    db.close().unwrap();
    let db = disk.open(options);
    assert_eq!(db.keyspaces().len(), COUNT as usize);
    assert_eq!(content(&db.existing_keyspace(&name(9_999)).unwrap()).len(), 1);
}

#[test]
fn a_name_used_again_after_a_drop_is_another_keyspace() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    for round in 0..3u8 {
        let k = keyspace(&db, "k");
        assert!(content(&k).is_empty(), "round {round}");
        k.put(b"key", [round]).unwrap();
        if round == 1 {
            db.flush().unwrap();
        }
        let again = keyspace(&db, "k");
        assert_eq!(again.get(b"key").unwrap().unwrap(), [round]);
        db.drop_keyspace(again).unwrap();
        assert!(k.is_dropped());
    }
    let last = keyspace(&db, "k");
    last.put(b"new", b"1").unwrap();
    for model in [CrashModel::Kill, CrashModel::Synced] {
        let db = Disk::of(disk.fs.crash(model)).open(small());
        let found = content(&db.existing_keyspace("k").unwrap());
        assert_eq!(found.keys().collect::<Vec<_>>(), [b"new"]);
    }
    db.compact_all().unwrap();
    assert_eq!(content(&last).keys().collect::<Vec<_>>(), [b"new"]);
}

#[test]
fn a_handle_of_a_dropped_keyspace_says_so() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let k = keyspace(&db, "gone");
    let other = keyspace(&db, "other");
    k.put(b"a", b"1").unwrap();
    let snapshot = db.snapshot();
    let mut begun = k.iter();
    let mut transaction = db.transaction().unwrap();
    transaction.put(&k, b"a", b"2").unwrap();
    transaction.put(&other, b"a", b"2").unwrap();
    let mut batch = Batch::new();
    batch.put(&other, b"a", b"2");
    batch.put(&k, b"a", b"2");
    db.drop_keyspace(k.clone()).unwrap();
    let errors = [
        k.put(b"a", b"").map(drop),
        k.delete(b"a").map(drop),
        k.delete_range(b"a", b"b").map(drop),
        k.get(b"a").map(drop),
        k.contains_key(b"a").map(drop),
        k.multi_get(&[b"a"]).map(drop),
        k.iter().next().unwrap().map(drop),
        k.cursor().map(drop),
        k.count(..).map(drop),
        k.ingest([(b"a", b"")]).map(drop),
        snapshot.get(&k, b"a").map(drop),
        snapshot.iter(&k).next().unwrap().map(drop),
        db.compact(&k),
        db.write(batch).map(drop),
        transaction.commit().map(drop),
        db.drop_keyspace(k.clone()),
    ];
    for (number, result) in errors.into_iter().enumerate() {
        let error = result.unwrap_err();
        let is_dropped = matches!(&error, Error::KeyspaceDropped { name } if name == "gone");
        assert!(is_dropped, "call {number}: {error}");
    }
    assert_eq!(own(begun.next().unwrap()).1, b"1", "a scan that had begun goes on");
    assert!(content(&other).is_empty(), "nothing of a refused batch is stored");
    assert!(matches!(db.existing_keyspace("gone"), Err(Error::KeyspaceNotFound { .. })));
    assert_eq!(db.keyspaces().len(), 1);
}

#[test]
fn names_are_checked() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    for name in ["", "a\0", "line\nbreak", &"x".repeat(256), &"ö".repeat(128)] {
        let error = db.keyspace(name, KeyspaceOptions::default()).unwrap_err();
        assert_eq!(error.code(), "InvalidInput", "{name:?}");
    }
    for name in ["x", " ", "../..", "Ω", &"x".repeat(255)] {
        keyspace(&db, name).put(b"k", name).unwrap();
    }
    db.close().unwrap();
    let db = disk.open(small());
    assert_eq!(db.keyspaces().len(), 5);
    for k in db.keyspaces() {
        assert_eq!(k.get(b"k").unwrap().unwrap(), k.name());
    }
}

#[test]
fn a_keyspace_keeps_its_scope_and_its_options() {
    let disk = Disk::new(1);
    let plain = KeyspaceOptions { compression: Compression::None, ..KeyspaceOptions::default() };
    let db = disk.open(small());
    db.keyspace("plain", plain.clone()).unwrap();
    local_keyspace(&db, "local");
    let check = |db: &Db| {
        let wrong = KeyspaceOptions { scope: Scope::Local, ..KeyspaceOptions::default() };
        let error = db.keyspace("plain", wrong).unwrap_err();
        assert!(matches!(error, Error::ConfigMismatch { .. }), "{error}");
        assert!(db.keyspace("local", KeyspaceOptions::default()).is_err());
        // Other options do not change what is stored.
        assert_eq!(keyspace(db, "plain").compression(), Compression::None);
        local_keyspace(db, "local").put(b"k", b"v").unwrap();
    };
    check(&db);
    db.close().unwrap();
    check(&disk.open(small()));
}

#[test]
fn threads_that_create_the_same_keyspace_get_the_same() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    for round in 0..20 {
        let name = format!("{round}");
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let (db, name) = (&db, &name);
                scope.spawn(move || keyspace(db, name).put([thread], b"").unwrap());
            }
        });
        assert_eq!(content(&keyspace(&db, &name)).len(), 4);
    }
    assert_eq!(db.keyspaces().len(), 20);
}

#[test]
fn keys_of_one_keyspace_never_show_in_another() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let all: Vec<_> = (0..5u8).map(|number| keyspace(&db, &format!("{number}"))).collect();
    let fill = |round: u8| {
        for (number, k) in all.iter().enumerate() {
            for key in [&[0u8][..], &[number as u8, 1], &[255; 40]] {
                k.put(key, [number as u8, round]).unwrap();
            }
        }
    };
    let check = |round: u8| {
        for (number, k) in all.iter().enumerate() {
            let content = content(k);
            assert_eq!(content.len(), 3);
            assert!(content.values().all(|value| *value == [number as u8, round]));
            let mut cursor = k.cursor().unwrap();
            cursor.seek_last().unwrap();
            cursor.advance().unwrap();
            assert!(cursor.entry().is_none());
            cursor.seek_first().unwrap();
            cursor.retreat().unwrap();
            assert!(cursor.entry().is_none());
        }
    };
    fill(0);
    check(0);
    db.flush().unwrap();
    check(0);
    fill(1);
    check(1);
    db.compact_all().unwrap();
    check(1);
    all[2].delete_range(b"", b"").unwrap();
    assert!(content(&all[2]).is_empty());
    assert_eq!(content(&all[3]).len() + content(&all[1]).len(), 6);
}

#[test]
fn the_space_of_a_dropped_keyspace_comes_back() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let (kept, gone) = (keyspace(&db, "kept"), keyspace(&db, "gone"));
    for number in 0..2000u32 {
        gone.put(number.to_be_bytes(), number.to_le_bytes().repeat(100)).unwrap();
        kept.put(number.to_be_bytes(), b"small").unwrap();
    }
    db.compact_all().unwrap();
    let before = db.stats().table_bytes;
    assert!(before > 100_000);
    db.drop_keyspace(gone).unwrap();
    db.compact_all().unwrap();
    assert!(db.stats().table_bytes < before / 3, "{} of {before}", db.stats().table_bytes);
    let in_files: u64 = disk
        .files_in("tables/")
        .iter()
        .map(|path| {
            let (folder, name) = path.split_once('/').unwrap();
            assert_eq!(folder, "tables");
            let path = base::RelPath::folder(base::dir::TABLES_DIR).join(name).unwrap();
            disk.fs.read_file(&path).unwrap().len() as u64
        })
        .sum();
    assert_eq!(in_files, db.stats().table_bytes, "no table is left behind");
    assert_eq!(content(&kept).len(), 2000);
}

#[test]
fn an_idle_keyspace_does_not_pin_the_log() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    keyspace(&db, "idle").put(b"once", b"written").unwrap();
    let busy = keyspace(&db, "busy");
    let mut most = 0;
    for number in 0..3000u32 {
        busy.put(number.to_be_bytes(), [7; 300]).unwrap();
        most = most.max(disk.files_in("wal/").len());
    }
    db.flush().unwrap();
    let left = disk.files_in("wal/").len();
    assert!(most <= 6, "{most} segments of 64 KiB for memtables of 64 KiB");
    assert_eq!(left, 1, "everything is flushed: {:?}", disk.files_in("wal/"));
    assert_eq!(content(&keyspace(&db, "idle")).len(), 1);
}

#[test]
fn what_each_keyspace_holds_is_counted() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let (a, b) = (keyspace(&db, "a"), keyspace(&db, "b"));
    keyspace(&db, "c");
    for number in 0..100u32 {
        a.put(number.to_be_bytes(), [1; 96]).unwrap();
    }
    b.put(b"k", b"v").unwrap();
    db.flush().unwrap();
    let stats = db.keyspace_stats().unwrap();
    let names: Vec<_> = stats.iter().map(|of| (&*of.name, of.entries, of.raw_bytes)).collect();
    assert_eq!(names, [("a", 100, 10_000), ("b", 1, 2), ("c", 0, 0)]);
    assert!(stats[0].table_bytes > stats[1].table_bytes && stats[1].table_bytes > 0);
    db.close().unwrap();
    // To count costs no memory for tables that nobody reads.
    let db = Disk::of(disk.fs.clone()).open(small());
    assert_eq!((db.keyspace_stats().unwrap(), db.stats().index_bytes), (stats.clone(), 0));
    assert_eq!(content(&keyspace(&db, "b")).len(), 1);
    assert!(db.stats().index_bytes > 0);
    assert_eq!(db.keyspace_stats().unwrap(), stats);
}

/// Whoever else has something to say waits meanwhile.
#[test]
fn keyspaces_that_peers_bring_at_once_are_made_at_once() {
    const COUNT: usize = 300;
    let (a, b) = (Disk::new(1).open(fast()), Disk::new(2).open(fast()));
    let mut batch = Batch::new();
    for number in 0..COUNT {
        batch.put(&keyspace(&a, &number.to_string()), "x", "1");
        keyspace(&b, &number.to_string()).put("x", "1").unwrap();
    }
    a.write(batch).unwrap();
    let delta = |to: &Replication| {
        let mut delta = a.replication().delta(MAIN, &Vector::default()).unwrap();
        let mut stage = to.stage(MAIN, delta.head(), Purpose::CatchUp).unwrap();
        while let Some(chunk) = delta.next(1 << 20).unwrap() {
            stage.add(&chunk).unwrap();
        }
        stage.install().unwrap();
    };
    let shipments = |from: &Db, to: &Replication, count: usize| {
        let mut vector = Vector::default();
        let mut tail = from.replication().tail(MAIN, &vector).unwrap();
        let mut all = Vec::new();
        while let Some(shipment) = tail.next(&vector, 1).unwrap() {
            vector.raise(shipment.origin, shipment.last);
            all.push(shipment.bytes);
        }
        assert_eq!(all.len(), count);
        let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        assert_eq!(to.admit_all(&all).unwrap().len(), count);
    };
    let shipment = |to: &Replication| shipments(&a, to, 1);
    let convoy = |to: &Replication| shipments(&b, to, COUNT);
    let check = |what: &str, bring: &dyn Fn(&Replication)| {
        let disk = Disk::new(3);
        let db = disk.open(fast());
        let is_sync = |kind: &SimOp| *kind == SimOp::SyncData;
        let syncs = || disk.fs.kinds().into_iter().filter(is_sync).count();
        let before = syncs();
        bring(&db.replication());
        assert_eq!(db.keyspaces().len(), COUNT, "{what}");
        assert!(syncs() - before < 20, "{what}: {} syncs", syncs() - before);
    };
    check("a shipment", &shipment);
    check("a convoy", &convoy);
    check("a delta", &delta);
}

/// Else a peer would make on all nodes what each keeps for itself, and in the wrong scope.
#[test]
fn of_the_reserved_names_peers_bring_only_those_that_replicate() {
    for (name, is_shared) in [
        ("esker.roster", true),
        ("esker.quarantine", true),
        ("esker.keyspaces", true),
        ("esker.conflicts", false),
        ("esker.node", false),
        ("esker.x", false),
    ] {
        let (a, b, c) = (Disk::new(1).open(fast()), Disk::new(2).open(fast()), Disk::new(3));
        let (c, from, to) = (c.open(fast()), a.replication(), b.replication());
        from.keyspace(MAIN, name).unwrap().put("x", "1").unwrap();
        let nothing = Vector::default();
        let shipment = from.tail(MAIN, &nothing).unwrap().next(&nothing, 1 << 20).unwrap().unwrap();
        let mut delta = from.delta(MAIN, &nothing).unwrap();
        let chunk = delta.next(1 << 20).unwrap().unwrap();
        let mut stage = to.stage(MAIN, delta.head(), Purpose::CatchUp).unwrap();
        let export = from.export(MAIN).unwrap();
        let taken = [
            stage.add(&chunk).err(),
            to.admit(&shipment.bytes).err(),
            to.admit_all(&[&shipment.bytes]).err(),
            c.replication().import(MAIN, export.head()).err(),
        ];
        for error in &taken {
            let is_refused = matches!(error, Some(Error::InvalidInput { .. }));
            assert!(if is_shared { error.is_none() } else { is_refused }, "{name}: {taken:?}");
        }
        assert_eq!(to.existing_keyspace(name).is_ok(), is_shared, "{name}");
        b.set_resolver("k", |_: &Conflict<'_>| Ok(Resolution::KeepWinner)).unwrap();
    }
}

/// So they take no more memory than one of them, however many there are.
#[test]
fn entries_are_given_as_they_are_read() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let options = KeyspaceOptions { compression: Compression::None, ..KeyspaceOptions::default() };
    let k = db.keyspace("k", options).unwrap();
    for number in 0..100u8 {
        k.put([number], [number; 50_000]).unwrap();
    }
    db.compact_all().unwrap();
    let origin = db.replication().origin();
    let reads_of_first = |count: u8| {
        let (before, mut reads, mut next) = (disk.fs.calls(), Vec::new(), 0);
        let entries = db.replication().each_entry("k", |key, value, stamp| {
            assert_eq!((key, value, stamp.origin), (&[next][..], &[next; 50_000][..], origin));
            reads.push(disk.fs.calls() - before);
            next += 1;
            next < count
        });
        entries.unwrap();
        assert_eq!(next, count);
        (reads[0], disk.fs.calls() - before)
    };
    let ((first, all), (_, few)) = (reads_of_first(100), reads_of_first(10));
    assert!(first * 10 < all && few * 5 < all, "{first}, {few} and {all} reads");
}
