//! A peer that invents authors: in what it says that others have, and in what it passes on. What is remembered
//! of them is bounded, and nobody else is turned away for it.

use crate::bench::{Bench, PEER, Toy, WALL_MS, origin, retried, write};
use crate::net::{SCOPE, id};
use base::{Incarnation, NodeId, Origin, Tick, Vector};
use replication::memory::MemoryStore;
use replication::protocol::Channel;
use replication::protocol::bulk::Bulk;
use replication::protocol::frame::{Extent, Kind};
use replication::protocol::message::{Answer, Message, Offer, Statement};
use replication::roster::{Member, Role};
use replication::store::{DeltaHead, Store};
use std::time::Duration;

const THIRD: usize = 2;

/// An author that nobody has heard of.
fn invented(number: usize) -> Origin {
    let mut node = [0xee; 16];
    node[..8].copy_from_slice(&(number as u64).to_be_bytes());
    Origin { node: NodeId(node), incarnation: Incarnation(1) }
}

/// As many as a message holds, other ones each time.
fn many(time: usize) -> Vector {
    let first = time * Vector::LEN_MAX;
    (first..first + Vector::LEN_MAX).map(|of| (invented(of), Tick::from_ms(WALL_MS))).collect()
}

fn statement(of: usize, durable: &Vector) -> Message {
    let says = Statement::of(SCOPE, origin(of), durable, &Vector::default()).unwrap();
    Message::Statement(says)
}

/// Shipments of one author, of one commit each.
fn shipments(of: Origin, count: usize) -> Vec<Vec<u8>> {
    let store = MemoryStore::new(of.node, of.incarnation, WALL_MS);
    let mut tail = store.tail(SCOPE, &Vector::default()).unwrap();
    let next = |at| {
        let after = store.applied(SCOPE);
        write(&store, &format!("{at}"), "of somebody");
        tail.next(&after, 1).unwrap().unwrap().bytes
    };
    (0..count).map(next).collect()
}

#[test]
fn authors_that_statements_invent_are_not_remembered_without_end() {
    for toy in Toy::both() {
        let mut bench = toy.live();
        bench.group.set_member(&bench.store, id(THIRD), Member::new(Role::Author)).unwrap();
        for time in 0..3 {
            bench.say(statement(PEER, &many(time))).unwrap();
            bench.say(statement(THIRD, &many(time))).unwrap();
        }
        let health = bench.group.health(&bench.store, 0);
        assert!(health.peers[&id(PEER)].confirmed.len() <= Vector::LEN_MAX);
        // What it said of others is said on: in words that fit a message.
        bench.now += Duration::from_secs(2);
        let said = bench.hear_all();
        let of_third = said.iter().filter_map(|message| match message {
            Message::Statement(says) if says.node == id(THIRD).0 => Some(says.durable.len()),
            _ => None,
        });
        assert_eq!(of_third.collect::<Vec<_>>(), [Vector::LEN_MAX]);
        for channel in Channel::ALL {
            bench.session.next_frame(bench.now, channel, &bench.store).unwrap();
        }
    }
}

#[test]
fn authors_that_shipments_invent_are_left_out_and_others_go_on() {
    for toy in Toy::both() {
        let mut bench = toy.live();
        let ship = |bench: &mut Bench, bytes: &[u8]| {
            bench.send(Kind::Shipment, Extent::Whole, bytes).unwrap();
        };
        let mut honest = shipments(origin(PEER), 2).into_iter();
        ship(&mut bench, &honest.next().unwrap());
        let count = Vector::LEN_MAX + 1;
        for number in 0..count {
            // The second one would leave a gap behind the first.
            shipments(invented(number), 2).iter().for_each(|bytes| ship(&mut bench, bytes));
        }
        assert_eq!(bench.vector().len(), Vector::OTHERS_MAX);
        let last = bench.vector().get(origin(PEER));
        ship(&mut bench, &honest.next().unwrap());
        assert!(bench.vector().get(origin(PEER)) > last, "the honest one is not taken");
        // One of them and this node were known before.
        let refused = 2 * (count + 2 - Vector::OTHERS_MAX) as u64;
        let status = bench.group.health(&bench.store, 0).peers.remove(&id(PEER)).unwrap();
        assert_eq!(status.authors_refused, refused);
        // All that is said of it still fits.
        bench.store.sync();
        bench.now += Duration::from_secs(2);
        let says = |message: &Message| matches!(message, Message::Statement(says) if says.durable.len() == Vector::OTHERS_MAX);
        assert!(bench.hear_all().iter().any(says));
        bench.store.renew().unwrap();
        write(&bench.store, "another", "life");
        assert!(bench.vector().len() <= Vector::LEN_MAX);
    }
}

#[test]
fn a_state_of_more_authors_than_there_may_be_is_refused_and_nobody_banned() {
    let (mut bench, said) = Bench::up(crate::bench::filled());
    let round = said.iter().find_map(|message| match message {
        Message::Subscribe(wish) => Some(wish.round),
        _ => None,
    });
    let answer = Answer::HistoryGone as u8;
    let offer = Offer { scope: SCOPE.0, round: round.unwrap(), answer, floor: vec![] };
    bench.say(Message::Offer(offer)).unwrap();
    let wish = bench.hear_all().into_iter().find_map(|message| match message {
        Message::Want(want) => Some(want.round),
        _ => None,
    });
    let head = DeltaHead { vector: many(0), ..DeltaHead::default() };
    let send = |bench: &mut Bench, kind, bulk: &Bulk<'_>| {
        bench.send(kind, Extent::Whole, &bulk.encode(wish.unwrap()))
    };
    send(&mut bench, Kind::DeltaHead, &Bulk::DeltaHead(head)).unwrap();
    let end = send(&mut bench, Kind::DeltaEnd, &Bulk::DeltaEnd { chunks: 0 });
    assert_eq!(retried(end), "Store");
    assert_eq!(bench.vector().len(), 1);
}
