//! What the operating system says about this process: time on the processor, bytes written, memory,
//! and what a directory takes on the disk. Linux only where `/proc` is read; 0 elsewhere.

use crate::Result;
use crate::drive::duration_ns;
use rustix::time::{ClockId, clock_gettime};
use std::fs::{read_dir, read_to_string, symlink_metadata, write};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// Nanoseconds that the calling thread has spent on a processor.
pub fn thread_cpu_ns() -> u64 {
    nanos(ClockId::ThreadCPUTime)
}

/// Nanoseconds that all threads of this process have spent on a processor.
pub fn process_cpu_ns() -> u64 {
    nanos(ClockId::ProcessCPUTime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Returns once `progress` has stood still for a while and nothing in this process runs. For engines
/// that offer no call to wait for their compactions.
pub fn wait_until_quiet<T: PartialEq>(progress: impl Fn() -> T) {
    const LOOK: Duration = Duration::from_millis(20);
    const QUIET_LOOKS: u32 = 5;
    let mut quiet = 0;
    let (mut before, mut cpu_before) = (progress(), process_cpu_ns());
    while quiet < QUIET_LOOKS {
        sleep(LOOK);
        let (now, cpu) = (progress(), process_cpu_ns());
        let is_idle = cpu - cpu_before < duration_ns(LOOK) / 10;
        quiet = if now == before && is_idle { quiet + 1 } else { 0 };
        (before, cpu_before) = (now, cpu);
    }
}

/// Bytes that this process has caused to be written to the disk, now or later.
pub fn written_bytes() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

/// The resident size, in bytes.
pub fn rss_bytes() -> u64 {
    field("/proc/self/status", "VmRSS:") * 1024
}

/// The largest resident size since [`forget_peak`], in bytes. Touched pages of a memory map count.
pub fn peak_rss_bytes() -> u64 {
    field("/proc/self/status", "VmHWM:") * 1024
}

/// Makes the present resident size the peak.
pub fn forget_peak() {
    // Where this is not possible, the peak is that of the whole process: still true, only larger.
    let _ = write("/proc/self/clear_refs", "5");
}

fn field(path: &str, name: &str) -> u64 {
    let text = read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Bytes of disk that everything in `dir` takes: allocated blocks, so holes count nothing.
pub fn disk_bytes(dir: &Path) -> Result<u64> {
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    for entry in read_dir(dir)? {
        let path = entry?.path();
        let meta = match symlink_metadata(&path) {
            // The engine may have removed it since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta?,
        };
        bytes += if meta.is_dir() { disk_bytes(&path)? } else { meta.blocks() * BLOCK };
    }
    Ok(bytes)
}
