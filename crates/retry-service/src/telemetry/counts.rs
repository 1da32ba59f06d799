//! Counters and histograms that can be added up.

use std::{collections::BTreeMap, fmt, iter, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

/// A counter for each set of labels.
#[derive(Debug)]
pub(super) struct Counters<L>(BTreeMap<L, u64>);

/// The upper bounds of a histogram's buckets in seconds; the last bucket has none.
const BOUNDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    /// The sum of all durations in seconds.
    sum: f64,
}

impl<L: Ord> Counters<L> {
    /// Creates these counters.
    pub(super) fn zero(labels: impl IntoIterator<Item = L>) -> Self {
        Self(labels.into_iter().map(|labels| (labels, 0)).collect())
    }

    pub(super) fn increase(&mut self, labels: L) {
        self.add(labels, 1);
    }

    pub(super) fn add_all(&mut self, other: &Self)
    where
        L: Copy,
    {
        other.0.iter().for_each(|(labels, count)| self.add(*labels, *count));
    }

    fn add(&mut self, labels: L, count: u64) {
        *self.0.entry(labels).or_default() += count;
    }
}

impl Histogram {
    pub(super) fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, other)| *count += other);
        self.sum += other.sum;
    }
}

impl<L> Default for Counters<L> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<L: EncodeLabelSet> EncodeMetric for Counters<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(labels, count)| {
            encoder.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)
        })
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.into_iter().chain(iter::once(f64::INFINITY));
        let buckets: Vec<_> = bounds.zip(self.counts).collect();
        encoder.encode_histogram::<NoLabelSet>(self.sum, self.counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::text,
        registry::{Metric, Registry},
    };

    use super::*;

    /// Returns a metric as text.
    fn encoded(metric: impl Metric) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("m", "help", metric);
        text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn counters_add_up() {
        let (mut one, mut other) = (Counters::zero([[("l", "never")], [("l", "both")]]), Counters::default());
        for label in ["both", "one"] {
            one.increase([("l", label)]);
        }
        other.increase([("l", "both")]);
        one.add_all(&other);
        let expected = "m_total{l=\"both\"} 2\nm_total{l=\"never\"} 0\nm_total{l=\"one\"} 1\n# EOF\n";
        assert!(encoded(one).ends_with(expected));
    }

    #[test]
    fn a_duration_is_in_the_bucket_of_the_next_bound() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        for milliseconds in [0, 1, 2, 60_000] {
            one.observe(Duration::from_millis(milliseconds));
        }
        other.observe(Duration::from_secs(61));
        one.add_all(&other);
        let text = encoded(one);
        for line in [
            "m_sum 121.003",
            "m_count 5",
            "m_bucket{le=\"0.001\"} 2",
            "m_bucket{le=\"0.0025\"} 3",
            "m_bucket{le=\"30.0\"} 3",
            "m_bucket{le=\"60.0\"} 4",
            "m_bucket{le=\"+Inf\"} 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }
}
