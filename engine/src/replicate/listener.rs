//! Who is told that commits became visible or durable.

use base::lock::{Mutex, Rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What has become of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// They are visible. If anybody reads the log as a [`super::Tail`], they will be durable soon.
    Visible,
    /// They are visible, and durable once somebody asks for a sync: there are no background threads.
    Unsynced,
    /// They survive a power loss.
    Durable,
}

type Call = Arc<dyn Fn(Progress) + Send + Sync>;

/// At most one; until there is one it costs a load.
pub(crate) struct Listener {
    is_set: AtomicBool,
    call: Mutex<Option<Call>>,
}

impl Default for Listener {
    fn default() -> Self {
        Listener { is_set: AtomicBool::new(false), call: Mutex::new(Rank::Bell, None) }
    }
}

impl Listener {
    /// Lets `call` be called from now on, in the place of an earlier one.
    pub(crate) fn set(&self, call: Call) {
        *self.call.lock() = Some(call);
        self.is_set.store(true, Ordering::Release);
    }

    /// Calls, if there is anyone.
    #[inline]
    pub(crate) fn notify(&self, progress: Progress) {
        if self.is_set.load(Ordering::Acquire) {
            self.call(progress);
        }
    }

    #[cold]
    fn call(&self, progress: Progress) {
        let call = self.call.lock().clone();
        if let Some(call) = call {
            call(progress);
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}
