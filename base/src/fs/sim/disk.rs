//! The simulated disk: folders, files, and the changes on their way to safety.
//!
//! ```text
//! folder.base -> promised ops -> pending ops -> folder.seen
//!                last sync_dir   at risk
//! ```
//!
//! Names and bytes are safe independently: a synced file can be without a name after a crash, and a
//! synced name can stand for an empty file.

use super::content::{Content, Inode};
use super::fault::{Fault, FaultPlan, OpKind};
use super::hold::Gate;
use super::moment::{Moment, Underway};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(super) type Entries = BTreeMap<String, Entry>;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    File(Arc<Mutex<Inode>>),
    Folder,
}

/// The names in a folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    /// What callers see.
    pub(super) seen: Entries,
    /// What was safe before the last sync of a folder.
    pub(super) base: Entries,
    /// Whether it is there without a name in another folder.
    pub(super) is_root: bool,
    /// Whether it was removed. A crash may bring it back.
    pub(super) is_gone: bool,
}

/// Where a name stands: the folder's full path, and the name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) folder: String,
    pub(super) name: String,
}

/// Names that change together: one, or both of a rename.
#[derive(Clone, Debug)]
pub(super) struct EntryOp(pub(super) Vec<(Place, Option<Entry>)>);

impl EntryOp {
    pub(super) fn apply(&self, folders: &mut BTreeMap<String, Folder>) {
        for (place, entry) in &self.0 {
            if let Some(folder) = folders.get_mut(&place.folder) {
                set(&mut folder.base, place, entry);
            }
        }
    }
}

fn set(entries: &mut Entries, place: &Place, entry: &Option<Entry>) {
    match entry {
        Some(entry) => entries.insert(place.name.clone(), entry.clone()),
        None => entries.remove(&place.name),
    };
}

/// What the last sync was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastSync {
    None,
    File(u64),
    Folder,
}

/// Why an operation does not run its course.
#[derive(Clone, Copy, Debug)]
pub(super) enum Interruption {
    Fault(Fault),
    /// The power fails during this very operation.
    PowerFails,
    /// It failed before.
    PowerIsOff,
}

impl From<Interruption> for io::Error {
    fn from(interruption: Interruption) -> io::Error {
        match interruption {
            Interruption::Fault(fault) => fault.error(),
            Interruption::PowerFails | Interruption::PowerIsOff => io::Error::other("power is off"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) seed: u64,
    pub(super) folders: BTreeMap<String, Folder>,
    pub(super) pending: Vec<EntryOp>,
    pub(super) promised: Vec<EntryOp>,
    pub(super) last_sync: LastSync,
    /// How many changes had happened before that sync.
    pub(super) synced_at: u64,
    /// Bytes left, if they are counted.
    pub(super) free: Option<u64>,
    pub(super) inodes: u64,
    pub(super) ops: u64,
    pub(super) trace: u64,
    pub(super) stop_at: u64,
    pub(super) is_off: bool,
    pub(super) plans: Vec<FaultPlan>,
    pub(super) gate: Arc<Gate>,
    pub(super) locks: BTreeSet<String>,
    pub(super) crashes: u64,
    /// All operations so far, reads too.
    pub(super) calls: Vec<OpKind>,
    /// Operations that a fault struck, with the path.
    pub(super) struck: Vec<(OpKind, String)>,
    /// What the disk was before each change, if that is recorded.
    pub(super) moments: Option<Vec<Moment>>,
    pub(super) mark: u64,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Disk {
        Disk {
            seed,
            folders: BTreeMap::new(),
            pending: Vec::new(),
            promised: Vec::new(),
            last_sync: LastSync::None,
            synced_at: 0,
            free: None,
            inodes: 0,
            ops: 0,
            trace: seed,
            stop_at: u64::MAX,
            is_off: false,
            plans: Vec::new(),
            gate: Arc::default(),
            locks: BTreeSet::new(),
            crashes: 0,
            calls: Vec::new(),
            struck: Vec::new(),
            moments: None,
            mark: 0,
        }
    }

    /// A copy that goes its own way: nobody holds files or locks of it, and no faults are armed.
    pub(super) fn copy(&self) -> Disk {
        let mut copies = Copies::default();
        let folders = self.folders.iter().map(|(path, folder)| {
            let seen = copies.entries(&folder.seen);
            let base = copies.entries(&folder.base);
            (path.clone(), Folder { seen, base, is_root: folder.is_root, is_gone: folder.is_gone })
        });
        let folders = folders.collect();
        Disk {
            folders,
            pending: self.pending.iter().map(|op| copies.op(op)).collect(),
            promised: self.promised.iter().map(|op| copies.op(op)).collect(),
            last_sync: self.last_sync,
            synced_at: self.synced_at,
            free: self.free,
            inodes: self.inodes,
            ops: self.ops,
            trace: self.trace,
            mark: self.mark,
            ..Disk::new(self.seed)
        }
    }

    /// Every operation starts here: it is counted and traced, and faults strike.
    pub(super) fn begin(&mut self, op: OpKind, path: &str, size: u64) -> Result<(), Interruption> {
        if self.is_off {
            return Err(Interruption::PowerIsOff);
        }
        if op.is_change() {
            if self.ops >= self.stop_at {
                self.is_off = true;
                return Err(Interruption::PowerFails);
            }
            self.record_moment();
            self.ops += 1;
            let line = format!("{op:?} {path} {size}");
            self.trace = xxh3_64_with_seed(line.as_bytes(), self.trace);
        }
        self.calls.push(op);
        let mut struck = None;
        for plan in &mut self.plans {
            struck = struck.or(plan.strike(op, path));
        }
        let Some(fault) = struck else { return Ok(()) };
        self.struck.push((op, path.to_owned()));
        Err(Interruption::Fault(fault))
    }

    fn record_moment(&mut self) {
        if let Some(mut moments) = self.moments.take() {
            moments.push(Moment::new(self.copy()));
            self.moments = Some(moments);
        }
    }

    /// The change that just began is an append of these bytes.
    pub(super) fn trace_append(&mut self, inode: u64, offset: usize, bytes: &[u8]) {
        self.trace = xxh3_64_with_seed(bytes, self.trace);
        if let Some(moment) = self.moments.as_mut().and_then(|moments| moments.last_mut()) {
            moment.interrupt(Underway { inode, offset, bytes: bytes.into() });
        }
    }

    pub(super) fn new_inode(&mut self, content: Content) -> Arc<Mutex<Inode>> {
        self.inodes += 1;
        Arc::new(Mutex::new(Inode::new(self.inodes, content)))
    }

    pub(super) fn entries(&self, folder: &str) -> io::Result<&Entries> {
        let folder = self.folders.get(folder).filter(|folder| !folder.is_gone);
        folder.map(|folder| &folder.seen).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn entry(&self, place: &Place) -> io::Result<Option<&Entry>> {
        Ok(self.entries(&place.folder)?.get(&place.name))
    }

    pub(super) fn file(&self, place: &Place) -> io::Result<Arc<Mutex<Inode>>> {
        match self.entry(place)? {
            Some(Entry::File(inode)) => Ok(Arc::clone(inode)),
            Some(Entry::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Changes names for everyone to see; a later sync or a crash decides what becomes of them.
    pub(super) fn change_names(&mut self, changes: Vec<(Place, Option<Entry>)>) {
        for (place, entry) in &changes {
            if let Some(Entry::File(inode)) = entry {
                inode.lock().links += 1;
            }
            let Some(folder) = self.folders.get_mut(&place.folder) else { continue };
            let old = folder.seen.get(&place.name).cloned();
            set(&mut folder.seen, place, entry);
            if let Some(Entry::File(inode)) = old {
                self.unlink(&inode);
            }
        }
        self.pending.push(EntryOp(changes));
    }

    fn unlink(&mut self, inode: &Mutex<Inode>) {
        let mut inode = inode.lock();
        inode.links = inode.links.saturating_sub(1);
        if inode.links == 0 {
            self.give_back(inode.seen().len() as u64);
        }
    }

    /// Makes the names in a folder safe. What changed together with them gets safe too, and so do
    /// earlier changes there.
    pub(super) fn sync_folder(&mut self, folder: &str) {
        self.keep_promises();
        let mut synced = BTreeSet::from([folder.to_owned()]);
        let mut rest = Vec::new();
        for op in self.pending.drain(..).rev() {
            if op.0.iter().any(|(place, _)| synced.contains(&place.folder)) {
                synced.extend(op.0.iter().map(|(place, _)| place.folder.clone()));
                self.promised.push(op);
            } else {
                rest.push(op);
            }
        }
        self.promised.reverse();
        rest.reverse();
        self.pending = rest;
        self.last_sync = LastSync::Folder;
        self.synced_at = self.ops.saturating_sub(1);
    }

    pub(super) fn sync_file(&mut self, inode: &Mutex<Inode>) {
        self.keep_promises();
        let mut inode = inode.lock();
        inode.sync();
        self.last_sync = LastSync::File(inode.id);
        self.synced_at = self.ops.saturating_sub(1);
    }

    /// What a sync of a folder that loses them does: the changes at risk there will never reach the
    /// disk, though everyone sees them.
    pub(super) fn lose_names(&mut self, folder: &str) {
        self.pending.retain(|op| op.0.iter().all(|(place, _)| place.folder != folder));
    }

    /// All files that have a name, each once.
    pub(super) fn named_files(&self) -> BTreeMap<u64, Arc<Mutex<Inode>>> {
        let entries = self.folders.values().flat_map(|folder| folder.seen.values());
        let files = entries.filter_map(|entry| match entry {
            Entry::File(inode) => Some((inode.lock().id, Arc::clone(inode))),
            Entry::Folder => None,
        });
        files.collect()
    }

    /// What the last sync of a folder secured can no longer be taken back.
    fn keep_promises(&mut self) {
        for op in std::mem::take(&mut self.promised) {
            op.apply(&mut self.folders);
        }
    }

    /// Takes `want` bytes of space, or as many as there are.
    pub(super) fn take_space(&mut self, want: u64) -> u64 {
        let Some(free) = &mut self.free else { return want };
        let taken = want.min(*free);
        *free -= taken;
        taken
    }

    pub(super) fn give_back(&mut self, len: u64) {
        if let Some(free) = &mut self.free {
            *free += len;
        }
    }
}

/// The copies of files made so far: a file with several names stays one file.
#[derive(Default)]
struct Copies {
    files: BTreeMap<u64, Arc<Mutex<Inode>>>,
}

impl Copies {
    fn entry(&mut self, entry: &Entry) -> Entry {
        let Entry::File(inode) = entry else { return Entry::Folder };
        let inode = inode.lock();
        let copy = self.files.entry(inode.id);
        Entry::File(Arc::clone(copy.or_insert_with(|| Arc::new(Mutex::new(inode.clone())))))
    }

    fn entries(&mut self, entries: &Entries) -> Entries {
        entries.iter().map(|(name, entry)| (name.clone(), self.entry(entry))).collect()
    }

    fn op(&mut self, op: &EntryOp) -> EntryOp {
        let changes = op.0.iter();
        EntryOp(
            changes
                .map(|(place, entry)| {
                    (place.clone(), entry.as_ref().map(|entry| self.entry(entry)))
                })
                .collect(),
        )
    }
}
