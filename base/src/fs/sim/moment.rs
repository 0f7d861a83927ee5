//! The disk as it was right before one of its changes, to be crashed as often as one likes.
//!
//! A workload runs once and is recorded; each of its moments then crashes under every model and
//! seed, on any thread.

use super::SimFs;
use super::content::{Change, split};
use super::crash::{self, CrashModel};
use super::disk::Disk;
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

    /// The disk after a crash during the change that follows. An append that it hits may be there
    /// in part. The choices follow from `seed`.
    pub fn crash(&self, model: CrashModel, seed: u64) -> SimFs {
        let mut dice = crash::dice(&self.disk, model, seed);
        let image = match &self.underway {
            None => crash::crash(&self.disk, model, dice),
            Some(underway) => {
                let disk = self.disk.copy();
                if let Some(file) = disk.named_files().get(&underway.inode) {
                    let (head, _) = split(&underway.bytes, dice.below(underway.bytes.len() + 1));
                    file.lock()
                        .change(Change::Write { offset: underway.offset, bytes: head.into() });
                }
                crash::crash(&disk, model, dice)
            }
        };
        SimFs { root: PathBuf::from(super::ROOT), disk: Arc::new(Mutex::new(image)) }
    }
}
