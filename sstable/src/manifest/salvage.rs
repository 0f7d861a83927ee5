//! What still verifies of a damaged manifest.
//!
//! The edits before the first bad frame add up to a state that was once true. Frames behind it verify
//! by themselves, since a frame is keyed by its file and its place; their edits happened, but not
//! all edits between are known.

use super::edit::Edit;
use super::log::{may_be_torn, read};
use super::reader::{ManifestHeader, ManifestReader};
use super::state::State;
use base::error::Category;
use base::fs::Fs;
use base::{Corruption, Result};

/// What still verifies of a manifest.
#[derive(Clone, Debug)]
pub struct ManifestSalvage {
    /// What stands at its front.
    pub header: ManifestHeader,
    /// What the edits before the first bad frame add up to.
    pub state: State,
    /// These edits, the first one included.
    pub edits: Vec<Edit>,
    /// Edits behind the first bad frame.
    pub later: Vec<Edit>,
    /// Where the first bad frame starts and what is wrong with it; none if the manifest is whole,
    /// or was cut where a crash may cut it.
    pub damage: Option<(u64, Corruption)>,
}

/// Reads manifest `number`; `None` if not even its header verifies, or it is another manifest.
pub fn salvage(fs: &dyn Fs, number: u64) -> Result<Option<ManifestSalvage>> {
    let (path, bytes) = match read(fs, number) {
        Ok(found) => found,
        Err(error) if error.category() == Category::Critical => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut reader = match ManifestReader::new(&path, &bytes) {
        Ok(reader) => reader,
        Err(error) if error.category() == Category::Critical => return Ok(None),
        Err(error) => return Err(error),
    };
    let header = *reader.header();
    if header.number != number {
        return Ok(None);
    }
    let (state, edits, later) = (State::default(), Vec::new(), Vec::new());
    let mut salvage = ManifestSalvage { header, state, edits, later, damage: None };
    salvage.damage = salvage.follow(&mut reader);
    if salvage.damage.is_none() && salvage.edits.is_empty() {
        // A manifest starts with an edit that says everything.
        salvage.damage = Some((reader.offset(), Corruption::Truncated));
    }
    if salvage.damage.is_some() {
        while let Some(entry) = reader.next_verifying() {
            salvage.later.extend(entry.edit().ok().flatten());
        }
    }
    Ok(Some(salvage))
}

impl ManifestSalvage {
    /// Adds up edits to the first bad frame.
    fn follow(&mut self, reader: &mut ManifestReader<'_>) -> Option<(u64, Corruption)> {
        loop {
            let offset = reader.offset();
            let added = match reader.next_entry() {
                Ok(None) => return None,
                Ok(Some(entry)) => entry.edit().and_then(|edit| self.add(edit)),
                Err(found) => {
                    let is_torn = may_be_torn(found) && reader.promise_ahead() <= offset;
                    return (!is_torn).then_some((offset, found));
                }
            };
            if let Err(found) = added {
                return Some((offset, found));
            }
        }
    }

    fn add(&mut self, edit: Option<Edit>) -> Result<(), Corruption> {
        if let Some(edit) = edit {
            self.state.apply(&edit)?;
            self.edits.push(edit);
        }
        Ok(())
    }

    /// All edits that verify.
    pub fn all_edits(&self) -> impl Iterator<Item = &Edit> {
        self.edits.iter().chain(&self.later)
    }
}
