//! What can still be known of a damaged database, before anything is changed.
//!
//! Every file that verifies says whose it is, and the majority decides which database this is. Of the
//! manifests the root's counts; without a root, the newest that verifies. If one is whole, it knows
//! all tables. Otherwise only names and numbers are taken from it, and which tables it is sure to
//! have removed.

use crate::identity;
use crate::inventory::Inventory;
use crate::replay;
use crate::root;
use base::error::Category;
use base::fs::{Fs, full_path};
use base::{Corruption, Error, FileName, Identity, Position, RelPath, Result};
use sstable::TableMeta;
use sstable::manifest::{self, Edit, ManifestSalvage, Root, State, Version, read_root};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What can still be known.
pub(super) struct Facts {
    pub(super) inventory: Inventory,
    pub(super) database: [u8; 16],
    /// Who the node is, if that is still known.
    pub(super) identity: Option<Identity>,
    /// The root that counts, if one does.
    pub(super) root: Option<Root>,
    /// No file of the database is of a newer generation.
    pub(super) generation: u64,
    pub(super) catalog: Catalog,
}

/// What the manifests still say.
pub(super) struct Catalog {
    /// All of it if the manifest is whole; else without tables.
    pub(super) state: State,
    /// If the set of tables is not known any more: where that shows.
    pub(super) lost: Option<Lost>,
}

/// A set of tables that is not known any more.
pub(super) struct Lost {
    pub(super) file: PathBuf,
    pub(super) offset: Option<u64>,
    /// Tables that edits speak of, by number.
    pub(super) known: BTreeMap<u64, Arc<TableMeta>>,
    /// Tables that edits have removed.
    pub(super) removed: BTreeSet<u64>,
}

/// The value of `result`, or none if that is damaged. Other errors are no damage and are passed on:
/// what a newer version wrote must not be repaired by this one.
pub(super) fn undamaged<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.category() == Category::Critical => Ok(None),
        Err(error) => Err(error),
    }
}

impl Facts {
    /// Reads what there is. Nothing is changed.
    pub(super) fn gather(fs: &dyn Fs) -> Result<Facts> {
        let listed = Inventory::take(fs).map_err(|e| Error::io("list", fs.root(), e))?;
        let inventory = listed?;
        let identity = undamaged(identity::read(fs))?;
        if let Some(file) = &identity {
            crate::keys::check(fs, file)?;
        }
        let identity = identity.filter(identity::is_consistent).map(|file| file.identity);
        let root = undamaged(read_root(fs))?.map(|roots| roots.root);
        let mut manifests = Vec::new();
        for &number in inventory.manifests.keys() {
            manifests.extend(manifest::salvage(fs, number)?);
        }
        let mut votes = Votes::default();
        votes.add(identity.as_ref().map(|identity| identity.database));
        votes.add(root.as_ref().map(|root| root.database));
        manifests.iter().for_each(|manifest| votes.add(Some(manifest.header.database)));
        let mut generation = root.as_ref().map_or(0, |root| root.generation);
        for &number in inventory.tables.keys() {
            if let Some((_, owner)) = undamaged(sstable::table::inspect(fs, number))? {
                votes.add(Some(owner.database));
                generation = generation.max(owner.generation);
            }
        }
        for &number in inventory.segments.keys() {
            votes.add(undamaged(wal::database_of(fs, number))?.flatten());
        }
        let Some(database) = votes.winner() else {
            let found = "no identity, root, manifest, table or log segment in it verifies";
            return Err(Error::NotADatabase { path: fs.root().to_path_buf(), found });
        };
        manifests.retain(|manifest| manifest.header.database == database);
        let newest = manifests.iter().map(|manifest| manifest.header.generation).max();
        generation =
            generation.max(newest.unwrap_or(0)).max(newest_segment(fs, &inventory, database)?);
        let root = root.filter(|root| root.database == database);
        let is_current = undamaged(root::choose(fs, database, &inventory))?.is_some();
        let root = root.filter(|_| is_current);
        let catalog = Catalog::of(fs, root.as_ref(), manifests, &inventory, generation)?;
        let identity = identity.filter(|identity| identity.database == database);
        Ok(Facts { inventory, database, identity, root, generation, catalog })
    }
}

fn newest_segment(fs: &dyn Fs, inventory: &Inventory, database: [u8; 16]) -> Result<u64> {
    let mut newest = 0;
    for &number in inventory.segments.keys() {
        if let Some(wal::HeaderState::Good(header)) =
            undamaged(wal::read_header(fs, number, database))?
        {
            newest = newest.max(header.owner.generation);
        }
    }
    Ok(newest)
}

/// Which database files belong to, by majority.
#[derive(Default)]
struct Votes(BTreeMap<[u8; 16], u64>);

impl Votes {
    fn add(&mut self, database: Option<[u8; 16]>) {
        if let Some(database) = database {
            *self.0.entry(database).or_default() += 1;
        }
    }

    fn winner(&self) -> Option<[u8; 16]> {
        self.0.iter().max_by_key(|(_, votes)| **votes).map(|(database, _)| *database)
    }
}

impl Catalog {
    /// From `root`, if there is one that counts, and the manifests that verify at their front.
    fn of(
        fs: &dyn Fs,
        root: Option<&Root>,
        manifests: Vec<ManifestSalvage>,
        inventory: &Inventory,
        generation: u64,
    ) -> Result<Catalog> {
        let mut is_short = false;
        if let Some(root) = root
            && let Some(replayed) = undamaged(manifest::replay(fs, root))?
        {
            // What the manifest has lost may be in tables that it does not name.
            let segments: Vec<u64> =
                inventory.segments.range(replayed.state.log_start..).map(|it| *it.0).collect();
            let end = Position { segment: root.manifest, offset: replayed.end };
            is_short = replay::witnessed(fs, &segments, root.database)? > end;
            if !is_short {
                return Ok(Catalog { state: replayed.state, lost: None });
            }
        }
        // Of two of one generation the later one was made when the other was full.
        let age = |manifest: &ManifestSalvage| {
            let number = manifest.header.number;
            (manifest.header.generation, manifest.state.next_table, number)
        };
        let named = root.and_then(|root| {
            manifests.iter().position(|manifest| manifest.header.number == root.manifest)
        });
        let newest = manifests.iter().enumerate().max_by_key(|(_, manifest)| age(manifest));
        let chosen = named.or(newest.map(|(at, _)| at));
        match chosen.and_then(|at| manifests.into_iter().nth(at)) {
            Some(manifest) => {
                let counts = match root {
                    Some(root) => manifest.header.number == root.manifest,
                    None => is_last(&manifest, inventory, generation),
                };
                match manifest.damage {
                    None if counts && !is_short => {
                        Ok(Catalog { state: manifest.state, lost: None })
                    }
                    _ => Ok(Catalog::without_tables(fs, manifest)),
                }
            }
            None => {
                let file = full_path(fs, &RelPath::folder(base::dir::MANIFEST_DIR));
                let (known, removed) = (BTreeMap::new(), BTreeSet::new());
                let lost = Some(Lost { file, offset: None, known, removed });
                Ok(Catalog { state: State::default(), lost })
            }
        }
    }

    /// Names and numbers of a manifest that does not know all tables.
    fn without_tables(fs: &dyn Fs, manifest: ManifestSalvage) -> Catalog {
        let mut lost = Lost {
            file: full_path(fs, &FileName::Manifest(manifest.header.number).path()),
            offset: manifest.damage.map(|(offset, _)| offset),
            known: BTreeMap::new(),
            removed: BTreeSet::new(),
        };
        manifest.all_edits().for_each(|edit| lost.learn(edit));
        let mut state = State { version: Version::default(), closed: None, ..manifest.state };
        for edit in &manifest.later {
            // Whatever contradicts the names that are known already is left out.
            let _: Result<(), Corruption> = state.apply(&without_tables(edit));
        }
        Catalog { state, lost: Some(lost) }
    }
}

/// Whether nothing in the directory is newer than the manifest, which no root names any more.
fn is_last(manifest: &ManifestSalvage, inventory: &Inventory, generation: u64) -> bool {
    let header = &manifest.header;
    let last_table = inventory.tables.last_key_value().map_or(0, |(number, _)| *number);
    let last_manifest = inventory.manifests.last_key_value().map_or(0, |(number, _)| *number);
    header.generation == generation
        && header.number == last_manifest
        && last_table < manifest.state.next_table
}

impl Lost {
    fn learn(&mut self, edit: &Edit) {
        self.removed.extend(&edit.removed);
        for added in &edit.added {
            // Removed and added means moved.
            self.removed.remove(&added.meta.id);
            self.known.insert(added.meta.id, added.meta.clone());
        }
    }
}

fn without_tables(edit: &Edit) -> Edit {
    Edit { added: Vec::new(), removed: Vec::new(), closed: None, ..edit.clone() }
}
