//! What all edits of a manifest add up to.

use super::edit::{Added, Archiving, Closed, Edit};
use super::keyspace::KeyspaceRecord;
use super::version::Version;
use base::{Corruption, KeyspaceId, Origin, OriginNumber, Position, ScopeId, Tick, Vector};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything durable that is not in tables or in the log.
///
/// Invariants:
/// - `next_table` exceeds the id of every table, `next_keyspace` the count of every keyspace.
/// - Ticks, vectors, floors and the log's start never go back.
/// - The list of origins only grows, unless the content of another node is adopted.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The tables.
    pub version: Version,
    /// Every commit up to this tick is in tables.
    pub flushed: Tick,
    /// The id of the next table.
    pub next_table: u64,
    /// The count of the next keyspace, see [`KeyspaceId::nth`].
    pub next_keyspace: u32,
    /// No tick up to this one may be used again.
    pub last_tick: Tick,
    /// The keyspaces, dropped ones included, by number.
    pub keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceRecord>>,
    /// A synced position of the log: it never ends before it.
    pub log_end: Position,
    /// The first segment of the log that is still needed.
    pub log_start: u64,
    /// Set while the database is closed.
    pub closed: Option<Closed>,
    /// The highest stamp tick of any tombstone ever dropped, per scope.
    pub dropped_stamps: BTreeMap<ScopeId, Tick>,
    /// Where the log first speaks of an author, per scope.
    pub first_positions: BTreeMap<(ScopeId, Origin), Position>,
    /// The clock was never ahead of this.
    pub clock_bound: Tick,
    /// Scopes that have lost content, and how far the clock had come when that was noticed.
    pub incomplete: BTreeMap<ScopeId, Tick>,
    /// Reads as of a tick below it may miss versions that were overwritten since.
    pub horizon: Tick,
    /// From where on finished segments are kept; none before the first backup.
    pub archiving: Option<Archiving>,
    /// Bulk loads since then, ascending: no segment holds them.
    pub ingests: Vec<Tick>,
    /// The authors that entries name by number: the first has number 1.
    pub origins: Arc<Vec<Origin>>,
    /// What was received without a gap, per scope; the log may hold more.
    pub vectors: BTreeMap<ScopeId, Vector>,
    /// Up to where tombstones may be dropped. A scope that is not in it is not replicated: there the
    /// floor is the present.
    pub floors: BTreeMap<ScopeId, Vector>,
    /// The nodes that replicate with each other, once that is known.
    pub group: Option<[u8; 16]>,
}

impl Default for State {
    /// The state of a database that never held anything. Tables, keyspaces and segments count
    /// from 1.
    fn default() -> State {
        State {
            version: Version::default(),
            flushed: Tick::ZERO,
            next_table: 1,
            next_keyspace: 1,
            last_tick: Tick::ZERO,
            keyspaces: BTreeMap::new(),
            log_end: Position::ZERO,
            log_start: 1,
            closed: None,
            dropped_stamps: BTreeMap::new(),
            first_positions: BTreeMap::new(),
            clock_bound: Tick::ZERO,
            incomplete: BTreeMap::new(),
            horizon: Tick::ZERO,
            archiving: None,
            ingests: Vec::new(),
            origins: Arc::default(),
            vectors: BTreeMap::new(),
            floors: BTreeMap::new(),
            group: None,
        }
    }
}

impl State {
    /// Takes over `edit`. If it breaks an invariant, nothing is changed.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), Corruption> {
        self.check_keyspaces(edit)?;
        let origins = self.next_origins(edit)?;
        self.version = self.version.apply(edit)?;
        let table_max = edit.added.iter().map(|added| added.meta.id).max().unwrap_or(0);
        raise(&mut self.next_table, Some(table_max.saturating_add(1)));
        raise(&mut self.next_table, edit.next_table);
        raise(&mut self.next_keyspace, edit.next_keyspace);
        if let Some(scope) = edit.adopted {
            self.keyspaces.retain(|_, keyspace| keyspace.scope != scope);
        }
        for keyspace in &edit.keyspaces {
            raise(&mut self.next_keyspace, Some(keyspace.id.count().saturating_add(1)));
            self.keyspaces.insert(keyspace.id, Arc::new(keyspace.clone()));
        }
        raise(&mut self.flushed, edit.flushed);
        raise(&mut self.last_tick, edit.last_tick.max(edit.flushed));
        raise(&mut self.log_end, edit.log_end.max(edit.closed.map(|closed| closed.log_end)));
        raise(&mut self.log_start, edit.log_start);
        raise(&mut self.clock_bound, edit.clock_bound);
        raise(&mut self.horizon, edit.horizon);
        self.closed = edit.closed;
        if let Some(archiving) = edit.archiving {
            self.archiving = Some(archiving);
            self.ingests.retain(|ingest| *ingest > archiving.since);
        }
        if self.archiving.is_some() {
            self.ingests.extend_from_slice(&edit.ingests);
        }
        for (scope, tick) in &edit.dropped_stamps {
            raise(self.dropped_stamps.entry(*scope).or_default(), Some(*tick));
        }
        for scope in &edit.whole {
            self.incomplete.remove(scope);
        }
        for (scope, tick) in &edit.incomplete {
            raise(self.incomplete.entry(*scope).or_default(), Some(*tick));
        }
        for (scope, origin, position) in &edit.first_positions {
            self.first_positions.insert((*scope, *origin), *position);
        }
        self.origins = origins;
        for (scope, vector) in &edit.vectors {
            self.vectors.entry(*scope).or_default().raise_all(vector);
        }
        for (scope, floor) in &edit.floors {
            self.floors.entry(*scope).or_default().raise_all(floor);
        }
        self.group = edit.group.or(self.group);
        Ok(())
    }

    /// The author with this number.
    pub fn origin(&self, number: OriginNumber) -> Option<Origin> {
        self.origins.get(number.place()?).copied()
    }

    /// The number of an author, if it has one.
    pub fn number_of(&self, origin: Origin) -> Option<OriginNumber> {
        OriginNumber::at(self.origins.iter().position(|known| *known == origin)?)
    }

    /// The number that the next author gets.
    pub fn next_origin(&self) -> Option<OriginNumber> {
        OriginNumber::at(self.origins.len()).filter(|_| self.origins.len() < Vector::LEN_MAX)
    }

    /// The one edit that makes this state out of the default one, except that it is not closed.
    pub fn to_edit(&self) -> Edit {
        let added = self.version.runs().iter().flat_map(|run| {
            run.tables.iter().map(|meta| Added {
                order: run.order,
                level: run.level,
                meta: meta.clone(),
            })
        });
        Edit {
            added: added.collect(),
            removed: Vec::new(),
            flushed: Some(self.flushed),
            next_table: Some(self.next_table),
            next_keyspace: Some(self.next_keyspace),
            last_tick: Some(self.last_tick),
            keyspaces: self.keyspaces.values().map(|keyspace| (**keyspace).clone()).collect(),
            log_end: Some(self.log_end),
            log_start: Some(self.log_start),
            closed: None,
            dropped_stamps: self.dropped_stamps.iter().map(|(s, tick)| (*s, *tick)).collect(),
            first_positions: self
                .first_positions
                .iter()
                .map(|((scope, origin), position)| (*scope, *origin, *position))
                .collect(),
            clock_bound: Some(self.clock_bound),
            incomplete: self.incomplete.iter().map(|(s, tick)| (*s, *tick)).collect(),
            horizon: Some(self.horizon),
            archiving: self.archiving,
            ingests: self.ingests.clone(),
            adopted: None,
            origins: (0..).filter_map(OriginNumber::at).zip(self.origins.iter().copied()).collect(),
            vectors: per_scope(&self.vectors),
            floors: per_scope(&self.floors),
            whole: Vec::new(),
            group: self.group,
        }
    }

    /// The living keyspace `name` of `scope`.
    pub fn keyspace(&self, scope: ScopeId, name: &str) -> Option<&Arc<KeyspaceRecord>> {
        self.keyspaces.values().find(|keyspace| {
            keyspace.scope == scope && keyspace.name == name && !keyspace.is_dropped()
        })
    }

    /// The list of origins after `edit`. An author joins it once, with the next number.
    fn next_origins(&self, edit: &Edit) -> Result<Arc<Vec<Origin>>, Corruption> {
        if edit.origins.is_empty() && edit.adopted.is_none() {
            return Ok(self.origins.clone());
        }
        let mut list = if edit.adopted.is_some() { Vec::new() } else { (*self.origins).clone() };
        for (number, origin) in &edit.origins {
            let is_next = number.place() == Some(list.len()) && list.len() < Vector::DECODED_MAX;
            if !is_next || list.contains(origin) {
                return Err(Corruption::BrokenRule("an author joins once, with the next number"));
            }
            list.push(*origin);
        }
        Ok(Arc::new(list))
    }

    /// A keyspace keeps its scope and name for ever, and stays dropped.
    fn check_keyspaces(&self, edit: &Edit) -> Result<(), Corruption> {
        for new in &edit.keyspaces {
            if edit.adopted == Some(new.scope) {
                continue;
            }
            let Some(old) = self.keyspaces.get(&new.id) else { continue };
            let renamed = old.scope != new.scope || old.name != new.name;
            if renamed || (old.is_dropped() && !new.is_dropped()) {
                let rule = "a keyspace keeps its scope and name, and stays dropped";
                return Err(Corruption::BrokenRule(rule));
            }
        }
        Ok(())
    }
}

fn per_scope(vectors: &BTreeMap<ScopeId, Vector>) -> Vec<(ScopeId, Vector)> {
    vectors.iter().map(|(scope, vector)| (*scope, vector.clone())).collect()
}

fn raise<T: Ord + Copy>(value: &mut T, to: Option<T>) {
    if let Some(to) = to {
        *value = (*value).max(to);
    }
}

#[cfg(test)]
mod tests {
    use super::super::keyspace::KeyspaceSettings;
    use super::*;

    fn keyspace(id: u32, name: &str) -> KeyspaceRecord {
        KeyspaceRecord {
            id: KeyspaceId(id),
            scope: ScopeId::MAIN,
            name: name.to_owned(),
            created: Tick::from_ms(1),
            dropped: None,
            settings: KeyspaceSettings::default(),
        }
    }

    #[test]
    fn numbers_only_rise() {
        let mut state = State::default();
        let ahead = Edit {
            next_table: Some(9),
            log_start: Some(4),
            last_tick: Some(Tick::from_ms(8)),
            ..Edit::default()
        };
        state.apply(&ahead).unwrap();
        let behind = Edit {
            next_table: Some(2),
            log_start: Some(1),
            last_tick: Some(Tick::from_ms(3)),
            ..Edit::default()
        };
        state.apply(&behind).unwrap();
        assert_eq!((state.next_table, state.log_start), (9, 4));
        assert_eq!(state.last_tick, Tick::from_ms(8));
    }

    #[test]
    fn any_edit_after_a_close_opens_again() {
        let mut state = State::default();
        let log_end = Position { segment: 3, offset: 9 };
        state.apply(&Edit { closed: Some(Closed { log_end }), ..Edit::default() }).unwrap();
        assert_eq!(state.closed, Some(Closed { log_end }));
        assert_eq!(state.log_end, log_end);
        state.apply(&Edit::default()).unwrap();
        assert_eq!(state.closed, None);
    }

    #[test]
    fn ingests_are_noted_from_the_first_backup_until_the_next() {
        let tick = Tick::from_ms;
        let mut state = State::default();
        let ingest = |ms| Edit { ingests: vec![tick(ms)], ..Edit::default() };
        let backup = |from, ms| Edit {
            archiving: Some(Archiving { from, since: tick(ms) }),
            ..Edit::default()
        };
        state.apply(&ingest(1)).unwrap();
        assert_eq!(state.ingests, []);
        state.apply(&backup(3, 2)).unwrap();
        state.apply(&ingest(4)).unwrap();
        state.apply(&ingest(6)).unwrap();
        let mut rebuilt = State::default();
        rebuilt.apply(&state.to_edit()).unwrap();
        assert_eq!(rebuilt, state);
        state.apply(&backup(5, 4)).unwrap();
        assert_eq!(state.ingests, [tick(6)]);
        assert_eq!(state.archiving, Some(Archiving { from: 5, since: tick(4) }));
    }

    fn origin(node: u8) -> Origin {
        Origin { node: base::NodeId([node; 16]), ..Origin::default() }
    }

    #[test]
    fn authors_are_numbered_in_the_order_they_join_and_each_once() {
        let mut state = State::default();
        let joins = |number, node| Edit {
            origins: vec![(OriginNumber(number), origin(node))],
            ..Edit::default()
        };
        assert_eq!(state.next_origin(), Some(OriginNumber(1)));
        state.apply(&joins(1, 7)).unwrap();
        state.apply(&joins(2, 8)).unwrap();
        assert_eq!(state.origin(OriginNumber(2)), Some(origin(8)));
        assert_eq!(state.number_of(origin(7)), Some(OriginNumber(1)));
        assert_eq!(state.origin(OriginNumber::LOCAL), None);
        for broken in [joins(2, 9), joins(4, 9), joins(0, 9), joins(3, 7)] {
            assert!(matches!(state.apply(&broken), Err(Corruption::BrokenRule(_))));
        }
        assert_eq!(state.origins.len(), 2);
    }

    #[test]
    fn vectors_and_floors_only_rise_and_a_scope_becomes_whole_again() {
        let tick = Tick::from_ms;
        let mut state = State::default();
        let vector = |node, ms| Vector::from_iter([(origin(node), tick(ms))]);
        let edit = |node, ms| Edit {
            vectors: vec![(ScopeId::MAIN, vector(node, ms))],
            floors: vec![(ScopeId::MAIN, vector(node, ms))],
            incomplete: vec![(ScopeId::MAIN, tick(ms))],
            ..Edit::default()
        };
        for (node, ms) in [(1, 5), (1, 3), (2, 4)] {
            state.apply(&edit(node, ms)).unwrap();
        }
        let both = Vector::from_iter([(origin(1), tick(5)), (origin(2), tick(4))]);
        assert_eq!(state.vectors.get(&ScopeId::MAIN), Some(&both));
        assert_eq!(state.floors.get(&ScopeId::MAIN), Some(&both));
        assert_eq!(state.floors.get(&ScopeId::LOCAL), None);
        let mut rebuilt = State::default();
        rebuilt.apply(&state.to_edit()).unwrap();
        assert_eq!(rebuilt, state);
        state.apply(&Edit { whole: vec![ScopeId::MAIN], ..Edit::default() }).unwrap();
        assert!(state.incomplete.is_empty());
    }

    #[test]
    fn adopted_content_brings_its_keyspaces_and_origins() {
        let mut state = State::default();
        let own = KeyspaceRecord { scope: ScopeId::LOCAL, ..keyspace(1, "own") };
        let before = Edit {
            keyspaces: vec![own, keyspace(2, "empty")],
            origins: vec![(OriginNumber(1), origin(1))],
            ..Edit::default()
        };
        state.apply(&before).unwrap();
        let adopted = Edit {
            adopted: Some(ScopeId::MAIN),
            keyspaces: vec![keyspace(2, "theirs")],
            origins: vec![(OriginNumber(1), origin(2)), (OriginNumber(2), origin(1))],
            ..Edit::default()
        };
        state.apply(&adopted).unwrap();
        assert!(state.keyspace(ScopeId::LOCAL, "own").is_some());
        assert!(state.keyspace(ScopeId::MAIN, "theirs").is_some());
        assert!(state.keyspace(ScopeId::MAIN, "empty").is_none());
        assert_eq!(state.number_of(origin(1)), Some(OriginNumber(2)));
    }

    #[test]
    fn a_keyspace_keeps_its_name_and_stays_dropped() {
        let mut state = State::default();
        state.apply(&Edit { keyspaces: vec![keyspace(4, "users")], ..Edit::default() }).unwrap();
        assert_eq!(state.next_keyspace, 5);
        assert!(state.keyspace(ScopeId::MAIN, "users").is_some());
        let renamed = Edit { keyspaces: vec![keyspace(4, "people")], ..Edit::default() };
        assert!(matches!(state.apply(&renamed), Err(Corruption::BrokenRule(_))));
        let dropped = KeyspaceRecord { dropped: Some(Tick::from_ms(5)), ..keyspace(4, "users") };
        state.apply(&Edit { keyspaces: vec![dropped], ..Edit::default() }).unwrap();
        assert!(state.keyspace(ScopeId::MAIN, "users").is_none());
        let revived = Edit { keyspaces: vec![keyspace(4, "users")], ..Edit::default() };
        assert!(matches!(state.apply(&revived), Err(Corruption::BrokenRule(_))));
    }
}
