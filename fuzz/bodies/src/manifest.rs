//! The manifest: hostile edits, hostile files, and genuine ones that were damaged.

use crate::damage::damage;
use crate::input::Input;
use base::fs::{Fs, SimFs};
use base::rng::SeededRng;
use base::{
    FileName, Incarnation, KeyspaceId, NodeId, Origin, Position, RelPath, ScopeId, SpaceId, Tick,
};
use sstable::manifest::{
    Added, Edit, KeyspaceRecord, KeyspaceSettings, ManifestLog, Root, State, replay, survey,
};
use sstable::{TableKey, TableMeta};
use std::sync::Arc;

const DATABASE: [u8; 16] = [7; 16];
const NUMBER: u64 = 1;

/// Reads a manifest. Of one that was damaged, what is read is what some first edits add up to.
pub fn manifest(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => hostile_edits(&mut input),
        1 => hostile_file(&mut input),
        _ => damaged_manifest(&mut input),
    }
}

/// Edits of any bytes, applied one after the other.
fn hostile_edits(input: &mut Input<'_>) {
    let mut state = State::default();
    while !input.is_empty() {
        let Ok(edit) = Edit::decode(input.bytes(1 << 12)) else { continue };
        let mut bytes = Vec::new();
        edit.encode(&mut bytes);
        assert_eq!(Edit::decode(&bytes).as_ref(), Ok(&edit), "an edit comes back");
        let before = state.clone();
        if state.apply(&edit).is_err() {
            assert_eq!(state, before, "a refused edit changes nothing");
        }
        assert_comes_back(&state);
    }
}

/// A state is what its one edit says.
fn assert_comes_back(state: &State) {
    let mut again = State::default();
    again.apply(&state.to_edit()).unwrap();
    assert_eq!(again, *state, "a state comes back from its edit");
}

fn hostile_file(input: &mut Input<'_>) {
    let (fs, root, _) = genuine(&mut Input::new(&[]));
    fs.write_file(&FileName::Manifest(NUMBER).path(), input.rest()).unwrap();
    assert!(replay(&fs, &root).is_err(), "the root pins the first edit");
    let _ = survey(&fs, DATABASE, NUMBER);
}

fn damaged_manifest(input: &mut Input<'_>) {
    let (fs, root, states) = genuine(input);
    let whole = replay(&fs, &root).unwrap();
    assert_eq!(Some(&whole.state), states.last());
    let path = FileName::Manifest(NUMBER).path();
    let mut bytes = fs.read_file(&path).unwrap();
    damage(&mut bytes, input);
    fs.write_file(&path, bytes).unwrap();
    if let Ok(replayed) = replay(&fs, &root) {
        let at = replayed.edits as usize - 1;
        assert_eq!(Some(&replayed.state), states.get(at), "what is read is what was written");
    }
    let _ = survey(&fs, DATABASE, NUMBER);
}

/// A manifest that `input` writes, and the state after each of its edits.
fn genuine(input: &mut Input<'_>) -> (SimFs, Root, Vec<State>) {
    let fs = SimFs::new(1);
    let shared: &dyn Fs = &fs;
    shared.create_dir(&RelPath::folder(base::dir::MANIFEST_DIR)).unwrap();
    let mut state = State::default();
    let rng = SeededRng::new(3);
    let mut log = ManifestLog::create(shared, &rng, DATABASE, 1, NUMBER, &state).unwrap();
    let mut states = vec![state.clone()];
    for number in 0..input.below(10) as u64 {
        let edit = edit(input, &state, number);
        if state.apply(&edit).is_ok() {
            log.append(&edit).unwrap();
            states.push(state.clone());
        }
        if input.below(4) == 0 {
            log.seal().unwrap();
        }
    }
    let root = *log.root();
    if input.below(2) == 0 {
        log.finish().unwrap();
    }
    (fs, root, states)
}

fn edit(input: &mut Input<'_>, state: &State, number: u64) -> Edit {
    let tick = Tick::from_ms(number + 1);
    let mut edit = Edit { last_tick: Some(tick), ..Edit::default() };
    for _ in 0..input.below(3) {
        let id = state.next_table + edit.added.len() as u64;
        let order = 1 + input.below(3) as u64;
        edit.added.push(Added { order, level: input.below(2) as u8, meta: meta(input, id) });
    }
    if input.below(3) == 0 {
        edit.removed = state.version.tables().map(|meta| meta.id).take(1).collect();
    }
    if input.below(3) == 0 {
        edit.keyspaces.push(keyspace(input, state.next_keyspace, tick));
    }
    if input.below(4) == 0 {
        let origin = Origin { node: NodeId([1; 16]), incarnation: Incarnation(number) };
        let position = Position { segment: number, offset: input.number() };
        edit.first_positions.push((ScopeId::MAIN, origin, position));
        edit.log_end = Some(position);
        edit.dropped_stamps.push((ScopeId::MAIN, tick));
    }
    edit
}

fn keyspace(input: &mut Input<'_>, number: u32, created: Tick) -> KeyspaceRecord {
    KeyspaceRecord {
        id: KeyspaceId(number),
        scope: ScopeId::MAIN,
        name: format!("keyspace {number} {}", input.byte()),
        created,
        dropped: None,
        settings: KeyspaceSettings::default(),
    }
}

fn meta(input: &mut Input<'_>, id: u64) -> Arc<TableMeta> {
    let space = SpaceId::new(ScopeId::MAIN, KeyspaceId(1));
    let (a, b) = (input.bytes(8), input.bytes(8));
    Arc::new(TableMeta {
        id,
        len: 1000,
        root: [input.byte(); 32],
        scope: ScopeId::MAIN,
        smallest: TableKey::new(space, a.min(b)),
        largest: TableKey::new(space, a.max(b)),
        entries: 10,
        tombstones: 1,
        expiring: 0,
        range_deletes: 0,
        raw_bytes: 100,
        seqno_min: Tick::from_ms(1),
        seqno_max: Tick::from_ms(2),
        tombstone_stamp_max: Tick::from_ms(1),
        expires_at_max_ms: 0,
        generation: 1,
        shadowed: 0,
        seqno_override: None,
        local: base::OriginNumber::LOCAL,
        origins: Box::default(),
        source: None,
    })
}
