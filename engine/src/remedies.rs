//! What a database does by itself against trouble, and may be told to leave.

use crate::parts::Parts;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a database does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Once there is space again on a full disk, puts are taken again.
    Resume,
    /// With [`CorruptionAction::HealFromPeer`](crate::CorruptionAction::HealFromPeer), replication brings
    /// what a damaged table had.
    Heal,
    /// A background thread that only reads the database, or copies it, begins anew after a panic.
    Restart,
}

/// Whether something may be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    #[default]
    Granted,
    /// It may not, until it is granted again.
    Withheld,
}

/// Says whether `remedy` may be taken.
pub(crate) fn permit(parts: &Parts, remedy: Remedy, permission: Permission) {
    match remedy {
        Remedy::Resume => parts.space.resuming().set(permission),
        Remedy::Heal => parts.damage.permit_healing(permission),
        Remedy::Restart => parts.meters.restarts.set(permission),
    }
}

/// A permission that can be changed, and how often it was used.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    is_withheld: AtomicBool,
    used: AtomicU64,
}

impl Permit {
    /// Changes it.
    pub(crate) fn set(&self, permission: Permission) {
        self.is_withheld.store(permission == Permission::Withheld, Ordering::Release);
    }

    /// Whether it is granted.
    pub(crate) fn is_granted(&self) -> bool {
        !self.is_withheld.load(Ordering::Acquire)
    }

    /// Notes that it was used.
    pub(crate) fn count(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was used.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}
