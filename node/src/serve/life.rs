//! From an open database to a closed one: the threads of a node, and the order in which they end.

use super::node::{Node, Reread};
use super::server::{Listener, run};
use super::settings::Settings;
use super::signals::EndOfInput;
use crate::error::Outcome;
use crate::place::{Directory, Place};
use crate::replicas::Replicas;
use base::Error;
use esker_node::resilience::Timeout;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// Threads that answer connections; the work is done by those that may block.
const WORKER_THREADS: usize = 2;
/// Threads that may block in the engine at a time.
const BLOCKING_THREADS_MAX: usize = 64;

/// The node serves.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Ready {
    /// Its name.
    pub(crate) node: String,
    /// Where peers connect.
    pub(crate) listen: String,
    /// Where users connect.
    pub(crate) http: String,
}

/// Serves `directory` until a signal, then closes it. Tells `ready` once it serves. Asks `reread` for the
/// configuration when SIGHUP comes.
pub(crate) fn serve(
    directory: Directory,
    replicas: Box<dyn Replicas>,
    settings: &Settings,
    reread: Reread,
    ready: impl FnOnce(&Ready) -> Outcome,
) -> Outcome {
    let runtime = runtime()?;
    let node = Arc::new(Node::new(directory.clone(), replicas, settings, reread));
    node.watch(&settings.config)?;
    let end = if settings.end_with_input { EndOfInput::Stops } else { EndOfInput::Ignored };
    let served = runtime.block_on(async {
        let listener = Listener::bind(settings.http, end).await?;
        ready(&Ready {
            node: directory.db().identity().node.to_string(),
            listen: node.replicas().listens_at().to_string(),
            http: listener.address().to_string(),
        })?;
        tracing::info!(http = %listener.address(), "serving");
        run(listener, node.clone()).await;
        tracing::info!("no requests any more");
        Ok(())
    });
    node.replicas().shutdown();
    runtime.shutdown_timeout(node.timeout(Timeout::Close));
    let closed = Box::new(directory).close();
    served.and(closed)
}

fn runtime() -> Outcome<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("esker-serve")
        .enable_all()
        .build();
    Ok(runtime.map_err(|e| Error::io("start", "threads", e))?)
}
