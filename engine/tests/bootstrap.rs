//! A node without content takes the tables of another: all of them or none, and goes on from there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{Fault, FaultPlan, SimFs, SimOp};
use esker::replicate::{
    DeltaHead, ExportHead, Import, Incarnation, NodeId, Origin, ScopeId, Settled, Vector,
};
use esker::{Db, Error, Options, SyncMode, Tick};
use fixture::{
    Content, Disk, Left, START_MS, assert_all_or_nothing, content, eventually, fast, keyspace,
    local_keyspace, ship_in_time, small_busy,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const MAIN: ScopeId = ScopeId::MAIN;

/// A database with tables of several levels, entries of two authors, range deletes, and keyspaces that
/// are not the joiner's.
fn giver() -> (Disk, Db) {
    let (disk, other) = (Disk::new(1), Disk::new(9));
    other.clock.set(START_MS + 3);
    let other = other.open(fast());
    let db = disk.open(fast());
    local_keyspace(&db, "own");
    let (users, orders) = (keyspace(&db, "users"), keyspace(&db, "orders"));
    for number in 0..900u32 {
        users.put(number.to_be_bytes(), [number as u8; 40]).unwrap();
        orders.put(number.to_be_bytes(), b"order").unwrap();
    }
    db.compact_all().unwrap();
    keyspace(&other, "users").put(7u32.to_be_bytes(), b"theirs").unwrap();
    disk.clock.set(START_MS + 5);
    ship_in_time(&other, &db);
    assert_eq!(users.get(7u32.to_be_bytes()).unwrap().unwrap(), b"theirs");
    db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    users.delete_range(100u32.to_be_bytes(), 300u32.to_be_bytes()).unwrap();
    orders.delete(3u32.to_be_bytes()).unwrap();
    db.flush().unwrap();
    keyspace(&db, "gone").put(b"never", b"seen").unwrap();
    let gone = keyspace(&db, "gone");
    db.drop_keyspace(gone).unwrap();
    users.put(b"last", b"in memory").unwrap();
    (disk, db)
}

/// Sends what is missing, in pieces; `files_max` at the most.
fn send(from: &Db, import: &mut Import, files_max: usize) -> esker::Result<()> {
    let mut export = from.replication().export(MAIN)?;
    for (id, received) in import.received().into_iter().take(files_max) {
        let mut offset = received;
        loop {
            let bytes = export.read(id, offset, 1000)?;
            if bytes.is_empty() {
                break;
            }
            import.add(id, offset, &bytes)?;
            offset += bytes.len() as u64;
        }
    }
    Ok(())
}

fn bootstrap(from: &Db, to: &Db) -> esker::Result<()> {
    let head = from.replication().export(MAIN)?.head().clone();
    let mut import = to.replication().import(MAIN, &head)?;
    send(from, &mut import, usize::MAX)?;
    while import.settle()? == Settled::NotYet {
        std::thread::yield_now();
    }
    import.install()
}

fn all(db: &Db) -> Vec<(String, Content)> {
    let main = db.keyspaces().into_iter().filter(|k| !["own", "mine"].contains(&k.name()));
    main.map(|k| (k.name().to_owned(), content(&k))).collect()
}

/// A fresh node that has something of its own, but nothing in the scope.
fn joiner(seed: u64) -> (Disk, Db) {
    let disk = Disk::new(seed);
    let db = disk.open(fast());
    local_keyspace(&db, "mine").put(b"key", b"value").unwrap();
    (disk, db)
}

#[test]
fn a_joiner_has_all_that_the_giver_has_and_both_go_on() {
    let (_, a) = giver();
    let (disk, b) = joiner(2);
    bootstrap(&a, &b).unwrap();
    assert_eq!(all(&b), all(&a));
    assert_eq!(content(&local_keyspace(&b, "mine")).len(), 1);
    let (at_a, at_b) = (a.replication(), b.replication());
    assert_eq!(at_b.applied(MAIN), at_a.applied(MAIN));
    assert_eq!(at_b.durable(MAIN), at_a.applied(MAIN));
    assert_eq!((at_b.floor(MAIN), at_b.dropped(MAIN)), (at_a.floor(MAIN), at_a.dropped(MAIN)));
    assert!(at_b.is_whole(MAIN) && !at_b.is_empty(MAIN).unwrap());
    // Both write, and take from each other.
    keyspace(&b, "users").put(1u32.to_be_bytes(), b"of b").unwrap();
    keyspace(&a, "users").put(2u32.to_be_bytes(), b"of a").unwrap();
    keyspace(&a, "orders").delete_range(b"", 5u32.to_be_bytes()).unwrap();
    ship_in_time(&a, &b);
    ship_in_time(&b, &a);
    assert_eq!(all(&b), all(&a));
    let before = all(&b);
    b.compact_all().unwrap();
    assert_eq!(all(&b), before);
    for keyspace in b.keyspaces() {
        assert!(b.scrub().unwrap().findings.is_empty(), "{}", keyspace.name());
    }
    b.close().unwrap();
    let b = disk.open(fast());
    assert_eq!(all(&b), before);
    assert_eq!(b.replication().applied(MAIN), at_a.applied(MAIN));
    // What it was given it can give.
    let (_, c) = joiner(3);
    bootstrap(&b, &c).unwrap();
    assert_eq!(all(&c), before);
}

/// A database that ran alone has given the first numbers to its users' keyspaces, and a fresh node has
/// given them to what only it needs to know.
#[test]
fn a_joiner_with_local_keyspaces_takes_the_tables_of_a_database_that_ran_alone() {
    let disk = Disk::new(1);
    let a = disk.open(fast());
    keyspace(&a, "users").put(b"key", b"value").unwrap();
    a.flush().unwrap();
    let (of_b, b) = joiner(2);
    bootstrap(&a, &b).unwrap();
    assert_eq!(all(&b), all(&a));
    assert_eq!(content(&local_keyspace(&b, "mine")).len(), 1);
    keyspace(&b, "more").put(b"key", b"value").unwrap();
    local_keyspace(&b, "later").put(b"key", b"value").unwrap();
    b.close().unwrap();
    let b = of_b.open(fast());
    assert_eq!(b.keyspaces().len(), 4);
    assert!(b.keyspaces().iter().all(|keyspace| content(keyspace).len() == 1));
}

#[test]
fn an_export_names_its_files_in_order() {
    let (_, a) = giver();
    let head = a.replication().export(MAIN).unwrap().head().clone();
    assert!(head.files.len() > 2 && head.files.is_sorted_by_key(|file| file.id), "{head:?}");
}

#[test]
fn a_broken_off_import_changes_nothing_and_goes_on_where_it_ended() {
    let (_, a) = giver();
    let (_, b) = joiner(2);
    let head = a.replication().export(MAIN).unwrap().head().clone();
    assert!(head.files.len() > 2);
    let mut import = b.replication().import(MAIN, &head).unwrap();
    send(&a, &mut import, 2).unwrap();
    drop(import);
    assert!(all(&b).is_empty() && b.replication().is_empty(MAIN).unwrap());
    let mut import = b.replication().import(MAIN, &head).unwrap();
    let received = import.received();
    assert!(received.iter().zip(&head.files).take(2).all(|((_, len), file)| *len == file.len));
    assert!(matches!(import.add(head.files[0].id, 0, b"again"), Err(Error::InvalidInput { .. })));
    send(&a, &mut import, usize::MAX).unwrap();
    assert_eq!(import.settle().unwrap(), Settled::Yes);
    import.install().unwrap();
    assert_eq!(all(&b), all(&a));
}

/// The disk refuses a file that is new: what came of the others stays for the next try, those in front of it
/// and those behind it.
#[test]
fn an_import_that_fails_at_a_new_file_keeps_what_was_received() {
    for is_last in [true, false] {
        let (_, a) = giver();
        let (disk, b) = joiner(2);
        let first = a.replication().export(MAIN).unwrap().head().clone();
        let mut import = b.replication().import(MAIN, &first).unwrap();
        send(&a, &mut import, 2).unwrap();
        drop(import);
        keyspace(&a, "users").put(b"more", b"tables").unwrap();
        a.flush().unwrap();
        let mut head = a.replication().export(MAIN).unwrap().head().clone();
        if !is_last {
            head.files.reverse();
        }
        disk.fs.inject(FaultPlan::new(SimOp::Create, Fault::Io).on(".sst"));
        let mut import = b.replication().import(MAIN, &head).unwrap();
        let refused = send(&a, &mut import, usize::MAX).unwrap_err();
        assert!(matches!(refused, Error::Io { .. }), "{refused}");
        drop(import);
        let mut import = b.replication().import(MAIN, &head).unwrap();
        let received = import.received();
        for file in &first.files[..2] {
            assert!(received.contains(&(file.id, file.len)), "{is_last} {received:?}");
        }
        send(&a, &mut import, usize::MAX).unwrap();
        assert_eq!(import.settle().unwrap(), Settled::Yes);
        import.install().unwrap();
        assert_eq!(all(&b), all(&a));
        let live: u64 = b.stats().runs.iter().map(|run| run.tables).sum();
        assert_eq!(disk.files_in("tables/").len() as u64, live);
    }
}

/// Whoever announces tables takes no handle with that, and keeps one at the most by what it begins to send.
#[test]
fn tables_that_do_not_come_are_no_files() {
    let (_, a) = giver();
    let (disk, b) = joiner(2);
    let mut export = a.replication().export(MAIN).unwrap();
    let head = export.head().clone();
    assert!(head.files.len() > 2);
    let files = |more: usize| {
        let found = disk.files_in("tables/");
        assert_eq!(found.len(), more, "{found:?}");
    };
    let before = disk.files_in("tables/").len();
    let import = b.replication().import(MAIN, &head).unwrap();
    files(before);
    drop(import);
    files(before);
    for (turn, file) in head.files.iter().enumerate() {
        let mut import = b.replication().import(MAIN, &head).unwrap();
        let some = export.read(file.id, 0, 100 + turn).unwrap();
        import.add(file.id, 0, b"").unwrap();
        import.add(file.id, 0, &some).unwrap();
        files(before + 1 + usize::from(turn > 0));
        drop(import);
        files(before + 1);
    }
    let mut import = b.replication().import(MAIN, &head).unwrap();
    let last = head.files.last().unwrap().id;
    let here: Vec<(u64, u64)> = import.received().into_iter().filter(|(_, len)| *len > 0).collect();
    assert_eq!(here, [(last, 99 + head.files.len() as u64)]);
    send(&a, &mut import, usize::MAX).unwrap();
    assert_eq!(import.settle().unwrap(), Settled::Yes);
    import.install().unwrap();
    assert_eq!(all(&b), all(&a));
}

/// Each is open until it is synced, so who sends faster than that waits.
#[test]
fn complete_files_that_wait_for_the_disk_are_few() {
    let a = Disk::new(1).open(fast());
    let k = keyspace(&a, "k");
    for number in 0..60u32 {
        k.put(number.to_be_bytes(), b"value").unwrap();
        a.flush().unwrap();
    }
    let mut export = a.replication().export(MAIN).unwrap();
    let head = export.head().clone();
    assert!(head.files.len() > 40, "{}", head.files.len());
    let disk = Disk::new(2);
    let b = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    let mut import = b.replication().import(MAIN, &head).unwrap();
    let (added, held) = (AtomicUsize::new(0), disk.fs.hold_syncs(".sst"));
    let added_meanwhile = std::thread::scope(|scope| {
        scope.spawn(|| {
            for file in &head.files {
                let bytes = export.read(file.id, 0, usize::MAX).unwrap();
                import.add(file.id, 0, &bytes).unwrap();
                added.fetch_add(1, Ordering::Relaxed);
            }
        });
        let has_begun = held.has_begun(Duration::from_secs(60));
        // Time for what should not be.
        std::thread::sleep(Duration::from_millis(300));
        let added = added.load(Ordering::Relaxed);
        drop(held);
        has_begun.then_some(added)
    });
    assert!(added_meanwhile.is_some_and(|added| added < 20), "{added_meanwhile:?}");
    eventually("verified", || import.settle().unwrap() == Settled::Yes);
    import.install().unwrap();
    assert_eq!(all(&b), all(&a));
}

/// It has the same tables under other numbers.
#[test]
fn a_broken_off_import_goes_on_with_another_giver() {
    let (_, a) = giver();
    let (_, b) = joiner(2);
    local_keyspace(&b, "mine").put(b"moves", b"the numbers").unwrap();
    b.flush().unwrap();
    bootstrap(&a, &b).unwrap();
    let (_, c) = joiner(3);
    let head = a.replication().export(MAIN).unwrap().head().clone();
    let mut import = c.replication().import(MAIN, &head).unwrap();
    send(&a, &mut import, 2).unwrap();
    let received: u64 = import.received().iter().map(|(_, len)| len).sum();
    drop(import);
    let other = b.replication().export(MAIN).unwrap().head().clone();
    assert!(other.files.iter().zip(&head.files).any(|(b, a)| b.id != a.id));
    let mut import = c.replication().import(MAIN, &other).unwrap();
    assert_eq!(import.received().iter().map(|(_, len)| len).sum::<u64>(), received);
    send(&b, &mut import, usize::MAX).unwrap();
    assert_eq!(import.settle().unwrap(), Settled::Yes);
    import.install().unwrap();
    assert_eq!(all(&c), all(&a));
}

/// Whatever a scope holds, what is said of its tables was known before.
#[test]
fn an_export_reads_no_table() {
    let (disk, a) = giver();
    a.flush().unwrap();
    let before = disk.fs.kinds().len();
    let mut export = a.replication().export(MAIN).unwrap();
    let reads = |from: usize| {
        let kinds = disk.fs.kinds();
        kinds[from..].iter().filter(|kind| **kind == SimOp::Read).count()
    };
    assert_eq!(reads(before), 0);
    let file = export.head().files[0].clone();
    assert_eq!(export.read(file.id, 0, 100).unwrap().len(), 100);
    assert_eq!(reads(before), 1);
}

/// With threads nobody waits for the disk but they.
#[test]
fn files_are_verified_while_others_come() {
    let (_, a) = giver();
    let disk = Disk::new(2);
    let b = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    bootstrap(&a, &b).unwrap();
    assert_eq!(all(&b), all(&a));
    let disk = Disk::new(3);
    let c = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    let mut export = a.replication().export(MAIN).unwrap();
    let head = export.head().clone();
    let mut import = c.replication().import(MAIN, &head).unwrap();
    let file = &head.files[0];
    let mut bytes = export.read(file.id, 0, usize::MAX).unwrap();
    bytes[10] ^= 1;
    import.add(file.id, 0, &bytes).unwrap();
    eventually("found damaged", || match import.settle() {
        Ok(settled) => settled == Settled::Yes,
        Err(error) => matches!(error, Error::Corrupt { .. }),
    });
    assert_eq!(import.received()[0], (file.id, 0));
    drop(import);
    bootstrap(&a, &c).unwrap();
    assert_eq!(all(&c), all(&a));
}

/// What the head says of a state is true of it at once.
#[test]
fn a_floor_that_is_above_what_is_here_is_not_given_away() {
    let (_, a) = giver();
    let far = Origin { node: NodeId([7; 16]), incarnation: Incarnation(3) };
    let floor = Vector::from_iter([(far, Tick::from_ms(START_MS))]);
    a.replication().raise_floor(MAIN, &floor).unwrap();
    assert!(!a.replication().applied(MAIN).covers_all(&a.replication().floor(MAIN)));
    let of_tables = a.replication().export(MAIN).unwrap().head().state.clone();
    let of_delta = a.replication().delta(MAIN, &Vector::default()).unwrap().head().clone();
    for DeltaHead { vector, floor, .. } in [of_tables, of_delta] {
        assert!(!vector.is_empty() && vector.covers_all(&floor), "{floor:?}");
    }
}

/// The clock of a node would be carried away by its first commit after that.
#[test]
fn tables_that_are_ahead_of_the_clock_are_refused() {
    let (of_a, a) = giver();
    of_a.clock.set(START_MS + 3_600_000);
    keyspace(&a, "users").put(b"far", b"ahead").unwrap();
    let head = a.replication().export(MAIN).unwrap().head().clone();
    let now = Tick::from_ms(START_MS);
    let state = DeltaHead { vector: Vector::default(), ..head.state.clone() };
    let says_less = ExportHead { clock: now, state, ..head.clone() };
    let (of_b, b) = joiner(2);
    for head in [&head, &says_less] {
        let refused = b.replication().import(MAIN, head).unwrap_err();
        assert!(matches!(refused, Error::ClockSkew { limit_ms: 10_000, .. }), "{refused}");
    }
    of_b.clock.set(START_MS + 3_600_000);
    bootstrap(&a, &b).unwrap();
    assert_eq!(all(&b), all(&a));
}

#[test]
fn files_that_are_not_what_was_announced_are_refused() {
    let (_, a) = giver();
    let (_, b) = joiner(2);
    let mut export = a.replication().export(MAIN).unwrap();
    let head = export.head().clone();
    let file = head.files[0].clone();
    let mut import = b.replication().import(MAIN, &head).unwrap();
    let mut bytes = export.read(file.id, 0, usize::MAX).unwrap();
    bytes[10] ^= 1;
    import.add(file.id, 0, &bytes).unwrap();
    assert!(matches!(import.settle(), Err(Error::Corrupt { .. })));
    assert_eq!(import.received()[0], (file.id, 0));
    bytes.push(0);
    assert!(matches!(import.add(file.id, 0, &bytes), Err(Error::InvalidInput { .. })));
    assert!(matches!(import.install(), Err(Error::InvalidInput { .. })));
    for cut in 0..head.catalog.len() {
        let head = ExportHead { catalog: head.catalog[..cut].to_vec(), ..head.clone() };
        assert!(b.replication().import(MAIN, &head).is_err());
    }
    assert!(all(&b).is_empty());
}

#[test]
fn a_scope_that_is_not_empty_takes_no_tables() {
    let (_, a) = giver();
    let (_, b) = joiner(2);
    let head = a.replication().export(MAIN).unwrap().head().clone();
    let mut import = b.replication().import(MAIN, &head).unwrap();
    send(&a, &mut import, usize::MAX).unwrap();
    assert_eq!(import.settle().unwrap(), Settled::Yes);
    let k = keyspace(&b, "k");
    k.put(b"written", b"meanwhile").unwrap();
    assert!(matches!(import.install(), Err(Error::InvalidInput { .. })));
    assert!(matches!(b.replication().import(MAIN, &head), Err(Error::InvalidInput { .. })));
    assert_eq!(content(&k).len(), 1);
    k.put(b"and", b"later").unwrap();
}

/// A handle from before would write under a number that now means something else.
#[test]
fn handles_of_the_empty_keyspaces_of_before_are_refused() {
    let (_, a) = giver();
    let (_, b) = joiner(2);
    let (before, mine) = (keyspace(&b, "empty"), local_keyspace(&b, "mine"));
    bootstrap(&a, &b).unwrap();
    assert!(matches!(before.put(b"k", b"v"), Err(Error::KeyspaceDropped { .. })));
    assert!(b.existing_keyspace("empty").is_err());
    mine.put(b"more", b"of mine").unwrap();
    keyspace(&b, "users").put(b"new", b"entry").unwrap();
}

#[test]
fn a_crash_leaves_all_of_an_import_or_nothing() {
    let (_, a) = giver();
    let expected = all(&a);
    let prepared = {
        let (disk, b) = joiner(2);
        b.close().unwrap();
        disk.fs
    };
    let run = |fs: &SimFs| bootstrap(&a, &Disk::of(fs.clone()).try_open(fast())?);
    assert_all_or_nothing(&prepared, fast, run, |b| {
        assert_eq!(content(&local_keyspace(b, "mine")).len(), 1);
        if b.replication().is_empty(MAIN).unwrap() {
            assert!(all(b).iter().all(|(_, content)| content.is_empty()));
            return Left::Nothing;
        }
        assert_eq!(all(b), expected);
        Left::All
    });
}
