//! Runs the cases of a campaign on two threads, and sorts what becomes of each.

use crate::disk::{Image, disk_of, open};
use crate::history::History;
use engine::Options;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A case that takes longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);
const THREADS: usize = 2;

/// What became of a case.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Opening named the damage: the code of the error.
    Refused(&'static str),
    /// Reading did.
    Unreadable(&'static str),
    /// Everything is there.
    Harmless,
    /// So many batches at the end are gone, none of them promised.
    Lost(usize),
    /// Something else is there, and nobody said so.
    Silent,
    Panicked,
}

/// Opens a disk that holds `image`, asks everything, and judges the answers: the first `promised`
/// batches must be there, and whole ones.
pub(crate) fn judge(
    image: &Image,
    history: &History,
    promised: usize,
    options: Options,
) -> Outcome {
    let fs = disk_of(image);
    let db = match open(&fs, options) {
        Ok(db) => db,
        Err(error) => return Outcome::Refused(error.code()),
    };
    let answers = history.ask(&db);
    match (history.lost(&answers, promised), answers.errors.first()) {
        (None, _) => Outcome::Silent,
        (Some(_), Some(error)) => Outcome::Unreadable(error.code()),
        (Some(0), None) => Outcome::Harmless,
        (Some(lost), None) => Outcome::Lost(lost),
    }
}

/// What became of all cases.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cases: usize,
    pub(crate) refused: usize,
    pub(crate) unreadable: usize,
    pub(crate) harmless: usize,
    pub(crate) lost: usize,
    pub(crate) lost_most: usize,
    pub(crate) silent: usize,
    pub(crate) panicked: usize,
    /// The codes of the errors.
    pub(crate) codes: BTreeMap<&'static str, usize>,
    /// The first cases that should not be.
    pub(crate) offenders: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, outcome: &Outcome, name: impl FnOnce() -> String) {
        self.cases += 1;
        match outcome {
            Outcome::Refused(code) | Outcome::Unreadable(code) => {
                *self.codes.entry(code).or_default() += 1;
            }
            _ => {}
        }
        match outcome {
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Unreadable(_) => self.unreadable += 1,
            Outcome::Harmless => self.harmless += 1,
            Outcome::Lost(lost) => {
                self.lost += 1;
                self.lost_most = self.lost_most.max(*lost);
            }
            Outcome::Silent => self.silent += 1,
            Outcome::Panicked => self.panicked += 1,
        }
        if matches!(outcome, Outcome::Silent | Outcome::Panicked) && self.offenders.len() < 20 {
            self.offenders.push(format!("{}: {outcome:?}", name()));
        }
    }

    pub(crate) fn join(&mut self, other: Tally) {
        self.cases += other.cases;
        self.refused += other.refused;
        self.unreadable += other.unreadable;
        self.harmless += other.harmless;
        self.lost += other.lost;
        self.lost_most = self.lost_most.max(other.lost_most);
        self.silent += other.silent;
        self.panicked += other.panicked;
        for (code, count) in other.codes {
            *self.codes.entry(code).or_default() += count;
        }
        self.offenders.extend(other.offenders);
    }

    /// Prints the counts, and refuses silence, panics, and cases that were not counted.
    #[track_caller]
    pub(crate) fn conclude(&self, campaign: &str, started: Instant) {
        let Tally { cases, refused, unreadable, harmless, lost, lost_most, .. } = self;
        println!(
            "campaign {campaign}: {cases} cases, {refused} refused, {unreadable} unreadable, \
             {harmless} harmless, {lost} lost unpromised batches (at most {lost_most}), {} silent, \
             {} panics, 0 hangs, {:.1} s, {:?}",
            self.silent,
            self.panicked,
            started.elapsed().as_secs_f64(),
            self.codes,
        );
        assert_eq!((self.silent, self.panicked), (0, 0), "{:#?}", self.offenders);
        assert_eq!(refused + unreadable + harmless + lost, *cases);
        assert!(*cases > 0);
    }
}

/// What a thread is at.
#[derive(Default)]
struct Post {
    case: Mutex<Option<(usize, Instant)>>,
}

/// Runs the cases `0..count` and tells `fold` what became of each. A panic is an outcome; a hang
/// ends the process after naming its case.
pub(crate) fn run<T: Default + Send>(
    count: usize,
    name: impl Fn(usize) -> String + Sync,
    case: impl Fn(usize, &mut T) -> Outcome + Sync,
    join: impl Fn(&mut T, T) + Sync,
) -> (Tally, T) {
    let next = AtomicUsize::new(0);
    let posts: Vec<Post> = (0..THREADS).map(|_| Post::default()).collect();
    let total = Mutex::new((Tally::default(), T::default()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = posts
            .iter()
            .map(|post| {
                scope.spawn(|| {
                    let mut mine = (Tally::default(), T::default());
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            break;
                        }
                        *post.case.lock().unwrap() = Some((number, Instant::now()));
                        let outcome = catch_unwind(AssertUnwindSafe(|| case(number, &mut mine.1)));
                        let outcome = outcome.unwrap_or(Outcome::Panicked);
                        mine.0.add(&outcome, || name(number));
                    }
                    *post.case.lock().unwrap() = None;
                    let mut total = total.lock().unwrap();
                    total.0.join(mine.0);
                    join(&mut total.1, mine.1);
                })
            })
            .collect();
        scope.spawn(|| watch(&posts, &done, &name));
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Release);
    });
    total.into_inner().unwrap()
}

fn watch(posts: &[Post], done: &AtomicBool, name: &(impl Fn(usize) -> String + Sync)) {
    while !done.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(20));
        for post in posts {
            let case = *post.case.lock().unwrap();
            if let Some((number, _)) = case.filter(|(_, started)| started.elapsed() > HANGS_AFTER) {
                eprintln!("campaign: {} hangs", name(number));
                std::process::abort();
            }
        }
    }
}
