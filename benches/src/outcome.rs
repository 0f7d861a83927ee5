//! The result of one workload on one engine in one round, as one line of JSON.

use crate::Result;
use crate::drive::{Driven, duration_ns};
use serde_json::{Value, json};

/// What was measured. Times in nanoseconds, sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The engine's name.
    pub engine: String,
    /// The workload's name.
    pub workload: String,
    /// Operations done.
    pub ops: u64,
    /// Time of the phase, without settling.
    pub wall_ns: u64,
    /// Processor time of the calling threads in the phase.
    pub thread_cpu_ns: u64,
    /// Processor time of the whole process in the phase and until it had settled.
    pub process_cpu_ns: u64,
    /// Time until flushes and compactions were done afterwards.
    pub settle_ns: u64,
    /// Latencies.
    pub p50_ns: u64,
    /// 99 % are below.
    pub p99_ns: u64,
    /// 99.9 % are below.
    pub p999_ns: u64,
    /// The worst that was timed.
    pub max_ns: u64,
    /// Largest resident size of the process in the phase.
    pub rss_bytes: u64,
    /// Disk taken once settled.
    pub disk_bytes: u64,
    /// Bytes written to the disk in the phase and until it had settled.
    pub written_bytes: u64,
    /// Bytes of keys and values that were written by the phase.
    pub user_bytes: u64,
    /// Bytes of keys and values that are in the store once settled.
    pub live_bytes: u64,
    /// Time of the first tenth of the operations, where that is of interest.
    pub first_tenth_ns: u64,
    /// Records acknowledged and gone after a kill.
    pub lost: u64,
    /// 1 if the time limit ended the phase early.
    pub cut_short: u64,
}

macro_rules! numbers {
    ($do:ident, $outcome:expr, $json:expr) => {
        $do!(
            $outcome,
            $json,
            ops,
            wall_ns,
            thread_cpu_ns,
            process_cpu_ns,
            settle_ns,
            p50_ns,
            p99_ns,
            p999_ns,
            max_ns,
            rss_bytes,
            disk_bytes,
            written_bytes,
            user_bytes,
            live_bytes,
            first_tenth_ns,
            lost,
            cut_short
        )
    };
}

macro_rules! to_json {
    ($outcome:expr, $json:expr, $($field:ident),*) => {
        $($json[stringify!($field)] = json!($outcome.$field);)*
    };
}

macro_rules! from_json {
    ($outcome:expr, $json:expr, $($field:ident),*) => {
        $($outcome.$field = $json[stringify!($field)].as_u64().unwrap_or(0);)*
    };
}

impl Outcome {
    /// An outcome with what the driver measured.
    pub fn of(engine: &str, workload: &str, driven: &Driven) -> Outcome {
        let quantile = |q| driven.latency.value_at_quantile(q);
        Outcome {
            engine: engine.to_owned(),
            workload: workload.to_owned(),
            ops: driven.ops,
            wall_ns: duration_ns(driven.wall),
            thread_cpu_ns: driven.thread_cpu_ns,
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
            p999_ns: quantile(0.999),
            max_ns: driven.latency.max(),
            first_tenth_ns: driven.first_tenth.map_or(0, duration_ns),
            ..Outcome::default()
        }
    }

    /// The line.
    pub fn to_json(&self) -> String {
        let mut value = json!({ "engine": self.engine, "workload": self.workload });
        numbers!(to_json, self, value);
        value.to_string()
    }

    /// Reads a line back.
    pub fn from_json(line: &str) -> Result<Outcome> {
        let value: Value = serde_json::from_str(line)?;
        let text = |name: &str| value[name].as_str().map(str::to_owned).ok_or("a field is missing");
        let mut outcome =
            Outcome { engine: text("engine")?, workload: text("workload")?, ..Outcome::default() };
        numbers!(from_json, outcome, value);
        Ok(outcome)
    }
}
