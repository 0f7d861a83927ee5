//! Packed payloads of a peer that lies about them, in frames that verify.

use crate::bench::{PEER, Toy, WALL_MS, banned, forged, origin, shipment};
use base::Tick;
use replication::protocol::frame::{Channel, FEATURE_PACKED, Kind, PAYLOAD_LEN_MAX};

/// A few bytes that become 64 MiB, behind every claim of how many they are.
#[test]
fn a_packed_bomb_is_refused() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let most = PAYLOAD_LEN_MAX as u32;
    let claims = [(0, "FrameDamaged"), (1000, "FrameDamaged"), (most, "FrameDamaged")];
    let claims: Vec<_> =
        claims.into_iter().chain([(most + 1, "TooLong"), (u32::MAX, "TooLong")]).collect();
    for toy in Toy::both_with(FEATURE_PACKED) {
        for (len, expected) in &claims {
            let mut bench = toy.live();
            let frame = forged(Kind::Shipment, 1, *len, &bomb);
            let refused = bench.session.receive(bench.now, Channel::Tail, &frame, &bench.store);
            assert_eq!(banned(refused), *expected, "{len} {toy:?}");
            assert_eq!(bench.session.held_bytes(), 0);
        }
        // It is the bomb that is refused: the same with a shipment inside is taken.
        let mut bench = toy.live();
        let good = shipment(PEER, WALL_MS);
        let packed = zstd::bulk::compress(&good, 1).unwrap();
        let frame = forged(Kind::Shipment, 1, good.len() as u32, &packed);
        bench.session.receive(bench.now, Channel::Tail, &frame, &bench.store).unwrap();
        assert!(bench.vector().get(origin(PEER)) > Tick::ZERO);
    }
}
