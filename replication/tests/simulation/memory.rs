//! A machine with a [`MemoryStore`].

use crate::story::machine::{Chore, Content, Loss, Machine};
use base::{Identity, Incarnation, Result, ScopeId, Tick, Vector};
use replication::link::Bell;
use replication::memory::{Backup, MemoryStore, SyncWhen, Write};
use replication::store::Store;
use std::sync::Arc;

/// Entries of the log that are left when it is trimmed.
const LOG_KEPT: usize = 3;

/// See the module.
pub(crate) struct MemoryMachine {
    identity: Identity,
    store: MemoryStore,
    bell: Bell,
}

impl MemoryMachine {
    fn replace(&mut self, store: MemoryStore, incarnation: Incarnation) {
        store.set_sync(SyncWhen::Told);
        self.store = store;
        self.identity.incarnation = incarnation;
    }
}

impl Machine for MemoryMachine {
    type Backup = Backup;

    fn new(identity: Identity, wall_ms: u64) -> MemoryMachine {
        let store = MemoryStore::new(identity.node, identity.incarnation, wall_ms);
        store.set_sync(SyncWhen::Told);
        MemoryMachine { identity, store, bell: Bell::default() }
    }

    fn identity(&self) -> Identity {
        Identity { incarnation: self.store.origin().incarnation, ..self.identity }
    }

    fn start(&mut self, bell: &Bell) -> Result<Arc<dyn Store>> {
        self.bell = bell.clone();
        Ok(Arc::new(self.store.clone()))
    }

    fn stop(&mut self) -> Result<()> {
        self.store.sync();
        self.store.reopen(ScopeId::MAIN)
    }

    fn crash(&mut self, loss: Loss) {
        if loss == Loss::Nothing {
            self.store.sync();
        }
        self.store.crash();
    }

    fn write(&mut self, writes: &[Write]) -> Result<Tick> {
        let tick = self.store.write(writes)?;
        self.bell.ring();
        Ok(tick)
    }

    fn sync(&mut self) -> Result<()> {
        if self.durable() != self.applied() {
            self.store.sync();
            self.bell.ring();
        }
        Ok(())
    }

    fn durable(&self) -> Vector {
        self.store.durable(ScopeId::MAIN)
    }

    fn applied(&self) -> Vector {
        self.store.applied(ScopeId::MAIN)
    }

    fn content(&self) -> Result<Content> {
        Ok(self.store.dump())
    }

    fn back_up(&mut self) -> Result<Backup> {
        Ok(self.store.backup())
    }

    fn restore(&mut self, backup: &Backup, incarnation: Incarnation, wall_ms: u64) {
        self.replace(MemoryStore::restore(backup, incarnation, wall_ms), incarnation);
    }

    fn wipe(&mut self, incarnation: Incarnation, wall_ms: u64) {
        self.replace(MemoryStore::new(self.identity.node, incarnation, wall_ms), incarnation);
    }

    fn set_wall_ms(&mut self, wall_ms: u64) {
        self.store.set_wall_ms(wall_ms);
    }

    fn tidy(&mut self, chore: Chore) -> Result<()> {
        match chore {
            Chore::Collect => self.store.collect(),
            Chore::TrimLog => self.store.trim_log(LOG_KEPT),
        }
        Ok(())
    }
}
