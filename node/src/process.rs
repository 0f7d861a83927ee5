//! What this process uses of the machine, where the system tells: on Linux.

use crate::files;
use std::path::Path;
use std::time::Duration;

/// Where the system says how much memory a container may take.
const CONTAINER_LIMIT: &str = "/sys/fs/cgroup/memory.max";
/// Bytes of that at most.
const LIMIT_LEN_MAX: usize = 64;

/// What the process uses now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Processor time since it started, user and system.
    pub(crate) cpu: Duration,
    /// Bytes of memory that are resident.
    pub(crate) resident_bytes: u64,
    /// Open file handles.
    pub(crate) handles: u64,
    /// Threads.
    pub(crate) threads: u64,
}

/// What the whole machine has, and has left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
    /// Bytes of memory that could be had without swapping.
    pub(crate) memory_free_bytes: u64,
    /// Processor time of all cores since the machine started, in ticks.
    pub(crate) cpu_ticks: u64,
    /// Those of them in which nothing was to be done.
    pub(crate) idle_ticks: u64,
}

/// Bytes of memory that this process can have: those of its container, or else of the machine.
pub(crate) fn memory_limit() -> Option<u64> {
    let machine = Machine::read()?.memory_bytes;
    let words = files::read_text(Path::new(CONTAINER_LIMIT), LIMIT_LEN_MAX).ok();
    // Without a limit it is a word.
    let limit = words.and_then(|words| words.trim().parse().ok());
    Some(limit.map_or(machine, |limit: u64| limit.min(machine)))
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Duration, Machine, Usage};
    use procfs::{Current, CurrentSI};

    impl Usage {
        /// Asks the system.
        pub(crate) fn read() -> Option<Usage> {
            let own = procfs::process::Process::myself().ok()?;
            let stat = own.stat().ok()?;
            let ticks = stat.utime.saturating_add(stat.stime);
            let micros = ticks.saturating_mul(1_000_000) / procfs::ticks_per_second().max(1);
            Some(Usage {
                cpu: Duration::from_micros(micros),
                resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
                handles: own.fd_count().ok()? as u64,
                threads: u64::try_from(stat.num_threads).unwrap_or(0),
            })
        }
    }

    impl Machine {
        /// Asks the system.
        pub(crate) fn read() -> Option<Machine> {
            let memory = procfs::Meminfo::current().ok()?;
            let cpu = procfs::KernelStats::current().ok()?.total;
            let idle_ticks = cpu.idle.saturating_add(cpu.iowait.unwrap_or(0));
            let busy = [cpu.user, cpu.nice, cpu.system, cpu.irq?, cpu.softirq?, cpu.steal?];
            Some(Machine {
                memory_bytes: memory.mem_total,
                memory_free_bytes: memory.mem_available.unwrap_or(memory.mem_free),
                cpu_ticks: busy.iter().fold(idle_ticks, |sum, ticks| sum.saturating_add(*ticks)),
                idle_ticks,
            })
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Usage {
    /// Asks the system.
    pub(crate) fn read() -> Option<Usage> {
        None
    }
}

#[cfg(not(target_os = "linux"))]
impl Machine {
    /// Asks the system.
    pub(crate) fn read() -> Option<Machine> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_uses_what_it_takes() {
        let held = std::hint::black_box(vec![1u8; 64 << 20]);
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let used = Usage::read().unwrap();
        let machine = Machine::read().unwrap();
        // Other tests of this process take and give back memory meanwhile: only what is held here
        // is sure to be resident.
        assert!(used.resident_bytes >= held.len() as u64, "{} bytes", used.resident_bytes);
        assert!(used.resident_bytes <= machine.memory_bytes);
        assert!(used.handles > 0 && used.threads > 0, "{file:?}");
        assert!(machine.memory_free_bytes <= machine.memory_bytes);
        assert!(machine.idle_ticks <= machine.cpu_ticks && machine.cpu_ticks > 0);
    }
}
