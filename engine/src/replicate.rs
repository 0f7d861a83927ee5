//! What replication does with a database: take writes of other nodes in, give out what is here.
//!
//! ```text
//! out   Tail      commits from the log, as shipments of their authors
//!       Delta     entries as they are, for those whom the log does not reach
//!       Export    tables, for those who have nothing
//!       Elements  of each key who wrote it and when, for those who compare
//! in    admit     a shipment: clock, vector, comparison by stamp, one record, one tick
//!       Stage     a delta: compared in the same way at one place in the order, one edit
//!       Import    tables into an empty scope
//! ```
//!
//! A write keeps its author's stamp (tick and origin) wherever it goes. A remote op is compared with
//! what is here at its place in the order of commits; only if its stamp is greater it is stored. So of each
//! key the local order is the order of stamps, and reads need not know of other nodes. Range deletes
//! are always stored, and hide by stamp.
//!
//! Per scope there is a vector: of each author, up to which tick everything was received. It moves with
//! the record that brings the commits, and is rebuilt from records after a crash.
//!
//! Nothing here knows peers: a session asks, and is told by a bell ([`Replication::on_commit`]) when it is
//! worth asking again.

mod admission;
mod admissions;
mod admit;
mod clock;
mod convoy;
mod decide;
mod delta;
mod elements;
mod export;
mod floor;
mod import;
mod incoming;
mod keyspaces;
mod late;
mod listener;
mod log_index;
mod moment;
mod parked;
mod recent;
mod renew;
mod resolving;
mod spool;
mod stage;
mod tail;
mod vectors;

pub(crate) use admissions::Admissions;
pub(crate) use clock::{ClockWatch, raise_bound};
pub(crate) use keyspaces::open_keyspace;
pub(crate) use late::QUARANTINE;
pub(crate) use listener::Listener;
pub(crate) use log_index::LogIndex;
pub(crate) use recent::Recent;
pub(crate) use resolving::{parked_now, resolve_all};
pub(crate) use vectors::{Moved, Vectors};

pub use admission::Admission;
pub use base::{Incarnation, KeyRange, KeyRanges, NodeId, Origin, ScopeId, Stamp, Vector};
pub use delta::{Delta, DeltaHead, Stamped};
pub use elements::{Element, Elements};
pub use export::{Export, ExportFile, ExportHead};
pub use import::{Import, Settled};
pub use late::Answers;
pub use listener::Progress;
pub use spool::Spool;
pub use stage::{Installed, Purpose, Stage};
pub use tail::{Outbound, Tail};

use crate::keyspace::Keyspace;
use crate::parts::Parts;
use base::limits::check_keyspace_name;
use base::{Error, Result};
use sstable::manifest::KeyspaceSettings;
use std::sync::Arc;

/// A database as replication sees it. Cheap to clone; any number of threads may use it.
#[derive(Clone)]
pub struct Replication {
    parts: Arc<Parts>,
}

impl Replication {
    pub(crate) fn new(parts: Arc<Parts>) -> Replication {
        if !parts.is_read_only {
            parts.clock_watch.start(&*parts.clock);
            // What is written here from now on is told apart from what was before.
            parts.commits.with_queue(|queue| drop(queue.recent().clone()));
        }
        Replication { parts }
    }

    /// Who writes here: node and incarnation.
    pub fn origin(&self) -> Origin {
        self.parts.identity().origin()
    }

    /// The wall clock, in milliseconds since the Unix epoch.
    pub fn wall_ms(&self) -> u64 {
        self.parts.clock.wall_ms()
    }

    /// How far ahead of the wall clock what comes from others may be, in milliseconds.
    pub fn max_drift_ms(&self) -> u64 {
        self.parts.options.max_drift_ms()
    }

    /// What is visible here of each author, this node's own writes included.
    pub fn applied(&self, scope: ScopeId) -> Vector {
        self.parts.commits.at_visible(|_, vectors| vectors.of(scope))
    }

    /// What has a place in the order of commits, visible or not: behind a barrier commits are durable, and
    /// the tail ships them, before they are visible.
    pub fn written(&self, scope: ScopeId) -> Vector {
        self.parts.commits.with_queue(|queue| queue.vectors().of(scope))
    }

    /// How many visible commits this node has made since the database was opened, in the scope that
    /// replicates; a few more may be counted.
    pub fn commits(&self, scope: ScopeId) -> u64 {
        let count = |vectors: &Vectors| if scope.is_replicated() { vectors.commits() } else { 0 };
        self.parts.commits.at_visible(|_, vectors| count(vectors))
    }

    /// What of each author survives a power loss: only this may be confirmed.
    pub fn durable(&self, scope: ScopeId) -> Vector {
        self.parts.commits.with_durable(|vectors| vectors.of(scope))
    }

    /// Lets everything committed so far become durable soon.
    pub fn request_sync(&self) -> Result<()> {
        self.parts.request_sync()
    }

    /// Lets `call` be called whenever commits became visible or durable, in the place of an earlier call.
    /// It may only notify: it is called by those who write and sync.
    pub fn on_commit(&self, call: impl Fn(Progress) + Send + Sync + 'static) {
        self.parts.commits.listen(Arc::new(call));
    }

    /// Refuses writes of users to `scope` with `ScopeClosed`, and shipments with
    /// [`Admission::Closed`], until it is reopened. Nothing of this survives the process.
    pub fn close(&self, scope: ScopeId) -> Result<()> {
        self.parts.refuse_if_closed()?;
        // Whoever admits now has ended afterwards.
        let close = || self.parts.commits.with_queue(|queue| queue.close_scope(scope));
        self.parts.admissions.pause(close);
        Ok(())
    }

    /// Takes writes to `scope` again.
    pub fn reopen(&self, scope: ScopeId) -> Result<()> {
        self.parts.refuse_if_closed()?;
        self.parts.commits.with_queue(|queue| queue.reopen_scope(scope));
        Ok(())
    }

    /// Takes over what `shipment` (see [`base::shipment`]) holds that is new here: one commit, visible as
    /// a whole when this returns or as soon as the commits before it are.
    ///
    /// # Errors
    /// `InvalidInput` if it is no shipment, or of a scope that does not replicate, or if the name of one of its
    /// keyspaces starts with `esker.` and that is each node's own; `TooLarge` if it has more puts than a batch,
    /// or keyspaces for which there is no room; `ConfigMismatch` if one of them exists here in another scope;
    /// `Poisoned`, `DiskFull`, `ReadOnly`, `Closed`.
    pub fn admit(&self, shipment: &[u8]) -> Result<Admission> {
        admit::admit(&self.parts, shipment)
    }

    /// As [`Replication::admit`], of shipments in their order: of each what became of it, up to the first
    /// that was neither known nor taken. Together they take less time than one by one; nothing else differs.
    ///
    /// # Errors
    /// As [`Replication::admit`], of the first that fails; those before it are admitted.
    pub fn admit_all(&self, shipments: &[&[u8]]) -> Result<Vec<Admission>> {
        convoy::admit_all(&self.parts, shipments)
    }

    /// Says whether this node may answer late writes by commits of its own, as it does until told
    /// otherwise. Nothing of this survives the process.
    pub fn set_answers(&self, scope: ScopeId, answers: Answers) {
        self.parts.admissions.set_answers(scope, answers);
    }

    /// What the log holds behind `after`.
    ///
    /// # Errors
    /// `HistoryGone` if it no longer reaches back that far.
    pub fn tail(&self, scope: ScopeId, after: &Vector) -> Result<Tail> {
        Tail::after(&self.parts, scope, after)
    }

    /// The keyspace `name`, which may start with `esker.`; it is created in `scope` unless there is one.
    ///
    /// # Errors
    /// As [`crate::Db::keyspace`].
    pub fn keyspace(&self, scope: ScopeId, name: &str) -> Result<Keyspace> {
        check_keyspace_name(name)?;
        self.parts.refuse_if_closed()?;
        let state = open_keyspace(&self.parts, scope, name)?;
        Ok(Keyspace::new(state, self.parts.clone()))
    }

    /// The keyspace `name`, which may start with `esker.`, if there is one.
    pub fn existing_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.parts.refuse_if_closed()?;
        let state = self.parts.catalog.find(name);
        let state = state.ok_or_else(|| Error::KeyspaceNotFound { name: name.to_owned() })?;
        Ok(Keyspace::new(state, self.parts.clone()))
    }
}

impl std::fmt::Debug for Replication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replication({})", self.parts.fs.root().display())
    }
}

/// Where losers are parked.
pub(crate) fn parking(parts: &Parts) -> Result<base::SpaceId> {
    open_keyspace(parts, ScopeId::LOCAL, parked::PARKED).map(|state| state.space)
}

/// How a keyspace is stored that another node has created.
fn provisional() -> KeyspaceSettings {
    let options = crate::KeyspaceOptions::default();
    KeyspaceSettings {
        compression: u8::from(options.compression == crate::Compression::Zstd),
        filter_bits: options.filter_bits_per_key,
        ..KeyspaceSettings::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{Background, Batch, Db, Options, Platform, SyncMode, WriteOptions};
    use base::clock::ManualClock;
    use base::fs::SimFs;
    use base::rng::SeededRng;

    /// It is durable, and shipped, before it is visible: a peer may say that it has it.
    #[test]
    fn what_is_behind_a_barrier_counts_as_written() {
        let fs = Arc::new(SimFs::new(1));
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let platform = Platform { fs, clock, rng: Arc::new(SeededRng::new(1)) };
        let options = Options { background: Background::On, ..Options::default() };
        let db = Db::open_on(platform, options).unwrap();
        let k = db.keyspace("k", crate::KeyspaceOptions::default()).unwrap();
        let replication = db.replication();
        let (main, own) = (ScopeId::MAIN, replication.origin());
        let first = k.put("x", "1").unwrap();
        assert_eq!(replication.written(main).get(own), first);
        let behind = |_| {
            let mut batch = Batch::new();
            batch.put(&k, "x", "2");
            let ticket = db.submit_with(batch, WriteOptions { sync: Some(SyncMode::Async) })?;
            let (applied, written) = (replication.applied(main), replication.written(main));
            Ok((ticket.seqno(), applied.get(own), written.get(own)))
        };
        let barrier = replication.parts.commits.barrier(|_, _| Moved::Nothing, behind);
        let (second, applied, written) = barrier.unwrap();
        assert_eq!((applied, written), (first, second));
        assert_eq!(replication.applied(main).get(own), second);
    }
}
