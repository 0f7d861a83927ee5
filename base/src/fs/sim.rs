//! A file system in memory that can crash, lie and run full, for tests.
//!
//! What is written is seen at once and safe only after the sync that the real file system would
//! need: [`SyncHandle::sync_data`](super::SyncHandle) for bytes, [`Fs::sync_dir`] for names. A test
//! runs a workload, cuts it at any operation with [`SimFs::stop_after`], takes the disk as it is
//! after a [`SimFs::crash`], and opens that.
//!
//! Everything random follows from the seed and the operations so far: same seed, same calls from
//! one thread, same disk, bit for bit; [`SimFs::trace`] proves it.

mod content;
mod crash;
mod disk;
mod fault;
mod handle;
mod hold;
mod moment;
mod surgery;

pub use crash::CrashModel;
pub use fault::{Fault, FaultPlan, OpKind};
pub use hold::HeldSyncs;
pub use moment::Moment;

use super::{AppendFile, DirEntry, DirEntryKind, Fs, LockError, LockGuard, ReadFile, Space, copy};
use crate::dir::RelPath;
use crate::lock::assert_may_block;
use content::{Change, Content};
use disk::{Disk, Entry, Folder, Place};
use handle::{HeldLock, OpenFile, SimAppendFile};
use parking_lot::Mutex;
use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a new simulated disk stands.
const ROOT: &str = "/sim";
/// What [`Fs::space`] answers while nothing is counted.
const PLENTY: u64 = 1 << 40;
/// The process id of whoever holds a lock.
const PID: u32 = 1;

/// A directory of a simulated disk. Clones and [`Fs::at`] share the disk.
#[derive(Clone)]
pub struct SimFs {
    root: PathBuf,
    disk: Arc<Mutex<Disk>>,
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.disk.lock();
        write!(f, "SimFs {} seed {} ops {}", self.root.display(), disk.seed, disk.ops)
    }
}

impl SimFs {
    /// An empty disk; its root exists. `seed` decides everything random about it.
    pub fn new(seed: u64) -> SimFs {
        let mut disk = Disk::new(seed);
        let root = Folder { is_root: true, ..Folder::default() };
        disk.folders.insert(ROOT.to_owned(), root);
        SimFs { root: ROOT.into(), disk: Arc::new(Mutex::new(disk)) }
    }

    /// How many operations have changed the disk, or tried to. Reads do not count.
    pub fn ops(&self) -> u64 {
        self.disk.lock().ops
    }

    /// A digest of these operations.
    pub fn trace(&self) -> u64 {
        self.disk.lock().trace
    }

    /// Lets the power fail during the change number `ops`, counted as [`SimFs::ops`] does: exactly
    /// `ops` changes happen. An append that it hits may be there in part. Everything after it
    /// fails.
    pub fn stop_after(&self, ops: u64) {
        self.disk.lock().stop_at = ops;
    }

    /// The disk as it is after a crash now. This one lives on. Each call makes new choices.
    pub fn crash(&self, model: CrashModel) -> SimFs {
        let mut disk = self.disk.lock();
        disk.crashes += 1;
        let dice = crash::dice(&disk, model, disk.crashes);
        let image = crash::crash(&disk, model, dice);
        SimFs { root: self.root.clone(), disk: Arc::new(Mutex::new(image)) }
    }

    /// A copy of the disk that goes its own way, what is at risk included. The process died there.
    pub fn fork(&self) -> SimFs {
        let copy = self.disk.lock().copy();
        SimFs { root: self.root.clone(), disk: Arc::new(Mutex::new(copy)) }
    }

    /// Keeps the disk as it is before each change from now on, for [`SimFs::take_moments`].
    pub fn record(&self) {
        self.disk.lock().moments = Some(Vec::new());
    }

    /// Names the moments that follow: how far a workload got, say.
    pub fn mark(&self, mark: u64) {
        self.disk.lock().mark = mark;
    }

    /// What was recorded, and last the disk as it is now. Recording ends.
    pub fn take_moments(&self) -> Vec<Moment> {
        let mut disk = self.disk.lock();
        let mut moments = disk.moments.take().unwrap_or_default();
        moments.push(Moment::new(disk.copy()));
        moments
    }

    /// How many operations there were, reads included; those of a file's length and of the space
    /// left do not count.
    pub fn calls(&self) -> u64 {
        self.disk.lock().calls.len() as u64
    }

    /// What each of these operations was.
    pub fn kinds(&self) -> Vec<OpKind> {
        self.disk.lock().calls.clone()
    }

    /// The operations that faults have struck so far, with the full path.
    pub fn struck(&self) -> Vec<(OpKind, String)> {
        self.disk.lock().struck.clone()
    }

    /// Arms a fault.
    pub fn inject(&self, plan: FaultPlan) {
        self.disk.lock().plans.push(plan);
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.disk.lock().plans.clear();
    }

    /// From now on no file with `part` in its path syncs: who asks for it waits until what is returned is
    /// dropped. One hold at a time; it is not taken over by what is copied from the disk.
    pub fn hold_syncs(&self, part: &str) -> HeldSyncs {
        let gate = self.disk.lock().gate.clone();
        gate.hold(part)
    }

    /// Counts space from now on, with `bytes` of it left.
    pub fn set_free(&self, bytes: u64) {
        self.disk.lock().free = Some(bytes);
    }

    fn full(&self, path: &RelPath) -> String {
        text(&path.below(&self.root))
    }

    /// The folder and the name of something that is not the root.
    fn place(&self, path: &RelPath) -> io::Result<Place> {
        let name = path.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Place { folder: self.full(&path.parent()), name })
    }

    fn open_file(&self, path: &RelPath, inode: Arc<Mutex<content::Inode>>) -> OpenFile {
        OpenFile { disk: Arc::clone(&self.disk), inode, path: self.full(path) }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Fs for SimFs {
    fn root(&self) -> &Path {
        &self.root
    }

    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn ReadFile>> {
        assert_may_block();
        let mut disk = self.disk.lock();
        disk.begin(OpKind::Open, &self.full(path), 0)?;
        let inode = disk.file(&self.place(path)?)?;
        Ok(Arc::new(self.open_file(path, inode)))
    }

    fn create(&self, path: &RelPath, preallocate: u64) -> io::Result<Box<dyn AppendFile>> {
        assert_may_block();
        let place = self.place(path)?;
        let mut disk = self.disk.lock();
        disk.begin(OpKind::Create, &self.full(path), preallocate)?;
        if disk.entry(&place)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let taken = disk.take_space(preallocate);
        if taken < preallocate {
            disk.give_back(taken);
            return Err(Fault::DiskFull.error());
        }
        let inode = disk.new_inode(Content::default());
        if preallocate > 0 {
            let len = usize::try_from(preallocate).map_err(io::Error::other)?;
            inode.lock().change(Change::SetLen(len));
        }
        disk.change_names(vec![(place, Some(Entry::File(Arc::clone(&inode))))]);
        Ok(Box::new(SimAppendFile { file: self.open_file(path, inode), len: 0 }))
    }

    fn create_dir(&self, path: &RelPath) -> io::Result<()> {
        assert_may_block();
        let full = self.full(path);
        let mut disk = self.disk.lock();
        disk.begin(OpKind::CreateDir, &full, 0)?;
        if *path == RelPath::root() {
            let folder = disk.folders.entry(full).or_default();
            (folder.is_root, folder.is_gone) = (true, false);
            return Ok(());
        }
        let place = self.place(path)?;
        match disk.entry(&place)? {
            Some(Entry::Folder) => return Ok(()),
            Some(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => {}
        }
        disk.folders.insert(full, Folder::default());
        disk.change_names(vec![(place, Some(Entry::Folder))]);
        Ok(())
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        assert_may_block();
        let (from, place) = (self.place(from)?, self.place(to)?);
        let mut disk = self.disk.lock();
        disk.begin(OpKind::Rename, &self.full(to), 0)?;
        let file = disk.file(&from)?;
        match disk.entry(&place)? {
            Some(Entry::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            // Both names stand for one file: POSIX leaves both.
            Some(Entry::File(old)) if Arc::ptr_eq(old, &file) => return Ok(()),
            _ => {}
        }
        disk.change_names(vec![(place, Some(Entry::File(file))), (from, None)]);
        Ok(())
    }

    fn link(&self, from: &RelPath, target: &dyn Fs, to: &RelPath) -> io::Result<()> {
        assert_may_block();
        let any: &dyn Any = target;
        let target_sim = any.downcast_ref::<SimFs>();
        let Some(target) = target_sim.filter(|target| Arc::ptr_eq(&target.disk, &self.disk)) else {
            return copy(&*self.open(from)?, target, to);
        };
        let place = target.place(to)?;
        let mut disk = self.disk.lock();
        disk.begin(OpKind::Link, &self.full(from), 0)?;
        let file = disk.file(&self.place(from)?)?;
        if disk.entry(&place)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.change_names(vec![(place, Some(Entry::File(file)))]);
        Ok(())
    }

    fn remove(&self, path: &RelPath) -> io::Result<()> {
        assert_may_block();
        let place = self.place(path)?;
        let mut disk = self.disk.lock();
        disk.begin(OpKind::Remove, &self.full(path), 0)?;
        disk.file(&place)?;
        disk.change_names(vec![(place, None)]);
        Ok(())
    }

    fn remove_dir(&self, path: &RelPath) -> io::Result<()> {
        assert_may_block();
        let full = self.full(path);
        let mut disk = self.disk.lock();
        disk.begin(OpKind::Remove, &full, 0)?;
        if !disk.entries(&full)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        if *path != RelPath::root() {
            let place = self.place(path)?;
            disk.change_names(vec![(place, None)]);
        }
        if let Some(folder) = disk.folders.get_mut(&full) {
            (folder.is_gone, folder.is_root) = (true, false);
        }
        Ok(())
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<DirEntry>> {
        assert_may_block();
        let full = self.full(path);
        let mut disk = self.disk.lock();
        disk.begin(OpKind::List, &full, 0)?;
        let entries = disk.entries(&full)?.iter().map(|(name, entry)| {
            let (kind, len) = match entry {
                Entry::File(inode) => (DirEntryKind::File, inode.lock().seen().len() as u64),
                Entry::Folder => (DirEntryKind::Folder, 0),
            };
            DirEntry { name: name.clone(), kind, len }
        });
        Ok(entries.collect())
    }

    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        assert_may_block();
        let full = self.full(path);
        let mut disk = self.disk.lock();
        match disk.begin(OpKind::SyncDir, &full, 0) {
            Ok(()) => {}
            Err(disk::Interruption::Fault(Fault::LyingSync)) => return Ok(()),
            Err(disk::Interruption::Fault(fault)) => {
                if fault != Fault::LosingSync {
                    return Err(fault.error()); // names are journaled: a later sync may secure them
                }
                disk.lose_names(&full);
                return Ok(());
            }
            Err(interruption) => return Err(interruption.into()),
        }
        disk.entries(&full)?;
        disk.sync_folder(&full);
        Ok(())
    }

    fn lock(&self, path: &RelPath) -> Result<LockGuard, LockError> {
        assert_may_block();
        let full = self.full(path);
        let place = self.place(path).map_err(LockError::Io)?;
        let mut disk = self.disk.lock();
        disk.begin(OpKind::Lock, &full, 0).map_err(|error| LockError::Io(error.into()))?;
        if disk.locks.contains(&full) {
            return Err(LockError::Held(Some(PID)));
        }
        if disk.entry(&place).map_err(LockError::Io)?.is_none() {
            let inode = disk.new_inode(Content::new(format!("{PID}\n").as_bytes()));
            disk.change_names(vec![(place, Some(Entry::File(inode)))]);
        }
        disk.locks.insert(full.clone());
        Ok(LockGuard::new(HeldLock { disk: Arc::clone(&self.disk), path: full }))
    }

    fn space(&self) -> io::Result<Space> {
        assert_may_block();
        let disk = self.disk.lock();
        if disk.is_off {
            return Err(disk::Interruption::PowerIsOff.into());
        }
        let disk_bytes = disk.free.unwrap_or(PLENTY);
        Ok(Space { disk_bytes, disk_total_bytes: PLENTY, handles: PLENTY })
    }

    fn at(&self, root: &Path) -> Arc<dyn Fs> {
        Arc::new(SimFs { root: root.to_path_buf(), disk: Arc::clone(&self.disk) })
    }
}

#[cfg(test)]
mod tests;
