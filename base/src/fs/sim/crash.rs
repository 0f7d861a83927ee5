//! What a disk looks like after a crash.

use super::content::{Change, Content, Inode, split};
use super::disk::{Disk, Entry, EntryOp, Folder, LastSync};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes that a device writes as a whole or not at all.
const SECTOR_LEN: usize = 512;

/// What a crash does to changes that no sync had secured. Every choice follows from the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashModel {
    /// Only the process dies: everything written is there.
    Kill,
    /// The power fails: only what was synced is there.
    Synced,
    /// Of each file, and of all names, some first changes are there; the last of a file may be cut.
    Prefix,
    /// Of each file some sectors are there, each as it was at some moment, in no order. Names as
    /// with [`CrashModel::Prefix`].
    Sectors,
    /// As [`CrashModel::Sectors`], and some lost sectors hold noise, or what another file has at the
    /// same offset.
    Garbage,
    /// Changes of names are there or lost one by one; of a rename the old name may stay beside the
    /// new one. Of a file all changes of bytes are lost, even its length, or it is as with
    /// [`CrashModel::Prefix`].
    Directory,
    /// As [`CrashModel::Synced`], and the last sync had done nothing although it reported success.
    SyncLied,
}

impl CrashModel {
    /// All of them.
    pub const ALL: [CrashModel; 7] = [
        CrashModel::Kill,
        CrashModel::Synced,
        CrashModel::Prefix,
        CrashModel::Sectors,
        CrashModel::Garbage,
        CrashModel::Directory,
        CrashModel::SyncLied,
    ];

    /// Whether different seeds make different images.
    pub fn is_random(self) -> bool {
        !matches!(self, CrashModel::Kill | CrashModel::Synced | CrashModel::SyncLied)
    }
}

/// The dice for crash number `number` of `disk`.
pub(super) fn dice(disk: &Disk, model: CrashModel, number: u64) -> Dice {
    let line = format!("{model:?} {} {} {number}", disk.ops, disk.trace);
    Dice(xxh3_64_with_seed(line.as_bytes(), disk.seed))
}

/// The disk after a crash of `disk`. Nothing on it is at risk, and nobody holds locks.
pub(super) fn crash(disk: &Disk, model: CrashModel, mut dice: Dice) -> Disk {
    let mut image = Disk::new(dice.roll());
    image.free = disk.free;
    image.inodes = disk.inodes;
    let folders = surviving_names(disk, model, &mut dice);
    let others: Vec<Content> = match model {
        CrashModel::Garbage => contents(disk),
        _ => Vec::new(),
    };
    let mut crash =
        Crash { model, dice, last_sync: disk.last_sync, others, files: BTreeMap::new() };
    for (path, folder) in &folders {
        if is_reachable(&folders, path) {
            let entries = crash.surviving_entries(folder);
            let folder = Folder {
                seen: entries.clone(),
                base: entries,
                is_root: folder.is_root,
                is_gone: false,
            };
            image.folders.insert(path.clone(), folder);
        }
    }
    image
}

/// All folders with the names that survive, in `base`.
fn surviving_names(disk: &Disk, model: CrashModel, dice: &mut Dice) -> BTreeMap<String, Folder> {
    let mut folders = disk.folders.clone();
    if model == CrashModel::Kill {
        folders.values_mut().for_each(|folder| folder.base = folder.seen.clone());
        return folders;
    }
    if !(model == CrashModel::SyncLied && disk.last_sync == LastSync::Folder) {
        disk.promised.iter().for_each(|op| op.apply(&mut folders));
    }
    match model {
        CrashModel::Kill | CrashModel::Synced | CrashModel::SyncLied => {}
        CrashModel::Prefix | CrashModel::Sectors | CrashModel::Garbage => {
            let count = dice.below(disk.pending.len() + 1);
            disk.pending.iter().take(count).for_each(|op| op.apply(&mut folders));
        }
        CrashModel::Directory => {
            for op in &disk.pending {
                if dice.coin() {
                    surviving_part(op, dice).apply(&mut folders);
                }
            }
        }
    }
    folders
}

/// A change of names, or the new name of a rename without the removal of the old one.
fn surviving_part(op: &EntryOp, dice: &mut Dice) -> EntryOp {
    let is_rename = op.0.len() > 1;
    let kept = if is_rename && dice.below(4) == 0 { 1 } else { op.0.len() };
    EntryOp(op.0.iter().take(kept).cloned().collect())
}

/// Whether the folder at `path` still has a name, and all above it have.
fn is_reachable(folders: &BTreeMap<String, Folder>, path: &str) -> bool {
    let Some(folder) = folders.get(path) else { return false };
    if folder.is_root {
        return true;
    }
    let Some((parent, name)) = path.rsplit_once('/') else { return false };
    let is_named = folders
        .get(parent)
        .is_some_and(|parent| matches!(parent.base.get(name), Some(Entry::Folder)));
    is_named && is_reachable(folders, parent)
}

fn contents(disk: &Disk) -> Vec<Content> {
    disk.named_files().values().map(|inode| inode.lock().seen().clone()).collect()
}

struct Crash {
    model: CrashModel,
    dice: Dice,
    last_sync: LastSync,
    /// What garbage is made of.
    others: Vec<Content>,
    /// Files that were decided on already: they may have several names.
    files: BTreeMap<u64, Arc<Mutex<Inode>>>,
}

impl Crash {
    fn surviving_entries(&mut self, folder: &Folder) -> BTreeMap<String, Entry> {
        let mut entries = BTreeMap::new();
        for (name, entry) in &folder.base {
            let entry = match entry {
                Entry::Folder => Entry::Folder,
                Entry::File(inode) => Entry::File(self.surviving_file(&inode.lock())),
            };
            entries.insert(name.clone(), entry);
        }
        entries
    }

    fn surviving_file(&mut self, inode: &Inode) -> Arc<Mutex<Inode>> {
        let file = match self.files.get(&inode.id) {
            Some(file) => Arc::clone(file),
            None => {
                let content = self.surviving_content(inode);
                let file = Arc::new(Mutex::new(Inode::new(inode.id, content)));
                self.files.insert(inode.id, Arc::clone(&file));
                file
            }
        };
        file.lock().links += 1;
        file
    }

    fn surviving_content(&mut self, inode: &Inode) -> Content {
        match self.model {
            CrashModel::Kill => inode.seen().clone(),
            CrashModel::Synced => inode.safe(),
            CrashModel::SyncLied if self.last_sync == LastSync::File(inode.id) => {
                inode.base().clone()
            }
            CrashModel::SyncLied => inode.safe(),
            CrashModel::Directory if self.dice.coin() => inode.safe(),
            CrashModel::Prefix | CrashModel::Directory => self.prefix(inode),
            CrashModel::Sectors | CrashModel::Garbage => self.sectors(inode),
        }
    }

    fn prefix(&mut self, inode: &Inode) -> Content {
        let mut content = inode.safe();
        let (whole, rest) = split(inode.at_risk(), self.dice.below(inode.at_risk().len() + 1));
        whole.iter().for_each(|change| content.apply(change));
        if let Some(Change::Write { offset, bytes }) = rest.first() {
            let (kept, _) = split(bytes, self.dice.below(bytes.len() + 1));
            content.write(*offset, kept);
        }
        content
    }

    /// Each sector as it was after some of the changes; the length likewise.
    fn sectors(&mut self, inode: &Inode) -> Content {
        let at_risk = inode.at_risk();
        let mut content = inode.safe();
        let (counted, _) = split(at_risk, self.dice.below(at_risk.len() + 1));
        let len = counted.iter().fold(content.len(), |len, change| match change {
            Change::Write { offset, bytes } => len.max(offset + bytes.len()),
            Change::SetLen(len) => *len,
        });
        let mut moments: BTreeMap<usize, usize> = BTreeMap::new();
        for (index, change) in at_risk.iter().enumerate() {
            let Change::Write { offset, bytes } = change else { continue };
            for (at, piece) in pieces(*offset, bytes) {
                let moment = moments
                    .entry(at / SECTOR_LEN)
                    .or_insert_with(|| self.dice.moment(at_risk.len()));
                if index < *moment {
                    content.write(at, piece);
                } else if self.model == CrashModel::Garbage {
                    self.litter(&mut content, at, piece.len());
                }
            }
        }
        content.set_len(len);
        content
    }

    /// Sometimes puts noise or another file's bytes where a lost write should be.
    fn litter(&mut self, content: &mut Content, at: usize, len: usize) {
        let mut bytes = vec![0; len];
        match self.dice.below(4) {
            0 => bytes.fill_with(|| self.dice.roll() as u8),
            1 => {
                let other = self.dice.below(self.others.len());
                if !self.others.get(other).is_some_and(|other| other.read(&mut bytes, at)) {
                    return;
                }
            }
            _ => return,
        }
        content.write(at, &bytes);
    }
}

/// `bytes` at `offset`, cut where sectors end.
fn pieces(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let (head, rest) = split(bytes, SECTOR_LEN - offset % SECTOR_LEN);
    let rest_at = offset + head.len();
    let rest = rest.chunks(SECTOR_LEN).enumerate();
    std::iter::once((offset, head))
        .chain(rest.map(move |(index, piece)| (rest_at + index * SECTOR_LEN, piece)))
}

/// A reproducible generator (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.roll().checked_rem(limit as u64).map_or(0, |rest| rest as usize)
    }

    fn coin(&mut self) -> bool {
        self.roll().is_multiple_of(2)
    }

    /// After how many of `count` changes a sector was written: often none or all.
    fn moment(&mut self, count: usize) -> usize {
        match self.below(3) {
            0 => 0,
            1 => count,
            _ => self.below(count + 1),
        }
    }
}
