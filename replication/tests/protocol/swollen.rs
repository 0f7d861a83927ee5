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
use replication::protocol::Event;
use replication::protocol::audit::message::{Head, Say};
use replication::protocol::bulk::Bulk;
use replication::protocol::frame::{Channel, Extent, Kind, PAYLOAD_LEN_MAX};
use replication::reconcile::message::FRAME_LEN_MAX;
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

/// A frame of ranges that take eight bytes each and are as long as names may be, because they have most in
/// common.
fn ranges(count: u32) -> Vec<u8> {
    const COMMON: usize = 65_000;
    let mut out = vec![1, 1];
    put_bytes(&mut out, &[b'n'; COMMON]);
    for number in 0..count {
        out.push(0);
        put_varint(&mut out, COMMON as u64);
        put_bytes(&mut out, &number.to_be_bytes()[1..]);
    }
    out
}

/// Bytes that this process has held at the most, where the system tells.
fn held_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    most.map_or(0, |most| most.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}

/// All ranges at once would be three gigabytes. It is no lie: they are compared, one after the other.
#[test]
fn a_frame_of_a_comparison_that_would_swell_is_taken_range_by_range() {
    let frame = ranges(23_000);
    assert!(frame.len() <= FRAME_LEN_MAX, "{}", frame.len());
    // The peer has the lower id: it opens.
    let mut bench = Bench::live_as(2);
    let before = held_max();
    for say in [Say::Head(Head::default()), Say::Compare(&frame)] {
        send(&mut bench, say.kind(), &say.encode(1)).unwrap();
    }
    let mut said = Vec::new();
    while let Some(frame) =
        bench.session.next_frame(bench.now, Channel::Reconcile, &bench.store).unwrap()
    {
        said.push(frame[1]);
    }
    assert_eq!(said, [Kind::AuditHead as u8]);
    let is_through = |event: &Event| matches!(event, Event::Audited(_));
    assert!(bench.session.take_events().iter().any(is_through));
    let held = held_max() - before;
    assert!(held < 256 << 20, "{held} bytes");
}
