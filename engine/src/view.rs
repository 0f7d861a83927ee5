//! What a new read sees: the memtables and the tables, swapped whole.
//!
//! A read borrows the view from a slot of its thread: no lock, and no reference count that threads
//! share. Slots are registered, and swept whenever another view is installed, so that an idle
//! thread keeps no memtable or table alive. (A slot that is in use while it is swept is emptied by
//! its own thread when that read ends.) Source of the idea: RocksDB's thread-local super version.

use crate::memtable::Memtable;
use crate::origins::Origins;
use crate::range_map::RangeMap;
use crate::tables::LiveRuns;
use base::lock::{Mutex, Rank, RwLock};
use crossbeam_utils::atomic::AtomicCell;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The sources of reads, newest first: active memtable, frozen memtables, runs of tables.
#[derive(Debug)]
pub(crate) struct View {
    /// Takes the writes.
    pub(crate) active: Arc<Memtable>,
    /// Await their flush, newest first.
    pub(crate) frozen: Vec<Arc<Memtable>>,
    /// The tables.
    pub(crate) runs: Arc<LiveRuns>,
    /// The range deletes in the tables.
    pub(crate) table_ranges: Arc<RangeMap>,
    /// The authors that entries name.
    pub(crate) origins: Arc<Origins>,
    generation: u64,
}

impl View {
    /// Counts the views of a database.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether any source but the active memtable holds a range delete.
    pub(crate) fn has_range_deletes(&self) -> bool {
        !self.table_ranges.is_empty()
            || self.active.has_range_deletes()
            || self.frozen.iter().any(|memtable| memtable.has_range_deletes())
    }

    /// Bytes of the tables that flushing all memtables takes at the most: an eighth is for blocks,
    /// index and filters.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        let memtables = std::iter::once(&self.active).chain(&self.frozen);
        let filled = memtables.filter(|memtable| !memtable.is_empty());
        let bytes: u64 = filled.map(|memtable| memtable.used_bytes() as u64).sum();
        bytes + bytes / 8
    }
}

/// The current view and everyone's way to it.
#[derive(Debug)]
pub(crate) struct Views {
    current: RwLock<Arc<View>>,
    generation: AtomicU64,
    slots: Mutex<Vec<Weak<Slot>>>,
    /// Tells the views of several databases apart in a thread's slots.
    instance: u64,
}

/// One thread's view of one database, while the thread is not reading.
#[derive(Default)]
struct Slot {
    view: AtomicCell<Option<Arc<View>>>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

thread_local! {
    /// This thread's slots by database instance.
    static SLOTS: RefCell<Vec<(u64, Arc<Slot>)>> = const { RefCell::new(Vec::new()) };
}

static INSTANCES: AtomicU64 = AtomicU64::new(1);

impl Views {
    /// The first view of a database, whose entries name `origins`.
    pub(crate) fn new(first: NextView, origins: Arc<Origins>) -> Views {
        let NextView { active, frozen, runs, table_ranges } = first;
        let view = View { active, frozen, runs, table_ranges, origins, generation: 1 };
        Views {
            current: RwLock::new(Rank::View, Arc::new(view)),
            generation: AtomicU64::new(1),
            slots: Mutex::new(Rank::Slots, Vec::new()),
            instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Whether `view` is the current one.
    #[inline]
    pub(crate) fn is_current(&self, view: &View) -> bool {
        view.generation == self.generation.load(Ordering::Acquire)
    }

    /// The current view, to be held for long.
    pub(crate) fn current(&self) -> Arc<View> {
        self.current.read().clone()
    }

    /// Calls `read` with the current view. The short way: for one read, not to be held.
    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(&Arc<View>) -> R) -> R {
        let view = self.take().unwrap_or_else(|| self.current());
        let result = read(&view);
        self.put_back(view);
        result
    }

    /// The view in this thread's slot, if it is the current one. Registers a slot if there is none.
    #[inline]
    fn take(&self) -> Option<Arc<View>> {
        let found = SLOTS.try_with(|slots| {
            let slots = slots.try_borrow().ok()?;
            let slot = slots.iter().find(|(instance, _)| *instance == self.instance);
            Some(slot.map(|(_, slot)| slot.view.take()))
        });
        match found.ok().flatten()? {
            Some(view) => {
                view.filter(|view| view.generation == self.generation.load(Ordering::Acquire))
            }
            None => {
                self.register();
                None
            }
        }
    }

    #[inline]
    fn put_back(&self, view: Arc<View>) {
        let generation = view.generation;
        let _ = SLOTS.try_with(|slots| {
            let Ok(slots) = slots.try_borrow() else { return };
            let Some((_, slot)) = slots.iter().find(|(of, _)| *of == self.instance) else { return };
            slot.view.store(Some(view));
            if self.generation.load(Ordering::SeqCst) != generation {
                // Installed over while we read: the sweep may have come before our store.
                drop(slot.view.take());
            }
        });
    }

    #[cold]
    fn register(&self) {
        let slot = Arc::new(Slot::default());
        self.slots.lock().push(Arc::downgrade(&slot));
        let _ = SLOTS.try_with(|slots| {
            let Ok(mut slots) = slots.try_borrow_mut() else { return };
            // A slot nobody else knows belongs to a database that is gone.
            slots.retain(|(_, slot)| Arc::weak_count(slot) > 0);
            slots.push((self.instance, slot));
        });
    }

    /// Replaces the current view by what `change` makes of it.
    pub(crate) fn install(&self, change: impl FnOnce(&View) -> NextView) {
        let old = {
            let mut current = self.current.write();
            let next = change(&current);
            let generation = current.generation + 1;
            let next = Arc::new(View {
                active: next.active,
                frozen: next.frozen,
                runs: next.runs,
                table_ranges: next.table_ranges,
                origins: current.origins.clone(),
                generation,
            });
            self.generation.store(generation, Ordering::SeqCst);
            std::mem::replace(&mut *current, next)
        };
        drop(old);
        self.sweep();
    }

    /// Empties the slots of all threads.
    pub(crate) fn sweep(&self) {
        let slots: Vec<Arc<Slot>> = {
            let mut slots = self.slots.lock();
            slots.retain(|slot| slot.strong_count() > 0);
            slots.iter().filter_map(Weak::upgrade).collect()
        };
        for slot in slots {
            drop(slot.view.take());
        }
    }
}

/// The parts of the next view.
pub(crate) struct NextView {
    /// See [`View::active`].
    pub(crate) active: Arc<Memtable>,
    /// See [`View::frozen`].
    pub(crate) frozen: Vec<Arc<Memtable>>,
    /// See [`View::runs`].
    pub(crate) runs: Arc<LiveRuns>,
    /// See [`View::table_ranges`].
    pub(crate) table_ranges: Arc<RangeMap>,
}

impl From<&View> for NextView {
    fn from(view: &View) -> NextView {
        NextView {
            active: view.active.clone(),
            frozen: view.frozen.clone(),
            runs: view.runs.clone(),
            table_ranges: view.table_ranges.clone(),
        }
    }
}
