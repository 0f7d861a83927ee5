//! Operations on the files of a simulated disk: what a test does to them behind everyone's back.
//! None is counted, traced or disturbed by faults, and what they leave is safe.

use super::SimFs;
use super::content::Content;
use super::disk::Entry;
use crate::dir::RelPath;
use std::io;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

impl SimFs {
    /// The content of a file.
    pub fn read_file(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        let file = self.disk.lock().file(&self.place(path)?)?;
        let content = file.lock().seen().to_vec();
        Ok(content)
    }

    /// Makes `bytes` the safe content of a file, under a safe name.
    pub fn write_file(&self, path: &RelPath, bytes: impl Into<Vec<u8>>) -> io::Result<()> {
        self.put_content(path, Content::new(&bytes.into()))
    }

    /// Removes a file, safely.
    pub fn remove_file(&self, path: &RelPath) -> io::Result<()> {
        let place = self.place(path)?;
        let mut disk = self.disk.lock();
        disk.file(&place)?;
        disk.change_names(vec![(place.clone(), None)]);
        disk.sync_folder(&place.folder);
        Ok(())
    }

    /// Cuts a file, or extends it with zeros.
    pub fn resize_file(&self, path: &RelPath, len: usize) -> io::Result<()> {
        let mut content = self.content(path)?;
        content.set_len(len);
        self.put_content(path, content)
    }

    /// Puts `bytes` over what a file has at `offset`, extending it where needed.
    pub fn patch_file(&self, path: &RelPath, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.content(path)?;
        content.write(offset, bytes);
        self.put_content(path, content)
    }

    /// Gives each of two files the content of the other.
    pub fn swap_files(&self, one: &RelPath, other: &RelPath) -> io::Result<()> {
        let (content, others) = (self.content(one)?, self.content(other)?);
        self.put_content(one, others)?;
        self.put_content(other, content)
    }

    /// Puts a second file with the content of `from` at `to`.
    pub fn duplicate_file(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        self.put_content(to, self.content(from)?)
    }

    /// Gives a file the content that it has on the disk `earlier`; if it is not there, removes it.
    pub fn roll_back_file(&self, path: &RelPath, earlier: &SimFs) -> io::Result<()> {
        match earlier.content(path) {
            Ok(content) => self.put_content(path, content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.remove_file(path),
            Err(error) => Err(error),
        }
    }

    /// All files below the root, sorted.
    pub fn files(&self) -> Vec<RelPath> {
        let disk = self.disk.lock();
        let mut files = Vec::new();
        for (folder, entries) in &disk.folders {
            let Ok(folder) = Path::new(folder).strip_prefix(&self.root) else { continue };
            let names = entries.seen.iter().filter(|(_, entry)| matches!(entry, Entry::File(_)));
            for (name, _) in names {
                let steps = folder.iter().filter_map(|step| step.to_str()).chain([name.as_str()]);
                let start = Some(RelPath::root());
                files.extend(steps.fold(start, |path, step| path?.join(step)));
            }
        }
        files.sort();
        files
    }

    /// A digest of all names and bytes on the disk: equal disks have equal ones.
    pub fn digest(&self) -> u128 {
        let disk = self.disk.lock();
        let mut digest = Xxh3::new();
        for (folder, entries) in &disk.folders {
            digest.update(format!("folder {folder}\n").as_bytes());
            for (name, entry) in &entries.seen {
                digest.update(format!("entry {name}\n").as_bytes());
                if let Entry::File(inode) = entry {
                    inode.lock().seen().digest(&mut digest);
                }
            }
        }
        digest.digest128()
    }

    fn content(&self, path: &RelPath) -> io::Result<Content> {
        let file = self.disk.lock().file(&self.place(path)?)?;
        let content = file.lock().seen().clone();
        Ok(content)
    }

    fn put_content(&self, path: &RelPath, content: Content) -> io::Result<()> {
        let place = self.place(path)?;
        let mut disk = self.disk.lock();
        disk.entries(&place.folder)?;
        let inode = disk.new_inode(content);
        disk.change_names(vec![(place.clone(), Some(Entry::File(inode)))]);
        disk.sync_folder(&place.folder);
        Ok(())
    }
}
