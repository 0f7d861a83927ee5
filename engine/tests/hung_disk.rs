//! A disk that does not answer: whoever asks how the database is gets an answer all the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::RelPath;
use base::fs::{
    AppendFile, DirEntry, Fs, LockError, LockGuard, ReadFile, SimFs, Space, SyncHandle,
};
use esker::{Db, Platform, Status};
use fixture::{Disk, START_MS, keyspace, small};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Much longer than anything here takes, for a test that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which files do not sync for now.
#[derive(Debug, Default)]
struct Gate {
    held: Mutex<Option<(&'static str, Sender<()>)>>,
    opened: Condvar,
}

impl Gate {
    /// Comes back once syncs of `path` are let through.
    fn pass(&self, path: &RelPath) {
        let mut held = self.held.lock().unwrap();
        while let Some((part, arrived)) = &*held
            && path.as_str().contains(part)
        {
            let _ = arrived.send(());
            held = self.opened.wait(held).unwrap();
        }
    }

    /// From now on no file with `part` in its path syncs, until the first of what is returned is dropped. The
    /// second hears of whoever tries.
    fn hold(self: &Arc<Gate>, part: &'static str) -> (Held, Receiver<()>) {
        let (arrived, arrivals) = channel();
        *self.held.lock().unwrap() = Some((part, arrived));
        (Held(self.clone()), arrivals)
    }
}

struct Held(Arc<Gate>);

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.held.lock().unwrap() = None;
        self.0.opened.notify_all();
    }
}

/// A disk whose syncs have to pass a gate.
#[derive(Clone, Debug)]
struct Gated {
    fs: SimFs,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct GatedFile<F: ?Sized> {
    path: RelPath,
    gate: Arc<Gate>,
    file: F,
}

impl SyncHandle for GatedFile<Arc<dyn SyncHandle>> {
    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass(&self.path);
        self.file.sync_data()
    }
}

impl AppendFile for GatedFile<Box<dyn AppendFile>> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)
    }
    fn len(&self) -> u64 {
        self.file.len()
    }
    fn sync_handle(&self) -> Arc<dyn SyncHandle> {
        let (path, gate) = (self.path.clone(), self.gate.clone());
        Arc::new(GatedFile { path, gate, file: self.file.sync_handle() })
    }
    fn finish(self: Box<Self>) -> io::Result<u64> {
        self.gate.pass(&self.path);
        self.file.finish()
    }
}

impl Fs for Gated {
    fn root(&self) -> &Path {
        self.fs.root()
    }
    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn ReadFile>> {
        self.fs.open(path)
    }
    fn create(&self, path: &RelPath, preallocate: u64) -> io::Result<Box<dyn AppendFile>> {
        let file = self.fs.create(path, preallocate)?;
        Ok(Box::new(GatedFile { path: path.clone(), gate: self.gate.clone(), file }))
    }
    fn create_dir(&self, path: &RelPath) -> io::Result<()> {
        self.fs.create_dir(path)
    }
    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        self.fs.rename(from, to)
    }
    fn link(&self, from: &RelPath, target: &dyn Fs, to: &RelPath) -> io::Result<()> {
        self.fs.link(from, target, to)
    }
    fn remove(&self, path: &RelPath) -> io::Result<()> {
        self.fs.remove(path)
    }
    fn list(&self, path: &RelPath) -> io::Result<Vec<DirEntry>> {
        self.fs.list(path)
    }
    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        self.fs.sync_dir(path)
    }
    fn lock(&self, path: &RelPath) -> Result<LockGuard, LockError> {
        self.fs.lock(path)
    }
    fn space(&self) -> io::Result<Space> {
        self.fs.space()
    }
    fn at(&self, root: &Path) -> Arc<dyn Fs> {
        self.fs.at(root)
    }
}

fn open() -> (Disk, Arc<Gate>, Db) {
    let (disk, gate) = (Disk::new(1), Arc::new(Gate::default()));
    let fs = Arc::new(Gated { fs: disk.fs.clone(), gate: gate.clone() });
    let db = Db::open_on(Platform { fs, ..disk.platform() }, small()).unwrap();
    (disk, gate, db)
}

#[test]
fn health_and_numbers_are_told_while_the_manifest_waits_for_the_disk() {
    let (_disk, gate, db) = open();
    keyspace(&db, "k").put(b"a", b"b").unwrap();
    thread::scope(|scope| {
        let (held, arrivals) = gate.hold("manifest");
        let flush = scope.spawn(|| db.flush());
        arrivals.recv_timeout(PATIENCE).unwrap();
        let (tell, told) = channel();
        scope.spawn(|| {
            let tell = tell;
            tell.send((db.health(), db.stats())).unwrap();
        });
        let (health, stats) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(health.status, Status::Healthy);
        assert_eq!(stats.table_bytes, 0, "the edit is not durable");
        drop(held);
        flush.join().unwrap().unwrap();
    });
    assert!(db.stats().table_bytes > 0, "it is shown once it is");
}

#[test]
fn a_sync_of_the_log_that_does_not_end_is_seen_while_it_runs() {
    let (disk, gate, db) = open();
    let k = keyspace(&db, "k");
    let before = db.stats();
    assert_eq!(before.sync_running, Duration::ZERO);
    thread::scope(|scope| {
        let (held, arrivals) = gate.hold("wal");
        let put = scope.spawn(|| k.put(b"a", b"b"));
        arrivals.recv_timeout(PATIENCE).unwrap();
        disk.clock.set(START_MS + 3000);
        let stats = db.stats();
        assert_eq!(stats.sync_running, Duration::from_secs(3));
        assert_eq!(stats.sync_times, before.sync_times, "it has not ended");
        drop(held);
        put.join().unwrap().unwrap();
    });
    let after = db.stats();
    assert_eq!(after.sync_running, Duration::ZERO);
    let ended = after.sync_times.since(&before.sync_times);
    assert_eq!(ended.count(), 1);
    assert!(ended.quantile(1.0).unwrap() > Duration::from_secs(2));
}
