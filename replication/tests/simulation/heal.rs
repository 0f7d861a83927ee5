//! All is made well: then all must become equal, to what was written.

use crate::story::action::OPERATOR;
use crate::story::machine::{Chore, Content, Machine};
use crate::story::plan::Plan;
use crate::story::world::{Found, NODES, Node, World};
use base::{ScopeId, Tick, Vector};
use replication::link::sim::Weather;
use replication::replica::Replica;
use replication::roster::Role;
use std::time::Duration;
use tokio::time::Instant;

/// Until when all must be equal: clocks may have been a minute ahead, and breakers pause.
const HEALING: Duration = Duration::from_secs(600);
/// Until when all must know that.
const AGREEING: Duration = Duration::from_secs(60);
/// By how much a clock may be set right without its node taking that for a jump.
const DRIFT_MS_MAX: u64 = 10_000;

impl<M: Machine> World<M> {
    /// Returns a digest of what all have.
    pub(crate) async fn heal(&mut self, plan: &Plan) -> Result<String, Found> {
        self.say("all is made well");
        let began = Instant::now();
        self.cuts.clear();
        (self.slow, self.weather) = (None, Weather::default());
        for at in 0..NODES {
            let node = &mut self.nodes[at];
            let jump_ms = std::mem::take(&mut node.skew_ms).unsigned_abs();
            let is_jump = jump_ms > DRIFT_MS_MAX || node.started_skew_ms != 0;
            node.sync_after_ms = node.sync_after_ms.min(300);
            if node.role == Role::Deprecated {
                node.role = Role::Author;
                node.waits_for_word = true;
            }
            // Whose clock was set right by a jump takes no writes until it is opened again.
            if node.is_up() && is_jump {
                self.stop(at).await?;
            }
            if !self.nodes[at].is_up() {
                self.start(at)?;
            }
        }
        self.rewire();
        self.settle(HEALING).await?;
        self.counts.healing = began.elapsed();
        self.agree().await?;
        // Tombstones may go at any moment: nothing that is read changes by that.
        for at in 0..NODES {
            self.tidy(at, Chore::Collect)?;
        }
        self.pass(Duration::from_secs(10) + plan.audit_every.unwrap_or_default()).await?;
        if !self.are_equal()? {
            return Err("all were equal, and are no more".to_owned());
        }
        self.judge()
    }

    /// Waits until all roles are as wanted and all nodes are equal, once and still a moment later.
    pub(crate) async fn settle(&mut self, time: Duration) -> Result<(), Found> {
        let end = Instant::now() + time;
        let mut calm = 0;
        while calm < 3 {
            if Instant::now() > end {
                return Err(format!("not equal after {} s", time.as_secs()));
            }
            self.pass(Duration::from_secs(1)).await?;
            let have_roles = self.have_roles();
            // As long as no two have met all are empty, and so equal.
            let has_begun = !self.nodes[0].machine.applied().is_empty();
            let is_calm = have_roles && has_begun && self.are_equal()?;
            calm = if is_calm { calm + 1 } else { 0 };
        }
        Ok(())
    }

    /// Waits until all know that all have everything: nothing holds tombstones for ever.
    async fn agree(&mut self) -> Result<(), Found> {
        let end = Instant::now() + AGREEING;
        let vector = self.nodes[0].machine.applied();
        let floor = |node: &Node<M>| node.store().map(|store| store.floor(ScopeId::MAIN));
        let is_behind = |node: &Node<M>| !floor(node).unwrap_or_default().covers_all(&vector);
        while let Some(behind) = self.nodes.iter().position(is_behind) {
            if Instant::now() > end {
                return Err(format!("node {behind} does not learn that all have everything"));
            }
            self.pass(Duration::from_secs(1)).await?;
        }
        Ok(())
    }

    /// Whether all agree about what everyone is; if not, the operator says it again.
    fn have_roles(&mut self) -> bool {
        let mut agree = true;
        for at in 0..NODES {
            let (id, role) = (self.nodes[at].id, self.nodes[at].role);
            let is_known = |other: &Node<M>| {
                let peers = other.replica.as_ref().map(|r| r.peers()).unwrap_or_default();
                other.id == id || peers.iter().any(|p| p.peer.node == id && p.role == Some(role))
            };
            let waits = self.nodes[at].waits_for_word || !self.knows_its_role(at);
            if waits || !self.nodes.iter().all(is_known) {
                agree = false;
                self.order_if_needed(at, role);
            }
        }
        agree
    }

    /// Those who let it in again may be gone, and their word with them: it asks to be let in.
    fn knows_its_role(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let is_role = |replica: &Replica| replica.role() == node.role;
        at == OPERATOR || node.replica.as_ref().is_some_and(is_role)
    }

    fn order_if_needed(&mut self, at: usize, role: Role) {
        let id = self.nodes[at].id;
        let peers = self.nodes[OPERATOR].replica.as_ref().map(|r| r.peers()).unwrap_or_default();
        let is_known = peers.iter().any(|p| p.peer.node == id && p.role == Some(role));
        let waits = self.nodes[at].waits_for_word || !self.knows_its_role(at);
        if (waits || !is_known) && self.order(at, role) {
            self.nodes[at].waits_for_word = false;
            self.say(format!("the operator says again that {at} is {role:?}"));
        }
    }

    fn contents(&self) -> Result<Vec<(Vector, Content)>, Found> {
        let content = |(at, node): (usize, &Node<M>)| {
            let content = node.machine.content();
            let content = content.map_err(|error| format!("node {at} does not read: {error}"))?;
            Ok((node.machine.applied(), content))
        };
        self.nodes.iter().enumerate().map(content).collect()
    }

    fn are_equal(&self) -> Result<bool, Found> {
        let first = self.nodes[0].machine.applied();
        if !self.nodes.iter().all(|node| node.is_up() && node.machine.applied() == first) {
            return Ok(false);
        }
        let contents = self.contents()?;
        Ok(contents.windows(2).all(|pair| pair[0] == pair[1]))
    }

    /// What all have is what was written.
    fn judge(&mut self) -> Result<String, Found> {
        for (at, node) in self.nodes.iter().enumerate() {
            let store = node.store().ok_or("a node is down")?;
            if !store.is_whole(ScopeId::MAIN) {
                return Err(format!("node {at} is not whole"));
            }
            if store.dropped(ScopeId::MAIN) > Tick::ZERO {
                self.counts.dropped = 1;
            }
        }
        let contents = self.contents()?;
        for (at, (vector, content)) in contents.iter().enumerate() {
            if let Some(found) = self.ledger.judge(vector, content) {
                return Err(format!("node {at}: {found}"));
            }
        }
        let quarantine = replication::store::keyspaces::QUARANTINE;
        let late = |content: &Content| content.iter().filter(|(k, ..)| k == quarantine).count();
        self.counts.late =
            contents.first().map_or(0, |(_, content)| late(content) / M::COPIES_OF_LATE) as u64;
        // Before others know of a life, they may forget what it has not.
        let origins = self.nodes.iter().map(|node| (node, node.machine.identity().origin()));
        let living = origins.filter(|(node, of)| !node.unheard.contains(&of.incarnation));
        let living: Vec<_> = living.map(|(_, origin)| origin).collect();
        if let Some(found) = self.ledger.late_of(&living, &contents[0].1) {
            return Err(found);
        }
        let counts = &self.counts;
        if counts.late > 0 && counts.leavings() == 0 {
            return Err("a write was late, although all authors are waited for".to_owned());
        }
        self.say(format!("equal, {} writes", self.ledger.len()));
        Ok(blake3::hash(format!("{contents:?}").as_bytes()).to_hex().to_string())
    }
}
