//! What can happen next: one step of a history.

use crate::rule::{Rule, Rules};
use crate::world::{NODES, Name, Node, Op, RANGE, Role, Slot, World};
use base::{Origin, Tick, Vector};
use replication::rules::{self, Statement};
use std::sync::Arc;

/// How far a node's clock is when it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It knows only what it received.
    Slow,
    /// It is ahead of everybody.
    Fast,
}

/// One step. Steps that make no sense in a world are refused there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Put {
        at: Name,
        key: Slot,
        pace: Pace,
    },
    /// Of a key, or of both.
    Delete {
        at: Name,
        slot: Slot,
        pace: Pace,
    },
    /// The next record of a stream, from a log that still has it. `author` counts lives of a node.
    Ship {
        from: Name,
        to: Name,
        author: Origin,
    },
    /// `to` hears what `about` stated, from itself or through a relay.
    State {
        from: Name,
        to: Name,
        about: Name,
    },
    RaiseFloor {
        at: Name,
    },
    /// Raises the floor, and drops the tombstone or erase in `slot`.
    Collect {
        at: Name,
        slot: Slot,
    },
    /// The log begins behind everything: who needs more gets it from state.
    TrimLog {
        at: Name,
    },
    /// T2: a delta of a snapshot arrives, and is staged.
    Delta {
        from: Name,
        to: Name,
    },
    /// T3, first half: the rejoiner sends what the donor lacks; the donor installs it at once.
    Push {
        from: Name,
        to: Name,
    },
    /// T3, second half: the donor's state arrives, and is staged.
    Fetch {
        from: Name,
        to: Name,
    },
    /// The donor puts an empty node on the roster and sends all; it is staged.
    Bootstrap {
        from: Name,
        to: Name,
    },
    /// What is staged becomes visible.
    Install {
        at: Name,
    },
    /// What is staged is thrown away: the transfer broke off.
    BreakOff {
        at: Name,
    },
    /// From now on commits of this node are not durable.
    Relax {
        at: Name,
    },
    /// All is durable.
    Sync {
        at: Name,
    },
    /// What was not durable is gone.
    PowerLoss {
        at: Name,
    },
    Backup {
        at: Name,
    },
    Restore {
        at: Name,
    },
    /// A restored node meets a live author.
    Announce {
        at: Name,
        to: Name,
    },
    /// An operator lets a restored node write that finds no live author.
    Overrule {
        at: Name,
    },
    Deprecate {
        at: Name,
        who: Name,
    },
    /// An operator at `at` makes a node a writer or a reader; a reader makes only itself a writer.
    Become {
        at: Name,
        who: Name,
        role: Role,
    },
}

impl World {
    /// Takes the step, or refuses it and changes nothing.
    pub(crate) fn step(&mut self, action: Action, rules: &Rules) -> bool {
        match action {
            Action::Put { at, key, pace } => self.write(at, Op::Put(key), pace, rules),
            Action::Delete { at, slot, pace } => self.write(at, Op::Delete(slot), pace, rules),
            Action::Ship { from, to, author } => self.ship(from, to, author, rules),
            Action::State { from, to, about } => self.state(from, to, about, rules),
            Action::RaiseFloor { at } => self.raise_floor(at, rules),
            Action::Collect { at, slot } => self.collect(at, slot, rules),
            Action::TrimLog { at } => self.trim_log(at),
            Action::Delta { from, to } => self.delta(from, to, rules),
            Action::Push { from, to } => self.push(from, to, rules),
            Action::Fetch { from, to } => self.fetch(from, to, rules),
            Action::Bootstrap { from, to } => self.bootstrap(from, to, rules),
            Action::Install { at } => self.install(at, rules),
            Action::BreakOff { at } => self.break_off(at),
            Action::Relax { at } => self.relax(at),
            Action::Sync { at } => self.sync(at),
            Action::PowerLoss { at } => self.power_loss(at),
            Action::Backup { at } => self.back_up(at),
            Action::Restore { at } => self.restore(at, rules),
            Action::Announce { at, to } => self.announce(at, to, rules),
            Action::Overrule { at } => self.overrule(at, rules),
            Action::Deprecate { at, who } => self.deprecate(at, who, rules),
            Action::Become { at, who, role } => self.change_role(at, who, role, rules),
        }
    }

    /// Whether `at` takes part: writes, donates, drops, states.
    pub(crate) fn is_open(&self, at: Name, rules: &Rules) -> bool {
        let node = &self.nodes[at];
        node.is_whole() || node.is_rejoining && !rules.keep(Rule::RejoinerClosed)
    }

    /// Whether `at` may commit records of its own.
    pub(crate) fn may_author(&self, at: Name, rules: &Rules) -> bool {
        self.is_open(at, rules) && self.nodes[at].scope.role(at) == Some(Role::Author)
    }

    /// Whether `at` may give others state: what it has is durable and whole.
    pub(crate) fn may_donate(&self, at: Name, rules: &Rules) -> bool {
        self.is_open(at, rules) && self.nodes[at].durable.is_none()
    }

    /// Whether the roster of each of the two lets it talk with the other.
    pub(crate) fn is_linked(&self, a: Name, b: Name, rules: &Rules) -> bool {
        let admits = |a: Name, b: Name| !self.nodes[a].is_fencing(b, &self.nodes[b], rules);
        a != b && !self.nodes[a].is_empty && !self.nodes[b].is_empty && admits(a, b) && admits(b, a)
    }

    fn write(&mut self, at: Name, op: Op, pace: Pace, rules: &Rules) -> bool {
        if !self.may_author(at, rules) {
            return false;
        }
        let tick = match pace {
            Pace::Slow => self.nodes[at].clock.next(),
            Pace::Fast => self.latest().next(),
        };
        self.commit(at, tick, vec![op], rules);
        true
    }

    /// T0 and T1: the next record of `author` that `to` lacks.
    fn ship(&mut self, from: Name, to: Name, author: Origin, rules: &Rules) -> bool {
        if !self.is_linked(from, to, rules) || !self.may_send_log(from, rules) {
            return false;
        }
        let (sender, receiver) = (&self.nodes[from], &self.nodes[to]);
        let is_closed =
            receiver.is_unannounced || receiver.is_rejoining && rules.keep(Rule::RejoinerClosed);
        let have = receiver.scope.vector.get(author);
        let upto = sender.scope.vector.get(author);
        if is_closed || have >= upto || have < sender.log_from.get(author) {
            return false;
        }
        let Some(record) = self.record_after(author, have).cloned() else { return false };
        self.admit(to, author, &record, rules)
    }

    /// Whether what it has comes in the order of its log.
    fn may_send_log(&self, from: Name, rules: &Rules) -> bool {
        let node = &self.nodes[from];
        node.durable.is_none()
            && !node.is_unannounced
            && (!node.is_rejoining || !rules.keep(Rule::RejoinerClosed))
    }

    fn state(&mut self, from: Name, to: Name, about: Name, rules: &Rules) -> bool {
        if !self.is_linked(from, to, rules) || to == about {
            return false;
        }
        let sender = &self.nodes[from];
        let statement = if from == about {
            let may = sender.durable.is_none() && self.is_open(from, rules);
            may.then(|| Statement { origin: sender.origin, vector: sender.scope.vector.clone() })
        } else {
            sender.heard[about].clone()
        };
        let Some(statement) = statement else { return false };
        let known = &self.nodes[to].heard[about];
        let is_old = |known: &Statement| {
            known.origin == statement.origin && known.vector.covers_all(&statement.vector)
        };
        if known.as_ref().is_some_and(is_old) {
            return false;
        }
        self.node_mut(to).heard[about] = Some(statement);
        true
    }

    /// The floor as `at` may set it now.
    fn floor_at(&self, at: Name, rules: &Rules) -> Vector {
        let node = &self.nodes[at];
        let counted = |name: Name| {
            let since = node.scope.roster[name].map(|member| member.since).unwrap_or_default();
            let counts = |heard: &&Statement| rules.is_counted(heard, since, &node.scope.vector);
            node.heard[name].as_ref().filter(counts)
        };
        let is_author = |name: &Name| node.scope.role(*name) == Some(Role::Author);
        let others = (0..self.nodes.len()).filter(|name| *name != at).filter(is_author);
        let statements: Vec<_> = others.map(counted).collect();
        let is_heard = |statement: &Option<_>| {
            rules.keep(Rule::FloorOfEveryAuthor) || Option::is_some(statement)
        };
        let mut floor = rules::floor(&node.scope.vector, statements.into_iter().filter(is_heard));
        floor.raise_all(&node.scope.floor);
        floor
    }

    fn raise_floor(&mut self, at: Name, rules: &Rules) -> bool {
        if !self.is_open(at, rules) {
            return false;
        }
        let floor = self.floor_at(at, rules);
        if floor == self.nodes[at].scope.floor {
            return false;
        }
        self.node_mut(at).scope.floor = floor;
        self.excuse_outsiders(at);
        true
    }

    fn collect(&mut self, at: Name, slot: Slot, rules: &Rules) -> bool {
        let Some(deletion) = self.nodes[at].scope.slots[slot] else { return false };
        if !self.is_open(at, rules) {
            return false;
        }
        let floor = self.floor_at(at, rules);
        if !rules.may_drop(&deletion, &floor) {
            return false;
        }
        let scope = &mut self.node_mut(at).scope;
        scope.floor = floor;
        scope.slots[slot] = None;
        scope.dropped = scope.dropped.max(deletion.stamp);
        self.excuse_outsiders(at);
        true
    }

    fn trim_log(&mut self, at: Name) -> bool {
        let node = &self.nodes[at];
        if node.log_from == node.scope.vector {
            return false;
        }
        let node = self.node_mut(at);
        node.log_from = node.scope.vector.clone();
        true
    }

    fn break_off(&mut self, at: Name) -> bool {
        self.nodes[at].staged.is_some() && self.node_mut(at).staged.take().is_some()
    }

    fn sync(&mut self, at: Name) -> bool {
        self.nodes[at].durable.is_some() && self.node_mut(at).durable.take().is_some()
    }

    fn relax(&mut self, at: Name) -> bool {
        let node = &self.nodes[at];
        if !node.is_whole() || node.durable.is_some() || node.staged.is_some() {
            return false;
        }
        let now = Node { backup: None, ..Node::clone(node) };
        self.node_mut(at).durable = Some(Arc::new(now));
        true
    }

    /// Own commits that are lost begin a new life; the clock never goes back.
    fn power_loss(&mut self, at: Name) -> bool {
        let node = &self.nodes[at];
        let Some(durable) = node.durable.clone() else { return false };
        let (own, clock, backup) = (node.origin, node.clock, node.backup.clone());
        let kept = durable.scope.vector.get(own);
        let has_lost = node.scope.vector.get(own) > kept;
        if !self.may_be_born_again() {
            return false;
        }
        let origin = if has_lost { self.next_life(at) } else { Some(own) };
        let Some(origin) = origin else { return false };
        if has_lost {
            self.recall_nobody();
        }
        if has_lost && let Some(stream) = Arc::make_mut(&mut self.streams).get_mut(&own) {
            stream.retain(|record| record.tick <= kept);
        }
        let inherited = durable.scope.vector.clone();
        *self.node_mut(at) = Node { origin, clock, backup, inherited, ..Node::clone(&durable) };
        true
    }

    fn back_up(&mut self, at: Name) -> bool {
        let node = &self.nodes[at];
        if !self.nodes[at].is_whole() || node.durable.is_some() {
            return false;
        }
        let now = Node { backup: None, staged: None, ..Node::clone(node) };
        self.node_mut(at).backup = Some(Arc::new(now));
        true
    }

    /// Again and again from the same backup, if it must be.
    fn restore(&mut self, at: Name, rules: &Rules) -> bool {
        let Some(backup) = self.nodes[at].backup.clone() else { return false };
        if !self.may_be_born_again() {
            return false;
        }
        let Some(origin) = self.next_life(at) else { return false };
        let is_author = backup.scope.role(at) == Some(Role::Author);
        let is_unannounced = is_author && rules.keep(Rule::RestoredWaits);
        let inherited = backup.scope.vector.clone();
        let node = Node { origin, is_unannounced, inherited, ..Node::clone(&backup) };
        *self.node_mut(at) = Node { backup: Some(backup), ..node };
        self.recall_nobody();
        self.forget_unknown(at);
        true
    }

    /// A life that begins without a rejoin is excused if the one before it was.
    fn next_life(&mut self, name: Name) -> Option<Origin> {
        let origin = self.birth(name)?;
        if let Some(upto) = self.excused.get(&self.nodes[name].origin) {
            self.excused.insert(origin, *upto);
        }
        Some(origin)
    }

    /// The live author's clock is adopted, and it has the announcement.
    fn announce(&mut self, at: Name, to: Name, rules: &Rules) -> bool {
        let is_live = self.may_author(to, rules) && self.may_donate(to, rules);
        if !self.nodes[at].is_unannounced || !is_live || !self.is_linked(at, to, rules) {
            return false;
        }
        let clock = self.nodes[at].clock.max(self.nodes[to].clock);
        let author = self.nodes[at].origin;
        self.node_mut(at).is_unannounced = false;
        self.commit(at, clock.next(), vec![Op::Born], rules);
        if let Some(record) = self.record_after(author, Tick::ZERO).cloned() {
            self.admit(to, author, &record, rules);
        }
        true
    }

    /// The operator answers for writes that come out late.
    fn overrule(&mut self, at: Name, rules: &Rules) -> bool {
        let is_live = |to: Name| self.may_author(to, rules) && self.is_linked(at, to, rules);
        let is_author = self.nodes[at].scope.role(at) == Some(Role::Author);
        if !self.nodes[at].is_unannounced || !is_author || (0..NODES).any(is_live) {
            return false;
        }
        let tick = self.nodes[at].clock.next();
        self.excuse(at);
        self.node_mut(at).is_unannounced = false;
        self.commit(at, tick, vec![Op::Born], rules);
        true
    }
}

/// All places of a world, in which a step may name one.
pub(crate) const SLOTS: [Slot; 3] = [0, 1, RANGE];
