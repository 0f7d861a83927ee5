//! Files that the user names, and scratch directories: the only file that touches them.
//!
//! The database's own files are none of these; they belong to the engine.

mod rotating;

pub(crate) use self::rotating::RotatingFile;

use crate::error::{Failure, Outcome};
use base::fs::{Fs, OsFs, ReadFile};
use base::{Error, OsRng, RelPath, Rng};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BUFFER_LEN: usize = 256 << 10;

/// Whether `path` stands for standard input or output.
pub(crate) fn is_standard_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Opens `path` for reading; `-` is standard input.
pub(crate) fn open_input(path: &Path) -> Outcome<Box<dyn BufRead>> {
    if is_standard_stream(path) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER_LEN, io::stdin())));
    }
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let metadata = file.metadata().map_err(|e| Error::io("open", path, e))?;
    if metadata.is_dir() {
        let source = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(Error::io("read", path, source).into());
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER_LEN, file)))
}

/// Opens one file of some database for reading.
pub(crate) fn open_database_file(path: &Path) -> Outcome<Arc<dyn ReadFile>> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.and_then(|name| RelPath::root().join(name));
    let (true, Some(name)) = (metadata.is_file(), name) else {
        return Err(Failure::input("it is not a file with a plain name").at(path));
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = OsFs::new(folder.unwrap_or(Path::new(".")));
    Ok(folder.open(&name).map_err(|e| Error::io("open", path, e))?)
}

/// The text of the file `path`, of at most `len_max` bytes.
pub(crate) fn read_text(path: &Path, len_max: usize) -> Outcome<String> {
    let mut bytes = Vec::new();
    open_input(path)?
        .take(len_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("read", path, e))?;
    if bytes.len() > len_max {
        let too_large = Error::too_large("file", len_max as u64, bytes.len() as u64);
        return Err(Failure::from(too_large).at(path));
    }
    String::from_utf8(bytes).map_err(|_| Failure::input("it is not UTF-8").at(path))
}

/// Writes `text` to the file `path`, which must not be there yet.
pub(crate) fn write_new(path: &Path, text: &str) -> Outcome {
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path: path.to_path_buf() },
        _ => Error::io("create", path, error),
    })?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    Ok(written.map_err(|e| Error::io("write", path, e))?)
}

/// All of standard input, at most `len_max` bytes and one more to show that there were more.
pub(crate) fn read_standard_input(len_max: usize) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(len_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("read", "standard input", e))?;
    Ok(bytes)
}

/// Waits until standard input ends, or can not be read.
pub(crate) fn wait_for_the_end_of_input() {
    let mut input = io::stdin().lock();
    while let Ok(bytes) = input.fill_buf().map(<[u8]>::len)
        && bytes > 0
    {
        input.consume(bytes);
    }
}

/// A file being written that appears under its name only when it is complete.
pub(crate) struct NewFile {
    path: PathBuf,
    /// Where it grows; `None` for what is no regular file, such as a pipe.
    partial: Option<PathBuf>,
    writer: Option<BufWriter<File>>,
}

impl NewFile {
    /// Starts writing what will stand at `path`.
    pub(crate) fn create(path: &Path) -> Outcome<NewFile> {
        let special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        let partial = (!special).then(|| {
            let mut name = OsString::from(path);
            name.push(".partial");
            PathBuf::from(name)
        });
        let target = partial.as_deref().unwrap_or(path);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(partial.is_some())
            .open(target)
            .map_err(|e| Error::io("create", target, e))?;
        let writer = Some(BufWriter::with_capacity(BUFFER_LEN, file));
        Ok(NewFile { path: path.to_path_buf(), partial, writer })
    }

    /// Writes with `write`.
    pub(crate) fn write(
        &mut self,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Outcome {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        write(writer).map_err(|e| Failure::from(Error::io("write", &self.path, e)))
    }

    /// Makes it durable and gives it its name.
    pub(crate) fn finish(mut self) -> Outcome {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let write = |e| Failure::from(Error::io("write", &self.path, e));
        let file = writer.into_inner().map_err(|e| write(e.into_error()))?;
        let Some(partial) = self.partial.take() else { return Ok(()) };
        file.sync_all().map_err(write)?;
        fs::rename(&partial, &self.path).map_err(write)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // A leftover is harmless; the failure that led here is already on its way.
            let _ = fs::remove_file(partial);
        }
    }
}

/// A directory for one run, removed with everything in it unless kept.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    keep: Keep,
}

/// What happens to a scratch directory at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

impl Scratch {
    /// A fresh directory where the system keeps temporary files.
    pub(crate) fn temporary(name: &str) -> Outcome<Scratch> {
        let mut random = [0; 8];
        OsRng.fill(&mut random).map_err(|e| Error::io("draw a name in", "temp", e))?;
        let name = format!("{name}-{:016x}", u64::from_le_bytes(random));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).map_err(|e| Error::io("create", &path, e))?;
        Ok(Scratch { path, keep: Keep::No })
    }

    /// The directory `path`, which must be missing or empty, and stays.
    pub(crate) fn kept(path: &Path) -> Outcome<Scratch> {
        fs::create_dir_all(path).map_err(|e| Error::io("create", path, e))?;
        let mut entries = fs::read_dir(path).map_err(|e| Error::io("list", path, e))?;
        if entries.next().is_some() {
            return Err(Error::AlreadyExists { path: path.to_path_buf() }.into());
        }
        Ok(Scratch { path: path.to_path_buf(), keep: Keep::Yes })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep == Keep::No {
            // The system clears its temporary files if this does not.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Bytes that the directory `path` takes on the disk, with everything below it.
pub(crate) fn disk_usage(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let mut bytes = 0;
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { disk_usage(&entry.path()) } else { blocks_of(&metadata) };
    }
    bytes
}

#[cfg(unix)]
fn blocks_of(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.blocks() * 512
}

#[cfg(not(unix))]
fn blocks_of(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}
