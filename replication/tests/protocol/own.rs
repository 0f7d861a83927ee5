//! What others have of a node, and what follows for its life.

use crate::bench::{Bench, PEER, WALL_MS, code, filled, origin, write};
use crate::net::{SCOPE, id};
use base::Tick;
use base::Vector;
use replication::memory::{MemoryStore, Whole};
use replication::protocol::Event;
use replication::protocol::bulk::Bulk;
use replication::protocol::frame::{Channel, Extent, FEATURE_PACKED, FEATURE_ROOTS, Kind};
use replication::protocol::message::{Answer, Entry, Hello, Message, Statement, Want, Wish};
use replication::roster::{Member, Role};
use replication::store::{DeltaHead, ExportHead, Store};

/// The node `of` has what node 0 wrote up to `tick`.
fn confirm_of(of: usize, tick: Tick) -> Message {
    let own = origin(0);
    let entry = Entry { node: own.node.0, incarnation: own.incarnation.0, tick: tick.raw() };
    let (node, incarnation) = (id(of).0, origin(of).incarnation.0);
    let durable = vec![entry];
    Message::Statement(Statement { scope: 1, node, incarnation, durable, applied: vec![] })
}

#[test]
fn a_confirm_of_what_is_not_visible_yet_is_no_loss_of_our_own() {
    let (mut bench, _) = Bench::up(filled());
    bench.store.hold_back();
    write(&bench.store, "k", "behind a barrier");
    let last = bench.store.written(SCOPE).get(origin(0));
    assert!(bench.vector().get(origin(0)) < last);
    bench.say(confirm_of(PEER, last)).unwrap();
    assert_eq!(bench.store.origin(), origin(0));
    assert!(bench.session.take_events().iter().all(|event| *event != Event::Healing));
}

/// Nobody but the other itself can say that it has more of us than we have.
#[test]
fn a_statement_that_is_passed_on_and_false_does_not_cost_our_life() {
    for ahead_ms in [1, 60_000] {
        let (mut bench, _) = Bench::up(filled());
        bench.say(confirm_of(2, Tick::from_ms(WALL_MS + ahead_ms))).unwrap();
        assert_eq!(bench.store.origin(), origin(0));
    }
}

/// A reader may be the only way between two authors.
#[test]
fn statements_count_only_if_a_member_passes_them_on() {
    for (role, is_told) in [(Role::Author, true), (Role::Observer, true), (Role::Deprecated, false)]
    {
        let (mut bench, _) = Bench::up(filled());
        for (node, role) in [(PEER, role), (2, Role::Author)] {
            bench.group.set_member(&bench.store, id(node), Member::new(role)).unwrap();
        }
        bench.say(confirm_of(2, Tick::from_ms(WALL_MS))).unwrap();
        let told = bench.group.next_to_tell(&Default::default(), id(PEER));
        assert_eq!(told.is_some(), is_told, "{role:?}");
    }
}

#[test]
fn a_confirm_beyond_what_was_sent_is_a_loss_of_our_own_and_then_a_lie() {
    let confirm = |tick| confirm_of(PEER, tick);
    let (mut bench, _) = Bench::up(filled());
    bench.say(confirm(Tick::from_ms(WALL_MS + 1))).unwrap();
    assert!(bench.session.take_events().contains(&Event::Healing));
    assert_ne!(bench.store.origin(), origin(0));
    let (mut bench, _) = Bench::up(filled());
    assert_eq!(code(bench.say(confirm(Tick::from_ms(WALL_MS + 60_000)))), "ConfirmBeyond");
    assert_eq!(bench.store.origin(), origin(0));
}

fn asked_for_tables() -> (Bench, u32) {
    let store = MemoryStore::new(id(0), origin(0).incarnation, WALL_MS);
    let (bench, said) = Bench::up(store);
    let round = said.iter().find_map(|message| match message {
        Message::Want(want) if want.wish() == Wish::Tables => Some(want.round),
        _ => None,
    });
    (bench, round.unwrap())
}

/// It would compare their bytes with digests that they do not have.
#[test]
fn who_does_not_speak_of_roots_gets_no_tables() {
    for (features, is_given) in [(FEATURE_ROOTS, true), (FEATURE_PACKED, false)] {
        let mut bench = Bench::with(filled());
        bench.say(Message::Hello(Hello { features, ..Bench::hello() })).unwrap();
        bench.answer();
        let (wish, vector) = (Wish::Tables as u8, vec![]);
        bench
            .say(Message::Want(Want { scope: 1, round: 1, wish, vector, file: 0, offset: 0 }))
            .unwrap();
        let said = bench.hear_all();
        let refused = said.iter().any(|message| match message {
            Message::Offer(offer) => offer.answer() == Answer::NoTables,
            _ => false,
        });
        assert_eq!(refused, !is_given, "{said:?}");
    }
}

/// It would send them with digests that this node does not have.
#[test]
fn who_does_not_speak_of_roots_is_asked_for_no_tables() {
    for (features, is_asked) in [(FEATURE_ROOTS, true), (FEATURE_PACKED, false)] {
        let mut bench = Bench::with(MemoryStore::new(id(0), origin(0).incarnation, WALL_MS));
        bench.say(Message::Hello(Hello { features, ..Bench::hello() })).unwrap();
        let said = bench.answer();
        let asks = |message: &Message| match message {
            Message::Want(want) => want.wish() == Wish::Tables,
            _ => false,
        };
        assert_eq!(said.iter().any(asks), is_asked, "{said:?}");
    }
}

/// Else the first write of this node would look as if it was there already.
#[test]
fn a_state_that_has_more_of_us_than_we_wrote_is_not_taken() {
    for (ahead_ms, expected) in [(1, "nothing"), (9_999, "nothing")] {
        let (mut bench, round) = asked_for_tables();
        let vector = Vector::from_iter([(origin(0), Tick::from_ms(WALL_MS + ahead_ms))]);
        let state = DeltaHead { vector, ..DeltaHead::default() };
        let head = Bulk::TablesHead(ExportHead { state, ..ExportHead::default() }).encode(round);
        assert_eq!(code(bench.send(Kind::TablesHead, Extent::Whole, &head)), expected);
        assert_ne!(bench.store.origin(), origin(0), "it lives anew");
        assert!(bench.session.take_events().contains(&Event::Renewed));
        assert!(bench.vector().is_empty());
    }
}

#[test]
fn tables_of_a_clock_that_is_ahead_are_not_taken() {
    let (mut bench, round) = asked_for_tables();
    let clock = Tick::from_ms(WALL_MS + 3_600_000);
    let head = Bulk::TablesHead(ExportHead { clock, ..ExportHead::default() }).encode(round);
    bench.send(Kind::TablesHead, Extent::Whole, &head).unwrap();
    assert!(bench.session.take_events().contains(&Event::Parked { by_ms: 3_600_000 }));
    write(&bench.store, "k", "1");
    assert!(bench.vector().latest().ms() <= WALL_MS);
}

/// It was whole when it was asked.
#[test]
fn who_has_lost_something_since_it_was_asked_gives_nothing() {
    for (whole, gives) in [(Whole::Yes, true), (Whole::No, false)] {
        let (mut bench, _) = Bench::up(filled());
        let wish = Wish::Rejoin as u8;
        let want = Want { scope: 1, round: 1, wish, vector: vec![], file: 0, offset: 0 };
        bench.say(Message::Want(want)).unwrap();
        bench.store.set_whole(SCOPE, whole).unwrap();
        let given = bench.session.next_frame(bench.now, Channel::Bulk, &bench.store).unwrap();
        assert_eq!(given.is_some(), gives);
    }
}

#[test]
fn a_reader_does_not_change_who_is_a_member() {
    let (bench, _) = Bench::up_alone(Role::Observer);
    assert_eq!(bench.group.refuse_unless_author().unwrap_err().code(), "InvalidInput");
    let (bench, _) = Bench::up_alone(Role::Author);
    bench.group.refuse_unless_author().unwrap();
}
