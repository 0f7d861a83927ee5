//! Remote batches: a shipment of another author, as the log keeps it.
//!
//! ```text
//! size    field
//!    1    kind            2, see base::record
//!    1    flags           0
//!    8    seqno           the local tick of the commit
//!    v    scope
//!    v    origin          the author's number in this database; at least 1
//!    v    before          up to this tick the author's commits were known before, and are left out
//!    v    keyspaces       how many: as many as the shipment names
//!   per keyspace:
//!    v      number        what it is here, in the order of the shipment's list
//!    v+*  outcomes        2 bits an op of the shipment, the lowest first: see Outcome
//!    v+*  shipment        base::shipment, the author's bytes unchanged
//! ```
//!
//! The author's tick in the vector becomes that of the shipment's last commit. Outcomes were decided
//! when the shipment was admitted, so a replay compares nothing.

use crate::batch::Op;
use crate::codec::{Decoded, Reader, put_bytes, put_varint};
use crate::error::Corruption;
use crate::foreign::OriginNumber;
use crate::key::{KeyspaceId, ScopeId};
use crate::record::RecordKind;
use crate::shipment::Shipment;
use crate::stamp::Origin;
use crate::tick::Tick;

/// What became of an op of another author. Part of the format, do not change; 3 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Something newer was here, or comes later in the same shipment.
    Lost = 0,
    /// It was stored.
    Won = 1,
    /// It is a put that came after its deletion may have been forgotten: it was not stored, and an
    /// erase of this node follows.
    Late = 2,
}

impl Outcome {
    const fn from_raw(raw: u8) -> Option<Outcome> {
        Some(match raw {
            0 => Outcome::Lost,
            1 => Outcome::Won,
            2 => Outcome::Late,
            _ => return None,
        })
    }
}

/// The outcomes of all ops of a shipment, 2 bits each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    bits: Vec<u8>,
}

/// Outcomes in one byte.
const PER_BYTE: usize = 4;

impl Outcomes {
    /// All of `count` ops have lost.
    pub fn lost(count: usize) -> Outcomes {
        Outcomes { bits: vec![0; count.div_ceil(PER_BYTE)] }
    }

    /// Sets the outcome of the op at `index`.
    pub fn set(&mut self, index: usize, outcome: Outcome) {
        if let Some(byte) = self.bits.get_mut(index / PER_BYTE) {
            let shift = 2 * (index % PER_BYTE);
            *byte = *byte & !(3 << shift) | (outcome as u8) << shift;
        }
    }

    /// The encoded outcomes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }
}

fn outcome_at(bits: &[u8], index: usize) -> Option<Outcome> {
    let byte = bits.get(index / PER_BYTE)?;
    Outcome::from_raw(byte >> (2 * (index % PER_BYTE)) & 3)
}

/// An admitted shipment.
#[derive(Clone, Debug)]
pub struct RemoteBatch<'a> {
    /// The author's number in this database.
    pub number: OriginNumber,
    /// Up to this tick the author's commits were known before.
    pub before: Tick,
    /// Our number of each keyspace that the shipment names, in its order.
    pub keyspaces: Vec<KeyspaceId>,
    /// The shipment.
    pub shipment: Shipment<'a>,
    /// Its bytes, as the author made them.
    pub bytes: &'a [u8],
    outcomes: &'a [u8],
}

/// An author and its number in this database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// Its number.
    pub number: OriginNumber,
    /// Who it is.
    pub origin: Origin,
}

/// One op of an admitted shipment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteOp<'a> {
    /// When the author wrote it.
    pub tick: Tick,
    /// What became of it.
    pub outcome: Outcome,
    /// The op, with our number of its keyspace.
    pub op: Op<'a>,
}

impl<'a> RemoteBatch<'a> {
    /// Who wrote it.
    pub fn author(&self) -> Author {
        Author { number: self.number, origin: self.shipment.origin }
    }

    /// All its ops, those that were left out included: these have lost.
    pub fn ops(&self) -> impl Iterator<Item = RemoteOp<'a>> {
        let commits = self.shipment.commits.iter();
        let ops = commits.flat_map(|commit| {
            let tick = commit.tick;
            commit.ops.clone().map(move |op| (tick, op))
        });
        ops.enumerate().map(|(index, (tick, op))| {
            let outcome = outcome_at(self.outcomes, index).unwrap_or(Outcome::Lost);
            let keyspace = self.keyspace_of(op.keyspace).unwrap_or_default();
            RemoteOp { tick, outcome, op: Op { keyspace, ..op } }
        })
    }

    /// Our number of the author's keyspace `number`.
    fn keyspace_of(&self, number: KeyspaceId) -> Option<KeyspaceId> {
        let names = &self.shipment.keyspaces;
        let place = names.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.keyspaces.get(place).copied()
    }

    /// Takes what follows the scope of a record.
    pub(crate) fn decode(reader: &mut Reader<'a>, scope: ScopeId) -> Decoded<RemoteBatch<'a>> {
        let author = OriginNumber::decode(reader)?;
        let before = Tick::from_raw(reader.varint()?).ok_or(Corruption::OutOfRange)?;
        let count = reader.len()?;
        if count > reader.rest().len() {
            return Err(Corruption::Truncated);
        }
        let number = |reader: &mut Reader<'a>| {
            let number = u32::try_from(reader.varint()?).map_err(|_| Corruption::OutOfRange)?;
            Ok(KeyspaceId(number))
        };
        let keyspaces = (0..count).map(|_| number(reader)).collect::<Decoded<Vec<_>>>()?;
        let outcomes = reader.bytes()?;
        let bytes = reader.bytes()?;
        let shipment = Shipment::decode(bytes)?;
        if author == OriginNumber::LOCAL
            || shipment.scope != scope
            || shipment.keyspaces.len() != count
        {
            return Err(Corruption::OutOfRange);
        }
        let ops = shipment.commits.iter().map(|commit| commit.op_count).sum::<u64>() as usize;
        let is_known = |index| outcome_at(outcomes, index).is_some();
        let padding = (ops..outcomes.len() * PER_BYTE).map(|index| outcome_at(outcomes, index));
        let is_padded = padding.into_iter().all(|bits| bits == Some(Outcome::Lost));
        if outcomes.len() != ops.div_ceil(PER_BYTE) || !is_padded || !(0..ops).all(is_known) {
            return Err(Corruption::OutOfRange);
        }
        Ok(RemoteBatch { number: author, before, keyspaces, shipment, bytes, outcomes })
    }
}

/// What a remote batch says besides the shipment.
#[derive(Clone, Debug)]
pub struct RemoteHeader<'a> {
    /// The local tick of the commit.
    pub seqno: Tick,
    /// The shipment's scope.
    pub scope: ScopeId,
    /// The author's number in this database.
    pub number: OriginNumber,
    /// Up to this tick the author's commits were known before.
    pub before: Tick,
    /// Our number of each keyspace that the shipment names, in its order.
    pub keyspaces: &'a [KeyspaceId],
    /// What became of its ops.
    pub outcomes: &'a Outcomes,
}

/// Appends the record of an admitted shipment.
pub fn encode_remote_batch(out: &mut Vec<u8>, header: &RemoteHeader<'_>, shipment: &[u8]) {
    out.push(RecordKind::RemoteBatch as u8);
    out.push(0);
    out.extend_from_slice(&header.seqno.raw().to_le_bytes());
    put_varint(out, u64::from(header.scope.0));
    put_varint(out, u64::from(header.number.0));
    put_varint(out, header.before.raw());
    put_varint(out, header.keyspaces.len() as u64);
    header.keyspaces.iter().for_each(|number| put_varint(out, u64::from(number.0)));
    put_bytes(out, header.outcomes.as_bytes());
    put_bytes(out, shipment);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{OpKind, Ops};
    use crate::record::Records;
    use crate::shipment::ShipmentWriter;
    use crate::stamp::{Incarnation, NodeId};
    use proptest::prelude::*;

    fn shipment(keys: &[(u32, u8)]) -> Vec<u8> {
        let origin = Origin { node: NodeId([7; 16]), incarnation: Incarnation(9) };
        let mut writer = ShipmentWriter::new(ScopeId::MAIN, origin, None);
        for (number, (keyspace, key)) in keys.iter().enumerate() {
            let mut ops = Vec::new();
            let op = Op { keyspace: KeyspaceId(*keyspace), key: &[*key], kind: OpKind::Put(b"v") };
            op.encode(&mut ops);
            let tick = Tick::from_ms(number as u64 + 1);
            writer.push(tick, 1, &Ops::encoded(&ops), |number| Some(number.0.to_string())).unwrap();
        }
        writer.finish()
    }

    fn outcome(raw: u8) -> Outcome {
        Outcome::from_raw(raw % 3).unwrap()
    }

    fn record(keys: &[(u32, u8)], outcomes: &[u8]) -> Vec<u8> {
        let shipment = shipment(keys);
        let names = Shipment::decode(&shipment).unwrap().keyspaces;
        let ours: Vec<_> = names.iter().map(|(number, _)| KeyspaceId(number.0 + 100)).collect();
        let mut decided = Outcomes::lost(keys.len());
        let given = outcomes.iter().enumerate().take(keys.len());
        given.for_each(|(index, raw)| decided.set(index, outcome(*raw)));
        let header = RemoteHeader {
            seqno: Tick::from_ms(99),
            scope: ScopeId::MAIN,
            number: OriginNumber(3),
            before: Tick::ZERO,
            keyspaces: &ours,
            outcomes: &decided,
        };
        let mut out = Vec::new();
        encode_remote_batch(&mut out, &header, &shipment);
        out
    }

    proptest! {
        #[test]
        fn an_admitted_shipment_comes_back_with_what_became_of_each_op(
            keys in proptest::collection::vec((0u32..4, any::<u8>()), 1..20), outcomes: [u8; 20]
        ) {
            let bytes = record(&keys, &outcomes);
            let decoded: Vec<_> = Records::new(&bytes).collect::<Decoded<_>>().unwrap();
            let remote = decoded[0].remote.as_ref().unwrap();
            prop_assert_eq!((remote.number.0, remote.bytes), (3, &shipment(&keys)[..]));
            prop_assert_eq!(remote.ops().count(), keys.len());
            for (index, (found, (keyspace, key))) in remote.ops().zip(&keys).enumerate() {
                prop_assert_eq!(found.tick, Tick::from_ms(index as u64 + 1));
                prop_assert_eq!(found.outcome, outcome(outcomes[index]));
                prop_assert_eq!((found.op.keyspace.0, found.op.key), (keyspace + 100, &[*key][..]));
            }
            let won = remote.ops().filter(|op| op.outcome == Outcome::Won).count();
            prop_assert_eq!(decoded[0].effects().count(), won);
        }

        #[test]
        fn hostile_records_never_panic(
            keys in proptest::collection::vec((0u32..4, any::<u8>()), 1..9),
            at: prop::sample::Index, to: u8, cut: prop::sample::Index
        ) {
            let mut bytes = record(&keys, &[1; 20]);
            let at = at.index(bytes.len());
            bytes[at] = to;
            let effects = Records::new(&bytes).flatten().map(|record| record.effects().count());
            prop_assert!(effects.sum::<usize>() <= keys.len());
            bytes.truncate(cut.index(bytes.len()));
            prop_assert!(Records::new(&bytes).any(|record| record.is_err()) || bytes.is_empty());
        }
    }
}
