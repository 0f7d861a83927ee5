//! HTTP requests by route: counted where they are answered.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Bounds of the histogram, in seconds.
const BOUNDS: [f64; 10] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Which route was asked, and how it went.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Answered {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Asked {
    route: String,
}

/// Requests so far. Clones share the counts.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    answered: Family<Answered, Counter>,
    took: Family<Asked, Histogram, fn() -> Histogram>,
    open: Gauge,
    all: Counter,
    failed: Counter,
}

/// Requests of all routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestTotals {
    /// That were answered.
    pub(crate) answered: u64,
    /// With a status of 500 or more, but for probes.
    pub(crate) failed: u64,
}

impl Default for Requests {
    fn default() -> Requests {
        Requests {
            answered: Family::default(),
            took: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
            open: Gauge::default(),
            all: Counter::default(),
            failed: Counter::default(),
        }
    }
}

impl Requests {
    /// Counts a request that is being answered until the result is dropped.
    pub(crate) fn begin(&self) -> OpenRequest {
        self.open.inc();
        OpenRequest(self.open.clone())
    }

    /// Counts an answer. `route` is the pattern of the path, never the path itself: that has keys in it.
    pub(crate) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        // Whatever a client invents is one method.
        let known = ["GET", "PUT", "DELETE", "POST", "HEAD"];
        let method = known.into_iter().find(|name| *name == method).unwrap_or("OTHER");
        let labels = Answered { method, route: route.to_owned(), status };
        self.answered.get_or_create(&labels).inc();
        self.all.inc();
        // Probes answer 503 on purpose.
        if status >= 500 && !route.starts_with("/health") {
            self.failed.inc();
        }
        let labels = Asked { route: route.to_owned() };
        self.took.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// All that were answered.
    pub(crate) fn totals(&self) -> RequestTotals {
        RequestTotals { answered: self.all.get(), failed: self.failed.get() }
    }

    /// Shows the counts in `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Answered requests";
        registry.register("http_requests", help, self.answered.clone());
        let help = "Time until the head of an answer";
        registry.register("http_request_duration_seconds", help, self.took.clone());
        registry.register(
            "http_requests_open",
            "Requests without an answer yet",
            self.open.clone(),
        );
    }
}

/// A request that has no answer yet.
pub(crate) struct OpenRequest(Gauge);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.dec();
    }
}
