//! Medians over rounds, as tables.

use crate::args::Args;
use crate::outcome::Outcome;
use crate::workload::Workload;
use std::fmt::Write;
use std::fs::read_to_string;

/// All outcomes of all rounds.
pub struct Report {
    /// How they came about.
    settings: String,
    /// The engines that were measured, in order.
    pub engines: Vec<&'static str>,
    /// The workloads that were run, in order.
    pub workloads: Vec<String>,
    outcomes: Vec<Outcome>,
}

/// Which value is the best.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Best {
    Smallest,
    Largest,
}

/// One table.
struct Metric {
    title: &'static str,
    best: Best,
    digits: usize,
    value: fn(&Outcome) -> Option<f64>,
}

const MIB: f64 = 1_048_576.0;

const METRICS: &[Metric] = &[
    Metric {
        title: "Throughput, thousand operations per second",
        best: Best::Largest,
        digits: 1,
        value: |outcome| phase_only(outcome, throughput(outcome) / 1e3),
    },
    Metric {
        title: "Processor time of the calling threads, microseconds per operation",
        best: Best::Smallest,
        digits: 3,
        value: |outcome| phase_only(outcome, per_op_us(outcome, outcome.thread_cpu_ns)),
    },
    Metric {
        title: "Processor time of the whole process until settled, microseconds per operation",
        best: Best::Smallest,
        digits: 3,
        value: |outcome| phase_only(outcome, per_op_us(outcome, outcome.process_cpu_ns)),
    },
    Metric {
        title: "Latency, median, microseconds (of a batch: all its records)",
        best: Best::Smallest,
        digits: 2,
        value: |outcome| single_ops_only(outcome, outcome.p50_ns as f64 / 1e3),
    },
    Metric {
        title: "Latency, 99 %, microseconds",
        best: Best::Smallest,
        digits: 2,
        value: |outcome| single_ops_only(outcome, outcome.p99_ns as f64 / 1e3),
    },
    Metric {
        title: "Latency, 99.9 %, microseconds",
        best: Best::Smallest,
        digits: 2,
        value: |outcome| single_ops_only(outcome, outcome.p999_ns as f64 / 1e3),
    },
    Metric {
        title: "Latency, worst, milliseconds (of reads: of one in sixteen)",
        best: Best::Smallest,
        digits: 2,
        value: |outcome| single_ops_only(outcome, outcome.max_ns as f64 / 1e6),
    },
    Metric {
        title: "Opening until the first get is answered, milliseconds",
        best: Best::Smallest,
        digits: 2,
        value: |outcome| is_opening(outcome).then_some(outcome.p50_ns as f64 / 1e6),
    },
    Metric {
        title: "Records acknowledged and lost by the kill",
        best: Best::Smallest,
        digits: 0,
        value: |outcome| (outcome.workload == "reopen-killed").then_some(outcome.lost as f64),
    },
    Metric {
        title: "Write amplification: bytes written to the disk until settled, by bytes put",
        best: Best::Smallest,
        digits: 2,
        value: |outcome| {
            writes_only(outcome, outcome.written_bytes as f64 / outcome.user_bytes as f64)
        },
    },
    Metric {
        title: "Space amplification: disk taken once settled, by bytes of live records",
        best: Best::Smallest,
        digits: 2,
        value: |outcome| {
            writes_only(outcome, outcome.disk_bytes as f64 / outcome.live_bytes as f64)
        },
    },
    Metric {
        title: "Disk once settled, MiB",
        best: Best::Smallest,
        digits: 1,
        value: |outcome| writes_only(outcome, outcome.disk_bytes as f64 / MIB),
    },
    Metric {
        title: "Peak resident memory, MiB (touched pages of a memory map count)",
        best: Best::Smallest,
        digits: 1,
        value: |outcome| (outcome.rss_bytes > 0).then_some(outcome.rss_bytes as f64 / MIB),
    },
    Metric {
        title: "Rate of the whole fill, by the rate of its first tenth",
        best: Best::Largest,
        digits: 2,
        value: |outcome| held_rate(outcome),
    },
];

/// What tables cannot say.
const NOTES: &str = "\
Bold is best; in brackets, how many times worse than the best. A star: the time limit ended the
phase early in some round.

Not all engines promise the same where nothing is synced. What esker, fjall, rocksdb and lmdb have
acknowledged survives a killed process; redb has nothing between a sync per commit and memory only,
and sled keeps up to half a second of writes in memory: see how many records the kill has cost
them. Where commits are synced, all promise the same. lmdb's cache is the page cache of the system,
so the cache budget does not bind it, and its reads verify no checksum. fjall knows LZ4 only; lmdb,
redb and sled do not compress.
";

/// Operations per second.
pub fn throughput(outcome: &Outcome) -> f64 {
    outcome.ops as f64 * 1e9 / outcome.wall_ns.max(1) as f64
}

fn per_op_us(outcome: &Outcome, ns: u64) -> f64 {
    ns as f64 / 1e3 / outcome.ops.max(1) as f64
}

fn is_opening(outcome: &Outcome) -> bool {
    outcome.workload.starts_with("reopen")
}

fn phase_only(outcome: &Outcome, value: f64) -> Option<f64> {
    (!is_opening(outcome)).then_some(value)
}

fn single_ops_only(outcome: &Outcome, value: f64) -> Option<f64> {
    (!is_opening(outcome) && outcome.workload != Workload::FullScan.name()).then_some(value)
}

fn writes_only(outcome: &Outcome, value: f64) -> Option<f64> {
    (outcome.user_bytes > 0 && value.is_finite()).then_some(value)
}

fn held_rate(outcome: &Outcome) -> Option<f64> {
    let is_fill = outcome.workload.starts_with("fill");
    (is_fill && outcome.first_tenth_ns > 0)
        .then(|| outcome.first_tenth_ns as f64 * 10.0 / outcome.wall_ns.max(1) as f64)
}

impl Report {
    /// A report of `outcomes`, which came of `args`.
    pub fn new(args: &Args, outcomes: Vec<Outcome>) -> Report {
        Report {
            settings: settings(args),
            engines: args.engines().iter().map(|engine| engine.as_str()).collect(),
            workloads: args.workloads().iter().map(|workload| workload.name()).collect(),
            outcomes,
        }
    }

    /// The median over rounds of a value of one engine in one workload.
    pub fn median(
        &self,
        engine: &str,
        workload: &str,
        value: impl Fn(&Outcome) -> Option<f64>,
    ) -> Option<f64> {
        let mut values: Vec<f64> = self.of(engine, workload).filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        let upper = values.get(values.len() / 2).copied()?;
        let lower = values.get(values.len().saturating_sub(1) / 2).copied()?;
        Some((lower + upper) / 2.0)
    }

    fn of(&self, engine: &str, workload: &str) -> impl Iterator<Item = &Outcome> {
        self.outcomes
            .iter()
            .filter(move |outcome| outcome.engine == engine && outcome.workload == workload)
    }

    /// The report as markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# Side by side\n\n{}\n{NOTES}", self.settings);
        for metric in METRICS {
            self.table(&mut text, metric);
        }
        text
    }

    fn table(&self, text: &mut String, metric: &Metric) {
        let rows: Vec<String> =
            self.workloads.iter().filter_map(|workload| self.row(workload, metric)).collect();
        if rows.is_empty() {
            return;
        }
        let head = self.engines.join(" | ");
        let rule = " ---: |".repeat(self.engines.len());
        let rows = rows.join("\n");
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {}\n\n| | {head} |\n| --- |{rule}\n{rows}\n", metric.title);
    }

    fn row(&self, workload: &str, metric: &Metric) -> Option<String> {
        let values: Vec<Option<f64>> =
            self.engines.iter().map(|engine| self.median(engine, workload, metric.value)).collect();
        let present = values.iter().flatten().copied();
        let best = match metric.best {
            Best::Smallest => present.reduce(f64::min)?,
            Best::Largest => present.reduce(f64::max)?,
        };
        let cells: Vec<String> = self
            .engines
            .iter()
            .zip(&values)
            .map(|(engine, value)| self.cell(engine, workload, metric, *value, best))
            .collect();
        Some(format!("| {workload} | {} |", cells.join(" | ")))
    }

    fn cell(
        &self,
        engine: &str,
        workload: &str,
        metric: &Metric,
        value: Option<f64>,
        best: f64,
    ) -> String {
        let Some(value) = value else { return "-".to_owned() };
        let star = if self.of(engine, workload).any(|o| o.cut_short > 0) { "*" } else { "" };
        let shown = format!("{value:.*}{star}", metric.digits);
        if value == best {
            return format!("**{shown}**");
        }
        let times = match metric.best {
            Best::Smallest => value / best,
            Best::Largest => best / value,
        };
        if times.is_finite() { format!("{shown} ({times:.1}x)") } else { shown }
    }
}

fn settings(args: &Args) -> String {
    let cpu = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{} records of 16-byte keys ({:?}) and {}-byte values, {} thread(s), medians of {} round(s), \
         cache {} MiB, memtable {} MiB, compression {:?}; {cores} cores, {model}.\n",
        args.keys,
        args.key_shape,
        args.value_size,
        args.threads,
        args.rounds,
        args.cache_mb,
        args.buffer_mb,
        args.compression,
    )
}
