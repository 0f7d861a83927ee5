//! Frames that are damaged on their way, replayed or reordered; what the digest of a frame does not cover, the
//! payload's own does.

use crate::bad_input::{asked_for_delta, chunk};
use crate::bench::{Bench, PEER, Toy, WALL_MS, banned, origin, shipment};
use base::Tick;
use replication::ProtocolError;
use replication::protocol::bulk::Bulk;
use replication::protocol::frame::{Channel, Extent, Kind};
use replication::store::{DeltaHead, Store};

/// The bit of a frame whose digest leaves out what the payload's own covers.
const SELF_VERIFYING: u8 = 4;

/// The second frame of a tail: a shipment of the peer.
fn shipped(toy: Toy) -> Vec<u8> {
    let mut lane = toy.lane(Channel::Tail);
    lane.seal(Kind::TailStart, Extent::Whole, &[&[0; 4]]);
    let frame = lane.seal(Kind::Shipment, Extent::Whole, &[&shipment(PEER, WALL_MS)]);
    assert_eq!(frame[2] == SELF_VERIFYING, toy.verifies_itself());
    frame
}

fn receive(bench: &mut Bench, channel: Channel, frame: &[u8]) -> Result<(), ProtocolError> {
    bench.session.receive(bench.now, channel, frame, &bench.store)
}

/// Calls `refuse` with what becomes of `frame` if it is cut anywhere, or any one bit is flipped.
fn each_damaged(frame: &[u8], refuse: impl Fn(&[u8])) {
    (0..frame.len()).for_each(|cut| refuse(&frame[..cut]));
    for bit in 0..frame.len() * 8 {
        let mut bad = frame.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        refuse(&bad);
    }
}

#[test]
fn a_frame_truncated_anywhere_or_with_any_bit_flipped_changes_nothing() {
    for toy in Toy::both() {
        let frame = shipped(toy);
        let before = toy.live().vector();
        each_damaged(&frame, |bad| {
            let mut bench = toy.live();
            banned(receive(&mut bench, Channel::Tail, bad));
            assert_eq!(bench.vector(), before);
        });
        let mut bench = toy.live();
        receive(&mut bench, Channel::Tail, &frame).unwrap();
        assert_ne!(bench.vector(), before);
    }
}

/// Also if it comes together with a good one, which counts.
#[test]
fn a_damaged_frame_does_not_count_with_those_that_came_at_once() {
    for toy in Toy::both() {
        let mut lane = toy.lane(Channel::Tail);
        lane.seal(Kind::TailStart, Extent::Whole, &[&[0; 4]]);
        let good = lane.seal(Kind::Shipment, Extent::Whole, &[&shipment(2, WALL_MS)]);
        let second = lane.seal(Kind::Shipment, Extent::Whole, &[&shipment(PEER, WALL_MS)]);
        each_damaged(&second, |bad| {
            let mut bench = toy.live();
            let frames = [&good[..], bad];
            let Bench { session, store, now, .. } = &mut bench;
            banned(session.receive_all(*now, Channel::Tail, &frames, store));
            let vector = bench.vector();
            assert!(vector.get(origin(2)) > Tick::ZERO);
            assert_eq!(vector.get(origin(PEER)), Tick::ZERO);
        });
    }
}

#[test]
fn a_chunk_truncated_anywhere_or_with_any_bit_flipped_changes_nothing() {
    let chunk = chunk(&["a"]);
    for toy in Toy::both() {
        let asked = || {
            let (mut bench, round) = asked_for_delta(toy);
            let head = Bulk::DeltaHead(DeltaHead::default()).encode(round);
            bench.send(Kind::DeltaHead, Extent::Whole, &head).unwrap();
            (bench, round)
        };
        let (mut bench, round) = asked();
        let head = Bulk::DeltaHead(DeltaHead::default()).encode(round);
        let mut lane = toy.lane(Channel::Bulk);
        lane.seal(Kind::DeltaHead, Extent::Whole, &[&head]);
        let payload = Bulk::DeltaChunk(&chunk).encode(round);
        let frame = lane.seal(Kind::DeltaChunk, Extent::Whole, &[&payload]);
        assert_eq!(frame[2] == SELF_VERIFYING, toy.verifies_itself());
        each_damaged(&frame, |bad| {
            let (mut bench, _) = asked();
            banned(receive(&mut bench, Channel::Bulk, bad));
            assert_eq!(bench.store.get("k", b"a").unwrap(), None);
        });
        let end = Bulk::DeltaEnd { chunks: 1 }.encode(round);
        let end = lane.seal(Kind::DeltaEnd, Extent::Whole, &[&end]);
        receive(&mut bench, Channel::Bulk, &frame).unwrap();
        receive(&mut bench, Channel::Bulk, &end).unwrap();
        assert!(bench.store.get("k", b"a").unwrap().is_some());
    }
}

#[test]
fn frames_that_are_replayed_or_reordered_are_refused() {
    for toy in Toy::both() {
        let mut bench = toy.live();
        let mut lane = toy.lane(Channel::Tail);
        lane.seal(Kind::TailStart, Extent::Whole, &[&[0; 4]]);
        let first = lane.seal(Kind::Shipment, Extent::Whole, &[&shipment(PEER, WALL_MS)]);
        let second = lane.seal(Kind::Shipment, Extent::Whole, &[&shipment(2, WALL_MS)]);
        receive(&mut bench, Channel::Tail, &first).unwrap();
        assert_eq!(banned(receive(&mut bench, Channel::Tail, &first)), "FrameDamaged");
        let mut bench = toy.live();
        assert_eq!(banned(receive(&mut bench, Channel::Tail, &second)), "FrameDamaged");
    }
}

#[test]
fn a_shipment_that_is_damaged_behind_a_good_frame_is_refused() {
    let good = shipment(PEER, WALL_MS);
    for toy in Toy::both() {
        for at in 0..good.len() {
            let mut bench = toy.live();
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            let done = bench.send(Kind::Shipment, Extent::Whole, &bad);
            assert!(matches!(banned(done), "Malformed" | "WrongScope"), "byte {at}");
            assert_eq!(bench.vector().get(origin(PEER)), Tick::ZERO);
        }
    }
}

/// What only one of the two understands is not agreed on.
#[test]
fn a_payload_for_its_own_digest_is_refused_where_that_was_not_agreed() {
    let [plain, usual] = Toy::both();
    let mut bench = plain.live();
    assert_eq!(banned(receive(&mut bench, Channel::Tail, &shipped(usual))), "UnknownFrame");
    let mut bench = usual.live();
    receive(&mut bench, Channel::Tail, &shipped(plain)).unwrap();
    assert!(bench.vector().get(origin(PEER)) > Tick::ZERO);
}
