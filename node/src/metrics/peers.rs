//! Replication by peer.

use super::sheet::{Label, Sheet};
use crate::replicas::{Peer, PeerClass};
use std::fmt;

/// Writes what is known of each peer.
pub(super) fn write(sheet: &mut Sheet<'_>, peers: &[Peer]) -> fmt::Result {
    let gauges = |of: fn(&Peer) -> f64| -> Vec<_> {
        peers.iter().map(|peer| (label(peer), of(peer))).collect()
    };
    let counters = |of: fn(&Peer) -> u64| -> Vec<_> {
        peers.iter().map(|peer| (label(peer), of(peer))).collect()
    };
    let up = gauges(|peer| f64::from(u8::from(peer.online)));
    sheet.gauges("replication_peer_up", "Whether a link to the peer is up", &up)?;
    let help = "0 closed, 1 open: the peer could not be reached and is left alone, 2 half-open";
    let breakers = gauges(|peer| f64::from(peer.breaker));
    sheet.gauges("replication_peer_breaker_state", help, &breakers)?;
    let help = "Whether collection of deletes waits for the peer";
    let tracked = gauges(|peer| f64::from(u8::from(peer.class == PeerClass::Tracked)));
    sheet.gauges("replication_peer_tracked", help, &tracked)?;
    let help = "Age of the oldest commit that the peer has not confirmed; 0 if it has all";
    let lag = gauges(|peer| peer.lag_ms as f64 / 1000.0);
    sheet.gauges("replication_lag_seconds", help, &lag)?;
    let help = "Commits that the peer has not confirmed";
    sheet.gauges("replication_pending", help, &gauges(|peer| peer.pending as f64))?;
    let help = "When the peer last confirmed something, in Unix time; 0 if never";
    let confirmed = gauges(|peer| peer.last_confirmation.unwrap_or(0) as f64 / 1000.0);
    sheet.gauges("replication_last_confirmation_seconds", help, &confirmed)?;
    let sent = counters(|peer| peer.totals.bytes_sent);
    sheet.counters("replication_sent_bytes", "Bytes sent to the peer", &sent)?;
    let received = counters(|peer| peer.totals.bytes_received);
    sheet.counters("replication_received_bytes", "Bytes received from the peer", &received)?;
    let help = "Links to the peer that failed";
    sheet.counters("replication_failures", help, &counters(|peer| peer.totals.failures))
}

fn label(peer: &Peer) -> [Label; 1] {
    [("peer", peer.node.clone())]
}
