//! A database as small as it gets: one keyspace, a map for a memtable, no threads.

use base::batch::{Op, OpKind};
use base::clock::ManualClock;
use base::fs::{Fs, SimFs};
use base::record::{Records, encode_author_header};
use base::rng::SeededRng;
use base::{EntryKind, KeyspaceId, Result, ScopeId, SpaceId, Tick, Trailer};
use recovery::{Create, FlushTarget, Plan, Progress, Recovered, ReplaySink, Verify, recover};
use sstable::manifest::{Added, Closed, Edit, KeyspaceRecord, KeyspaceSettings, State};
use sstable::{Cache, ReadMode, Table, TableMeta, TableOwner, TableWriter, WriterOptions};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const SPACE: SpaceId = SpaceId::new(ScopeId::MAIN, KeyspaceId(1));
pub(crate) const SEGMENT_BYTES: u64 = 16 << 10;

/// Keys and values.
pub(crate) type Content = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) fn plan(fs: &SimFs, create: Create) -> Plan {
    static SEED: AtomicU64 = AtomicU64::new(0);
    Plan {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(ManualClock::at(1)),
        rng: Arc::new(SeededRng::new(SEED.fetch_add(1, Ordering::Relaxed))),
        create,
        verify: Verify::Quick,
        memory_bytes: 1 << 20,
        log: wal::LogOptions { segment_bytes: SEGMENT_BYTES },
        archive_bytes: 1 << 20,
    }
}

pub(crate) fn open(fs: &SimFs) -> Result<Small> {
    open_with(plan(fs, Create::Never))
}

pub(crate) fn create(fs: &SimFs) -> Result<Small> {
    open_with(plan(fs, Create::IfMissing))
}

pub(crate) fn open_with(plan: Plan) -> Result<Small> {
    let mut sink = Memory::default();
    let fs = plan.fs.clone();
    let recovered = recover(plan, &mut sink, &Progress::default())?;
    Ok(Small { fs, tick: recovered.last_tick, recovered, memory: Memory::default() })
}

/// The database.
pub(crate) struct Small {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) recovered: Recovered,
    pub(crate) tick: Tick,
    memory: Memory,
}

impl Small {
    /// Creates the keyspace if there is none.
    pub(crate) fn keyspace(&mut self) -> Result<()> {
        if !self.recovered.state.keyspaces.is_empty() {
            return Ok(());
        }
        let keyspace = KeyspaceRecord {
            id: SPACE.keyspace(),
            scope: SPACE.scope(),
            name: "main".to_owned(),
            created: Tick::from_ms(1),
            dropped: None,
            settings: KeyspaceSettings::default(),
        };
        self.install(&Edit { keyspaces: vec![keyspace], ..Edit::default() })
    }

    pub(crate) fn install(&mut self, edit: &Edit) -> Result<()> {
        self.recovered.manifest.append(edit)?;
        self.recovered.state.apply(edit).unwrap();
        Ok(())
    }

    /// Writes without a sync.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> Result<()> {
        self.tick = self.tick.next();
        let payload = put_payload(self.tick, SPACE, key, value);
        self.recovered.log.append(self.tick, &payload)?;
        self.memory.insert(self.tick, &payload)
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        let target = self.recovered.log.prepare_sync()?;
        target.sync()?;
        self.recovered.log.synced(&target);
        Ok(())
    }

    pub(crate) fn seal(&mut self) -> Result<()> {
        self.recovered.log.seal()?;
        self.sync()
    }

    /// Writes the memtable as a table and installs it.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let owner = TableOwner {
            database: self.recovered.identity.database,
            origin: self.recovered.identity.origin(),
            generation: self.recovered.generation,
        };
        let target = FlushTarget::new(self.fs.clone(), owner, &self.recovered.state);
        let tables = self.memory.flush(&target)?;
        let folder = base::RelPath::folder("tables");
        self.fs.sync_dir(&folder).map_err(|e| base::Error::io("sync", "tables", e))?;
        let order = self.recovered.state.version.next_order();
        let added = tables.into_iter().map(|meta| Added { order, level: 0, meta: Arc::new(meta) });
        let edit = Edit { added: added.collect(), flushed: Some(self.tick), ..Edit::default() };
        self.install(&edit)
    }

    pub(crate) fn close(mut self) -> Result<()> {
        self.flush()?;
        let Recovered { mut manifest, log, lock, .. } = self.recovered;
        let log_end = log.finish()?;
        let edit = Edit {
            last_tick: Some(self.tick),
            closed: Some(Closed { log_end }),
            ..Edit::default()
        };
        manifest.append(&edit)?;
        manifest.finish()?;
        drop(lock);
        Ok(())
    }

    /// What the tables hold, read from the disk.
    pub(crate) fn content(&self) -> Content {
        content(self.fs.as_ref(), self.recovered.identity.database, &self.recovered.state)
    }
}

pub(crate) fn content(fs: &dyn Fs, database: [u8; 16], state: &State) -> Content {
    let mut content = Content::new();
    let cache = Cache::new(1 << 20);
    for run in state.version.runs().iter().rev() {
        for meta in &run.tables {
            let table = Table::open(fs, meta.clone(), database, cache.clone()).unwrap();
            let mut cursor = Arc::new(table).cursor(SPACE, ReadMode::Bypass);
            let mut found = Content::new();
            cursor.seek_first().unwrap();
            while cursor.is_valid() {
                // The newest version of a key comes first.
                found.entry(cursor.key().to_vec()).or_insert(cursor.value().to_vec());
                cursor.advance().unwrap();
            }
            content.extend(found);
        }
    }
    content
}

pub(crate) fn put_payload(seqno: Tick, space: SpaceId, key: &str, value: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    encode_author_header(&mut payload, seqno, space.scope(), None, 1);
    let kind = OpKind::Put(value.as_bytes());
    Op { keyspace: space.keyspace(), key: key.as_bytes(), kind }.encode(&mut payload);
    payload
}

/// The sink of replays, and the memtable.
#[derive(Default)]
pub(crate) struct Memory {
    entries: BTreeMap<(SpaceId, Vec<u8>, Reverse<Trailer>), Vec<u8>>,
    bytes: u64,
}

impl ReplaySink for Memory {
    fn insert(&mut self, seqno: Tick, payload: &[u8]) -> Result<()> {
        for record in Records::new(payload) {
            let record = record.unwrap();
            for op in record.ops {
                let OpKind::Put(value) = op.kind else { panic!("tests only put") };
                let trailer = Reverse(Trailer::new(seqno, EntryKind::Put));
                let space = SpaceId::new(record.scope, op.keyspace);
                self.entries.insert((space, op.key.to_vec(), trailer), value.to_vec());
                self.bytes += (op.key.len() + value.len() + 32) as u64;
            }
        }
        Ok(())
    }

    fn memory(&self) -> u64 {
        self.bytes
    }

    fn flush(&mut self, target: &FlushTarget) -> Result<Vec<TableMeta>> {
        if self.entries.is_empty() {
            return Ok(Vec::new());
        }
        let id = target.next_table();
        let options = WriterOptions::default();
        let mut writer = TableWriter::create(target.fs.clone(), id, target.owner, options)?;
        for ((space, key, Reverse(trailer)), value) in std::mem::take(&mut self.entries) {
            writer.add(space, &key, trailer, &value)?;
        }
        self.bytes = 0;
        Ok(vec![writer.finish()?])
    }
}

/// `count` keys with values, as the workloads write them.
pub(crate) fn expected(count: usize) -> Content {
    (0..count).map(|n| (key(n).into_bytes(), value(n).into_bytes())).collect()
}

pub(crate) fn key(n: usize) -> String {
    format!("key {n:04}")
}

pub(crate) fn value(n: usize) -> String {
    format!("value {n} {}", "x".repeat(n % 50))
}
