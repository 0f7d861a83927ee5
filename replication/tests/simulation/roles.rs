//! What operators decide: who is out, who writes, who reads.
//!
//! Nobody waits for the writes of a reader. So what an author writes after it was made one, before it
//! knows, may come too late: then it is in quarantine, and else it is as good as any. Nothing else
//! may become of it. The same goes for one that was promoted where nobody else was told.

use crate::story::action::{KEYSPACES, OPERATOR};
use crate::story::machine::{Chore, Machine};
use crate::story::plan::Plan;
use crate::story::world::{Found, NODES, World};
use replication::group::Writes;
use replication::memory::{Change, Write};
use replication::replica::PeerChange;
use replication::roster::Role;
use std::time::Duration;

impl<M: Machine> World<M> {
    /// Operators shut a node out; one at a time.
    pub(crate) fn fence(&mut self, at: usize) -> bool {
        // Who shuts out the only node that it reaches has no way back.
        let is_relay = at == 1 && !self.walls.is_empty();
        if self.is_any_out() || is_relay || at == OPERATOR || self.nodes[at].role != Role::Author {
            return false;
        }
        let is_done = self.order(at, Role::Deprecated);
        if is_done {
            self.counts.fences += 1;
            let node = &mut self.nodes[at];
            node.role = Role::Deprecated;
            node.excuse();
            self.say(format!("{at} is shut out"));
        }
        is_done
    }

    pub(crate) fn unfence(&mut self) {
        let out = self.nodes.iter().position(|node| node.role == Role::Deprecated);
        if let Some(out) = out
            && self.order(out, Role::Author)
        {
            self.nodes[out].role = Role::Author;
            self.say(format!("{out} is let in again"));
        }
    }

    fn is_any_out(&self) -> bool {
        self.nodes.iter().any(|node| node.role == Role::Deprecated)
    }

    /// Operators make a writer a reader.
    pub(crate) fn untrack(&mut self, plan: &Plan, at: usize) -> bool {
        let may = plan.may_untrack(at) && !self.is_any_out();
        if !may || self.nodes[at].role != Role::Author || !self.order(at, Role::Observer) {
            return false;
        }
        self.counts.untracked += 1;
        self.nodes[at].role = Role::Observer;
        self.nodes[at].excuse();
        self.say(format!("{at} only reads from now on"));
        true
    }

    /// Operators make a reader a writer.
    pub(crate) fn track(&mut self, at: usize) {
        if self.nodes[at].role == Role::Observer && self.order(at, Role::Author) {
            self.counts.tracked += 1;
            self.nodes[at].role = Role::Author;
            self.nodes[at].excuse();
            self.say(format!("{at} writes again"));
        }
    }

    /// Operators make a reader a writer where it is. Who does not know yet that it only reads is no
    /// reader.
    pub(crate) fn promote(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(replica) = node.replica.as_ref().filter(|it| it.role() == Role::Observer) else {
            return;
        };
        let done = replica.promote();
        if replica.role() == Role::Author {
            node.role = Role::Author;
            node.excuse();
            self.counts.promoted += 1;
        }
        self.say(format!("{at} is promoted: {done:?}"));
    }

    /// Says at the operator's node what `at` is to be.
    pub(crate) fn order(&mut self, at: usize, role: Role) -> bool {
        let id = self.nodes[at].id;
        let Some(replica) = &self.nodes[OPERATOR].replica else { return false };
        replica.writes() == Writes::Open
            && replica.change(id, PeerChange::Become(role)).unwrap_or(false)
    }

    /// A node is cut off, and shut out or made a reader, and writes; the others delete, agree and
    /// forget; then it comes back. A reader is only cut off: nobody waits for it.
    pub(crate) async fn live_on_without(&mut self, plan: &Plan, at: usize) -> Result<(), Found> {
        let is_reader = self.nodes[at].role == Role::Observer;
        let is_let_go = !is_reader && plan.has_roles && self.dice.one_in(2);
        let is_out = is_reader || if is_let_go { self.untrack(plan, at) } else { self.fence(at) };
        if !is_out {
            return Ok(());
        }
        let others: Vec<usize> = (0..NODES).filter(|other| *other != at).collect();
        self.cuts = others.iter().flat_map(|other| [(at, *other), (*other, at)]).collect();
        self.rewire();
        for _ in 0..self.dice.between(1, 5) {
            let writes = self.writes(plan);
            self.write_though_out(at, &writes)?;
            self.pass(Duration::from_millis(300)).await?;
        }
        for keyspace in KEYSPACES {
            let (key, change) = (Vec::new(), Change::DeleteTo(Vec::new()));
            self.write(OPERATOR, &[Write { keyspace: keyspace.to_owned(), key, change }])?;
        }
        self.pass(Duration::from_secs(4)).await?;
        for other in others {
            if self.nodes[other].is_up() {
                self.tidy(other, Chore::Collect)?;
            }
        }
        self.cuts.clear();
        self.rewire();
        if is_let_go {
            self.take_back(at).await?;
        }
        self.unfence();
        Ok(())
    }

    /// A node that was made a reader is made a writer again: at once, once it knows, where it is, or not.
    async fn take_back(&mut self, at: usize) -> Result<(), Found> {
        let choice = self.dice.below(4);
        if choice > 0 {
            let ms = self.dice.below(6_000);
            self.pass(Duration::from_millis(ms)).await?;
        }
        match choice {
            0 | 1 => self.track(at),
            2 => self.promote(at),
            _ => {}
        }
        Ok(())
    }

    /// Who is out does not know yet.
    fn write_though_out(&mut self, at: usize, writes: &[Write]) -> Result<(), Found> {
        if self.nodes[at].role != Role::Deprecated {
            return self.write(at, writes);
        }
        self.nodes[at].role = Role::Author;
        let written = self.write(at, writes);
        self.nodes[at].role = Role::Deprecated;
        written
    }
}
