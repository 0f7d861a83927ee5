//! What comes from other nodes and is stored: shipments, chunks of a state, the list of members that a
//! joiner gets.

use crate::damage::damage;
use crate::input::Input;
use base::clock::ManualClock;
use base::fs::SimFs;
use base::rng::SeededRng;
use base::shipment::ShipmentWriter;
use base::state::{StateChunk, StateEntry, StateKind, StateWriter};
use base::{Incarnation, KeyspaceId, NodeId, Op, OpKind, Origin, ScopeId, Shipment, Stamp, Tick};
use engine::replicate::{Admission, DeltaHead, Purpose};
use engine::{Background, Db, Options, Platform, SyncMode};
use replication::memory::MemoryStore;
use replication::replica::decode_members;
use replication::store::Store;
use std::sync::Arc;

const WALL_MS: u64 = 1_700_000_000_000;
const AUTHOR: Origin = Origin { node: NodeId([7; 16]), incarnation: Incarnation(7) };

/// A shipment that decodes keeps the rules of its format; a damaged one is refused or unchanged; and
/// whatever is sealed with a digest that is right, both stores take it or say why not.
pub fn shipment(data: &[u8]) {
    let mut input = Input::new(data);
    let genuine = written(&mut input);
    let mut bytes = match input.byte() % 4 {
        0 => input.rest().to_vec(),
        _ => genuine.clone(),
    };
    damage(&mut bytes, &mut input);
    if let Ok(found) = Shipment::decode(&bytes) {
        check(&found);
    }
    assert!(bytes == genuine || !bytes.starts_with(&genuine) || Shipment::decode(&bytes).is_err());
    seal(&mut bytes);
    if let Ok(found) = Shipment::decode(&bytes) {
        check(&found);
        assert_eq!(Shipment::author(&bytes), Ok((found.scope, found.origin)));
    }
    let memory = MemoryStore::new(NodeId([1; 16]), Incarnation(1), WALL_MS);
    let _ = memory.admit(&bytes);
    let db = database();
    if let Ok(Admission::Taken { .. }) = db.replication().admit(&bytes) {
        assert_eq!(db.replication().admit(&bytes).unwrap(), Admission::Known);
    }
}

fn check(shipment: &Shipment<'_>) {
    assert!(!shipment.commits.is_empty());
    assert!(shipment.commits.is_sorted_by(|a, b| a.tick < b.tick));
    assert!(shipment.keyspaces.is_sorted_by(|a, b| a.0 < b.0));
    for commit in &shipment.commits {
        let named = |op: Op<'_>| shipment.name_of(op.keyspace).is_some();
        assert!(commit.ops.clone().all(named));
        assert_eq!(commit.ops.clone().count() as u64, commit.op_count);
    }
}

fn written(input: &mut Input<'_>) -> Vec<u8> {
    let previous = Some(Tick::from_ms(u64::from(input.byte()))).filter(|tick| *tick > Tick::ZERO);
    let mut writer = ShipmentWriter::new(ScopeId::MAIN, AUTHOR, previous);
    for number in 0..1 + input.below(3) as u64 {
        let (mut ops, count) = (Vec::new(), 1 + input.below(4));
        for _ in 0..count {
            let (keyspace, key) = (KeyspaceId(input.below(3) as u32), input.bytes(5));
            let kind = match input.byte() % 4 {
                0 => OpKind::Put(input.bytes(20)),
                1 => OpKind::Delete,
                2 => OpKind::RangeDelete { end: &[] },
                _ => OpKind::Erase { victim: Stamp { tick: Tick::from_ms(9), origin: AUTHOR } },
            };
            Op { keyspace, key, kind }.encode(&mut ops);
        }
        let tick = Tick::from_ms(WALL_MS + number);
        let ops = base::batch::Ops::encoded(&ops);
        writer.push(tick, count as u64, &ops, |number| Some(format!("k{}", number.0))).unwrap();
    }
    writer.finish()
}

/// The last bytes become the digest of those before.
fn seal(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len().saturating_sub(32));
    let digest = blake3::hash(bytes);
    bytes.extend_from_slice(digest.as_bytes());
}

fn database() -> Db {
    let clock = Arc::new(ManualClock::at(WALL_MS));
    let platform =
        Platform { fs: Arc::new(SimFs::new(1)), clock, rng: Arc::new(SeededRng::new(1)) };
    let options = Options {
        sync: SyncMode::Async,
        memory_bytes: 1 << 20,
        memtable_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        background: Background::Off,
        ..Options::default()
    };
    Db::open_on(platform, options).unwrap()
}

/// A chunk of a state, staged and installed: all of it counts, or it is refused and nothing does.
pub fn state(data: &[u8]) {
    let mut input = Input::new(data);
    let mut bytes = match input.byte() % 4 {
        0 => input.clone().rest().to_vec(),
        1 => {
            let _ = decode_members(input.rest());
            return;
        }
        _ => chunk(&mut input),
    };
    damage(&mut bytes, &mut input);
    let _ = StateChunk::decode(&bytes);
    seal(&mut bytes);
    let db = database();
    let purpose = if input.byte().is_multiple_of(2) { Purpose::CatchUp } else { Purpose::Rejoin };
    let mut stage = db.replication().stage(ScopeId::MAIN, &DeltaHead::default(), purpose).unwrap();
    let taken = stage.add(&bytes);
    if let Ok(found) = StateChunk::decode(&bytes) {
        assert!(!found.entries.is_empty());
    } else {
        assert!(taken.is_err());
    }
    if taken.is_ok() {
        let _ = stage.install();
    }
}

fn chunk(input: &mut Input<'_>) -> Vec<u8> {
    let mut writer = StateWriter::new(ScopeId::MAIN);
    let is_of_ranges = input.byte().is_multiple_of(3);
    for number in 0..1 + input.below(5) as u8 {
        let key = [&[number][..], input.bytes(4)].concat();
        let stamp = Stamp { tick: Tick::from_ms(1 + u64::from(input.byte())), origin: AUTHOR };
        let end = [number + 1];
        let kind = match input.byte() % 4 {
            _ if is_of_ranges => StateKind::RangeDelete { end: &end },
            0 => StateKind::Delete,
            1 => StateKind::PutExpiring { expires_at_ms: input.number(), value: input.bytes(9) },
            2 => StateKind::Erase { carrier: Stamp { tick: Tick::from_ms(9), origin: AUTHOR } },
            _ => StateKind::Put(input.bytes(30)),
        };
        writer.push(&StateEntry { keyspace: "k", key: &key, stamp, kind });
    }
    writer.finish()
}

/// The list of tables that an empty node gets, and any edit of a manifest: what decodes comes back from
/// its own bytes, and an import of it is refused or begins, without a word about what is not there.
pub fn catalog(data: &[u8]) {
    use sstable::manifest::Edit;
    let mut input = Input::new(data);
    let mut bytes = match input.byte() % 4 {
        0 => input.clone().rest().to_vec(),
        _ => exported().catalog,
    };
    damage(&mut bytes, &mut input);
    if let Ok(edit) = Edit::decode(&bytes) {
        let mut again = Vec::new();
        edit.encode(&mut again);
        assert_eq!(Edit::decode(&again).as_ref(), Ok(&edit));
    }
    let head = engine::replicate::ExportHead { catalog: bytes, ..exported() };
    let db = database();
    if let Ok(import) = db.replication().import(ScopeId::MAIN, &head) {
        assert!(import.install().is_err(), "no file has come");
    }
    assert!(db.replication().applied(ScopeId::MAIN).is_empty());
}

/// What a database gives away that holds a little of everything.
fn exported() -> engine::replicate::ExportHead {
    static HEAD: std::sync::OnceLock<engine::replicate::ExportHead> = std::sync::OnceLock::new();
    let head = HEAD.get_or_init(|| {
        let db = database();
        let mut input = Input::new(&[3; 64]);
        db.replication().admit(&written(&mut input)).unwrap();
        let space = db.keyspace("own", engine::KeyspaceOptions::default()).unwrap();
        space.put("a", "1").unwrap();
        space.delete_range("b", "c").unwrap();
        db.replication().export(ScopeId::MAIN).unwrap().head().clone()
    });
    head.clone()
}
