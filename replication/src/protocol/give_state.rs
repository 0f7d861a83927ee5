//! Deltas and tables for the peer.

use super::bulk::Bulk;
use super::frame::{Extent, Kind, Lane, PAYLOAD_LEN_MAX};
use super::message::{Answer, Offer, Want, Wish, vector};
use super::pieces::{Cutter, Rest};
use crate::error::ProtocolError;
use crate::store::{Delta, Export, Store};
use base::{KeyRanges, ScopeId, Vector};
use std::time::Duration;

/// Bytes of a chunk of a delta or of a file.
const CHUNK_LEN: usize = 512 << 10;
/// How long a snapshot or tables are held for a peer that asks for nothing of them and takes nothing; and how
/// long altogether, besides what [`SLOWEST`] gives. One that goes on gives up after seconds, and asks anew.
const HELD_MAX: Duration = Duration::from_secs(3600);
/// Bytes a second that a peer must take of what has been held for longer: no line that replicates is slower.
const SLOWEST: u64 = 16 << 10;

enum Giving {
    Nothing,
    /// Nothing any more: what was given in this round was let go.
    Lapsed {
        round: u32,
    },
    /// Everything, once what the peer has is here; or what it has lost and what is news.
    Waiting {
        round: u32,
        covers: Vector,
        missing: Option<KeyRanges>,
    },
    Delta {
        round: u32,
        delta: Box<dyn Delta>,
        chunks: u64,
        is_started: bool,
    },
    Tables {
        round: u32,
        export: Box<dyn Export>,
        is_started: bool,
        /// The file that is being sent, and up to where.
        file: Option<(u64, u64)>,
    },
}

/// One direction of the bulk channel. Holds a snapshot or tables only while the peer takes them, and not for
/// ever if it does not.
pub(crate) struct GiveState {
    scope: ScopeId,
    giving: Giving,
    cutter: Option<Cutter>,
    held: Held,
}

/// How long something has been held for the peer.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    since: Duration,
    /// When the peer last asked for something or took something.
    moved_at: Duration,
    /// Bytes that it took, and those that there are to take: what comes twice does not count.
    taken: u64,
    taken_max: u64,
}

impl Held {
    fn begin(now: Duration, taken_max: u64) -> Held {
        Held { since: now, moved_at: now, taken: 0, taken_max }
    }

    /// Who asks for a little now and then is no reason to hold all of it.
    fn until(&self) -> Duration {
        let takes = Duration::from_secs(self.taken.min(self.taken_max) / SLOWEST);
        (self.moved_at + HELD_MAX).min(self.since + HELD_MAX + takes)
    }
}

/// A payload: its front, and what comes from the store as it is. They are put together in the frame.
struct Outgoing {
    kind: Kind,
    front: Vec<u8>,
    body: Vec<u8>,
}

/// Whether the giver is closed because it takes state of the same peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum BothWays {
    Yes,
    No,
}

impl GiveState {
    pub(crate) fn new(scope: ScopeId) -> GiveState {
        GiveState { scope, giving: Giving::Nothing, cutter: None, held: Held::default() }
    }

    /// The peer wants something; returns an offer if that can not be. `missing` is what it has lost, if
    /// that is why it asks.
    pub(crate) fn want(
        &mut self,
        now: Duration,
        store: &dyn Store,
        want: &Want,
        missing: Option<KeyRanges>,
    ) -> Result<Option<Offer>, ProtocolError> {
        let round = want.round;
        let has = vector(&want.vector)?;
        self.held.moved_at = now;
        if want.wish() == Wish::File {
            return self.want_file(want);
        }
        self.giving = Giving::Nothing;
        if !store.is_whole(self.scope) && want.wish() != Wish::Nothing {
            return Ok(Some(self.offer(round, Answer::Later)));
        }
        match want.wish() {
            Wish::CatchUp => {
                let delta = store.delta(self.scope, &has)?;
                if !store.is_whole(self.scope) {
                    return Ok(Some(self.offer(round, Answer::Later)));
                }
                self.giving = Giving::Delta { round, delta, chunks: 0, is_started: false };
                self.held = Held::begin(now, u64::MAX);
            }
            Wish::Rejoin | Wish::Heal => {
                self.giving = Giving::Waiting { round, covers: has, missing };
            }
            // What was lost meanwhile is missing in what was taken, and never comes again.
            Wish::Tables => match store.export(self.scope)? {
                Some(_) if !store.is_whole(self.scope) => {
                    return Ok(Some(self.offer(round, Answer::Later)));
                }
                Some(export) => {
                    let (is_started, file) = (false, None);
                    let files = export.head().files.iter().map(|file| file.len);
                    self.held = Held::begin(now, files.fold(0, u64::saturating_add));
                    self.giving = Giving::Tables { round, export, is_started, file };
                }
                None => return Ok(Some(self.offer(round, Answer::NoTables))),
            },
            Wish::File | Wish::Nothing => {}
        }
        Ok(None)
    }

    /// The peer gets no more of what it wanted. A payload that was begun is sent to its end.
    pub(crate) fn stop(&mut self) {
        self.giving = Giving::Nothing;
    }

    /// The peer gets nothing of what it wanted, and is told why.
    pub(crate) fn refuse(&mut self, round: u32, answer: Answer) -> Offer {
        self.stop();
        self.offer(round, answer)
    }

    /// Whether the peer waits, closed, for all of the state of this node.
    pub(crate) fn is_waited_for(&self) -> bool {
        matches!(self.giving, Giving::Waiting { missing: None, .. })
    }

    /// What the peer has once it has taken the delta that it is being given, if it is.
    pub(crate) fn gives(&self) -> Option<&Vector> {
        match &self.giving {
            Giving::Delta { delta, .. } => Some(&delta.head().vector),
            _ => None,
        }
    }

    fn offer(&self, round: u32, answer: Answer) -> Offer {
        Offer::plain(self.scope, round, answer)
    }

    /// Lets go of what the peer does not take.
    pub(crate) fn let_go(&mut self, now: Duration) {
        let round = match self.giving {
            Giving::Delta { round, .. } | Giving::Tables { round, .. } => round,
            Giving::Nothing | Giving::Lapsed { .. } | Giving::Waiting { .. } => return,
        };
        if now >= self.held.until() {
            self.giving = Giving::Lapsed { round };
        }
    }

    fn want_file(&mut self, want: &Want) -> Result<Option<Offer>, ProtocolError> {
        let unexpected = ProtocolError::Unexpected { what: "wish for a file" };
        let (round, export, file) = match &mut self.giving {
            Giving::Tables { round, export, file, .. } => (round, export, file),
            Giving::Lapsed { round } if *round == want.round => {
                return Ok(Some(self.offer(want.round, Answer::Later)));
            }
            _ => return Err(unexpected),
        };
        let found = export.head().files.iter().find(|found| found.id == want.file);
        let Some(found) = found.filter(|_| *round == want.round) else { return Err(unexpected) };
        if want.offset > found.len {
            let (expected, found) = (found.len, want.offset);
            return Err(ProtocolError::OutOfPlace { what: "wish for a file", expected, found });
        }
        *file = Some((want.file, want.offset));
        Ok(None)
    }

    /// The next frame, if there is one now.
    pub(crate) fn next_frame(
        &mut self,
        now: Duration,
        store: &dyn Store,
        lane: &mut Lane,
        both_ways: BothWays,
    ) -> Result<Option<Vec<u8>>, ProtocolError> {
        let frame = self.make_frame(now, store, lane, both_ways)?;
        if frame.is_some() {
            self.held.moved_at = now;
            if matches!(self.giving, Giving::Delta { .. }) {
                // It counts as full: one that is not was long looked for here.
                self.held.taken = self.held.taken.saturating_add(CHUNK_LEN as u64);
            }
        }
        Ok(frame)
    }

    fn make_frame(
        &mut self,
        now: Duration,
        store: &dyn Store,
        lane: &mut Lane,
        both_ways: BothWays,
    ) -> Result<Option<Vec<u8>>, ProtocolError> {
        if let Some(cutter) = &mut self.cutter {
            let (frame, rest) = cutter.next(lane)?;
            if rest == Rest::None {
                self.cutter = None;
            }
            return Ok(Some(frame));
        }
        self.begin_rejoin(now, store, both_ways)?;
        let Some(Outgoing { kind, front, body }) = self.next_payload()? else { return Ok(None) };
        if front.len() + body.len() <= PAYLOAD_LEN_MAX {
            return Ok(Some(lane.seal(kind, Extent::Whole, &[&front, &body])));
        }
        let mut cutter = Cutter::new(kind, [front, body].concat(), store)?;
        let (frame, rest) = cutter.next(lane)?;
        self.cutter = (rest == Rest::Some).then_some(cutter);
        Ok(Some(frame))
    }

    /// The state of a peer below the floor comes after everything that the peer has and we lack: or
    /// at once, if both are below each other's floor, because then neither changes.
    fn begin_rejoin(
        &mut self,
        now: Duration,
        store: &dyn Store,
        both_ways: BothWays,
    ) -> Result<(), ProtocolError> {
        let Giving::Waiting { round, covers, missing } = &self.giving else { return Ok(()) };
        let is_below = both_ways == BothWays::Yes && missing.is_none();
        if !is_below && !store.applied(self.scope).covers_all(covers) {
            return Ok(());
        }
        if !store.is_whole(self.scope) {
            return Ok(());
        }
        let delta = match missing {
            None => store.delta(self.scope, &Vector::default())?,
            Some(missing) => store.delta_besides(self.scope, covers, missing)?,
        };
        // It was when the peer asked. The peer asks again if this takes too long.
        if !store.is_whole(self.scope) {
            return Ok(());
        }
        self.giving = Giving::Delta { round: *round, delta, chunks: 0, is_started: false };
        self.held = Held::begin(now, u64::MAX);
        Ok(())
    }

    fn next_payload(&mut self) -> Result<Option<Outgoing>, ProtocolError> {
        let (round, bulk) = match &mut self.giving {
            Giving::Nothing | Giving::Lapsed { .. } | Giving::Waiting { .. } => return Ok(None),
            Giving::Delta { round, delta, is_started, .. } if !*is_started => {
                *is_started = true;
                (*round, Bulk::DeltaHead(delta.head().clone()))
            }
            Giving::Delta { round, delta, chunks, .. } => match delta.next(CHUNK_LEN)? {
                Some(chunk) => {
                    *chunks += 1;
                    let front = Bulk::DeltaChunk(&chunk).front(*round);
                    return Ok(Some(Outgoing { kind: Kind::DeltaChunk, front, body: chunk }));
                }
                None => {
                    let end = (*round, Bulk::DeltaEnd { chunks: *chunks });
                    self.giving = Giving::Nothing;
                    end
                }
            },
            Giving::Tables { round, export, is_started, .. } if !*is_started => {
                *is_started = true;
                (*round, Bulk::TablesHead(export.head().clone()))
            }
            Giving::Tables { round, export, file, .. } => {
                let Some((id, offset)) = *file else { return Ok(None) };
                let bytes = export.read(id, offset, CHUNK_LEN)?;
                *file = (!bytes.is_empty()).then_some((id, offset + bytes.len() as u64));
                if bytes.is_empty() {
                    return Ok(None);
                }
                self.held.taken = self.held.taken.saturating_add(bytes.len() as u64);
                let front = Bulk::FileBytes { id, offset, bytes: &bytes }.front(*round);
                return Ok(Some(Outgoing { kind: Kind::FileBytes, front, body: bytes }));
            }
        };
        Ok(Some(Outgoing { kind: bulk.kind(), front: bulk.encode(round), body: Vec::new() }))
    }
}
