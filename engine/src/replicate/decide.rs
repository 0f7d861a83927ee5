//! Who wins: an op of another node, or what is here.
//!
//! Lookups may read tables, so they come before the queue is locked. Under its lock only what may have
//! changed is looked at: commits since then stand in the active memtable, as long as the view is the same.

use super::incoming::{Arrivals, Incoming, Precedence};
use super::recent::Recent;
use crate::read;
use crate::view::{View, Views};
use base::foreign::{EntryStamp, NumberedStamp, stamp_of};
use base::shipment::SHIPMENT_OPS_MAX;
use base::{Error, Origin, OriginNumber, Result, Stamp, Tick, Trailer};
use std::sync::Arc;

/// What became of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is stored.
    Won,
    /// Something as new is here.
    Lost,
    /// So it is, and this node wrote it without having seen the op.
    Unseen,
    /// It is a put whose deletion may have been forgotten.
    Late,
}

/// Bytes that deciding about one op takes, besides its own: what comes in a few bytes takes many.
const OP_COST: usize = size_of::<Incoming<'_>>() + size_of::<Found>() + size_of::<Verdict>() + 8;
const _: () = assert!(SHIPMENT_OPS_MAX as usize * OP_COST <= 192 << 20, "whatever a peer sends");

/// What was found before the queue was locked.
#[derive(Debug)]
pub(crate) struct Basis {
    view: Arc<View>,
    author: Origin,
    /// The highest tick of a tombstone ever dropped in the scope.
    dropped: Tick,
    /// Of each op with a key, in the order of [`Arrivals::keyed`].
    found: Vec<Found>,
}

#[derive(Clone, Copy, Debug)]
enum Found {
    /// No write of its bucket is as new: not looked up.
    Nothing,
    /// The newest entry of the key, if there is one.
    Newest(Option<Held>),
}

/// An entry that is here.
#[derive(Clone, Copy, Debug)]
struct Held {
    rank: Precedence,
    /// Whether it only says that what was here was let go: of what lies below it no more is known than if
    /// nothing were here.
    is_nothing: bool,
    /// Whether this node wrote it, after all that was received before.
    is_own: bool,
}

impl Basis {
    /// Looks up what `arrivals` of `author` may meet in `view`, of which tombstones up to `dropped` may be
    /// gone.
    pub(crate) fn look(
        view: Arc<View>,
        arrivals: &Arrivals<'_>,
        author: Origin,
        dropped: Tick,
        recent: &Recent,
    ) -> Result<Basis> {
        let mut found = Vec::with_capacity(arrivals.points.len());
        for point in arrivals.keyed() {
            let tick = point.precedence(author).stamp.tick;
            found.push(match recent.is_newer(point.hash, tick) {
                true => Found::Nothing,
                false => Found::Newest(newest(&view, point)?),
            });
        }
        Ok(Basis { view, author, dropped, found })
    }

    /// Decides about each op that has a key; none if it has to be looked up again. The queue is locked, and
    /// every commit so far is in a memtable.
    pub(crate) fn judge(
        &self,
        arrivals: &Arrivals<'_>,
        views: &Views,
        recent: &Recent,
    ) -> Result<Option<Vec<Verdict>>> {
        if !views.is_current(&self.view) {
            return Ok(None);
        }
        let has_ranges = self.view.has_range_deletes();
        let mut verdicts = Vec::with_capacity(arrivals.points.len());
        for (point, found) in arrivals.keyed().zip(&self.found) {
            let precedence = point.precedence(self.author);
            let is_newer = recent.is_newer(point.hash, precedence.stamp.tick);
            let newest = match found {
                _ if is_newer => None,
                Found::Nothing => return Ok(None),
                Found::Newest(found) => self.newest_active(point)?.or(*found),
            };
            let above = newest.filter(|newest| newest.rank >= precedence);
            let is_covered = has_ranges && self.is_covered(point, precedence.stamp);
            verdicts.push(match above {
                _ if is_covered => Verdict::Lost,
                Some(above) if above.is_own => Verdict::Unseen,
                Some(above) if !above.is_nothing => Verdict::Lost,
                _ if self.is_late(point, precedence.stamp) => Verdict::Late,
                Some(_) => Verdict::Lost,
                None => Verdict::Won,
            });
        }
        Ok(Some(verdicts))
    }

    fn is_late(&self, point: &Incoming<'_>, stamp: Stamp) -> bool {
        point.may_be_late && stamp.tick <= self.dropped
    }

    fn is_covered(&self, point: &Incoming<'_>, stamp: Stamp) -> bool {
        let covering = read::covering(&self.view, point.space, point.op.key, Tick::MAX);
        covering.is_some_and(|range| range > stamp)
    }

    /// The newest entry of the op's key in the active memtable.
    fn newest_active(&self, point: &Incoming<'_>) -> Result<Option<Held>> {
        let active = &self.view.active;
        let found = active.get(point.space, point.op.key, point.hash, Trailer::MAX);
        let own = || active.local();
        found.map(|(trailer, stored)| held(&self.view, trailer, stored, own)).transpose()
    }
}

/// The newest entry of the op's key in `view`.
fn newest(view: &View, point: &Incoming<'_>) -> Result<Option<Held>> {
    let found = read::newest(view, point.space, point.op.key, Tick::MAX, |found| {
        let local = || found.local.unwrap_or(view.active.local());
        held(view, found.trailer, found.stored, local)
    });
    found?.transpose()
}

/// What decides about a stored entry.
fn held(view: &View, trailer: Trailer, stored: &[u8], local: impl Fn() -> Origin) -> Result<Held> {
    let stamp = stamp_of(trailer, stored).map_err(|found| {
        Error::corrupt(base::error::FileKind::Table, base::dir::TABLES_DIR, 0, found)
    })?;
    let is_erase = matches!(stamp, EntryStamp::Erase(_));
    let carrier = view.origins.stamp(stamp.carrier(), &local);
    let rank = Precedence { stamp: view.origins.entry_stamp(stamp, &local), is_erase };
    let is_nothing = is_erase && carrier == rank.stamp;
    let is_own = !is_erase && is_own_write(view, stamp.carrier(), carrier.origin);
    Ok(Held { rank, is_nothing, is_own })
}

/// Whether `author`, who is `carrier` where the entry is stored, is this node, and what it had received
/// then is among what was received by now. A write of an earlier life that is here only because another
/// node gave it back may have seen more.
pub(super) fn is_own_write(view: &View, carrier: NumberedStamp, author: Origin) -> bool {
    let own = view.origins.own();
    author == own || (author.node == own.node && carrier.origin == OriginNumber::LOCAL)
}
