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
use std::sync::{Mutex, PoisonError};

/// A gauge that is not there until it was set.
pub type GaugeIfKnown = Family<[(&'static str, &'static str); 0], Gauge>;

/// All figures of a server or of an agent; each name begins with `stint_`.
#[derive(Debug)]
pub struct Figures {
    registry: Registry,
    /// Held from the first figure that is set to the last that is written.
    reading: Mutex<()>,
}

impl Default for Figures {
    fn default() -> Figures {
        Figures { registry: Registry::with_prefix("stint"), reading: Mutex::default() }
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

    /// Something of which nothing is told until it is known.
    pub fn gauge_if_known(&mut self, name: &str, help: &str) -> GaugeIfKnown {
        self.gauges(name, help)
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

    /// All of them, once `set` has brought those up to date that are not counted all the time. Whoever reads at the same time
    /// waits: families of gauges are cleared and filled again, and half of one must not be told. So `set` looks nothing up
    /// that may take long; do that before.
    pub fn encode(&self, set: impl FnOnce()) -> String {
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        set();
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

/// The disk that the data folder is on.
#[derive(Debug)]
pub struct DiskGauges {
    bytes: Gauge,
    free_bytes: Gauge,
}

impl DiskGauges {
    /// Registers them, at 0.
    pub fn new(figures: &mut Figures) -> DiskGauges {
        DiskGauges {
            bytes: figures.gauge("disk_bytes", "Size of the disk that the data folder is on"),
            free_bytes: figures.gauge("disk_free_bytes", "What of that disk can still be used"),
        }
    }

    /// Size of the disk, and what of it can still be used.
    pub fn set(&self, bytes: u64, free_bytes: u64) {
        self.bytes.set(gauge_value(bytes));
        self.free_bytes.set(gauge_value(free_bytes));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_at_the_same_time_is_told_all_of_a_family() {
        const MEMBERS: i64 = 200;
        const READERS: usize = 4;
        const READINGS: usize = 100;
        let mut figures = Figures::default();
        let family: Family<[(&'static str, String); 1], Gauge> = figures.gauges("members", "Members");
        let read = || {
            let text = figures.encode(|| {
                family.clear();
                for number in 0..MEMBERS {
                    family.get_or_create(&[("member", number.to_string())]).set(number);
                }
            });
            text.lines().filter(|line| line.starts_with("stint_members{")).count()
        };
        let counts = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS)
                .map(|_| scope.spawn(|| (0..READINGS).map(|_| read()).collect::<Vec<_>>()))
                .collect();
            readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(counts, vec![usize::try_from(MEMBERS).unwrap(); READERS * READINGS]);
    }

    #[test]
    fn a_gauge_without_labels_is_left_out_until_it_is_known() {
        let mut figures = Figures::default();
        let known = figures.gauge_if_known("size", "Size");
        assert!(!figures.encode(|| {}).contains("stint_size"));
        let text = figures.encode(|| {
            known.get_or_create(&[]).set(7);
        });
        assert!(text.contains("\nstint_size 7\n"), "{text}");
    }
}
