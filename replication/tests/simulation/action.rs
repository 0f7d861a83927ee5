//! What happens.

use crate::story::ledger::describe;
use crate::story::machine::{Chore, Loss, Machine};
use crate::story::plan::{Action, Plan, Shape};
use crate::story::world::{Found, NODES, World};
use base::{Error, Origin, Tick};
use replication::group::Writes;
use replication::link::sim::Weather;
use replication::memory::{Change, Write};
use replication::replica::Dialing;
use replication::roster::Role;
use std::time::Duration;

/// The two keyspaces of users.
pub(crate) const KEYSPACES: [&str; 2] = ["moon", "tide"];
/// Bytes of a long write: some pieces.
const LONG_LEN: usize = 5 << 20;
/// The operator of a group sits at this node, if it is up.
pub(crate) const OPERATOR: usize = 0;

impl<M: Machine> World<M> {
    /// The nodes start, and become a group of the planned shape.
    pub(crate) async fn open(&mut self, plan: &Plan) -> Result<(), Found> {
        if matches!(plan.shape, Shape::Responder | Shape::ReadingRelay) {
            self.walls.extend([(0, 2), (2, 0)]);
        }
        if plan.shape == Shape::Responder {
            self.nodes[1].dialing = Dialing::RespondOnly;
        }
        for at in 0..NODES {
            self.nodes[at].sync_after_ms = *self.dice.pick(&[0, 0, 50, 300, 1_000]);
            self.start(at)?;
        }
        let reader = match plan.shape {
            Shape::Reader => 2,
            Shape::ReadingRelay => 1,
            Shape::Mesh | Shape::Responder => return Ok(()),
        };
        (self.nodes[reader].configured, self.nodes[reader].role) = (Role::Observer, Role::Observer);
        self.settle(Duration::from_secs(120)).await?;
        Ok(())
    }

    pub(crate) async fn act(&mut self, plan: &Plan, action: Action) -> Result<(), Found> {
        let at = self.dice.below(NODES as u64) as usize;
        let is_up = self.nodes[at].is_up();
        let ms = Duration::from_millis;
        if !matches!(action, Action::Write | Action::Start | Action::Mend) {
            self.say(format!("{action:?} {at}"));
        }
        match action {
            Action::Write => {
                let writes = self.writes(plan);
                self.write(at, &writes)?;
            }
            Action::Burst => self.burst(plan, at).await?,
            Action::Weather => {
                let storm = Weather::storm();
                let far = Weather { delay_min: ms(100), delay_max: ms(400), ..storm };
                let bad = Weather { loss: 150_000, holdup: 200_000, doubling: 100_000, ..storm };
                self.weather = *self.dice.pick(&[Weather::default(), storm, storm, far, bad]);
            }
            Action::Partition => {
                let others = (0..NODES).filter(|other| *other != at);
                self.cuts.extend(others.flat_map(|other| [(at, other), (other, at)]));
            }
            Action::OneWay => {
                let to = (at + 1 + self.dice.below(NODES as u64 - 1) as usize) % NODES;
                self.cuts.insert((at, to));
            }
            Action::Mend => {
                self.cuts.clear();
                self.slow = None;
            }
            Action::Slow => {
                let far = Weather { delay_min: ms(800), delay_max: ms(2_500), ..self.weather };
                let trickles = [2_000, 8_000, 30_000].map(Weather::trickle);
                let [least, less, little] = trickles;
                self.slow = Some((at, *self.dice.pick(&[far, least, less, little])));
            }
            Action::ClockNear => self.jump(at, 4_000),
            Action::ClockFar => self.jump(at, 60_000),
            Action::ClockRight => self.nodes[at].skew_ms = 0,
            Action::Kill => self.crash(at, Loss::Nothing).await?,
            Action::PowerLoss => self.crash(at, Loss::Tail).await?,
            Action::Stop => self.stop(at).await?,
            Action::Start if !is_up => {
                self.say(format!("start {at}"));
                self.start(at)?;
            }
            Action::BackUp if is_up => self.back_up(at)?,
            Action::Restore => self.bring_back(at).await?,
            Action::Wipe => {
                self.crash(at, Loss::Nothing).await?;
                self.wipe(at);
            }
            Action::Collect if is_up => self.tidy(at, Chore::Collect)?,
            Action::TrimLog if is_up => self.tidy(at, Chore::TrimLog)?,
            Action::Fence => drop(self.fence(at)),
            Action::Unfence => self.unfence(),
            Action::Untrack => drop(self.untrack(plan, at)),
            Action::Track => self.track(at),
            Action::Promote => self.promote(at),
            Action::LiveOnWithout => self.live_on_without(plan, at).await?,
            Action::Rest => {
                let rest = self.dice.between(5, 40);
                self.pass(Duration::from_secs(rest)).await?;
            }
            Action::Start | Action::BackUp | Action::Collect | Action::TrimLog => {}
        }
        self.rewire();
        Ok(())
    }

    fn jump(&mut self, at: usize, ms: u64) {
        let ahead = self.dice.below(ms) as i64;
        let skew = if self.dice.one_in(2) { ahead } else { -ahead };
        self.nodes[at].skew_ms = skew;
        self.counts.clock_jumps += 1;
        self.say(format!("the clock of {at} is wrong by {skew} ms"));
    }

    pub(crate) fn writes(&mut self, plan: &Plan) -> Vec<Write> {
        let mut writes = vec![self.one_write(plan)];
        if self.dice.one_in(6) {
            writes.extend((0..self.dice.between(1, 3)).map(|_| self.one_write(plan)));
        }
        writes
    }

    fn one_write(&mut self, plan: &Plan) -> Write {
        let keyspace = (*self.dice.pick(&KEYSPACES)).to_owned();
        let key =
            |dice: &mut crate::story::dice::Dice| format!("{}", dice.below(plan.keys)).into_bytes();
        let start = key(&mut self.dice);
        let change = match self.dice.below(10) {
            0..6 => Change::Put(self.value()),
            6..9 => Change::Delete,
            _ if self.dice.one_in(2) => Change::DeleteTo(Vec::new()),
            _ => Change::DeleteTo([&start, &b"~"[..]].concat()),
        };
        Write { keyspace, key: start, change }
    }

    /// No two values are the same.
    fn value(&mut self) -> Vec<u8> {
        self.counts.writes += 1;
        format!("v{}", self.counts.writes).into_bytes()
    }

    /// A user writes, if users may.
    pub(crate) fn write(&mut self, at: usize, writes: &[Write]) -> Result<(), Found> {
        let node = &mut self.nodes[at];
        let is_open = node.replica.as_ref().is_some_and(|r| r.writes() == Writes::Open);
        // Who was made a reader and does not know writes on.
        if !is_open || node.role == Role::Deprecated {
            self.counts.refused += 1;
            return Ok(());
        }
        let tick: Tick = match node.machine.write(writes) {
            Ok(tick) => tick,
            Err(Error::ReadOnly | Error::ScopeClosed | Error::ClockSkew { .. }) => {
                self.counts.refused += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("node {at} does not write: {error}")),
        };
        let len = |write: &Write| match &write.change {
            Change::Put(value) => value.len(),
            Change::Delete | Change::DeleteTo(_) | Change::Erase(_) => 0,
        };
        self.longest = self.longest.max(writes.iter().map(len).sum());
        let identity = node.machine.identity();
        if node.sync_after_ms == 0 {
            node.machine.sync().map_err(|error| format!("node {at}: no sync: {error}"))?;
        }
        let origin = Origin { node: identity.node, incarnation: identity.incarnation };
        self.ledger.note(origin, tick, writes);
        let words: Vec<String> = writes.iter().map(describe).collect();
        self.say(format!("{at} writes {} at {tick}", words.join(", ")));
        Ok(())
    }

    async fn burst(&mut self, plan: &Plan, at: usize) -> Result<(), Found> {
        let pad = match self.dice.one_in(3) {
            true if plan.limits.has_long_writes && self.dice.one_in(2) => {
                return self.write_long(at);
            }
            true => self.dice.between(1, 60_000) as usize,
            false => 0,
        };
        for _ in 0..self.dice.between(5, 25) {
            let mut writes = self.writes(plan);
            for write in &mut writes {
                if let Change::Put(value) = &mut write.change {
                    value.resize(value.len() + pad, b'.');
                }
            }
            self.write(at, &writes)?;
            if self.dice.one_in(3) {
                let ms = self.dice.below(200);
                self.pass(Duration::from_millis(ms)).await?;
            }
        }
        Ok(())
    }

    /// Longer than what is kept in memory of it on its way.
    fn write_long(&mut self, at: usize) -> Result<(), Found> {
        let mut value = self.value();
        value.resize(LONG_LEN, b'.');
        let (keyspace, key) = (KEYSPACES[0].to_owned(), b"long".to_vec());
        self.write(at, &[Write { keyspace, key, change: Change::Put(value) }])
    }

    fn back_up(&mut self, at: usize) -> Result<(), Found> {
        let node = &mut self.nodes[at];
        let failed = |error| format!("node {at}: no backup: {error}");
        let backup = node.machine.back_up().map_err(failed)?;
        node.backups.push((backup, node.machine.durable()));
        Ok(())
    }

    /// An old backup takes the place of what a node has; perhaps once more soon after.
    async fn bring_back(&mut self, at: usize) -> Result<(), Found> {
        let many = self.nodes[at].backups.len() as u64;
        if many == 0 {
            return Ok(());
        }
        let backup = self.dice.below(many) as usize;
        self.crash(at, Loss::Nothing).await?;
        self.restore(at, backup)?;
        if self.dice.one_in(3) {
            self.start(at)?;
            let ms = self.dice.below(8_000);
            self.pass(Duration::from_millis(ms)).await?;
            self.say(format!("restore {at} from the same backup"));
            self.crash(at, Loss::Nothing).await?;
            self.restore(at, backup)?;
        }
        self.start(at)
    }

    pub(crate) fn tidy(&mut self, at: usize, chore: Chore) -> Result<(), Found> {
        let done = self.nodes[at].machine.tidy(chore);
        done.map_err(|error| format!("node {at}: {chore:?} fails: {error}"))
    }
}
