//! Payloads that are longer than a frame travel in pieces.
//!
//! ```text
//! size  field
//!    4  total    bytes of the whole payload
//!    4  offset   where this piece stands in it
//!    *  bytes
//! ```
//!
//! Pieces follow one another without a gap and with nothing between them on their channel. Room is
//! made as they come, so a claimed total costs nothing; beyond [`HELD_MAX`] it is made on the disk, on both
//! sides. So a payload is whole in memory only while it is made and while it is used, and of those that
//! are used at most one of a node: see [`Group::wait_turn`].

use super::frame::{Extent, Frame, Kind, Lane, PAYLOAD_LEN_MAX};
use crate::error::ProtocolError;
use crate::group::{Group, Turn};
use crate::store::{Spool, Store};
use base::{Corruption, Result};

const PIECE_HEADER_LEN: usize = 4 + 4;
const PIECE_LEN_MAX: usize = PAYLOAD_LEN_MAX - PIECE_HEADER_LEN;
/// Bytes of a payload that are kept in memory while it travels.
pub const HELD_MAX: usize = 2 << 20;

/// Cuts one payload into frames.
pub struct Cutter {
    kind: Kind,
    payload: Payload,
    offset: usize,
}

impl Cutter {
    /// All of `payload` is to be sent.
    pub fn new(kind: Kind, payload: Vec<u8>, store: &dyn Store) -> Result<Cutter> {
        let mut payload = Payload::Held(payload);
        if let Err(error) = payload.give_way(store) {
            // Nothing would follow on this channel, deletes neither.
            tracing::warn!(code = error.code(), %error, "a long payload stays in memory");
        }
        Ok(Cutter { kind, payload, offset: 0 })
    }

    /// The next frame, and whether it is the last one.
    pub fn next(&mut self, lane: &mut Lane) -> Result<(Vec<u8>, Rest)> {
        let total = self.payload.len();
        if let Payload::Held(bytes) = &self.payload
            && total <= PAYLOAD_LEN_MAX
        {
            return Ok((lane.seal(self.kind, Extent::Whole, &[bytes]), Rest::None));
        }
        let end = total.min(self.offset + PIECE_LEN_MAX);
        let mut bytes = vec![0; end - self.offset];
        self.payload.read(&mut bytes, self.offset)?;
        let (total_le, offset_le) = (total as u32, self.offset as u32);
        let parts = [&total_le.to_le_bytes()[..], &offset_le.to_le_bytes()[..], &bytes];
        let frame = lane.seal(self.kind, Extent::Piece, &parts);
        self.offset = end;
        Ok((frame, if end == total { Rest::None } else { Rest::Some }))
    }
}

/// Whether more frames of a payload follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// That was the last one.
    None,
    /// There are more.
    Some,
}

/// Bytes of a payload, few in memory or many on the disk.
pub enum Payload {
    /// In memory.
    Held(Vec<u8>),
    /// On the disk, so many.
    Spooled(Box<dyn Spool>, usize),
}

impl Payload {
    /// How many bytes there are.
    fn len(&self) -> usize {
        match self {
            Payload::Held(bytes) => bytes.len(),
            Payload::Spooled(_, len) => *len,
        }
    }

    /// How many of them take memory.
    fn held(&self) -> usize {
        match self {
            Payload::Held(bytes) => bytes.len(),
            Payload::Spooled(..) => 0,
        }
    }

    fn append(&mut self, more: &[u8], store: &dyn Store) -> Result<()> {
        match self {
            Payload::Held(bytes) => bytes.extend_from_slice(more),
            Payload::Spooled(spool, len) => {
                spool.append(more)?;
                *len += more.len();
            }
        }
        self.give_way(store)
    }

    /// Goes to the disk if it is too long for memory.
    fn give_way(&mut self, store: &dyn Store) -> Result<()> {
        let Payload::Held(bytes) = self else { return Ok(()) };
        if bytes.len() <= HELD_MAX {
            return Ok(());
        }
        let mut spool = store.spool()?;
        spool.append(bytes)?;
        *self = Payload::Spooled(spool, bytes.len());
        Ok(())
    }

    fn read(&mut self, into: &mut [u8], offset: usize) -> Result<()> {
        match self {
            Payload::Spooled(spool, _) => spool.read(into, offset as u64)?,
            Payload::Held(bytes) => {
                let all = bytes.get(offset..offset + into.len()).unwrap_or_default();
                all.iter().zip(into).for_each(|(from, to)| *to = *from);
            }
        }
        Ok(())
    }

    /// All of it, to be used. Waits while another session uses as much.
    pub fn open(self, group: &Group) -> Result<Opened<'_>> {
        match self {
            Payload::Held(bytes) => Ok(Opened { bytes, _turn: None }),
            Payload::Spooled(mut spool, len) => {
                let turn = Some(group.wait_turn());
                let mut bytes = vec![0; len];
                spool.read(&mut bytes, 0)?;
                Ok(Opened { bytes, _turn: turn })
            }
        }
    }
}

/// A payload that is being used.
pub struct Opened<'g> {
    bytes: Vec<u8>,
    _turn: Option<Turn<'g>>,
}

impl std::ops::Deref for Opened<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Puts the pieces of a payload together again.
pub struct Assembler {
    limit: usize,
    open: Option<(Kind, usize, Payload)>,
}

impl Assembler {
    /// Payloads have at most `limit` bytes.
    pub fn new(limit: usize) -> Assembler {
        Assembler { limit, open: None }
    }

    /// Bytes held in memory.
    pub fn held(&self) -> usize {
        self.open.as_ref().map_or(0, |(_, _, payload)| payload.held())
    }

    /// Whether no payload has begun.
    pub fn is_empty(&self) -> bool {
        self.open.is_none()
    }

    /// Takes a frame; returns the payload once it is whole.
    pub fn take(
        &mut self,
        frame: Frame<'_>,
        store: &dyn Store,
    ) -> Result<Option<(Kind, Payload)>, ProtocolError> {
        if frame.extent == Extent::Whole {
            if self.open.is_some() {
                return Err(ProtocolError::Unexpected { what: "frame between pieces" });
            }
            return Ok(Some((frame.kind, Payload::Held(frame.payload.into_owned()))));
        }
        let (total, offset, bytes) = split(&frame.payload)?;
        let (limit, value) = (self.limit as u64, total as u64);
        if total > self.limit || total <= PAYLOAD_LEN_MAX {
            return Err(ProtocolError::TooLong { what: "payload in pieces", limit, value });
        }
        let begun = self.open.take();
        let (kind, known, mut payload) =
            begun.unwrap_or((frame.kind, total, Payload::Held(Vec::new())));
        let have = payload.len();
        if kind != frame.kind || known != total || offset != have {
            let (expected, found) = (have as u64, offset as u64);
            return Err(ProtocolError::OutOfPlace { what: "piece", expected, found });
        }
        if bytes.is_empty() || bytes.len() > total - offset {
            let (expected, found) = (total as u64, (offset + bytes.len()) as u64);
            return Err(ProtocolError::OutOfPlace { what: "piece", expected, found });
        }
        payload.append(bytes, store)?;
        if payload.len() == total {
            return Ok(Some((kind, payload)));
        }
        self.open = Some((kind, total, payload));
        Ok(None)
    }
}

fn split(payload: &[u8]) -> Result<(usize, usize, &[u8]), ProtocolError> {
    let short = ProtocolError::Malformed { what: "piece", found: Corruption::Truncated };
    let Some((header, bytes)) = payload.split_first_chunk::<PIECE_HEADER_LEN>() else {
        return Err(short);
    };
    let [a, b, c, d, e, f, g, h] = *header;
    let (total, offset) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    Ok((total as usize, offset as usize, bytes))
}

#[cfg(test)]
mod tests {
    use super::super::frame::Channel;
    use super::*;
    use crate::group::GroupConfig;
    use crate::memory::MemoryStore;
    use crate::roster::Role;
    use base::{Incarnation, NodeId, ScopeId};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    const LIMIT: usize = 4 << 20;

    fn store() -> MemoryStore {
        MemoryStore::new(NodeId([1; 16]), Incarnation(1), 1)
    }

    fn group(store: &MemoryStore) -> Group {
        let (scope, role) = (ScopeId::MAIN, Role::Author);
        Group::open(GroupConfig { scope, role, first: Vec::new() }, store).unwrap()
    }

    fn frames(len: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let payload: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
        let mut cutter = Cutter::new(Kind::Shipment, payload.clone(), &store()).unwrap();
        let mut lane = Lane::new(Channel::Tail);
        let mut frames = Vec::new();
        loop {
            let (frame, rest) = cutter.next(&mut lane).unwrap();
            frames.push(frame);
            if rest == Rest::None {
                return (payload, frames);
            }
        }
    }

    #[test]
    fn payloads_of_all_lengths_come_back() {
        let store = store();
        let group = group(&store);
        for len in [0, 1, PAYLOAD_LEN_MAX, PAYLOAD_LEN_MAX + 1, HELD_MAX, HELD_MAX + 1, LIMIT] {
            let (payload, frames) = frames(len);
            let (mut lane, mut assembler) = (Lane::new(Channel::Tail), Assembler::new(LIMIT));
            let mut whole = None;
            for frame in &frames {
                assert!(whole.is_none());
                whole = assembler.take(lane.open(frame).unwrap(), &store).unwrap();
                assert!(assembler.held() <= HELD_MAX);
            }
            let (kind, whole) = whole.unwrap();
            assert_eq!(matches!(whole, Payload::Spooled(..)), len > HELD_MAX);
            assert!(kind == Kind::Shipment && *whole.open(&group).unwrap() == payload, "{len}");
            assert!(assembler.is_empty());
        }
    }

    /// However many peers send the longest payload at the same time.
    #[test]
    fn of_long_payloads_one_is_in_use_at_a_time() {
        let store = store();
        let group = group(&store);
        let (in_use, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let use_it = || {
            let mut payload = Payload::Held(vec![1; LIMIT]);
            payload.give_way(&store).unwrap();
            let opened = payload.open(&group).unwrap();
            most.fetch_max(in_use.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::yield_now();
            assert_eq!(opened.len(), LIMIT);
            in_use.fetch_sub(1, SeqCst);
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..8).for_each(|_| use_it()))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert_eq!(most.into_inner(), 1);
    }

    fn piece(total: u32, offset: u32, bytes: &[u8]) -> Vec<u8> {
        [&total.to_le_bytes()[..], &offset.to_le_bytes()[..], bytes].concat()
    }

    fn take(assembler: &mut Assembler, kind: Kind, payload: &[u8]) -> Result<(), ProtocolError> {
        let payload = payload.into();
        assembler.take(Frame { kind, extent: Extent::Piece, payload }, &store()).map(drop)
    }

    #[test]
    fn pieces_that_are_missing_doubled_endless_or_of_another_payload_are_refused() {
        let total = 2 << 20;
        let half = vec![1; 1 << 19];
        let bad: [(Kind, Vec<u8>); 7] = [
            (Kind::Shipment, piece(total, 0, &half)),
            (Kind::Shipment, piece(total, 1 << 20, &half)),
            (Kind::Shipment, piece(total + 1, 1 << 19, &half)),
            (Kind::TailStart, piece(total, 1 << 19, &half)),
            (Kind::Shipment, piece(total, 1 << 19, &[])),
            (Kind::Shipment, piece(total, 1 << 19, &vec![1; 2 << 20])),
            (Kind::Shipment, vec![1; 7]),
        ];
        for (kind, payload) in bad {
            let mut assembler = Assembler::new(LIMIT);
            take(&mut assembler, Kind::Shipment, &piece(total, 0, &half)).unwrap();
            assert!(take(&mut assembler, kind, &payload).is_err());
        }
        let mut assembler = Assembler::new(LIMIT);
        take(&mut assembler, Kind::Shipment, &piece(total, 0, &half)).unwrap();
        let between =
            Frame { kind: Kind::Shipment, extent: Extent::Whole, payload: (&half).into() };
        assert!(assembler.take(between, &store()).is_err());
    }

    #[test]
    fn a_claimed_length_makes_no_room() {
        let mut assembler = Assembler::new(LIMIT);
        take(&mut assembler, Kind::Shipment, &piece(LIMIT as u32, 0, &[1])).unwrap();
        assert_eq!(assembler.held(), 1);
        let refused = take(&mut Assembler::new(LIMIT), Kind::Shipment, &piece(u32::MAX, 0, &[1]));
        assert!(matches!(refused, Err(ProtocolError::TooLong { .. })));
    }
}
