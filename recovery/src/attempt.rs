//! What one open has made so far: removed again if it fails before its root counts.

use base::fs::Fs;
use base::{FileName, RelPath};
use sstable::manifest::{Root, read_root};

/// The files that this open has made.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    made: Vec<RelPath>,
    is_committing: bool,
}

impl Attempt {
    /// Notes `name` before it is created.
    pub(crate) fn will_make(&mut self, name: FileName) {
        self.made.push(name.path());
    }

    /// Notes files that exist already.
    pub(crate) fn has_made(&mut self, files: &[RelPath]) {
        self.made.extend_from_slice(files);
    }

    /// Notes that the root is about to be replaced.
    pub(crate) fn will_commit(&mut self) {
        self.is_committing = true;
    }

    /// After a failure: removes everything again, unless the root may count already. `before` is
    /// the root that counted when the attempt began.
    pub(crate) fn fail(&self, fs: &dyn Fs, before: &Root) {
        let may_count = || read_root(fs).map_or(true, |roots| roots.root != *before);
        if !self.is_committing || !may_count() {
            self.undo(fs);
        }
    }

    /// Removes everything again, the newest file first, so that what is left if it dies here is
    /// what an attempt cut short earlier leaves. What can not be removed the next open finds.
    fn undo(&self, fs: &dyn Fs) {
        for path in [&FileName::CurrentTemp.path()].into_iter().chain(self.made.iter().rev()) {
            let _ = fs.remove(path);
        }
    }
}
