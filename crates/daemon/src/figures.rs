//! Figures under the names that Prometheus reads.
//!
//! Owns: making and registering them, their text. Does not own: what is counted.

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt::Debug;
use std::hash::Hash;

/// All figures of a server or of an agent; each name begins with `stint_`.
#[derive(Debug)]
pub struct Figures {
    registry: Registry,
}

impl Default for Figures {
    fn default() -> Figures {
        Figures { registry: Registry::with_prefix("stint") }
    }
}

impl Figures {
    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.registry.register(name, help, gauge.clone());
        gauge
    }

    /// The same, by labels.
    pub fn gauges<L>(&mut self, name: &str, help: &str) -> Family<L, Gauge>
    where
        L: EncodeLabelSet + Clone + Hash + Eq + Send + Sync + Debug + 'static,
    {
        let family = Family::default();
        self.registry.register(name, help, family.clone());
        family
    }

    /// Something that was counted all the time; its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.registry.register(name, help, counter.clone());
    }

    /// The same, by labels.
    pub fn counters<L>(&mut self, name: &str, help: &str, counters: &Family<L, Counter>)
    where
        L: EncodeLabelSet + Clone + Hash + Eq + Send + Sync + Debug + 'static,
    {
        self.registry.register(name, help, counters.clone());
    }

    /// Something whose sizes were counted all the time.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.registry.register(name, help, histogram.clone());
    }

    /// For what looks its figures up by itself.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// All of them, as they are now.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

/// Sizes whose buckets begin at `first` and double `count` times.
pub fn doubling(first: f64, count: u16) -> Histogram {
    Histogram::new(exponential_buckets(first, 2.0, count))
}

/// A gauge's value.
pub fn gauge_value(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
