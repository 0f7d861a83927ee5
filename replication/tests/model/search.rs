//! Every history inside a bound, breadth first: each world that can be reached is seen once.
//!
//! Writes, deletes and restores are counted; everything else runs out by itself, so a search
//! without a bound on its depth ends. Two worlds count as one if their 64-bit hashes are equal.

use crate::action::{Action, Pace, SLOTS};
use crate::chance::Failure;
use crate::rule::Rules;
use crate::world::{KEYS, NODES, Name, Op, Role, Slot, World};
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// What may happen, beside shipping records and stating vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Dropping tombstones.
    Collect,
    /// Logs that begin late, and deltas from state.
    Delta,
    /// Nodes that are deprecated.
    Deprecate,
    /// T3.
    Rejoin,
    /// The third node starts empty.
    Bootstrap,
    /// Backups, restores, announcements.
    Restore,
    /// Commits that are lost with the power.
    PowerLoss,
    /// Writers whose clocks are ahead, not only behind.
    FastClocks,
    /// Writers that become readers, and readers that become writers.
    Become,
}

/// The histories to see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) name: &'static str,
    pub(crate) roles: [Role; NODES],
    pub(crate) joiner: Option<Name>,
    pub(crate) puts: usize,
    pub(crate) deletes: usize,
    pub(crate) restores: usize,
    /// Records about members.
    pub(crate) records: usize,
    pub(crate) kinds: &'static [Kind],
    pub(crate) depth: usize,
}

/// What a search saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) worlds: usize,
    pub(crate) steps: usize,
    /// The depth at which nothing new was left, or the one given.
    pub(crate) depth: usize,
    pub(crate) is_complete: bool,
}

/// Worlds with the way to each.
struct Search<'a> {
    bound: &'a Bound,
    rules: &'a Rules,
    known: HashSet<u64>,
    healed: HashSet<u64>,
    /// Of each world the one before it and the step between.
    ways: Vec<(usize, Option<Action>)>,
    steps: usize,
}

/// Sees every history inside `bound`, and heals every world.
pub(crate) fn search(bound: &Bound, rules: &Rules) -> Result<Seen, Box<Failure>> {
    let first = World::new(bound.roles, bound.joiner);
    let (known, healed) = (HashSet::from([hash(&first)]), HashSet::new());
    let mut search = Search { bound, rules, known, healed, ways: vec![(0, None)], steps: 0 };
    let mut layer = vec![(0, first)];
    for depth in 0..bound.depth {
        let mut next = Vec::new();
        for (way, world) in &layer {
            search.expand(*way, world, &mut next)?;
        }
        if next.is_empty() {
            return Ok(search.seen(depth, true));
        }
        layer = next;
    }
    Ok(search.seen(bound.depth, false))
}

impl Search<'_> {
    fn seen(&self, depth: usize, is_complete: bool) -> Seen {
        Seen { worlds: self.ways.len(), steps: self.steps, depth, is_complete }
    }

    fn expand(
        &mut self,
        way: usize,
        world: &World,
        out: &mut Vec<(usize, World)>,
    ) -> Result<(), Box<Failure>> {
        for action in self.bound.actions(world) {
            let mut next = world.clone();
            if !next.step(action, self.rules) {
                continue;
            }
            self.steps += 1;
            if !self.known.insert(hash(&next)) {
                continue;
            }
            self.ways.push((way, Some(action)));
            let outcome = next.check_step(world, action);
            let outcome =
                outcome.and_then(|()| next.check_healed_once(self.rules, &mut self.healed));
            if let Err(violation) = outcome {
                let Bound { roles, joiner, .. } = *self.bound;
                let steps = self.way_to(self.ways.len() - 1);
                let seed = self.ways.len() as u64;
                return Err(Box::new(Failure { seed, roles, joiner, steps, violation }));
            }
            out.push((self.ways.len() - 1, next));
        }
        Ok(())
    }

    fn way_to(&self, mut at: usize) -> Vec<Action> {
        let mut steps = Vec::new();
        while let (before, Some(action)) = self.ways[at] {
            steps.push(action);
            at = before;
        }
        steps.reverse();
        steps
    }
}

/// What stands for a world in a set of worlds.
pub(crate) fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// How many records there are about members.
fn records(world: &World) -> usize {
    let ops = world.streams.values().flatten().flat_map(|record| &record.ops);
    ops.filter(|op| matches!(op, Op::Member(..))).count()
}

impl Bound {
    fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// The steps that may come next; many are refused.
    fn actions(&self, world: &World) -> Vec<Action> {
        let mut actions = self.writes(world);
        for at in 0..NODES {
            self.actions_of(at, world, &mut actions);
            for other in (0..NODES).filter(|other| *other != at) {
                self.actions_between(at, other, world, &mut actions);
            }
        }
        actions
    }

    fn writes(&self, world: &World) -> Vec<Action> {
        let (mut puts, mut deletes, mut is_first) = (0, 0, true);
        for op in world.streams.values().flatten().flat_map(|record| &record.ops) {
            match op {
                Op::Put(slot) => (puts, is_first) = (puts + 1, is_first && *slot != 0),
                Op::Delete(_) => (deletes, is_first) = (deletes + 1, false),
                _ => {}
            }
        }
        // The keys are alike: the first operation may as well be on the first one.
        let is_new = |slot: &Slot| !is_first || *slot != 1;
        let paces: &[Pace] = match self.has(Kind::FastClocks) {
            true => &[Pace::Slow, Pace::Fast],
            false => &[Pace::Slow],
        };
        let mut actions = Vec::new();
        for (at, pace) in (0..NODES).flat_map(|at| paces.iter().map(move |pace| (at, *pace))) {
            if puts < self.puts {
                let keys = (0..KEYS).filter(is_new);
                actions.extend(keys.map(|key| Action::Put { at, key, pace }));
            }
            if deletes < self.deletes {
                let slots = SLOTS.into_iter().filter(is_new);
                actions.extend(slots.map(|slot| Action::Delete { at, slot, pace }));
            }
        }
        actions
    }

    fn actions_of(&self, at: Name, world: &World, out: &mut Vec<Action>) {
        if self.has(Kind::Collect) {
            out.extend(SLOTS.map(|slot| Action::Collect { at, slot }));
        }
        if self.has(Kind::Delta) {
            out.push(Action::TrimLog { at });
        }
        if world.nodes[at].staged.is_some() {
            out.extend([Action::Install { at }, Action::BreakOff { at }]);
        }
        if self.has(Kind::Become) && records(world) < self.records {
            out.push(Action::Become { at, who: at, role: Role::Author });
        }
        let lives = usize::from(world.births) - NODES;
        if self.has(Kind::Restore) && lives < self.restores {
            out.extend([Action::Backup { at }, Action::Restore { at }]);
        }
        if self.has(Kind::PowerLoss) && lives < self.restores {
            out.extend([Action::Relax { at }, Action::PowerLoss { at }]);
        }
        if world.nodes[at].durable.is_some() {
            out.push(Action::Sync { at });
        }
    }

    fn actions_between(&self, at: Name, other: Name, world: &World, out: &mut Vec<Action>) {
        let (from, to) = (at, other);
        out.extend(world.streams.keys().map(|author| Action::Ship { from, to, author: *author }));
        out.push(Action::State { from, to, about: from });
        out.push(Action::State { from, to, about: NODES - from - to });
        if self.has(Kind::Delta) {
            out.push(Action::Delta { from, to });
        }
        if self.has(Kind::Rejoin) {
            out.extend([Action::Push { from, to }, Action::Fetch { from, to }]);
        }
        if self.has(Kind::Bootstrap) {
            out.push(Action::Bootstrap { from, to });
        }
        if self.has(Kind::Restore) {
            out.push(Action::Announce { at, to });
        }
        if self.has(Kind::Deprecate) && world.excused.is_empty() {
            out.push(Action::Deprecate { at, who: other });
        }
        if self.has(Kind::Become) && records(world) < self.records {
            let roles = [Role::Observer, Role::Author];
            out.extend(roles.map(|role| Action::Become { at, who: other, role }));
        }
    }
}
