//! The list of ranks is the locking protocol of the whole engine.

/// Every lock in the process, outermost first. While holding one, take only those below it.
///
/// File operations are allowed above [`Rank::View`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// Which session has a long payload of its peer in memory.
    Turn,
    /// What the sessions of a node know together.
    Group,
    /// Opening and closing a database.
    Lifecycle,
    /// Who makes a backup.
    Backups,
    /// Whose writes of other nodes are admitted next.
    Admission,
    /// Who compacts, flushes, ingests, checkpoints.
    Jobs,
    /// The order of commits: clock, log, active memtable.
    WriteQueue,
    /// Who syncs the log next, and who waits for it.
    SyncGate,
    /// The order in which commits become visible, and who waits for it.
    Visibility,
    /// The durable set of tables.
    Manifest,
    /// The file that keeps space for a full disk.
    Reserve,
    /// What a new read sees.
    View,
    /// Each thread's way to the view.
    Slots,
    /// The keyspaces by name and number.
    Keyspaces,
    /// The read points that users hold.
    Snapshots,
    /// Open transactions.
    Transactions,
    /// Open tables.
    TableCache,
    /// One shard of the block cache.
    CacheShard,
    /// Files waiting to be deleted.
    Obsolete,
    /// Counters and their like.
    Stats,
    /// Which keys may connect, and who is connected.
    Links,
    /// What a sleeping thread waits for.
    Bell,
}
