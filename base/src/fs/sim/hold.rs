//! Syncs that do not end before a test lets them.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Which files do not sync now.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Those with this in their path; and who hears of each sync that begins.
    held: Mutex<Option<(String, Sender<()>)>>,
    opened: Condvar,
}

impl Gate {
    /// Comes back once files at `path` sync.
    pub(super) fn pass(&self, path: &str) {
        let mut held = self.held.lock();
        while let Some((part, begun)) = &*held
            && path.contains(part)
        {
            // The test may have heard enough.
            let _ = begun.send(());
            self.opened.wait(&mut held);
        }
    }

    pub(super) fn hold(self: Arc<Gate>, part: &str) -> HeldSyncs {
        let (begun, begins) = channel();
        *self.held.lock() = Some((part.to_owned(), begun));
        HeldSyncs { gate: self, begins }
    }
}

/// Syncs that do not end as long as this is kept, made by [`SimFs::hold_syncs`](super::SimFs::hold_syncs).
#[derive(Debug)]
pub struct HeldSyncs {
    gate: Arc<Gate>,
    begins: Receiver<()>,
}

impl HeldSyncs {
    /// Waits until one has begun. Returns false if none does for as long as `patience`.
    pub fn has_begun(&self, patience: Duration) -> bool {
        self.begins.recv_timeout(patience).is_ok()
    }
}

impl Drop for HeldSyncs {
    fn drop(&mut self) {
        *self.gate.held.lock() = None;
        self.gate.opened.notify_all();
    }
}
