//! What this process uses of the machine, where the system tells: on Linux.

use crate::files;
use std::path::Path;
use std::time::Duration;

/// Where the system says how much memory a container may take, and takes.
const CONTAINER: &str = "/sys/fs/cgroup";
const CONTAINER_LIMIT: &str = "memory.max";
/// Bytes of each of those at most.
const TEXT_LEN_MAX: usize = 64 << 10;

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
    let limit = of_container(CONTAINER_LIMIT).and_then(|text| number(&text));
    Some(limit.map_or(machine, |limit| limit.min(machine)))
}

/// Memory where this process runs: in its container, if that may have less than the machine, or else in all of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes that could not be had without taking them from somebody.
    pub(crate) used_bytes: u64,
    /// Bytes that there are, or may be.
    pub(crate) limit_bytes: u64,
}

impl Memory {
    /// Asks the system.
    pub(crate) fn read() -> Option<Memory> {
        let machine = Machine::read()?;
        let [max, current, stat] = [CONTAINER_LIMIT, "memory.current", "memory.stat"]
            .map(|name| of_container(name).unwrap_or_default());
        Some(Memory::of(machine, &max, &current, &stat))
    }

    /// Of `machine`, or of a container of which the system says this: its limit, what it takes, and what of.
    fn of(machine: Machine, max: &str, current: &str, stat: &str) -> Memory {
        let limit = number(max).filter(|limit| *limit < machine.memory_bytes);
        let (Some(limit_bytes), Some(current)) = (limit, number(current)) else {
            let used_bytes = machine.memory_bytes.saturating_sub(machine.memory_free_bytes);
            return Memory { used_bytes, limit_bytes: machine.memory_bytes };
        };
        // What is kept of files and was not read lately goes before anybody is short of memory.
        let idle = stat.lines().find_map(|line| number(line.strip_prefix("inactive_file ")?));
        Memory { used_bytes: current.saturating_sub(idle.unwrap_or(0)), limit_bytes }
    }
}

fn of_container(name: &str) -> Option<String> {
    files::read_text(&Path::new(CONTAINER).join(name), TEXT_LEN_MAX).ok()
}

/// Without a limit it is a word.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
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
    fn a_container_counts_if_it_may_have_less_than_the_machine() {
        let machine = Machine {
            memory_bytes: 64_000,
            memory_free_bytes: 60_000,
            cpu_ticks: 1,
            idle_ticks: 1,
        };
        let memory = |used_bytes, limit_bytes| Memory { used_bytes, limit_bytes };
        let of = |max, current, stat| Memory::of(machine, max, current, stat);
        let stat = "anon 700\nfile 250\nactive_file 50\ninactive_file 200\nslab 9\n";
        assert_eq!(of("1000\n", "950\n", stat), memory(750, 1000));
        assert_eq!(of("1000\n", "950\n", ""), memory(950, 1000));
        assert_eq!(of("1000\n", "100\n", stat), memory(0, 1000), "they are read one by one");
        let of_machine = memory(4000, 64_000);
        for (max, current) in
            [("max\n", "950\n"), ("64000\n", "950\n"), ("1000\n", ""), ("", ""), ("?", "950")]
        {
            assert_eq!(of(max, current, stat), of_machine, "{max:?} {current:?}");
        }
        let here = Memory::read().unwrap();
        assert!(here.used_bytes > 0 && here.limit_bytes > 0, "{here:?}");
    }

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
