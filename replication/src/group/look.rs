//! What a group does now and then: it raises the floor and reads the roster.

use super::Group;
use crate::floor;
use crate::roster::{Role, Roster};
use crate::store::{Answers, Store, keyspaces};
use base::Result;
use std::time::Duration;

/// How often, at the most.
const REFRESH_EVERY: Duration = Duration::from_millis(250);

impl Group {
    /// Raises the floor, reads the roster, writes what this node has to say about itself. Does
    /// nothing if that was just done. Call it now and then even if no session is up.
    pub fn tick(&self, now: Duration, store: &dyn Store) -> Result<()> {
        {
            let mut state = self.state.lock();
            let is_fresh = |at: Duration| now < at + REFRESH_EVERY;
            if state.refreshed_at.is_some_and(is_fresh) {
                return Ok(());
            }
            state.refreshed_at = Some(now);
            if state.is_closed && state.taking.is_none() {
                state.is_closed = false;
                store.reopen(self.config.scope)?;
            }
        }
        self.raise_floor(store)?;
        if self.are_confirms_due(now) {
            self.keep(store);
        }
        self.introduce(store)?;
        self.enrol_readers(store)
    }

    /// Keeps what is worth knowing after a restart. A disk that is full is no reason to do nothing else.
    pub(crate) fn keep(&self, store: &dyn Store) {
        if let Err(error) = self.keep_confirms(store).and_then(|()| self.keep_retirement(store)) {
            tracing::warn!(code = error.code(), %error, "what peers have confirmed is not kept");
        }
    }

    fn raise_floor(&self, store: &dyn Store) -> Result<()> {
        let scope = self.config.scope;
        // In this order: who is missing in a roster as old as the vector is not behind it.
        let commits = store.commits(scope);
        let durable = store.durable(scope);
        let roster = self.read_roster(store)?;
        let mut state = self.state.lock();
        let state = &mut *state;
        state.marks.note(durable.get(store.origin()), commits);
        let latest_ms = store.wall_ms().saturating_add(self.max_drift_ms);
        state.statements.adopt_due(latest_ms, &state.roster);
        state.statements.adopt(&state.roster);
        state.statements.count(&durable);
        state.note_all_silent();
        state.forget_marks(store.origin());
        let floor = floor::floor(&roster, &state.statements, self.node, &durable);
        let is_open = store.is_whole(scope) && !state.is_closed && !state.is_fenced();
        if is_open && !store.floor(scope).covers_all(&floor) {
            store.raise_floor(scope, &floor)?;
        }
        Ok(())
    }

    /// Reads the records of the keyspace again. Another call may have read them before and note
    /// them afterwards: what must not be older than this call goes by what it returns.
    pub(crate) fn read_roster(&self, store: &dyn Store) -> Result<Roster> {
        let mut roster = Roster::first(self.config.first.iter().copied());
        store.each_entry(keyspaces::ROSTER, &mut |key, value, stamp| {
            roster.note(key, value, stamp)
        })?;
        let is_author = self.role_in(&roster) == Role::Author;
        let answers = if is_author { Answers::Author } else { Answers::Reader };
        let mut state = self.state.lock();
        state.roster = roster.clone();
        if state.answers != Some(answers) {
            store.set_answers(self.config.scope, answers)?;
            state.answers = Some(answers);
        }
        Ok(roster)
    }
}
