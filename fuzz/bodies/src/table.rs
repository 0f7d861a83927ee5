//! Tables: genuine ones that were damaged, as they are or sealed again with fresh digests.

use crate::damage::damage;
use crate::input::Input;
use base::fs::{Fs, SimFs};
use base::{
    EntryKind, FileName, KeyspaceId, Origin, RelPath, ScopeId, SpaceId, Tick, Trailer, key_hash,
};
use sstable::{
    Cache, Compression, RangeDelete, ReadMode, Table, TableMeta, TableOwner, TableWriter,
    WriterOptions,
};
use std::collections::BTreeMap;
use std::sync::Arc;

const DATABASE: [u8; 16] = [7; 16];
const ID: u64 = 5;
/// From the diagram of the footer.
const FOOTER_LEN: usize = 240;
const SECTIONS_AT: usize = 48;
const SECTION_LEN: usize = 32;
const ROOT_AT: usize = 208;

/// What a table holds, in its order.
type Entries = BTreeMap<(SpaceId, Vec<u8>), (Trailer, Vec<u8>)>;

/// Opens a damaged table. Without fresh digests, every answer is an error or the truth.
pub fn table_open(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte();
    let (fs, mut meta, entries) = genuine(&mut input);
    let path = FileName::Table(ID).path();
    let mut bytes = fs.read_file(&path).unwrap();
    damage(&mut bytes, &mut input);
    if mode & 1 != 0
        && let Some(root) = seal(&mut bytes)
    {
        (meta.root, meta.len) = (root, bytes.len() as u64);
    }
    let is_sealed = mode & 1 != 0;
    fs.write_file(&path, bytes).unwrap();
    let Ok(table) = Table::open(&fs, Arc::new(meta), DATABASE, Cache::new(1 << 20)) else { return };
    let table = Arc::new(table);
    let _ = table.verify();
    let read = if mode & 2 == 0 { ReadMode::Cached } else { ReadMode::Bypass };
    if is_sealed {
        walk_all(&table, read);
    } else {
        assert_true_or_error(&table, read, &entries);
    }
}

/// Uses everything of a table that may say anything.
fn walk_all(table: &Arc<Table>, read: ReadMode) {
    let spaces: Vec<SpaceId> = table.spaces().map(|(space, _)| space).collect();
    for space in spaces.into_iter().chain([SpaceId(0), SpaceId(1 << 32 | 1)]) {
        let mut cursor = table.cursor(space, read);
        let mut is_going = cursor.seek_first().is_ok();
        while is_going && cursor.is_valid() {
            let (key, trailer) = (cursor.key().to_vec(), cursor.trailer());
            let _ = table.get(space, &key, key_hash(space, &key), trailer, |_, _, _| ());
            is_going = cursor.advance().is_ok();
        }
        let mut cursor = table.cursor(space, read);
        is_going = cursor.seek_last().is_ok();
        while is_going && cursor.is_valid() {
            is_going = cursor.retreat().is_ok();
        }
        let _ = table.cursor(space, read).seek(b"key/5", Trailer::MAX);
        let _ = table.cursor(space, read).seek_before(b"key/5");
    }
}

fn assert_true_or_error(table: &Arc<Table>, read: ReadMode, entries: &Entries) {
    for ((space, key), (trailer, value)) in entries {
        let found =
            table.get(*space, key, key_hash(*space, key), Trailer::MAX, |trailer, value, _| {
                (trailer, value.to_vec())
            });
        if let Ok(found) = found {
            assert_eq!(found, Some((*trailer, value.clone())), "a wrong answer");
        }
    }
    let spaces: std::collections::BTreeSet<SpaceId> =
        entries.keys().map(|(space, _)| *space).collect();
    for space in spaces {
        let mut cursor = table.cursor(space, read);
        let mut expected =
            entries.range((space, Vec::new())..).take_while(|entry| entry.0.0 == space);
        if cursor.seek_first().is_err() {
            continue;
        }
        loop {
            let here = cursor.is_valid().then(|| (cursor.key(), cursor.trailer(), cursor.value()));
            let there = expected.next();
            let there = there
                .map(|((_, key), (trailer, value))| (key.as_slice(), *trailer, value.as_slice()));
            assert_eq!(here, there, "a wrong scan");
            if here.is_none() || cursor.advance().is_err() {
                break;
            }
        }
    }
}

/// A table that `input` writes.
fn genuine(input: &mut Input<'_>) -> (SimFs, TableMeta, Entries) {
    let fs = SimFs::new(1);
    fs.create_dir(&RelPath::folder(base::dir::TABLES_DIR)).unwrap();
    let mut entries = Entries::new();
    for _ in 0..1 + input.below(60) {
        let space = SpaceId::new(ScopeId::MAIN, KeyspaceId(1 + input.below(2) as u32));
        let key = [b"key/", input.bytes(16)].concat();
        let kind = if input.below(8) == 0 { EntryKind::Delete } else { EntryKind::Put };
        let trailer = Trailer::new(Tick::from_ms(1 + input.below(99) as u64), kind);
        let value =
            if kind == EntryKind::Put { vec![input.byte(); input.below(200)] } else { vec![] };
        entries.insert((space, key), (trailer, value));
    }
    let compression = if input.below(2) == 0 { Compression::None } else { Compression::Zstd };
    let options = WriterOptions { block_bytes: 512, compression, ..WriterOptions::default() };
    let owner = TableOwner { database: DATABASE, origin: Origin::default(), generation: 1 };
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let mut writer = TableWriter::create(shared, ID, owner, options).unwrap();
    for ((space, key), (trailer, value)) in &entries {
        writer.add(*space, key, *trailer, value).unwrap();
    }
    for _ in 0..input.below(3) {
        let range = RangeDelete {
            space: SpaceId::new(ScopeId::MAIN, KeyspaceId(1)),
            start: input.bytes(8).into(),
            end: [].into(),
            seqno: Tick::from_ms(3),
            stamp: Tick::from_ms(3),
            origin: None,
        };
        writer.add_range_delete(range).unwrap();
    }
    let meta = writer.finish().unwrap();
    (fs, meta, entries)
}

/// Gives damaged sections and the footer fresh digests; returns the new root.
fn seal(bytes: &mut [u8]) -> Option<[u8; 32]> {
    let footer_at = bytes.len().checked_sub(FOOTER_LEN)?;
    let (body, footer) = bytes.split_at_mut(footer_at);
    for section in footer[SECTIONS_AT..ROOT_AT].chunks_exact_mut(SECTION_LEN) {
        let number = |at: usize| {
            let bytes = section.get(at..at + 8)?;
            usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
        };
        let (position, len) = (number(0)?, number(8)?);
        let Some(stored) = body.get(position..).and_then(|rest| rest.get(..len)) else { continue };
        section[16..].copy_from_slice(&blake3::hash(stored).as_bytes()[..16]);
    }
    let root = *blake3::hash(&footer[..ROOT_AT]).as_bytes();
    footer[ROOT_AT..].copy_from_slice(&root);
    Some(root)
}
