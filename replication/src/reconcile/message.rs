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
pub(crate) const NAME_LEN_MAX: usize = KEYSPACE_NAME_LEN_MAX + 1 + KEY_LEN_MAX;
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

/// A frame. Its ranges are read one at a time: each may be ten thousand times as long as the bytes that it
/// takes there, because its end has most in common with its start.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    is_last: bool,
    rest: Reader<'a>,
    /// The one that was read last. Before the first, nothing: it starts and ends where that starts.
    range: Range,
    /// Bytes that its ends have in common.
    shared: usize,
}

impl<'a> Frame<'a> {
    /// The frame that is `bytes`, all of them.
    ///
    /// # Errors
    /// `OutOfRange` for more than [`FRAME_LEN_MAX`] bytes; others for a beginning that is none. What is wrong
    /// with a range shows when that is read.
    pub fn decode(bytes: &'a [u8]) -> Decoded<Frame<'a>> {
        if bytes.len() > FRAME_LEN_MAX {
            return Err(Corruption::OutOfRange);
        }
        let mut rest = Reader::new(bytes);
        if rest.u8()? != VERSION {
            return Err(Corruption::UnknownKind);
        }
        let flags = rest.u8()?;
        if flags & !LAST != 0 {
            return Err(Corruption::UnknownKind);
        }
        let from = rest.bytes()?;
        if from.len() > NAME_LEN_MAX {
            return Err(Corruption::OutOfRange);
        }
        let (shared, to) = (from.len(), Some(from.to_vec()));
        let range = Range { from: from.to_vec(), to, claim: Claim::Same };
        Ok(Frame { is_last: flags & LAST != 0, rest, range, shared })
    }

    /// Whether the half-round ends with it.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// The next range, in order; none behind the last. After an error it is spent.
    pub fn next_range(&mut self) -> Decoded<Option<&Range>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (reader, Range { from, to, claim }) = (&mut self.rest, &mut self.range);
        let kind = reader.u8()?;
        let Some(end) = to else { return Err(Corruption::TrailingBytes) };
        // What both ends have in common stays where it is, so a frame costs no more than its bytes.
        from.truncate(self.shared);
        from.extend_from_slice(end.get(self.shared..).unwrap_or_default());
        match kind & TO_END {
            0 => self.shared = decode_end(reader, end)?,
            _ => *to = None,
        }
        *claim = match kind & !TO_END {
            0 => Claim::Same,
            1 => Claim::Short(reader.array()?),
            2 => Claim::Long(reader.array()?),
            3 => Claim::List(decode_digests(reader)?),
            4 => Claim::Wanted(decode_digests(reader)?),
            _ => return Err(Corruption::UnknownKind),
        };
        Ok(Some(&self.range))
    }
}

/// Makes the start of a range its end, which is above it; returns what they have in common.
fn decode_end(reader: &mut Reader<'_>, name: &mut Vec<u8>) -> Decoded<usize> {
    let shared = reader.len()?;
    let old = name.get(shared..).ok_or(Corruption::OutOfRange)?;
    let new = reader.bytes()?;
    if new.len() > NAME_LEN_MAX.saturating_sub(shared) {
        return Err(Corruption::OutOfRange);
    }
    if new <= old {
        return Err(Corruption::OutOfOrder);
    }
    name.truncate(shared);
    name.extend_from_slice(new);
    Ok(shared)
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

    fn all(frame: &[u8]) -> Decoded<Vec<Range>> {
        let (mut frame, mut ranges) = (Frame::decode(frame)?, Vec::new());
        while let Some(range) = frame.next_range()? {
            ranges.push(range.clone());
        }
        Ok(ranges)
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
            prop_assert!(Frame::decode(frames.last().unwrap()).unwrap().is_last());
            let found = frames.iter().flat_map(|frame| all(frame).unwrap());
            let found: Vec<Range> = found.filter(|range| range.claim != Claim::Same).collect();
            prop_assert_eq!(found, ranges);
            let mut bytes = frames[0].clone();
            let _ = all(&bytes[..cut.index(bytes.len())]);
            let at = cut.index(bytes.len());
            bytes.splice(at.., garbage);
            let _ = all(&bytes);
        }
    }
}
