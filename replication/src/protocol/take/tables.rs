//! Tables into an empty scope: one file after the other, from where an earlier try broke off.

use super::{Course, STATE_WAIT_MAX, Take};
use crate::error::ProtocolError;
use crate::protocol::config::{Event, Tier};
use crate::protocol::message::{Message, Want, Wish};
use crate::store::{ExportFile, ExportHead, Import, Settled, Store};
use base::Error;
use std::collections::VecDeque;
use std::time::Duration;

/// How often it is asked whether files are verified, once all are here.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Files of a giver on their way in.
pub(super) struct Importing {
    import: Box<dyn Import>,
    /// Those that are not complete; the first is on its way.
    files: VecDeque<ExportFile>,
    at: u64,
    until: Duration,
}

impl Importing {
    /// When to look at it although nothing comes.
    pub(super) fn timeout(&self) -> Duration {
        self.until
    }
}

impl Take {
    pub(super) fn tables_head(
        &mut self,
        now: Duration,
        store: &dyn Store,
        head: &ExportHead,
    ) -> Result<(), ProtocolError> {
        if !matches!(self.course, Course::Asked { wish: Wish::Tables, .. }) {
            return Err(ProtocolError::Unexpected { what: "list of tables" });
        }
        if !self.check_head(now, store, &head.state, head.clock)? {
            return Ok(());
        }
        // Users do not write until all is here: only an empty scope takes tables.
        self.group.close(store)?;
        if !store.is_empty(self.group.scope())? {
            self.group.release(store, self.peer)?;
            return self.choose(now, store);
        }
        let import = match store.import(self.group.scope(), head) {
            // The tables are ahead, though the head is not.
            Err(Error::ClockSkew { by_ms, .. }) => {
                self.group.release(store, self.peer)?;
                self.park(now, by_ms);
                return Ok(());
            }
            // The tables can not be taken here: what they hold can be.
            Err(Error::InvalidInput { .. }) => {
                self.group.release(store, self.peer)?;
                return self.go_without_tables(now, store);
            }
            import => import?,
        };
        self.events.push(Event::Chose(Tier::Tables));
        let files = head.files.iter().cloned().collect();
        let until = now + STATE_WAIT_MAX;
        self.course = Course::Importing(Importing { import, files, at: 0, until });
        self.next_file(now, store)
    }

    /// Asks for the first file that is not complete, if there is one.
    fn next_file(&mut self, now: Duration, store: &dyn Store) -> Result<(), ProtocolError> {
        let Course::Importing(importing) = &mut self.course else { return Ok(()) };
        let received = importing.import.received();
        let have = |id| received.iter().find(|(of, _)| *of == id).map_or(0, |(_, len)| *len);
        while importing.files.front().is_some_and(|file| have(file.id) >= file.len) {
            importing.files.pop_front();
        }
        let Some(file) = importing.files.front() else { return self.go_on_importing(now, store) };
        importing.at = have(file.id);
        let (scope, round, wish) = (self.group.scope().0, self.round, Wish::File as u8);
        let (file, offset, vector) = (file.id, importing.at, Vec::new());
        self.to_send = Some(Message::Want(Want { scope, round, wish, vector, file, offset }));
        Ok(())
    }

    /// Looks at the files that are complete: installs all once they are verified. That is this
    /// node's own work, so the peer is not to blame for how long it takes.
    pub(super) fn go_on_importing(
        &mut self,
        now: Duration,
        store: &dyn Store,
    ) -> Result<(), ProtocolError> {
        let Course::Importing(importing) = &mut self.course else { return Ok(()) };
        let settled = importing.import.settle().map_err(damaged)?;
        if !importing.files.is_empty() {
            return Ok(());
        }
        if settled == Settled::NotYet {
            importing.until = now + LOOK_EVERY;
            return Ok(());
        }
        let idle = Course::Idle { until: now };
        if let Course::Importing(importing) = std::mem::replace(&mut self.course, idle) {
            importing.import.install().map_err(|error| ProtocolError::refused("tables", error))?;
        }
        self.group.settle();
        self.finish(now, store, Tier::Tables)
    }

    pub(super) fn file_bytes(
        &mut self,
        now: Duration,
        store: &dyn Store,
        id: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ProtocolError> {
        let unexpected = ProtocolError::Unexpected { what: "piece of a file" };
        let Course::Importing(importing) = &mut self.course else { return Err(unexpected) };
        let Some(file) = importing.files.front().filter(|file| file.id == id) else {
            return Err(unexpected);
        };
        let end = offset.saturating_add(bytes.len() as u64);
        if offset != importing.at || end > file.len || bytes.is_empty() {
            let (expected, found) = (importing.at, offset);
            return Err(ProtocolError::OutOfPlace { what: "piece of a file", expected, found });
        }
        importing
            .import
            .add(id, offset, bytes)
            .map_err(|error| ProtocolError::refused("file", error))?;
        importing.at = end;
        importing.until = now + STATE_WAIT_MAX;
        if end == file.len { self.next_file(now, store) } else { Ok(()) }
    }
}

/// What does not verify here did not at the giver.
fn damaged(error: Error) -> ProtocolError {
    match error {
        Error::Corrupt { .. } => ProtocolError::FileDamaged,
        error => error.into(),
    }
}
