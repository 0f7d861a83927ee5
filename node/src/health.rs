//! Whether everything works: checks that look now and then, and what they found last.
//!
//! ```text
//! Checks ── a thread for each check ──look──> Finding ──> board ──report──> whoever asks
//! ```
//!
//! Whoever asks reads what was found last and never waits, even while a check hangs: that check is
//! reported as unhealthy once its time is up, and looks again when it has come back.
//!
//! ```
//! use esker_node::health::{Checks, Finding, Timing, Wellness};
//!
//! let mut checks = Checks::new(std::sync::Arc::new(base::SystemClock::default()));
//! checks.add("queue", Timing::default(), || Finding::healthy("3 of 100 places are taken"))?;
//! checks.look_now(std::time::Duration::from_secs(1));
//! assert_eq!(checks.report().status, Wellness::Healthy);
//! # Ok::<(), esker_node::health::CheckError>(())
//! ```

mod board;
mod finding;
mod worker;

pub use board::{CheckReport, HealthReport};
pub use finding::{Finding, Wellness};

use base::Clock;
use board::Board;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use worker::Worker;

/// Checks that a node may have.
pub const CHECKS_MAX: usize = 64;
/// The longest name of a check.
pub const NAME_LEN_MAX: usize = 64;

/// When a check looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The pause between two looks. Default 5 s.
    pub every: Duration,
    /// How long a look may take. Default 2 s.
    pub timeout: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { every: Duration::from_secs(5), timeout: Duration::from_secs(2) }
    }
}

/// Why a check was not added.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckError {
    /// A check of that name is there already.
    Doubled {
        /// The name.
        name: String,
    },
    /// A name that is empty, too long, or has other bytes than `a-z 0-9 _`.
    BadName {
        /// Its length.
        len: usize,
    },
    /// There are [`CHECKS_MAX`] already.
    TooMany,
    /// A pause or a timeout of zero.
    BadTiming,
    /// The system has no thread for it.
    NoThread,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckError::Doubled { name } => write!(f, "there is a check `{name}` already"),
            CheckError::BadName { len } => write!(
                f,
                "the name of a check has 1 to {NAME_LEN_MAX} of a-z, 0-9 and _; this one has {len} bytes"
            ),
            CheckError::TooMany => write!(f, "there are {CHECKS_MAX} checks already"),
            CheckError::BadTiming => f.write_str("a check needs a pause and a timeout above zero"),
            CheckError::NoThread => f.write_str("the system has no thread for the check"),
        }
    }
}

impl std::error::Error for CheckError {}

/// See the module. Dropping it ends the checks; one that hangs ends when it comes back.
pub struct Checks {
    clock: Arc<dyn Clock>,
    board: Arc<Board>,
    workers: Vec<Worker>,
}

impl Checks {
    /// No checks yet. `clock` tells how long they take.
    pub fn new(clock: Arc<dyn Clock>) -> Checks {
        Checks { clock, board: Arc::default(), workers: Vec::new() }
    }

    /// Looks with `look` from now on. It may block: it has a thread of its own.
    pub fn add(
        &mut self,
        name: &str,
        timing: Timing,
        look: impl FnMut() -> Finding + Send + 'static,
    ) -> Result<(), CheckError> {
        let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > NAME_LEN_MAX || !name.bytes().all(is_fine) {
            return Err(CheckError::BadName { len: name.len() });
        }
        if timing.every.is_zero() || timing.timeout.is_zero() {
            return Err(CheckError::BadTiming);
        }
        if self.workers.len() >= CHECKS_MAX {
            return Err(CheckError::TooMany);
        }
        if !self.board.enter(name, timing.timeout, self.clock.monotonic()) {
            return Err(CheckError::Doubled { name: name.to_owned() });
        }
        let worker = Worker::start(name, timing, self.clock.clone(), self.board.clone(), look);
        let Ok(worker) = worker else {
            self.board.leave(name);
            return Err(CheckError::NoThread);
        };
        self.workers.push(worker);
        Ok(())
    }

    /// From now on all checks look so often, the next time at once.
    pub fn set_every(&self, every: Duration) -> Result<(), CheckError> {
        if every.is_zero() {
            return Err(CheckError::BadTiming);
        }
        self.workers.iter().for_each(|worker| worker.set_every(every));
        Ok(())
    }

    /// From now on a look of any check may take so long, also one that goes on.
    pub fn set_timeout(&self, timeout: Duration) -> Result<(), CheckError> {
        if timeout.is_zero() {
            return Err(CheckError::BadTiming);
        }
        self.board.set_timeout(timeout);
        Ok(())
    }

    /// What was found last. Does not wait.
    pub fn report(&self) -> HealthReport {
        self.board.report(self.clock.monotonic())
    }

    /// Lets every check look at once, and waits for all of them, or until `patience` is over.
    pub fn look_now(&self, patience: Duration) {
        let begun = self.board.looks();
        self.workers.iter().for_each(Worker::ring);
        self.board.wait_for_looks(&begun, patience);
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks").field("count", &self.workers.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SystemClock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(60);

    fn checks() -> Checks {
        Checks::new(Arc::new(SystemClock::default()))
    }

    fn rarely() -> Timing {
        Timing { every: LONG, timeout: LONG }
    }

    #[test]
    fn the_worst_check_decides_and_each_is_named() {
        let mut checks = checks();
        checks.add("fine", rarely(), || Finding::healthy("all is well")).unwrap();
        checks.add("so_so", rarely(), || Finding::degraded("slow").with("p99_ms", 7.0)).unwrap();
        checks.look_now(PATIENCE);
        let report = checks.report();
        assert_eq!(report.status, Wellness::Degraded);
        assert_eq!(report.checks["fine"].status, Wellness::Healthy);
        assert_eq!(report.checks["so_so"].message, "slow");
        assert_eq!(report.checks["so_so"].numbers["p99_ms"], 7.0);
        checks.add("broken", rarely(), || Finding::unhealthy("gone")).unwrap();
        checks.look_now(PATIENCE);
        assert_eq!(checks.report().status, Wellness::Unhealthy);
    }

    #[test]
    fn checks_that_look_rarely_look_at_once_when_they_are_to_look_often() {
        let mut checks = checks();
        let (looked, looks) = mpsc::channel();
        let look = move || {
            let _ = looked.send(());
            Finding::healthy("looked")
        };
        checks.add("rare", rarely(), look).unwrap();
        looks.recv_timeout(PATIENCE).unwrap();
        checks.set_every(Duration::from_millis(1)).unwrap();
        for _ in 0..10 {
            looks.recv_timeout(PATIENCE).expect("it looks often now");
        }
        assert!(matches!(checks.set_every(Duration::ZERO), Err(CheckError::BadTiming)));
    }

    #[test]
    fn a_check_that_hangs_is_unhealthy_and_holds_up_nobody() {
        let mut checks = checks();
        let (release, gate) = mpsc::channel::<()>();
        let timing = Timing { every: Duration::from_millis(1), timeout: Duration::from_millis(20) };
        let looks = Arc::new(AtomicU64::new(0));
        let counted = looks.clone();
        let mut gate = Some(gate);
        let hang = move || {
            if let Some(gate) = gate.take() {
                let _ = gate.recv();
            }
            Finding::healthy("back")
        };
        checks.add("hangs", timing, hang).unwrap();
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Finding::healthy("fine")
        };
        checks.add("goes_on", timing, count).unwrap();
        until(|| checks.report().checks["hangs"].is_timed_out);
        let report = checks.report();
        assert_eq!(report.checks["hangs"].status, Wellness::Unhealthy);
        assert_eq!(report.status, Wellness::Unhealthy);
        let before = looks.load(Ordering::Relaxed);
        until(|| looks.load(Ordering::Relaxed) > before + 2);
        release.send(()).unwrap();
        until(|| checks.report().status == Wellness::Healthy);
        assert_eq!(checks.report().checks["hangs"].message, "back");
    }

    #[test]
    fn a_timeout_that_is_set_counts_for_a_look_that_goes_on() {
        let mut checks = checks();
        let (_release, gate) = mpsc::channel::<()>();
        let look = move || {
            let _ = gate.recv();
            Finding::healthy("back")
        };
        checks.add("hangs", rarely(), look).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert!(!checks.report().checks["hangs"].is_timed_out);
        checks.set_timeout(Duration::from_millis(1)).unwrap();
        until(|| checks.report().checks["hangs"].is_timed_out);
        checks.set_timeout(LONG).unwrap();
        assert!(!checks.report().checks["hangs"].is_timed_out);
        assert_eq!(checks.set_timeout(Duration::ZERO), Err(CheckError::BadTiming));
    }

    #[test]
    fn a_check_that_panics_is_unhealthy_and_looks_again() {
        let mut checks = checks();
        let mut is_first = true;
        let look = move || {
            if std::mem::take(&mut is_first) {
                std::panic::resume_unwind(Box::new("a bug in a check"));
            }
            Finding::healthy("well again")
        };
        checks.add("buggy", rarely(), look).unwrap();
        until(|| checks.report().checks["buggy"].status == Wellness::Unhealthy);
        checks.look_now(PATIENCE);
        assert_eq!(checks.report().checks["buggy"].message, "well again");
    }

    #[test]
    fn a_check_that_has_not_looked_yet_is_neither_healthy_nor_broken() {
        let mut checks = checks();
        let (_release, gate) = mpsc::channel::<()>();
        let look = move || {
            let _ = gate.recv();
            Finding::healthy("late")
        };
        checks.add("slow", rarely(), look).unwrap();
        let report = checks.report();
        assert_eq!(report.checks["slow"].status, Wellness::Degraded);
        assert!(!report.checks["slow"].is_timed_out);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut checks = checks();
        let look = || Finding::healthy("");
        for name in ["", "Name", "a b", "a-b", &"x".repeat(65)] {
            let refused = checks.add(name, rarely(), look);
            assert_eq!(refused, Err(CheckError::BadName { len: name.len() }));
        }
        let timing = Timing { every: Duration::ZERO, ..Timing::default() };
        assert_eq!(checks.add("a", timing, look), Err(CheckError::BadTiming));
        checks.add("a", rarely(), look).unwrap();
        let doubled = CheckError::Doubled { name: "a".to_owned() };
        assert_eq!(checks.add("a", rarely(), look), Err(doubled));
        for n in 1..CHECKS_MAX {
            checks.add(&format!("n{n}"), rarely(), look).unwrap();
        }
        assert_eq!(checks.add("more", rarely(), look), Err(CheckError::TooMany));
    }

    #[test]
    fn dropping_it_ends_the_threads() {
        struct Flag(mpsc::Sender<()>);
        impl Drop for Flag {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (told, ended) = mpsc::channel();
        let mut checks = checks();
        let flag = Flag(told);
        checks.add("a", rarely(), move || Finding::healthy(format!("{:p}", &flag))).unwrap();
        drop(checks);
        ended.recv_timeout(PATIENCE).unwrap();
    }

    fn until(is_so: impl Fn() -> bool) {
        for _ in 0..6000 {
            if is_so() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        unreachable!("it never came to be");
    }
}
