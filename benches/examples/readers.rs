//! What it costs readers that entries came from another node: to be counted in instructions.
//!
//! ```text
//! cargo build --release -p benches --example readers
//! perf stat -e instructions:u target/release/examples/readers own get
//! perf stat -e instructions:u target/release/examples/readers foreign get
//! ```
//!
//! valgrind can not run it: rustix looks at the head of the program itself, and dies there.
//!
//! The database holds 20 000 records with 16-byte hashed keys and 100-byte values, all in tables, or, with
//! `memory` behind it, all in the memtable. `own`: it has never seen a peer. `foreign`: it has taken all of
//! them from one. Then 20 000 gets by chance, or 10 scans of everything.

use benches::{KeyShape, Keys, Result, Values};
use engine::replicate::{ScopeId, Vector};
use engine::{Db, Keyspace, KeyspaceOptions, Options, SyncMode};
use std::path::Path;

const RECORDS: u64 = 20_000;
const SCANS: u64 = 10;
const VALUE_LEN: usize = 100;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let dir = tempfile::TempDir::new()?;
    let (db, keyspace) = match words.first() {
        Some(&"own") => {
            let (db, keyspace) = open(&dir.path().join("own"))?;
            fill(&keyspace)?;
            (db, keyspace)
        }
        Some(&"foreign") => foreign(dir.path())?,
        _ => return Err("readers own|foreign get|scan [memory]".into()),
    };
    if words.get(2) != Some(&"memory") {
        db.compact_all()?;
    }
    let found = match words.get(1) {
        Some(&"get") => reading_keys(&keyspace)?,
        _ => reading_all(&keyspace)?,
    };
    println!("{found} bytes found");
    Ok(())
}

fn open(dir: &Path) -> Result<(Db, Keyspace)> {
    let db = Db::open(dir, Options { sync: SyncMode::Async, ..Options::default() })?;
    let keyspace = db.keyspace("bench", KeyspaceOptions::default())?;
    Ok((db, keyspace))
}

fn fill(keyspace: &Keyspace) -> Result<()> {
    let (keys, values) = (Keys::new(KeyShape::Hashed, RECORDS), Values::new(VALUE_LEN));
    let mut value = Vec::new();
    for index in 0..RECORDS {
        values.fill(&mut value, index, 0);
        keyspace.put(keys.scattered(index), &value)?;
    }
    Ok(())
}

fn foreign(dir: &Path) -> Result<(Db, Keyspace)> {
    let (author, at_author) = open(&dir.join("author"))?;
    fill(&at_author)?;
    author.sync()?;
    let (db, keyspace) = open(&dir.join("foreign"))?;
    let (from, to) = (author.replication(), db.replication());
    let mut known = Vector::default();
    let mut tail = from.tail(ScopeId::MAIN, &known)?;
    while let Some(shipment) = tail.next(&known, 256 << 10)? {
        known.raise(shipment.origin, shipment.last);
        to.admit(&shipment.bytes)?;
    }
    Ok((db, keyspace))
}

#[inline(never)]
fn reading_keys(keyspace: &Keyspace) -> Result<usize> {
    let keys = Keys::new(KeyShape::Hashed, RECORDS);
    let mut found = 0;
    for number in 0..RECORDS {
        let key = keys.scattered(number.wrapping_mul(7919) % RECORDS);
        found += keyspace.get(key)?.map_or(0, |value| value.len());
    }
    Ok(found)
}

#[inline(never)]
fn reading_all(keyspace: &Keyspace) -> Result<usize> {
    let mut found = 0;
    for _ in 0..SCANS {
        for entry in keyspace.iter() {
            found += entry?.1.len();
        }
    }
    Ok(found)
}
