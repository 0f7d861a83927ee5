//! The signals that a node listens to: SIGTERM and SIGINT stop it, SIGHUP lets it read its configuration again.

use crate::error::Outcome;
use crate::files;
use base::Error;
use std::thread;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To stop.
    Stop,
    /// To read the configuration again.
    Reload,
}

/// The signals that a node listens to.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Tells once if standard input has ended.
    input: Option<oneshot::Receiver<()>>,
}

impl Signals {
    /// From here on they are caught.
    pub(super) fn catch(end: EndOfInput) -> Outcome<Signals> {
        let catch = |kind| signal(kind).map_err(|e| Error::io("catch", "signals", e));
        Ok(Signals {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hangup: catch(SignalKind::hangup())?,
            input: match end {
                EndOfInput::Ignored => None,
                EndOfInput::Stops => Some(listen_to_input()),
            },
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
            () = end_of(&mut self.input) => Asked::Stop,
        }
    }

    /// Waits for the next one that asks to stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

/// What the end of standard input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndOfInput {
    /// Nothing.
    Ignored,
    /// That the node is to stop.
    Stops,
}

/// Tells when standard input ends. The thread that waits for it is not waited for.
fn listen_to_input() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        files::wait_for_the_end_of_input();
        // Nobody listens once the node has stopped.
        let _ = sender.send(());
    });
    receiver
}

/// Waits for `input` to tell, which it does once.
async fn end_of(input: &mut Option<oneshot::Receiver<()>>) {
    match input {
        Some(told) => {
            let _ = told.await;
            *input = None;
        }
        None => std::future::pending().await,
    }
}
