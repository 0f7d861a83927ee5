//! What reconciliation sends: ranges, one behind the other, each with what the sender says of it.
//!
//! ```text
//! size    field
//!    1    version         1
//!    1    flags           bit 0: the last frame of this half-round; others refuse to decode
//!    v+*  from            where the first range starts
//!   per range, to the end of the frame:
//!    1      claim         low 3 bits, Claim: 0 same, 1 short, 2 long, 3 list, 4 wanted
//!                         bit 3: the range goes to the end of everything
//!    v      shared        bytes that its end has in common with its start; not if to the end
//!    v+*    rest          the others; not if to the end
//!   short:
//!    8      fingerprint
//!   long:
//!   16      fingerprint
//!   list, wanted:
//!    v      count
//!    8*     digests       first 8 bytes of each element's
//! ```
//!
//! A range starts where the one before it ends, and ends above its start.

use super::fingerprint::Fingerprint;
use base::Corruption;
use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::limits::{KEY_LEN_MAX, KEYSPACE_NAME_LEN_MAX};

const VERSION: u8 = 1;
const LAST: u8 = 1;
const TO_END: u8 = 1 << 3;
/// Bytes of an element's name at the most: keyspace, zero, key.
const NAME_LEN_MAX: usize = KEYSPACE_NAME_LEN_MAX + 1 + KEY_LEN_MAX;
/// Bytes after which a frame is full; one range may reach beyond.
const FRAME_LEN_FULL: usize = 32 << 10;
/// Bytes of a frame at the most.
pub const FRAME_LEN_MAX: usize = 256 << 10;

/// What a sender says of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing is left to say.
    Same,
    /// What it holds there comes to this, in short.
    Short([u8; Fingerprint::SHORT_LEN]),
    /// What it holds there comes to this.
    Long([u8; Fingerprint::LONG_LEN]),
    /// It holds exactly these elements.
    List(Vec<u64>),
    /// It lacks these elements.
    Wanted(Vec<u64>),
}

/// A range and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its first name.
    pub from: Vec<u8>,
    /// The first name behind it; none if it goes to the end.
    pub to: Option<Vec<u8>>,
    /// What the sender says.
    pub claim: Claim,
}

/// A decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether the half-round ends with it.
    pub is_last: bool,
    /// Its ranges, in order.
    pub ranges: Vec<Range>,
}

impl Frame {
    /// The frame that is `bytes`, all of them.
    pub fn decode(bytes: &[u8]) -> Decoded<Frame> {
        if bytes.len() > FRAME_LEN_MAX {
            return Err(Corruption::OutOfRange);
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Corruption::UnknownKind);
        }
        let flags = reader.u8()?;
        if flags & !LAST != 0 {
            return Err(Corruption::UnknownKind);
        }
        let mut from = decode_name(reader.bytes()?)?.to_vec();
        let mut ranges: Vec<Range> = Vec::new();
        while !reader.is_empty() {
            if ranges.last().is_some_and(|last| last.to.is_none()) {
                return Err(Corruption::TrailingBytes);
            }
            let range = decode_range(&mut reader, from)?;
            from = range.to.clone().unwrap_or_default();
            ranges.push(range);
        }
        Ok(Frame { is_last: flags & LAST != 0, ranges })
    }
}

fn decode_name(name: &[u8]) -> Decoded<&[u8]> {
    if name.len() > NAME_LEN_MAX { Err(Corruption::OutOfRange) } else { Ok(name) }
}

fn decode_range(reader: &mut Reader<'_>, from: Vec<u8>) -> Decoded<Range> {
    let claim = reader.u8()?;
    let to = match claim & TO_END {
        0 => Some(decode_end(reader, &from)?),
        _ => None,
    };
    let claim = match claim & !TO_END {
        0 => Claim::Same,
        1 => Claim::Short(reader.array()?),
        2 => Claim::Long(reader.array()?),
        3 => Claim::List(decode_digests(reader)?),
        4 => Claim::Wanted(decode_digests(reader)?),
        _ => return Err(Corruption::UnknownKind),
    };
    Ok(Range { from, to, claim })
}

fn decode_end(reader: &mut Reader<'_>, from: &[u8]) -> Decoded<Vec<u8>> {
    let shared = reader.len()?;
    let mut end = from.get(..shared).ok_or(Corruption::OutOfRange)?.to_vec();
    end.extend_from_slice(reader.bytes()?);
    if *decode_name(&end)? <= *from { Err(Corruption::OutOfOrder) } else { Ok(end) }
}

fn decode_digests(reader: &mut Reader<'_>) -> Decoded<Vec<u64>> {
    let count = reader.len()?;
    if reader.rest().len() / 8 < count {
        return Err(Corruption::Truncated);
    }
    (0..count).map(|_| reader.u64()).collect()
}

/// Puts the ranges of a half-round into frames. Ranges that are the same are left out at the end of
/// frames, and joined elsewhere.
#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    frames: Vec<Vec<u8>>,
    open: Vec<u8>,
    /// Where the open frame's last range ended.
    end: Vec<u8>,
}

impl FrameWriter {
    /// Adds `range`, which starts at or behind the end of the one before it.
    pub(super) fn push(&mut self, range: &Range) {
        if self.open.is_empty() {
            self.open.extend_from_slice(&[VERSION, 0]);
            put_bytes(&mut self.open, &range.from);
        } else if self.end < range.from {
            let end = std::mem::take(&mut self.end);
            put_range(&mut self.open, &end, Some(&range.from), &Claim::Same);
        }
        put_range(&mut self.open, &range.from, range.to.as_deref(), &range.claim);
        self.end = range.to.clone().unwrap_or_default();
        if self.open.len() >= FRAME_LEN_FULL || range.to.is_none() {
            self.frames.push(std::mem::take(&mut self.open));
        }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.frames.iter().map(Vec::len).sum::<usize>() + self.open.len()
    }

    /// The frames of the half-round; one without ranges if there is nothing to say.
    pub(super) fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.open.is_empty() {
            self.frames.push(self.open);
        }
        if self.frames.is_empty() {
            self.frames.push(vec![VERSION, 0, 0]);
        }
        if let Some(flags) = self.frames.last_mut().and_then(|frame| frame.get_mut(1)) {
            *flags |= LAST;
        }
        self.frames
    }
}

fn put_range(out: &mut Vec<u8>, from: &[u8], to: Option<&[u8]>, claim: &Claim) {
    let kind = match claim {
        Claim::Same => 0,
        Claim::Short(_) => 1,
        Claim::Long(_) => 2,
        Claim::List(_) => 3,
        Claim::Wanted(_) => 4,
    };
    out.push(if to.is_none() { kind | TO_END } else { kind });
    if let Some(to) = to {
        let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        put_varint(out, shared as u64);
        put_bytes(out, to.get(shared..).unwrap_or_default());
    }
    match claim {
        Claim::Same => {}
        Claim::Short(fingerprint) => out.extend_from_slice(fingerprint),
        Claim::Long(fingerprint) => out.extend_from_slice(fingerprint),
        Claim::List(digests) | Claim::Wanted(digests) => {
            put_varint(out, digests.len() as u64);
            digests.iter().for_each(|digest| out.extend_from_slice(&digest.to_le_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_claim() -> impl Strategy<Value = Claim> {
        prop_oneof![
            any::<[u8; 8]>().prop_map(Claim::Short),
            any::<[u8; 16]>().prop_map(Claim::Long),
            any::<Vec<u64>>().prop_map(Claim::List),
            any::<Vec<u64>>().prop_map(Claim::Wanted),
        ]
    }

    proptest! {
        #[test]
        fn ranges_come_back_with_the_gaps_between_them_as_same(
            bounds in proptest::collection::btree_set(proptest::collection::vec(0u8..9, 1..6), 2..30),
            claims in proptest::collection::vec((any_claim(), any::<bool>()), 30),
            to_end: bool, cut: prop::sample::Index, garbage: Vec<u8>,
        ) {
            let bounds: Vec<Vec<u8>> = bounds.into_iter().collect();
            let mut ranges = Vec::new();
            for (at, (claim, is_there)) in bounds.windows(2).zip(claims) {
                if is_there {
                    ranges.push(Range { from: at[0].clone(), to: Some(at[1].clone()), claim });
                }
            }
            if let Some(last) = ranges.last_mut().filter(|_| to_end) {
                last.to = None;
            }
            let mut writer = FrameWriter::default();
            ranges.iter().for_each(|range| writer.push(range));
            let frames = writer.finish();
            let decoded: Vec<Frame> = frames.iter().map(|f| Frame::decode(f).unwrap()).collect();
            prop_assert!(decoded.last().unwrap().is_last);
            let found: Vec<Range> = decoded.into_iter().flat_map(|frame| frame.ranges)
                .filter(|range| range.claim != Claim::Same).collect();
            prop_assert_eq!(found, ranges);
            let mut bytes = frames[0].clone();
            let _ = Frame::decode(&bytes[..cut.index(bytes.len())]);
            let at = cut.index(bytes.len());
            bytes.splice(at.., garbage);
            let _ = Frame::decode(&bytes);
        }
    }
}
