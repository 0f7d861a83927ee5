//! Whether a database works as it should, and if not, why.

/// The state of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything works.
    Healthy,
    /// It works, but something needs attention.
    Degraded,
    /// The disk is full: puts are refused until there is space; deletes and reads go on.
    ReadOnly,
    /// A file is damaged: writes are refused until it is repaired, other reads go on.
    Corrupt,
    /// Writes are refused until the database is opened again; reads go on.
    Poisoned,
    /// It was closed.
    Closed,
}

/// The state of a database and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The state.
    pub status: Status,
    /// What needs attention, as sentences. Empty while healthy.
    pub reasons: Vec<String>,
    /// By how much the wall clock has jumped, in milliseconds, if commits are refused for it.
    pub clock_jump_ms: Option<u64>,
}
