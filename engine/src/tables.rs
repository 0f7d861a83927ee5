//! The tables that reads use: opened when first needed, closed when no view needs them.

use crate::damage::Damage;
use base::fs::Fs;
use base::lock::{Mutex, Rank};
use base::{Result, SpaceId, key_prefix};
use sstable::manifest::Version;
use sstable::{Cache, SpaceUsage, Table, TableMeta};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Where tables come from, and which are in use.
#[derive(Debug)]
pub(crate) struct Tables {
    fs: Arc<dyn Fs>,
    database: [u8; 16],
    cache: Arc<Cache>,
    damage: Arc<Damage>,
    live: Mutex<HashMap<u64, Weak<TableHandle>>>,
    /// Numbers of tables that left the last view and may be deleted.
    obsolete: Arc<Mutex<Vec<u64>>>,
    /// Tables that no version names any more but some view still holds.
    lingering: Arc<AtomicUsize>,
}

/// One table of a version. The file outlives every handle.
#[derive(Debug)]
pub(crate) struct TableHandle {
    meta: Arc<TableMeta>,
    opened: OnceLock<Arc<Table>>,
    /// What keyspaces take of it, if that was asked before it was opened.
    usage: OnceLock<Box<[(SpaceId, SpaceUsage)]>>,
    fs: Arc<dyn Fs>,
    database: [u8; 16],
    cache: Arc<Cache>,
    damage: Arc<Damage>,
    is_obsolete: AtomicBool,
    obsolete: Arc<Mutex<Vec<u64>>>,
    lingering: Arc<AtomicUsize>,
}

impl Tables {
    /// No tables yet.
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        database: [u8; 16],
        cache: Arc<Cache>,
        damage: Arc<Damage>,
    ) -> Tables {
        Tables {
            fs,
            database,
            cache,
            damage,
            live: Mutex::new(Rank::TableCache, HashMap::new()),
            obsolete: Arc::new(Mutex::new(Rank::Obsolete, Vec::new())),
            lingering: Arc::default(),
        }
    }

    /// What is known to be damaged.
    pub(crate) fn damage(&self) -> &Arc<Damage> {
        &self.damage
    }

    /// The block cache that tables fill.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The handle of the table that `meta` describes.
    pub(crate) fn handle(&self, meta: &Arc<TableMeta>) -> Arc<TableHandle> {
        let mut live = self.live.lock();
        if let Some(handle) = live.get(&meta.id).and_then(Weak::upgrade) {
            return handle;
        }
        let handle = Arc::new(TableHandle {
            meta: meta.clone(),
            opened: OnceLock::new(),
            usage: OnceLock::new(),
            fs: self.fs.clone(),
            database: self.database,
            cache: self.cache.clone(),
            damage: self.damage.clone(),
            is_obsolete: AtomicBool::new(false),
            obsolete: self.obsolete.clone(),
            lingering: self.lingering.clone(),
        });
        live.insert(meta.id, Arc::downgrade(&handle));
        handle
    }

    /// Says that the durable version no longer names these tables: each may be deleted once no
    /// view holds it.
    pub(crate) fn retire(&self, ids: &[u64]) {
        let mut unused = Vec::new();
        let mut held = Vec::new();
        {
            let mut live = self.live.lock();
            for id in ids {
                match live.remove(id).and_then(|handle| handle.upgrade()) {
                    Some(handle) => held.push(handle),
                    None => unused.push(*id),
                }
            }
        }
        self.lingering.fetch_add(held.len(), Ordering::AcqRel);
        for handle in &held {
            self.damage.note_retired(handle.meta.id);
            handle.is_obsolete.store(true, Ordering::Release);
        }
        unused.iter().for_each(|id| self.damage.forget_table(*id));
        // Dropped without the lock: the last holder of a handle may be this one.
        drop(held);
        self.obsolete.lock().extend(unused);
    }

    /// Whether some view still holds a table that no version names any more.
    pub(crate) fn has_lingering(&self) -> bool {
        self.lingering.load(Ordering::Acquire) > 0
    }

    /// Takes the tables that may be deleted now.
    pub(crate) fn take_obsolete(&self) -> Vec<u64> {
        std::mem::take(&mut *self.obsolete.lock())
    }
}

impl TableHandle {
    /// What the manifest knows about the table.
    #[inline]
    pub(crate) fn meta(&self) -> &Arc<TableMeta> {
        &self.meta
    }

    /// Whether no version names it any more.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_obsolete.load(Ordering::Acquire)
    }

    /// Whether it holds more than range deletes.
    pub(crate) fn has_entries(&self) -> bool {
        self.meta.entries > 0
    }

    /// The table, if it was opened before.
    pub(crate) fn opened(&self) -> Option<&Arc<Table>> {
        self.opened.get()
    }

    /// The open table; opens it when first asked.
    #[inline]
    pub(crate) fn table(&self) -> Result<&Arc<Table>> {
        match self.opened.get() {
            Some(table) => Ok(table),
            None => self.open(),
        }
    }

    /// The keyspaces that it has entries of, and what they take. Does not open it, and what is wrong with it
    /// is left to those who read it.
    pub(crate) fn usage(&self) -> Result<Vec<(SpaceId, SpaceUsage)>> {
        if let Some(table) = self.opened() {
            return Ok(table.spaces().collect());
        }
        if let Some(usage) = self.usage.get() {
            return Ok(usage.to_vec());
        }
        let usage = sstable::table::usage(&*self.fs, &self.meta)?;
        Ok(self.usage.get_or_init(|| usage).to_vec())
    }

    /// Notes an error that a read of the table, or of another one of its run, met.
    #[cold]
    pub(crate) fn note(&self, error: &base::Error) {
        self.damage.note(error);
    }

    #[cold]
    fn open(&self) -> Result<&Arc<Table>> {
        let opened = Table::open(&*self.fs, self.meta.clone(), self.database, self.cache.clone());
        let table = opened.inspect_err(|error| self.note(error))?;
        // Another thread may have been faster; both opened the same immutable file.
        Ok(self.opened.get_or_init(|| Arc::new(table)))
    }
}

impl Drop for TableHandle {
    fn drop(&mut self) {
        if self.is_retired() {
            self.damage.forget_retired(self.meta.id);
            self.obsolete.lock().push(self.meta.id);
            self.lingering.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The tables of a version, ready to be read: runs, newest first.
#[derive(Debug, Default)]
pub(crate) struct LiveRuns {
    runs: Vec<LiveRun>,
}

/// One sorted run: tables that do not overlap, in order.
#[derive(Debug)]
pub(crate) struct LiveRun {
    /// Those with entries.
    tables: Arc<[Arc<TableHandle>]>,
    /// Those with range deletes only: in no order with the others.
    bare: Vec<Arc<TableHandle>>,
    /// Space and key prefix of each table's last key.
    fences: Vec<(SpaceId, u64)>,
}

impl LiveRuns {
    /// The runs of `version`.
    pub(crate) fn of(version: &Version, tables: &Tables) -> LiveRuns {
        let runs = version.runs().iter().map(|run| {
            let handles = run.tables.iter().map(|meta| tables.handle(meta));
            let (tables, bare): (Vec<_>, Vec<_>) = handles.partition(|handle| handle.has_entries());
            let last_keys = tables.iter().map(|handle| &handle.meta().largest);
            let fences = last_keys.map(|last| (last.space, key_prefix(&last.key))).collect();
            LiveRun { tables: tables.into(), bare, fences }
        });
        LiveRuns { runs: runs.collect() }
    }

    /// The runs, newest first.
    #[inline]
    pub(crate) fn runs(&self) -> &[LiveRun] {
        &self.runs
    }

    /// All tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<TableHandle>> {
        self.runs.iter().flat_map(|run| run.tables.iter().chain(&run.bare))
    }
}

impl LiveRun {
    /// The tables with entries, in order.
    pub(crate) fn tables(&self) -> &Arc<[Arc<TableHandle>]> {
        &self.tables
    }

    /// Whether a table of it may hold entries of the keyspace.
    pub(crate) fn may_hold(&self, space: SpaceId) -> bool {
        let index = self.fences.partition_point(|(last, _)| *last < space);
        self.tables.get(index).is_some_and(|table| table.meta().smallest.space <= space)
    }

    /// The place of the first table whose last key is at or after `key`; past the end if there is
    /// none.
    #[inline]
    pub(crate) fn find(&self, space: SpaceId, key: &[u8]) -> usize {
        let target = (space, key_prefix(key));
        let mut index = self.fences.partition_point(|fence| *fence < target);
        // Equal prefixes decide nothing.
        while self.fences.get(index) == Some(&target)
            && self.tables.get(index).is_some_and(|table| *table.meta().largest.key < *key)
        {
            index += 1;
        }
        index
    }

    /// The one table that may hold an entry of `key`.
    #[inline]
    pub(crate) fn table_for(&self, space: SpaceId, key: &[u8]) -> Option<&Arc<TableHandle>> {
        self.tables.get(self.find(space, key)).filter(|table| table.meta().covers(space, key))
    }
}
