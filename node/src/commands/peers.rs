//! `esker peers`: the peers of a running node.

use super::status::{name_of, peer_line};
use crate::args::NodeArgs;
use crate::client::{Answer, Call, Client, Method};
use crate::error::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::replicas::{Flushed, Invitation, Peer, PeerAddress, PeerChange, node_of};
use crate::serve::{NewPeer, Promoted};
use clap::Subcommand;
use serde_json::json;

/// The command line of `esker peers`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  esker peers list --url http://127.0.0.1:8080
  esker peers invite --url http://127.0.0.1:8080
  esker peers promote --url http://127.0.0.1:8080
  esker peers flush --url http://127.0.0.1:8080 --wait-ms 30000
  esker peers disable --url http://127.0.0.1:8080 ID")]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    command: PeersCommand,
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// Prints a token by which one node may join, once
    #[command(after_help = "Example:\n  esker peers invite --url http://127.0.0.1:8080")]
    Invite(NodeArgs),
    /// Lists the peers: node, class, link, address, lag in milliseconds, unconfirmed commits, where it is heard
    #[command(after_help = "Example:\n  esker peers list --url http://127.0.0.1:8080")]
    List(NodeArgs),
    /// Adds a peer that adds this node as well
    #[command(
        after_help = "Example:\n  esker peers add --url http://127.0.0.1:8080 ID@127.0.0.1:7401"
    )]
    Add(AddArgs),
    /// Talks to a peer again
    #[command(after_help = "Example:\n  esker peers enable --url http://127.0.0.1:8080 ID")]
    Enable(PeerArgs),
    /// Stops talking to a peer
    #[command(after_help = "Example:\n  esker peers disable --url http://127.0.0.1:8080 ID")]
    Disable(PeerArgs),
    /// Keeps deletes until the peer has them
    #[command(after_help = "Example:\n  esker peers track --url http://127.0.0.1:8080 ID")]
    Track(PeerArgs),
    /// Keeps nothing for the peer
    #[command(after_help = "Example:\n  esker peers untrack --url http://127.0.0.1:8080 ID")]
    Untrack(PeerArgs),
    /// Fences the peer for good: it has to rejoin
    #[command(after_help = "Example:\n  esker peers deprecate --url http://127.0.0.1:8080 ID")]
    Deprecate(PeerArgs),
    /// Shuts the peer out for good, closes its links and forgets it
    #[command(after_help = "Example:\n  esker peers remove --url http://127.0.0.1:8080 ID")]
    Remove(PeerArgs),
    /// Makes the replica itself a writer, for good
    #[command(after_help = "Example:\n  esker peers promote --url http://127.0.0.1:8080")]
    Promote(NodeArgs),
    /// Waits until all tracked peers have what was written so far
    #[command(
        after_help = "Example:\n  esker peers flush --url http://127.0.0.1:8080 --wait-ms 30000"
    )]
    Flush(FlushArgs),
}

#[derive(clap::Args, Debug)]
struct AddArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// The peer
    #[arg(value_name = "ID@ADDR")]
    peer: String,
}

#[derive(clap::Args, Debug)]
struct FlushArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// How long, at most 60000
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10_000)]
    wait_ms: u64,
}

#[derive(clap::Args, Debug)]
struct PeerArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// The peer, as `esker id` prints it
    #[arg(value_name = "ID")]
    peer: String,
}

/// Carries out the subcommand.
pub(crate) fn run(args: &PeersArgs, output: &mut Output) -> Outcome {
    match &args.command {
        PeersCommand::Invite(node) => invite(node, output),
        PeersCommand::List(node) => list(node, output),
        PeersCommand::Add(args) => add(args, output),
        PeersCommand::Enable(args) => change(args, PeerChange::Enable, output),
        PeersCommand::Disable(args) => change(args, PeerChange::Disable, output),
        PeersCommand::Track(args) => change(args, PeerChange::Track, output),
        PeersCommand::Untrack(args) => change(args, PeerChange::Untrack, output),
        PeersCommand::Deprecate(args) => change(args, PeerChange::Deprecate, output),
        PeersCommand::Remove(args) => change(args, PeerChange::Remove, output),
        PeersCommand::Promote(node) => promote(node, output),
        PeersCommand::Flush(args) => flush(args, output),
    }
}

fn invite(node: &NodeArgs, output: &mut Output) -> Outcome {
    let call = Call::quick(Method::Post, "/v1/invitations");
    let invitation: Invitation = ask(node, &call)?.json()?;
    output.result(&invitation.token, &invitation)
}

fn promote(node: &NodeArgs, output: &mut Output) -> Outcome {
    let promoted: Promoted = ask(node, &Call::quick(Method::Post, "/v1/promote"))?.json()?;
    output.remark(format_args!("role: {}", name_of(promoted.role)), &promoted)
}

/// Fails if anything still waits, so that a script may wait for it.
fn flush(args: &FlushArgs, output: &mut Output) -> Outcome {
    let path = format!("/v1/peers/flush?wait_ms={}", args.wait_ms);
    let flushed: Flushed = ask(&args.node, &Call::new(Method::Post, &path))?.json()?;
    let Flushed { successful, failed, .. } = flushed;
    output.result(format!("successful: {successful}\nfailed: {failed}"), &flushed)?;
    let late: Vec<&str> =
        flushed.peers.iter().filter(|peer| peer.failed > 0).map(|peer| &*peer.node).collect();
    if late.is_empty() {
        return Ok(());
    }
    let message = format!("{failed} commits are not confirmed by {}", late.join(", "));
    Err(Failure::new(Exit::Other, "Unconfirmed", message)
        .action("wait longer; `esker status` says why; they get the commits when they come"))
}

fn list(node: &NodeArgs, output: &mut Output) -> Outcome {
    let peers: Vec<Peer> = ask(node, &Call::quick(Method::Get, "/v1/peers"))?.json()?;
    peers.iter().try_for_each(|peer| output.result(peer_line(peer), peer))
}

fn add(args: &AddArgs, output: &mut Output) -> Outcome {
    let peer: PeerAddress = args.peer.parse()?;
    let body = serde_json::json!(NewPeer { peer: peer.to_string() }).to_string();
    let call = Call { body: body.as_bytes(), ..Call::quick(Method::Post, "/v1/peers") };
    let added: Peer = ask(&args.node, &call)?.json()?;
    output.result(peer_line(&added), &added)
}

fn change(args: &PeerArgs, change: PeerChange, output: &mut Output) -> Outcome {
    let Some(peer) = node_of(&args.peer) else {
        return Err(Failure::input("a peer is named by the 32 digits that `esker id` prints"));
    };
    let path = format!("/v1/peers/{peer}/{}", change.name());
    let changed: Option<Peer> = ask(&args.node, &Call::quick(Method::Post, &path))?.json()?;
    match changed {
        Some(peer) => output.result(peer_line(&peer), &peer),
        None => {
            output.result(format_args!("removed {peer}"), &json!({ "removed": peer.to_string() }))
        }
    }
}

fn ask(node: &NodeArgs, call: &Call<'_>) -> Outcome<Answer> {
    Client::new(&node.url)?.send(call)
}
