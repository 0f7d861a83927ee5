//! What a node adds to what it does: a count, a line in the log, a call through a breaker.
//!
//! Libraries and settings are those of `node/src/metrics` and `node/src/logs.rs`. Calls at once are by two
//! threads; what is told is the time of one call of one of them.
//!
//! `-- health` measures something else instead, see [`benches::health`].

use base::SystemClock;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group};
use esker_node::lines::{Json, Overflow, Queue, Text};
use esker_node::resilience::{BreakerSettings, Breakers};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::hint::black_box;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt};

/// Threads that call at once.
const CALLERS: u32 = 2;

/// Times `call`, by one thread and by several at once.
fn both(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, call: impl Fn() + Sync) {
    both_within(group, name, |calls| calls(), call);
}

/// As [`both`]; what each thread does is done `within` something that takes no time of a call.
fn both_within(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    within: impl Fn(&mut dyn FnMut()) + Sync,
    call: impl Fn() + Sync,
) {
    group.bench_function(format!("{name}/alone"), |bencher| within(&mut || bencher.iter(&call)));
    group.bench_function(format!("{name}/{CALLERS} at once"), |bencher| {
        bencher.iter_custom(|count| {
            let times: Vec<Duration> = thread::scope(|scope| {
                let caller = || {
                    let mut took = Duration::ZERO;
                    within(&mut || {
                        let started = Instant::now();
                        (0..count).for_each(|_| call());
                        took = started.elapsed();
                    });
                    took
                };
                let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
                callers.into_iter().filter_map(|caller| caller.join().ok()).collect()
            });
            times.iter().sum::<Duration>() / CALLERS
        });
    });
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Route {
    route: String,
    status: u16,
}

fn metrics(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics");
    let counter: Counter = Counter::default();
    both(&mut group, "inc", || {
        let _ = black_box(counter.inc());
    });
    let histogram =
        Histogram::new([0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]);
    both(&mut group, "observe", || histogram.observe(black_box(0.002)));
    let family: Family<Route, Counter> = Family::default();
    both(&mut group, "inc by labels", || {
        let route = "/v1/keyspaces/{keyspace}/records/{key}".to_owned();
        let _ = black_box(family.get_or_create(&Route { route, status: 200 }).inc());
    });
    group.finish();
}

fn breakers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("breaker");
    let breakers = Breakers::new(Arc::new(SystemClock::default()));
    both(&mut group, "call", || {
        let called = breakers.call("disk", || Ok::<_, io::Error>(black_box(1)));
        drop(black_box(called));
    });
    for _ in 0..BreakerSettings::default().failures {
        let _ = breakers.call("broken", || Err::<(), _>(io::Error::other("x")));
    }
    both(&mut group, "rejected", || {
        drop(black_box(breakers.call("broken", || Ok::<_, io::Error>(1))));
    });
    group.finish();
}

fn logs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("logs");
    let Ok((queue, _drain)) = Queue::new(io::sink(), Overflow::Drops) else { return };
    let json = fmt::layer().event_format(Json::default()).with_writer(queue.clone());
    let text = fmt::layer().with_ansi(false).event_format(Text::default()).with_writer(queue);
    for (name, lines) in [("json", json.boxed()), ("text", text.boxed())] {
        let all = tracing::Dispatch::new(tracing_subscriber::registry().with(lines));
        // A node has one for all of its threads: to make it known to one costs more than a line.
        let within = |calls: &mut dyn FnMut()| tracing::dispatcher::with_default(&all, calls);
        both_within(&mut group, name, within, || {
            tracing::info!(number = 7, took_ms = 12, "made a backup");
        });
    }
    group.finish();
}

criterion_group!(all, metrics, breakers, logs);

fn main() -> ExitCode {
    // Cargo says to every benchmark that it is one.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.split_first() {
        Some((part, flags)) if part == "health" => match benches::health::run(flags) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            all();
            Criterion::default().configure_from_args().final_summary();
            ExitCode::SUCCESS
        }
    }
}
