//! The copy that is made before a repair changes anything.
//!
//! Every file is copied, strangers and quarantine included, synced, read back and compared. Only the
//! lock file is left out.

use super::report::Loss;
use crate::progress::Progress;
use base::error::Resource;
use base::fs::{self, DirEntryKind, Fs, ReadFile, full_path};
use base::{Error, FileName, RelPath, Result};
use std::io;
use std::path::PathBuf;

/// The file beside the copied ones that says what the repair could not save.
const LOSSES_NAME: &str = "lost.txt";
const PIECE_LEN: u64 = 1 << 20;

/// What stands in a directory.
#[derive(Default)]
struct Tree {
    /// Parents first.
    folders: Vec<RelPath>,
    files: Vec<(RelPath, u64)>,
    /// Entries that can not be copied: links, pipes, names that this software can not write.
    others: Vec<String>,
}

/// Copies all of `from` into `to`, which must be missing or empty, and compares both. Returns
/// sentences about what could not be copied.
pub(super) fn copy_directory(
    from: &dyn Fs,
    to: &dyn Fs,
    progress: &Progress,
) -> Result<Vec<String>> {
    let tree = Tree::of(from)?;
    refuse_if_taken(to)?;
    let need: u64 = tree.files.iter().map(|(_, len)| *len).sum();
    for folder in &tree.folders {
        let path = full_path(to, folder);
        to.create_dir(folder).map_err(|e| Error::io("create", path, e))?;
    }
    let space = to.space().map_err(|e| Error::io("measure the disk of", to.root(), e))?;
    if space.disk_bytes < need {
        let have = space.disk_bytes;
        return Err(Error::ResourceShort { what: Resource::Disk, need, have });
    }
    progress.expect(need.saturating_mul(2));
    for (path, len) in &tree.files {
        progress.refuse_if_cancelled()?;
        let source = open(from, path)?;
        fs::copy(source.as_ref(), to, path)
            .map_err(|e| Error::io("copy to", full_path(to, path), e))?;
        progress.advance(*len);
    }
    for folder in tree.folders.iter().rev() {
        to.sync_dir(folder).map_err(|e| Error::io("sync", full_path(to, folder), e))?;
    }
    for (path, len) in &tree.files {
        progress.refuse_if_cancelled()?;
        compare(from, to, path)?;
        progress.advance(*len);
    }
    let note = |name: String| format!("{name} was not copied: it is no regular file");
    Ok(tree.others.into_iter().map(note).collect())
}

impl Tree {
    fn of(fs: &dyn Fs) -> Result<Tree> {
        let mut tree = Tree::default();
        let mut waiting = vec![RelPath::root()];
        while let Some(folder) = waiting.pop() {
            let path = full_path(fs, &folder);
            let entries = fs.list(&folder).map_err(|e| Error::io("list", path, e))?;
            for entry in entries {
                match (folder.join(&entry.name), entry.kind) {
                    (Some(path), _) if path == FileName::Lock.path() => {}
                    (Some(path), DirEntryKind::File) => tree.files.push((path, entry.len)),
                    (Some(path), DirEntryKind::Folder) => waiting.push(path),
                    _ => tree.others.push(format!("{folder}/{}", entry.name)),
                }
            }
            tree.folders.push(folder);
        }
        tree.folders.sort();
        Ok(tree)
    }
}

/// Writes what is lost into the copy, a line each: it must not be lost too if the repair dies once
/// its work counts.
pub(super) fn write_losses(to: &dyn Fs, losses: &[Loss]) -> Result<()> {
    let Some(name) = RelPath::root().join(LOSSES_NAME) else { return Ok(()) };
    let mut text = String::new();
    for loss in losses {
        let file = loss.file().map(|file| file.display().to_string()).unwrap_or_default();
        let offset = loss.offset().map_or(String::new(), |offset| format!(" at byte {offset}"));
        text.push_str(&format!("lost[{}]: {file}{offset}: {loss}\n", loss.code()));
    }
    let path = full_path(to, &name);
    let mut file = to.create(&name, 0).map_err(|e| Error::io("create", &path, e))?;
    file.append(text.as_bytes()).map_err(|e| Error::io("write", &path, e))?;
    file.finish().map_err(|e| Error::io("sync", &path, e))?;
    to.sync_dir(&RelPath::root()).map_err(|e| Error::io("sync", to.root(), e))
}

fn refuse_if_taken(to: &dyn Fs) -> Result<()> {
    match to.list(&RelPath::root()) {
        Ok(entries) if entries.is_empty() => Ok(()),
        Ok(_) => Err(Error::AlreadyExists { path: to.root().to_path_buf() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("list", to.root(), error)),
    }
}

fn open(fs: &dyn Fs, path: &RelPath) -> Result<std::sync::Arc<dyn ReadFile>> {
    fs.open(path).map_err(|e| Error::io("open", full_path(fs, path), e))
}

fn compare(from: &dyn Fs, to: &dyn Fs, path: &RelPath) -> Result<()> {
    let (source, copy) = (open(from, path)?, open(to, path)?);
    let read = |fs: &dyn Fs| {
        let path: PathBuf = full_path(fs, path);
        move |e| Error::io("read", &path, e)
    };
    let len = source.len().map_err(read(from))?;
    let failed = || Error::CommitFailed { path: full_path(to, path), rule: "the copy reads back" };
    if copy.len().map_err(read(to))? != len {
        return Err(failed());
    }
    let (mut left, mut right, mut at) = (Vec::new(), Vec::new(), 0);
    while at < len {
        let piece = usize::try_from(PIECE_LEN.min(len - at)).unwrap_or(0);
        left.resize(piece, 0);
        right.resize(piece, 0);
        source.read_exact_at(&mut left, at).map_err(read(from))?;
        copy.read_exact_at(&mut right, at).map_err(read(to))?;
        if left != right {
            return Err(failed());
        }
        at += PIECE_LEN;
    }
    Ok(())
}
