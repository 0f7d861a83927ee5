//! A database of the engine, as replication sees it. The only place where the two meet.

use crate::link::Bell;
use crate::roster::{Role, Roster};
use crate::store::{
    Admission, Answers, Delta, DeltaHead, EachEntry, Element, Export, ExportFile, ExportHead,
    Import, Installed, Moment, Outbound, Purpose, Settled, Spool, Stage, Store, Tail, keyspaces,
};
use base::state::StateEntry;
use base::{Error, KeyRanges, Origin, Result, ScopeId, Tick, Vector};
use engine::replicate as given;
use engine::{Db, SyncMode, WriteOptions};

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineStore {
    db: Db,
    replication: given::Replication,
    far_behind_bytes: u64,
}

/// Bytes of the log from which on a peer that lacks them gets a delta. Its entries come in order and go into
/// tables as they come, which costs the peer half as much; but all that is in memory is looked through for them,
/// and the peer makes a table. Of 100-byte records a delta of 1.2 MB costs both together what the log does, one of
/// 4.6 MB two thirds to four fifths of it.
pub const FAR_BEHIND_BYTES: u64 = 4 << 20;

impl EngineStore {
    /// The database `db`; `bell` is rung whenever its commits became durable, or wait for a sync.
    pub fn new(db: Db, bell: &Bell) -> EngineStore {
        let replication = db.replication();
        let bell = bell.clone();
        replication.on_commit(move |progress| {
            // What is durable soon is worth a look only then.
            if progress != given::Progress::Visible {
                bell.ring();
            }
        });
        EngineStore { db, replication, far_behind_bytes: FAR_BEHIND_BYTES }
    }

    /// The same, where peers that lack `bytes` of the log get a delta. Default [`FAR_BEHIND_BYTES`].
    pub fn far_behind(self, bytes: u64) -> EngineStore {
        EngineStore { far_behind_bytes: bytes, ..self }
    }
}

/// What the roster in a database says of its own node; none if it does not know it.
///
/// # Errors
/// Those of a read.
pub fn recorded_role(replication: &given::Replication) -> Result<Option<Role>> {
    let mut roster = Roster::default();
    replication
        .each_entry(keyspaces::ROSTER, |key, value, stamp| roster.note(key, value, stamp))?;
    Ok(roster.role(replication.origin().node))
}

impl Store for EngineStore {
    fn origin(&self) -> Origin {
        self.replication.origin()
    }

    fn wall_ms(&self) -> u64 {
        self.replication.wall_ms()
    }

    fn max_drift_ms(&self) -> u64 {
        self.replication.max_drift_ms()
    }

    fn applied(&self, scope: ScopeId) -> Vector {
        self.replication.applied(scope)
    }

    fn written(&self, scope: ScopeId) -> Vector {
        self.replication.written(scope)
    }

    fn durable(&self, scope: ScopeId) -> Vector {
        self.replication.durable(scope)
    }

    fn commits(&self, scope: ScopeId) -> u64 {
        self.replication.commits(scope)
    }

    fn renew(&self) -> Result<Origin> {
        self.replication.renew()
    }

    fn close(&self, scope: ScopeId) -> Result<()> {
        self.replication.close(scope)
    }

    fn reopen(&self, scope: ScopeId) -> Result<()> {
        self.replication.reopen(scope)
    }

    fn set_answers(&self, scope: ScopeId, answers: Answers) -> Result<()> {
        let answers = match answers {
            Answers::Author => given::Answers::Author,
            Answers::Reader => given::Answers::Reader,
        };
        self.replication.set_answers(scope, answers);
        Ok(())
    }

    fn request_sync(&self) {
        if let Err(error) = self.replication.request_sync() {
            tracing::warn!(code = error.code(), %error, "what was received can not be made durable");
        }
    }

    fn floor(&self, scope: ScopeId) -> Vector {
        self.replication.floor(scope)
    }

    fn raise_floor(&self, scope: ScopeId, floor: &Vector) -> Result<()> {
        self.replication.raise_floor(scope, floor)
    }

    fn dropped(&self, scope: ScopeId) -> Tick {
        self.replication.dropped(scope)
    }

    fn is_whole(&self, scope: ScopeId) -> bool {
        self.replication.is_whole(scope) && !self.replication.is_to_be_healed(scope)
    }

    fn missing(&self, scope: ScopeId) -> Result<Option<KeyRanges>> {
        self.replication.missing(scope)
    }

    fn is_empty(&self, scope: ScopeId) -> Result<bool> {
        self.replication.is_empty(scope)
    }

    fn tail(&self, scope: ScopeId, after: &Vector) -> Result<Box<dyn Tail>> {
        Ok(Box::new(self.replication.tail(scope, after)?))
    }

    fn prefers_delta(&self, scope: ScopeId, after: &Vector) -> Result<bool> {
        self.replication.prefers_delta(scope, after, self.far_behind_bytes)
    }

    fn admit(&self, shipment: &[u8]) -> Result<Admission> {
        Ok(self.replication.admit(shipment)?.into())
    }

    fn admit_all(&self, shipments: &[&[u8]]) -> Result<Vec<Admission>> {
        let admitted = self.replication.admit_all(shipments)?;
        Ok(admitted.into_iter().map(Admission::from).collect())
    }

    fn delta(&self, scope: ScopeId, after: &Vector) -> Result<Box<dyn Delta>> {
        self.db.sync()?;
        let delta = self.replication.delta(scope, after)?;
        let head = delta.head().clone().into();
        Ok(Box::new(EngineDelta { head, delta }))
    }

    fn delta_besides(
        &self,
        scope: ScopeId,
        after: &Vector,
        missing: &KeyRanges,
    ) -> Result<Box<dyn Delta>> {
        self.db.sync()?;
        let delta = self.replication.delta_besides(scope, after, missing)?;
        let head = delta.head().clone().into();
        Ok(Box::new(EngineDelta { head, delta }))
    }

    fn stage_besides(
        &self,
        scope: ScopeId,
        head: &DeltaHead,
        missing: &KeyRanges,
    ) -> Result<Box<dyn Stage>> {
        let stage = self.replication.stage_besides(scope, &head.clone().into(), missing)?;
        Ok(Box::new(stage))
    }

    fn stage(&self, scope: ScopeId, head: &DeltaHead, purpose: Purpose) -> Result<Box<dyn Stage>> {
        let purpose = match purpose {
            Purpose::CatchUp => given::Purpose::CatchUp,
            Purpose::Rejoin => given::Purpose::Rejoin,
            Purpose::Mend => given::Purpose::Mend,
            Purpose::Disown => given::Purpose::Disown,
        };
        let stage = self.replication.stage(scope, &head.clone().into(), purpose)?;
        Ok(Box::new(stage))
    }

    fn export(&self, scope: ScopeId) -> Result<Option<Box<dyn Export>>> {
        if self.replication.is_empty(scope)? {
            return Ok(None);
        }
        let export = self.replication.export(scope)?;
        let head = export.head().clone().into();
        Ok(Some(Box::new(EngineExport { head, export })))
    }

    fn import(&self, scope: ScopeId, head: &ExportHead) -> Result<Box<dyn Import>> {
        Ok(Box::new(self.replication.import(scope, &head.clone().into())?))
    }

    fn spool(&self) -> Result<Box<dyn Spool>> {
        Ok(Box::new(self.replication.spool()?))
    }

    fn elements(&self, scope: ScopeId) -> Result<Box<dyn Moment>> {
        let elements = self.replication.elements(scope)?;
        let head = elements.head().clone().into();
        Ok(Box::new(EngineMoment { head, elements }))
    }

    fn get(&self, keyspace: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.replication.existing_keyspace(keyspace) {
            Ok(keyspace) => Ok(keyspace.get(key)?.map(|value| value.to_vec())),
            Err(Error::KeyspaceNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn each_entry(&self, keyspace: &str, each: &mut EachEntry<'_>) -> Result<()> {
        self.replication.each_entry(keyspace, each)
    }

    fn put(&self, scope: ScopeId, keyspace: &str, key: &[u8], value: &[u8]) -> Result<Tick> {
        let keyspace = self.replication.keyspace(scope, keyspace)?;
        let mut batch = engine::Batch::new();
        batch.put(&keyspace, key, value);
        let options = WriteOptions { sync: Some(SyncMode::Sync) };
        self.db.write_with(batch, options)
    }
}

impl Tail for given::Tail {
    fn next(&mut self, known: &Vector, len_max: usize) -> Result<Option<Outbound>> {
        let found = given::Tail::next(self, known, len_max)?;
        Ok(found.map(|given::Outbound { origin, first, last, bytes }| Outbound {
            origin,
            first,
            last,
            bytes,
        }))
    }
}

struct EngineDelta {
    head: DeltaHead,
    delta: given::Delta,
}

impl Delta for EngineDelta {
    fn head(&self) -> &DeltaHead {
        &self.head
    }

    fn next(&mut self, len_max: usize) -> Result<Option<Vec<u8>>> {
        self.delta.next(len_max)
    }
}

struct EngineMoment {
    head: DeltaHead,
    elements: given::Elements,
}

impl Moment for EngineMoment {
    fn head(&self) -> &DeltaHead {
        &self.head
    }

    fn is_whole(&self) -> bool {
        self.elements.is_whole()
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Option<Element>) -> bool,
    ) -> Result<()> {
        self.elements.scan(from, to, &mut |name, element| {
            let element = element.map(|found| {
                let given::Element { stamp, carrier, is_erase, lasts_until_ms } = found;
                Element { stamp, carrier, is_erase, lasts_until_ms }
            });
            each(name, element)
        })
    }

    fn look_up(&self, name: &[u8], found: &mut dyn FnMut(&StateEntry<'_>)) -> Result<()> {
        self.elements.look_up(name, found)
    }
}

impl Spool for given::Spool {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        given::Spool::append(self, bytes)
    }

    fn read(&mut self, bytes: &mut [u8], offset: u64) -> Result<()> {
        given::Spool::read(self, bytes, offset)
    }
}

impl Stage for given::Stage {
    fn add(&mut self, chunk: &[u8]) -> Result<()> {
        given::Stage::add(self, chunk)
    }

    fn check_space(&self) -> Result<()> {
        given::Stage::check_space(self)
    }

    fn install(self: Box<Self>) -> Result<Installed> {
        Ok(match given::Stage::install(*self)? {
            given::Installed::All => Installed::All,
            given::Installed::Unanswered { late } => Installed::Unanswered { late },
            given::Installed::TooLittle => Installed::TooLittle,
        })
    }
}

struct EngineExport {
    head: ExportHead,
    export: given::Export,
}

impl Export for EngineExport {
    fn head(&self) -> &ExportHead {
        &self.head
    }

    fn read(&mut self, id: u64, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.export.read(id, offset, len)
    }
}

impl Import for given::Import {
    fn received(&self) -> Vec<(u64, u64)> {
        given::Import::received(self)
    }

    fn add(&mut self, id: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        given::Import::add(self, id, offset, bytes)
    }

    fn settle(&mut self) -> Result<Settled> {
        Ok(match given::Import::settle(self)? {
            given::Settled::Yes => Settled::Yes,
            given::Settled::NotYet => Settled::NotYet,
        })
    }

    fn install(self: Box<Self>) -> Result<()> {
        given::Import::install(*self)
    }
}

impl From<given::Admission> for Admission {
    fn from(admission: given::Admission) -> Admission {
        match admission {
            given::Admission::Taken { won, lost, late } => Admission::Taken { won, lost, late },
            given::Admission::Known => Admission::Known,
            given::Admission::Gap { have } => Admission::Gap { have },
            given::Admission::Fork { origin, at } => Admission::Fork { origin, at },
            given::Admission::ClockAhead { by_ms } => Admission::ClockAhead { by_ms },
            given::Admission::Unanswered { late } => Admission::Unanswered { late },
            given::Admission::TooManyAuthors => Admission::TooManyAuthors,
            given::Admission::Closed => Admission::Closed,
        }
    }
}

impl From<given::DeltaHead> for DeltaHead {
    fn from(head: given::DeltaHead) -> DeltaHead {
        let given::DeltaHead { vector, floor, dropped } = head;
        DeltaHead { vector, floor, dropped }
    }
}

impl From<DeltaHead> for given::DeltaHead {
    fn from(head: DeltaHead) -> given::DeltaHead {
        let DeltaHead { vector, floor, dropped } = head;
        given::DeltaHead { vector, floor, dropped }
    }
}

impl From<given::ExportHead> for ExportHead {
    fn from(head: given::ExportHead) -> ExportHead {
        let given::ExportHead { state, clock, catalog, files } = head;
        let file = |file: given::ExportFile| {
            let given::ExportFile { id, len, root } = file;
            ExportFile { id, len, root }
        };
        let files = files.into_iter().map(file).collect();
        ExportHead { state: state.into(), clock, catalog, files }
    }
}

impl From<ExportHead> for given::ExportHead {
    fn from(head: ExportHead) -> given::ExportHead {
        let ExportHead { state, clock, catalog, files } = head;
        let file = |file: ExportFile| {
            let ExportFile { id, len, root } = file;
            given::ExportFile { id, len, root }
        };
        let files = files.into_iter().map(file).collect();
        given::ExportHead { state: state.into(), clock, catalog, files }
    }
}
