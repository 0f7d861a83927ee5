//! Every change of every workload, under every model of a crash: what is found is the state after
//! some first writes, with all in it that was promised.
//!
//! What is promised: after [`CrashModel::Kill`], everything acknowledged, in any mode. After a power
//! failure, everything that a sync has secured: each write acknowledged in the mode `Sync` and all
//! before it, and all before a sync, flush, compaction, ingest, checkpoint, close or opening that
//! returned. After a sync that lied as the last thing before a power failure
//! ([`CrashModel::SyncLied`]): everything secured before it. Nothing on the disk can tell the lie
//! from a power failure a moment earlier, and it need not. In no case may the database refuse to
//! open: whatever a crash leaves is no corruption.

use crate::campaign::{Count, for_each, pick};
use crate::image;
use crate::step::Workload;
use crate::story::{Scene, Story};
use crate::told::{Found, Told, outline};
use crate::workloads;
use base::fs::{CrashModel, SimFs};
use engine::{Error, KeyspaceOptions, WriteOptions};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Among how many images one is written to after it was recovered.
const WRITTEN_TO: usize = 8;

#[derive(Debug, Default)]
struct Counts {
    moments: Count,
    images: Count,
    /// Images that no other one of the workload was like.
    opened: Count,
}

/// What an image holds, or that there was no database yet.
type Outcome = Option<Arc<Found>>;

/// One workload with all its moments.
struct Campaign<'a> {
    workload: &'a Workload,
    story: Story<'a>,
    /// What is known about images, by digest and clock.
    known: Mutex<HashMap<(u128, u64), Outcome>>,
    /// Equal contents are kept once.
    contents: Mutex<Vec<Arc<Found>>>,
    counts: &'a Counts,
}

impl Campaign<'_> {
    fn visit(&self, at: usize, seeds: u64) {
        let scene = &self.story.scenes[at];
        self.counts.moments.add(1);
        for model in CrashModel::ALL {
            let seeds = match model {
                // Chance decides only how much of an append is there.
                CrashModel::Kill => seeds.min(2),
                _ if model.is_random() => seeds,
                _ => 1,
            };
            for seed in 0..seeds {
                let what = format!("{}: {model:?}, seed {seed}, at {at}", self.workload.name);
                self.crash(scene, model, seed, &what);
            }
        }
    }

    fn crash(&self, scene: &Scene, model: CrashModel, seed: u64, what: &str) {
        self.counts.images.add(1);
        let (told, first) = self.promised(scene, model);
        // After a kill the machine lives on: what no sync secured stays at risk.
        let fs = match model {
            CrashModel::Kill => scene.moment.kill(seed),
            _ => scene.moment.crash(model, seed),
        };
        let key = (fs.digest(), told.now_ms);
        let known = self.known.lock().unwrap().get(&key).cloned();
        let outcome = match known {
            Some(outcome) => outcome,
            None => {
                let outcome = self.recover(&fs, told, seed, what);
                self.known.lock().unwrap().insert(key, outcome.clone());
                outcome
            }
        };
        match outcome {
            None => assert!(told.created.is_empty(), "{what}: the database is gone"),
            Some(found) => {
                let wrong = told.recognize(&found, first).err();
                assert!(wrong.is_none(), "{what}: {wrong:?}; {}", outline(&found));
            }
        }
    }

    /// What was told, and the first state that must be there.
    fn promised(&self, scene: &Scene, model: CrashModel) -> (&Told, usize) {
        let told = &self.story.log[scene.told];
        match model {
            CrashModel::Kill => (told, told.acknowledged),
            CrashModel::SyncLied => {
                let told = &self.story.log[scene.told_before_sync];
                (told, told.durable)
            }
            _ => (told, told.durable),
        }
    }

    /// What opening `fs` finds, today and tomorrow.
    fn recover(&self, fs: &SimFs, told: &Told, seed: u64, what: &str) -> Outcome {
        self.counts.opened.add(1);
        let luck = seed ^ fs.digest() as u64;
        let copies = (!told.copies.is_empty()).then(|| fs.fork());
        let db = match image::open(fs, self.workload, told.now_ms) {
            // The workload creates; but until the root is there, nothing is.
            Err(Error::NotADatabase { .. }) => return None,
            opened => opened.unwrap_or_else(|error| panic!("{what}: refused: {error}")),
        };
        let found = image::read(&db).unwrap_or_else(|error| panic!("{what}: {error}"));
        let again = match pick(luck, 3) {
            // The power fails right after.
            0 => {
                let again = fs.crash(CrashModel::Synced);
                image::abandon(db, fs);
                again
            }
            // The process dies right after.
            1 => {
                let again = fs.fork();
                image::abandon(db, fs);
                again
            }
            _ => {
                db.close().unwrap_or_else(|error| panic!("{what}: {error}"));
                fs.crash(CrashModel::Synced)
            }
        };
        let written_to = pick(luck / 3, WRITTEN_TO) == 0;
        let found_again = if written_to {
            write_to(&again, self.workload, told.now_ms)
        } else {
            image::open_and_read(&again, self.workload, told.now_ms)
        };
        let found_again = found_again.unwrap_or_else(|error| panic!("{what}, again: {error}"));
        assert!(
            found == found_again,
            "{what}: {} before {}",
            outline(&found),
            outline(&found_again)
        );
        if let Some(fs) = copies {
            check_copies(&fs, told, what);
        }
        Some(self.keep(found))
    }

    fn keep(&self, found: Found) -> Arc<Found> {
        let mut contents = self.contents.lock().unwrap();
        if let Some(same) = contents.iter().rev().find(|content| ***content == found) {
            return Arc::clone(same);
        }
        contents.push(Arc::new(found));
        Arc::clone(contents.last().unwrap())
    }
}

/// Opens, reads, writes, and sees that the write survives a power failure. What was read.
fn write_to(fs: &SimFs, workload: &Workload, now_ms: u64) -> engine::Result<Found> {
    let db = image::open(fs, workload, now_ms)?;
    let found = image::read(&db)?;
    let mut batch = engine::Batch::new();
    batch.put(&db.keyspace("later", KeyspaceOptions::default())?, b"k", b"v");
    db.write_with(batch, WriteOptions { sync: Some(engine::SyncMode::Sync) })?;
    let lost = fs.crash(CrashModel::Synced);
    image::abandon(db, fs);
    let mut after = image::open_and_read(&lost, workload, now_ms)?;
    let later = after.remove("later").unwrap();
    assert_eq!(later.into_iter().collect::<Vec<_>>(), [(b"k".to_vec(), b"v".to_vec())]);
    assert!(after == found, "a write changed something else: {}", outline(&after));
    Ok(found)
}

/// Finished checkpoints hold what they were made of; others do so or are none.
fn check_copies(fs: &SimFs, told: &Told, what: &str) {
    for copied in &told.copies {
        let fs = fs.fork();
        let found = image::open_copy(&fs, &copied.path, told.now_ms).and_then(|db| {
            let found = image::read(&db);
            image::abandon(db, &fs);
            found
        });
        match found {
            Err(error) => assert!(!copied.is_acknowledged, "{what}: {}: {error}", copied.path),
            Ok(found) => {
                let told = Told {
                    states: vec![copied.state.clone()],
                    live: copied.live.clone(),
                    now_ms: told.now_ms,
                    ..Told::default()
                };
                let wrong = told.recognize(&found, 0).err();
                assert!(wrong.is_none(), "{what}: {}: {wrong:?}", copied.path);
            }
        }
    }
}

/// How much a profile does, at least.
#[derive(Clone, Copy)]
struct Profile {
    name: &'static str,
    seeds: u64,
    /// Of so many parts of the workloads, this one.
    part: (usize, usize),
    images_min: u64,
    opened_min: u64,
}

/// Crashes every workload of the part everywhere.
fn crash_everywhere(profile: Profile) {
    let counts = Counts::default();
    let (part, parts) = profile.part;
    let workloads: Vec<Workload> = workloads::all().into_iter().skip(part).step_by(parts).collect();
    for workload in &workloads {
        let story = Story::record(workload, 1);
        let campaign = Campaign {
            workload,
            story,
            known: Mutex::default(),
            contents: Mutex::default(),
            counts: &counts,
        };
        let scenes = campaign.story.scenes.len();
        for_each(workload.name, scenes, |at| campaign.visit(at, profile.seeds));
    }
    println!(
        "campaign crash ({}): {} workloads, {} moments, {} images, of which {} differ, each opened \
         at least twice",
        profile.name,
        workloads.len(),
        counts.moments.get(),
        counts.images.get(),
        counts.opened.get(),
    );
    assert!(counts.images.get() >= profile.images_min, "the campaign has shrunk");
    assert!(counts.opened.get() >= profile.opened_min, "the campaign has shrunk");
}

#[test]
fn a_crash_anywhere_loses_nothing_that_was_promised() {
    let fast =
        Profile { name: "fast", seeds: 6, part: (0, 1), images_min: 190_000, opened_min: 50_000 };
    crash_everywhere(fast);
}

const LONG: Profile = Profile {
    name: "long, first half",
    seeds: 80,
    part: (0, 2),
    images_min: 1_000_000,
    opened_min: 290_000,
};

#[test]
#[ignore = "the long profile"]
fn campaign_crash_long_first_half() {
    crash_everywhere(LONG);
}

#[test]
#[ignore = "the long profile"]
fn campaign_crash_long_second_half() {
    let second = Profile { name: "long, second half", part: (1, 2), opened_min: 220_000, ..LONG };
    crash_everywhere(second);
}
