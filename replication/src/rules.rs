//! What replicas decide, as pure functions: who wins, what is late, what counts, what may go.
//!
//! Nothing here knows a socket, a store or a session. Sessions, the store in memory and the model that
//! searches histories of three nodes for a loss (`tests/model`) call these functions; each rule has
//! a history there that goes wrong without it. The engine decides about versions by code of its own,
//! made for tables: `tests/engine/same.rs` holds it to these.
//!
//! The words:
//! - A *version* is what a node holds of a key: a put, a tombstone or an erase. A range delete is
//!   a tombstone that is held beside the keys and counts for each key inside.
//! - The *carrier* is the record that brought a version. Vectors are about carriers.
//! - A node's *highest dropped stamp* is the greatest stamp of any tombstone that it let go.
//!
//! # The rejoin
//!
//! A *rejoiner* brings itself in line with a *donor*, which is always an author: only an author
//! can answer late puts. So an observer whose floor an author has not passed is the rejoiner, too.
//!
//! 1. If the donor fences the rejoiner (deprecated, or unknown since a restore), or lacks the
//!    record that readmitted it, it commits that roster record now; the rejoiner begins a new
//!    incarnation. From here to the install the rejoiner is closed: it writes, admits, drops,
//!    donates and states nothing.
//! 2. Push: the rejoiner sends what the donor's vector does not cover, of all origins. The donor
//!    admits it as one install, late puts answered ([`is_late`]).
//!    If the donor has not passed the rejoiner's floor, in the same install: what the rejoiner let
//!    go goes there too ([`is_let_go`]), its own puts that the
//!    rejoiner would have found late ([`is_late`] with the rejoiner's vector, highest dropped stamp
//!    and ranks) are erased, and it adopts the rejoiner's floor and highest dropped stamp.
//! 3. Fetch: a snapshot of a donor that covers the rejoiner's whole vector and the record that
//!    readmitted it, staged.
//! 4. Install: what the donor let go goes here too, what it has comes, the vector jumps, the clock
//!    follows, floor and highest dropped stamp are adopted; all in one durable step.
//!
//! Whether a link is fenced goes by the newest roster record about a node that either end of the
//! link has: the record that readmits a node may have no other way to one that fences it. Sessions
//! believe a peer less than the model does: what it says of itself may fence it, never lift a fence.

use base::{Incarnation, NodeId, Origin, Stamp, Tick, Vector};

/// The order in which versions of one key win: tick, full origin, and an erase just above its
/// victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    stamp: Stamp,
    is_erase: bool,
}

/// The greatest stamp of a tick: what a store that keeps only the tick of its highest dropped stamp
/// takes for that.
pub fn greatest_of(tick: Tick) -> Stamp {
    let origin = Origin { node: NodeId([u8::MAX; 16]), incarnation: Incarnation(u64::MAX) };
    Stamp { tick, origin }
}

/// What a version says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VersionKind {
    /// There is a value.
    Put,
    /// There is none: a delete, or a range delete around the key.
    Tombstone,
    /// The version with this very stamp was late; it and all older ones are shadowed.
    Erase,
}

/// What a node holds of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Who wrote it and when; of an erase, the stamp of its victim.
    pub stamp: Stamp,
    /// What it says.
    pub kind: VersionKind,
    /// Origin and tick of the record that brought it; differs from `stamp` in an erase only.
    pub carrier: Stamp,
}

impl Version {
    /// A put or a tombstone, carried by the record in which it was written.
    pub fn written(stamp: Stamp, kind: VersionKind) -> Version {
        Version { stamp, kind, carrier: stamp }
    }

    /// The erase of `victim`, carried by another record.
    pub fn erase(victim: Stamp, carrier: Stamp) -> Version {
        Version { stamp: victim, kind: VersionKind::Erase, carrier }
    }

    /// Its place in the order of versions.
    pub fn rank(&self) -> Rank {
        Rank { stamp: self.stamp, is_erase: self.kind == VersionKind::Erase }
    }

    /// Whether it is a tombstone or an erase, which may go one day.
    pub fn is_deletion(&self) -> bool {
        self.kind != VersionKind::Put
    }
}

/// What an author durably holds, as it said itself. It may have come through relays.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Statement {
    /// The author in the incarnation that said it.
    pub origin: Origin,
    /// Its durable vector at that time.
    pub vector: Vector,
}

/// Whether `version` is inserted where the greatest version of its key, range deletes included,
/// has the rank `held`. A loser only advances the vector. Of two erases of one victim the first
/// one stays.
pub fn is_winner(version: &Version, held: Option<Rank>) -> bool {
    held.is_none_or(|held| version.rank() > held)
}

/// Whether `version` comes from a record that `vector` does not cover.
///
/// This selects what a delta carries, and is asked again by the receiver's vector of the moment
/// when a staged delta is installed. It goes by the carrier: the victim of an erase may have been
/// received long before the erase.
pub fn is_news(version: &Version, vector: &Vector) -> bool {
    !vector.covers_stamp(version.carrier)
}

/// Whether a put comes too late: the tombstone that it should have met may be gone already.
///
/// `vector` is the one before the record or install that brings the put, `dropped` the highest
/// stamp that this node ever dropped, `held` the rank of the greatest version of the key here,
/// range deletes included. A late put is not inserted. An author answers it with an erase and a
/// copy in quarantine, in a record that is committed before or together with the one that brought
/// the put. Who may not author takes nothing of the record or install, so what it lacks stays
/// what was deleted, and rejoins with an author; what that has then is late no more, for it has
/// received all deletes that were forgotten here.
///
/// Only for keyspaces in which something is ever deleted: entries of the roster and of the
/// quarantine are never late.
pub fn is_late(put: &Version, vector: &Vector, dropped: Stamp, held: Option<Rank>) -> bool {
    put.kind == VersionKind::Put
        && is_news(put, vector)
        && put.stamp <= dropped
        && is_winner(put, held)
}

/// Whether a statement counts at a node with the vector `own`. `member_since` is the stamp of the
/// roster record, as this node knows it, that made the speaker an author.
///
/// - Every component of the stated vector is covered here: whatever the speaker had when it spoke,
///   from whomever, has arrived, so nothing older of it can arrive after a drop.
/// - It covers the record of membership: one that was said before the speaker was fenced and came
///   back promises nothing about what it has now.
/// - It covers each other incarnation of the speaker that is known here: one that was said by a
///   life that ended (a restore) does not know its successor. Incarnations are random numbers, so
///   knowing each other is the only order they have.
pub fn is_counted(statement: &Statement, member_since: Stamp, own: &Vector) -> bool {
    let speaker = statement.origin;
    let is_other_life =
        |origin: &Origin| origin.node == speaker.node && origin.incarnation != speaker.incarnation;
    own.covers_all(&statement.vector)
        && statement.vector.covers_stamp(member_since)
        && own
            .iter()
            .map(|(origin, _)| origin)
            .filter(is_other_life)
            .all(|life| statement.vector.get(life) > Tick::ZERO)
}

/// The floor: per origin, what this node and every other author have. `authors` yields the counted
/// statement of each other author, and `None` for one that has none: that holds the whole floor.
pub fn floor<'a>(own: &Vector, authors: impl IntoIterator<Item = Option<&'a Statement>>) -> Vector {
    let nothing = Vector::default();
    authors.into_iter().fold(own.clone(), |floor, author| {
        floor.common(author.map_or(&nothing, |statement| &statement.vector))
    })
}

/// Whether a tombstone or erase that is the last version of its key may be dropped: every author
/// has the record that carried it, and the victim too.
pub fn may_drop(deletion: &Version, floor: &Vector) -> bool {
    deletion.is_deletion()
        && floor.covers_stamp(deletion.carrier)
        && floor.covers_stamp(deletion.stamp)
}

/// Whether a delta from state may carry a receiver from `receiver` to the donor's vector: only if
/// it has seen every tombstone that the donor may have dropped. Below the donor's floor it must
/// rejoin.
pub fn may_take_delta(receiver: &Vector, donor_floor: &Vector) -> bool {
    receiver.covers_all(donor_floor)
}

/// Whether what a node holds must go in a rejoin because the other side knew it and let it go.
///
/// The other side covers the carrier of `mine`, and `others`, the rank of the greatest version of
/// that key there (range deletes included), is below it. Presence says nothing: the slot may hold
/// an older version.
pub fn is_let_go(mine: &Version, other_vector: &Vector, others: Option<Rank>) -> bool {
    !is_news(mine, other_vector) && is_winner(mine, others)
}
