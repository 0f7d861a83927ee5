//! Who may give what to whom: rules that the model found, as sessions keep them.

use crate::bench::{Bench, PEER, WALL_MS, code, filled, origin, shipment};
use crate::net::{Net, SCOPE, id};
use base::Tick;
use replication::memory::Whole;
use replication::protocol::frame::{Channel, Extent, Kind};
use replication::protocol::message::{
    Answer, Entry, Hello, Message, Notice, Offer, Subscribe, Want, Wish,
};
use replication::protocol::{Event, Tier};
use replication::roster::{Member, Role};
use replication::store::{Store, keyspaces};
use std::time::Duration;

/// A record that was written now, newer than any in the roster of a bench.
fn notice(role: Role, fenced: u64) -> Notice {
    let tick = Tick::from_ms(WALL_MS + 5).raw();
    let (node, incarnation) = (id(PEER).0, origin(PEER).incarnation.0);
    Notice { role: role as u8, decided: 1, fenced, tick, node, incarnation }
}

fn greeted(hello: Hello) -> (Bench, &'static str) {
    let mut bench = Bench::with(filled());
    let met = code(bench.say(Message::Hello(hello)));
    (bench, met)
}

fn wish_of(said: &[Message]) -> Option<Wish> {
    said.iter().find_map(|message| match message {
        Message::Want(want) => Some(want.wish()),
        _ => None,
    })
}

fn answer_of(said: &[Message]) -> Option<Answer> {
    said.iter().find_map(|message| match message {
        Message::Offer(offer) => Some(offer.answer()),
        _ => None,
    })
}

fn want(wish: Wish) -> Message {
    let wish = wish as u8;
    Message::Want(Want { scope: 1, round: 1, wish, vector: vec![], file: 0, offset: 0 })
}

fn subscribe(vector: Vec<Entry>) -> Message {
    Message::Subscribe(Subscribe { scope: 1, round: 1, vector })
}

/// What the peer has of itself.
fn something() -> Vec<Entry> {
    let (node, incarnation) = (id(PEER).0, origin(PEER).incarnation.0);
    vec![Entry { node, incarnation, tick: Tick::from_ms(WALL_MS).raw() }]
}

#[test]
fn a_node_learns_from_a_hello_that_it_was_shut_out() {
    let about_you = notice(Role::Deprecated, 0);
    let (_, met) = greeted(Hello { about_you, ..Bench::hello() });
    assert_eq!(met, "Deprecated");
    // What it knows itself is newer.
    let bench = Bench::with(filled());
    bench.store.set_wall_ms(WALL_MS + 9);
    bench.group.set_member(&bench.store, id(0), Member::new(Role::Author)).unwrap();
    let mut bench = bench;
    let about_you = notice(Role::Deprecated, 0);
    assert_eq!(code(bench.say(Message::Hello(Hello { about_you, ..Bench::hello() }))), "nothing");
}

#[test]
fn a_node_learns_from_a_hello_that_it_must_rejoin() {
    let about_you = notice(Role::Author, origin(0).incarnation.0);
    let (mut bench, met) = greeted(Hello { about_you, ..Bench::hello() });
    assert_eq!(met, "nothing");
    let said = bench.answer();
    assert_eq!(wish_of(&said), Some(Wish::Rejoin));
    assert!(!said.iter().any(|it| matches!(it, Message::Statement(_))), "a fenced life promised");
}

/// What a peer says of itself may fence it, but does not lift a fence.
#[test]
fn a_peer_is_fenced_by_the_newest_record_that_either_side_has() {
    let about_me = notice(Role::Deprecated, 0);
    assert_eq!(greeted(Hello { about_me, ..Bench::hello() }).1, "Fenced");

    let bench = Bench::with(filled());
    bench.group.set_member(&bench.store, id(PEER), Member::new(Role::Deprecated)).unwrap();
    let mut bench = bench;
    let about_me = Notice { tick: Tick::from_ms(WALL_MS + 99).raw(), ..notice(Role::Author, 0) };
    assert_eq!(code(bench.say(Message::Hello(Hello { about_me, ..Bench::hello() }))), "Fenced");

    let about_me = notice(Role::Author, origin(PEER).incarnation.0);
    let (mut bench, _) = greeted(Hello { about_me, ..Bench::hello() });
    let ack = bench.hear_all().into_iter().find_map(|message| match message {
        Message::HelloAck(ack) => Some(ack.rejoin),
        _ => None,
    });
    assert_eq!(ack, Some(1), "its present life must rejoin");
}

#[test]
fn a_notice_that_breaks_its_format_is_refused() {
    for bad in [
        Notice { role: 4, ..notice(Role::Author, 0) },
        Notice { decided: 2, ..notice(Role::Author, 0) },
        Notice { tick: u64::MAX, ..notice(Role::Author, 0) },
    ] {
        assert_eq!(greeted(Hello { about_me: bad.clone(), ..Bench::hello() }).1, "Malformed");
        assert_eq!(greeted(Hello { about_you: bad, ..Bench::hello() }).1, "Malformed");
    }
}

/// It will hear what it is from this node, and who this node is.
#[test]
fn a_reader_that_takes_this_node_for_a_stranger_is_asked_again() {
    let mut bench = Bench::with(filled());
    bench.group.set_member(&bench.store, id(PEER), Member::new(Role::Observer)).unwrap();
    bench.say(Message::Hello(Bench::hello())).unwrap();
    let round = round_of(&bench.answer()).unwrap();
    let answer = Answer::Stranger as u8;
    bench.say(Message::Offer(Offer { scope: 1, round, answer, floor: vec![] })).unwrap();
    assert_eq!(round_of(&bench.hear_all()), None);
    bench.now += Duration::from_secs(2);
    assert!(round_of(&bench.hear_all()) > Some(round));
}

fn round_of(said: &[Message]) -> Option<u32> {
    said.iter().find_map(|message| match message {
        Message::Subscribe(wish) => Some(wish.round),
        _ => None,
    })
}

/// Nobody waited for what it has, so it is treated as one that was shut out.
#[test]
fn a_peer_that_is_no_member_and_has_something_must_rejoin() {
    let (mut bench, _) = Bench::up_alone(Role::Author);
    bench.say(subscribe(something())).unwrap();
    assert_eq!(answer_of(&bench.hear_all()), Some(Answer::Stranger));
    let key = Member::first_key(id(PEER));
    assert_eq!(bench.store.get(keyspaces::ROSTER, &key).unwrap(), None);
    // It is on the roster before it gets anything.
    bench.say(want(Wish::Rejoin)).unwrap();
    assert!(bench.store.get(keyspaces::ROSTER, &key).unwrap().is_some());

    // One that has nothing becomes a member at once.
    let (mut bench, _) = Bench::up_alone(Role::Author);
    bench.say(subscribe(vec![])).unwrap();
    assert_eq!(answer_of(&bench.hear_all()), None);
    assert!(bench.store.get(keyspaces::ROSTER, &key).unwrap().is_some());

    // A reader can not make it one.
    let (mut bench, _) = Bench::up_alone(Role::Observer);
    bench.say(subscribe(something())).unwrap();
    assert_eq!(answer_of(&bench.hear_all()), Some(Answer::Later));
}

#[test]
fn who_is_told_that_it_is_no_member_rejoins_once() {
    let (mut bench, said) = Bench::up(filled());
    let round = |said: &[Message]| {
        said.iter().find_map(|message| match message {
            Message::Subscribe(wish) => Some(wish.round),
            _ => None,
        })
    };
    let answer = Answer::Stranger as u8;
    let offer = Offer { scope: 1, round: round(&said).unwrap(), answer, floor: vec![] };
    bench.say(Message::Offer(offer)).unwrap();
    assert_eq!(wish_of(&bench.hear_all()), Some(Wish::Rejoin));
    assert!(bench.store.write(&[]).is_err(), "users write while it rejoins");
}

#[test]
fn a_reader_donates_no_rejoin() {
    let (mut bench, _) = Bench::up_as(filled(), Role::Observer);
    bench.say(want(Wish::Rejoin)).unwrap();
    assert_eq!(answer_of(&bench.hear_all()), Some(Answer::Later));
    let frame = bench.session.next_frame(bench.now, Channel::Bulk, &bench.store).unwrap();
    assert_eq!(frame, None);
}

#[test]
fn a_node_that_lost_something_asks_no_reader_for_it() {
    let mut net = Net::new(31, 2, 1);
    net.put(0, "a", "1");
    net.heal();
    net.cut_all(0);
    net.nodes[0].store.set_whole(SCOPE, Whole::No).unwrap();
    net.connect(0, 2);
    net.run(5_000);
    assert!(!net.nodes[0].store.is_whole(SCOPE) && !net.has_chosen(0, Tier::Rejoin));
    net.connect(0, 1);
    net.run(5_000);
    assert!(net.nodes[0].store.is_whole(SCOPE) && net.has_chosen(0, Tier::Rejoin));
}

/// While it takes the state of one, it gives others nothing, takes nothing and promises nothing.
#[test]
fn who_rejoins_ships_states_donates_and_admits_nothing() {
    let mut bench = Bench::live();
    assert!(bench.group.try_take(id(5)));
    bench.group.close(&bench.store).unwrap();
    bench.say(subscribe(vec![])).unwrap();
    let said = bench.hear_all();
    assert!(!said.iter().any(|it| matches!(it, Message::Statement(_))));
    let tail = bench.session.next_frame(bench.now, Channel::Tail, &bench.store).unwrap();
    assert_eq!(tail, None);
    for wish in [Wish::CatchUp, Wish::Tables] {
        bench.say(want(wish)).unwrap();
        assert_eq!(answer_of(&bench.hear_all()), Some(Answer::Later), "{wish:?}");
    }
    bench.send(Kind::Shipment, Extent::Whole, &shipment(PEER, WALL_MS)).unwrap();
    assert_eq!(bench.vector().get(origin(PEER)), Tick::ZERO);
    // Its floor stays, too.
    let floor = bench.store.floor(SCOPE);
    bench.group.tick(bench.now + Duration::from_secs(9), &bench.store).unwrap();
    assert_eq!(bench.store.floor(SCOPE), floor);
    // To whom it rejoins with it gives what that lacks.
    let mut bench = Bench::live();
    assert!(bench.group.try_take(id(PEER)));
    bench.group.close(&bench.store).unwrap();
    bench.say(subscribe(vec![])).unwrap();
    let tail = bench.session.next_frame(bench.now, Channel::Tail, &bench.store).unwrap();
    assert!(tail.is_some());
}

/// Of nodes that wait for each other in a circle, at least one asks a greater one: it gives way.
#[test]
fn a_circle_of_rejoins_is_broken_by_the_smaller_node() {
    let waits = |own: usize| {
        let mut bench = Bench::live_as(own);
        assert!(bench.group.try_take(id(5)));
        bench.group.close(&bench.store).unwrap();
        bench.say(want(Wish::Rejoin)).unwrap();
        answer_of(&bench.hear_all()).is_none()
    };
    assert!(waits(0), "a greater node waits for us");
    assert!(!waits(PEER + 1), "a smaller one does not");
}

/// B readmits A; C has not heard of that, so what A takes from C does not make it a member again.
#[test]
fn who_is_readmitted_is_new_only_with_one_that_knows_it() {
    let mut net = Net::new(32, 3, 0);
    net.put(0, "a", "1");
    net.heal();
    net.cut_all(0);
    net.cut_all(2);
    let store = net.nodes[1].store.clone();
    for role in [Role::Deprecated, Role::Author] {
        net.nodes[1].group.set_member(&store, id(0), Member::new(role)).unwrap();
        net.pass(1);
    }
    let before = net.nodes[0].store.origin();
    net.nodes[0].store.set_whole(SCOPE, Whole::No).unwrap();
    net.connect(0, 2);
    net.run(5_000);
    assert!(net.has_chosen(0, Tier::Rejoin) && net.nodes[0].store.is_whole(SCOPE));
    assert_eq!(net.nodes[0].store.origin(), before);
    net.connect(0, 1);
    net.run(5_000);
    assert_ne!(net.nodes[0].store.origin(), before, "{:?} {:?}", net.events, net.failures);
    net.heal();
    net.check_fold();
}

/// A reader that hears of it in its own roster does not wait to be told by a peer.
#[test]
fn a_life_that_was_fenced_while_its_session_is_up_rejoins() {
    let mut net = Net::new(33, 3, 0);
    net.put(0, "a", "1");
    net.heal();
    net.cut(0, 1);
    let before = net.nodes[0].store.origin();
    let store = net.nodes[1].store.clone();
    let fenced = Some(before.incarnation);
    let member = Member { fenced, ..Member::new(Role::Author) };
    net.nodes[1].group.set_member(&store, id(0), member).unwrap();
    net.run(5_000);
    assert_ne!(net.nodes[0].store.origin(), before, "{:?} {:?}", net.events, net.failures);
    net.heal();
    net.check_fold();
}

/// B has a put that is late for the author A and the reader C, which are joined.
fn with_a_late_put() -> Net {
    let mut net = Net::new(34, 2, 1);
    net.put(0, "a", "1");
    net.heal();
    net.cut_all(1);
    assert!(net.put(1, "x", "late"));
    net.pass(50);
    net.delete(0, "a");
    net.run(1_000);
    for node in [0, 2] {
        // As if B had confirmed: what an operator answers for.
        let store = &net.nodes[node].store;
        store.raise_floor(SCOPE, &store.applied(SCOPE)).unwrap();
        store.collect();
        store.sync();
        assert!(store.dropped(SCOPE) > Tick::ZERO);
    }
    net
}

/// A frame at a time: a run goes on until nothing is left to say, so it would get in line at once.
fn go_on_until_refused(net: &mut Net) {
    for _ in 0..100_000 {
        if was_refused(net) {
            return;
        }
        if !net.step() {
            net.pass(1);
        }
    }
    panic!("{:?}", net.failures);
}

fn was_refused(net: &Net) -> bool {
    net.events.iter().any(|it| matches!(it, (2, Event::Unanswered(1))))
}

/// The put of B comes to the reader C while its session with the author A is up.
#[test]
fn a_late_put_that_a_reader_refused_is_answered_by_an_author() {
    let mut net = with_a_late_put();
    net.connect(1, 2);
    net.run(10_000);
    net.heal();
    assert!(was_refused(&net), "{:?}", net.events);
    assert!(net.has_chosen(2, Tier::Rejoin) && net.nodes[2].store.is_whole(SCOPE));
    assert_eq!(net.get(2, "x"), None);
    assert_eq!(net.nodes[2].store.entries(keyspaces::QUARANTINE).unwrap().len(), 1);
    let reader = net.nodes[2].store.origin();
    assert_eq!(net.nodes[0].store.applied(SCOPE).get(reader), Tick::ZERO, "a reader wrote");
    net.check_fold();
}

/// History 9: only an author can answer late puts, so a reader whose floor it has not passed takes
/// its state too.
#[test]
fn an_author_below_a_readers_floor_is_its_donor_all_the_same() {
    let mut net = Net::new(35, 2, 1);
    net.put(0, "x", "1");
    net.heal();
    let backup = net.nodes[0].store.backup();
    net.cut_all(1);
    let store = net.nodes[0].store.clone();
    net.nodes[0].group.set_member(&store, id(1), Member::new(Role::Deprecated)).unwrap();
    net.delete(0, "x");
    net.run(10_000);
    net.nodes[2].store.collect();
    net.nodes[2].store.sync();
    net.nodes[2].store.trim_log(0);
    assert!(net.nodes[2].store.dropped(SCOPE) > Tick::ZERO);
    net.restore(0, &backup);
    net.forget_heights(0);
    net.nodes[0].group.overrule();
    assert_eq!(net.get(0, "x"), Some("1".into()));
    net.connect(0, 2);
    net.run(10_000);
    assert!(net.has_chosen(0, Tier::Rejoin), "{:?} {:?}", net.events, net.failures);
    assert!(net.has_chosen(2, Tier::Rejoin), "{:?} {:?}", net.events, net.failures);
    assert_eq!((net.get(0, "x"), net.get(2, "x")), (None, None));
}

/// Who shuts a node out may never have heard of its life.
#[test]
fn a_life_that_nobody_had_heard_of_when_it_was_shut_out_must_rejoin() {
    let (mut bench, _) = Bench::up(filled());
    let role = |bench: &Bench, role| {
        bench.group.set_member(&bench.store, id(PEER), Member::new(role)).unwrap();
    };
    role(&bench, Role::Deprecated);
    role(&bench, Role::Author);
    let mut next = origin(PEER);
    next.incarnation.0 += 1;
    let roster = bench.group.roster();
    assert!(roster.must_rejoin(origin(PEER)) && roster.must_rejoin(next), "whatever life it has");

    bench.say(want(Wish::Rejoin)).unwrap();

    let roster = bench.group.roster();
    assert!(roster.must_rejoin(origin(PEER)), "the one that came");
    assert!(!roster.must_rejoin(next), "and not the one that it begins then");
}

/// It is the same fence on the wire.
#[test]
fn a_node_that_is_kept_out_in_any_life_is_told_so() {
    let about_you = notice(Role::Author, replication::roster::ANY_LIFE.0);
    let (mut bench, met) = greeted(Hello { about_you, ..Bench::hello() });
    assert_eq!(met, "nothing");
    assert_eq!(wish_of(&bench.answer()), Some(Wish::Rejoin));
}

/// What took too long for the link that it came by would be refused by the same steps for ever.
#[test]
fn a_reader_that_refused_a_late_put_gets_in_line_though_the_link_has_broken() {
    let mut net = with_a_late_put();
    net.connect(1, 2);
    go_on_until_refused(&mut net);
    net.cut_all(2);
    net.events.clear();
    net.connect(1, 2);
    net.run(5_000);
    assert!(net.has_chosen(2, Tier::Rejoin) && !was_refused(&net), "{:?}", net.events);
}

/// Whom a reader had to get in line with may become a reader itself meanwhile.
#[test]
fn a_reader_goes_on_with_a_peer_that_writes_no_more() {
    let mut net = with_a_late_put();
    net.connect(1, 2);
    go_on_until_refused(&mut net);
    net.cut_all(2);
    assert!(net.nodes[2].group.owes_line(id(1)));
    let Net { nodes, .. } = &net;
    nodes[1].group.set_member(&nodes[1].store, id(1), Member::new(Role::Observer)).unwrap();
    net.events.clear();
    net.connect(1, 2);
    net.run(5_000);
    assert!(!net.nodes[2].group.owes_line(id(1)));
    assert!(was_refused(&net) && !net.has_chosen(2, Tier::Rejoin), "{:?}", net.events);
    // An author answers the put, and all goes on.
    net.heal();
    assert_eq!((net.get(1, "x"), net.get(2, "x")), (None, None));
    assert_eq!(net.nodes[2].group.role_of(id(1)), Some(Role::Observer));
}
