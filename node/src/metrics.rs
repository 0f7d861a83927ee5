//! The numbers of a node as text that Prometheus reads.
//!
//! ```text
//! engine      operations, log, memtables, cache, levels, compaction, snapshots, transactions
//! recovery    what opening the database took
//! peers       lag, bytes and failures by peer
//! breakers    their states and calls, by name
//! remedies    what the node did by itself, by name
//! process     memory, processor time, file handles
//! requests    HTTP by route; the only ones that are counted here
//! sheet       families of metrics, one after the other
//! text        what the library writes -> what all versions of Prometheus read
//! ```
//!
//! The engine counts for itself and knows nothing of metrics: a scrape reads its numbers. A name, once
//! published, keeps its meaning; all of them are listed in `deploy/METRICS.md`, which a test compares.

mod breakers;
mod engine;
mod peers;
mod process;
mod recovery;
mod remedies;
mod requests;
mod sheet;
mod text;

pub(crate) use self::requests::Requests;
pub(crate) use self::sheet::Sheet;

use crate::logs;
use crate::replicas::Peer;
use crate::writes::Writes;
use ::engine::{Db, Health, Stats};
use ::recovery::Report;
use base::NodeId;
use base::fs::Space;
use esker_node::resilience::{BreakerReport, RemedyReport};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;

/// What all names begin with.
const PREFIX: &str = "esker";
/// The type of the text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that a scrape shows, of one moment.
pub(crate) struct Scrape {
    node: NodeId,
    stats: Stats,
    health: Health,
    report: Report,
    space: Option<Space>,
    peers: Vec<Peer>,
    breakers: BTreeMap<String, BreakerReport>,
    writes: Writes,
    remedies: BTreeMap<&'static str, RemedyReport>,
    shed: u64,
}

impl Scrape {
    /// Reads the numbers of `db`, and takes those of its `peers` and `breakers`, of the node's `remedies`,
    /// and how many writes it has `shed`.
    pub(crate) fn take(
        db: &Db,
        writes: Writes,
        peers: Vec<Peer>,
        breakers: BTreeMap<String, BreakerReport>,
        remedies: BTreeMap<&'static str, RemedyReport>,
        shed: u64,
    ) -> Scrape {
        Scrape {
            node: db.identity().node,
            stats: db.stats(),
            health: db.health(),
            report: db.recovery_report().clone(),
            space: db.space().ok(),
            peers,
            breakers,
            writes,
            remedies,
            shed,
        }
    }

    /// The text, with the requests counted in `requests`.
    pub(crate) fn render(self, requests: &Requests) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix(PREFIX);
        requests.register(&mut registry);
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        // The standard names of a process have no prefix.
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process));
        let mut of_process = String::new();
        prometheus_client::encoding::text::encode(&mut of_process, &registry)?;
        Ok(text::classic(&text) + &text::classic(&of_process))
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let node = self.node.to_string();
        let labels = [("version", version), ("node", node)];
        sheet.gauges("build_info", "What runs here; always 1", &[(labels, 1.0)])?;
        engine::write(&mut sheet, &self.stats, &self.health, self.space)?;
        recovery::write(&mut sheet, &self.report)?;
        let help = "Lines of the log that were dropped because too many waited";
        sheet.counter("log_lines_dropped", help, logs::dropped())?;
        self.writes.write(&mut sheet)?;
        peers::write(&mut sheet, &self.peers)?;
        breakers::write(&mut sheet, &self.breakers)?;
        remedies::write(&mut sheet, &self.remedies, self.shed)
    }
}
