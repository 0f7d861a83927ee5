//! Each call of the file system fails: once, or from then on until the disk is mended.
//!
//! Nothing panics or hangs, the error says what happened, everything acknowledged is there, and a
//! database that is not poisoned goes on. A full disk poisons nothing that had its space reserved.

use crate::campaign::{Count, for_each, pick};
use crate::image;
use crate::step::{Step, Workload};
use crate::story::{Failing, Story, is_consequence};
use crate::told::outline;
use crate::workloads;
use base::fs::{CrashModel, Fault, SimFs, SimOp};
use engine::Error;

/// After so many refused steps a sticky fault is cleared.
const PATIENCE: usize = 3;
/// A disk that has space again.
const MUCH: u64 = 1 << 40;

#[derive(Debug, Default)]
struct Counts {
    calls: Count,
    runs: Count,
    failed: Count,
    poisoned: Count,
    resumed: Count,
}

/// The faults that make sense for a call.
fn faults_of(kind: SimOp) -> &'static [Fault] {
    use Fault::{DiskFull, Interrupted, Io, ShortRead, TooManyFiles};
    match kind {
        SimOp::Read => &[Io, ShortRead, Interrupted],
        SimOp::Open | SimOp::List | SimOp::Lock | SimOp::SyncDir => {
            &[Io, TooManyFiles, Interrupted]
        }
        SimOp::Create => &[Io, DiskFull, TooManyFiles, Interrupted],
        _ => &[Io, DiskFull, Interrupted],
    }
}

/// Whether a fault may show as this error.
fn is_right(fault: Fault, error: &Error) -> bool {
    let code = error.code();
    let is_general = ["Poisoned", "CommitFailed"].contains(&code) || is_consequence(error);
    is_general
        || match fault {
            Fault::DiskFull => code == "DiskFull",
            // What ends early is damaged, unless the system says so itself.
            Fault::ShortRead => code == "Io" || image::is_detection(error),
            _ => code == "Io",
        }
}

/// One run with a fault.
struct Run<'a> {
    story: Story<'a>,
    failing: Failing,
    what: String,
    failures: usize,
}

impl Run<'_> {
    /// Takes all steps, whatever fails. Whether the database ended up poisoned.
    fn go(&mut self, steps: &[Step]) -> bool {
        for attempt in 0.. {
            match self.story.begin() {
                Ok(()) => break,
                Err(error) => self.failed(&error),
            }
            assert!(attempt < PATIENCE, "{}: it does not open", self.what);
            self.mend();
        }
        for step in steps {
            let Err(error) = self.story.step(step) else { continue };
            self.failed(&error);
            if self.story.is_poisoned() {
                return true;
            }
            if self.failures >= PATIENCE || !self.failing.is_sticky {
                self.mend();
            }
            self.settle();
        }
        if let Some(Err(error)) = self.story.db.take().map(engine::Db::close) {
            self.failed(&error);
        }
        false
    }

    fn failed(&mut self, error: &Error) {
        self.failures += 1;
        assert!(is_right(self.failing.fault, error), "{}: {error:?}", self.what);
    }

    fn mend(&mut self) {
        self.story.mend();
    }

    /// What became of the step that failed: the fault stays, but does not disturb this look.
    fn settle(&mut self) {
        if self.story.db.is_none() {
            // It was being reopened.
            self.mend();
            let again = self.story.open_again();
            again.unwrap_or_else(|error| panic!("{}: then {error}", self.what));
        }
        let settled = self.story.settle_doubt();
        settled.unwrap_or_else(|error| panic!("{}: then {error}", self.what));
    }

    /// Everything acknowledged is there after the process died, and everything secured after the
    /// power failed.
    fn check(&self) {
        let told = &self.story.told;
        for (model, first) in [(None, told.acknowledged), (Some(CrashModel::Synced), told.durable)]
        {
            let fs = match model {
                None => self.story.fs.fork(),
                Some(model) => self.story.fs.crash(model),
            };
            self.find(&fs, first);
        }
    }

    fn find(&self, fs: &SimFs, first: usize) {
        let (told, what) = (&self.story.told, &self.what);
        let found = match image::open_and_read(fs, self.story.workload, told.now_ms) {
            Err(Error::NotADatabase { .. }) if told.created.is_empty() => return,
            found => found.unwrap_or_else(|error| panic!("{what}: afterwards {error}")),
        };
        let wrong = told.recognize(&found, first).err();
        assert!(wrong.is_none(), "{what}: afterwards {wrong:?}; {}", outline(&found));
    }
}

fn fail_call(workload: &Workload, failing: Failing, counts: &Counts) {
    let kind = failing.kinds[failing.at];
    let (fault, at) = (failing.fault, failing.at);
    let how = if failing.is_sticky { "from then on" } else { "once" };
    let what = format!("{}: {fault:?} in call {at}, {kind:?}, {how}", workload.name);
    let mut story = Story::new(workload, 4);
    story.fail_at(failing.clone());
    let mut run = Run { story, failing, what, failures: 0 };
    let is_poisoned = run.go(&workload.steps);
    counts.runs.add(1);
    counts.failed.add(u64::from(run.failures > 0));
    counts.poisoned.add(u64::from(is_poisoned));
    // Reading damages nothing, unless flushes fail time and again; and who can not reserve space has
    // nothing half-written.
    let is_reading = matches!(kind, SimOp::Open | SimOp::Read | SimOp::List | SimOp::Lock);
    let is_reserving = kind == SimOp::Create && fault == Fault::DiskFull;
    if is_reading && !run.failing.is_sticky || is_reserving {
        assert!(!is_poisoned, "{}: it is poisoned", run.what);
        counts.resumed.add(u64::from(run.failures > 0));
    }
    run.check();
}

/// Fails one in `every` calls of each workload in all ways.
fn fail_calls(profile: &str, every: usize, runs_min: u64) {
    let counts = Counts::default();
    for workload in &workloads::all() {
        let kinds = Story::kinds_of(workload, 4);
        counts.calls.add(kinds.len() as u64);
        let mut cases = Vec::new();
        for (at, kind) in kinds.iter().enumerate() {
            for (number, fault) in faults_of(*kind).iter().enumerate() {
                for is_sticky in [false, true] {
                    let turn = at * 7 + number * 2 + usize::from(is_sticky);
                    if turn.is_multiple_of(every) {
                        cases.push((at, *fault, is_sticky));
                    }
                }
            }
        }
        for_each(workload.name, cases.len(), |number| {
            let (at, fault, is_sticky) = cases[number];
            fail_call(workload, Failing { fault, at, kinds: kinds.clone(), is_sticky }, &counts);
        });
    }
    println!(
        "campaign calls ({profile}): {} calls, {} runs with a fault, {} noticed, {} poisoned, {} \
         went on where they must",
        counts.calls.get(),
        counts.runs.get(),
        counts.failed.get(),
        counts.poisoned.get(),
        counts.resumed.get(),
    );
    assert!(counts.runs.get() >= runs_min, "the campaign has shrunk");
    assert!(counts.poisoned.get() > 0 && counts.resumed.get() > 0);
}

fn is_full(error: &Error) -> bool {
    ["DiskFull", "ResourceShort"].contains(&error.code())
}

/// Runs `workload` on a disk with `free` bytes; when it is full, it gets more. How often it was.
fn fill_disk(workload: &Workload, free: u64) -> u64 {
    let what = format!("{}: {free} bytes free", workload.name);
    let mut story = Story::new(workload, 5);
    story.fs.set_free(free);
    let mut failures = 0;
    let mut begun = story.begin();
    if let Err(error) = &begun {
        assert!(is_full(error), "{what}: {error:?}");
        failures += 1;
        story.fs.set_free(MUCH);
        begun = story.begin();
    }
    begun.unwrap_or_else(|error| panic!("{what}: {error}"));
    for step in &workload.steps {
        let Err(error) = story.step(step) else { continue };
        if is_consequence(&error) {
            continue;
        }
        assert!(is_full(&error), "{what}: {error:?}");
        assert!(!story.is_poisoned(), "{what}: it is poisoned");
        failures += 1;
        story.fs.set_free(MUCH);
        if story.db.is_none() {
            story.open_again().unwrap_or_else(|error| panic!("{what}: then {error}"));
        }
        let settled = story.settle_doubt();
        settled.unwrap_or_else(|error| panic!("{what}: then {error}"));
    }
    let failing = Failing { fault: Fault::DiskFull, at: 0, kinds: Vec::new(), is_sticky: false };
    Run { story, failing, what, failures: 0 }.check();
    failures
}

fn fill_disks(profile: &str, sizes: u64, runs_min: u64) {
    let (runs, full) = (Count::default(), Count::default());
    let workloads = workloads::all();
    let total = workloads.len() * sizes as usize;
    for_each("full disks", total, |number| {
        let workload = &workloads[number / sizes as usize];
        let step = (3 << 20) / sizes;
        let free = (number as u64 % sizes) * step + pick(number as u64, step as usize) as u64;
        full.add(fill_disk(workload, free));
        runs.add(1);
    });
    println!(
        "campaign full ({profile}): {} runs, {} refusals, none for good",
        runs.get(),
        full.get()
    );
    assert!(runs.get() >= runs_min && full.get() > runs.get() / 4, "the campaign has shrunk");
}

#[test]
fn a_call_that_fails_loses_nothing_and_says_what_happened() {
    fail_calls("fast", 17, 3_000);
}

#[test]
fn a_full_disk_refuses_until_there_is_space_and_not_longer() {
    fill_disks("fast", 20, 600);
}

#[test]
#[ignore = "the long profile"]
fn campaign_calls_long() {
    fail_calls("long", 1, 50_000);
}

#[test]
#[ignore = "the long profile"]
fn campaign_full_long() {
    fill_disks("long", 400, 10_000);
}
