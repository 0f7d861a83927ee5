//! Payloads of a few bytes that would become many: what they say they hold is bounded, whatever they cost.

use crate::bad_input::asked_for_delta;
use crate::bench::{Bench, PEER, Toy, WALL_MS, banned, origin};
use crate::net::SCOPE;
use base::codec::{put_bytes, put_varint};
use base::limits::BATCH_OPS_MAX;
use base::shipment::SHIPMENT_OPS_MAX;
use base::state::{CHUNK_ENTRIES_MAX, StateEntry, StateKind, StateWriter};
use base::{KeyspaceId, Op, OpKind, Stamp, Tick};
use replication::ProtocolError;
use replication::protocol::bulk::Bulk;
use replication::protocol::frame::{Extent, Kind, PAYLOAD_LEN_MAX};
use replication::store::DeltaHead;

/// A shipment of the peer that names `names` keyspaces, with commits of so many ops, the shortest there are.
fn shipment(names: u64, commits: impl ExactSizeIterator<Item = u64>) -> Vec<u8> {
    let mut out = vec![1];
    put_varint(&mut out, u64::from(SCOPE.0));
    origin(PEER).encode(&mut out);
    put_varint(&mut out, 0);
    put_varint(&mut out, names);
    for number in 0..names {
        put_varint(&mut out, number);
        put_bytes(&mut out, format!("k{number}").as_bytes());
    }
    put_varint(&mut out, commits.len() as u64);
    let mut gap = Tick::from_ms(WALL_MS).raw();
    for count in commits {
        put_varint(&mut out, gap);
        put_varint(&mut out, count);
        let op = Op { keyspace: KeyspaceId(0), key: b"k", kind: OpKind::Delete };
        (0..count).for_each(|_| op.encode(&mut out));
        gap = 1;
    }
    sealed(out)
}

fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let digest = blake3::hash(&body);
    body.extend_from_slice(digest.as_bytes());
    body
}

/// Sends a payload in pieces, as long ones go.
fn send(bench: &mut Bench, kind: Kind, payload: &[u8]) -> Result<(), ProtocolError> {
    const PIECE: usize = 512 << 10;
    if payload.len() <= PAYLOAD_LEN_MAX {
        return bench.send(kind, Extent::Whole, payload);
    }
    let total = (payload.len() as u32).to_le_bytes();
    for (number, piece) in payload.chunks(PIECE).enumerate() {
        let offset = ((number * PIECE) as u32).to_le_bytes();
        bench.send(kind, Extent::Piece, &[&total[..], &offset, piece].concat())?;
    }
    Ok(())
}

/// Two bytes are a commit of nothing, four a deletion, and three a name.
#[test]
fn a_shipment_that_would_swell_is_refused() {
    let half = SHIPMENT_OPS_MAX / 2;
    for toy in Toy::both() {
        for (what, bytes) in [
            ("commits of nothing", shipment(1, std::iter::repeat_n(0, 1 << 20))),
            ("one commit of nothing", shipment(1, [1, 0].into_iter())),
            ("ops in one commit", shipment(1, [SHIPMENT_OPS_MAX + 1].into_iter())),
            ("ops in all commits", shipment(1, [half, half + 1].into_iter())),
            ("names", shipment(1 << 17, [1].into_iter())),
        ] {
            let mut bench = toy.live();
            let before = bench.vector();
            assert_eq!(banned(send(&mut bench, Kind::Shipment, &bytes)), "Malformed", "{what}");
            assert_eq!((bench.vector(), bench.session.held_bytes()), (before, 0), "{what}");
        }
        let mut bench = toy.live();
        let most = shipment(1, [BATCH_OPS_MAX].into_iter());
        send(&mut bench, Kind::Shipment, &most).unwrap();
        assert!(bench.vector().get(origin(PEER)) > Tick::ZERO);
    }
}

/// Entries take five bytes, names two.
#[test]
fn a_chunk_of_a_delta_that_would_swell_is_refused() {
    let stamp = Stamp { tick: Tick::from_ms(WALL_MS), origin: origin(PEER) };
    let entry = StateEntry { keyspace: "k", key: b"k", stamp, kind: StateKind::Delete };
    let mut writer = StateWriter::new(SCOPE);
    (0..=CHUNK_ENTRIES_MAX).for_each(|_| writer.push(&entry));
    let mut names = vec![1];
    put_varint(&mut names, u64::from(SCOPE.0));
    put_varint(&mut names, CHUNK_ENTRIES_MAX as u64 + 1);
    (0..=CHUNK_ENTRIES_MAX).for_each(|_| put_bytes(&mut names, b"k"));
    for (what, chunk) in [("entries", writer.finish()), ("names", sealed(names))] {
        for toy in Toy::both() {
            let (mut bench, round) = asked_for_delta(toy);
            let head = Bulk::DeltaHead(DeltaHead::default()).encode(round);
            bench.send(Kind::DeltaHead, Extent::Whole, &head).unwrap();
            let chunk = Bulk::DeltaChunk(&chunk).encode(round);
            let refused = send(&mut bench, Kind::DeltaChunk, &chunk);
            assert_eq!(banned(refused), "Malformed", "{what}");
        }
    }
}
