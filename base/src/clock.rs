//! The seam to time. The only file that reads the wall clock.

use std::time::{Duration, Instant, SystemTime};

/// What the engine asks of a clock.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump either way; ticks do not.
    fn wall_ms(&self) -> u64;
    /// Time since some fixed moment. Never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock. Wall time is read at the kernel's tick (1 to 4 ms), which is what a tick's
/// millisecond part needs and costs a fifth of the exact reading.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn wall_ms(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
    }

    #[cfg(not(target_os = "linux"))]
    fn wall_ms(&self) -> u64 {
        exact_wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The wall clock to the millisecond, for reports; not for ticks.
pub fn exact_wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A clock that stands still until a test moves it.
#[cfg(any(test, feature = "sim"))]
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ms: std::sync::atomic::AtomicU64,
}

#[cfg(any(test, feature = "sim"))]
impl ManualClock {
    /// A clock that shows `wall_ms`.
    pub fn at(wall_ms: u64) -> ManualClock {
        ManualClock { wall_ms: wall_ms.into() }
    }

    /// Sets the wall clock, forwards or backwards.
    pub fn set(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(any(test, feature = "sim"))]
impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.wall_ms())
    }
}
