//! One node's disk, and the database on it: what a story does to a node besides its network.

use base::{Identity, Incarnation, Result, Tick, Vector};
use replication::link::Bell;
use replication::memory::Write;
use replication::store::Store;
use std::sync::Arc;

/// What is read from a database: keyspace, key, value, in order.
pub(crate) type Content = Vec<(String, Vec<u8>, Vec<u8>)>;

/// What a crash takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing: the process was killed.
    Nothing,
    /// All that was not synced: the power failed.
    Tail,
}

/// What a database does when it tidies up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chore {
    /// Tombstones that the floor covers are forgotten.
    Collect,
    /// The log keeps only its newest part.
    TrimLog,
}

/// What clocks show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// The wall clock of the node, which may be wrong.
    pub(crate) wall_ms: u64,
    /// Time since the story began.
    pub(crate) elapsed_ms: u64,
}

/// A disk and its database. It is up between `start` and `stop` or `crash`; calls that need it up
/// say so. What a store that was handed out does after that must not matter any more: whoever
/// stops a machine has dropped all handles before.
pub(crate) trait Machine: Sized {
    /// What is kept to be restored.
    type Backup;

    /// Entries in the quarantine keyspace of one late write.
    const COPIES_OF_LATE: usize;

    /// An empty disk.
    fn new(identity: Identity, now: Now) -> Self;

    /// Who the node is now: an incarnation may have begun while it ran.
    fn identity(&self) -> Identity;

    /// Opens the database.
    fn start(&mut self, bell: &Bell) -> Result<Arc<dyn Store>>;

    /// Closes it in order.
    fn stop(&mut self) -> Result<()>;

    /// The process or the whole machine dies.
    fn crash(&mut self, loss: Loss) -> Result<()>;

    /// A write of a user, up.
    fn write(&mut self, writes: &[Write]) -> Result<Tick>;

    /// Makes everything durable that is applied, up.
    fn sync(&mut self) -> Result<()>;

    /// What a restart would find if the power failed now, up or down.
    fn durable(&self) -> Vector;

    /// What is applied, up; what is durable, down.
    fn applied(&self) -> Vector;

    /// All that can be read, up.
    fn content(&self) -> Result<Content>;

    /// A backup, up.
    fn back_up(&mut self) -> Result<Self::Backup>;

    /// The disk's content is that of a backup, in a new incarnation, such as this one, down.
    fn restore(&mut self, backup: &Self::Backup, incarnation: Incarnation) -> Result<()>;

    /// The disk is a new one, down.
    fn wipe(&mut self, incarnation: Incarnation);

    /// The clocks show this.
    fn set_clock(&mut self, now: Now);

    /// Tidies up, up.
    fn tidy(&mut self, chore: Chore) -> Result<()>;
}
