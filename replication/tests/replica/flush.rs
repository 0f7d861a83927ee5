//! Waiting until peers have what was written: who has it, who has not, and how soon it is tried.

use super::{Node, are_equal, trio, until};
use replication::link::sim::simulate;
use replication::replica::Flushed;
use std::time::Duration;
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(3);

/// Commits that all tracked peers have confirmed, and that some have not.
async fn flush(node: &Node) -> (u64, u64) {
    let Flushed { successful, failed, .. } = node.replica().flush_pending(PATIENCE).await;
    (successful, failed)
}

async fn until_nothing_waits(nodes: &[Node]) {
    let waits = |node: &Node| node.replica().sync_status().pending > 0;
    until("nothing waits", || !nodes.iter().any(waits)).await;
}

#[test]
fn a_flush_tells_who_has_confirmed_and_who_has_not() {
    simulate(11, |net| async move {
        let nodes = trio(&net);
        nodes[0].put("before", "1");
        until("all are equal", || are_equal(&nodes, 1)).await;
        until_nothing_waits(&nodes).await;
        assert_eq!(flush(&nodes[0]).await, (0, 0), "nothing waits");
        net.partition(&[nodes[2].address], &[nodes[0].address, nodes[1].address]);
        sleep(Duration::from_secs(60)).await;
        (0..5).for_each(|n| nodes[0].put(&format!("alone {n}"), "1"));
        let flushed = nodes[0].replica().flush_pending(PATIENCE).await;
        assert_eq!((flushed.successful, flushed.failed), (0, 5), "{flushed:?}");
        let [there, away] = &flushed.peers[..] else { unreachable!("{flushed:?}") };
        assert_eq!((there.node, away.node), (nodes[1].identity.node, nodes[2].identity.node));
        assert_eq!((there.settled.successful, there.settled.failed), (5, 0));
        assert_eq!((away.settled.successful, away.settled.failed), (0, 5));
        assert!(there.settled.is_connected && !away.settled.is_connected);
        assert!(there.trouble.is_none());
        net.heal();
        assert_eq!(flush(&nodes[0]).await, (5, 0));
        assert!(are_equal(&nodes, 6));
    })
    .unwrap();
}

/// Who could not be reached for long is dialed rarely; a flush does not wait for its turn.
#[test]
fn a_flush_dials_at_once_whoever_has_no_link() {
    for seed in 20..24 {
        simulate(seed, |net| async move {
            let nodes = trio(&net);
            nodes[0].put("before", "1");
            until("all are equal", || are_equal(&nodes, 1)).await;
            until_nothing_waits(&nodes).await;
            net.partition(&[nodes[0].address], &[nodes[1].address, nodes[2].address]);
            sleep(Duration::from_secs(600)).await;
            nodes[0].put("alone", "1");
            net.heal();
            assert_eq!(flush(&nodes[0]).await, (1, 0), "seed {seed}");
        })
        .unwrap();
    }
}

#[test]
fn what_is_written_during_a_flush_is_not_waited_for() {
    simulate(31, |net| async move {
        let nodes = trio(&net);
        until_nothing_waits(&nodes).await;
        nodes[0].put("before", "1");
        let mut flush = nodes[0].replica().begin_flush();
        until("all have it", || are_equal(&nodes, 1)).await;
        until_nothing_waits(&nodes).await;
        net.partition(&[nodes[2].address], &[nodes[0].address, nodes[1].address]);
        nodes[0].put("after", "1");
        sleep(Duration::from_secs(30)).await;
        let flushed = nodes[0].replica().flushed(&mut flush);
        assert!(flushed.is_done() && flushed.successful == 1, "{flushed:?}");
        assert_eq!(nodes[0].replica().sync_status().pending, 1);
    })
    .unwrap();
}
