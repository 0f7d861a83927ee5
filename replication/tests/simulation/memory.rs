//! A machine with a [`MemoryStore`].

use crate::story::machine::{Chore, Content, Loss, Machine, Now};
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
    now: Now,
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

    const COPIES_OF_LATE: usize = 1;

    fn new(identity: Identity, now: Now) -> MemoryMachine {
        let store = MemoryStore::new(identity.node, identity.incarnation, now.wall_ms);
        store.set_sync(SyncWhen::Told);
        MemoryMachine { identity, store, bell: Bell::default(), now }
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

    fn crash(&mut self, loss: Loss) -> Result<()> {
        if loss == Loss::Nothing {
            self.store.sync();
        }
        self.store.crash();
        Ok(())
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

    fn restore(&mut self, backup: &Backup, incarnation: Incarnation) -> Result<()> {
        let restored = MemoryStore::restore(backup, incarnation, self.now.wall_ms);
        self.replace(restored, incarnation);
        Ok(())
    }

    fn wipe(&mut self, incarnation: Incarnation) {
        let new = MemoryStore::new(self.identity.node, incarnation, self.now.wall_ms);
        self.replace(new, incarnation);
    }

    fn set_clock(&mut self, now: Now) {
        self.now = now;
        self.store.set_wall_ms(now.wall_ms);
    }

    fn tidy(&mut self, chore: Chore) -> Result<()> {
        match chore {
            Chore::Collect => self.store.collect(),
            Chore::TrimLog => self.store.trim_log(LOG_KEPT),
        }
        Ok(())
    }
}
