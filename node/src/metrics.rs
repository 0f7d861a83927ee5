//! The numbers of a node as text that Prometheus reads.
//!
//! ```text
//! engine      operations, log, memtables, cache, levels, compaction, snapshots, transactions
//! space       what takes the disk, by kind and by keyspace
//! recovery    what opening the database took
//! peers       lag, bytes and failures by peer
//! discovery   beacons sent and heard, nodes found
//! breakers    their states and calls, by name
//! remedies    what the node did by itself, by name
//! process     memory, processor time, file handles
//! requests    HTTP by route; the only ones that are counted here
//! sheet       families of metrics, one after the other
//! merged      those of several databases as one text
//! text        what the library writes -> what all versions of Prometheus read
//! ```
//!
//! The engine counts for itself and knows nothing of metrics: a scrape reads its numbers. A name, once
//! published, keeps its meaning; all of them are listed in `deploy/METRICS.md`, which a test compares.

mod breakers;
mod discovery;
mod engine;
mod merged;
mod peers;
mod process;
mod recovery;
mod remedies;
mod requests;
mod sheet;
mod space;
mod text;

pub(crate) use self::merged::merged;
pub(crate) use self::requests::Requests;
pub(crate) use self::sheet::Sheet;

use crate::logs;
use crate::replicas::{Behind, Discovery, Peer};
use crate::writes::Writes;
use ::engine::{Db, Health, KeyspaceStats, Stats};
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
    /// None where a table can not be read.
    keyspaces: Vec<KeyspaceStats>,
    peers: Vec<Peer>,
    behind: Option<Behind>,
    discovery: Option<Discovery>,
    breakers: BTreeMap<String, BreakerReport>,
    writes: Writes,
    remedies: BTreeMap<&'static str, RemedyReport>,
    shed: u64,
    /// Lines of the log and of the audit that are lost; only the main database of a process says so.
    lines_dropped: Option<[u64; 2]>,
}

impl Scrape {
    /// Reads the numbers of `db`, and takes those of its `peers`, with how far it is `behind` them if it is a
    /// replica, of how they are looked for (`discovery`), of its `breakers` and `remedies`,
    /// and how many writes it has `shed`.
    pub(crate) fn take(
        db: &Db,
        writes: Writes,
        (peers, behind): (Vec<Peer>, Option<Behind>),
        discovery: Option<Discovery>,
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
            keyspaces: db.keyspace_stats().unwrap_or_default(),
            peers,
            behind,
            discovery,
            breakers,
            writes,
            remedies,
            shed,
            lines_dropped: None,
        }
    }

    /// The text, with the requests counted in `requests`. What is of the process is in that of its main database only;
    /// all others have the label `dataset`.
    pub(crate) fn render(
        mut self,
        requests: &Requests,
        dataset: Option<&str>,
    ) -> Result<String, fmt::Error> {
        self.lines_dropped = dataset.is_none().then(|| [logs::dropped(), logs::audit_dropped()]);
        let labels = dataset.map(|name| ("dataset".into(), name.to_owned().into()));
        let mut registry = Registry::with_prefix_and_labels(PREFIX, labels.into_iter());
        requests.register(&mut registry);
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        if dataset.is_some() {
            return Ok(text::classic(&text));
        }
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
        space::write(&mut sheet, &self.stats, &self.keyspaces)?;
        recovery::write(&mut sheet, &self.report)?;
        if let Some([log, audit]) = self.lines_dropped {
            let help =
                "Lines of the log that are lost: too many waited, or the disk did not take them";
            sheet.counter("log_lines_dropped", help, log)?;
            let help = "Lines of the audit that are lost: the disk did not take them";
            sheet.counter("audit_lines_dropped", help, audit)?;
        }
        self.writes.write(&mut sheet)?;
        peers::write(&mut sheet, &self.peers, self.behind.as_ref())?;
        discovery::write(&mut sheet, self.discovery.as_ref())?;
        breakers::write(&mut sheet, &self.breakers)?;
        remedies::write(&mut sheet, &self.remedies, self.shed)
    }
}
