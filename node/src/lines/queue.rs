//! Lines on their way to a file: whoever has one leaves it and goes on, a thread writes it.
//!
//! ```text
//! line ──lock──> bytes that wait ──swap──> bytes that are written ──line by line──> file
//! ```
//!
//! To wake a thread costs more than a line, so it is woken for the first line only, and then lets others come for
//! a moment before it takes them all.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait, at the most, and one line more.
const BYTES_MAX: usize = 4 << 20;
/// How long others are let come once there is a line.
const GATHER: Duration = Duration::from_millis(2);
/// How long the end waits for a file that takes nothing.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// What a full queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Drops lines, and counts them.
    Drops,
    /// Lets whoever has a line wait.
    Waits,
}

/// See the module. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct Queue {
    shared: Arc<Shared>,
}

/// Writes what waits when it is dropped, unless the file takes nothing.
#[derive(Debug)]
pub struct Drain {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    overflow: Overflow,
    waiting: Mutex<Waiting>,
    /// There is a line, or the end has come.
    came: Condvar,
    /// There is room again, or all is written.
    went: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
    dropped: u64,
    /// The thread has to be woken.
    is_asleep: bool,
    is_ending: bool,
    has_ended: bool,
}

impl Queue {
    /// A queue in front of `output`, and what ends it.
    pub fn new(
        output: impl Write + Send + 'static,
        overflow: Overflow,
    ) -> io::Result<(Queue, Drain)> {
        let shared = Arc::new(Shared {
            overflow,
            waiting: Mutex::default(),
            came: Condvar::new(),
            went: Condvar::new(),
        });
        let of_thread = shared.clone();
        let thread = thread::Builder::new().name("esker-log".to_owned());
        thread.spawn(move || of_thread.write_all(output))?;
        Ok((Queue { shared: shared.clone() }, Drain { shared }))
    }

    /// Lines that were dropped so far, or could not be written.
    pub fn dropped(&self) -> u64 {
        self.shared.locked().dropped
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, Waiting> {
        // What waits is whole at any time.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.locked();
        while waiting.bytes.len() >= BYTES_MAX && !waiting.has_ended {
            if self.overflow == Overflow::Drops {
                waiting.dropped += 1;
                return;
            }
            waiting = self.went.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.bytes.extend_from_slice(line);
        let end = waiting.bytes.len();
        waiting.ends.push(end);
        if std::mem::take(&mut waiting.is_asleep) {
            drop(waiting);
            self.came.notify_one();
        }
    }

    /// Writes lines until the end.
    fn write_all(&self, mut output: impl Write) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        loop {
            let mut waiting = self.locked();
            while waiting.ends.is_empty() && !waiting.is_ending {
                waiting.is_asleep = true;
                waiting = self.came.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            waiting.is_asleep = false;
            if !waiting.is_ending {
                drop(waiting);
                thread::sleep(GATHER);
                waiting = self.locked();
            }
            std::mem::swap(&mut bytes, &mut waiting.bytes);
            std::mem::swap(&mut ends, &mut waiting.ends);
            let is_last = ends.is_empty();
            waiting.has_ended = is_last;
            drop(waiting);
            self.went.notify_all();
            if is_last {
                return;
            }
            let (mut start, mut lost) = (0, 0);
            for end in ends.drain(..) {
                // There is nowhere to say so; whoever counts sees it.
                let written = output.write_all(bytes.get(start..end).unwrap_or_default());
                lost += u64::from(written.is_err());
                start = end;
            }
            let _ = output.flush();
            bytes.clear();
            if lost > 0 {
                self.locked().dropped += lost;
            }
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let mut waiting = self.shared.locked();
        waiting.is_ending = true;
        self.shared.came.notify_one();
        let ended = self
            .shared
            .went
            .wait_timeout_while(waiting, END_PATIENCE, |waiting| !waiting.has_ended);
        drop(ended);
    }
}

/// Takes lines, one a call.
#[derive(Debug)]
pub struct Mouth<'a>(&'a Shared);

impl Write for Mouth<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Mouth<'a>;

    fn make_writer(&'a self) -> Mouth<'a> {
        Mouth(&self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// How long anything may take that only has to happen.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A file that takes lines while its gate is open, and tells each.
    struct Gated {
        gate: Arc<Mutex<()>>,
        lines: Sender<String>,
    }

    impl Write for Gated {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            drop(self.gate.lock().unwrap());
            self.lines.send(String::from_utf8(line.to_vec()).unwrap()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Gated, Arc<Mutex<()>>, Receiver<String>) {
        let (gate, (lines, written)) = (Arc::new(Mutex::new(())), channel());
        (Gated { gate: gate.clone(), lines }, gate, written)
    }

    fn write(queue: &Queue, line: &str) {
        queue.make_writer().write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn every_line_is_written_whole_and_those_of_a_thread_in_their_order() {
        let (file, _gate, written) = gated();
        let (queue, drain) = Queue::new(file, Overflow::Drops).unwrap();
        thread::scope(|scope| {
            for name in ["a", "b", "c"] {
                let queue = &queue;
                scope.spawn(move || (0..2000).for_each(|n| write(queue, &format!("{name}{n}\n"))));
            }
        });
        drop(drain);
        let lines: Vec<String> = written.try_iter().collect();
        for name in ["a", "b", "c"] {
            let of_one = lines.iter().filter(|line| line.starts_with(name));
            assert!(of_one.cloned().eq((0..2000).map(|n| format!("{name}{n}\n"))), "{name}");
        }
        assert_eq!((lines.len(), queue.dropped()), (6000, 0));
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_takes_lines_again_once_there_is_room() {
        let (file, gate, written) = gated();
        let (queue, drain) = Queue::new(file, Overflow::Drops).unwrap();
        let line = "x".repeat(64 << 10);
        let shut = gate.lock().unwrap();
        // What waits, and what the thread holds already.
        let pushed = 3 * BYTES_MAX / line.len();
        (0..pushed).for_each(|_| write(&queue, &line));
        assert!(queue.dropped() >= (pushed - 2 * (BYTES_MAX / line.len() + 1)) as u64);
        drop(shut);
        let kept = pushed - usize::try_from(queue.dropped()).unwrap();
        for _ in 0..kept {
            assert_eq!(written.recv_timeout(PATIENCE).unwrap().len(), line.len());
        }
        write(&queue, "again");
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), "again");
        drop(drain);
        assert_eq!(written.try_iter().count(), 0);
    }

    #[test]
    fn a_full_queue_that_waits_loses_nothing() {
        let (file, gate, written) = gated();
        let (queue, drain) = Queue::new(file, Overflow::Waits).unwrap();
        let line = "x".repeat(256 << 10);
        let shut = gate.lock().unwrap();
        let pushed = 4 * BYTES_MAX / line.len();
        thread::scope(|scope| {
            let pusher = scope.spawn(|| (0..pushed).for_each(|_| write(&queue, &line)));
            thread::sleep(20 * GATHER);
            assert!(!pusher.is_finished(), "there is no room for all");
            drop(shut);
        });
        drop(drain);
        assert_eq!((written.try_iter().count(), queue.dropped()), (pushed, 0));
    }

    /// A disk that is full for every other line.
    struct Full(Vec<String>, Sender<String>);

    impl Write for Full {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.push(String::from_utf8(line.to_vec()).unwrap());
            if self.0.len().is_multiple_of(2) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.send(String::new()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted() {
        for overflow in [Overflow::Drops, Overflow::Waits] {
            let (lines, written) = channel();
            let (queue, drain) = Queue::new(Full(Vec::new(), lines), overflow).unwrap();
            (0..10).for_each(|n| write(&queue, &format!("{n}\n")));
            drop(drain);
            assert_eq!((written.try_iter().count(), queue.dropped()), (5, 5), "{overflow:?}");
        }
    }

    #[test]
    fn the_end_does_not_wait_for_a_file_that_takes_nothing() {
        let (file, gate, written) = gated();
        let (queue, drain) = Queue::new(file, Overflow::Waits).unwrap();
        let shut = gate.lock().unwrap();
        write(&queue, "never");
        drop(drain);
        assert_eq!(written.try_iter().count(), 0);
        drop(shut);
    }
}
