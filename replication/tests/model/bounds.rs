//! The bounds inside which every history is seen.

use crate::search::{Bound, Kind};
use crate::world::{NODES, Role};

const AUTHORS: [Role; NODES] = [Role::Author; NODES];
/// The one in the middle reads and relays.
const WITH_RELAY: [Role; NODES] = [Role::Author, Role::Observer, Role::Author];

const PLAIN: Bound = Bound {
    name: "",
    roles: AUTHORS,
    joiner: None,
    puts: 1,
    deletes: 1,
    restores: 0,
    records: 0,
    kinds: &[],
    depth: usize::MAX,
};

const EVERYTHING: Bound = Bound {
    restores: 2,
    kinds: &[
        Kind::Collect,
        Kind::Delta,
        Kind::Deprecate,
        Kind::Rejoin,
        Kind::Bootstrap,
        Kind::Restore,
        Kind::PowerLoss,
        Kind::FastClocks,
    ],
    depth: 4,
    ..PLAIN
};

/// Each kind of step with those that it meets.
pub(crate) const BOUNDS: [Bound; 11] = [
    Bound { name: "drop", kinds: &[Kind::Collect], ..PLAIN },
    Bound { name: "drop, relay", roles: WITH_RELAY, puts: 2, kinds: &[Kind::Collect], ..PLAIN },
    Bound {
        name: "delta, relay",
        roles: WITH_RELAY,
        kinds: &[Kind::Collect, Kind::Delta, Kind::Rejoin],
        ..PLAIN
    },
    Bound { name: "late writes", kinds: &[Kind::Collect, Kind::Deprecate, Kind::Rejoin], ..PLAIN },
    Bound {
        name: "late writes, relay",
        roles: WITH_RELAY,
        kinds: &[Kind::Collect, Kind::Deprecate, Kind::Rejoin, Kind::Delta],
        ..PLAIN
    },
    Bound {
        name: "restore, relay",
        roles: WITH_RELAY,
        restores: 2,
        kinds: &[Kind::Collect, Kind::Restore, Kind::Rejoin],
        ..PLAIN
    },
    Bound {
        name: "join",
        joiner: Some(2),
        kinds: &[Kind::Collect, Kind::Bootstrap, Kind::Rejoin, Kind::Delta, Kind::FastClocks],
        ..PLAIN
    },
    Bound {
        name: "roles",
        records: 2,
        kinds: &[Kind::Collect, Kind::Become, Kind::Rejoin],
        ..PLAIN
    },
    Bound { name: "everything", ..EVERYTHING },
    Bound { name: "everything, relay", roles: WITH_RELAY, ..EVERYTHING },
    Bound { name: "everything, join", joiner: Some(2), ..EVERYTHING },
];
