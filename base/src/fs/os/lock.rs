//! The lock file: who holds a directory.
//!
//! The lock is the operating system's, on the open file, so it ends with its holder however that
//! ends. The text in the file, the holder's process id in decimal, only serves the error message
//! of those who come second.
//!
//! A child process has all open files of its parent until it runs its own program, so a lock that this
//! process has just let go may stay held for a moment. That is waited for.

use super::{FILE_MODE, never_follow, not_regular};
use crate::fs::{LockError, LockGuard, Release};
use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// How often, and after what time, a lock is tried again that this process itself is said to hold.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Closing the file releases the lock.
#[derive(Debug)]
struct HeldLock {
    _file: File,
}

impl Release for HeldLock {}

/// Takes the lock at `path`. Fails at once if another process has it, after a tenth of a second if this
/// one does.
pub(super) fn take(path: &Path) -> Result<LockGuard, LockError> {
    let mut tries = 0;
    loop {
        let file = open(path).map_err(LockError::Io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = holder(&file);
                if holder != Some(std::process::id()) || tries == TRIES {
                    return Err(LockError::Held(holder));
                }
                tries += 1;
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(errno) => return Err(LockError::Io(errno.into())),
        }
        // Someone may have removed the file between our opening and locking it; a lock on a file
        // without a name excludes nobody.
        if stands_at(&file, path).map_err(LockError::Io)? {
            name_holder(&file).map_err(LockError::Io)?;
            return Ok(LockGuard::new(HeldLock { _file: file }));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
    let file = never_follow(options).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(not_regular());
    }
    Ok(file)
}

fn stands_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn name_holder(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
}

/// The process id in the file. Nothing depends on it, so whatever is unreadable is unknown.
fn holder(file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let len = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..len)?).ok()?.trim().parse().ok()
}
