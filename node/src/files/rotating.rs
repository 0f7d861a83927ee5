//! A file of lines that is put aside when it is long: `name`, `name.1` (the newest put aside), ...

use base::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug)]
pub(crate) struct RotatingFile {
    path: PathBuf,
    file: File,
    len: u64,
    len_max: u64,
    keep: u64,
}

impl RotatingFile {
    /// Goes on with the file at `path`. It is put aside before it has more than `len_max` bytes, if a
    /// single write has no more; `keep` files are kept, this one included.
    pub(crate) fn open(path: &Path, len_max: u64, keep: u64) -> Result<RotatingFile> {
        let failed = |e| Error::io("write a log to", path, e);
        let file = append_to(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        Ok(RotatingFile { path: path.to_path_buf(), file, len, len_max, keep })
    }

    fn put_aside(&mut self) -> io::Result<()> {
        let last = self.keep.saturating_sub(1);
        match last {
            0 => fs::remove_file(&self.path)?,
            last => {
                for number in (1..last).rev() {
                    let moved = fs::rename(self.aside(number), self.aside(number + 1));
                    moved.or_else(|e| if is_missing(&e) { Ok(()) } else { Err(e) })?;
                }
                fs::rename(&self.path, self.aside(1))?;
            }
        }
        self.file = append_to(&self.path)?;
        self.len = 0;
        Ok(())
    }

    fn aside(&self, number: u64) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    /// A line is in one file.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        if self.len > 0 && self.len.saturating_add(len) > self.len_max {
            // A file that can not be put aside goes on to grow: better than no log.
            let _ = self.put_aside();
        }
        self.file.write_all(bytes)?;
        self.len = self.len.saturating_add(len);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_newest_files_and_breaks_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        let mut file = RotatingFile::open(&path, 20, 3).unwrap();
        for n in 10..30 {
            writeln!(file, "line {n}").unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("node.log"), "line 28\nline 29\n");
        assert_eq!(read("node.log.1"), "line 26\nline 27\n");
        assert_eq!(read("node.log.2"), "line 24\nline 25\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        drop(file);
        let mut again = RotatingFile::open(&path, 30, 3).unwrap();
        writeln!(again, "line 30").unwrap();
        assert_eq!(read("node.log"), "line 28\nline 29\nline 30\n");
    }

    #[test]
    fn a_line_longer_than_a_file_is_written_whole_and_one_file_may_be_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        let mut file = RotatingFile::open(&path, 4, 1).unwrap();
        file.write_all(b"a long line\n").unwrap();
        file.write_all(b"b\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
