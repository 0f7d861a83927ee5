//! Whether writes of users are taken now, and if not why, for those who watch a node.

use crate::metrics::Sheet;
use esker_node::health::Wellness;
use serde::Serialize;
use std::fmt;

/// Whether writes of users are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Writes {
    /// They are.
    Open,
    /// The node is a replica.
    Reader,
    /// Its disk is new, and it has not met a peer that may hold its data.
    Joining,
    /// It takes over what its peers hold.
    Rejoining,
    /// It was restored, and no peer has accepted its new life yet.
    Announcing,
    /// It was put back from a copy and written to.
    Forked,
    /// Its group goes on without it.
    Retired,
    /// Its clock is far from those of most of its peers.
    ClockSkew,
    /// An operator lets users read only.
    ReadOnlyMode,
    /// An operator lets users do nothing.
    Maintenance,
}

impl Writes {
    /// All of them.
    pub(crate) const ALL: [Writes; 10] = [
        Writes::Open,
        Writes::Reader,
        Writes::Joining,
        Writes::Rejoining,
        Writes::Announcing,
        Writes::Forked,
        Writes::Retired,
        Writes::ClockSkew,
        Writes::ReadOnlyMode,
        Writes::Maintenance,
    ];

    /// Its name in answers and labels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Writes::Open => "open",
            Writes::Reader => "reader",
            Writes::Joining => "joining",
            Writes::Rejoining => "rejoining",
            Writes::Announcing => "announcing",
            Writes::Forked => "forked",
            Writes::Retired => "retired",
            Writes::ClockSkew => "clock-skew",
            Writes::ReadOnlyMode => "read-only-mode",
            Writes::Maintenance => "maintenance",
        }
    }

    /// How well a node with it is. What somebody has chosen is no trouble; what passes by itself, or by what
    /// happens elsewhere, is a little; what waits for an operator while peers hear nothing is more.
    pub(crate) fn wellness(self) -> Wellness {
        match self {
            Writes::Open | Writes::Reader | Writes::ReadOnlyMode | Writes::Maintenance => {
                Wellness::Healthy
            }
            Writes::Joining | Writes::Rejoining | Writes::Announcing | Writes::Retired => {
                Wellness::Degraded
            }
            Writes::Forked | Writes::ClockSkew => Wellness::Unhealthy,
        }
    }

    /// It, as a sentence.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Writes::Open => "writes of users are taken",
            Writes::Reader => "the node is a replica, it only reads",
            Writes::Joining => {
                "the node has a new disk and has not met a peer that may hold its data"
            }
            Writes::Rejoining => "the node takes over what its peers hold",
            Writes::Announcing => {
                "the node was restored, and no peer has accepted its new life yet"
            }
            Writes::Forked => {
                "the node was put back from a copy and written to: stop it, then `esker repair --new-life`"
            }
            Writes::Retired => "the node was retired: its group goes on without it",
            Writes::ClockSkew => {
                "the clock of the node is far from those of most of its peers: set it right"
            }
            Writes::ReadOnlyMode => "the node is in read-only mode",
            Writes::Maintenance => "the node is being maintained",
        }
    }

    /// Writes which one it is.
    pub(crate) fn write(self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let one = |of: Writes| {
            let is_it = f64::from(u8::from(of == self));
            ([("state", of.name().to_owned())], is_it)
        };
        let help = "1 for the state in which writes of users are, 0 for the others";
        sheet.gauges("writes", help, &Writes::ALL.map(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_answers_have_the_same_names() {
        for writes in Writes::ALL {
            assert_eq!(serde_json::to_value(writes).unwrap(), writes.name());
        }
    }
}
