//! A machine with a database of the engine, on a simulated disk. Nothing runs in threads.

use crate::story::dice::Dice;
use crate::story::machine::{Chore, Content, Loss, Machine, Now};
use base::fs::{CrashModel, Fs, SimFs};
use base::rng::SeededRng;
use base::{Clock, Error, Identity, Incarnation, Result, Rng, ScopeId, Tick, Vector};
use engine::{
    Background, BackupOptions, Backups, Batch, Db, KeyspaceOptions, Options, Platform, Progress,
    RestorePoint, SyncMode, WriteOptions,
};
use replication::engine_store::{EngineStore, FAR_BEHIND_BYTES};
use replication::link::Bell;
use replication::memory::{Change, Write};
use replication::store::{Store, keyspaces};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What may be left of a disk when the power fails.
const POWER_LOSSES: [CrashModel; 5] = [
    CrashModel::Synced,
    CrashModel::Prefix,
    CrashModel::Sectors,
    CrashModel::Garbage,
    CrashModel::Directory,
];

/// See the module.
pub(crate) struct EngineMachine {
    disk: SimFs,
    /// Who the node is; a new disk is given its key.
    identity: Identity,
    /// The directory of the database: a new disk and a restored database get another one.
    home: u64,
    /// Whether there is a database in it.
    is_born: bool,
    backups: u64,
    clock: Arc<StoryClock>,
    dice: Dice,
    db: Option<Db>,
    /// What it had when it was left.
    left: Vector,
}

impl EngineMachine {
    fn db(&self) -> Result<&Db> {
        self.db.as_ref().ok_or(Error::Closed)
    }

    /// The disk, the clock, and randomness that begins with what a birth draws.
    fn platform(&mut self, birth: VecDeque<Vec<u8>>) -> Platform {
        let rng = Draws { first: Mutex::new(birth), then: SeededRng::new(self.dice.roll()) };
        let fs = self.disk.at(&self.path());
        Platform { fs, clock: self.clock.clone(), rng: Arc::new(rng) }
    }

    /// Where the database is.
    fn path(&self) -> PathBuf {
        self.disk.root().join(format!("home-{}", self.home))
    }

    /// Leaves the directory for another one.
    fn move_out(&mut self) {
        let prefix = format!("home-{}/", self.home);
        let old = self.disk.files().into_iter().filter(|path| path.as_str().starts_with(&prefix));
        old.for_each(|path| self.disk.remove_file(&path).unwrap());
        self.home += 1;
    }

    /// What a restart would find.
    fn look(&mut self) -> Result<Vector> {
        if !self.is_born {
            return Ok(Vector::default());
        }
        let platform = self.platform(VecDeque::new());
        // It takes all of the log into memory.
        let db = Db::open_read_only_on(platform, Options { memory_bytes: 64 << 20, ..options() })?;
        self.identity = db.identity();
        Ok(db.replication().applied(ScopeId::MAIN))
    }
}

impl Machine for EngineMachine {
    /// Where it is.
    type Backup = PathBuf;

    const COPIES_OF_LATE: usize = 2;

    fn new(identity: Identity, now: Now) -> EngineMachine {
        EngineMachine {
            disk: SimFs::new(identity.incarnation.0),
            identity,
            home: 0,
            is_born: false,
            backups: 0,
            clock: Arc::new(StoryClock::at(now)),
            dice: Dice::new(identity.incarnation.0),
            db: None,
            left: Vector::default(),
        }
    }

    fn identity(&self) -> Identity {
        self.db.as_ref().map_or(self.identity, |db| db.identity())
    }

    fn start(&mut self, bell: &Bell) -> Result<Arc<dyn Store>> {
        let Identity { database, secret, incarnation, .. } = self.identity;
        let incarnation = incarnation.0.to_le_bytes();
        let birth = match self.is_born {
            true => VecDeque::new(),
            false => [database.to_vec(), secret.to_vec(), incarnation.to_vec()].into(),
        };
        let db = Db::open_on(self.platform(birth), options())?;
        self.is_born = true;
        // Some think soon that a peer is far behind.
        let far = match self.identity.secret[0].is_multiple_of(3) {
            true => 4 << 10,
            false => FAR_BEHIND_BYTES,
        };
        let store = Arc::new(EngineStore::new(db.clone(), bell).far_behind(far));
        self.db = Some(db);
        Ok(store)
    }

    fn stop(&mut self) -> Result<()> {
        (self.left, self.identity) = (self.applied(), self.identity());
        self.db.take().map_or(Ok(()), Db::close)
    }

    fn crash(&mut self, loss: Loss) -> Result<()> {
        let before = self.applied();
        let model = match loss {
            Loss::Nothing => CrashModel::Kill,
            Loss::Tail => *self.dice.pick(&POWER_LOSSES),
        };
        let image = self.disk.crash(model);
        // Who is dead writes no more.
        self.disk.stop_after(self.disk.ops());
        self.db = None;
        self.disk = image;
        self.left = self.look()?;
        if loss == Loss::Nothing && self.left != before {
            let left = &self.left;
            return Err(Error::invalid(format!("a kill made {left:?} of {before:?}")));
        }
        Ok(())
    }

    fn write(&mut self, writes: &[Write]) -> Result<Tick> {
        let db = self.db()?;
        let mut batch = Batch::new();
        for Write { keyspace, key, change } in writes {
            let keyspace = db.keyspace(keyspace, KeyspaceOptions::default())?;
            match change {
                Change::Put(value) => batch.put(&keyspace, key, value),
                Change::Delete => batch.delete(&keyspace, key),
                Change::DeleteTo(end) => batch.delete_range(&keyspace, key, end),
                Change::Erase(_) => return Err(Error::invalid("users do not erase")),
            }
        }
        db.write_with(batch, WriteOptions { sync: Some(SyncMode::Async) })
    }

    fn sync(&mut self) -> Result<()> {
        self.db()?.sync().map(drop)
    }

    fn durable(&self) -> Vector {
        let up = self.db.as_ref().map(|db| db.replication().durable(ScopeId::MAIN));
        up.unwrap_or_else(|| self.left.clone())
    }

    fn applied(&self) -> Vector {
        let up = self.db.as_ref().map(|db| db.replication().applied(ScopeId::MAIN));
        up.unwrap_or_else(|| self.left.clone())
    }

    fn content(&self) -> Result<Content> {
        let db = self.db()?;
        let mut all = db.keyspaces();
        let replication = db.replication();
        let reserved = [keyspaces::ROSTER, keyspaces::QUARANTINE];
        all.extend(reserved.iter().filter_map(|name| replication.existing_keyspace(name).ok()));
        let mut content = Content::new();
        for keyspace in all {
            for entry in keyspace.iter() {
                let (key, value) = entry?;
                content.push((keyspace.name().to_owned(), key.to_vec(), value.to_vec()));
            }
        }
        content.sort();
        Ok(content)
    }

    fn back_up(&mut self) -> Result<PathBuf> {
        self.backups += 1;
        let path = self.disk.root().join(format!("backup-{}", self.backups));
        self.db()?.backup(&path, &BackupOptions::default())?;
        Ok(path)
    }

    fn restore(&mut self, backup: &PathBuf, _: Incarnation) -> Result<()> {
        self.move_out();
        let fs = self.disk.at(backup);
        let platform = Platform { fs, ..self.platform(VecDeque::new()) };
        let (point, progress) = (RestorePoint::Newest, Progress::default());
        Backups::open_on(platform)?.restore(self.path(), point, &progress)?;
        self.is_born = true;
        self.left = self.look()?;
        Ok(())
    }

    fn wipe(&mut self, incarnation: Incarnation) {
        self.move_out();
        self.identity.incarnation = incarnation;
        self.is_born = false;
        self.left = Vector::default();
    }

    fn set_clock(&mut self, now: Now) {
        self.clock.set(now);
    }

    fn tidy(&mut self, chore: Chore) -> Result<()> {
        match chore {
            Chore::Collect => self.db()?.compact_all(),
            Chore::TrimLog => self.db()?.settle(),
        }
    }
}

/// The smallest sizes, so that everything happens often.
fn options() -> Options {
    Options {
        memtable_bytes: 64 << 10,
        memory_bytes: 2 << 20,
        block_bytes: 512,
        table_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        reserve_bytes: 0,
        background: Background::Off,
        ..Options::default()
    }
}

/// A wall clock that may be wrong, and a monotonic one that is not.
#[derive(Debug)]
struct StoryClock {
    wall_ms: AtomicU64,
    elapsed_ms: AtomicU64,
}

impl StoryClock {
    fn at(now: Now) -> StoryClock {
        StoryClock { wall_ms: now.wall_ms.into(), elapsed_ms: now.elapsed_ms.into() }
    }

    fn set(&self, now: Now) {
        self.wall_ms.store(now.wall_ms, Ordering::Relaxed);
        self.elapsed_ms.store(now.elapsed_ms, Ordering::Relaxed);
    }
}

impl Clock for StoryClock {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed))
    }
}

/// Given bytes first, then random ones.
struct Draws {
    first: Mutex<VecDeque<Vec<u8>>>,
    then: SeededRng,
}

impl Rng for Draws {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        match self.first.lock().unwrap().pop_front() {
            Some(given) => bytes.copy_from_slice(&given),
            None => self.then.fill(bytes)?,
        }
        Ok(())
    }
}
