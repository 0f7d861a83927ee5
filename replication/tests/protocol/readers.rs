//! Nodes that were made readers: what they wrote before they knew is as good as any, and nothing after it.

use crate::bench::{Bench, PEER, WALL_MS, for_operators, origin, write};
use crate::net::{SCOPE, id};
use base::{Origin, Tick, Vector};
use replication::ProtocolError;
use replication::group::Writes;
use replication::memory::MemoryStore;
use replication::protocol::frame::{Extent, Kind};
use replication::protocol::message::{Entry, Message, Statement};
use replication::roster::{Member, Role};
use replication::store::{Store, keyspaces};
use std::time::Duration;

/// A node that writes whatever a test wants, and what of it was shipped.
struct Writer {
    node: usize,
    store: MemoryStore,
    shipped: Vector,
}

impl Writer {
    fn new(node: usize) -> Writer {
        let store = MemoryStore::new(id(node), origin(node).incarnation, WALL_MS);
        Writer { node, store, shipped: Vector::default() }
    }

    /// The next shipment with all that it has written since.
    fn ship(&mut self, bench: &mut Bench) -> Result<(), ProtocolError> {
        let mut tail = self.store.tail(SCOPE, &self.shipped).unwrap();
        let next = tail.next(&self.shipped, 100_000).unwrap().unwrap();
        self.shipped.raise(next.origin, next.last);
        bench.send(Kind::Shipment, Extent::Whole, &next.bytes)
    }

    /// It says that it has what it has written, and all that is on the bench.
    fn state(&self, bench: &mut Bench) -> Result<(), ProtocolError> {
        self.state_with(bench, &[])
    }

    /// And more.
    fn state_with(&self, bench: &mut Bench, more: &[(Origin, Tick)]) -> Result<(), ProtocolError> {
        let own = origin(self.node);
        let mut has = bench.vector();
        more.iter().for_each(|(of, tick)| has.raise(*of, *tick));
        has.raise(own, self.store.applied(SCOPE).get(own));
        let entry = |(of, tick): (Origin, Tick)| Entry {
            node: of.node.0,
            incarnation: of.incarnation.0,
            tick: tick.raw(),
        };
        let durable = has.iter().map(entry).collect();
        let (node, incarnation) = (own.node.0, own.incarnation.0);
        let said = Statement { scope: 1, node, incarnation, durable, applied: vec![] };
        bench.say(Message::Statement(said))
    }

    fn become_author(&self) {
        let member = Member { epoch: 9, ..Member::new(Role::Author) };
        let key = Member::key(id(self.node));
        self.store.set_wall_ms(WALL_MS + 50);
        self.store.put(SCOPE, keyspaces::ROSTER, &key, &member.encode()).unwrap();
    }
}

fn make(bench: &Bench, node: usize, role: Role) {
    bench.group.set_member(&bench.store, id(node), Member::new(role)).unwrap();
}

#[test]
fn a_reader_that_writes_is_refused() {
    let (mut bench, mut peer) = (Bench::live(), Writer::new(PEER));
    write(&peer.store, "k", "as an author");
    peer.ship(&mut bench).unwrap();
    make(&bench, PEER, Role::Observer);
    peer.store.set_wall_ms(WALL_MS + 5);
    write(&peer.store, "k", "it does not know yet");
    peer.ship(&mut bench).unwrap();
    write(&peer.store, "k", "nor now");
    peer.state(&mut bench).unwrap();
    peer.ship(&mut bench).unwrap();
    peer.state(&mut bench).unwrap();
    write(&peer.store, "k", "it knows");
    // It may have been made a writer again, and that may be on its way here.
    peer.ship(&mut bench).unwrap();
    assert_eq!(for_operators(peer.state(&mut bench)), "ReaderWrites");
    let mut bench = bench.again();
    assert_eq!(for_operators(peer.state(&mut bench)), "ReaderWrites");
}

#[test]
fn a_reader_that_says_that_it_writes_is_refused_at_the_write() {
    let (mut bench, mut peer) = (Bench::live(), Writer::new(PEER));
    make(&bench, PEER, Role::Observer);
    peer.state(&mut bench).unwrap();
    write(&peer.store, "k", "it knows");
    peer.state(&mut bench).unwrap();
    assert_eq!(for_operators(peer.ship(&mut bench)), "ReaderWrites");
}

/// The record may have no other way here than behind what it has written since.
#[test]
fn a_reader_that_may_have_been_made_a_writer_elsewhere_is_not_refused() {
    let (mut bench, mut peer) = (Bench::live(), Writer::new(PEER));
    let (mut operator, epoch) = (Writer::new(2), 9);
    make(&bench, PEER, Role::Observer);
    peer.state(&mut bench).unwrap();
    write(&peer.store, "k", "it writes again");
    operator.store.set_wall_ms(WALL_MS + 50);
    let (key, member) = (Member::key(id(PEER)), Member { epoch, ..Member::new(Role::Author) });
    let record = operator.store.put(SCOPE, keyspaces::ROSTER, &key, &member.encode()).unwrap();
    peer.state_with(&mut bench, &[(origin(2), record)]).unwrap();
    peer.ship(&mut bench).unwrap();
    operator.ship(&mut bench).unwrap();
    write(&peer.store, "k", "and again");
    peer.ship(&mut bench).unwrap();
    peer.state(&mut bench).unwrap();
}

/// A life of which nothing is here may have begun before it knew.
#[test]
fn the_first_writes_of_a_life_are_taken_of_a_reader_that_does_not_know() {
    let (mut bench, mut peer) = (Bench::live(), Writer::new(PEER));
    make(&bench, PEER, Role::Observer);
    peer.store.set_wall_ms(WALL_MS + 5);
    write(&peer.store, "k", "cut off");
    peer.ship(&mut bench).unwrap();
    assert!(bench.vector().get(origin(PEER)) > bench.group.roster().since(id(PEER)).tick);
}

/// Who passes it on could not know better, and without it the two would never be equal.
#[test]
fn what_a_reader_wrote_is_taken_from_a_relay() {
    let (mut bench, mut reader) = (Bench::live(), Writer::new(2));
    make(&bench, 2, Role::Observer);
    reader.state(&mut bench).unwrap();
    write(&reader.store, "k", "it knows");
    reader.state(&mut bench).unwrap();
    reader.ship(&mut bench).unwrap();
    reader.state(&mut bench).unwrap();
    assert!(bench.vector().get(origin(2)) > Tick::ZERO);
}

/// An operator has said so where it is: maybe because nobody else is left.
#[test]
fn a_reader_that_was_promoted_writes_behind_the_record_that_says_so() {
    let (mut bench, mut peer) = (Bench::live(), Writer::new(PEER));
    make(&bench, PEER, Role::Observer);
    peer.state(&mut bench).unwrap();
    peer.become_author();
    write(&peer.store, "k", "in the same shipment");
    peer.ship(&mut bench).unwrap();
    peer.state(&mut bench).unwrap();
    write(&peer.store, "k", "in the next one");
    peer.state(&mut bench).unwrap();
    peer.ship(&mut bench).unwrap();
    // And not behind the next one, that makes it a reader again.
    bench.store.set_wall_ms(WALL_MS + 100);
    make(&bench, PEER, Role::Observer);
    peer.state(&mut bench).unwrap();
    peer.store.set_wall_ms(WALL_MS + 200);
    write(&peer.store, "k", "it knows again");
    peer.state(&mut bench).unwrap();
    assert_eq!(for_operators(peer.ship(&mut bench)), "ReaderWrites");
}

/// Else peers would take what users wrote in between for the writes of a reader.
#[test]
fn a_node_that_was_made_a_reader_says_so_only_once_it_writes_no_more() {
    let (mut bench, mut operator) = (Bench::live(), Writer::new(2));
    bench.hear_all();
    let member = Member { epoch: 9, ..Member::new(Role::Observer) };
    let key = Member::key(id(0));
    let record = operator.store.put(SCOPE, keyspaces::ROSTER, &key, &member.encode()).unwrap();
    operator.ship(&mut bench).unwrap();
    assert_ne!(bench.group.writes(), Writes::Reader, "nobody has looked yet");
    let covers = |said: Vec<Message>| {
        let of_record = |entry: &Entry| entry.node == id(2).0 && entry.tick >= record.raw();
        said.iter()
            .any(|it| matches!(it, Message::Statement(it) if it.durable.iter().any(of_record)))
    };
    for _ in 0..9 {
        bench.now += Duration::from_millis(100);
        assert!(!covers(bench.hear_all()));
    }
    assert_eq!(bench.group.writes(), Writes::Reader);
    bench.now += Duration::from_secs(2);
    assert!(covers(bench.hear_all()));
}
