//! A file of an import: how it comes in, and what is made sure of before it counts.
//!
//! ```text
//! bytes ─append─> file ─all are here─> synced ─> verified from its root down ─> whole
//!                        └── by a thread of its own, while other files come ──┘
//! ```
//!
//! The root stands in the catalog: who wrote the table knew it, so nobody reads a table to announce it,
//! and damage at the giver is found too.
//!
//! A file is made when its first bytes come, and open until it is synced. What is only announced takes nothing
//! of the disk, and no handle.

use super::super::ExportFile;
use crate::options::Background;
use crate::parts::Parts;
use base::fs::{Access, AppendFile, Fs, SyncHandle, full_path};
use base::{Error, FileName, Result};
use sstable::{Cache, Table, TableMeta};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};

/// Bytes of a growing file after which it is synced, so that little is left at its end.
const SYNC_LEN: u64 = 16 << 20;
/// Files, complete or growing, that wait for the thread at the most: each is open.
const JOBS_MAX: usize = 16;

/// A file on its way in.
pub(crate) struct Received {
    pub(super) file: ExportFile,
    /// What it must be. Its id is the number of the file here, if there is one.
    pub(super) meta: Arc<TableMeta>,
    pub(super) received: u64,
    synced: u64,
    phase: Phase,
}

enum Phase {
    /// Nothing has come, and there is no file.
    Announced,
    /// Bytes come.
    Open(Box<dyn AppendFile>),
    /// All are here; what comes of it is told.
    Checking(Receiver<Result<()>>),
    Whole,
}

impl Received {
    /// Nothing has come of `file`, which must become what `meta` says.
    pub(super) fn announced(file: &ExportFile, meta: &Arc<TableMeta>) -> Received {
        let (file, meta, phase) = (file.clone(), meta.clone(), Phase::Announced);
        Received { file, meta, received: 0, synced: 0, phase }
    }

    /// Whether it is, so far, the table that `meta` speaks of, whatever number that has at the giver.
    pub(super) fn is_of(&self, meta: &TableMeta) -> bool {
        *self.meta == TableMeta { id: self.meta.id, ..meta.clone() }
    }

    /// The same, as another giver calls it.
    pub(super) fn announced_as(self, file: &ExportFile) -> Received {
        Received { file: file.clone(), ..self }
    }

    /// Deletes what is here of it.
    pub(crate) fn discard(&self, parts: &Parts) {
        if !matches!(self.phase, Phase::Announced) {
            parts.obsolete.discard(parts, self.meta.id);
        }
    }

    /// Whether bytes are missing.
    pub(super) fn is_growing(&self) -> bool {
        matches!(self.phase, Phase::Announced | Phase::Open(_))
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.phase, Phase::Whole)
    }

    /// Adds the next bytes, not more than are missing.
    pub(super) fn add(&mut self, parts: &Parts, checker: &Checker, bytes: &[u8]) -> Result<()> {
        if matches!(self.phase, Phase::Announced) && !bytes.is_empty() {
            self.create(parts)?;
        }
        let path = || full_path(&*parts.fs, &FileName::Table(self.meta.id).path());
        let Phase::Open(writer) = &mut self.phase else { return Ok(()) };
        writer.append(bytes).map_err(|e| Error::io("append to", path(), e))?;
        self.received += bytes.len() as u64;
        if self.received - self.synced >= SYNC_LEN {
            self.synced = self.received;
            checker.sync(writer.sync_handle());
        }
        if self.received == self.file.len {
            let (tell, told) = channel();
            if let Phase::Open(writer) = std::mem::replace(&mut self.phase, Phase::Checking(told)) {
                checker.check(Check { meta: self.meta.clone(), writer, tell });
            }
        }
        Ok(())
    }

    /// Makes the file, under a fresh number.
    fn create(&mut self, parts: &Parts) -> Result<()> {
        let id = parts.installer.next_table();
        let name = FileName::Table(id).path();
        let writer = parts.fs.create(&name, 0);
        let writer = writer.map_err(|e| Error::io("create", full_path(&*parts.fs, &name), e))?;
        self.meta = Arc::new(TableMeta { id, ..(*self.meta).clone() });
        self.phase = Phase::Open(writer);
        Ok(())
    }

    /// Looks whether a complete file turned out to be whole; one that is not begins anew.
    pub(super) fn settle(&mut self, parts: &Parts) -> Result<()> {
        let Phase::Checking(told) = &self.phase else { return Ok(()) };
        match told.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            Ok(Ok(())) => {
                self.phase = Phase::Whole;
                Ok(())
            }
            Ok(Err(error)) => {
                self.begin_anew(parts);
                Err(error)
            }
            // The thread has died, so nothing is known of the file.
            Err(TryRecvError::Disconnected) => {
                self.begin_anew(parts);
                Ok(())
            }
        }
    }

    fn begin_anew(&mut self, parts: &Parts) {
        self.discard(parts);
        *self = Received::announced(&self.file, &self.meta);
    }
}

/// Makes sure of files. A thread of its own does, where there may be threads; it ends when this is
/// dropped and all is done.
pub(super) struct Checker {
    place: Place,
    jobs: Option<SyncSender<Job>>,
}

/// Where the files are.
#[derive(Clone)]
struct Place {
    fs: Arc<dyn Fs>,
    database: [u8; 16],
}

enum Job {
    Sync(Arc<dyn SyncHandle>),
    Check(Check),
}

/// A file of which all bytes are here.
struct Check {
    meta: Arc<TableMeta>,
    writer: Box<dyn AppendFile>,
    tell: Sender<Result<()>>,
}

impl Checker {
    pub(super) fn new(parts: &Parts) -> Result<Checker> {
        let place = Place { fs: parts.fs.clone(), database: parts.identity().database };
        if parts.options.background == Background::Off {
            return Ok(Checker { place, jobs: None });
        }
        let (jobs, next) = sync_channel(JOBS_MAX);
        let of_thread = place.clone();
        let work = move || next.into_iter().for_each(|job| of_thread.run(job));
        let thread = std::thread::Builder::new().name("esker-import".to_owned()).spawn(work);
        thread.map_err(|e| Error::io("start a thread for", parts.fs.root(), e))?;
        Ok(Checker { place, jobs: Some(jobs) })
    }

    /// Begins to write out what a growing file has, if the thread is not behind.
    fn sync(&self, handle: Arc<dyn SyncHandle>) {
        if let Some(jobs) = &self.jobs {
            // If the thread has died, the check of the file will show it.
            let _ = jobs.try_send(Job::Sync(handle));
        }
    }

    /// Waits for the thread if it is behind.
    fn check(&self, check: Check) {
        match &self.jobs {
            Some(jobs) => drop(jobs.send(Job::Check(check))),
            None => self.place.run(Job::Check(check)),
        }
    }
}

impl Place {
    fn run(&self, job: Job) {
        match job {
            // A failure comes again when the file is finished.
            Job::Sync(handle) => drop(handle.sync_data()),
            Job::Check(Check { meta, writer, tell }) => {
                // Nobody may want to know it any more.
                let _ = tell.send(self.check(meta, writer));
            }
        }
    }

    fn check(&self, meta: Arc<TableMeta>, writer: Box<dyn AppendFile>) -> Result<()> {
        let path = full_path(&*self.fs, &FileName::Table(meta.id).path());
        writer.finish().map_err(|e| Error::io("sync", &path, e))?;
        Table::open(&*self.fs, meta.clone(), self.database, Cache::new(0))?.verify_stored()?;
        // The next files take its place in the memory of the system, not that of others.
        let file = self.fs.open(&FileName::Table(meta.id).path());
        file.map_err(|e| Error::io("open", path, e))?.advise(Access::Later);
        Ok(())
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Received {{ number: {}, bytes: {} }}", self.meta.id, self.received)
    }
}
