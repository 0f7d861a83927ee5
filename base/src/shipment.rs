//! Shipments: consecutive commits of one author in one scope, as they travel between nodes.
//!
//! A shipment needs nothing beside itself: it names its author, its keyspaces and the tick before
//! its first commit. Whoever receives one stores and forwards its bytes unchanged, so the digest that
//! the author's node computed is checked at every hop.
//!
//! ```text
//! size    field
//!    1    version         1
//!    v    scope
//!   24    origin          node, incarnation: the author
//!    v    previous        tick of the author's commit before the first one here; 0 = there is none
//!    v    keyspaces       how many; at most 65536
//!   per keyspace, ascending by number:
//!    v      number        as in the ops
//!    v+*    name          UTF-8, 1..=255 bytes
//!    v    commits         how many, at least one
//!   per commit:
//!    v      gap           its tick minus the one before it; at least 1
//!    v      op count      at least 1; of all commits together at most 3 << 18
//!    *      ops           base::batch, back to back; their keyspaces are all named above
//!   32    digest          Blake3 of all bytes before it
//! ```

use crate::batch::Ops;
use crate::codec::{Decoded, Reader, put_bytes, put_varint, varint_len};
use crate::error::Corruption;
use crate::key::{KeyspaceId, ScopeId};
use crate::limits::{BATCH_OPS_MAX, KEYSPACE_NAME_LEN_MAX};
use crate::stamp::Origin;
use crate::tick::Tick;

const VERSION: u8 = 1;
const DIGEST_LEN: usize = 32;
/// Bytes of an encoded keyspace at least.
const KEYSPACE_LEN_MIN: usize = 3;
/// Keyspaces that a shipment names at most.
const KEYSPACES_MAX: usize = 1 << 16;
/// Ops of a shipment at most: as many as the commit has that answers a batch of late puts, by an erase
/// and the two entries of a copy each. What is not such an answer has no more than a batch.
pub const SHIPMENT_OPS_MAX: u64 = 3 * BATCH_OPS_MAX;
/// Commits for which room is made before they were seen.
const RESERVED_MAX: usize = 1024;

/// One commit of a shipment.
#[derive(Clone, Debug)]
pub struct ShippedCommit<'a> {
    /// When its author wrote it.
    pub tick: Tick,
    /// How many ops it has; at least one.
    pub op_count: u64,
    /// Its ops; their keyspace numbers are the author's, see [`Shipment::keyspaces`].
    pub ops: Ops<'a>,
}

const _: () = assert!(
    SHIPMENT_OPS_MAX as usize * size_of::<ShippedCommit<'_>>() <= 32 << 20,
    "a commit has an op, so that few bytes do not become many"
);

/// A decoded shipment: every part was checked, and so was the digest.
#[derive(Clone, Debug)]
pub struct Shipment<'a> {
    /// The dataset.
    pub scope: ScopeId,
    /// The author.
    pub origin: Origin,
    /// The author's commit before the first one here, if there was one.
    pub previous: Option<Tick>,
    /// What the author's keyspace numbers mean: number and name, by number.
    pub keyspaces: Vec<(KeyspaceId, &'a str)>,
    /// The commits, at least one, by tick.
    pub commits: Vec<ShippedCommit<'a>>,
}

impl<'a> Shipment<'a> {
    /// The shipment that is `bytes`, all of them.
    pub fn decode(bytes: &'a [u8]) -> Decoded<Shipment<'a>> {
        let len = bytes.len().checked_sub(DIGEST_LEN).ok_or(Corruption::Truncated)?;
        let (body, digest) = bytes.split_at_checked(len).ok_or(Corruption::Truncated)?;
        if blake3::hash(body).as_bytes() != digest {
            return Err(Corruption::DigestMismatch);
        }
        let mut reader = Reader::new(body);
        if reader.u8()? != VERSION {
            return Err(Corruption::UnknownKind);
        }
        let scope = u32::try_from(reader.varint()?).map_err(|_| Corruption::OutOfRange)?;
        let origin = Origin::decode(&mut reader)?;
        let previous = Tick::from_raw(reader.varint()?).ok_or(Corruption::OutOfRange)?;
        let keyspaces = decode_keyspaces(&mut reader)?;
        let commits = decode_commits(&mut reader, previous, &keyspaces)?;
        if !reader.is_empty() {
            return Err(Corruption::TrailingBytes);
        }
        let previous = Some(previous).filter(|tick| *tick > Tick::ZERO);
        Ok(Shipment { scope: ScopeId(scope), origin, previous, keyspaces, commits })
    }

    /// The dataset and the author that `bytes` claim, before anything else in them is checked.
    pub fn author(bytes: &[u8]) -> Decoded<(ScopeId, Origin)> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Corruption::UnknownKind);
        }
        let scope = u32::try_from(reader.varint()?).map_err(|_| Corruption::OutOfRange)?;
        Ok((ScopeId(scope), Origin::decode(&mut reader)?))
    }

    /// The tick of its last commit: where its author's entry in a vector goes.
    pub fn last(&self) -> Tick {
        self.commits.last().map_or(Tick::ZERO, |commit| commit.tick)
    }

    /// The name of the author's keyspace `number`.
    pub fn name_of(&self, number: KeyspaceId) -> Option<&'a str> {
        let found = self.keyspaces.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.keyspaces.get(found).map(|(_, name)| *name)
    }
}

fn decode_keyspaces<'a>(reader: &mut Reader<'a>) -> Decoded<Vec<(KeyspaceId, &'a str)>> {
    let count = reader.len()?;
    if count > KEYSPACES_MAX {
        return Err(Corruption::OutOfRange);
    }
    let mut keyspaces: Vec<(KeyspaceId, &str)> =
        Vec::with_capacity(count.min(reader.rest().len() / KEYSPACE_LEN_MIN));
    for _ in 0..count {
        let number = u32::try_from(reader.varint()?).map_err(|_| Corruption::OutOfRange)?;
        let number = KeyspaceId(number);
        let name = reader.bytes()?;
        if name.is_empty() || name.len() > KEYSPACE_NAME_LEN_MAX {
            return Err(Corruption::OutOfRange);
        }
        let name = std::str::from_utf8(name).map_err(|_| Corruption::OutOfRange)?;
        if keyspaces.last().is_some_and(|(before, _)| *before >= number) {
            return Err(Corruption::OutOfOrder);
        }
        keyspaces.push((number, name));
    }
    Ok(keyspaces)
}

fn decode_commits<'a>(
    reader: &mut Reader<'a>,
    previous: Tick,
    keyspaces: &[(KeyspaceId, &str)],
) -> Decoded<Vec<ShippedCommit<'a>>> {
    let count = reader.len()?;
    let mut commits = Vec::with_capacity(count.min(RESERVED_MAX));
    let (mut tick, mut ops_left) = (previous, SHIPMENT_OPS_MAX);
    for _ in 0..count {
        let gap = reader.varint()?;
        let raw = tick.raw().checked_add(gap).ok_or(Corruption::OutOfRange)?;
        tick = Tick::from_raw(raw).filter(|_| gap > 0).ok_or(Corruption::OutOfRange)?;
        let op_count = reader.varint()?;
        let left = ops_left.checked_sub(op_count).filter(|_| op_count > 0);
        ops_left = left.ok_or(Corruption::OutOfRange)?;
        let ops = Ops::take(reader, op_count)?;
        let is_named = |number| keyspaces.binary_search_by_key(&number, |(of, _)| *of).is_ok();
        if !ops.clone().all(|op| is_named(op.keyspace)) {
            return Err(Corruption::OutOfRange);
        }
        commits.push(ShippedCommit { tick, op_count, ops });
    }
    if commits.is_empty() { Err(Corruption::Truncated) } else { Ok(commits) }
}

/// Puts commits of one author together until they are shipped.
#[derive(Clone, Debug)]
pub struct ShipmentWriter {
    scope: ScopeId,
    origin: Origin,
    previous: Option<Tick>,
    last: Tick,
    keyspaces: Vec<(KeyspaceId, String)>,
    commits: Vec<u8>,
    count: u64,
    op_count: u64,
}

impl ShipmentWriter {
    /// A shipment of commits of `origin` that follow `previous`.
    pub fn new(scope: ScopeId, origin: Origin, previous: Option<Tick>) -> ShipmentWriter {
        let last = previous.unwrap_or(Tick::ZERO);
        let (keyspaces, commits) = (Vec::new(), Vec::new());
        let (count, op_count) = (0, 0);
        ShipmentWriter { scope, origin, previous, last, keyspaces, commits, count, op_count }
    }

    /// Adds the commit at `tick`, which must be above those before it, with its `op_count` encoded
    /// ops. `name_of` is asked for the names of keyspaces that are new here.
    ///
    /// Refuses with `OutOfOrder` a tick that does not ascend, and with `OutOfRange` an op of a
    /// keyspace without a name, a commit without ops, and what is more than [`SHIPMENT_OPS_MAX`]; then
    /// nothing was added.
    pub fn push(
        &mut self,
        tick: Tick,
        op_count: u64,
        ops: &Ops<'_>,
        name_of: impl Fn(KeyspaceId) -> Option<String>,
    ) -> Decoded<()> {
        if tick <= self.last {
            return Err(Corruption::OutOfOrder);
        }
        let all = self.op_count.saturating_add(op_count);
        if op_count == 0 || all > SHIPMENT_OPS_MAX {
            return Err(Corruption::OutOfRange);
        }
        for op in ops.clone() {
            self.name(op.keyspace, &name_of)?;
        }
        put_varint(&mut self.commits, tick.raw() - self.last.raw());
        put_varint(&mut self.commits, op_count);
        self.commits.extend_from_slice(ops.as_bytes());
        self.last = tick;
        self.count += 1;
        self.op_count = all;
        Ok(())
    }

    fn name(
        &mut self,
        number: KeyspaceId,
        name_of: impl Fn(KeyspaceId) -> Option<String>,
    ) -> Decoded<()> {
        if let Err(place) = self.keyspaces.binary_search_by_key(&number, |(number, _)| *number) {
            let name = name_of(number).ok_or(Corruption::OutOfRange)?;
            self.keyspaces.insert(place, (number, name));
        }
        Ok(())
    }

    /// The author.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The tick of the last commit added, or of the one before the first.
    pub fn last(&self) -> Tick {
        self.last
    }

    /// Whether a commit of `op_count` ops goes with those that were added: together they are no more than a batch.
    pub fn has_room(&self, op_count: u64) -> bool {
        self.is_empty() || self.op_count.saturating_add(op_count) <= BATCH_OPS_MAX
    }

    /// Whether no commit was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the shipment as it stands, but for the names.
    pub fn len(&self) -> usize {
        64 + DIGEST_LEN + varint_len(self.count) + self.commits.len()
    }

    /// The encoded shipment.
    pub fn finish(self) -> Vec<u8> {
        let names: usize = self.keyspaces.iter().map(|(_, name)| name.len() + 8).sum();
        let mut out = Vec::with_capacity(self.len() + names);
        out.push(VERSION);
        put_varint(&mut out, u64::from(self.scope.0));
        self.origin.encode(&mut out);
        put_varint(&mut out, self.previous.map_or(0, Tick::raw));
        put_varint(&mut out, self.keyspaces.len() as u64);
        for (number, name) in &self.keyspaces {
            put_varint(&mut out, u64::from(number.0));
            put_bytes(&mut out, name.as_bytes());
        }
        put_varint(&mut out, self.count);
        out.extend_from_slice(&self.commits);
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Op, OpKind};
    use crate::stamp::{Incarnation, NodeId};
    use proptest::prelude::*;

    type Commit = (u64, Vec<(u32, Vec<u8>, Option<Vec<u8>>)>);

    fn origin() -> Origin {
        Origin { node: NodeId([7; 16]), incarnation: Incarnation(9) }
    }

    fn name_of(number: KeyspaceId) -> Option<String> {
        Some(format!("keyspace {}", number.0))
    }

    fn written(previous: u64, commits: &[Commit]) -> Vec<u8> {
        let previous = Tick::from_raw(previous).filter(|tick| *tick > Tick::ZERO);
        let mut writer = ShipmentWriter::new(ScopeId::MAIN, origin(), previous);
        for (gap, ops) in commits {
            let mut bytes = Vec::new();
            for (keyspace, key, value) in ops {
                let kind = value.as_deref().map_or(OpKind::Delete, OpKind::Put);
                Op { keyspace: KeyspaceId(*keyspace), key, kind }.encode(&mut bytes);
            }
            let tick = Tick::from_raw(writer.last().raw() + gap).unwrap();
            writer.push(tick, ops.len() as u64, &Ops::encoded(&bytes), name_of).unwrap();
        }
        writer.finish()
    }

    fn any_commits() -> impl Strategy<Value = Vec<Commit>> {
        let key = proptest::collection::vec(any::<u8>(), 1..12);
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20));
        let ops = proptest::collection::vec((0u32..4, key, value), 1..5);
        proptest::collection::vec((1u64..10_000, ops), 1..6)
    }

    proptest! {
        #[test]
        fn a_shipment_comes_back(previous in 0u64..1 << 40, commits in any_commits()) {
            let bytes = written(previous, &commits);
            let shipment = Shipment::decode(&bytes).unwrap();
            prop_assert_eq!(shipment.previous.map_or(0, Tick::raw), previous);
            prop_assert_eq!(shipment.commits.len(), commits.len());
            let mut tick = previous;
            for (found, (gap, ops)) in shipment.commits.iter().zip(&commits) {
                tick += gap;
                prop_assert_eq!(found.tick.raw(), tick);
                prop_assert_eq!(found.ops.clone().count(), ops.len());
                for (op, (keyspace, key, _)) in found.ops.clone().zip(ops) {
                    prop_assert_eq!((op.keyspace.0, op.key), (*keyspace, &key[..]));
                    let name = name_of(op.keyspace).unwrap();
                    prop_assert_eq!(shipment.name_of(op.keyspace), Some(&name[..]));
                }
            }
            prop_assert_eq!(shipment.last().raw(), tick);
        }

        #[test]
        fn any_change_to_its_bytes_is_refused(commits in any_commits(), at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = written(5, &commits);
            let at = at.index(bytes.len());
            prop_assert!(Shipment::decode(&bytes[..at]).is_err());
            bytes[at] ^= 1 << bit;
            prop_assert!(Shipment::decode(&bytes).is_err());
        }

        /// Also behind a digest that is right.
        #[test]
        fn hostile_bytes_never_panic(mut bytes: Vec<u8>, starts_well: bool) {
            if starts_well {
                bytes.splice(0..0, written(0, &[(1, vec![(0, vec![7], None)])]).into_iter().take(28));
            }
            let digest = blake3::hash(&bytes);
            bytes.extend_from_slice(digest.as_bytes());
            let _ = Shipment::decode(&bytes);
        }
    }

    #[test]
    fn an_op_of_an_unnamed_keyspace_is_refused_by_writer_and_reader() {
        let mut ops = Vec::new();
        Op { keyspace: KeyspaceId(3), key: b"k", kind: OpKind::Delete }.encode(&mut ops);
        let mut writer = ShipmentWriter::new(ScopeId::MAIN, origin(), None);
        let pushed = writer.push(Tick::from_ms(1), 1, &Ops::encoded(&ops), |_| None);
        assert_eq!(pushed, Err(Corruption::OutOfRange));
        assert!(writer.is_empty());
    }

    /// Bytes of a shipment of `commits` with as many ops as they say, each the shortest there is.
    fn tiny(names: u64, commits: &[(u64, u64)]) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, u64::from(ScopeId::MAIN.0));
        origin().encode(&mut out);
        put_varint(&mut out, 0);
        put_varint(&mut out, names);
        for number in 0..names {
            put_varint(&mut out, number);
            put_bytes(&mut out, b"k");
        }
        put_varint(&mut out, commits.len() as u64);
        for (op_count, there) in commits {
            put_varint(&mut out, 1);
            put_varint(&mut out, *op_count);
            let op = Op { keyspace: KeyspaceId(0), key: b"k", kind: OpKind::Delete };
            (0..*there).for_each(|_| op.encode(&mut out));
        }
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }

    /// What costs its sender next to nothing, and the receiver many times its bytes.
    #[test]
    fn commits_of_no_ops_and_too_many_ops_or_names_are_refused() {
        let found = |bytes: &[u8]| Shipment::decode(bytes).map(|found| found.commits.len());
        let (most, half) = (SHIPMENT_OPS_MAX, SHIPMENT_OPS_MAX / 2);
        assert_eq!(found(&tiny(1, &[(half, half), (most - half, most - half)])), Ok(2));
        assert_eq!(found(&tiny(KEYSPACES_MAX as u64, &[(1, 1)])), Ok(1));
        for refused in [
            tiny(1, &[(0, 0)]),
            tiny(1, &[(1, 1), (0, 0), (1, 1)]),
            tiny(1, &[(half, half), (most - half + 1, most - half + 1)]),
            tiny(1, &[(u64::MAX, 1)]),
            tiny(KEYSPACES_MAX as u64 + 1, &[(1, 1)]),
        ] {
            assert_eq!(found(&refused), Err(Corruption::OutOfRange));
        }
    }

    #[test]
    fn a_writer_makes_nothing_that_a_reader_refuses() {
        let op = Op { keyspace: KeyspaceId(0), key: b"k", kind: OpKind::Delete };
        let ops = |count: u64| {
            let mut out = Vec::new();
            (0..count).for_each(|_| op.encode(&mut out));
            out
        };
        let mut writer = ShipmentWriter::new(ScopeId::MAIN, origin(), None);
        let (most, batch) = (ops(SHIPMENT_OPS_MAX), BATCH_OPS_MAX);
        let tick = Tick::from_ms;
        assert_eq!(
            writer.push(tick(1), 0, &Ops::encoded(&[]), name_of),
            Err(Corruption::OutOfRange)
        );
        assert!(writer.has_room(SHIPMENT_OPS_MAX), "alone");
        writer.push(tick(1), 1, &Ops::encoded(&ops(1)), name_of).unwrap();
        assert!(writer.has_room(batch - 1) && !writer.has_room(batch));
        let all = Ops::encoded(&most);
        let pushed = writer.push(tick(2), SHIPMENT_OPS_MAX, &all, name_of);
        assert_eq!(pushed, Err(Corruption::OutOfRange));
        let mut writer = ShipmentWriter::new(ScopeId::MAIN, origin(), None);
        writer.push(tick(1), SHIPMENT_OPS_MAX, &all, name_of).unwrap();
        assert_eq!(Shipment::decode(&writer.finish()).unwrap().commits.len(), 1);
    }
}
