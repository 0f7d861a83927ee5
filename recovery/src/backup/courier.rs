//! Copies files at a limited rate, and says what it has copied by its digest.

use crate::progress::Progress;
use base::fs::{Access, AppendFile, Fs, ReadFile, full_path};
use base::{Clock, Error, RelPath, Result};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes copied in one go.
const PIECE_LEN: usize = 256 << 10;
/// Shorter pauses are saved up.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// How long it goes without looking whether it is to give up.
const NAP_MAX: Duration = Duration::from_millis(50);

/// Reads and copies files, not faster than allowed.
pub struct Courier<'a> {
    clock: &'a dyn Clock,
    bytes_per_second: u64,
    progress: &'a Progress,
    is_stopped: Option<&'a AtomicBool>,
    /// How much earlier than allowed the work so far was done.
    ahead: Duration,
}

impl<'a> Courier<'a> {
    /// A courier that moves `bytes_per_second` at the most, reports to `progress` and gives up when
    /// that is cancelled.
    pub fn new(clock: &'a dyn Clock, bytes_per_second: u64, progress: &'a Progress) -> Courier<'a> {
        let bytes_per_second = bytes_per_second.max(1);
        Courier { clock, bytes_per_second, progress, is_stopped: None, ahead: Duration::ZERO }
    }

    /// It gives up too once `is_stopped` is set.
    pub fn until(self, is_stopped: &'a AtomicBool) -> Courier<'a> {
        Courier { is_stopped: Some(is_stopped), ..self }
    }

    /// Tells the progress how much there is to do.
    pub fn expect(&self, bytes: u64) {
        self.progress.expect(bytes);
    }

    fn refuse_if_stopped(&self) -> Result<()> {
        if self.is_stopped.is_some_and(|stopped| stopped.load(Ordering::Acquire)) {
            return Err(Error::Cancelled);
        }
        self.progress.refuse_if_cancelled()
    }

    /// Whom it reports to.
    pub(crate) fn progress(&self) -> &'a Progress {
        self.progress
    }

    /// Copies the first `len` bytes of `source` into the new file `to` of `target` and syncs it.
    /// Returns the Blake3 of what was read. A failed copy leaves no file behind.
    pub(crate) fn copy(
        &mut self,
        source: &dyn ReadFile,
        source_path: &Path,
        len: u64,
        target: &dyn Fs,
        to: &RelPath,
    ) -> Result<[u8; 32]> {
        let path = full_path(target, to);
        let mut file = target.create(to, 0).map_err(|e| Error::io("create", &path, e))?;
        let copied = self.read(source, source_path, len, Some((&mut *file, &path)));
        let result = copied.and_then(|digest| {
            file.finish().map_err(|e| Error::io("sync", &path, e))?;
            Ok(digest)
        });
        if result.is_err() {
            let _ = target.remove(to); // the first error is the one to report
        }
        result
    }

    /// The Blake3 of the first `len` bytes of `source`.
    pub(crate) fn digest(
        &mut self,
        source: &dyn ReadFile,
        source_path: &Path,
        len: u64,
    ) -> Result<[u8; 32]> {
        self.read(source, source_path, len, None)
    }

    fn read(
        &mut self,
        source: &dyn ReadFile,
        source_path: &Path,
        len: u64,
        mut target: Option<(&mut dyn AppendFile, &Path)>,
    ) -> Result<[u8; 32]> {
        source.advise(Access::Sequential);
        let mut hasher = blake3::Hasher::new();
        let mut piece = Vec::new();
        let mut at = 0;
        while at < len {
            self.refuse_if_stopped()?;
            let started = self.clock.monotonic();
            let piece_len = usize::try_from(len - at).unwrap_or(PIECE_LEN).min(PIECE_LEN);
            piece.resize(piece_len, 0);
            source.read_exact_at(&mut piece, at).map_err(|e| Error::io("read", source_path, e))?;
            hasher.update(&piece);
            if let Some((file, path)) = &mut target {
                file.append(&piece).map_err(|e| Error::io("write", *path, e))?;
            }
            at += piece_len as u64;
            self.progress.advance(piece_len as u64);
            self.pace(piece_len as u64, started)?;
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// Counts `bytes` of work begun at `started` against the rate, and pauses if that was too fast. A
    /// pause ends with an error once it is to give up.
    pub(crate) fn pace(&mut self, bytes: u64, started: Duration) -> Result<()> {
        let nanos = bytes.saturating_mul(1_000_000_000) / self.bytes_per_second;
        let spent = self.clock.monotonic().saturating_sub(started);
        self.ahead = (self.ahead + Duration::from_nanos(nanos)).saturating_sub(spent);
        if self.ahead >= PAUSE_MIN {
            let paused = self.clock.monotonic();
            self.pause(self.ahead)?;
            let slept = self.clock.monotonic().saturating_sub(paused);
            // A clock that stands still must not make the pauses grow.
            self.ahead = if slept.is_zero() { slept } else { self.ahead.saturating_sub(slept) };
        }
        Ok(())
    }

    /// Sleeps in naps, and looks up between them.
    fn pause(&self, duration: Duration) -> Result<()> {
        let mut left = duration;
        while !left.is_zero() {
            self.refuse_if_stopped()?;
            // A rest that was asked for is no standstill.
            self.progress.beat();
            let nap = left.min(NAP_MAX);
            std::thread::sleep(nap);
            left = left.saturating_sub(nap);
        }
        Ok(())
    }

    /// What the clock shows, for [`Courier::pace`].
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }
}

impl std::fmt::Debug for Courier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Courier {{ bytes_per_second: {} }}", self.bytes_per_second)
    }
}
