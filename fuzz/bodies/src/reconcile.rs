//! Two sets that are compared, and two nodes that audit each other, with somebody in between who may
//! change what they say.

use crate::damage::damage;
use crate::input::Input;
use crate::message::AUDIT;
use crate::session::agree;
use base::{Incarnation, NodeId, Origin, ScopeId, Stamp, Tick};
use replication::group::{Group, GroupConfig};
use replication::memory::{Change, MemoryStore, Write};
use replication::protocol::frame::{Channel, Lane};
use replication::protocol::{Event, Session, SessionConfig};
use replication::reconcile::message::{FRAME_LEN_MAX, Frame};
use replication::reconcile::{
    Comparison, ElementDigest, ElementKey, Elements, HALF_ROUNDS_MAX, Sketch, Step,
};
use replication::roster::Role;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a half-round at the most, and one frame.
const HALF_ROUND_LEN_MAX: usize = (8 << 20) + FRAME_LEN_MAX;
const NODES: [NodeId; 2] = [NodeId([1; 16]), NodeId([2; 16])];
const WALL_MS: u64 = 1_700_000_000_000;

/// Honest sides learn exactly what the other lacks, and honest nodes are equal afterwards. With somebody
/// in between they end with an error or go on, name only what they hold, and say no more than they may.
pub fn reconcile(data: &[u8]) {
    let mut input = Input::new(data);
    let first = input.byte();
    let features = match first / 4 % 2 {
        0 => 0,
        _ => SessionConfig::new(NODES[1]).features,
    };
    match first % 4 {
        0 => honest(&mut input),
        1 => lied_to(&mut input),
        2 => audited(&mut input, features, Between::Nobody),
        _ => audited(&mut input, features, Between::Liar),
    }
}

/// Elements by name; without a digest where there is nothing to compare.
#[derive(Clone)]
struct Set(BTreeMap<Vec<u8>, Option<ElementDigest>>);

impl Elements for Set {
    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Option<&ElementDigest>) -> bool,
    ) -> base::Result<()> {
        let behind = self.0.range(from.to_vec()..);
        let inside = behind.take_while(|(name, _)| to.is_none_or(|to| &name[..] < to));
        for (name, digest) in inside {
            if !each(name, digest.as_ref()) {
                break;
            }
        }
        Ok(())
    }
}

/// Two sets that have most in common.
fn sets(input: &mut Input<'_>) -> [Set; 2] {
    let (count, stride) = (input.below(1500) as u32, u32::from(input.byte()) << 8 | 1);
    let key = ElementKey::of_group(b"group");
    let name = |number: u32| [b"k\0", &number.wrapping_mul(stride).to_be_bytes()[..]].concat();
    let digest = |number: u32, tick: u64, is_erase: bool| {
        let tick = Tick::from_ms(tick);
        Some(key.digest(&name(number), Stamp { tick, origin: Origin::default() }, is_erase))
    };
    let all = (0..count).map(|number| (name(number), digest(number, 1, false)));
    let mut sets = [Set(all.collect()), Set(BTreeMap::new())];
    sets[1] = sets[0].clone();
    for _ in 0..input.below(80) {
        let (side, number) = (input.below(2), input.below(1500) as u32);
        let Set(names) = &mut sets[side];
        match input.byte() % 4 {
            0 => drop(names.remove(&name(number))),
            1 => drop(names.insert(name(number), None)),
            2 => drop(names.insert(name(number), digest(number, 1, true))),
            _ => drop(names.insert(name(number), digest(number, 2, false))),
        }
    }
    sets
}

fn only_in(a: &Set, b: &Set) -> BTreeSet<Vec<u8>> {
    let differs = |(name, digest): &(&Vec<u8>, &Option<ElementDigest>)| {
        digest.is_some() && b.0.get(*name) != Some(digest)
    };
    a.0.iter().filter(differs).map(|(name, _)| name.clone()).collect()
}

fn honest(input: &mut Input<'_>) {
    let sets = sets(input);
    let mut sides = sets.clone().map(|set| Comparison::new(Sketch::of(set).unwrap()));
    let mut frames = sides[0].open();
    let mut is_over = false;
    for half_round in 1.. {
        assert!(half_round <= HALF_ROUNDS_MAX as usize, "it does not end");
        check_said(&frames);
        let taker = &mut sides[half_round % 2];
        let steps: Vec<Step> = frames.iter().map(|frame| taker.receive(frame).unwrap()).collect();
        let (last, before) = steps.split_last().unwrap();
        assert!(before.iter().all(|step| *step == Step::Wait));
        match last {
            Step::Answer(said) if !is_over => frames = said.clone(),
            Step::Done(said) if !is_over && !said.is_empty() => {
                (is_over, frames) = (true, said.clone());
            }
            Step::Done(said) if said.is_empty() => break,
            step => panic!("{step:?}, over: {is_over}"),
        }
    }
    let [left, right] = &sets;
    assert_eq!(sides[0].found().ours, only_in(left, right));
    assert_eq!(sides[1].found().ours, only_in(right, left));
}

fn lied_to(input: &mut Input<'_>) {
    let sets = sets(input);
    let mut sides = sets.clone().map(|set| Comparison::new(Sketch::of(set).unwrap()));
    let mut frames = sides[0].open();
    for half_round in 1..=HALF_ROUNDS_MAX as usize {
        check_said(&frames);
        if let Some(frame) = frames.first_mut() {
            damage(frame, input);
        }
        match input.byte() % 8 {
            0 => drop(frames.pop()),
            1 => frames.extend_from_within(..),
            2 => frames.push(input.bytes(300).to_vec()),
            _ => {}
        }
        let side = half_round % 2;
        let mut answer = None;
        for frame in &frames {
            match sides[side].receive(frame) {
                Ok(Step::Wait) => {}
                Ok(Step::Answer(said) | Step::Done(said)) => answer = Some(said),
                Err(error) => {
                    assert!(["InvalidInput", "TooLarge"].contains(&error.code()), "{error}");
                    return;
                }
            }
        }
        let found = &sides[side].found().ours;
        assert!(found.iter().all(|name| sets[side].0.get(name).is_some_and(Option::is_some)));
        match answer {
            Some(said) => frames = said,
            None => return,
        }
    }
}

fn check_said(frames: &[Vec<u8>]) {
    assert!(frames.iter().map(Vec::len).sum::<usize>() <= HALF_ROUND_LEN_MAX);
    let ends: Vec<bool> = frames.iter().map(|frame| ends_half_round(frame)).collect();
    assert!(ends.split_last().is_none_or(|(last, rest)| *last && rest.iter().all(|end| !end)));
}

/// Whether the frame, all of which can be read, is the last of a half-round.
fn ends_half_round(frame: &[u8]) -> bool {
    let mut frame = Frame::decode(frame).unwrap();
    while frame.next_range().unwrap().is_some() {}
    frame.is_last()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    Nobody,
    Liar,
}

struct Node {
    store: MemoryStore,
    group: Arc<Group>,
    session: Session,
    inbox: [VecDeque<Vec<u8>>; 4],
    /// Of who is between: what this node says of an audit, and what the other one is told.
    heard: Lane,
    told: Lane,
}

fn node(at: usize, features: u64) -> Node {
    let store = MemoryStore::new(NODES[at], Incarnation(1 + at as u64), WALL_MS);
    let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first: NODES.to_vec() };
    let group = Arc::new(Group::open(config, &store).unwrap());
    let config = SessionConfig { features, audit_every: None, ..SessionConfig::new(NODES[1 - at]) };
    let session = Session::new(config, group.clone(), Duration::ZERO);
    let [mut heard, mut told] = [Lane::new(Channel::Reconcile), Lane::new(Channel::Reconcile)];
    [&mut heard, &mut told].into_iter().for_each(|lane| agree(lane, features));
    Node { store, group, session, inbox: Default::default(), heard, told }
}

/// Two nodes that understand `features` and had the same lose some of it, and compare.
fn audited(input: &mut Input<'_>, features: u64, between: Between) {
    let nodes = [node(0, features), node(1, features)];
    let mut talk = Talk { nodes, now: Duration::ZERO, audits: 0 };
    for number in 0..1 + input.below(120) {
        let change = match number % 11 {
            7 => Change::Delete,
            _ => Change::Put(vec![number as u8; 1 + number % 9]),
        };
        let key = format!("{:03}", number % 100).into_bytes();
        let write = Write { keyspace: "k".to_owned(), key, change };
        talk.nodes[number % 2].store.write(&[write]).unwrap();
    }
    assert!(talk.run(4_000, &mut Input::new(&[]), Between::Nobody));
    let before = talk.nodes[0].store.dump();
    assert_eq!(talk.nodes[1].store.dump(), before);
    let mut lost = BTreeSet::new();
    for _ in 0..input.below(30) {
        let (side, key) = (input.below(2), format!("{:03}", input.below(100)));
        if lost.insert(key.clone()) {
            talk.nodes[side].store.lose("k", key.as_bytes());
        }
    }
    let asks = input.below(2);
    talk.nodes[asks].group.want_audit(NODES[1 - asks]);
    let goes_on = talk.run(12_000, input, between);
    if between == Between::Nobody {
        assert_eq!((goes_on, talk.audits), (true, 2));
        talk.nodes.iter().for_each(|node| assert_eq!(node.store.dump(), before));
    }
}

struct Talk {
    nodes: [Node; 2],
    now: Duration,
    /// Audits that came to their end, counted on both sides.
    audits: usize,
}

impl Talk {
    /// Runs for `ms` of made-up time. False if a session has ended.
    fn run(&mut self, ms: u64, input: &mut Input<'_>, between: Between) -> bool {
        for _ in 0..ms / 50 {
            while (0..2).any(|side| {
                Channel::ALL.iter().any(|channel| self.step(side, *channel, input, between))
            }) {}
            if self.nodes.iter().any(|node| node.session.next_timeout().is_none()) {
                return false;
            }
            self.now += Duration::from_millis(50);
            let wall_ms = WALL_MS + self.now.as_millis() as u64;
            self.nodes.iter().for_each(|node| node.store.set_wall_ms(wall_ms));
        }
        true
    }

    /// Moves one frame in and one out; whether there was one.
    fn step(
        &mut self,
        side: usize,
        channel: Channel,
        input: &mut Input<'_>,
        between: Between,
    ) -> bool {
        let Node { store, session, inbox, heard, told, .. } = &mut self.nodes[side];
        if session.next_timeout().is_none() {
            return false;
        }
        let came = inbox[channel as usize].pop_front();
        let has_come = came.is_some();
        let taken = came.map_or(Ok(()), |it| session.receive(self.now, channel, &it, store));
        let made = taken.and_then(|()| session.next_frame(self.now, channel, store));
        let is_audit = |event: &Event| matches!(event, Event::Audited(_));
        self.audits += session.take_events().iter().filter(|event| is_audit(event)).count();
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                assert!(between == Between::Liar && error.number() > 0, "{error}");
                return false;
            }
        };
        let has_made = made.is_some();
        let passed = match made {
            Some(frame) if channel == Channel::Reconcile && between == Between::Liar => {
                lie(&frame, heard, told, input)
            }
            Some(frame) if channel == Channel::Reconcile => {
                let opened = heard.open(&frame).unwrap();
                vec![told.seal(opened.kind, opened.extent, &[&opened.payload])]
            }
            made => made.into_iter().collect(),
        };
        self.nodes[1 - side].inbox[channel as usize].extend(passed);
        has_come || has_made
    }
}

/// What becomes of a part of an audit on its way: damaged, called something else, left out or doubled,
/// in frames that verify.
fn lie(frame: &[u8], heard: &mut Lane, told: &mut Lane, input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let opened = heard.open(frame).unwrap();
    let (mut kind, mut payload) = (opened.kind, opened.payload.to_vec());
    damage(&mut payload, input);
    let mut copies = 1;
    match input.byte() % 12 {
        0 => kind = AUDIT[input.below(AUDIT.len())],
        1 => copies = 0,
        2 => copies = 2,
        _ => {}
    }
    payload.truncate(256 << 10);
    (0..copies).map(|_| told.seal(kind, opened.extent, &[&payload])).collect()
}
