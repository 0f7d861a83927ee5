//! Resolvers: what is to become of two writes of one key, neither of which had seen the other.
//!
//! The greater stamp wins, on every node. The node whose own write has won meets the one that lost when
//! that comes in, and it is the only one that knows for certain that the two are concurrent. If the
//! keyspace has a resolver there, the loser is parked in the commit that brings it, in a keyspace that
//! never leaves the node, and resolved soon after: what the resolver makes of both is an ordinary write.

use crate::bell::Bell;
use crate::keyspace::KeyspaceState;
use crate::value::Value;
use base::lock::{Mutex, Rank};
use base::{SpaceId, Stamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Losers that are remembered because their resolver failed, at the most.
const SET_ASIDE_MAX: usize = 4096;

/// Why a resolver could not say what is to become of a conflict.
pub type ResolveError = Box<dyn std::error::Error + Send + Sync>;

/// Two writes of one key, neither of which had seen the other.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Conflict<'a> {
    /// The keyspace's name.
    pub keyspace: &'a str,
    /// The key.
    pub key: &'a [u8],
    /// What the key has now: none if it is deleted or expired. Mostly that is the write which has won; if
    /// somebody has written since, perhaps knowing the loser, it is what they have written.
    pub winner: Option<&'a [u8]>,
    /// Who wrote that when; none if there is no value.
    pub winner_stamp: Option<Stamp>,
    /// What the write that lost would have made of the key: none if it was a delete, or has expired.
    pub loser: Option<&'a [u8]>,
    /// Who wrote that when.
    pub loser_stamp: Stamp,
}

/// What is to become of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It stays as it is.
    KeepWinner,
    /// It gets this value, which expires when the winner would have.
    Put(Vec<u8>),
    /// It is deleted.
    Delete,
}

/// Decides about conflicts of a keyspace: see [`crate::Db::set_resolver`].
///
/// What it says should follow from the values alone: several nodes may resolve the same at once, and then
/// what they have written is in conflict again. It ends if a value is kept that has nothing to gain.
pub trait Resolver: Send + Sync {
    /// Decides about one conflict. Called by one thread at a time or by several, and again for the same
    /// conflict if somebody has written the key meanwhile.
    ///
    /// # Errors
    /// Whatever it likes: the loser stays parked then, as if it had panicked, until it is asked for again.
    fn resolve(&self, conflict: &Conflict<'_>) -> Result<Resolution, ResolveError>;
}

impl<F> Resolver for F
where
    F: Fn(&Conflict<'_>) -> Result<Resolution, ResolveError> + Send + Sync,
{
    fn resolve(&self, conflict: &Conflict<'_>) -> Result<Resolution, ResolveError> {
        self(conflict)
    }
}

/// A write that lost and waits to be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The keyspace's name.
    pub keyspace: String,
    /// The key.
    pub key: Vec<u8>,
    /// Who wrote it when.
    pub stamp: Stamp,
    /// The value; none of a delete.
    pub value: Option<Value>,
}

/// What became of what was parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Losers that are gone: resolved, or of a keyspace that was dropped.
    pub resolved: u64,
    /// Losers that stay: their resolver failed, or there is none.
    pub parked: u64,
}

/// The resolvers of a database, and how its conflicts are.
pub(crate) struct Resolvers {
    by_name: Mutex<BTreeMap<String, Arc<dyn Resolver>>>,
    /// Whether there is any.
    is_watching: AtomicBool,
    /// Where losers are parked, once there is a resolver.
    parked_in: OnceLock<SpaceId>,
    /// Whether there may be something to resolve.
    is_due: AtomicBool,
    /// Rung when there is.
    pub(crate) bell: Arc<Bell>,
    /// Losers whose resolver failed.
    set_aside: Mutex<BTreeSet<(Vec<u8>, Stamp)>>,
    /// How often losers were parked, resolved, and how often a resolver failed.
    parked: AtomicU64,
    resolved: AtomicU64,
    failed: AtomicU64,
}

impl Default for Resolvers {
    fn default() -> Resolvers {
        Resolvers {
            by_name: Mutex::new(Rank::Stats, BTreeMap::new()),
            is_watching: AtomicBool::new(false),
            parked_in: OnceLock::new(),
            is_due: AtomicBool::new(false),
            bell: Arc::default(),
            set_aside: Mutex::new(Rank::Stats, BTreeSet::new()),
            parked: AtomicU64::new(0),
            resolved: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

impl Resolvers {
    /// Lets `resolver` decide about `keyspace`; losers are parked in `space`.
    pub(crate) fn set(&self, keyspace: &str, resolver: Arc<dyn Resolver>, space: SpaceId) {
        let _ = self.parked_in.set(space); // The same every time.
        self.by_name.lock().insert(keyspace.to_owned(), resolver);
        self.is_watching.store(true, Ordering::Release);
        self.ask_again();
    }

    /// What decides about `keyspace`.
    pub(crate) fn of(&self, keyspace: &str) -> Option<Arc<dyn Resolver>> {
        self.by_name.lock().get(keyspace).cloned()
    }

    /// Where losers are parked, if any are.
    pub(crate) fn parked_in(&self) -> Option<SpaceId> {
        self.parked_in.get().copied()
    }

    /// Those of `keyspaces` that have a resolver.
    #[inline]
    pub(crate) fn watched<'k>(
        &self,
        keyspaces: impl Iterator<Item = &'k Arc<KeyspaceState>>,
    ) -> Vec<SpaceId> {
        if !self.is_watching.load(Ordering::Acquire) {
            return Vec::new();
        }
        let by_name = self.by_name.lock();
        let has_resolver = |state: &&Arc<KeyspaceState>| by_name.contains_key(&state.name);
        keyspaces.filter(has_resolver).map(|state| state.space).collect()
    }

    /// Notes losers that are parked, and visible.
    pub(crate) fn note_parked(&self, count: u64) {
        if count > 0 {
            self.parked.fetch_add(count, Ordering::Relaxed);
            self.note_due();
        }
    }

    /// Notes that there may be something to resolve.
    pub(crate) fn note_due(&self) {
        self.is_due.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// As [`Resolvers::note_due`], without haste.
    pub(crate) fn note_later(&self) {
        self.is_due.store(true, Ordering::Release);
    }

    /// Whether there may be, since it was last asked.
    pub(crate) fn take_due(&self) -> bool {
        self.is_due.swap(false, Ordering::AcqRel)
    }

    /// Losers that were set aside are asked for once more.
    pub(crate) fn ask_again(&self) {
        self.set_aside.lock().clear();
        self.note_due();
    }

    /// Notes that the resolver failed with what is parked under `key` since `stamp`.
    pub(crate) fn set_aside(&self, key: &[u8], stamp: Stamp) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut set_aside = self.set_aside.lock();
        if set_aside.len() < SET_ASIDE_MAX {
            set_aside.insert((key.to_vec(), stamp));
        }
    }

    /// Whether that is so; whether it may be, if more were set aside than are remembered.
    pub(crate) fn is_set_aside(&self, key: &[u8], stamp: Stamp) -> bool {
        let set_aside = self.set_aside.lock();
        set_aside.len() >= SET_ASIDE_MAX || set_aside.contains(&(key.to_vec(), stamp))
    }

    /// Notes that a loser was resolved.
    pub(crate) fn note_resolved(&self) {
        self.resolved.fetch_add(1, Ordering::Relaxed);
    }

    /// How often losers were parked, resolved, and how often a resolver failed.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.parked, &self.resolved, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }
}
