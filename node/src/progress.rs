//! A progress bar on standard error, only where a person watches.

use crate::output::Output;
use indicatif::{ProgressBar, ProgressStyle};
use std::borrow::Cow;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Between two looks at a job's progress.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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

    /// Progress of `what` in bytes, before it is known how many there are.
    fn of_bytes(what: &'static str) -> Progress {
        let bar = ProgressBar::new_spinner();
        bar.set_message(Cow::Borrowed(what));
        Progress { bar }
    }

    /// So many bytes of so many are done; a total of zero is unknown.
    fn show(&self, done: u64, total: u64) {
        let (template, len) = match total {
            0 => ("{spinner} {msg} {elapsed}", None),
            _ => ("{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {eta}", Some(total)),
        };
        if self.bar.length() != len || len.is_none() {
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            len.map_or_else(|| self.bar.unset_length(), |len| self.bar.set_length(len));
        }
        self.bar.set_position(done);
        self.bar.tick();
    }

    /// `count` more steps are done.
    pub(crate) fn add(&self, count: u64) {
        self.bar.inc(count);
    }
}

/// Runs `job`, which tells `progress` how many bytes it has done, and shows them meanwhile. As long as
/// it does not know how many there will be, the time that it takes is shown.
pub(crate) fn watch<T>(
    output: &Output,
    what: &'static str,
    progress: &engine::Progress,
    job: impl FnOnce() -> T,
) -> T {
    if !output.shows_progress() {
        return job();
    }
    let bar = Progress::of_bytes(what);
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let bar = &bar;
        scope.spawn(move || {
            bar.show(progress.bytes_done(), progress.bytes_total());
            while is_done.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                bar.show(progress.bytes_done(), progress.bytes_total());
            }
        });
        let result = job();
        drop(done);
        result
    })
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
