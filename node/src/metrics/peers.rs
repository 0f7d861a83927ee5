//! Replication by peer.

use super::sheet::{Label, Sheet};
use crate::replicas::{Behind, Peer, PeerClass};
use replication::protocol::SessionConfig;
use std::fmt;

/// Writes what is known of each peer, and how far this node is `behind` the writers if it is a replica.
pub(super) fn write(sheet: &mut Sheet<'_>, peers: &[Peer], behind: Option<&Behind>) -> fmt::Result {
    how_far(sheet, peers)?;
    exchanged(sheet, peers)?;
    let help = "How long ago a replica had all that writers had written; +Inf if it never had";
    match behind {
        Some(Behind { lag_ms, .. }) => {
            let lag = lag_ms.map_or(f64::INFINITY, |ms| ms as f64 / 1000.0);
            sheet.gauge("replica_lag_seconds", help, lag)
        }
        None => sheet.gauges::<0>("replica_lag_seconds", help, &[]),
    }
}

/// Where each peer is.
fn how_far(sheet: &mut Sheet<'_>, peers: &[Peer]) -> fmt::Result {
    let gauges = |of: fn(&Peer) -> f64| -> Vec<_> {
        peers.iter().map(|peer| (label(peer), of(peer))).collect()
    };
    let up = gauges(|peer| f64::from(u8::from(peer.online)));
    sheet.gauges("replication_peer_up", "Whether a link to the peer is up", &up)?;
    let help = "0 closed, 1 open: the peer could not be reached and is left alone, 2 half-open";
    let breakers = gauges(|peer| f64::from(peer.breaker));
    sheet.gauges("replication_peer_breaker_state", help, &breakers)?;
    let help = "Whether nothing is taken from the peer, because its clock is too far ahead";
    let parked = gauges(|peer| f64::from(u8::from(peer.parked)));
    sheet.gauges("replication_peer_parked", help, &parked)?;
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
    let help = "Shipments that were sent to the peer and are not confirmed";
    sheet.gauges("replication_under_way", help, &gauges(|peer| peer.under_way as f64))?;
    let help = "Bytes of them";
    let bytes = gauges(|peer| peer.under_way_bytes as f64);
    sheet.gauges("replication_under_way_bytes", help, &bytes)?;
    let help = "Bytes that may be under way to one peer";
    sheet.gauge("replication_window_bytes", help, SessionConfig::WINDOW_BYTES as f64)?;
    let help = "By how much the peer's clock is ahead of the one here";
    let offset = gauges(|peer| peer.clock_offset_ms as f64 / 1000.0);
    sheet.gauges("replication_clock_offset_seconds", help, &offset)
}

/// What was exchanged with each peer since the start.
fn exchanged(sheet: &mut Sheet<'_>, peers: &[Peer]) -> fmt::Result {
    let counters = |of: fn(&Peer) -> u64| -> Vec<_> {
        peers.iter().map(|peer| (label(peer), of(peer))).collect()
    };
    let sent = counters(|peer| peer.totals.bytes_sent);
    sheet.counters("replication_sent_bytes", "Bytes sent to the peer", &sent)?;
    let received = counters(|peer| peer.totals.bytes_received);
    sheet.counters("replication_received_bytes", "Bytes received from the peer", &received)?;
    let help = "Links to the peer that failed";
    sheet.counters("replication_failures", help, &counters(|peer| peer.totals.failures))?;
    let help = "Sessions with the peer that came up";
    sheet.counters("replication_sessions", help, &counters(|peer| peer.totals.sessions))?;
    let help = "Deltas taken from the peer: its log did not reach back far enough";
    sheet.counters("replication_deltas", help, &counters(|peer| peer.totals.deltas))?;
    let help = "Whole states taken from the peer: deletes had been forgotten meanwhile";
    sheet.counters("replication_rejoins", help, &counters(|peer| peer.totals.rejoins))?;
    let help = "Times that all tables of the peer were taken";
    sheet.counters("replication_bootstraps", help, &counters(|peer| peer.totals.bootstraps))?;
    let help = "Entries that differed from the peer's though lag does not explain it";
    sheet.counters("replication_diverged", help, &counters(|peer| peer.diverged))
}

fn label(peer: &Peer) -> [Label; 1] {
    [("peer", peer.node.clone())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicas::Totals;
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::DescriptorEncoder;
    use prometheus_client::registry::Registry;

    #[derive(Debug)]
    struct Only(Peer, Option<Behind>);

    impl Collector for Only {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            write(&mut Sheet::new(encoder), std::slice::from_ref(&self.0), self.1.as_ref())
        }
    }

    fn text(peer: Peer, behind: Option<Behind>) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register_collector(Box::new(Only(peer, behind)));
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn each_number_of_a_peer_is_shown_under_its_name() {
        let totals = Totals {
            sessions: 1,
            deltas: 2,
            rejoins: 3,
            bootstraps: 4,
            failures: 5,
            ..Totals::default()
        };
        let peer = Peer {
            node: "b".to_owned(),
            address: None,
            class: PeerClass::Tracked,
            enabled: true,
            online: true,
            breaker: 2,
            lag_ms: 6500,
            pending: 7,
            last_sync: None,
            last_confirmation: Some(8500),
            clock_offset_ms: -9500,
            parked: true,
            under_way: 10,
            under_way_bytes: 11,
            diverged: 12,
            found: Vec::new(),
            totals,
            last_error: None,
        };
        let shown = text(peer.clone(), None);
        for sample in [
            "peer_breaker_state{peer=\"b\"} 2.0",
            "lag_seconds{peer=\"b\"} 6.5",
            "pending{peer=\"b\"} 7.0",
            "last_confirmation_seconds{peer=\"b\"} 8.5",
            "clock_offset_seconds{peer=\"b\"} -9.5",
            "peer_parked{peer=\"b\"} 1.0",
            "under_way{peer=\"b\"} 10.0",
            "under_way_bytes{peer=\"b\"} 11.0",
            "diverged_total{peer=\"b\"} 12",
            "sessions_total{peer=\"b\"} 1",
            "deltas_total{peer=\"b\"} 2",
            "rejoins_total{peer=\"b\"} 3",
            "bootstraps_total{peer=\"b\"} 4",
            "failures_total{peer=\"b\"} 5",
        ] {
            assert!(shown.contains(&format!("\nreplication_{sample}\n")), "{sample}: {shown}");
        }
        assert!(!shown.contains("\nreplica_lag_seconds"), "a writer has none: {shown}");
        let behind = |lag_ms| Some(Behind { lag_ms, unheard_writers: Vec::new() });
        assert!(text(peer.clone(), behind(Some(1500))).contains("\nreplica_lag_seconds 1.5\n"));
        let never = text(peer, behind(None)).to_lowercase();
        assert!(
            never.contains("\nreplica_lag_seconds inf\n") || never.contains(" +inf\n"),
            "{never}"
        );
    }
}
