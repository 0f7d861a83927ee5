//! Files that stand for tables: chunks of state, each behind its length (u32).

use super::MemoryStore;
use super::content::Content;
use super::delta::{self, Item};
use crate::store::{Export, ExportFile, ExportHead, Import, Settled};
use base::codec::Reader;
use base::{Error, Result, Vector};
use std::collections::BTreeMap;

const CHUNK_LEN: usize = 4 << 10;
const FILE_LEN: usize = 16 << 10;

/// The content as files, by id.
pub(crate) fn files(content: &Content) -> BTreeMap<u64, Vec<u8>> {
    let mut items = delta::items(content, &Vector::default());
    let mut files = BTreeMap::new();
    let mut file = Vec::new();
    while let Some(chunk) = delta::chunk(&mut items, CHUNK_LEN) {
        file.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        file.extend_from_slice(&chunk);
        if file.len() >= FILE_LEN || items.is_empty() {
            files.insert(files.len() as u64 + 1, std::mem::take(&mut file));
        }
    }
    files
}

/// What a receiver is told about `files`.
pub(crate) fn list(files: &BTreeMap<u64, Vec<u8>>) -> Vec<ExportFile> {
    let file = |(id, bytes): (&u64, &Vec<u8>)| {
        let root = *blake3::hash(bytes).as_bytes();
        ExportFile { id: *id, len: bytes.len() as u64, root }
    };
    files.iter().map(file).collect()
}

/// Files on their way out.
pub(crate) struct MemoryExport {
    pub(crate) head: ExportHead,
    pub(crate) files: BTreeMap<u64, Vec<u8>>,
}

impl Export for MemoryExport {
    fn head(&self) -> &ExportHead {
        &self.head
    }

    fn read(&mut self, id: u64, offset: u64, len: usize) -> Result<Vec<u8>> {
        let file = self.files.get(&id).ok_or_else(|| Error::invalid("there is no such file"))?;
        let rest = usize::try_from(offset).ok().and_then(|offset| file.get(offset..));
        let rest = rest.ok_or_else(|| Error::invalid("the file ends before that offset"))?;
        Ok(rest.get(..len.min(rest.len())).unwrap_or_default().to_vec())
    }
}

/// Files on their way in. What was received stays in the store for the next try.
pub(crate) struct MemoryImport {
    pub(crate) store: MemoryStore,
    pub(crate) head: ExportHead,
    /// Looks that it takes yet once all is here.
    pub(crate) idle: u32,
}

impl Import for MemoryImport {
    fn received(&self) -> Vec<(u64, u64)> {
        self.store
            .staged(|staged| staged.iter().map(|(id, bytes)| (*id, bytes.len() as u64)).collect())
    }

    fn add(&mut self, id: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let Some(file) = self.head.files.iter().find(|file| file.id == id) else {
            return Err(Error::invalid("there is no such file"));
        };
        self.store.staged(|staged| {
            let held = staged.entry(id).or_default();
            if offset != held.len() as u64 || offset + bytes.len() as u64 > file.len {
                return Err(Error::invalid("these are not the next bytes of the file"));
            }
            held.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn settle(&mut self) -> Result<Settled> {
        let received = self.received();
        let is_whole = |file: &ExportFile| received.contains(&(file.id, file.len));
        let is_complete = self.head.files.iter().all(is_whole);
        let is_settled = is_complete && self.idle == 0;
        self.idle -= u32::from(is_complete && !is_settled);
        Ok(if is_settled { Settled::Yes } else { Settled::NotYet })
    }

    fn install(self: Box<Self>) -> Result<()> {
        let files = self.store.staged(std::mem::take);
        if list(&files) != self.head.files {
            return Err(Error::invalid("the files are not those of the giver"));
        }
        let mut items = Vec::new();
        for file in files.values() {
            let mut reader = Reader::new(file);
            while !reader.is_empty() {
                let broken = |found: base::Corruption| Error::invalid(found.to_string());
                let len = reader.u32().map_err(broken)? as usize;
                items.extend(delta::decode(reader.take(len).map_err(broken)?)?);
            }
        }
        self.store.change(|life, _| {
            if !(life.content.is_empty() && life.vector.is_empty()) {
                return Err(Error::invalid("only an empty scope takes tables"));
            }
            for item in items {
                match item {
                    Item::Range(range) => life.content.insert_range(range),
                    Item::Point(place, version) => drop(life.content.insert(place, version)),
                }
            }
            delta::take_head(life, &self.head.state);
            life.clock = life.clock.observe(self.head.clock);
            Ok(())
        })
    }
}
