//! What travels on the bulk channel. Each payload starts with the round of the wish that it
//! answers, so that what was asked for earlier is told apart.
//!
//! ```text
//! size    field
//!    4    round
//!  delta head:
//!    8      dropped       highest tick of any tombstone the giver ever dropped
//!    *      vector        base::vector
//!    *      floor         base::vector
//!  delta chunk:
//!    *      chunk         base::state
//!  delta end:
//!    8      chunks        how many there were
//!  tables head:
//!    *      delta head    as above, without a round
//!    8      clock         the giver's
//!    v+*    catalog       as the engine encodes it
//!    v      files         how many
//!   per file:
//!    8        id
//!    8        length
//!   32        root        what all bytes are verified by: of a table, the digest in its footer
//!  file bytes:
//!    8      id
//!    8      offset
//!    *      bytes
//! ```

use crate::error::ProtocolError;
use crate::store::{DeltaHead, ExportFile, ExportHead};
use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::{Corruption, Tick, Vector};

/// Bytes of one payload at the most: a chunk with the longest key and value fits.
pub const BULK_LEN_MAX: usize = 34 << 20;
const FILE_LEN: usize = 8 + 8 + 32;

/// A payload of the bulk channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the diagram says what they are")]
pub enum Bulk<'a> {
    DeltaHead(DeltaHead),
    DeltaChunk(&'a [u8]),
    DeltaEnd { chunks: u64 },
    TablesHead(ExportHead),
    FileBytes { id: u64, offset: u64, bytes: &'a [u8] },
}

use super::frame::Kind;

impl<'a> Bulk<'a> {
    /// The kind of its frame.
    pub fn kind(&self) -> Kind {
        match self {
            Bulk::DeltaHead(_) => Kind::DeltaHead,
            Bulk::DeltaChunk(_) => Kind::DeltaChunk,
            Bulk::DeltaEnd { .. } => Kind::DeltaEnd,
            Bulk::TablesHead(_) => Kind::TablesHead,
            Bulk::FileBytes { .. } => Kind::FileBytes,
        }
    }

    /// Its bytes, as an answer to the wish of `round`.
    pub fn encode(&self, round: u32) -> Vec<u8> {
        let mut out = self.front(round);
        out.extend_from_slice(self.body());
        out
    }

    /// Its bytes without those that come from elsewhere as they are, its body, which come last.
    pub(crate) fn front(&self, round: u32) -> Vec<u8> {
        let mut out = round.to_le_bytes().to_vec();
        match self {
            Bulk::DeltaHead(head) => encode_head(head, &mut out),
            Bulk::DeltaChunk(_) => {}
            Bulk::DeltaEnd { chunks } => out.extend_from_slice(&chunks.to_le_bytes()),
            Bulk::TablesHead(head) => {
                encode_head(&head.state, &mut out);
                out.extend_from_slice(&head.clock.raw().to_le_bytes());
                put_bytes(&mut out, &head.catalog);
                put_varint(&mut out, head.files.len() as u64);
                for file in &head.files {
                    out.extend_from_slice(&file.id.to_le_bytes());
                    out.extend_from_slice(&file.len.to_le_bytes());
                    out.extend_from_slice(&file.root);
                }
            }
            Bulk::FileBytes { id, offset, .. } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
            }
        }
        out
    }

    fn body(&self) -> &'a [u8] {
        match self {
            Bulk::DeltaChunk(bytes) | Bulk::FileBytes { bytes, .. } => bytes,
            Bulk::DeltaHead(_) | Bulk::DeltaEnd { .. } | Bulk::TablesHead(_) => &[],
        }
    }

    /// The round and what follows it.
    pub fn decode(kind: Kind, payload: &'a [u8]) -> Result<(u32, Bulk<'a>), ProtocolError> {
        let mut reader = Reader::new(payload);
        let bulk = decode(kind, &mut reader);
        bulk.map_err(|found| ProtocolError::Malformed { what: "bulk payload", found })
    }
}

fn decode<'a>(kind: Kind, reader: &mut Reader<'a>) -> Decoded<(u32, Bulk<'a>)> {
    let round = reader.u32()?;
    let bulk = match kind {
        Kind::DeltaHead => Bulk::DeltaHead(decode_head(reader)?),
        Kind::DeltaChunk => Bulk::DeltaChunk(reader.take(reader.rest().len())?),
        Kind::DeltaEnd => Bulk::DeltaEnd { chunks: reader.u64()? },
        Kind::TablesHead => Bulk::TablesHead(decode_tables(reader)?),
        Kind::FileBytes => {
            let (id, offset) = (reader.u64()?, reader.u64()?);
            Bulk::FileBytes { id, offset, bytes: reader.take(reader.rest().len())? }
        }
        _ => return Err(Corruption::UnknownKind),
    };
    if reader.is_empty() { Ok((round, bulk)) } else { Err(Corruption::TrailingBytes) }
}

fn encode_head(head: &DeltaHead, out: &mut Vec<u8>) {
    out.extend_from_slice(&head.dropped.raw().to_le_bytes());
    head.vector.encode(out);
    head.floor.encode(out);
}

fn decode_head(reader: &mut Reader<'_>) -> Decoded<DeltaHead> {
    let dropped = decode_tick(reader)?;
    let (vector, floor) = (Vector::decode(reader)?, Vector::decode(reader)?);
    Ok(DeltaHead { vector, floor, dropped })
}

fn decode_tick(reader: &mut Reader<'_>) -> Decoded<Tick> {
    Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)
}

fn decode_tables(reader: &mut Reader<'_>) -> Decoded<ExportHead> {
    let state = decode_head(reader)?;
    let clock = decode_tick(reader)?;
    let catalog = reader.bytes()?.to_vec();
    let count = reader.len()?;
    if reader.rest().len() / FILE_LEN < count {
        return Err(Corruption::Truncated);
    }
    let mut files: Vec<ExportFile> = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, len, root) = (reader.u64()?, reader.u64()?, reader.array()?);
        if files.iter().rev().take(1).any(|before| before.id >= id) {
            return Err(Corruption::OutOfOrder);
        }
        files.push(ExportFile { id, len, root });
    }
    Ok(ExportHead { state, clock, catalog, files })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Incarnation, NodeId, Origin};
    use proptest::prelude::*;

    fn head() -> DeltaHead {
        let origin = Origin { node: NodeId([3; 16]), incarnation: Incarnation(4) };
        let vector: Vector = [(origin, Tick::from_ms(5))].into_iter().collect();
        DeltaHead { floor: vector.clone(), vector, dropped: Tick::from_ms(2) }
    }

    fn samples(bytes: &[u8]) -> Vec<Bulk<'_>> {
        let file = |id| ExportFile { id, len: 7, root: [1; 32] };
        let (catalog, files) = (bytes.to_vec(), vec![file(1), file(9)]);
        let tables = ExportHead { state: head(), clock: Tick::from_ms(8), catalog, files };
        vec![
            Bulk::DeltaHead(head()),
            Bulk::DeltaChunk(bytes),
            Bulk::DeltaEnd { chunks: 5 },
            Bulk::TablesHead(tables),
            Bulk::FileBytes { id: 1, offset: 2, bytes },
        ]
    }

    proptest! {
        #[test]
        fn payloads_come_back_and_never_from_a_part_of_them(bytes: Vec<u8>, round: u32, cut: prop::sample::Index) {
            for sample in samples(&bytes) {
                let encoded = sample.encode(round);
                let cut = cut.index(encoded.len());
                prop_assert_eq!(Bulk::decode(sample.kind(), &encoded).unwrap(), (round, sample.clone()));
                if let Ok((_, other)) = Bulk::decode(sample.kind(), &encoded[..cut]) {
                    prop_assert_ne!(other, sample);
                }
            }
        }

        #[test]
        fn hostile_payloads_never_panic(mut bytes: Vec<u8>, at: prop::sample::Index, with: u8) {
            bytes.push(0);
            for sample in samples(&bytes) {
                let mut encoded = sample.encode(1);
                let at = at.index(encoded.len());
                encoded[at] ^= with;
                let _ = Bulk::decode(sample.kind(), &encoded);
                let _ = Bulk::decode(sample.kind(), &bytes);
            }
        }
    }

    #[test]
    fn a_claimed_number_of_files_makes_no_room() {
        let mut encoded = Bulk::TablesHead(ExportHead::default()).encode(1);
        encoded.pop();
        put_varint(&mut encoded, u64::from(u32::MAX));
        assert!(Bulk::decode(Kind::TablesHead, &encoded).is_err());
    }
}
