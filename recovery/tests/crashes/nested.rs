//! Crashes of the recovery from a crash, and of the recovery from that one: what is found in the
//! end is what an undisturbed recovery would have found.

use crate::campaign::{Count, for_each, pick};
use crate::image;
use crate::step::Workload;
use crate::story::Story;
use crate::told::{Found, outline};
use crate::workloads;
use base::fs::{CrashModel, Moment, SimFs};
use engine::Error;
use std::collections::HashSet;

/// How much a profile does, at least.
#[derive(Clone, Copy)]
struct Profile {
    name: &'static str,
    /// Crashes of each workload.
    crashes: usize,
    /// Models under which each moment of the first recovery crashes.
    models: usize,
    /// Moments of the second recovery that crash.
    moments: usize,
    first_min: u64,
    second_min: u64,
}

#[derive(Debug, Default)]
struct Counts {
    crashes: Count,
    first: Count,
    second: Count,
    opened: Count,
}

/// The recovery of one image.
struct Recovery<'a> {
    workload: &'a Workload,
    now_ms: u64,
    counts: &'a Counts,
    seed: u64,
}

impl Recovery<'_> {
    /// Recovers `fs`; what it finds and the moments of its disk meanwhile. None if there was no
    /// database yet.
    fn record(&self, fs: &SimFs, what: &str) -> Option<(Found, Vec<Moment>)> {
        self.counts.opened.add(1);
        fs.record();
        let db = match image::open(fs, self.workload, self.now_ms) {
            Err(Error::NotADatabase { .. }) => return None,
            opened => opened.unwrap_or_else(|error| panic!("{what}: refused: {error}")),
        };
        let found = image::read(&db).unwrap_or_else(|error| panic!("{what}: {error}"));
        let moments = fs.take_moments();
        image::abandon(db, fs);
        Some((found, moments))
    }

    /// Crashes the recovery of `fs` at every moment, and that of what is left at some.
    fn disturb(&self, fs: &SimFs, profile: &Profile, what: &str) {
        let Some((expected, moments)) = self.record(fs, what) else { return };
        self.counts.crashes.add(1);
        let mut seen = HashSet::new();
        for (at, moment) in moments.iter().enumerate() {
            for number in 0..profile.models {
                let luck = self.seed ^ (at * 31 + number) as u64;
                let model = CrashModel::ALL[pick(luck, CrashModel::ALL.len())];
                let what = format!("{what}, its recovery at {at} {model:?}");
                let image = moment.crash(model, luck);
                self.counts.first.add(1);
                if !seen.insert(image.digest()) {
                    continue;
                }
                let found = self.record(&image, &what);
                let Some((found, moments)) = found else { panic!("{what}: nothing is there") };
                assert!(found == expected, "{what}: {}", differ(&found, &expected));
                for number in 0..profile.moments {
                    let luck = luck.wrapping_mul(37).wrapping_add(number as u64);
                    let at = pick(luck, moments.len());
                    let model = CrashModel::ALL[pick(luck ^ 5, CrashModel::ALL.len())];
                    let image = moments[at].crash(model, luck);
                    self.counts.second.add(1);
                    if seen.insert(image.digest()) {
                        let what = format!("{what}, and at {at} {model:?}");
                        self.counts.opened.add(1);
                        let found = image::open_and_read(&image, self.workload, self.now_ms);
                        let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
                        assert!(found == expected, "{what}: {}", differ(&found, &expected));
                    }
                }
            }
        }
    }
}

fn differ(found: &Found, expected: &Found) -> String {
    format!("{} instead of {}", outline(found), outline(expected))
}

fn crash_recoveries(profile: Profile) {
    let counts = Counts::default();
    for workload in &workloads::all() {
        let story = Story::record(workload, 2);
        for_each(workload.name, profile.crashes, |number| {
            let seed = number as u64 * 7919;
            let scene = &story.scenes[pick(seed, story.scenes.len())];
            let model = CrashModel::ALL[number % CrashModel::ALL.len()];
            let what = format!("{}: {model:?} at {}", workload.name, scene.moment.ops());
            let now_ms = story.log[scene.told].now_ms;
            let recovery = Recovery { workload, now_ms, counts: &counts, seed };
            recovery.disturb(&scene.moment.crash(model, seed), &profile, &what);
        });
    }
    println!(
        "campaign nested ({}): {} crashes, {} crashes of their recoveries, {} of those of these, \
         {} different images opened",
        profile.name,
        counts.crashes.get(),
        counts.first.get(),
        counts.second.get(),
        counts.opened.get(),
    );
    assert!(counts.first.get() >= profile.first_min, "the campaign has shrunk");
    assert!(counts.second.get() >= profile.second_min, "the campaign has shrunk");
}

#[test]
fn a_recovery_that_crashes_twice_finds_what_an_undisturbed_one_does() {
    crash_recoveries(Profile {
        name: "fast",
        crashes: 7,
        models: 2,
        moments: 2,
        first_min: 15_000,
        second_min: 8_000,
    });
}

#[test]
#[ignore = "the long profile"]
fn campaign_nested_long() {
    crash_recoveries(Profile {
        name: "long",
        crashes: 56,
        models: 6,
        moments: 6,
        first_min: 100_000,
        second_min: 300_000,
    });
}
