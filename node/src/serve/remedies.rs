//! What a node does by itself against trouble.
//!
//! ```text
//! resume   takes puts again once a full disk has space (the engine)
//! reopen   opens a poisoned database again (`life`)
//! heal     lets a peer bring what a damaged table had (the engine and replication)
//! restart  begins a thread anew that only reads or copies the database and has panicked (the engine)
//! shed     refuses writes while so much work is owed that they would hardly go on
//! ```
//!
//! Each has a switch and a number of times an hour, a line in the log whenever it is taken, and a metric. What
//! the engine does is counted afterwards: a look late, its limit may be exceeded by what one look brings.

use super::node::Node;
use crate::config::Config;
use crate::error::{Exit, Failure, Outcome};
use base::{Error, SystemClock};
use engine::{Permission, Status};
use esker_node::resilience::{Remedies, RemedyReport, RemedySettings, RemedyState, RemedySwitch};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;
use tokio::sync::Notify;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looks in a row at too much work before load is shed: a second.
const LOOKS_BEFORE_SHEDDING: u32 = 4;

/// What a node does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    Resume,
    Reopen,
    Heal,
    Restart,
    Shed,
}

impl Remedy {
    const ALL: [Remedy; 5] =
        [Remedy::Resume, Remedy::Reopen, Remedy::Heal, Remedy::Restart, Remedy::Shed];

    fn name(self) -> &'static str {
        match self {
            Remedy::Resume => "resume",
            Remedy::Reopen => "reopen",
            Remedy::Heal => "heal",
            Remedy::Restart => "restart",
            Remedy::Shed => "shed",
        }
    }
}

/// The remedies of a node. They outlive the database that they open again.
#[derive(Debug)]
pub(super) struct SelfHealing {
    remedies: Remedies,
    is_shedding: AtomicBool,
    /// The share of the work that may be owed, from which on load is shed.
    shed_percent: AtomicU64,
    /// Writes that were refused for it.
    shed: AtomicU64,
    /// Rung when the database is to be opened again.
    reopening: Notify,
}

impl SelfHealing {
    /// As `config` says.
    pub(super) fn new(config: &Config) -> SelfHealing {
        let healing = SelfHealing {
            remedies: Remedies::new(Arc::new(SystemClock::default())),
            is_shedding: AtomicBool::new(false),
            shed_percent: AtomicU64::new(100),
            shed: AtomicU64::new(0),
            reopening: Notify::new(),
        };
        healing.configure(config);
        healing
    }

    /// From here on as `config` says.
    pub(super) fn configure(&self, config: &Config) {
        for remedy in Remedy::ALL {
            let is_on = config.flag(&format!("remedies.{}", remedy.name()));
            let per_hour = config.number(&format!("remedies.{}_per_hour", remedy.name()));
            let switch = if is_on { RemedySwitch::On } else { RemedySwitch::Off };
            let per_hour = u32::try_from(per_hour).unwrap_or(u32::MAX);
            self.remedies.set(remedy.name(), RemedySettings { switch, per_hour });
        }
        self.shed_percent.store(config.number("remedies.shed_percent"), Ordering::Relaxed);
    }

    /// How each remedy is.
    pub(super) fn reports(&self) -> BTreeMap<&'static str, RemedyReport> {
        self.remedies.reports()
    }

    /// Writes that were refused to shed load.
    pub(super) fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Refuses a write while load is shed.
    pub(super) fn check_load(&self) -> Outcome {
        if !self.is_shedding.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.shed.fetch_add(1, Ordering::Relaxed);
        let message = "the node takes no writes for a moment: too much work is owed";
        Err(Failure::new(Exit::Other, "Overloaded", message)
            .action("ask again later, or less at once"))
    }

    /// Waits until the database is to be opened again.
    pub(super) async fn reopening(&self) {
        self.reopening.notified().await;
    }
}

/// Looks after `node` on a thread of its own, the first time before this returns.
pub(super) fn watch(node: &Arc<Node>) -> Outcome {
    let mut watch = Watch::default();
    if watch.look(node) == Next::Nothing {
        return Ok(());
    }
    let node: Weak<Node> = Arc::downgrade(node);
    let span = tracing::Span::current();
    let looks = move || {
        let _inside = span.enter();
        // Whoever waits for the end of a node does not wait for a look.
        while let Some(node) = node.upgrade().filter(|node| !node.is_draining()) {
            if watch.look(&node) == Next::Nothing {
                return;
            }
            drop(node);
            thread::sleep(LOOK_EVERY);
        }
    };
    let started = thread::Builder::new().name("esker-remedies".to_owned()).spawn(looks);
    started.map(drop).map_err(|e| Error::io("start a thread for", "remedies", e).into())
}

/// Whether a watch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Look,
    /// Another database takes the place of this one.
    Nothing,
}

/// What was seen of one database at the last look.
#[derive(Debug, Default)]
struct Watch {
    resumes: u64,
    heals: u64,
    restarts: u64,
    /// Looks in a row at too much work.
    looks_at_debt: u32,
    used_up: Vec<&'static str>,
}

impl Watch {
    fn look(&mut self, node: &Node) -> Next {
        let (healing, db) = (node.healing(), node.directory().db());
        let stats = db.stats();
        node.limits().note_stored(stats.table_bytes.saturating_add(stats.memtable_bytes));
        for (remedy, of_engine, now, seen) in [
            (Remedy::Resume, engine::Remedy::Resume, stats.resumes, &mut self.resumes),
            (Remedy::Heal, engine::Remedy::Heal, stats.tables_healed, &mut self.heals),
            (Remedy::Restart, engine::Remedy::Restart, stats.restarts, &mut self.restarts),
        ] {
            let times = now.saturating_sub(std::mem::replace(seen, now));
            if times > 0 {
                healing.remedies.note(remedy.name(), times);
                tracing::warn!(remedy = remedy.name(), times, "a remedy was taken");
            }
            let permission = match healing.remedies.state(remedy.name()) {
                RemedyState::Ready => Permission::Granted,
                RemedyState::Off | RemedyState::UsedUp => Permission::Withheld,
            };
            db.permit(of_engine, permission);
        }
        self.shed(healing, stats.write_pressure);
        let next = reopen(healing, db.health().status);
        self.tell_used_up(healing);
        next
    }

    /// Begins or ends to refuse writes.
    fn shed(&mut self, healing: &SelfHealing, pressure: f64) {
        let owed = (pressure * 100.0) as u64;
        let begins = healing.shed_percent.load(Ordering::Relaxed);
        self.looks_at_debt = if owed >= begins { self.looks_at_debt.saturating_add(1) } else { 0 };
        let remedy = Remedy::Shed.name();
        if healing.is_shedding.load(Ordering::Relaxed) {
            let is_off = healing.remedies.state(remedy) == RemedyState::Off;
            if is_off || owed.saturating_mul(4) < begins.saturating_mul(3) {
                healing.is_shedding.store(false, Ordering::Relaxed);
                tracing::info!(owed_percent = owed, "writes are taken again");
            }
        } else if self.looks_at_debt >= LOOKS_BEFORE_SHEDDING
            && healing.remedies.take(remedy) == RemedyState::Ready
        {
            healing.is_shedding.store(true, Ordering::Relaxed);
            tracing::warn!(remedy, owed_percent = owed, "a remedy was taken: writes are refused");
        }
    }

    /// Says once that a limit is reached.
    fn tell_used_up(&mut self, healing: &SelfHealing) {
        for (name, report) in healing.reports() {
            let is_used_up = report.state == RemedyState::UsedUp;
            if !is_used_up {
                self.used_up.retain(|known| *known != name);
            } else if !self.used_up.contains(&name) {
                let per_hour = report.per_hour;
                tracing::error!(
                    remedy = name,
                    per_hour,
                    "a remedy is not taken any more this hour"
                );
                self.used_up.push(name);
            }
        }
    }
}

/// Lets a poisoned database be opened again.
fn reopen(healing: &SelfHealing, status: Status) -> Next {
    let is_poisoned = status == Status::Poisoned;
    if is_poisoned && healing.remedies.take(Remedy::Reopen.name()) == RemedyState::Ready {
        let remedy = Remedy::Reopen.name();
        tracing::warn!(remedy, "a remedy was taken: the poisoned database is opened again");
        healing.reopening.notify_one();
        return Next::Nothing;
    }
    Next::Look
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use std::path::Path;

    fn healing(text: &str) -> SelfHealing {
        let mut layers = Layers::default();
        layers.read_file(text, Path::new("node.toml"));
        SelfHealing::new(&layers.settle().unwrap())
    }

    fn is_refused(healing: &SelfHealing) -> bool {
        healing.check_load().is_err()
    }

    /// Looks often enough at so much work.
    fn shed(healing: &SelfHealing, pressure: f64) {
        let mut watch = Watch::default();
        (0..LOOKS_BEFORE_SHEDDING).for_each(|_| watch.shed(healing, pressure));
    }

    #[test]
    fn load_is_shed_until_much_less_is_owed() {
        let healing = healing("[remedies]\nshed_percent = 80\n");
        let mut watch = Watch::default();
        for pressure in [0.79, 0.80, 1.0, 0.99, 0.79, 0.80, 0.80, 0.80] {
            watch.shed(&healing, pressure);
            assert!(!is_refused(&healing), "a moment is no reason");
        }
        watch.shed(&healing, 0.80);
        assert!(is_refused(&healing));
        watch.shed(&healing, 0.60);
        assert!(is_refused(&healing), "not to and fro");
        watch.shed(&healing, 0.59);
        assert!(!is_refused(&healing));
        assert_eq!((healing.shed(), healing.reports()["shed"].taken), (2, 1));
    }

    #[test]
    fn load_is_shed_until_three_quarters_whatever_the_percentage_is() {
        for percent in 1..=100 {
            let healing = healing(&format!("[remedies]\nshed_percent = {percent}\n"));
            shed(&healing, 1.0);
            let ends = (0..=100).rev().find(|owed| {
                shed(&healing, (f64::from(*owed) + 0.5) / 100.0);
                !is_refused(&healing)
            });
            let ends = ends.expect("a node that owes nothing takes writes");
            assert!(ends * 4 < percent * 3, "{percent} ends at {ends}");
            assert!((ends + 1) * 4 >= percent * 3 - 3, "{percent} ends only at {ends}");
        }
    }

    #[test]
    fn shedding_has_a_limit_and_a_switch() {
        let once = healing("[remedies]\nshed_per_hour = 1\n");
        shed(&once, 1.0);
        shed(&once, 0.0);
        shed(&once, 1.0);
        assert!(!is_refused(&once), "once an hour");
        let switched = healing("");
        shed(&switched, 1.0);
        assert!(is_refused(&switched));
        let mut layers = Layers::default();
        layers.read_file("[remedies]\nshed = false\n", Path::new("node.toml"));
        switched.configure(&layers.settle().unwrap());
        shed(&switched, 1.0);
        assert!(!is_refused(&switched));
    }

    #[test]
    fn only_a_poisoned_database_is_opened_again_and_only_so_often() {
        let healing = healing("[remedies]\nreopen_per_hour = 1\n");
        assert_eq!(reopen(&healing, Status::ReadOnly), Next::Look);
        assert_eq!(reopen(&healing, Status::Poisoned), Next::Nothing);
        assert_eq!(reopen(&healing, Status::Poisoned), Next::Look);
        assert_eq!(healing.reports()["reopen"].state, RemedyState::UsedUp);
    }

    #[test]
    fn every_remedy_has_its_settings() {
        let reports = healing("[remedies]\nheal = false\nrestart_per_hour = 0\n").reports();
        assert_eq!(reports.len(), Remedy::ALL.len());
        assert_eq!(reports["heal"].state, RemedyState::Off);
        assert_eq!(reports["restart"].state, RemedyState::Off, "never is no reason for an alert");
        assert_eq!(reports["reopen"].per_hour, 3);
    }
}
