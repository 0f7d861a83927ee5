//! A peer that asks for state over and over, or for state that it never takes.

use crate::bench::{Bench, Toy, banned, filled, write};
use crate::net::SCOPE;
use base::Vector;
use replication::protocol::bulk::Bulk;
use replication::protocol::frame::{Channel, FEATURE_ROOTS, Kind, Lane};
use replication::protocol::message::{Answer, Message, Subscribe, Want, Wish};
use replication::store::{ExportHead, Store};
use std::time::Duration;

fn want(wish: Wish, round: u32) -> Message {
    let (wish, vector) = (wish as u8, Vec::new());
    Message::Want(Want { scope: SCOPE.0, round, wish, vector, file: 0, offset: 0 })
}

/// What the session says to a wish: the kind of the next frame of state, or why there is none.
fn answer(bench: &mut Bench) -> Result<Kind, Answer> {
    let offers = bench.hear_all().into_iter().find_map(|said| match said {
        Message::Offer(offer) => Some(offer.answer()),
        _ => None,
    });
    let frame = bench.session.next_frame(bench.now, Channel::Bulk, &bench.store).unwrap();
    match (offers, frame) {
        (None, Some(frame)) => Ok([Kind::DeltaHead, Kind::TablesHead, Kind::FileBytes]
            .into_iter()
            .find(|kind| *kind as u8 == frame[1])
            .unwrap()),
        (Some(answer), None) => Err(answer),
        other => panic!("{other:?}"),
    }
}

fn durable(bench: &Bench) -> Vector {
    bench.store.durable(SCOPE)
}

/// Each time costs a sync, and tables a flush, for which users' writes wait.
#[test]
fn state_is_given_again_after_a_second_and_not_before() {
    for (wish, kind) in [(Wish::Tables, Kind::TablesHead), (Wish::CatchUp, Kind::DeltaHead)] {
        for toy in Toy::both_with(FEATURE_ROOTS) {
            let (mut bench, _) = toy.up(filled());
            bench.say(want(wish, 1)).unwrap();
            assert_eq!(answer(&mut bench), Ok(kind));
            write(&bench.store, "another", "that is not durable");
            let before = durable(&bench);
            for round in 2..20 {
                bench.now += Duration::from_millis(49);
                bench.say(want(wish, round)).unwrap();
                assert_eq!(answer(&mut bench), Err(Answer::Later), "{wish:?} {round}");
            }
            let mut bench = bench.again();
            bench.say(want(wish, 1)).unwrap();
            assert_eq!(answer(&mut bench), Err(Answer::Later), "{wish:?} of another session");
            assert_eq!(durable(&bench), before, "the store was not asked");
            // Whoever is put off asks again: being put off does not count.
            bench.now += Duration::from_millis(1000 - 18 * 49);
            bench.say(want(wish, 2)).unwrap();
            assert_eq!(answer(&mut bench), Ok(kind), "{wish:?} after a second");
            assert!(durable(&bench) != before, "{wish:?}");
        }
    }
}

/// As one that asks for what this node has not, and as one that asks and gets it.
#[test]
fn a_peer_that_asks_for_state_and_reads_no_answer_is_stopped() {
    for wish in [Wish::Tables, Wish::CatchUp, Wish::Rejoin] {
        for toy in Toy::both_with(FEATURE_ROOTS) {
            let (mut bench, _) = toy.up(filled());
            let refused = (1..100).find_map(|round| bench.say(want(wish, round)).err());
            assert_eq!(banned(refused.map_or(Ok(()), Err)), "Unexpected", "{wish:?}");
        }
    }
}

/// A subscription costs nothing but what is sent for it, once it is read; the last one counts.
#[test]
fn of_many_subscriptions_the_last_one_is_answered() {
    for toy in Toy::both() {
        let (mut bench, _) = toy.up(filled());
        for round in 1..100 {
            let wish = Subscribe { scope: SCOPE.0, round, vector: vec![] };
            bench.say(Message::Subscribe(wish)).unwrap();
        }
        let frame = bench.session.next_frame(bench.now, Channel::Tail, &bench.store).unwrap();
        let frame = frame.unwrap();
        let start = toy.lane(Channel::Tail).open(&frame).unwrap();
        assert_eq!((start.kind, &*start.payload), (Kind::TailStart, &99u32.to_le_bytes()[..]));
    }
}

fn tables_of(bench: &mut Bench, lane: &mut Lane) -> ExportHead {
    let frame = bench.session.next_frame(bench.now, Channel::Bulk, &bench.store).unwrap().unwrap();
    let frame = lane.open(&frame).unwrap();
    match Bulk::decode(frame.kind, &frame.payload) {
        Ok((_, Bulk::TablesHead(head))) => head,
        other => panic!("{other:?}"),
    }
}

/// The peer says that it is there, and asks for nothing.
fn idle(bench: &mut Bench, seconds: u64) {
    for _ in 0..seconds / 20 {
        bench.now += Duration::from_secs(20);
        bench.beat();
        bench.hear_all();
    }
}

/// What is held for it can not be let go of elsewhere; and who asks for a little now and then takes nothing.
#[test]
fn tables_that_nobody_takes_are_held_for_an_hour() {
    for toy in Toy::both_with(FEATURE_ROOTS) {
        for asked in [0, 1, 5] {
            let (mut bench, _) = toy.up(filled());
            bench.say(want(Wish::Tables, 7)).unwrap();
            let file = tables_of(&mut bench, &mut toy.lane(Channel::Bulk)).files[0].id;
            let wish = |round| {
                let (wish, vector) = (Wish::File as u8, Vec::new());
                Message::Want(Want { scope: SCOPE.0, round, wish, vector, file, offset: 0 })
            };
            for _ in 0..asked {
                idle(&mut bench, 700);
                bench.say(wish(7)).unwrap();
                assert_eq!(answer(&mut bench), Ok(Kind::FileBytes));
            }
            idle(&mut bench, 3600 - asked * 700);
            bench.say(wish(7)).unwrap();
            assert_eq!(answer(&mut bench), Err(Answer::Later), "ask anew");
            bench.say(want(Wish::Tables, 8)).unwrap();
            assert_eq!(answer(&mut bench), Ok(Kind::TablesHead));
            assert_eq!(banned(bench.say(wish(7))), "Unexpected");
        }
    }
}

/// Half a megabyte in half a minute: that may take all day.
#[test]
fn a_delta_is_held_for_who_takes_it_slowly_and_for_nobody_who_stops() {
    let store = filled();
    (0..6).for_each(|at| write(&store, &format!("long-{at}"), &"v".repeat(600 << 10)));
    let (mut bench, _) = Toy::usual().up(store);
    bench.say(want(Wish::CatchUp, 1)).unwrap();
    assert_eq!(answer(&mut bench), Ok(Kind::DeltaHead));
    let take = |bench: &mut Bench| {
        let frame = bench.session.next_frame(bench.now, Channel::Bulk, &bench.store).unwrap();
        frame.is_some()
    };
    assert!(take(&mut bench));
    idle(&mut bench, 3580);
    for _ in 0..3 {
        assert!(take(&mut bench));
        idle(&mut bench, 20);
    }
    idle(&mut bench, 300);
    assert!(!take(&mut bench), "it was let go of");
}
