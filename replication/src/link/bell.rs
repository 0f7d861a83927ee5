//! Wakes tasks: something has changed, look again.
//!
//! A bell remembers how often it was rung, so a listener that was busy misses nothing. All
//! listeners wake in the order in which they began to wait, so simulations replay exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Rung by whoever changes something. Clones are the same bell. Ringing never blocks.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    rings: AtomicU64,
    waiting: Notify,
}

impl Bell {
    /// Wakes everybody who listens.
    pub fn ring(&self) {
        self.shared.rings.fetch_add(1, Ordering::SeqCst);
        self.shared.waiting.notify_waiters();
    }

    /// A listener. It hears what is rung from here on.
    pub fn listen(&self) -> Ear {
        let heard = self.shared.rings.load(Ordering::SeqCst);
        Ear { shared: self.shared.clone(), heard }
    }
}

/// One listener of a bell.
#[derive(Debug)]
pub struct Ear {
    shared: Arc<Shared>,
    heard: u64,
}

impl Ear {
    /// Forgets what was rung so far: the caller is about to look at everything anyway.
    pub fn attend(&mut self) {
        self.heard = self.shared.rings.load(Ordering::SeqCst);
    }

    /// Waits until the bell is rung, or was since the last call of this or of [`Ear::attend`].
    /// May be dropped and called again without missing a ring.
    pub async fn rung(&mut self) {
        loop {
            let mut waiting = std::pin::pin!(self.shared.waiting.notified());
            waiting.as_mut().enable();
            let rings = self.shared.rings.load(Ordering::SeqCst);
            if rings != self.heard {
                self.heard = rings;
                return;
            }
            waiting.await;
        }
    }
}
