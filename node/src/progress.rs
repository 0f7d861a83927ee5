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

    /// So many steps of so many are done.
    fn show(&self, done: u64, total: u64) {
        self.bar.set_length(total.max(1));
        self.bar.set_position(done);
    }

    /// `count` more steps are done.
    pub(crate) fn add(&self, count: u64) {
        self.bar.inc(count);
    }
}

/// Runs `job`, which tells `progress` how many bytes it has done, and shows them meanwhile.
pub(crate) fn watch<T>(
    output: &Output,
    what: &'static str,
    progress: &engine::Progress,
    job: impl FnOnce() -> T,
) -> T {
    let bar = Progress::new(output, what, 1);
    if bar.bar.is_hidden() {
        return job();
    }
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let bar = &bar;
        scope.spawn(move || {
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
