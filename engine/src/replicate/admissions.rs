//! What admissions remember from one to the next.

use super::import::Received;
use super::late::Answers;
use crate::parts::Parts;
use base::lock::{Mutex, Rank};
use base::{ScopeId, Tick};
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Admissions {
    /// Held by the one who admits: the vectors of others do not move meanwhile.
    pub(super) admitting: Mutex<Known>,
    /// Files of an import that was broken off.
    incoming: Mutex<Vec<Received>>,
    /// Scopes in which this node may not write.
    reading: Mutex<Vec<ScopeId>>,
    won: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
}

/// What was known at the last admission.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The highest tick of a dropped tombstone, as of a generation of the view.
    pub(super) dropped: Option<(u64, ScopeId, Tick)>,
}

impl Default for Admissions {
    fn default() -> Admissions {
        let admitting = Mutex::new(Rank::Admission, Known::default());
        let incoming = Mutex::new(Rank::Stats, Vec::new());
        let reading = Mutex::new(Rank::Stats, Vec::new());
        let zero = AtomicU64::default;
        Admissions { admitting, incoming, reading, won: zero(), lost: zero(), late: zero() }
    }
}

impl Admissions {
    /// Takes what an import has received that was broken off.
    pub(crate) fn take_received(&self) -> Vec<Received> {
        std::mem::take(&mut *self.incoming.lock())
    }

    /// Keeps what an import has received that was broken off.
    pub(crate) fn keep_received(&self, files: Vec<Received>) {
        self.incoming.lock().extend(files);
    }

    /// Lets go of what an import has received that was broken off: its space is needed.
    pub(crate) fn discard_received(&self, parts: &Parts) {
        let kept = self.take_received();
        kept.iter().for_each(|incoming| incoming.discard(parts));
    }

    /// Calls `f` while nobody admits.
    pub(super) fn pause<R>(&self, f: impl FnOnce() -> R) -> R {
        let _admitting = self.admitting.lock();
        f()
    }

    /// Whether late writes are answered here.
    pub(crate) fn answers(&self, scope: ScopeId) -> Answers {
        match self.reading.lock().contains(&scope) {
            true => Answers::Reader,
            false => Answers::Author,
        }
    }

    /// Says whether late writes are answered here.
    pub(super) fn set_answers(&self, scope: ScopeId, answers: Answers) {
        let mut reading = self.reading.lock();
        reading.retain(|read| *read != scope);
        if answers == Answers::Reader {
            reading.push(scope);
        }
    }

    /// Counts what became of ops.
    pub(super) fn count(&self, won: u64, lost: u64, late: u64) {
        self.won.fetch_add(won, Ordering::Relaxed);
        self.lost.fetch_add(lost, Ordering::Relaxed);
        self.count_late(late);
    }

    /// Counts late puts that were answered.
    pub(super) fn count_late(&self, late: u64) {
        self.late.fetch_add(late, Ordering::Relaxed);
    }
}
