//! Each sync of each workload lies or fails, once.
//!
//! Three ways, see [`Fault`]: the sync reports success and secures nothing (`LyingSync`); it reports
//! success and what it should have secured is lost for ever, later syncs notwithstanding
//! (`LosingSync`); it fails once, and the same is lost, as with a page cache that marks dirty pages
//! clean (`Io`).
//!
//! What must hold after a power failure: of a sync that failed, the caller was told, so everything
//! acknowledged is there, and nothing is refused. Of one that lied, nobody was told: what was
//! secured before is there, or the database refuses and says which file is damaged. Once a later
//! sync has secured another write, its promise covers the lie too: then what is lost is never lost
//! without a word. Only the end of what was written, the lie itself, can go unnoticed. Log and
//! manifest each promise only their own bytes: a lie about the last edit of the manifest is undone,
//! a drop say, or an ingest, even if the log went on; and a lie about the name or the header of a
//! segment takes all that is written to it. A crash may leave the same disk, so none of this can be
//! refused.

use crate::campaign::{Count, for_each, pick};
use crate::image;
use crate::step::{Step, Workload};
use crate::story::{Failing, Story};
use crate::told::{Found, Told, outline};
use crate::workloads;
use base::RelPath;
use base::fs::{CrashModel, Fault, SimFs, SimOp};
use engine::Error;

const FAULTS: [Fault; 3] = [Fault::Io, Fault::LyingSync, Fault::LosingSync];
const MODELS: [CrashModel; 4] =
    [CrashModel::Synced, CrashModel::Prefix, CrashModel::Sectors, CrashModel::Directory];

#[derive(Debug, Default)]
struct Counts {
    syncs: Count,
    images: Count,
    whole: Count,
    refused: Count,
    unnoticed: Count,
}

/// A workload in which one sync lied or failed.
struct Lie<'a> {
    story: Story<'a>,
    fault: Fault,
    /// What was told before the step that the lie struck.
    before: Told,
    /// Whether later steps wrote to the log at most: then nothing covers a lie about the manifest.
    only_log_since: bool,
    kind: SimOp,
    /// How many later steps secured more writes.
    secured_since: usize,
}

impl<'a> Lie<'a> {
    /// Runs `workload` until call number `at`, a sync, was struck, and `more` steps from there.
    fn run(workload: &'a Workload, kinds: &[SimOp], at: usize, fault: Fault, more: usize) -> Self {
        let mut story = Story::new(workload, 3);
        story.fail_at(Failing { fault, at, kinds: kinds.to_vec(), is_sticky: false });
        let mut before = story.told.clone();
        let mut done = story.begin();
        let mut steps = workload.steps.iter();
        let mut struck_in = None;
        while done.is_ok() && !story.was_struck() {
            let Some(step) = steps.next() else { break };
            struck_in = Some(step);
            before = story.told.clone();
            done = story.step(step);
        }
        // An ingest whose edit is lost is undone even if later writes are there; no state of the
        // story is like that.
        let was_ingest = matches!(struck_in, Some(Step::Ingest(..)));
        let more = if was_ingest { 0 } else { more };
        let (mut only_log_since, mut secured_since) = (true, 0);
        for step in steps.take(more) {
            // What a crash after the lie leaves is judged here, not by the story.
            if done.is_err() || matches!(step, Step::Crash(_)) {
                break;
            }
            only_log_since &= matches!(step, Step::Write(..) | Step::DeleteRange(..) | Step::Sync);
            let durable = story.told.durable;
            done = story.step(step);
            secured_since += usize::from(story.told.durable > durable);
        }
        // What is left to do is the close: it may be struck too.
        if done.is_ok() && !story.was_struck() {
            before = story.told.clone();
            let _ = story.db.take().map(engine::Db::close);
        }
        Lie { story, fault, before, only_log_since, kind: kinds[at], secured_since }
    }

    /// What is found after a power failure, judged.
    fn judge(&self, fs: &SimFs, counts: &Counts, what: &str) {
        counts.images.add(1);
        let told = &self.story.told;
        let has_header = self.has_header(fs);
        let found = image::open_and_read(fs, self.story.workload, told.now_ms);
        let found = match found {
            Err(Error::NotADatabase { .. }) if self.before.created.is_empty() => return,
            Err(error) if self.fault != Fault::Io && image::is_detection(&error) => {
                return counts.refused.add(1);
            }
            Err(error) => panic!("{what}: {error}"),
            Ok(found) => found,
        };
        let Err(wrong) = told.recognize(&found, told.durable) else { return counts.whole.add(1) };
        let may_miss = self.fault != Fault::Io && self.lacks_the_lie(&found, has_header);
        let struck = self.story.struck();
        assert!(may_miss, "{what}, {struck:?}: {wrong}; {}", outline(&found));
        counts.unnoticed.add(1);
    }

    /// Whether the file that was lied about still begins with something.
    fn has_header(&self, fs: &SimFs) -> bool {
        self.story.struck().iter().all(|(_, path)| {
            let mut steps = path.trim_start_matches("/sim/").split('/');
            let path = steps.try_fold(RelPath::root(), |path, step| path.join(step));
            let bytes = path.and_then(|path| fs.read_file(&path).ok());
            bytes.is_some_and(|bytes| bytes.iter().take(64).any(|byte| *byte != 0))
        })
    }

    /// Whether `found` is what there would be without the lie, and nothing later could tell: no write
    /// was secured since, or, where keyspaces are as before, nothing but the log was written.
    fn lacks_the_lie(&self, found: &Found, has_header: bool) -> bool {
        let told = &self.story.told;
        if self.before.created.is_empty() && found.is_empty() {
            return true; // a creation of which nothing is left at all
        }
        // The promise of a sync is in the next frame that is synced. A flushed segment needs none of
        // its own, so a lie about the flush needs one more.
        let is_about_manifest =
            self.story.struck().iter().any(|(_, path)| path.contains("/manifest/"));
        let is_last = self.secured_since <= usize::from(is_about_manifest);
        // Without its name or header a segment is gone, with all the promises in it.
        let is_unnamed = self.kind == SimOp::SyncDir || !has_header;
        let first = if is_last || is_unnamed && self.only_log_since {
            self.before.durable
        } else {
            told.durable
        };
        let mut both = told.live.clone();
        both.extend(self.before.live.iter().map(|(name, count)| (*name, *count)));
        let mut lives = vec![told.live.clone()];
        if self.only_log_since {
            lives.extend([self.before.live.clone(), both]);
        }
        let fits = |live| Told { live, ..told.clone() }.recognize(found, first).is_ok();
        lives.into_iter().any(fits)
            || is_last && self.before.recognize(found, self.before.durable).is_ok()
    }

    /// The process dies and the machine lives on: nothing is lost, and what was recovered is safe
    /// from then on, whatever became of the pages of a failed sync.
    fn judge_kill(&self, counts: &Counts, what: &str) {
        counts.images.add(1);
        let told = &self.story.told;
        let fs = self.story.fs.fork();
        let db = match image::open(&fs, self.story.workload, told.now_ms) {
            Err(Error::NotADatabase { .. }) if told.created.is_empty() => return,
            db => db.unwrap_or_else(|error| panic!("{what}, killed: {error}")),
        };
        let found = image::read(&db).unwrap_or_else(|error| panic!("{what}, killed: {error}"));
        let wrong = told.recognize(&found, told.acknowledged).err();
        assert!(wrong.is_none(), "{what}, killed: {wrong:?}");
        if self.fault != Fault::Io {
            return;
        }
        let lost = fs.crash(CrashModel::Synced);
        image::abandon(db, &fs);
        let again = image::open_and_read(&lost, self.story.workload, told.now_ms);
        let again = again.unwrap_or_else(|error| panic!("{what}, killed, then off: {error}"));
        assert!(found == again, "{what}, killed, then off: {}", outline(&again));
    }
}

/// One of the syncs that a campaign lies about.
#[derive(Clone, Copy)]
struct Case {
    at: usize,
    fault: Fault,
    more: usize,
}

fn lie_about_every_sync(profile: &str, is_long: IsLong, images_min: u64) {
    let counts = Counts::default();
    for workload in &workloads::all() {
        let kinds = Story::kinds_of(workload, 3);
        let is_sync = |at: &usize| matches!(kinds[*at], SimOp::SyncData | SimOp::SyncDir);
        let syncs: Vec<usize> = (0..kinds.len()).filter(is_sync).collect();
        counts.syncs.add(syncs.len() as u64);
        let mut cases = Vec::new();
        for at in syncs {
            for fault in FAULTS {
                let all = [0, 1, 2, 5, usize::MAX];
                let chosen = [all[pick(at as u64, all.len())]];
                let more = if is_long == IsLong::Yes { &all[..] } else { &chosen[..] };
                cases.extend(more.iter().map(|more| Case { at, fault, more: *more }));
            }
        }
        for_each(workload.name, cases.len(), |number| {
            let Case { at, fault, more } = cases[number];
            let lie = Lie::run(workload, &kinds, at, fault, more);
            let what = format!("{}: {fault:?} at call {at}, {more} steps more", workload.name);
            for model in MODELS {
                let fs = lie.story.fs.crash(model);
                lie.judge(&fs, &counts, &format!("{what}, {model:?}"));
            }
            lie.judge_kill(&counts, &what);
        });
    }
    println!(
        "campaign lies ({profile}): {} syncs, each in 3 ways, {} images: {} whole, {} refused, {} \
         lack the lie at their end",
        counts.syncs.get(),
        counts.images.get(),
        counts.whole.get(),
        counts.refused.get(),
        counts.unnoticed.get(),
    );
    assert!(counts.images.get() >= images_min, "the campaign has shrunk");
    assert!(counts.refused.get() > 0 && counts.unnoticed.get() > 0, "no lie had an effect");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum IsLong {
    Yes,
    No,
}

#[test]
fn a_sync_that_lies_or_fails_is_harmless_or_noticed() {
    lie_about_every_sync("fast", IsLong::No, 30_000);
}

#[test]
#[ignore = "the long profile"]
fn campaign_lies_long() {
    lie_about_every_sync("long", IsLong::Yes, 150_000);
}
