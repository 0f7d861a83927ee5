//! Members that have moved, found on the local network: how that is set, and how it goes.

use super::Peer;
use crate::config::Config;
use replication::discovery::DiscoveryOptions;
use replication::replica::{DiscoveryReport, FoundAt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// An address where a peer is heard.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Heard {
    /// Where it says it listens.
    pub(crate) address: String,
    /// When it was heard last, in milliseconds since the Unix epoch.
    pub(crate) last_heard: u64,
}

/// A node that knows the group, and is no member.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stranger {
    /// Who it says it is.
    pub(crate) node: String,
    /// Where it says it listens.
    pub(crate) address: String,
    /// When it was heard last, in milliseconds since the Unix epoch.
    pub(crate) last_heard: u64,
}

/// What was sent and heard since the start.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Discovery {
    /// Beacons sent.
    pub(crate) sent: u64,
    /// Beacons that could not be sent.
    pub(crate) unsent: u64,
    /// Beacons of other nodes of this group.
    pub(crate) heard: u64,
    /// Beacons of other groups.
    pub(crate) foreign: u64,
    /// Datagrams that were not listened to.
    pub(crate) refused: u64,
    /// Members that are heard now.
    pub(crate) members: u64,
    /// Others that know the group, and are not talked to.
    pub(crate) strangers: Vec<Stranger>,
    /// Why nothing can be sent or heard now.
    pub(crate) trouble: Option<String>,
}

/// How members are looked for, if they are.
pub(super) fn options_of(config: &Config) -> Option<DiscoveryOptions> {
    let usual = DiscoveryOptions::default();
    config.flag("replication.discovery.enabled").then(|| DiscoveryOptions {
        address: config
            .text("replication.discovery.address")
            .and_then(|words| words.parse().ok())
            .unwrap_or(usual.address),
        port: u16::try_from(config.number("replication.discovery.port")).unwrap_or(usual.port),
        interval: config.millis("replication.discovery.interval_ms"),
        expiry: config.millis("replication.discovery.expiry_ms"),
    })
}

impl From<FoundAt> for Heard {
    fn from(found: FoundAt) -> Heard {
        Heard { address: found.address.to_string(), last_heard: found.heard_ms }
    }
}

impl From<DiscoveryReport> for Discovery {
    fn from(report: DiscoveryReport) -> Discovery {
        let members: BTreeSet<_> = report.members.iter().map(|member| member.node).collect();
        let stranger = |found: FoundAt| Stranger {
            node: found.node.to_string(),
            address: found.address.to_string(),
            last_heard: found.heard_ms,
        };
        let counts = report.counts;
        Discovery {
            sent: counts.sent,
            unsent: counts.unsent,
            heard: counts.heard,
            foreign: counts.foreign,
            refused: counts.refused,
            members: members.len() as u64,
            strangers: report.strangers.into_iter().map(stranger).collect(),
            trouble: report.trouble,
        }
    }
}

impl Peer {
    /// Where it is heard on the local network, as words.
    pub(crate) fn heard_at(&self) -> String {
        let all: Vec<&str> = self.found.iter().map(|heard| heard.address.as_str()).collect();
        if all.is_empty() { "-".to_owned() } else { all.join(",") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use std::path::Path;

    fn options(text: &str) -> Option<DiscoveryOptions> {
        let mut layers = Layers::default();
        layers.read_file(text, Path::new("node.toml"));
        options_of(&layers.settle().unwrap())
    }

    #[test]
    fn nobody_is_looked_for_unless_told_and_then_as_the_library_does() {
        assert_eq!(options(""), None);
        let enabled = "[replication.discovery]\nenabled = true\n";
        assert_eq!(options(enabled), Some(DiscoveryOptions::default()));
        let more = "address = '239.1.2.3'\nport = 9\ninterval_ms = 200\nexpiry_ms = 700\n";
        let found = options(&format!("{enabled}{more}")).unwrap();
        let millis = [found.interval.as_millis(), found.expiry.as_millis()];
        let expected = ("239.1.2.3".to_owned(), 9, [200, 700]);
        assert_eq!((found.address.to_string(), found.port, millis), expected);
    }
}
