//! What admissions come to.

use base::{Origin, Tick};

/// What became of a shipment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its new part was admitted; `late` puts were erased and are in the quarantine keyspace.
    Taken {
        /// Ops that were stored.
        won: u64,
        /// Ops that something newer had overtaken.
        lost: u64,
        /// Puts that came after their deletion may have been forgotten.
        late: u64,
    },
    /// All of it was here already.
    Known,
    /// It does not follow what is here: ask again from `have`.
    Gap {
        /// The author's last tick here.
        have: Tick,
    },
    /// It says something else than what is here about the same author: a copy of a node is at work.
    Fork {
        /// The author.
        origin: Origin,
        /// Where the two differ.
        at: Tick,
    },
    /// Its clock is ahead of ours by more than is allowed: nothing was merged.
    ClockAhead {
        /// By how much.
        by_ms: u64,
    },
    /// Nothing of it was taken: puts in it are late, and this node may not answer them. An author has
    /// to, and what that author has is taken as state.
    Unanswered {
        /// Puts that came after their deletion may have been forgotten.
        late: u64,
    },
    /// Its author is not known here, and there are as many as there may be: nothing of it was taken, which
    /// is no fault of who passed it on. What others wrote goes on.
    TooManyAuthors,
    /// The scope takes nothing now: see [`super::Replication::close`].
    Closed,
}
