//! Whole audits, step by step.

use super::fixture::{forget, node, ship, write};
use super::*;
use crate::group::{GroupConfig, NO_GROUP};
use crate::memory::{Change, MemoryStore};
use crate::roster::Member;
use base::{Origin, ScopeId, Tick};

/// The side of a node that audits `peer`, which is as far as the node is.
fn side(store: &MemoryStore, peer: Origin) -> Auditor {
    let own = store.origin();
    let first = vec![own.node, peer.node];
    let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first };
    let group = Arc::new(Group::open(config, store).unwrap());
    group.agree(store, peer.node, NO_GROUP, [7; 16]).unwrap();
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
