//! The disk as it was right before one of its changes, to be crashed as often as one likes.
//!
//! A workload runs once and is recorded; each of its moments then crashes under every model and
//! seed, on any thread.

use super::SimFs;
use super::content::{Change, split};
use super::crash::{self, CrashModel, Dice};
use super::disk::{Disk, LastSync};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// An append that the power failure interrupts.
#[derive(Clone, Debug)]
pub(super) struct Underway {
    pub(super) inode: u64,
    pub(super) offset: usize,
    pub(super) bytes: Arc<[u8]>,
}

/// The disk of a [`SimFs`] right before one of its changes.
#[derive(Debug)]
pub struct Moment {
    disk: Disk,
    underway: Option<Underway>,
}

impl Moment {
    pub(super) fn new(disk: Disk) -> Moment {
        Moment { disk, underway: None }
    }

    pub(super) fn interrupt(&mut self, underway: Underway) {
        self.underway = Some(underway);
    }

    /// How many changes had happened.
    pub fn ops(&self) -> u64 {
        self.disk.ops
    }

    /// What [`SimFs::mark`] had been told last.
    pub fn mark(&self) -> u64 {
        self.disk.mark
    }

    /// How many changes had happened before the last sync that did what it said; none if there was
    /// no sync.
    pub fn last_sync(&self) -> Option<u64> {
        (self.disk.last_sync != LastSync::None).then_some(self.disk.synced_at)
    }

    /// The disk after the process died during the change that follows, and the machine lived on:
    /// what was at risk is there and still at risk.
    pub fn kill(&self, seed: u64) -> SimFs {
        let disk = self.interrupted(&mut crash::dice(&self.disk, CrashModel::Kill, seed));
        SimFs { root: PathBuf::from(super::ROOT), disk: Arc::new(Mutex::new(disk)) }
    }

    /// The disk after a crash during the change that follows. An append that it hits may be there
    /// in part. The choices follow from `seed`.
    pub fn crash(&self, model: CrashModel, seed: u64) -> SimFs {
        let mut dice = crash::dice(&self.disk, model, seed);
        let image = match &self.underway {
            None => crash::crash(&self.disk, model, dice),
            Some(_) => crash::crash(&self.interrupted(&mut dice), model, dice),
        };
        SimFs { root: PathBuf::from(super::ROOT), disk: Arc::new(Mutex::new(image)) }
    }

    /// A copy of the disk, with a part of the append that is under way.
    fn interrupted(&self, dice: &mut Dice) -> Disk {
        let disk = self.disk.copy();
        if let Some(underway) = &self.underway
            && let Some(file) = disk.named_files().get(&underway.inode)
        {
            let (head, _) = split(&underway.bytes, dice.below(underway.bytes.len() + 1));
            file.lock().change(Change::Write { offset: underway.offset, bytes: head.into() });
        }
        disk
    }
}
