//! What two auditors say to each other, on the reconcile channel. Each payload starts with the round
//! of the audit, which the opener counts.
//!
//! ```text
//! size    field
//!    4    round
//!  ask:                   nothing; the round is zero
//!  open:
//!   16      head digest   first bytes of the Blake3 of vector and floor
//!    8      horizon       entries that expire before it, in ms since the Unix epoch, may be gone
//!    *      frame         the first one of the comparison, see `reconcile::message`
//!  head:
//!    8      horizon
//!    *      vector        base::vector
//!    *      floor         base::vector
//!  reconcile:
//!    *      frame         of the comparison
//!  chunk:
//!    *      chunk         base::state; no range deletes
//!  gone:                  at least one entry, 128 KiB at the most
//!   per entry, by name, to the end of the payload:
//!    v+*      name        of an element
//!    8        tick        with the origin, the stamp of the version that is gone
//!   24        origin
//!  end:
//!    8      taken         entries that the speaker has stored again
//!    8      disowned      entries that it has erased
//!  stop:
//!    1      reason        1 not now, 2 it failed
//! ```

use super::super::frame::Kind;
use crate::error::ProtocolError;
use base::codec::{Decoded, Reader, put_bytes};
use base::{Corruption, Origin, Stamp, Tick, Vector};

/// Bytes of a list of what is gone at the most: they become a few times as many.
pub const GONE_LEN_MAX: usize = 128 << 10;

/// First bytes of the digest of a head.
pub type HeadDigest = [u8; 16];

/// Why there is no audit, or no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The speaker is busy, or not whole.
    Later = 1,
    /// It failed at the speaker.
    Failed = 2,
}

/// A version of an element that its receiver has, and its speaker may have deleted and forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The element's name.
    pub name: Vec<u8>,
    /// Whose put it is.
    pub stamp: Stamp,
}

/// What a side has received and forgotten at the moment that it compares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Entries that expire before it may be gone, in milliseconds since the Unix epoch.
    pub horizon_ms: u64,
    /// What was received.
    pub vector: Vector,
    /// What tombstones may be gone.
    pub floor: Vector,
}

/// Something that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the diagram says what they are")]
pub enum Say<'a> {
    Ask,
    Open { digest: HeadDigest, horizon_ms: u64, frame: &'a [u8] },
    Head(Head),
    Compare(&'a [u8]),
    Chunk(&'a [u8]),
    Gone(Vec<Gone>),
    End { taken: u64, disowned: u64 },
    Stop(Reason),
}

impl<'a> Say<'a> {
    /// The kind of its frame.
    pub fn kind(&self) -> Kind {
        match self {
            Say::Ask => Kind::AuditAsk,
            Say::Open { .. } => Kind::AuditOpen,
            Say::Head(_) => Kind::AuditHead,
            Say::Compare(_) => Kind::Reconcile,
            Say::Chunk(_) => Kind::AuditChunk,
            Say::Gone(_) => Kind::AuditGone,
            Say::End { .. } => Kind::AuditEnd,
            Say::Stop(_) => Kind::AuditStop,
        }
    }

    /// Its bytes, in the audit of `round`.
    pub fn encode(&self, round: u32) -> Vec<u8> {
        let mut out = round.to_le_bytes().to_vec();
        match self {
            Say::Ask => {}
            Say::Open { digest, horizon_ms, frame } => {
                out.extend_from_slice(digest);
                out.extend_from_slice(&horizon_ms.to_le_bytes());
                out.extend_from_slice(frame);
            }
            Say::Head(Head { horizon_ms, vector, floor }) => {
                out.extend_from_slice(&horizon_ms.to_le_bytes());
                vector.encode(&mut out);
                floor.encode(&mut out);
            }
            Say::Compare(bytes) | Say::Chunk(bytes) => out.extend_from_slice(bytes),
            Say::Gone(all) => {
                for gone in all {
                    put_bytes(&mut out, &gone.name);
                    out.extend_from_slice(&gone.stamp.tick.raw().to_le_bytes());
                    gone.stamp.origin.encode(&mut out);
                }
            }
            Say::End { taken, disowned } => {
                out.extend_from_slice(&taken.to_le_bytes());
                out.extend_from_slice(&disowned.to_le_bytes());
            }
            Say::Stop(reason) => out.push(*reason as u8),
        }
        out
    }

    /// The round and what is said in it.
    pub fn decode(kind: Kind, payload: &'a [u8]) -> Result<(u32, Say<'a>), ProtocolError> {
        let mut reader = Reader::new(payload);
        let say = decode(kind, &mut reader);
        say.map_err(|found| ProtocolError::Malformed { what: "message of an audit", found })
    }
}

fn decode<'a>(kind: Kind, reader: &mut Reader<'a>) -> Decoded<(u32, Say<'a>)> {
    let round = reader.u32()?;
    let say = match kind {
        Kind::AuditAsk if round == 0 => Say::Ask,
        _ if round == 0 => return Err(Corruption::OutOfRange),
        Kind::AuditOpen => {
            let (digest, horizon_ms) = (reader.array()?, reader.u64()?);
            Say::Open { digest, horizon_ms, frame: reader.take(reader.rest().len())? }
        }
        Kind::AuditHead => {
            let horizon_ms = reader.u64()?;
            let (vector, floor) = (Vector::decode(reader)?, Vector::decode(reader)?);
            Say::Head(Head { horizon_ms, vector, floor })
        }
        Kind::Reconcile => Say::Compare(reader.take(reader.rest().len())?),
        Kind::AuditChunk => Say::Chunk(reader.take(reader.rest().len())?),
        Kind::AuditGone => Say::Gone(decode_gone(reader)?),
        Kind::AuditEnd => Say::End { taken: reader.u64()?, disowned: reader.u64()? },
        Kind::AuditStop => Say::Stop(match reader.u8()? {
            1 => Reason::Later,
            2 => Reason::Failed,
            _ => return Err(Corruption::UnknownKind),
        }),
        _ => return Err(Corruption::UnknownKind),
    };
    if reader.is_empty() { Ok((round, say)) } else { Err(Corruption::TrailingBytes) }
}

fn decode_gone(reader: &mut Reader<'_>) -> Decoded<Vec<Gone>> {
    if reader.rest().len() > GONE_LEN_MAX {
        return Err(Corruption::OutOfRange);
    }
    if reader.is_empty() {
        return Err(Corruption::Truncated);
    }
    let mut all: Vec<Gone> = Vec::new();
    while !reader.is_empty() {
        let name = reader.bytes()?.to_vec();
        let tick = Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)?;
        let stamp = Stamp { tick, origin: Origin::decode(reader)? };
        if all.last().is_some_and(|last| last.name >= name) {
            return Err(Corruption::OutOfOrder);
        }
        all.push(Gone { name, stamp });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Incarnation, NodeId};
    use proptest::prelude::*;

    fn samples(bytes: &[u8]) -> Vec<Say<'_>> {
        let origin = Origin { node: NodeId([3; 16]), incarnation: Incarnation(4) };
        let stamp = Stamp { tick: Tick::from_ms(7), origin };
        let vector: Vector = [(origin, Tick::from_ms(9))].into_iter().collect();
        let gone = |name: &[u8]| Gone { name: name.to_vec(), stamp };
        vec![
            Say::Open { digest: [5; 16], horizon_ms: 6, frame: bytes },
            Say::Head(Head { vector: vector.clone(), ..Head::default() }),
            Say::Head(Head { horizon_ms: 8, floor: vector, ..Head::default() }),
            Say::Compare(bytes),
            Say::Chunk(bytes),
            Say::Gone(vec![gone(b""), gone(b"k\0a"), gone(b"k\0b")]),
            Say::End { taken: 3, disowned: u64::MAX },
            Say::Stop(Reason::Later),
            Say::Stop(Reason::Failed),
        ]
    }

    proptest! {
        #[test]
        fn what_is_said_comes_back_and_never_from_a_part_of_it(
            bytes: Vec<u8>, round in 1u32.., cut: prop::sample::Index, with: u8,
        ) {
            for say in samples(&bytes) {
                let mut encoded = say.encode(round);
                prop_assert_eq!(&Say::decode(say.kind(), &encoded).unwrap(), &(round, say.clone()));
                let cut = cut.index(encoded.len());
                if let Ok((_, other)) = Say::decode(say.kind(), &encoded[..cut]) {
                    prop_assert_ne!(&other, &say);
                }
                encoded[cut] ^= with;
                let _ = Say::decode(say.kind(), &encoded);
                let _ = Say::decode(say.kind(), &bytes);
            }
        }
    }

    /// Whoever has nothing to tell does not, and who has much tells it in parts.
    #[test]
    fn a_list_of_what_is_gone_is_neither_empty_nor_long() {
        let origin = Origin { node: NodeId([3; 16]), incarnation: Incarnation(4) };
        let stamp = Stamp { tick: Tick::from_ms(7), origin };
        let list = |count: u32| {
            let all = (0..count).map(|at| Gone { name: at.to_be_bytes().to_vec(), stamp });
            Say::Gone(all.collect()).encode(1)
        };
        let most = (GONE_LEN_MAX / (1 + 4 + 8 + Origin::LEN)) as u32;
        for (count, is_taken) in [(0, false), (1, true), (most, true), (most + 1, false)] {
            assert_eq!(Say::decode(Kind::AuditGone, &list(count)).is_ok(), is_taken, "{count}");
        }
    }

    #[test]
    fn only_a_question_has_no_round() {
        assert!(matches!(Say::decode(Kind::AuditAsk, &[0; 4]), Ok((0, Say::Ask))));
        assert!(Say::decode(Kind::AuditAsk, &[1, 0, 0, 0]).is_err());
        assert!(Say::decode(Kind::AuditEnd, &[0; 20]).is_err());
    }
}
