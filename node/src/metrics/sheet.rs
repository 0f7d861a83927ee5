//! Families of metrics, one after the other.

use engine::Latency;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;

/// The label of a metric, and its value.
pub(crate) type Label = (&'static str, String);

/// Writes families. Names come without prefix, counters without `_total`, help without a full stop.
pub(crate) struct Sheet<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Sheet<'a> {
    /// A sheet of what `encoder` encodes.
    pub(crate) fn new(encoder: DescriptorEncoder<'a>) -> Sheet<'a> {
        Sheet { encoder }
    }

    /// A counter without labels.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        let encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        counter.encode(encoder)
    }

    /// A counter of seconds.
    pub(crate) fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        let encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        counter.encode(encoder)
    }

    /// A gauge without labels.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        let encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        gauge.encode(encoder)
    }

    /// Counters that differ in their labels.
    pub(crate) fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: &[([Label; N], u64)],
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }

    /// Gauges that differ in their labels.
    pub(crate) fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: &[([Label; N], f64)],
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }

    /// A histogram of durations, in seconds.
    pub(crate) fn latency(&mut self, name: &str, help: &str, latency: &Latency) -> fmt::Result {
        encode(self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?, latency)
    }

    /// Histograms of durations that differ in their labels.
    pub(crate) fn latencies<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: &[([Label; N], Latency)],
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, latency) in values {
            encode(family.encode_family(labels)?, latency)?;
        }
        Ok(())
    }
}

fn encode(mut encoder: MetricEncoder<'_>, latency: &Latency) -> fmt::Result {
    let sum = latency.sum.as_secs_f64();
    let buckets = buckets_of(latency);
    encoder.encode_histogram::<NoLabelSet>(sum, latency.samples, &buckets, None)
}

/// Upper bounds in seconds, and what is between each and the one before.
fn buckets_of(latency: &Latency) -> Vec<(f64, u64)> {
    let mut buckets = Vec::with_capacity(latency.below.len() + 1);
    let mut before = 0;
    for (bound, below) in Latency::bounds().into_iter().zip(latency.below) {
        buckets.push((bound.as_secs_f64(), below.saturating_sub(before)));
        before = below;
    }
    buckets.push((f64::INFINITY, latency.samples.saturating_sub(before)));
    buckets
}
