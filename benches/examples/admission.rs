//! What it costs to admit another node's commits, and what a local put costs beside that.
//!
//! ```text
//! cargo run --release -p benches --example admission
//! ```
//!
//! One database writes, its log is given out as shipments, another one admits them: all on this thread,
//! 16-byte hashed keys and 100-byte values. CPU is this thread's. Live means that every key is new or newer
//! than all before; crossing, that every key was written on both sides and has to be looked up.

use benches::meter::thread_cpu_ns;
use benches::{KeyShape, Keys, Result, Values};
use engine::replicate::{Admission, ScopeId};
use engine::{Batch, Db, Keyspace, KeyspaceOptions, Options, SyncMode};
use std::path::Path;
use std::time::Instant;

const OPS: u64 = 400_000;
const VALUE_LEN: usize = 100;

fn main() -> Result<()> {
    for ops in [1, 100, 1000] {
        let shipments = shipments(ops, OPS)?;
        let bytes: usize = shipments.iter().map(Vec::len).sum();
        let per_op = bytes as f64 / OPS as f64;
        println!("{ops} ops a shipment, {per_op:.1} bytes an op");
        let dir = tempfile::TempDir::new_in(std::env::temp_dir())?;
        let (db, keyspace) = open(dir.path())?;
        admit("  live", &db, &shipments)?;
        drop((db, keyspace));
        let dir = tempfile::TempDir::new_in(std::env::temp_dir())?;
        let (db, keyspace) = open(dir.path())?;
        write(&db, &keyspace, 100, OPS)?;
        admit("  crossing", &db, &shipments)?;
    }
    for replicates in [false, true] {
        let dir = tempfile::TempDir::new_in(std::env::temp_dir())?;
        let (db, keyspace) = open(dir.path())?;
        if replicates {
            shipments(1, 1)?.iter().try_for_each(|it| db.replication().admit(it).map(drop))?;
        }
        let what = if replicates { "put, replication in use" } else { "put, no replication" };
        measure(what, OPS, || write(&db, &keyspace, 0, OPS))?;
    }
    Ok(())
}

fn open(dir: &Path) -> Result<(Db, Keyspace)> {
    let options = Options { sync: SyncMode::Async, ..Options::default() };
    let db = Db::open(dir, options)?;
    let keyspace = db.keyspace("bench", KeyspaceOptions::default())?;
    Ok((db, keyspace))
}

/// Writes `count` records, in batches of `batch`; zero means single puts.
fn write(db: &Db, keyspace: &Keyspace, batch: u64, count: u64) -> Result<()> {
    let (keys, values) = (Keys::new(KeyShape::Hashed, OPS), Values::new(VALUE_LEN));
    let mut value = Vec::new();
    for first in (0..count).step_by(batch.max(1) as usize) {
        let mut collected = Batch::new();
        for index in first..(first + batch.max(1)).min(count) {
            values.fill(&mut value, index, 0);
            match batch {
                0 => drop(keyspace.put(keys.scattered(index), &value)?),
                _ => collected.put(keyspace, keys.scattered(index), &value),
            }
        }
        if batch > 0 {
            db.write(collected)?;
        }
    }
    Ok(())
}

/// The log of a database that has written `count` records, as shipments of `ops` each.
fn shipments(ops: u64, count: u64) -> Result<Vec<Vec<u8>>> {
    let dir = tempfile::TempDir::new_in(std::env::temp_dir())?;
    let options =
        Options { sync: SyncMode::Async, log_retention_bytes: 1 << 40, ..Options::default() };
    let db = Db::open(dir.path(), options)?;
    let keyspace = db.keyspace("bench", KeyspaceOptions::default())?;
    write(&db, &keyspace, ops, count)?;
    db.sync()?;
    let known = engine::replicate::Vector::default();
    let mut tail = db.replication().tail(ScopeId::MAIN, &known)?;
    let mut all = Vec::new();
    while let Some(shipment) = tail.next(&known, 1)? {
        all.push(shipment.bytes);
    }
    Ok(all)
}

fn admit(what: &str, db: &Db, shipments: &[Vec<u8>]) -> Result<()> {
    let replication = db.replication();
    let mut won = 0;
    measure(what, OPS, || {
        for shipment in shipments {
            if let Admission::Taken { won: taken, .. } = replication.admit(shipment)? {
                won += taken;
            }
        }
        Ok(())
    })?;
    println!("    {won} ops stored");
    Ok(())
}

fn measure(what: &str, ops: u64, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (started, cpu) = (Instant::now(), thread_cpu_ns());
    work()?;
    let (wall, cpu) = (started.elapsed().as_secs_f64(), thread_cpu_ns() - cpu);
    let per_op = cpu as f64 / ops as f64;
    println!("{what}: {per_op:.0} ns of CPU an op, {:.0} ops/s by the clock", ops as f64 / wall);
    Ok(())
}
