//! What a peer does to the keyspaces of the nodes themselves.

use crate::pair::{MAIN, Pair, small};
use engine::{Conflict, Resolution};
use replication::engine_store::EngineStore;
use replication::link::Bell;
use replication::{ProtocolError, Remedy};

/// Its session ends, and it is left alone; the node still has the name.
#[test]
fn a_peer_that_brings_what_is_each_nodes_own_is_banned() {
    for far_behind in [1 << 20, 1] {
        let mut pair = Pair::new(1, &small());
        let db = pair.nodes[0].db.clone();
        pair.nodes[0].store = EngineStore::new(db, &Bell::default()).far_behind(far_behind);
        pair.keyspace(1, "k").put("of the other", "1").unwrap();
        pair.settle();
        let lie = pair.nodes[0].db.replication().keyspace(MAIN, "esker.conflicts").unwrap();
        lie.put("x", "1").unwrap();
        pair.nodes[0].db.flush().unwrap();

        pair.run(3_000);

        assert!(!pair.failures.is_empty());
        for (node, error) in &pair.failures {
            let is_malformed = matches!(error, ProtocolError::Malformed { .. });
            assert!(*node == 1 && is_malformed && error.remedy() == Remedy::Ban, "{error}");
        }
        let keeps = |_: &Conflict<'_>| Ok(Resolution::KeepWinner);
        pair.nodes[1].db.set_resolver("k", keeps).unwrap();
    }
}
