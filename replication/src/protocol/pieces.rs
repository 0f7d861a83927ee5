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
//! made as they come, so a claimed total costs nothing.

use super::frame::{Extent, Frame, Kind, Lane, PAYLOAD_LEN_MAX};
use crate::error::ProtocolError;
use base::Corruption;

const PIECE_HEADER_LEN: usize = 4 + 4;
const PIECE_LEN_MAX: usize = PAYLOAD_LEN_MAX - PIECE_HEADER_LEN;

/// Cuts one payload into frames.
#[derive(Debug)]
pub struct Cutter {
    kind: Kind,
    payload: Vec<u8>,
    offset: usize,
}

impl Cutter {
    /// All of `payload` is to be sent.
    pub fn new(kind: Kind, payload: Vec<u8>) -> Cutter {
        Cutter { kind, payload, offset: 0 }
    }

    /// The next frame, and whether it is the last one.
    pub fn next(&mut self, lane: &mut Lane) -> (Vec<u8>, Rest) {
        if self.payload.len() <= PAYLOAD_LEN_MAX {
            return (lane.seal(self.kind, Extent::Whole, &[&self.payload]), Rest::None);
        }
        let total = self.payload.len();
        let end = total.min(self.offset + PIECE_LEN_MAX);
        let bytes = self.payload.get(self.offset..end).unwrap_or_default();
        let (total_le, offset_le) = (total as u32, self.offset as u32);
        let parts = [&total_le.to_le_bytes()[..], &offset_le.to_le_bytes()[..], bytes];
        let frame = lane.seal(self.kind, Extent::Piece, &parts);
        self.offset = end;
        (frame, if end == total { Rest::None } else { Rest::Some })
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

/// Puts the pieces of a payload together again.
#[derive(Debug)]
pub struct Assembler {
    limit: usize,
    open: Option<(Kind, usize, Vec<u8>)>,
}

impl Assembler {
    /// Payloads have at most `limit` bytes.
    pub fn new(limit: usize) -> Assembler {
        Assembler { limit, open: None }
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.open.as_ref().map_or(0, |(_, _, bytes)| bytes.len())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.open.is_none()
    }

    /// Takes a frame; returns the payload once it is whole.
    pub fn take(&mut self, frame: Frame<'_>) -> Result<Option<(Kind, Vec<u8>)>, ProtocolError> {
        if frame.extent == Extent::Whole {
            if self.open.is_some() {
                return Err(ProtocolError::Unexpected { what: "frame between pieces" });
            }
            return Ok(Some((frame.kind, frame.payload.into_owned())));
        }
        let (total, offset, bytes) = split(&frame.payload)?;
        let (limit, value) = (self.limit as u64, total as u64);
        if total > self.limit || total <= PAYLOAD_LEN_MAX {
            return Err(ProtocolError::TooLong { what: "payload in pieces", limit, value });
        }
        let (kind, known, mut held) = self.open.take().unwrap_or((frame.kind, total, Vec::new()));
        if kind != frame.kind || known != total || offset != held.len() {
            let (expected, found) = (held.len() as u64, offset as u64);
            return Err(ProtocolError::OutOfPlace { what: "piece", expected, found });
        }
        if bytes.is_empty() || bytes.len() > total - offset {
            let (expected, found) = (total as u64, (offset + bytes.len()) as u64);
            return Err(ProtocolError::OutOfPlace { what: "piece", expected, found });
        }
        held.extend_from_slice(bytes);
        if held.len() == total {
            return Ok(Some((kind, held)));
        }
        self.open = Some((kind, total, held));
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

    const LIMIT: usize = 4 << 20;

    fn frames(len: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let payload: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
        let mut cutter = Cutter::new(Kind::Shipment, payload.clone());
        let mut lane = Lane::new(Channel::Tail);
        let mut frames = Vec::new();
        loop {
            let (frame, rest) = cutter.next(&mut lane);
            frames.push(frame);
            if rest == Rest::None {
                return (payload, frames);
            }
        }
    }

    #[test]
    fn payloads_of_all_lengths_come_back() {
        for len in [0, 1, PAYLOAD_LEN_MAX, PAYLOAD_LEN_MAX + 1, 3 * PIECE_LEN_MAX, LIMIT] {
            let (payload, frames) = frames(len);
            let (mut lane, mut assembler) = (Lane::new(Channel::Tail), Assembler::new(LIMIT));
            let mut whole = None;
            for frame in &frames {
                assert!(whole.is_none());
                whole = assembler.take(lane.open(frame).unwrap()).unwrap();
            }
            assert!(whole == Some((Kind::Shipment, payload)), "{len}");
            assert!(assembler.is_empty());
        }
    }

    fn piece(total: u32, offset: u32, bytes: &[u8]) -> Vec<u8> {
        [&total.to_le_bytes()[..], &offset.to_le_bytes()[..], bytes].concat()
    }

    fn take(assembler: &mut Assembler, kind: Kind, payload: &[u8]) -> Result<(), ProtocolError> {
        let payload = payload.into();
        assembler.take(Frame { kind, extent: Extent::Piece, payload }).map(drop)
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
        assert!(assembler.take(between).is_err());
    }

    #[test]
    fn a_claimed_length_makes_no_room() {
        let mut assembler = Assembler::new(LIMIT);
        take(&mut assembler, Kind::Shipment, &piece(LIMIT as u32, 0, &[1])).unwrap();
        assert_eq!(assembler.len(), 1);
        let refused = take(&mut Assembler::new(LIMIT), Kind::Shipment, &piece(u32::MAX, 0, &[1]));
        assert!(matches!(refused, Err(ProtocolError::TooLong { .. })));
    }
}
