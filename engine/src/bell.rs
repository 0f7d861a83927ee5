//! Waking a sleeping thread.

use base::lock::{Condvar, Mutex, Rank};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Rung by those who have work, waited for by the one who does it. A ring is never lost; several
/// before the next wait are one.
#[derive(Debug)]
pub(crate) struct Bell {
    is_rung: AtomicBool,
    lock: Mutex<()>,
    condvar: Condvar,
}

impl Default for Bell {
    fn default() -> Self {
        Bell {
            is_rung: AtomicBool::new(false),
            lock: Mutex::new(Rank::Bell, ()),
            condvar: Condvar::new(),
        }
    }
}

impl Bell {
    /// Wakes the waiter, or keeps it from falling asleep.
    pub(crate) fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            let _lock = self.lock.lock();
            self.condvar.notify_one();
        }
    }

    /// Waits for a ring, for at most `timeout`. Returns whether it was rung.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let mut lock = self.lock.lock();
        if !self.is_rung.load(Ordering::Acquire) {
            self.condvar.wait_for(&mut lock, timeout);
        }
        self.is_rung.swap(false, Ordering::AcqRel)
    }
}
