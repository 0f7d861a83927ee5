//! From an open database to a closed one: the threads of a node, and the order in which they end.

use super::node::Node;
use super::server::{EndOfInput, Listener, run};
use super::settings::Settings;
use crate::error::Outcome;
use crate::place::{Directory, Place};
use crate::replicas::Replicas;
use base::Error;
use esker_node::health::Timing;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Threads that answer connections; the work is done by those that may block.
const WORKER_THREADS: usize = 2;
/// Threads that may block in the engine at a time.
const BLOCKING_THREADS_MAX: usize = 64;
/// How long work that nobody waits for may go on at the end.
const WORK_PATIENCE: Duration = Duration::from_secs(5);

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

/// Serves `directory` until a signal, then closes it. Tells `ready` once it serves.
pub(crate) fn serve(
    directory: Directory,
    replicas: Box<dyn Replicas>,
    settings: &Settings,
    ready: impl FnOnce(&Ready) -> Outcome,
) -> Outcome {
    let runtime = runtime()?;
    let node = Node::new(directory.clone(), replicas, settings.role, settings.thresholds);
    let node = Arc::new(node);
    node.watch(Timing::default())?;
    let end = if settings.end_with_input { EndOfInput::Stops } else { EndOfInput::Ignored };
    let served = runtime.block_on(async {
        let listener = Listener::bind(settings.http, end).await?;
        ready(&Ready {
            node: directory.db().identity().node.to_string(),
            listen: node.replicas().listens_at().to_string(),
            http: listener.address().to_string(),
        })?;
        run(listener, node.clone()).await;
        Ok(())
    });
    node.replicas().shutdown();
    runtime.shutdown_timeout(WORK_PATIENCE);
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
