//! What operators decide about nodes, and whom nobody waits for because of that.

use crate::rule::Rules;
use crate::world::{NODES, Name, Op, Record, Role, World, name_of};
use base::{Origin, Stamp, Tick};

impl World {
    /// Nobody is fenced by one who is fenced itself: that is the operators' war, not modelled.
    pub(crate) fn deprecate(&mut self, at: Name, who: Name, rules: &Rules) -> bool {
        let is_author = |role: Option<Role>| role == Some(Role::Author);
        if at == who
            || self.is_out(at)
            || !self.may_author(at, rules)
            || !is_author(self.nodes[at].scope.role(who))
        {
            return false;
        }
        let tick = self.nodes[at].clock.next();
        self.commit(at, tick, vec![Op::Member(who, Role::Deprecated)], rules);
        self.excuse(who);
        self.forget_unknown(at);
        true
    }

    /// Whether anybody has it that `at` is fenced, or operators have made it a reader.
    fn is_out(&self, at: Name) -> bool {
        self.is_fenced(at) || self.roles[at] != Role::Author
    }

    /// Whether anybody has it that `name` is fenced.
    fn is_fenced(&self, name: Name) -> bool {
        let mut knows = self.nodes.iter().map(|node| node.scope.role(name));
        knows.any(|role| role == Some(Role::Deprecated))
    }

    /// Whether every node knows every other, and fences none, and so it will be after a restore.
    fn all_know_all(&self) -> bool {
        let backups = self.nodes.iter().filter_map(|node| node.backup.as_ref());
        let mut members = self.nodes.iter().chain(backups).flat_map(|node| node.scope.roster);
        members.all(|member| member.is_some_and(|it| it.role != Role::Deprecated))
    }

    /// Nobody waits for a reader. Who makes itself a writer has told nobody.
    ///
    /// Not modelled where a node does not know another, or fences it: sessions go one way there, links of
    /// the model both ways or none.
    pub(crate) fn change_role(&mut self, at: Name, who: Name, role: Role, rules: &Rules) -> bool {
        let node = &self.nodes[at];
        let is_promotion = at == who;
        let may = match is_promotion {
            true => role == Role::Author && self.is_open(at, rules) && node.durable.is_none(),
            false => self.may_author(at, rules) && !self.is_out(at),
        };
        let known = node.scope.role(who).filter(|known| *known != Role::Deprecated);
        if !may || !self.all_know_all() || known.is_none_or(|known| known == role) {
            return false;
        }
        let stamp = Stamp { tick: node.clock.next(), origin: node.origin };
        self.commit(at, stamp.tick, vec![Op::Member(who, role)], rules);
        if is_promotion {
            // It answers what is late itself from now on.
            self.node_mut(at).needs_answer = false;
        }
        let is_newest = self.newest_about(who) == stamp;
        if is_newest {
            self.roles[who] = role;
        }
        match role {
            Role::Author if is_newest && !is_promotion => self.recall(who, stamp.tick),
            _ => self.excuse(who),
        }
        true
    }

    /// The stamp of the newest record about a node.
    fn newest_about(&self, who: Name) -> Stamp {
        let is_about = |op: &Op| matches!(op, Op::Member(name, _) if *name == who);
        let of = |(origin, records): (&Origin, &Vec<Record>)| {
            let about = records.iter().filter(|record| record.ops.iter().any(is_about));
            let tick = about.map(|record| record.tick).max().unwrap_or_default();
            Stamp { tick, origin: *origin }
        };
        self.streams.iter().map(of).max().unwrap_or_default()
    }

    /// Who is no member for `at`, which was restored or fences the one that could tell, is excused
    /// by nobody's will: `at` does not wait for its writes.
    pub(crate) fn forget_unknown(&mut self, at: Name) {
        let roster = self.nodes[at].scope.roster;
        let unknown = (0..NODES)
            .filter(|name| roster[*name].is_none_or(|member| member.role == Role::Deprecated));
        unknown.for_each(|name| self.excuse(name));
    }

    /// If `at` waits for nobody else, no one can tell it who came back: whoever did is excused.
    pub(crate) fn excuse_outsiders(&mut self, at: Name) {
        let is_outside = |name: &Name| {
            *name != at
                && self.roles[*name] == Role::Author
                && self.nodes[at].scope.role(*name) != Some(Role::Author)
        };
        let outsiders: Vec<Name> = (0..NODES).filter(is_outside).collect();
        let authors = self.roles.iter().filter(|role| **role == Role::Author).count();
        if outsiders.len() + 1 == authors {
            outsiders.into_iter().for_each(|name| self.excuse(name));
        }
    }

    /// What `name` wrote until it rejoins may come out late.
    pub(crate) fn excuse(&mut self, name: Name) {
        let lives = self.streams.keys().copied().filter(|life| name_of(*life) == name);
        let present = self.nodes[name].origin;
        self.excused.extend(lives.chain([present]).map(|life| (life, Tick::MAX)));
    }

    /// `name` is waited for again, by a record of `tick`: whoever drops something newer knows that record.
    fn recall(&mut self, name: Name, tick: Tick) {
        let excused = self.excused.iter_mut().filter(|(life, _)| name_of(**life) == name);
        excused.for_each(|(_, upto)| *upto = tick);
    }

    /// The record by which a node is waited for again may be lost.
    pub(crate) fn recall_nobody(&mut self) {
        self.excused.values_mut().for_each(|upto| *upto = Tick::MAX);
    }
}
