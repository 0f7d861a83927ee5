//! Databases on simulated disks: opened, read, and given up.

use crate::step::Workload;
use crate::told::Found;
use base::clock::ManualClock;
use base::fs::{Fs, SimFs};
use base::rng::SeededRng;
use engine::{Create, Db, Error, Options, Platform};
use std::path::Path;
use std::sync::Arc;

/// A platform on `fs` at the moment `now_ms`. Its random numbers follow from the disk.
pub(crate) fn platform(fs: &SimFs, now_ms: u64) -> (Platform, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(now_ms));
    let rng = Arc::new(SeededRng::new(fs.calls() ^ fs.trace()));
    (Platform { fs: Arc::new(fs.clone()), clock: clock.clone(), rng }, clock)
}

/// Opens what is on `fs`.
pub(crate) fn open(fs: &SimFs, workload: &Workload, now_ms: u64) -> engine::Result<Db> {
    Db::open_on(platform(fs, now_ms).0, workload.options.clone())
}

/// Opens the copy at `path` of the same disk, if there is one.
pub(crate) fn open_copy(fs: &SimFs, path: &str, now_ms: u64) -> engine::Result<Db> {
    let (platform, _) = platform(fs, now_ms);
    let platform = Platform { fs: fs.at(Path::new(path)), ..platform };
    let options = Options { create: Create::Never, ..crate::workloads::small() };
    Db::open_on(platform, options)
}

/// Everything in `db`; forward, backward and by key it is the same.
pub(crate) fn read(db: &Db) -> engine::Result<Found> {
    let mut found = Found::new();
    for keyspace in db.keyspaces() {
        let own = |entry: engine::Result<(engine::Value, engine::Value)>| {
            entry.map(|(key, value)| (Vec::from(key), Vec::from(value)))
        };
        let forward = keyspace.iter().map(own).collect::<engine::Result<Vec<_>>>()?;
        let mut backward = keyspace.iter().rev().map(own).collect::<engine::Result<Vec<_>>>()?;
        backward.reverse();
        assert_eq!(forward, backward, "backward is not forward");
        for (key, value) in &forward {
            assert_eq!(keyspace.get(key)?.as_deref(), Some(&**value), "a get is not the scan");
        }
        let count = forward.len();
        let content: std::collections::BTreeMap<_, _> = forward.into_iter().collect();
        assert_eq!(content.len(), count, "a key comes twice");
        found.insert(keyspace.name().to_owned(), content);
    }
    Ok(found)
}

/// Lets go of a database without its close reaching the disk.
pub(crate) fn abandon(db: Db, fs: &SimFs) {
    fs.stop_after(0);
    drop(db);
}

/// Opens, reads and lets go.
pub(crate) fn open_and_read(fs: &SimFs, workload: &Workload, now_ms: u64) -> engine::Result<Found> {
    let db = open(fs, workload, now_ms)?;
    let found = read(&db);
    abandon(db, fs);
    found
}

/// Whether it says that bytes on the disk are not what they should be.
pub(crate) fn is_detection(error: &Error) -> bool {
    error.category() == engine::Category::Critical
}
