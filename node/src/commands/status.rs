//! `esker status`: how a running node and its peers are.

use crate::args::NodeArgs;
use crate::client::{Call, Client, Method};
use crate::error::Outcome;
use crate::output::{Format, Output};
use crate::replicas::{Peer, PeerClass, Role, Stranger};
use crate::serve::StatusReport;
use clap::ValueEnum;

/// The command line of `esker status`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Times are milliseconds since the Unix epoch. A peer's line has its node, class, whether it is online,
the address it is dialed at, its lag in milliseconds, the commits that it has not confirmed, and where it is
heard on the local network.

Example:
  esker status --url http://127.0.0.1:8080")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// Prints the status.
pub(crate) fn run(args: &StatusArgs, output: &mut Output) -> Outcome {
    let client = Client::new(&args.node.url)?;
    let report: StatusReport = client.send(&Call::quick(Method::Get, "/v1/status"))?.json()?;
    output.result(text_of(&report), &report)?;
    if output.format() == Format::Text {
        for peer in &report.sync.peers {
            output.result(peer_line(peer), peer)?;
        }
    }
    Ok(())
}

fn text_of(report: &StatusReport) -> String {
    let (sync, totals) = (&report.sync, &report.sync.totals);
    let mut lines = vec![
        format!("node: {}", report.node),
        format!("incarnation: {}", report.incarnation),
        format!("role: {}", name_of(report.role)),
        format!("listen: {}", report.listen),
        format!("online: {}", sync.online),
        format!("last sync: {}", or_never(sync.last_sync)),
        format!("pending: {}", sync.pending),
        format!("peers: {}", sync.peers.len()),
        format!("sent: {} frames, {} bytes", totals.frames_sent, totals.bytes_sent),
        format!("received: {} frames, {} bytes", totals.frames_received, totals.bytes_received),
        format!("failures: {}", totals.failures),
    ];
    if let Some(behind) = &report.behind {
        let lag = behind.lag_ms.map_or_else(|| "unknown".to_owned(), |lag| format!("{lag} ms"));
        lines.push(format!("behind the writers: {lag}"));
    }
    if let Some(found) = &report.discovery {
        lines.push(format!(
            "beacons: {} sent, {} heard, {} of other groups, {} refused",
            found.sent, found.heard, found.foreign, found.refused
        ));
        let trouble = found.trouble.iter().map(|trouble| format!("beacons fail: {trouble}"));
        lines.extend(trouble);
        let stranger = |it: &Stranger| format!("stranger: {} at {}", it.node, it.address);
        lines.extend(found.strangers.iter().map(stranger));
    }
    lines.extend(sync.errors.iter().map(|error| {
        let node = error.node.as_deref().unwrap_or("unknown");
        format!("error at {} with {node}: {}: {}", error.at, error.code, error.message)
    }));
    lines.join("\n")
}

/// The name of a role, as on the command line.
pub(super) fn name_of(role: Role) -> String {
    role.to_possible_value().map_or_else(String::new, |role| role.get_name().to_owned())
}

/// A peer as one line.
pub(super) fn peer_line(peer: &Peer) -> String {
    let class = match peer.class {
        PeerClass::Tracked => "tracked",
        PeerClass::Untracked => "untracked",
        PeerClass::Deprecated => "deprecated",
    };
    let link = match (peer.enabled, peer.online) {
        (false, _) => "disabled",
        (true, true) => "online",
        (true, false) => "offline",
    };
    let address = peer.address.as_deref().unwrap_or("-");
    let Peer { node, lag_ms, pending, .. } = peer;
    let heard_at = peer.heard_at();
    format!("{node}\t{class}\t{link}\t{address}\t{lag_ms}\t{pending}\t{heard_at}")
}

fn or_never(time: Option<u64>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| time.to_string())
}
