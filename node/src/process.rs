//! What this process uses of the machine, where the system tells: on Linux.

use std::time::Duration;

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
        let before = Usage::read().unwrap();
        let held = vec![1u8; 64 << 20];
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let after = Usage::read().unwrap();
        assert!(after.resident_bytes >= before.resident_bytes + held.len() as u64 / 2);
        assert!(after.handles > 0 && after.threads > 0, "{file:?}");
        let machine = Machine::read().unwrap();
        assert!(machine.memory_free_bytes <= machine.memory_bytes);
        assert!(machine.idle_ticks <= machine.cpu_ticks && machine.cpu_ticks > 0);
    }
}
