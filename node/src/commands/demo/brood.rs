//! The processes that the demonstration starts, and the directory they work in.
//!
//! None of them outlives it. They are killed when it ends, however that comes about: by its return,
//! by a failed check, or by a signal, for which a thread waits. What even that can not see, such as
//! SIGKILL, ends the pipe that each of them reads, and they stop at the end of it.

use crate::error::{Exit, Failure, Outcome};
use crate::files::Scratch;
use crate::output::Format;
use base::Error;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a process may take to end by itself, in steps of so long.
const END_STEPS_MAX: u32 = 2_000;
const END_STEP: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct Brood {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    children: BTreeMap<u32, Child>,
    scratch: Option<Scratch>,
    is_over: bool,
}

/// A process of the brood and the ends of its pipes.
pub(super) struct Hatched {
    /// Its number.
    pub(super) id: u32,
    /// Its standard input.
    pub(super) stdin: Option<ChildStdin>,
    /// Its standard output.
    pub(super) stdout: Option<ChildStdout>,
}

impl Brood {
    /// Nobody yet, at home in `scratch`. From here on signals end them all, and this process, which
    /// says so in `format`.
    pub(super) fn new(scratch: Scratch, format: Format) -> Outcome<Brood> {
        let path = scratch.path().to_path_buf();
        let state = State { scratch: Some(scratch), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let watch = Watch::new()?;
        let watched = state.clone();
        thread::spawn(move || watch.run(&watched, format));
        Ok(Brood { path, state })
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts this very program with other arguments.
    pub(super) fn start(&self, arguments: &[OsString]) -> Outcome<Hatched> {
        let program = std::env::current_exe().map_err(|e| broken("find", e))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // The same whatever the user has set; what goes wrong is told, nothing else.
        let settings = std::env::vars_os().map(|(name, _)| name);
        settings.filter(|name| name.to_string_lossy().starts_with("ESKER_")).for_each(|name| {
            command.env_remove(name);
        });
        command.env("ESKER_LOG_LEVEL", "error");
        let mut state = self.state();
        if state.is_over {
            return Err(interrupted());
        }
        let mut child = command.spawn().map_err(|e| broken("start", e))?;
        let (id, stdin, stdout) = (child.id(), child.stdin.take(), child.stdout.take());
        state.children.insert(id, child);
        Ok(Hatched { id, stdin, stdout })
    }

    /// Kills a process by SIGKILL.
    pub(super) fn kill(&self, id: u32) -> Outcome {
        let Some(mut child) = self.state().children.remove(&id) else { return Ok(()) };
        child.kill().map_err(|e| broken("kill", e))?;
        child.wait().map_err(|e| broken("wait for", e))?;
        Ok(())
    }

    /// Waits for a process that ends by itself; kills it if it does not.
    pub(super) fn wait(&self, id: u32) -> Outcome<Option<ExitStatus>> {
        for _ in 0..END_STEPS_MAX {
            let mut state = self.state();
            let Some(child) = state.children.get_mut(&id) else { return Ok(None) };
            let status = child.try_wait().map_err(|e| broken("wait for", e))?;
            if status.is_some() {
                state.children.remove(&id);
                return Ok(status);
            }
            drop(state);
            thread::sleep(END_STEP);
        }
        self.kill(id).map(|()| None)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Brood {
    /// If a signal was first, this waits for the thread that ends everything.
    fn drop(&mut self) {
        self.state().end();
    }
}

impl State {
    fn end(&mut self) {
        self.is_over = true;
        for child in self.children.values_mut() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
        self.scratch = None;
    }
}

/// Waits for a signal.
struct Watch {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Watch {
    /// From here on they are caught.
    fn new() -> Outcome<Watch> {
        let runtime = Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(|e| Error::io("start", "a watch for signals", e))?;
        let (terminate, interrupt) = {
            let _inside = runtime.enter();
            let catch = |kind| signal(kind).map_err(|e| Error::io("catch", "signals", e));
            (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?)
        };
        Ok(Watch { runtime, terminate, interrupt })
    }

    /// Ends the brood and this process at the first signal.
    fn run(self, brood: &Mutex<State>, format: Format) {
        let Watch { runtime, mut terminate, mut interrupt } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let mut state = brood.lock().unwrap_or_else(PoisonError::into_inner);
        state.end();
        let failure = interrupted();
        let line = match format {
            Format::Text => failure.to_text(),
            Format::Json => failure.to_json(),
        };
        // Nobody is left to tell when standard error is gone.
        let _ = writeln!(std::io::stderr(), "{line}");
        std::process::exit(i32::from(failure.exit() as u8));
    }
}

fn interrupted() -> Failure {
    let message = "a signal stopped it; the processes that it had started have ended";
    Failure::new(Exit::Other, "Interrupted", message).action("start it again")
}

/// What could not be done with a process.
pub(super) fn broken(action: &'static str, source: std::io::Error) -> Failure {
    Failure::from(Error::Io { action, path: "a process of its own".into(), source })
}
