//! What all databases of a process share: memory for bodies, turns for long work, and turns on the threads that
//! answer. However many datasets there are, clients can ask for no more of it.

use super::life::QUICK_MAX;
use super::refusal::Refusal;
use esker_node::resilience::{Timeout, Timeouts};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Memory that bodies of requests and whole values may take, in KiB.
const BODY_MEMORY_KIB: u32 = 256 << 10;
/// Bytes of a body that are not counted.
const BODY_UNCOUNTED: usize = 64 << 10;
/// Scans and exports at a time.
const STREAMS_MAX: usize = 64;
/// Loads at a time.
pub(super) const LOADS_MAX: usize = 4;

/// Waits for peers at a time.
const WAITS_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Shares {
    timeouts: Timeouts,
    memory: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    loads: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    quick: Semaphore,
}

impl Shares {
    /// All of it is free.
    pub(super) fn new(timeouts: Timeouts) -> Shares {
        Shares {
            timeouts,
            memory: Arc::new(Semaphore::new(BODY_MEMORY_KIB as usize)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            loads: Arc::new(Semaphore::new(LOADS_MAX)),
            waits: Arc::new(Semaphore::new(WAITS_MAX)),
            quick: Semaphore::new(QUICK_MAX),
        }
    }

    /// Memory for `bytes`, waiting until others give some back. Small bodies are not counted: there are
    /// no more of them than connections, and they should not wait for large ones.
    pub(super) async fn memory(
        &self,
        bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        if bytes <= BODY_UNCOUNTED {
            return Ok(None);
        }
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, BODY_MEMORY_KIB);
        self.share(&self.memory, kib, "memory for bodies of requests").await.map(Some)
    }

    /// The right to stream records.
    pub(super) async fn stream(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.share(&self.streams, 1, "scans at a time").await
    }

    /// The right to load records.
    pub(super) async fn load(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.share(&self.loads, 1, "loads at a time").await
    }

    /// The right to wait for peers.
    pub(super) async fn wait(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.share(&self.waits, 1, "waits for peers at a time").await
    }

    /// The right to work for a moment on a thread that answers, if there is one now.
    pub(super) fn quick(&self) -> Option<SemaphorePermit<'_>> {
        self.quick.try_acquire().ok()
    }

    /// Loads that may begin now.
    #[cfg(test)]
    pub(super) fn free_loads(&self) -> usize {
        self.loads.available_permits()
    }

    async fn share(
        &self,
        of: &Arc<Semaphore>,
        count: u32,
        what: &str,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let patience = self.timeouts.get(Timeout::Share);
        match tokio::time::timeout(patience, of.clone().acquire_many_owned(count)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Refusal::overloaded(what)),
        }
    }
}
