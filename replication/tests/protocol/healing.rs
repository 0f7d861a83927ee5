//! What becomes of a wish for what was lost in ranges of keys.

use crate::bench::{Bench, PEER, WALL_MS, code, filled, origin};
use crate::net::id;
use base::{KeyRange, KeyRanges, Tick};
use replication::protocol::frame::{Channel, FEATURE_RANGES, FEATURE_ROOTS};
use replication::protocol::message::{
    Answer, Entry, Heal, Hello, Message, Offer, Part, Want, Wish,
};
use replication::roster::Role;
use std::time::Duration;

fn part(keyspace: &str, start: &[u8], end: &[u8]) -> Part {
    let (keyspace, start, end) = (keyspace.to_owned(), start.to_vec(), end.to_vec());
    Part { keyspace, start, end }
}

fn wish(round: u32, vector: Vec<Entry>) -> Heal {
    let want = Want { scope: 1, round, vector, ..Want::default() };
    Heal::of(want, &KeyRanges::around([range()]).unwrap())
}

fn range() -> KeyRange {
    KeyRange::between("k", b"a", b"z")
}

/// Whether the session has state to send.
fn gives(bench: &mut Bench) -> bool {
    bench.session.next_frame(bench.now, Channel::Bulk, &bench.store).unwrap().is_some()
}

#[test]
fn what_was_lost_is_given_by_authors_that_have_all_the_peer_has() {
    let (node, incarnation) = (id(PEER).0, origin(PEER).incarnation.0);
    let unseen = Entry { node, incarnation, tick: Tick::from_ms(WALL_MS).raw() };
    let (mut bench, _) = Bench::up(filled());
    bench.say(Message::Heal(wish(1, vec![unseen]))).unwrap();
    assert!(!gives(&mut bench), "it may lack what the peer has lost");
    bench.now += Duration::from_secs(1);
    bench.say(Message::Heal(wish(2, vec![]))).unwrap();
    assert!(gives(&mut bench));

    let (mut bench, _) = Bench::up_as(filled(), Role::Observer);
    bench.say(Message::Heal(wish(1, vec![]))).unwrap();
    let is_later = |said: &Message| match said {
        Message::Offer(offer) => offer.answer() == Answer::Later,
        _ => false,
    };
    assert!(bench.hear_all().iter().any(is_later) && !gives(&mut bench));
}

#[test]
fn a_wish_for_ranges_that_breaks_the_rules_is_refused() {
    let refused = |message: Message| {
        let (mut bench, _) = Bench::up(filled());
        code(bench.say(message))
    };
    let of = |missing: Vec<Part>| Message::Heal(Heal { missing, ..wish(1, vec![]) });
    assert_eq!(refused(of(vec![part("k", b"a", b"b"), part("k", b"b", b"")])), "nothing");
    let many = (0..17).map(|at| part("k", &[2 * at], &[2 * at + 1])).collect();
    for bad in [
        vec![part("k", b"b", b"c"), part("k", b"a", b"b")],
        vec![part("k", b"a", b""), part("k", b"b", b"c")],
        vec![part("k", b"b", b"b")],
        vec![part("", b"a", b"b")],
        vec![part("k", &[7; 513], b"")],
        many,
    ] {
        assert_eq!(refused(of(bad.clone())), "Malformed", "{bad:?}");
    }
    let wish_raw = Wish::Rejoin as u8;
    let other = Heal { want: Want { wish: wish_raw, ..wish(1, vec![]).want }, missing: vec![] };
    assert_eq!(refused(Message::Heal(other)), "Malformed");
    assert_eq!(refused(Message::Want(wish(1, vec![]).want)), "Malformed");
}

/// It lacks nothing that it ever had: what its peers have forgotten meanwhile is what it does not know.
#[test]
fn who_is_below_the_floor_and_has_lost_nothing_asks_for_all() {
    let mut bench = Bench::with(filled());
    let features = FEATURE_ROOTS | FEATURE_RANGES;
    bench.say(Message::Hello(Hello { features, ..Bench::hello() })).unwrap();
    let round = bench.answer().iter().find_map(|message| match message {
        Message::Subscribe(wish) => Some(wish.round),
        _ => None,
    });
    let (node, incarnation) = (id(PEER).0, origin(PEER).incarnation.0);
    let floor = vec![Entry { node, incarnation, tick: Tick::from_ms(WALL_MS).raw() }];
    let gone = Offer { scope: 1, round: round.unwrap(), answer: Answer::HistoryGone as u8, floor };
    bench.say(Message::Offer(gone)).unwrap();
    let Some(Message::Want(want)) = bench.hear() else { panic!("no wish for all") };
    assert_eq!(want.wish(), Wish::Rejoin);
}

/// The peer may be busy for a moment; if it waits for this node's own state, one of both must give in.
#[test]
fn who_is_put_off_asks_for_what_is_missing_again_before_it_asks_for_all() {
    let mut bench = Bench::with(filled());
    bench.store.lack(KeyRanges::around([range()]).unwrap());
    let features = FEATURE_ROOTS | FEATURE_RANGES;
    bench.say(Message::Hello(Hello { features, ..Bench::hello() })).unwrap();
    let (mut wishes, mut said) = (Vec::new(), bench.answer());
    for _ in 0..5 {
        let asked = said.into_iter().find_map(|message| match message {
            Message::Heal(heal) => Some(heal.want),
            Message::Want(want) => Some(want),
            _ => None,
        });
        let want = asked.unwrap();
        wishes.push(want.wish());
        let later = Answer::Later as u8;
        let offer = Offer { scope: 1, round: want.round, answer: later, floor: vec![] };
        bench.say(Message::Offer(offer)).unwrap();
        bench.now += Duration::from_secs(2);
        said = bench.hear_all();
    }
    let [heal, all] = [Wish::Heal, Wish::Rejoin];
    assert_eq!(wishes, [heal, heal, heal, all, all]);
}
