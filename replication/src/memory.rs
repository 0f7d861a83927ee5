//! A database in memory, obviously right rather than fast: for tests and simulations of everything
//! above [`Store`].
//!
//! It keeps two copies of all it holds, what is applied and what a disk would have; a sync copies
//! one to the other, and a crash copies back. A clone is another handle of the same database.

mod content;
mod delta;
mod life;
mod log;
mod moment;
mod spool;
mod tables;

pub use life::{Change, Write};

use crate::store::{
    Admission, Answers, Delta, DeltaHead, EachEntry, Export, ExportHead, Import, Moment, Outbound,
    Purpose, Spool, Stage, Store, Tail,
};
use base::lock::{Mutex, Rank};
use base::{Error, Incarnation, KeyRanges, NodeId, Origin, Result, ScopeId, Stamp, Tick, Vector};
use delta::{MemoryDelta, MemoryStage};
use life::Life;
use moment::MemoryMoment;
use spool::MemorySpool;
use std::collections::BTreeMap;
use std::sync::Arc;
use tables::{MemoryExport, MemoryImport};

/// How far a tick may be ahead of the wall clock.
const MAX_DRIFT_MS: u64 = 10_000;

/// When [`Store::request_sync`] takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncWhen {
    /// At once.
    Asked,
    /// When [`MemoryStore::sync`] is called.
    Told,
}

/// The database. See the module.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    live: Life,
    disk: Life,
    sync: SyncWhen,
    is_closed: bool,
    wall_ms: u64,
    lives: u64,
    staged: BTreeMap<u64, Vec<u8>>,
    /// How often work on state has nothing to show before it has.
    idle_calls: u32,
    /// What is visible while something holds back what is written.
    barrier: Option<Vector>,
    /// Entries of the log from which on a peer that lacks them gets a delta.
    far_behind: usize,
    /// What is missing while the scope is not whole, if that is known.
    missing: Option<KeyRanges>,
}

/// What a backup holds.
#[derive(Clone, Debug)]
pub struct Backup(Life);

impl MemoryStore {
    /// An empty database of `node`, at this moment.
    pub fn new(node: NodeId, incarnation: Incarnation, wall_ms: u64) -> MemoryStore {
        MemoryStore::with(Life::new(Origin { node, incarnation }), wall_ms)
    }

    /// A database with the content of a backup, in a new incarnation.
    pub fn restore(backup: &Backup, incarnation: Incarnation, wall_ms: u64) -> MemoryStore {
        let mut life = backup.0.clone();
        life.origin.incarnation = incarnation;
        MemoryStore::with(life, wall_ms)
    }

    fn with(life: Life, wall_ms: u64) -> MemoryStore {
        let (live, disk) = (life.clone(), life);
        let (sync, is_closed, lives) = (SyncWhen::Asked, false, 0);
        let staged = BTreeMap::new();
        let (idle_calls, barrier, far_behind) = (0, None, usize::MAX);
        let inner = Inner {
            live,
            disk,
            sync,
            is_closed,
            wall_ms,
            lives,
            staged,
            idle_calls,
            barrier,
            far_behind,
            missing: None,
        };
        MemoryStore { inner: Arc::new(Mutex::new(Rank::WriteQueue, inner)) }
    }

    /// What would be restored from here.
    pub fn backup(&self) -> Backup {
        Backup(self.inner.lock().disk.clone())
    }

    /// Decides when requested syncs take effect.
    pub fn set_sync(&self, sync: SyncWhen) {
        self.inner.lock().sync = sync;
    }

    /// From now on each chunk of a delta, and the end of an import, takes so many calls more.
    pub fn set_idle_calls(&self, calls: u32) {
        self.inner.lock().idle_calls = calls;
    }

    /// From now on a peer that lacks so many entries of the log gets a delta.
    pub fn set_far_behind(&self, entries: usize) {
        self.inner.lock().far_behind = entries;
    }

    /// From now on the scope is not whole, and nothing is missing outside of `ranges`.
    pub fn lack(&self, ranges: KeyRanges) {
        let inner = &mut *self.inner.lock();
        (inner.live.is_whole, inner.disk.is_whole) = (false, false);
        inner.missing = Some(ranges);
    }

    /// Sets the wall clock.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.inner.lock().wall_ms = wall_ms;
    }

    /// Marks the scope as whole or not.
    pub fn set_whole(&self, scope: ScopeId, whole: Whole) -> Result<()> {
        check(scope)?;
        self.change(|life, _| {
            life.is_whole = whole == Whole::Yes;
            Ok(())
        })
    }

    /// From now on what is written is shipped, but not visible in [`Store::applied`].
    pub fn hold_back(&self) {
        let inner = &mut *self.inner.lock();
        inner.barrier = Some(inner.live.vector.clone());
    }

    /// Makes everything applied durable.
    pub fn sync(&self) {
        let inner = &mut *self.inner.lock();
        inner.disk = inner.live.clone();
    }

    /// Loses everything that is not durable.
    pub fn crash(&self) {
        let inner = &mut *self.inner.lock();
        inner.live = inner.disk.clone();
        inner.is_closed = false;
    }

    /// Commits `writes` of a user to scope main, atomically.
    pub fn write(&self, writes: &[Write]) -> Result<Tick> {
        let inner = &mut *self.inner.lock();
        if inner.is_closed {
            return Err(Error::ReadOnly);
        }
        inner.live.commit(inner.wall_ms, writes)
    }

    /// Forgets the tombstones that the floor covers.
    pub fn collect(&self) {
        let life = &mut self.inner.lock().live;
        let dropped = life.content.collect(&life.floor);
        life.dropped = life.dropped.max(dropped);
    }

    /// Loses what is held of a key, as if a disk had: nothing else notices.
    pub fn lose(&self, keyspace: &str, key: &[u8]) {
        let inner = &mut *self.inner.lock();
        let place = (keyspace.to_owned(), key.to_vec());
        inner.live.content.points.remove(&place);
        inner.disk.content.points.remove(&place);
    }

    /// Shows a value again that is older than all this node has written, as no code should.
    pub fn show_again(&self, keyspace: &str, key: &[u8], value: &[u8]) {
        let inner = &mut *self.inner.lock();
        for life in [&mut inner.live, &mut inner.disk] {
            let stamp = Stamp { tick: Tick::ZERO.next(), origin: life.origin };
            let says = content::Says::Put { value: value.to_vec(), expires_at_ms: None };
            let place = (keyspace.to_owned(), key.to_vec());
            life.content.points.insert(place, content::Version { stamp, says });
        }
    }

    /// Forgets all but the newest entries of the log.
    pub fn trim_log(&self, keep: usize) {
        let inner = &mut *self.inner.lock();
        inner.live.log.trim(keep);
        inner.disk.log.trim(keep);
    }

    /// Everything that can be read: keyspace, key, value.
    pub fn dump(&self) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        let inner = self.inner.lock();
        let content = &inner.live.content;
        let value = |place| content.get(place, inner.wall_ms).map(<[u8]>::to_vec);
        let live = content.points.keys().filter_map(|place| {
            value(place).map(|value| (place.0.clone(), place.1.clone(), value))
        });
        live.collect()
    }

    /// Changes what is applied, and makes it durable.
    fn change<T>(&self, with: impl FnOnce(&mut Life, u64) -> Result<T>) -> Result<T> {
        let inner = &mut *self.inner.lock();
        let mut life = inner.live.clone();
        let changed = with(&mut life, inner.wall_ms)?;
        inner.disk = life.clone();
        inner.live = life;
        Ok(changed)
    }

    fn staged<T>(&self, with: impl FnOnce(&mut BTreeMap<u64, Vec<u8>>) -> T) -> T {
        with(&mut self.inner.lock().staged)
    }

    fn set_closed(&self, scope: ScopeId, closed: Closed) -> Result<()> {
        check(scope)?;
        self.inner.lock().is_closed = closed == Closed::Yes;
        Ok(())
    }
}

/// Whether nothing of a scope was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// Nothing is missing.
    Yes,
    /// Something may be missing.
    No,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    Yes,
    No,
}

fn check(scope: ScopeId) -> Result<()> {
    if scope == ScopeId::MAIN {
        return Ok(());
    }
    Err(Error::invalid(format!("scope {} is not replicated", scope.0)))
}

impl Store for MemoryStore {
    fn origin(&self) -> Origin {
        self.inner.lock().live.origin
    }

    fn wall_ms(&self) -> u64 {
        self.inner.lock().wall_ms
    }

    fn applied(&self, _scope: ScopeId) -> Vector {
        let inner = self.inner.lock();
        inner.barrier.as_ref().unwrap_or(&inner.live.vector).clone()
    }

    fn written(&self, _scope: ScopeId) -> Vector {
        self.inner.lock().live.vector.clone()
    }

    fn durable(&self, _scope: ScopeId) -> Vector {
        self.inner.lock().disk.vector.clone()
    }

    fn commits(&self, scope: ScopeId) -> u64 {
        if scope == ScopeId::MAIN { self.inner.lock().live.commits } else { 0 }
    }

    fn renew(&self) -> Result<Origin> {
        let inner = &mut *self.inner.lock();
        inner.lives += 1;
        let old = inner.live.origin;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&old.incarnation.0.to_le_bytes());
        hasher.update(&inner.lives.to_le_bytes());
        let mut fresh = [0; 8];
        hasher.finalize_xof().fill(&mut fresh);
        inner.live.origin.incarnation = Incarnation(u64::from_le_bytes(fresh));
        inner.disk = inner.live.clone();
        Ok(inner.live.origin)
    }

    fn close(&self, scope: ScopeId) -> Result<()> {
        self.set_closed(scope, Closed::Yes)
    }

    fn reopen(&self, scope: ScopeId) -> Result<()> {
        self.set_closed(scope, Closed::No)
    }

    fn request_sync(&self) {
        if self.inner.lock().sync == SyncWhen::Asked {
            self.sync();
        }
    }

    fn floor(&self, _scope: ScopeId) -> Vector {
        self.inner.lock().live.floor.clone()
    }

    fn raise_floor(&self, scope: ScopeId, floor: &Vector) -> Result<()> {
        check(scope)?;
        let inner = &mut *self.inner.lock();
        inner.disk.floor.raise_all(floor);
        inner.live.floor.raise_all(floor);
        Ok(())
    }

    fn dropped(&self, _scope: ScopeId) -> Tick {
        self.inner.lock().live.dropped
    }

    fn is_whole(&self, _scope: ScopeId) -> bool {
        self.inner.lock().live.is_whole
    }

    fn missing(&self, scope: ScopeId) -> Result<Option<KeyRanges>> {
        let nothing = self.is_whole(scope).then(KeyRanges::default);
        Ok(nothing.or_else(|| self.inner.lock().missing.clone()))
    }

    fn is_empty(&self, scope: ScopeId) -> Result<bool> {
        check(scope)?;
        let inner = self.inner.lock();
        Ok(inner.live.content.is_empty() && inner.live.vector.is_empty())
    }

    fn tail(&self, scope: ScopeId, after: &Vector) -> Result<Box<dyn Tail>> {
        check(scope)?;
        self.inner.lock().live.log.check_reaches(after)?;
        Ok(Box::new(MemoryTail { store: self.clone(), at: 0 }))
    }

    fn prefers_delta(&self, scope: ScopeId, after: &Vector) -> Result<bool> {
        check(scope)?;
        let inner = self.inner.lock();
        Ok(inner.live.log.count_behind(after) >= inner.far_behind)
    }

    fn admit(&self, shipment: &[u8]) -> Result<Admission> {
        let inner = &mut *self.inner.lock();
        if inner.is_closed {
            return Ok(Admission::Closed);
        }
        let decoded = base::Shipment::decode(shipment)
            .map_err(|found| Error::invalid(format!("this is no shipment: {found}")))?;
        let by_ms = decoded.last().ms().saturating_sub(inner.wall_ms);
        if by_ms > MAX_DRIFT_MS {
            return Ok(Admission::ClockAhead { by_ms });
        }
        inner.live.admit(inner.wall_ms, shipment)
    }

    fn delta(&self, scope: ScopeId, after: &Vector) -> Result<Box<dyn Delta>> {
        check(scope)?;
        self.sync();
        let inner = self.inner.lock();
        let items = delta::items(&inner.live.content, after);
        let (head, idle) = (head_of(&inner.live), inner.idle_calls);
        Ok(Box::new(MemoryDelta { head, items, idle, left: idle }))
    }

    fn stage(&self, scope: ScopeId, head: &DeltaHead, purpose: Purpose) -> Result<Box<dyn Stage>> {
        check(scope)?;
        let (store, head, items) = (self.clone(), head.clone(), Vec::new());
        Ok(Box::new(MemoryStage { store, head, purpose, items }))
    }

    fn export(&self, scope: ScopeId) -> Result<Option<Box<dyn Export>>> {
        if self.is_empty(scope)? {
            return Ok(None);
        }
        self.sync();
        let life = &self.inner.lock().live;
        let files = tables::files(&life.content);
        let (state, clock, catalog) = (head_of(life), life.clock, Vec::new());
        let head = ExportHead { state, clock, catalog, files: tables::list(&files) };
        Ok(Some(Box::new(MemoryExport { head, files })))
    }

    fn import(&self, scope: ScopeId, head: &ExportHead) -> Result<Box<dyn Import>> {
        check(scope)?;
        self.staged(|staged| {
            let is_of = |id: &u64, bytes: &Vec<u8>| {
                let file = head.files.iter().find(|file| file.id == *id);
                file.is_some_and(|file| bytes.len() as u64 <= file.len)
            };
            staged.retain(|id, bytes| is_of(id, bytes));
        });
        let (store, head, idle) = (self.clone(), head.clone(), self.inner.lock().idle_calls);
        Ok(Box::new(MemoryImport { store, head, idle }))
    }

    fn spool(&self) -> Result<Box<dyn Spool>> {
        Ok(Box::new(MemorySpool::default()))
    }

    fn elements(&self, scope: ScopeId) -> Result<Box<dyn Moment>> {
        check(scope)?;
        Ok(Box::new(MemoryMoment::of(&self.inner.lock().live)))
    }

    fn get(&self, keyspace: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let inner = self.inner.lock();
        let place = (keyspace.to_owned(), key.to_vec());
        let local = inner.live.local.get(&place).cloned();
        let main = || inner.live.content.get(&place, inner.wall_ms).map(<[u8]>::to_vec);
        Ok(local.or_else(main))
    }

    fn set_answers(&self, scope: ScopeId, answers: Answers) -> Result<()> {
        check(scope)?;
        let inner = &mut *self.inner.lock();
        (inner.live.answers, inner.disk.answers) = (answers, answers);
        Ok(())
    }

    fn each_entry(&self, keyspace: &str, each: &mut EachEntry<'_>) -> Result<()> {
        let inner = self.inner.lock();
        let (live, content) = (&inner.live, &inner.live.content);
        let own = Stamp { tick: Tick::ZERO, origin: live.origin };
        let local = live.local.iter().map(|(place, value)| (place, Some(&**value), own));
        let points = content.points.iter();
        let held = points
            .map(|(place, version)| (place, content.get(place, inner.wall_ms), version.stamp));
        for ((name, key), value, stamp) in local.chain(held) {
            if let Some(value) = value.filter(|_| name == keyspace)
                && !each(key, value, stamp)
            {
                break;
            }
        }
        Ok(())
    }

    fn put(&self, scope: ScopeId, keyspace: &str, key: &[u8], value: &[u8]) -> Result<Tick> {
        if scope == ScopeId::LOCAL {
            let inner = &mut *self.inner.lock();
            let place = (keyspace.to_owned(), key.to_vec());
            inner.live.local.insert(place.clone(), value.to_vec());
            inner.disk.local.insert(place, value.to_vec());
            let tick = inner.live.clock.advance(inner.wall_ms);
            (inner.live.clock, inner.disk.clock) = (tick, tick);
            return Ok(tick);
        }
        check(scope)?;
        let (keyspace, key) = (keyspace.to_owned(), key.to_vec());
        let tick = self.write(&[Write { keyspace, key, change: Change::Put(value.to_vec()) }])?;
        self.sync();
        Ok(tick)
    }
}

fn head_of(life: &Life) -> DeltaHead {
    let (vector, floor, dropped) = (life.vector.clone(), life.floor.clone(), life.dropped);
    DeltaHead { vector, floor, dropped }
}

struct MemoryTail {
    store: MemoryStore,
    at: u64,
}

impl Tail for MemoryTail {
    fn next(&mut self, known: &Vector, len_max: usize) -> Result<Option<Outbound>> {
        let inner = &mut *self.store.inner.lock();
        let own = inner.disk.origin;
        let found = inner.disk.log.next(&mut self.at, known, own, len_max)?;
        if found.is_none() && inner.sync == SyncWhen::Asked {
            inner.disk = inner.live.clone();
            return inner.disk.log.next(&mut self.at, known, own, len_max);
        }
        Ok(found)
    }
}
