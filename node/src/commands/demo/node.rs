//! A node of the demonstration: this program as `esker serve`, and how it is asked.

use super::brood::{Brood, broken};
use super::ledger::{Stamp, Write};
use crate::args::Durability;
use crate::client::{Call, Client, Method};
use crate::database;
use crate::error::{Exit, Failure, Outcome};
use crate::place::{Place, Remote};
use crate::replicas::{Peer, PeerChange};
use crate::serve::{Ready, StatusReport};
use base::{Clock, Error, SystemClock};
use engine::Create;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::ChildStdin;
use std::thread;
use std::time::Duration;

/// How long anything may take that only has to happen sooner or later.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A node and where it lives. Stops when it is dropped.
pub(super) struct Node<'b> {
    brood: &'b Brood,
    /// How people call it.
    pub(super) name: &'static str,
    /// How its peers call it.
    pub(super) id: String,
    path: PathBuf,
    listen: String,
    peers: Vec<String>,
    running: Option<Running>,
}

struct Running {
    process: u32,
    /// Its end is the end of the node.
    input: Option<ChildStdin>,
    url: String,
}

impl<'b> Node<'b> {
    /// A node with an empty database in the folder `name`.
    pub(super) fn new(brood: &'b Brood, name: &'static str) -> Outcome<Node<'b>> {
        let path = brood.path().join(name);
        let db = database::open_with(&path, Create::New, Durability::Sync)?;
        let id = db.identity().node.to_string();
        db.close()?;
        // Free now. Each node is told where the others are before any of them runs.
        let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let listen = free.map_err(|e| Error::io("find a port on", "127.0.0.1", e))?.to_string();
        Ok(Node { brood, name, id, path, listen, peers: Vec::new(), running: None })
    }

    /// How others are told of it.
    pub(super) fn address(&self) -> String {
        format!("{}@{}", self.id, self.listen)
    }

    /// Names those that it is to be kept equal with.
    pub(super) fn set_peers(&mut self, peers: Vec<String>) {
        self.peers = peers;
    }

    /// Starts it, and waits until it serves.
    pub(super) fn start(&mut self) -> Outcome {
        let words = ["--output", "json", "serve", "--end-with-input", "--http", "127.0.0.1:0"];
        let mut words: Vec<OsString> = words.map(OsString::from).into();
        words.extend(["--path".into(), (&self.path).into()]);
        words.extend(["--listen".into(), (&self.listen).into()]);
        words.extend(self.peers.iter().flat_map(|peer| ["--peer".into(), peer.into()]));
        let mut hatched = self.brood.start(&words)?;
        let mut line = String::new();
        if let Some(output) = hatched.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(|e| broken("hear from", e))?;
        }
        let ready: Ready = serde_json::from_str(&line)
            .map_err(|_| self.failure("did not start; it says why on standard error"))?;
        let url = format!("http://{}", ready.http);
        self.running = Some(Running { process: hatched.id, input: hatched.stdin.take(), url });
        Ok(())
    }

    /// Kills it by SIGKILL.
    pub(super) fn kill(&mut self) -> Outcome {
        match self.running.take() {
            Some(running) => self.brood.kill(running.process),
            None => Ok(()),
        }
    }

    /// Stops it as SIGTERM does. Returns whether it ended well.
    pub(super) fn stop(&mut self) -> Outcome<bool> {
        let Some(mut running) = self.running.take() else { return Ok(true) };
        running.input = None;
        let status = self.brood.wait(running.process)?;
        Ok(status.is_some_and(|status| status.success()))
    }

    /// Where it is asked.
    pub(super) fn url(&self) -> Outcome<&str> {
        let running = self.running.as_ref().ok_or_else(|| self.failure("does not run"))?;
        Ok(&running.url)
    }

    /// Asks it about data.
    pub(super) fn data(&self) -> Outcome<Remote> {
        Remote::new(self.url()?)
    }

    /// Asks it how it is.
    pub(super) fn status(&self) -> Outcome<StatusReport> {
        Client::new(self.url()?)?.send(&Call::new(Method::Get, "/v1/status"))?.json()
    }

    /// What it says of its peer `other`.
    pub(super) fn peer(&self, other: &Node<'_>) -> Outcome<Peer> {
        let peers = self.status()?.sync.peers.into_iter();
        let found = peers.into_iter().find(|peer| peer.node == other.id);
        found.ok_or_else(|| self.failure("does not know one of the others"))
    }

    /// Changes how it treats its peer `other`.
    pub(super) fn change(&self, other: &Node<'_>, change: PeerChange) -> Outcome {
        let path = format!("/v1/peers/{}/{}", other.id, change.name());
        Client::new(self.url()?)?.send(&Call::new(Method::Post, &path))?;
        Ok(())
    }

    /// The digest of all that users have stored in it.
    pub(super) fn digest(&self) -> Outcome<String> {
        Ok(self.data()?.digest(None, &mut || Ok(()))?.digest)
    }

    /// Stores `value` under `key`, or deletes the key.
    pub(super) fn write(&self, keyspace: &str, key: &str, value: Option<&str>) -> Outcome<Write> {
        write(&self.data()?, &self.id, keyspace, key, value)
    }

    fn failure(&self, what: &str) -> Failure {
        let message = format!("node {} {what}", self.name);
        Failure::new(Exit::CheckFailed, "CheckFailed", message).at(&self.path)
    }
}

/// Stores `value` under `key` in the node `id`, or deletes the key.
pub(super) fn write(
    data: &Remote,
    id: &str,
    keyspace: &str,
    key: &str,
    value: Option<&str>,
) -> Outcome<Write> {
    let tick = match value {
        Some(value) => data.put(keyspace, key.as_bytes(), value.as_bytes())?,
        None => data.delete(keyspace, key.as_bytes())?.unwrap_or_default(),
    };
    let stamp = Stamp { tick, node: id.to_owned() };
    Ok(Write { key: key.to_owned(), value: value.map(str::to_owned), stamp })
}

/// Waits until `is_so`, and fails if it does not come to be.
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> Outcome<bool>) -> Outcome {
    let clock = SystemClock::default();
    while !is_so()? {
        if clock.monotonic() > PATIENCE {
            let message = format!("for {} s it did not come about that {what}", PATIENCE.as_secs());
            return Err(Failure::new(Exit::CheckFailed, "CheckFailed", message));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
