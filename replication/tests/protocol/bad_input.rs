//! What a peer may send that is wrong: a typed error, no panic, nothing changed, memory bounded.
//!
//! A toy peer seals genuine frames with any content, so the lies get past the digest.

use crate::bench::{
    Bench, PEER, Toy, WALL_MS, banned, filled, for_operators, origin, retried, shipment, write,
};
use crate::net::{SCOPE, id};
use base::state::{StateEntry, StateKind, StateWriter};
use base::{Incarnation, NodeId, Origin, Stamp, Tick};
use replication::group::GroupId;
use replication::memory::MemoryStore;
use replication::protocol::Event;
use replication::protocol::bulk::Bulk;
use replication::protocol::frame::{Channel, Extent, FEATURE_ROOTS, FRAME_LEN_MAX, Kind, Lane};
use replication::protocol::message::{
    Entry, Hello, HelloAck, Message, Statement, Subscribe, Want, Wish,
};
use replication::roster::{Life, Member, Role};
use replication::store::{DeltaHead, ExportFile, ExportHead, Store, keyspaces};
use replication::{ProtocolError, Remedy};
use std::time::Duration;

fn meet(toy: Toy, change: fn(&mut Hello)) -> Result<(), ProtocolError> {
    let mut bench = toy.bench();
    let mut hello = toy.hello();
    change(&mut hello);
    let met = bench.say(Message::Hello(hello));
    let next = bench.session.next_frame(bench.now, Channel::Control, &bench.store);
    assert!(met.is_ok() || next.is_err());
    met
}

#[test]
fn a_peer_that_speaks_another_version_is_refused() {
    for toy in Toy::both() {
        let newer = meet(toy, |hello| (hello.protocol_min, hello.protocol_max) = (2, 9));
        assert_eq!(for_operators(newer), "ProtocolVersion");
        meet(toy, |hello| hello.protocol_max = 9).unwrap();
        assert_eq!(banned(meet(toy, |hello| hello.protocol_min = 0)), "Malformed");
        assert_eq!(banned(meet(toy, |hello| hello.proposal = [0; 16])), "Malformed");
    }
}

#[test]
fn a_peer_of_another_group_is_refused() {
    for toy in Toy::both() {
        let store = filled();
        let group: GroupId = [9; 16];
        store.put(base::ScopeId::LOCAL, keyspaces::NODE, b"group", &group).unwrap();
        let mut bench = toy.with(store);
        let hello = Hello { group: [8; 16], ..toy.hello() };
        assert_eq!(for_operators(bench.say(Message::Hello(hello))), "WrongGroup");
        assert_eq!(bench.group.id(), group);
    }
}

#[test]
fn a_peer_with_our_own_id_is_refused() {
    for toy in Toy::both() {
        assert_eq!(for_operators(meet(toy, |hello| hello.node = id(0).0)), "OwnId");
    }
}

#[test]
fn a_peer_that_is_not_who_its_key_says_is_refused() {
    for toy in Toy::both() {
        assert_eq!(for_operators(meet(toy, |hello| hello.node = id(7).0)), "WrongNode");
    }
}

#[test]
fn a_second_directory_with_the_id_of_a_live_peer_is_refused() {
    for toy in Toy::both() {
        let (bench, _) = toy.up(filled());
        let clone = Origin { incarnation: Incarnation(77), ..origin(PEER) };
        let refused = bench.group.enter(clone).unwrap_err();
        assert_eq!((refused.code(), refused.remedy()), ("Clone", Remedy::Operator));
        drop(bench.session);
        bench.group.enter(clone).unwrap();
    }
}

#[test]
fn a_retired_life_is_refused() {
    for toy in Toy::both() {
        let store = filled();
        let life = Life::default().renewed(origin(PEER).incarnation).renewed(Incarnation(900));
        store.put(SCOPE, keyspaces::ROSTER, &Life::key(id(PEER)), &life.encode()).unwrap();
        let mut bench = toy.with(store);
        assert_eq!(for_operators(bench.say(Message::Hello(toy.hello()))), "Clone");
    }
}

#[test]
fn a_deprecated_peer_is_refused() {
    for toy in Toy::both() {
        let mut bench = toy.bench();
        let deprecated = Member::new(Role::Deprecated);
        bench.group.set_member(&bench.store, id(PEER), deprecated).unwrap();
        assert_eq!(for_operators(bench.say(Message::Hello(toy.hello()))), "Fenced");
    }
}

#[test]
fn anything_before_the_hellos_is_refused() {
    for toy in Toy::both() {
        let beat = Message::Heartbeat(Default::default());
        assert_eq!(banned(toy.bench().say(beat)), "Unexpected");
        let ack = HelloAck { group: [1; 16], ..HelloAck::default() };
        assert_eq!(banned(toy.bench().say(Message::HelloAck(ack))), "Unexpected");
        let early = toy.bench().send(Kind::Shipment, Extent::Whole, &shipment(PEER, WALL_MS));
        assert_eq!(banned(early), "Unexpected");
        let mut bench = toy.bench();
        bench.say(Message::Hello(toy.hello())).unwrap();
        assert_eq!(banned(bench.say(Message::Hello(toy.hello()))), "Unexpected");
    }
}

#[test]
fn frames_of_a_wrong_length_are_refused() {
    for toy in Toy::both() {
        for (len, expected) in [(0, "TooShort"), (15, "TooShort"), (FRAME_LEN_MAX + 1, "TooLong")] {
            let mut bench = toy.live();
            let frame = vec![1; len];
            let refused = bench.session.receive(bench.now, Channel::Tail, &frame, &bench.store);
            assert_eq!(banned(refused), expected);
            let after = bench.session.receive(bench.now, Channel::Tail, &frame, &bench.store);
            assert_eq!(retried(after), "Over");
        }
    }
}

/// A peer that says again and again that we lost something can not make us live for ever anew.
#[test]
fn a_node_is_not_renewed_without_end() {
    for toy in Toy::both() {
        let (mut bench, _) = toy.up(filled());
        let first = bench.store.origin();
        for _ in 0..3 {
            let own = bench.store.origin();
            bench.say(beyond(own)).unwrap();
            assert_ne!(bench.store.origin(), own);
            bench = bench.again();
        }
        let present = bench.store.origin();
        assert_eq!(banned(bench.say(beyond(present))), "ConfirmBeyond");
        assert_eq!(bench.store.origin(), present);
        let renew = |ended| bench.group.renew(&bench.store, ended).unwrap();
        assert_eq!(renew(first), present, "another session noticed it before");
        // Who is shut out and let in again begins anew however often.
        assert_ne!(renew(present), present);
    }
}

/// The peer has more of `own` than `own` has written.
fn beyond(own: Origin) -> Message {
    let tick = Tick::from_ms(WALL_MS + 1).raw();
    let durable = vec![Entry { node: own.node.0, incarnation: own.incarnation.0, tick }];
    let (node, incarnation) = (id(PEER).0, origin(PEER).incarnation.0);
    Message::Statement(Statement { scope: 1, node, incarnation, durable, applied: vec![] })
}

#[test]
fn ticks_in_the_far_future_park_the_stream_and_in_the_far_past_do_not() {
    for toy in Toy::both() {
        let mut bench = toy.live();
        bench.send(Kind::Shipment, Extent::Whole, &shipment(PEER, WALL_MS + 3_600_000)).unwrap();
        let by_ms = 3_600_000;
        assert!(bench.session.take_events().contains(&Event::Parked { by_ms }));
        assert_eq!(bench.vector().get(origin(PEER)), Tick::ZERO);
        // The clock was not dragged along.
        write(&bench.store, "k", "2");
        assert!(bench.vector().latest().ms() <= WALL_MS);
        let mut bench = toy.live();
        bench.send(Kind::Shipment, Extent::Whole, &shipment(PEER, 5)).unwrap();
        assert!(bench.vector().get(origin(PEER)) > Tick::ZERO);
    }
}

#[test]
fn another_scope_is_refused() {
    for toy in Toy::both() {
        let (mut bench, _) = toy.up(filled());
        let wish = Subscribe { scope: 0, round: 1, vector: vec![] };
        assert_eq!(banned(bench.say(Message::Subscribe(wish))), "WrongScope");
    }
}

#[test]
fn a_shipment_or_state_that_nobody_asked_for_is_refused() {
    for toy in Toy::both() {
        let mut bench = toy.live();
        let head = Bulk::DeltaHead(DeltaHead::default()).encode(1);
        assert_eq!(banned(bench.send(Kind::DeltaHead, Extent::Whole, &head)), "Unexpected");
        let mut bench = toy.live();
        assert_eq!(
            banned(bench.send(Kind::TailStart, Extent::Whole, &99u32.to_le_bytes())),
            "Unexpected"
        );
        let mut bench = toy.live();
        let ahead = Bulk::DeltaEnd { chunks: 0 }.encode(99);
        assert_eq!(banned(bench.send(Kind::DeltaEnd, Extent::Whole, &ahead)), "Unexpected");
    }
}

/// An empty node that asked for tables, and the round of its wish.
fn asked_for_tables(toy: Toy) -> (Bench, u32) {
    let store = MemoryStore::new(id(0), origin(0).incarnation, WALL_MS);
    let (bench, said) = toy.up(store);
    let round = said.iter().find_map(|message| match message {
        Message::Want(want) if want.wish() == Wish::Tables => Some(want.round),
        _ => None,
    });
    (bench, round.unwrap())
}

fn tables(bytes: &[u8]) -> ExportHead {
    let file = ExportFile { id: 3, len: bytes.len() as u64, root: *blake3::hash(bytes).as_bytes() };
    ExportHead { files: vec![file], ..ExportHead::default() }
}

#[test]
fn pieces_of_a_file_that_are_wrong_missing_doubled_or_endless_are_refused() {
    for toy in Toy::both_with(FEATURE_ROOTS) {
        let file = vec![7; 1000];
        let pieces: [(&str, u64, u64, usize); 5] = [
            ("missing", 3, 100, 100),
            ("of another file", 4, 0, 100),
            ("endless", 3, 0, 1001),
            ("empty", 3, 0, 0),
            ("far away", 3, u64::MAX, 10),
        ];
        for (what, id, offset, len) in pieces {
            let (mut bench, round) = asked_for_tables(toy);
            let head = Bulk::TablesHead(tables(&file)).encode(round);
            bench.send(Kind::TablesHead, Extent::Whole, &head).unwrap();
            let bytes = vec![7; len];
            let piece = Bulk::FileBytes { id, offset, bytes: &bytes }.encode(round);
            let refused = banned(bench.send(Kind::FileBytes, Extent::Whole, &piece));
            assert!(matches!(refused, "OutOfPlace" | "Unexpected"), "{what}: {refused}");
        }
        let (mut bench, round) = asked_for_tables(toy);
        let head = Bulk::TablesHead(tables(&file)).encode(round);
        bench.send(Kind::TablesHead, Extent::Whole, &head).unwrap();
        let piece = Bulk::FileBytes { id: 3, offset: 0, bytes: &file[..500] }.encode(round);
        bench.send(Kind::FileBytes, Extent::Whole, &piece).unwrap();
        assert_eq!(
            banned(bench.send(Kind::FileBytes, Extent::Whole, &piece)),
            "OutOfPlace",
            "doubled"
        );
    }
}

#[test]
fn a_file_with_other_bytes_than_promised_is_not_installed() {
    for toy in Toy::both_with(FEATURE_ROOTS) {
        let (mut bench, round) = asked_for_tables(toy);
        let head = Bulk::TablesHead(tables(&[7; 1000])).encode(round);
        bench.send(Kind::TablesHead, Extent::Whole, &head).unwrap();
        let piece = Bulk::FileBytes { id: 3, offset: 0, bytes: &[8; 1000] }.encode(round);
        assert_eq!(banned(bench.send(Kind::FileBytes, Extent::Whole, &piece)), "Malformed");
        assert!(bench.store.is_empty(SCOPE).unwrap());
    }
}

#[test]
fn tables_from_the_far_future_are_not_taken() {
    for toy in Toy::both_with(FEATURE_ROOTS) {
        let (mut bench, round) = asked_for_tables(toy);
        let dropped = Tick::from_ms(WALL_MS + 3_600_000);
        let state = DeltaHead { dropped, ..DeltaHead::default() };
        let head = Bulk::TablesHead(ExportHead { state, ..tables(&[1]) }).encode(round);
        bench.send(Kind::TablesHead, Extent::Whole, &head).unwrap();
        assert!(matches!(bench.session.take_events()[..], [.., Event::Parked { .. }]));
        assert!(bench.group.try_take(NodeId([50; 16])), "the right was given back");
    }
}

/// A node that asked for a delta, and the round of its wish.
pub(crate) fn asked_for_delta(toy: Toy) -> (Bench, u32) {
    let (mut bench, said) = toy.up(filled());
    let round = said.iter().find_map(|message| match message {
        Message::Subscribe(wish) => Some(wish.round),
        _ => None,
    });
    let offer = replication::protocol::message::Offer {
        scope: 1,
        round: round.unwrap(),
        answer: 1,
        floor: vec![],
    };
    bench.say(Message::Offer(offer)).unwrap();
    let Some(Message::Want(want)) = bench.hear() else { panic!("no wish") };
    assert_eq!(want.wish(), Wish::CatchUp);
    (bench, want.round)
}

pub(crate) fn chunk(keys: &[&str]) -> Vec<u8> {
    let mut writer = StateWriter::new(SCOPE);
    for key in keys {
        let stamp = Stamp { tick: Tick::from_ms(WALL_MS), origin: origin(PEER) };
        let (key, kind) = (key.as_bytes(), StateKind::Put(b"v"));
        writer.push(&StateEntry { keyspace: "k", key, stamp, kind });
    }
    writer.finish()
}

/// That it goes on is believed for an hour, and no longer.
#[test]
fn a_delta_without_an_end_and_without_news_is_given_up() {
    for toy in Toy::both() {
        let (mut bench, round) = asked_for_delta(toy);
        let head = Bulk::DeltaHead(DeltaHead::default()).encode(round);
        bench.send(Kind::DeltaHead, Extent::Whole, &head).unwrap();
        let says = |bench: &mut Bench, chunk: &[u8]| {
            bench.now += Duration::from_secs(20);
            let chunk = Bulk::DeltaChunk(chunk).encode(round);
            bench.send(Kind::DeltaChunk, Extent::Whole, &chunk).unwrap();
            bench.beat();
            bench
                .hear_all()
                .iter()
                .any(|said| matches!(said, Message::Subscribe(_) | Message::Want(_)))
        };
        assert!((0..150).all(|_| !says(&mut bench, b"")));
        assert!(!says(&mut bench, &chunk(&["a"])), "news");
        assert!((0..150).all(|_| !says(&mut bench, b"")));
        assert!((0..40).any(|_| says(&mut bench, b"")), "it asks anew");
        assert_eq!(bench.store.get("k", b"a").unwrap(), None);
    }
}

#[test]
fn chunks_of_a_delta_that_are_wrong_missing_or_doubled_are_refused_and_nothing_counts() {
    for toy in Toy::both() {
        let (a, b) = (chunk(&["a", "b"]), chunk(&["c"]));
        let mut damaged = b.clone();
        damaged[9] ^= 1;
        let cases: [(&str, Vec<&[u8]>, u64); 5] = [
            ("missing", vec![&a], 2),
            ("doubled", vec![&a, &a], 2),
            ("reordered", vec![&b, &a], 2),
            ("damaged", vec![&a, &damaged], 2),
            ("none", vec![], 1),
        ];
        for (what, chunks, told) in cases {
            let (mut bench, round) = asked_for_delta(toy);
            let head = Bulk::DeltaHead(DeltaHead::default()).encode(round);
            bench.send(Kind::DeltaHead, Extent::Whole, &head).unwrap();
            let mut done = Ok(());
            for chunk in chunks {
                if done.is_ok() {
                    done = bench.send(
                        Kind::DeltaChunk,
                        Extent::Whole,
                        &Bulk::DeltaChunk(chunk).encode(round),
                    );
                }
            }
            let end = Bulk::DeltaEnd { chunks: told }.encode(round);
            let done = done.and_then(|()| bench.send(Kind::DeltaEnd, Extent::Whole, &end));
            assert!(matches!(banned(done), "Malformed" | "OutOfPlace"), "{what}");
            assert_eq!(bench.store.get("k", b"a").unwrap(), None, "{what}");
        }
        let (mut bench, round) = asked_for_delta(toy);
        let head = Bulk::DeltaHead(DeltaHead::default()).encode(round);
        bench.send(Kind::DeltaHead, Extent::Whole, &head).unwrap();
        for chunk in [&a, &b] {
            bench
                .send(Kind::DeltaChunk, Extent::Whole, &Bulk::DeltaChunk(chunk).encode(round))
                .unwrap();
        }
        bench
            .send(Kind::DeltaEnd, Extent::Whole, &Bulk::DeltaEnd { chunks: 2 }.encode(round))
            .unwrap();
        assert!(bench.store.get("k", b"c").unwrap().is_some());
    }
}

#[test]
fn a_payload_in_pieces_holds_no_more_than_came() {
    for toy in Toy::both() {
        let mut bench = toy.live();
        let piece = |total: u32, offset: u32, len: usize| {
            [&total.to_le_bytes()[..], &offset.to_le_bytes()[..], &vec![0; len]].concat()
        };
        let total = 60 << 20;
        bench.send(Kind::Shipment, Extent::Piece, &piece(total, 0, 1000)).unwrap();
        assert_eq!(bench.session.held_bytes(), 1000);
        let mut bench = toy.live();
        let refused = bench.send(Kind::Shipment, Extent::Piece, &piece(u32::MAX, 0, 1000));
        assert_eq!(banned(refused), "TooLong");
    }
}

#[test]
fn a_peer_that_only_asks_is_stopped() {
    for toy in Toy::both() {
        let (mut bench, _) = toy.up(filled());
        bench.store.trim_log(0);
        let wish = |round| Message::Subscribe(Subscribe { scope: 1, round, vector: vec![] });
        let refused = (1..100).find_map(|round| bench.say(wish(round)).err());
        assert_eq!(banned(refused.map_or(Ok(()), Err)), "Unexpected");
    }
}

#[test]
fn a_peer_that_falls_silent_is_left() {
    for toy in Toy::both() {
        let (mut bench, _) = toy.up(filled());
        bench.now += Duration::from_secs(31);
        let left = bench.session.next_frame(bench.now, Channel::Control, &bench.store);
        assert_eq!(retried(left.map(drop)), "Silent");
        // Also one that never says hello.
        let mut bench = toy.bench();
        bench.hear_all();
        bench.now += Duration::from_secs(11);
        let left = bench.session.next_frame(bench.now, Channel::Control, &bench.store);
        assert_eq!(retried(left.map(drop)), "Silent");
    }
}

#[test]
fn two_histories_of_one_author_are_an_incident() {
    for toy in Toy::both() {
        let mut bench = toy.live();
        bench.send(Kind::Shipment, Extent::Whole, &shipment(PEER, WALL_MS)).unwrap();
        let other = bench.send(Kind::Shipment, Extent::Whole, &shipment(PEER, WALL_MS + 5));
        assert_eq!(for_operators(other), "Fork");
        let is_incident = |event: &Event| matches!(event, Event::Incident(_));
        assert!(bench.session.take_events().iter().any(is_incident));
    }
}

/// What only the rejoiner has must not vanish with what it forgets.
#[test]
fn a_node_below_the_floor_gets_no_state_before_all_it_has_is_here() {
    for toy in Toy::both() {
        let mut bench = toy.live();
        let theirs = shipment(PEER, WALL_MS);
        let tick = base::Shipment::decode(&theirs).unwrap().last();
        let entry = Entry {
            node: origin(PEER).node.0,
            incarnation: origin(PEER).incarnation.0,
            tick: tick.raw(),
        };
        let (wish, vector) = (Wish::Rejoin as u8, vec![entry]);
        let want = Want { scope: 1, round: 1, wish, vector, file: 0, offset: 0 };
        bench.say(Message::Want(want)).unwrap();
        let next = |bench: &mut Bench| {
            bench.session.next_frame(bench.now, Channel::Bulk, &bench.store).unwrap()
        };
        assert_eq!(next(&mut bench), None);
        bench.send(Kind::Shipment, Extent::Whole, &theirs).unwrap();
        let frame = next(&mut bench).unwrap();
        let frame = Lane::new(Channel::Bulk).open(&frame).unwrap();
        let Ok((1, Bulk::DeltaHead(head))) = Bulk::decode(frame.kind, &frame.payload) else {
            panic!("no head of a delta")
        };
        assert!(head.vector.covers(origin(PEER), tick));
    }
}
