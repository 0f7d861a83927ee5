//! Whole audits, step by step.

use super::fixture::{NAME, forget, node, ship, write};
use super::message::Gone;
use super::*;
use crate::group::GroupConfig;
use crate::memory::{Change, MemoryStore};
use crate::roster::Member;
use base::state::StateWriter;
use base::{Origin, ScopeId, Stamp, Tick};
use std::collections::BTreeSet;

/// The side of a node that audits `peer`, which is as far as the node is.
fn side(store: &MemoryStore, peer: Origin) -> Auditor {
    let own = store.origin();
    let first = vec![own.node, peer.node];
    let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first };
    let group = Arc::new(Group::open(config, store).unwrap());
    group.belong_to(store, [7; 16]).unwrap();
    group.enter(peer).unwrap();
    group.note_peer(peer.node, |peer| peer.confirmed = store.applied(ScopeId::MAIN));
    Auditor::new(group, peer.node, None)
}

/// Goes on until neither side has anything to do; the reports.
fn finish(sides: &mut [Auditor; 2], stores: [&MemoryStore; 2]) -> Vec<AuditReport> {
    let now = Duration::from_secs(1);
    let is_idle = |side: &Auditor| matches!(side.course, Course::Idle) && side.outbox.is_empty();
    while !sides.iter().all(is_idle) {
        for at in 0..2 {
            let done = sides[at].work(now, stores[at], true);
            sides[at].settle(now, stores[at], done).unwrap();
            while let Some((kind, payload)) = sides[at].outbox.pop_front() {
                sides[1 - at].receive(now, stores[1 - at], kind, &payload).unwrap();
            }
        }
    }
    let events = sides.iter_mut().flat_map(|side| std::mem::take(&mut side.events));
    let reports = events.map(|event| match event {
        Event::Audited(report) => report,
        other => panic!("{other:?}"),
    });
    reports.collect()
}

/// Sums take long in a large database, and writes go on. What is forgotten meanwhile excuses nothing that
/// both had received and forgotten before.
#[test]
fn what_is_forgotten_while_the_opener_sums_excuses_no_divergence() {
    let (one, other) = (node(1), node(2));
    let [own, peer] = [one.origin(), other.origin()];
    for origin in [own, peer] {
        let (key, author) = (Member::key(origin.node), Member::new(Role::Author).encode());
        one.put(ScopeId::MAIN, crate::store::keyspaces::ROSTER, &key, &author).unwrap();
    }
    write(&one, b"key", Change::Put(b"v".to_vec()));
    ship(&one, &other);
    write(&other, b"key", Change::Delete);
    write(&other, b"other", Change::Put(b"v".to_vec()));
    ship(&other, &one);
    [&one, &other].into_iter().for_each(forget);
    one.show_again("k", b"key", b"v");
    assert!(other.dropped(ScopeId::MAIN) > Tick::ZERO);
    let mut sides = [side(&one, peer), side(&other, own)];
    sides[0].group.want_audit(peer.node);
    assert!(sides[0].work(Duration::ZERO, &one, true).is_ok());
    assert!(matches!(sides[0].course, Course::Summing(_, Then::Open)));

    write(&other, b"other", Change::Delete);
    ship(&other, &one);
    [&one, &other].into_iter().for_each(forget);
    let reports = finish(&mut sides, [&one, &other]);

    assert_eq!((reports.len(), reports[0].disowned, reports[0].lag), (2, 1, 0), "{reports:?}");
    assert_eq!(one.dump().iter().filter(|(keyspace, ..)| keyspace == "k").count(), 0);
}

fn opened(store: &MemoryStore, round: u32, frame: &[u8]) -> (Kind, Vec<u8>) {
    let digest = head_digest(&*store.elements(ScopeId::MAIN).unwrap());
    let say = Say::Open { digest, horizon_ms: 0, frame };
    (say.kind(), say.encode(round))
}

/// Whether the answerer does what the opener of this `round` asks for. The opener gives up at once.
fn is_answered(side: &mut Auditor, store: &MemoryStore, now: Duration, round: u32) -> bool {
    let (kind, payload) = opened(store, round, b"");
    side.receive(now, store, kind, &payload).unwrap();
    let said: Vec<Kind> = side.outbox.drain(..).map(|(kind, _)| kind).collect();
    let is_answered = !matches!(side.course, Course::Idle);
    assert_eq!(said.contains(&Kind::AuditStop), !is_answered, "it says so");
    let stop = Say::Stop(Reason::Later);
    side.receive(now, store, stop.kind(), &stop.encode(round)).unwrap();
    is_answered
}

/// An opener that begins again and again would have everything read all the time, and nobody else a turn.
#[test]
fn an_audit_is_not_answered_right_after_another() {
    let (one, other) = (node(1), node(2));
    write(&other, b"key", Change::Put(b"v".to_vec()));
    let mut side = side(&other, one.origin());
    let mut now = Duration::from_secs(100);
    assert!(is_answered(&mut side, &other, now, 1));
    for round in 2..6 {
        now += Duration::from_secs(1);
        assert!(!is_answered(&mut side, &other, now, round), "{round}");
    }
    // One that keeps the rules begins no sooner than ten seconds after the end that it has seen.
    assert!(is_answered(&mut side, &other, now + Duration::from_secs(1), 6));
    assert!(!is_answered(&mut side, &other, now + Duration::from_secs(2), 7));
    side.group.want_audit(one.origin().node);
    assert!(is_answered(&mut side, &other, now + Duration::from_secs(2), 8), "wanted here");
}

/// It is kept until our side is summed up, and only then decoded.
#[test]
fn a_frame_that_has_to_wait_is_no_longer_than_one_may_be() {
    let (one, other) = (node(1), node(2));
    write(&other, b"key", Change::Put(b"v".to_vec()));
    for (len, is_taken) in [(FRAME_LEN_MAX, true), (FRAME_LEN_MAX + 1, false)] {
        let mut answerer = side(&other, one.origin());
        let (kind, payload) = opened(&other, 1, &vec![1; len]);
        let now = Duration::from_secs(1);
        let done = answerer.receive(now, &other, kind, &payload);
        assert_eq!(done.is_ok(), is_taken, "{len}");
        let is_malformed = matches!(done, Err(ProtocolError::Malformed { .. }));
        assert_eq!(is_malformed, !is_taken, "{len}");
    }
    let mut answerer = side(&other, one.origin());
    let filtered = answerer.filtered(&other).ok().unwrap();
    answerer.round = 1;
    answerer.course = Course::Summing(Sketching::of(filtered), Then::Answer(None));
    assert!(answerer.hear_frame(&vec![1; FRAME_LEN_MAX + 1]).is_err());
}

/// A frame of a comparison that says nothing, and is not the last.
const NOTHING: [u8; 3] = [1, 0, 0];
/// The last one of a half-round: everything comes to something that it does not come to.
const OTHERS: [u8; 12] = [1, 1, 0, 9, 7, 7, 7, 7, 7, 7, 7, 7];

/// An answerer that is compared with, summed up at `now`, in the first round.
fn comparing(store: &MemoryStore, peer: Origin, now: Duration) -> Auditor {
    let mut side = side(store, peer);
    let (kind, payload) = opened(store, 1, &NOTHING);
    side.receive(now, store, kind, &payload).unwrap();
    sum_up(&mut side, store, now);
    side
}

fn sum_up(side: &mut Auditor, store: &MemoryStore, now: Duration) {
    while !matches!(side.course, Course::Comparing(_)) {
        let done = side.work(now, store, true);
        side.settle(now, store, done).unwrap();
    }
}

fn hear(side: &mut Auditor, store: &MemoryStore, now: Duration, say: &Say<'_>) -> &'static str {
    let heard = side.receive(now, store, say.kind(), &say.encode(1));
    heard.map_or_else(|error| error.code(), |()| "nothing")
}

/// A frame a minute is progress, whoever sends it.
#[test]
fn an_audit_that_goes_on_and_on_is_given_up_after_an_hour() {
    let (one, other) = (node(1), node(2));
    write(&other, b"key", Change::Put(b"v".to_vec()));
    let begun = Duration::from_secs(100);
    let mut side = comparing(&other, one.origin(), begun);
    let third = node(3).origin().node;
    for minute in 1..=60 {
        let now = begun + Duration::from_secs(minute * 60);
        assert_eq!(hear(&mut side, &other, now, &Say::Compare(&NOTHING)), "nothing");
        side.let_go(now);
        assert!(!side.group.begin_audit(third), "{minute}");
    }
    let now = begun + LASTS_MAX + Duration::from_secs(1);
    assert_eq!(side.timeout(now), Some(begun + LASTS_MAX));
    side.let_go(now);
    assert!(matches!(side.course, Course::Idle));
    assert_eq!(side.outbox.pop_back(), Some((Kind::AuditStop, vec![1, 0, 0, 0, 1])));
    assert!(side.group.begin_audit(third), "others get their turn");
    assert_eq!(hear(&mut side, &other, now, &Say::Compare(&NOTHING)), "nothing");
}

/// Each answer may be eight megabytes.
#[test]
fn a_half_round_is_not_answered_before_it_is_sent() {
    let (one, other) = (node(1), node(2));
    write(&other, b"key", Change::Put(b"v".to_vec()));
    let now = Duration::from_secs(1);
    let mut side = comparing(&other, one.origin(), now);
    assert_eq!(hear(&mut side, &other, now, &Say::Compare(&OTHERS)), "nothing");
    assert_eq!(hear(&mut side, &other, now, &Say::Compare(&OTHERS)), "Unexpected");
    let mut side = comparing(&other, one.origin(), now);
    for _ in 0..5 {
        assert_eq!(hear(&mut side, &other, now, &Say::Compare(&OTHERS)), "nothing");
        assert_eq!(side.outbox.pop_front().map(|(kind, _)| kind), Some(Kind::Reconcile));
    }
}

/// After each this side is summed up anew.
#[test]
fn a_head_is_told_once() {
    let (one, other) = (node(1), node(2));
    write(&one, b"key", Change::Put(b"v".to_vec()));
    let now = Duration::from_secs(1);
    let mut side = side(&one, other.origin());
    side.group.want_audit(other.origin().node);
    sum_up(&mut side, &one, now);
    assert_eq!(hear(&mut side, &one, now, &Say::Head(Head::default())), "nothing");
    sum_up(&mut side, &one, now);
    assert_eq!(hear(&mut side, &one, now, &Say::Head(Head::default())), "Unexpected");
}

/// What says nothing new could be said for ever.
#[test]
fn nothing_and_the_same_again_are_refused() {
    let (one, other) = (node(1), node(2));
    write(&one, b"key", Change::Put(b"v".to_vec()));
    let exchange = || {
        let elements = one.elements(ScopeId::MAIN).unwrap();
        let filtered = Filtered::of(elements, ElementKey::of_group(b"group"), 0);
        let (ours, report) = (BTreeSet::from([NAME.to_vec()]), AuditReport::default());
        Exchange::new(Side::Answerer, ScopeId::MAIN, filtered, ours, report)
    };
    let hear =
        |exchange: &mut Exchange, say: &Say<'_>| match exchange.hear(&one, say, MayDisown::No) {
            Ok(()) => "nothing",
            Err(Trouble::Peer(error)) => error.code(),
            Err(Trouble::Here(error)) => panic!("{error}"),
        };
    let stamp = Stamp { tick: Tick::from_ms(7), origin: other.origin() };
    let gone = Say::Gone(vec![Gone { name: NAME.to_vec(), stamp }]);
    let mut end = exchange();
    assert_eq!(hear(&mut end, &gone), "nothing");
    assert_eq!(hear(&mut end, &gone), "Unexpected");
    let empty = StateWriter::new(ScopeId::MAIN).finish();
    assert_eq!(hear(&mut exchange(), &Say::Chunk(&empty)), "Malformed");
}
