//! A simulated disk with tables on it, and the sorted map that they are compared with.

use base::fs::{Fs, SimFs};
use base::{EntryKind, FileName, Incarnation, KeyspaceId, NodeId, Origin, RelPath, ScopeId};
use base::{SpaceId, Tick, Trailer};
use proptest::prelude::*;
use sstable::{
    Cache, Compression, RangeDelete, Table, TableMeta, TableOwner, TableWriter, WriterOptions,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a table is compared with: entries in the order of the table.
pub(crate) type Model = BTreeMap<(SpaceId, Vec<u8>, Reverse<Trailer>), Vec<u8>>;

pub(crate) const DATABASE: [u8; 16] = [7; 16];
pub(crate) const OWNER: TableOwner = TableOwner {
    database: DATABASE,
    origin: Origin { node: NodeId([1; 16]), incarnation: Incarnation(2) },
    generation: 3,
};
/// Blocks of a few entries, so that small tables have many.
pub(crate) const SMALL_BLOCKS: WriterOptions =
    WriterOptions { block_bytes: 200, filter_bits_per_key: 10, compression: Compression::None };

pub(crate) struct Bed {
    pub(crate) disk: SimFs,
    pub(crate) cache: Arc<Cache>,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        let disk = SimFs::new(1);
        disk.create_dir(&RelPath::folder(base::dir::TABLES_DIR)).unwrap();
        Bed { disk, cache: Cache::new(1 << 20) }
    }

    pub(crate) fn fs(&self) -> Arc<dyn Fs> {
        Arc::new(self.disk.clone())
    }

    pub(crate) fn writer(&self, id: u64, options: WriterOptions) -> TableWriter {
        TableWriter::create(self.fs(), id, OWNER, options).unwrap()
    }

    pub(crate) fn write(&self, id: u64, model: &Model, options: WriterOptions) -> TableMeta {
        self.write_with(id, model, &[], options)
    }

    pub(crate) fn write_with(
        &self,
        id: u64,
        model: &Model,
        ranges: &[RangeDelete],
        options: WriterOptions,
    ) -> TableMeta {
        let mut writer = self.writer(id, options);
        for ((space, key, trailer), value) in model {
            writer.add(*space, key, trailer.0, value).unwrap();
        }
        ranges.iter().for_each(|range| writer.add_range_delete(range.clone()).unwrap());
        assert_eq!(writer.entries(), model.len() as u64);
        writer.finish().unwrap()
    }

    pub(crate) fn try_open(&self, meta: &TableMeta) -> base::Result<Arc<Table>> {
        let table = Table::open(&self.disk, Arc::new(meta.clone()), DATABASE, self.cache.clone())?;
        Ok(Arc::new(table))
    }

    pub(crate) fn open(&self, meta: &TableMeta) -> Arc<Table> {
        self.try_open(meta).unwrap()
    }

    pub(crate) fn read(&self, id: u64) -> Vec<u8> {
        self.disk.read_file(&FileName::Table(id).path()).unwrap()
    }

    pub(crate) fn replace(&self, id: u64, bytes: impl Into<Vec<u8>>) {
        self.disk.write_file(&FileName::Table(id).path(), bytes).unwrap();
    }
}

pub(crate) fn space(number: u32) -> SpaceId {
    SpaceId::new(ScopeId::MAIN, KeyspaceId(number))
}

pub(crate) fn tick(raw: u64) -> Tick {
    Tick::from_raw(raw).unwrap()
}

pub(crate) fn put(number: u32, key: &[u8], seqno: u64) -> (SpaceId, Vec<u8>, Reverse<Trailer>) {
    (space(number), key.to_vec(), Reverse(Trailer::new(tick(seqno), EntryKind::Put)))
}

/// `count` entries of one keyspace, two versions for every third key.
pub(crate) fn sample(count: u64) -> Model {
    let mut model = Model::new();
    for number in 0..count {
        let key = format!("user:{number:04}");
        model.insert(put(1, key.as_bytes(), 1000 + number), vec![number as u8; 30]);
        if number % 3 == 0 {
            model.insert(put(1, key.as_bytes(), 500), b"old".to_vec());
        }
    }
    model
}

/// All entries that the table's cursors show, keyspace by keyspace.
pub(crate) fn contents(table: &Arc<Table>, read: sstable::ReadMode) -> base::Result<Model> {
    let mut model = Model::new();
    for (space, _) in table.spaces() {
        let mut cursor = table.cursor(space, read);
        cursor.seek_first()?;
        while cursor.is_valid() {
            let at = (space, cursor.key().to_vec(), Reverse(cursor.trailer()));
            assert!(model.insert(at, cursor.value().to_vec()).is_none(), "entries repeat");
            cursor.advance()?;
        }
    }
    Ok(model)
}

pub(crate) fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(0u8..3, 1..5),
        4 => (0u16..400).prop_map(|number| format!("user:{number:06}").into_bytes()),
        2 => prop::collection::vec(0u8..2, 7..11),
        1 => prop::collection::vec(any::<u8>(), 1..300),
        1 => (1u8..3, 300usize..9000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

pub(crate) fn any_trailer() -> impl Strategy<Value = Trailer> {
    let kind = prop_oneof![8 => Just(EntryKind::Put), 1 => Just(EntryKind::Delete), 1 => Just(EntryKind::PutExpiring)];
    let seqno = prop_oneof![1u64..6, 1u64 << 40..(1 << 40) + 5000];
    (seqno, kind).prop_map(|(seqno, kind)| Trailer::new(tick(seqno), kind))
}

pub(crate) fn any_model() -> impl Strategy<Value = Model> {
    let value = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 8..30),
        1 => (any::<u8>(), 0usize..20_000).prop_map(|(byte, len)| vec![byte; len + 8]),
    ];
    let at = (1u32..4, any_key(), any_trailer());
    prop::collection::btree_map(at, value, 1..150).prop_map(|entries| {
        let entry = |((number, key, trailer), value): ((u32, Vec<u8>, Trailer), Vec<u8>)| {
            // Some puts have no value at all.
            let is_empty = trailer.kind() != Some(EntryKind::PutExpiring) && value.len() == 8;
            let value = if is_empty { Vec::new() } else { value };
            ((space(number), key, Reverse(trailer)), value)
        };
        entries.into_iter().map(entry).collect()
    })
}

pub(crate) fn any_options() -> impl Strategy<Value = WriterOptions> {
    let compression = prop_oneof![Just(Compression::None), Just(Compression::Zstd)];
    (prop_oneof![Just(100), Just(1000), Just(8192)], 0u32..14, compression).prop_map(
        |(block_bytes, filter_bits_per_key, compression)| WriterOptions {
            block_bytes,
            filter_bits_per_key,
            compression,
        },
    )
}
