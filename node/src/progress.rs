//! A progress bar on standard error, only where a person watches.

use crate::output::Output;
use indicatif::{ProgressBar, ProgressStyle};
use std::borrow::Cow;

/// The progress of one long job.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Progress of `what` towards `total` steps; a total of zero is unknown.
    pub(crate) fn new(output: &Output, what: &'static str, total: u64) -> Progress {
        if !output.shows_progress() {
            return Progress { bar: ProgressBar::hidden() };
        }
        let (bar, template) = match total {
            0 => (ProgressBar::new_spinner(), "{spinner} {msg} {human_pos} {per_sec}"),
            _ => (ProgressBar::new(total), "{msg} {wide_bar} {human_pos}/{human_len} {eta}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(Cow::Borrowed(what));
        Progress { bar }
    }

    /// `count` more steps are done.
    pub(crate) fn add(&self, count: u64) {
        self.bar.inc(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
