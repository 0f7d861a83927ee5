//! `esker peers`: the peers of a running node.

use super::status::{name_of, peer_line};
use crate::args::NodeArgs;
use crate::client::{Answer, Call, Client, Method};
use crate::error::{Failure, Outcome};
use crate::output::Output;
use crate::replicas::{Invitation, Peer, PeerAddress, PeerChange, node_of};
use crate::serve::{NewPeer, Promoted};
use clap::Subcommand;

/// The command line of `esker peers`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  esker peers list --url http://127.0.0.1:8080
  esker peers invite --url http://127.0.0.1:8080
  esker peers promote --url http://127.0.0.1:8080
  esker peers disable --url http://127.0.0.1:8080 ID")]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    command: PeersCommand,
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// Prints a token by which one node may join, once
    Invite(NodeArgs),
    /// Lists the peers: node, class, link, address, lag in milliseconds, unconfirmed commits
    List(NodeArgs),
    /// Adds a peer that adds this node as well
    Add(AddArgs),
    /// Talks to a peer again
    Enable(PeerArgs),
    /// Stops talking to a peer
    Disable(PeerArgs),
    /// Keeps deletes until the peer has them
    Track(PeerArgs),
    /// Keeps nothing for the peer
    Untrack(PeerArgs),
    /// Fences the peer for good: it has to rejoin
    Deprecate(PeerArgs),
    /// Shuts the peer out for good, closes its links and forgets it
    Remove(PeerArgs),
    /// Makes the replica itself a writer, for good
    Promote(NodeArgs),
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
    }
}

fn invite(node: &NodeArgs, output: &mut Output) -> Outcome {
    let call = Call::new(Method::Post, "/v1/invitations");
    let invitation: Invitation = ask(node, &call)?.json()?;
    output.result(&invitation.token, &invitation)
}

fn promote(node: &NodeArgs, output: &mut Output) -> Outcome {
    let promoted: Promoted = ask(node, &Call::new(Method::Post, "/v1/promote"))?.json()?;
    output.remark(format_args!("role: {}", name_of(promoted.role)), &promoted)
}

fn list(node: &NodeArgs, output: &mut Output) -> Outcome {
    let peers: Vec<Peer> = ask(node, &Call::new(Method::Get, "/v1/peers"))?.json()?;
    peers.iter().try_for_each(|peer| output.result(peer_line(peer), peer))
}

fn add(args: &AddArgs, output: &mut Output) -> Outcome {
    let peer: PeerAddress = args.peer.parse()?;
    let body = serde_json::json!(NewPeer { peer: peer.to_string() }).to_string();
    let call = Call { body: body.as_bytes(), ..Call::new(Method::Post, "/v1/peers") };
    let added: Peer = ask(&args.node, &call)?.json()?;
    output.result(peer_line(&added), &added)
}

fn change(args: &PeerArgs, change: PeerChange, output: &mut Output) -> Outcome {
    let Some(peer) = node_of(&args.peer) else {
        return Err(Failure::input("a peer is named by the 32 digits that `esker id` prints"));
    };
    let path = format!("/v1/peers/{peer}/{}", change.name());
    let changed: Option<Peer> = ask(&args.node, &Call::new(Method::Post, &path))?.json()?;
    match changed {
        Some(peer) => output.result(peer_line(&peer), &peer),
        None => Ok(()),
    }
}

fn ask(node: &NodeArgs, call: &Call<'_>) -> Outcome<Answer> {
    Client::new(&node.url)?.send(call)
}
