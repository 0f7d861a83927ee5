//! The end of every history: all are connected, everything arrives, nothing moves any more.

use crate::action::{Action, SLOTS};
use crate::oracle::Violation;
use crate::rule::Rules;
use crate::search::hash;
use crate::world::{NODES, Name, World};
use replication::rules::VersionKind;
use std::cmp::Reverse;
use std::collections::HashSet;

/// Steps after which healing counts as endless.
const STEPS_MAX: usize = 2000;

impl World {
    /// Connects all, and checks that all end equal and right, before and after everything that may
    /// be dropped was dropped.
    pub(crate) fn check_healed(&self, rules: &Rules) -> Result<(), Violation> {
        let mut world = self.clone();
        world.run(World::deliver_one, rules)?;
        world.check_equal()?;
        world.run(World::collect_one, rules)?;
        world.check_equal()?;
        for (at, node) in world.nodes.iter().enumerate() {
            // The victim of an erase may have been lost with its author.
            let is_held = |slot: &usize| {
                node.scope.slots[*slot].is_some_and(|v| v.kind == VersionKind::Tombstone)
            };
            if let Some(slot) = SLOTS.into_iter().find(is_held) {
                return Err(Violation::HeldForEver { at, slot });
            }
        }
        Ok(())
    }

    /// As [`World::check_healed`]; `healed` are worlds known to heal, and learns those on the way.
    pub(crate) fn check_healed_once(
        &self,
        rules: &Rules,
        healed: &mut HashSet<u64>,
    ) -> Result<(), Violation> {
        let mut world = self.clone();
        for _ in 0..STEPS_MAX {
            if !healed.insert(hash(&world)) {
                return Ok(());
            }
            let before = world.clone();
            match world.deliver_one(rules) {
                Some(action) => world.check_step(&before, action)?,
                None => return world.check_healed(rules),
            }
        }
        Err(Violation::Restless)
    }

    /// The steps of healing as text.
    pub(crate) fn tell_healing(&self, rules: &Rules) -> String {
        let mut world = self.clone();
        let mut text = String::new();
        for _ in 0..60 {
            let before = world.clone();
            let next = world.deliver_one(rules).or_else(|| world.collect_one(rules));
            let Some(action) = next else { break };
            text += &format!("  {action}\n{world}");
            if let Err(violation) = world.check_step(&before, action) {
                return text + &format!("  => {violation}");
            }
        }
        text
    }

    /// Repeats `next` until there is nothing more to do, and checks each step.
    fn run(
        &mut self,
        next: fn(&mut World, &Rules) -> Option<Action>,
        rules: &Rules,
    ) -> Result<(), Violation> {
        for _ in 0..STEPS_MAX {
            let before = self.clone();
            match next(self, rules) {
                Some(action) => self.check_step(&before, action)?,
                None => return Ok(()),
            }
        }
        Err(Violation::Restless)
    }

    fn check_equal(&self) -> Result<(), Violation> {
        let vector = &self.nodes[0].scope.vector;
        for (at, node) in self.nodes.iter().enumerate() {
            if !node.is_whole() || node.scope.vector != *vector {
                return Err(Violation::Stuck { at });
            }
            self.check_node(at)?;
        }
        Ok(())
    }

    /// The first step of healing that there is.
    fn deliver_one(&mut self, rules: &Rules) -> Option<Action> {
        self.settle_one(rules)
            .or_else(|| self.first_of_pairs(rules, |from, to| Action::Bootstrap { from, to }))
            .or_else(|| self.ship_one(rules))
            .or_else(|| self.fetch_one(rules))
            .or_else(|| self.readmit_one(rules))
            .or_else(|| self.first_of_pairs(rules, |from, to| Action::Delta { from, to }))
            .or_else(|| self.first_of_pairs(rules, |from, to| Action::Push { from, to }))
    }

    /// What a node does by itself: sync, install, announce.
    fn settle_one(&mut self, rules: &Rules) -> Option<Action> {
        let of_all = |action: fn(Name) -> Action| (0..NODES).map(action);
        of_all(|at| Action::Sync { at })
            .chain(of_all(|at| Action::Install { at }))
            .find(|action| self.step(*action, rules))
            .or_else(|| self.first_of_pairs(rules, |at, to| Action::Announce { at, to }))
            .or_else(|| {
                let mut overrules = of_all(|at| Action::Overrule { at });
                overrules.find(|action| self.step(*action, rules))
            })
    }

    fn ship_one(&mut self, rules: &Rules) -> Option<Action> {
        let authors: Vec<_> = self.streams.keys().copied().collect();
        authors.into_iter().find_map(|author| {
            self.first_of_pairs(rules, |from, to| Action::Ship { from, to, author })
        })
    }

    /// Who is fenced, or began to rejoin, goes on with that.
    fn readmit_one(&mut self, rules: &Rules) -> Option<Action> {
        let is_begun = |world: &World, from: Name, to: Name| {
            let (node, donor) = (&world.nodes[from], &world.nodes[to]);
            let donors = &donor.scope.vector;
            let is_known =
                donors.covers_all(&node.scope.vector) && donors.covers_stamp(node.readmitted);
            if node.is_rejoining { !is_known } else { donor.is_fencing(from, node, rules) }
        };
        let pairs = pairs().filter(|(from, to)| is_begun(self, *from, *to));
        let pushes: Vec<_> = pairs.map(|(from, to)| Action::Push { from, to }).collect();
        pushes.into_iter().find(|action| self.step(*action, rules))
    }

    /// Rejoiners fetch from whoever has most.
    fn fetch_one(&mut self, rules: &Rules) -> Option<Action> {
        let has = |name: Name| self.nodes[name].scope.vector.iter().map(|(_, t)| t.raw()).sum();
        let mut pairs: Vec<(u64, Name, Name)> = pairs().map(|(a, b)| (has(a), a, b)).collect();
        pairs.sort_by_key(|pair| Reverse(pair.0));
        let fetches = pairs.into_iter().map(|(_, from, to)| Action::Fetch { from, to });
        fetches.into_iter().find(|action| self.step(*action, rules))
    }

    /// Statements from everyone to everyone, then everything that may go goes.
    fn collect_one(&mut self, rules: &Rules) -> Option<Action> {
        self.first_of_pairs(rules, |from, to| Action::State { from, to, about: from }).or_else(
            || {
                let places =
                    (0..NODES).flat_map(|at| SLOTS.map(|slot| Action::Collect { at, slot }));
                let floors = (0..NODES).map(|at| Action::RaiseFloor { at });
                floors.chain(places).find(|action| self.step(*action, rules))
            },
        )
    }

    fn first_of_pairs(
        &mut self,
        rules: &Rules,
        action: impl Fn(Name, Name) -> Action,
    ) -> Option<Action> {
        pairs().map(|(a, b)| action(a, b)).find(|action| self.step(*action, rules))
    }
}

fn pairs() -> impl Iterator<Item = (Name, Name)> {
    (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b))).filter(|(a, b)| a != b)
}
