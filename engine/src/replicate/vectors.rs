//! What was received of each author, per scope, this node's own commits included.

use base::{Origin, ScopeId, Tick, Vector};
use std::collections::BTreeMap;

/// The vectors of all scopes at one place in the order of commits.
///
/// The own stream is apart, so that a local commit costs one store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vectors {
    own: Origin,
    /// The last commit of this node in each scope; almost always one.
    ticks: Vec<(ScopeId, Tick)>,
    /// How often that rose.
    commits: u64,
    others: BTreeMap<ScopeId, Vector>,
}

/// What a commit adds to the vectors.
#[derive(Debug)]
pub(crate) enum Moved {
    /// Nothing.
    Nothing,
    /// It is a commit of this node in one scope that replicates.
    Own(ScopeId),
    /// What it brings of which author, this node perhaps among them.
    Many(Box<[(ScopeId, Origin, Tick)]>),
}

impl Vectors {
    /// Those of a node that writes as `own`, after what `vectors` cover.
    pub(crate) fn new(own: Origin, vectors: &BTreeMap<ScopeId, Vector>) -> Vectors {
        let mut all = Vectors { own, ..Vectors::default() };
        vectors.iter().for_each(|(scope, vector)| all.raise_all(*scope, vector));
        all.commits = 0;
        all
    }

    /// This node writes as `own` from now on: what it wrote before is of another author.
    pub(crate) fn begin_life(&mut self, own: Origin) {
        let before = std::mem::replace(&mut self.own, own);
        for (scope, tick) in std::mem::take(&mut self.ticks) {
            if scope.is_replicated() {
                self.raise(scope, before, tick);
            }
        }
    }

    /// How many commits of this node were noted since it was opened.
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// Who writes here.
    pub(crate) fn own(&self) -> Origin {
        self.own
    }

    /// The last commit of this node in `scope`.
    #[inline]
    pub(crate) fn previous(&self, scope: ScopeId) -> Option<Tick> {
        self.ticks.iter().find(|(of, _)| *of == scope).map(|(_, tick)| *tick)
    }

    /// Notes a commit of this node.
    #[inline]
    pub(crate) fn follow(&mut self, scope: ScopeId, tick: Tick) {
        self.commits += 1;
        match self.ticks.iter_mut().find(|(of, _)| *of == scope) {
            Some((_, last)) => *last = tick.max(*last),
            None => self.ticks.push((scope, tick)),
        }
    }

    /// Notes what was received up to `tick` of `origin`.
    pub(crate) fn raise(&mut self, scope: ScopeId, origin: Origin, tick: Tick) {
        match origin == self.own {
            true if tick > Tick::ZERO => self.follow(scope, tick),
            true => {}
            false => self.others.entry(scope).or_default().raise(origin, tick),
        }
    }

    /// Notes everything that `vector` covers.
    pub(crate) fn raise_all(&mut self, scope: ScopeId, vector: &Vector) {
        vector.iter().for_each(|(origin, tick)| self.raise(scope, origin, tick));
    }

    /// Notes what the commit `seqno` brought.
    #[inline]
    pub(crate) fn apply(&mut self, moved: &Moved, seqno: Tick) {
        match moved {
            Moved::Nothing => {}
            Moved::Own(scope) => self.follow(*scope, seqno),
            Moved::Many(all) => {
                all.iter().for_each(|(scope, origin, tick)| self.raise(*scope, *origin, *tick));
            }
        }
    }

    /// The tick of `origin`; zero if nothing was received.
    pub(crate) fn get(&self, scope: ScopeId, origin: Origin) -> Tick {
        match origin == self.own {
            true => self.previous(scope).unwrap_or(Tick::ZERO),
            false => self.others.get(&scope).map_or(Tick::ZERO, |vector| vector.get(origin)),
        }
    }

    /// The vector of `scope`.
    pub(crate) fn of(&self, scope: ScopeId) -> Vector {
        let mut vector = self.others.get(&scope).cloned().unwrap_or_default();
        vector.raise(self.own, self.previous(scope).unwrap_or(Tick::ZERO));
        vector
    }

    /// The vectors of the scopes that replicate, as an edit of the manifest has them.
    pub(crate) fn replicated(&self) -> Vec<(ScopeId, Vector)> {
        let own = self.ticks.iter().map(|(scope, _)| *scope);
        let mut scopes: Vec<ScopeId> = own.chain(self.others.keys().copied()).collect();
        scopes.retain(|scope| scope.is_replicated());
        scopes.sort_unstable();
        scopes.dedup();
        scopes.into_iter().map(|scope| (scope, self.of(scope))).collect()
    }
}
