//! The process, by the names that all exporters use. Linux only; elsewhere there are none.

use super::sheet::Sheet;
use crate::process::Usage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;

/// Reads what the process uses, at each scrape.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let Some(usage) = Usage::read() else { return Ok(()) };
        let mut sheet = Sheet::new(encoder);
        let help = "Processor time, user and system";
        sheet.seconds("process_cpu_seconds", help, usage.cpu.as_secs_f64())?;
        let help = "Bytes of memory that are resident";
        sheet.gauge("process_resident_memory_bytes", help, usage.resident_bytes as f64)?;
        sheet.gauge("process_open_fds", "Open file handles", usage.handles as f64)?;
        sheet.gauge("process_threads", "Threads", usage.threads as f64)
    }
}
