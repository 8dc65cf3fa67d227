//! What the system knows of this process, by the names that Prometheus' own clients use.
//!
//! Owns: reading /proc/self when it is asked for. Does not own: who asks.

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::figures::gauge_value;
use crate::traces;

/// The figures of a process.
#[derive(Debug)]
pub struct ProcessFigures {
    registry: Registry,
    cpu_seconds: Counter<f64, AtomicU64>,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    open_files: Gauge,
    files_max: Gauge,
    threads: Gauge,
}

/// Fields of /proc/self/stat behind the name of the process, from the state on, counted from 0.
const STAT_USER_TICKS: usize = 11;
const STAT_SYSTEM_TICKS: usize = 12;
const STAT_THREADS: usize = 17;
const STAT_START_TICKS: usize = 19;
const STAT_VIRTUAL_BYTES: usize = 20;
const STAT_RESIDENT_PAGES: usize = 21;

impl ProcessFigures {
    /// Of this process.
    pub fn new() -> ProcessFigures {
        let mut registry = Registry::default();
        let cpu_seconds = Counter::<f64, AtomicU64>::default();
        registry.register(
            "process_cpu_seconds",
            "CPU time of the process, user and system, in seconds",
            cpu_seconds.clone(),
        );
        let start_seconds = Gauge::<f64, AtomicU64>::default();
        start_seconds.set(start_seconds_of_this_process().unwrap_or_default());
        registry.register(
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970",
            start_seconds,
        );
        let build: Family<[(&str, &str); 1], Gauge> = Family::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("stint_build_info", "Version of the binary; the value is always 1", build);
        traces::register(&mut registry);
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let resident_bytes = gauge("process_resident_memory_bytes", "Memory that the process has in RAM");
        let virtual_bytes = gauge("process_virtual_memory_bytes", "Addresses that the process has mapped");
        let open_files = gauge("process_open_fds", "Open file descriptors");
        let files_max = gauge("process_max_fds", "File descriptors that the process may have open");
        let threads = gauge("process_threads", "Threads of the process");
        ProcessFigures {
            registry,
            cpu_seconds,
            resident_bytes,
            virtual_bytes,
            open_files,
            files_max,
            threads,
        }
    }

    /// Looks anew, and says what there is.
    pub fn encode(&self) -> String {
        self.look();
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }

    /// What can't be read stays as it was.
    fn look(&self) {
        if let Some(stat) = stat() {
            let ticks = stat.number(STAT_USER_TICKS) + stat.number(STAT_SYSTEM_TICKS);
            let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
            self.cpu_seconds.inner().store(seconds.to_bits(), Ordering::Relaxed);
            self.threads.set(gauge_value(stat.number(STAT_THREADS)));
            self.virtual_bytes.set(gauge_value(stat.number(STAT_VIRTUAL_BYTES)));
            let pages = stat.number(STAT_RESIDENT_PAGES);
            self.resident_bytes.set(gauge_value(pages.saturating_mul(rustix::param::page_size() as u64)));
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            // Without the one that reads.
            self.open_files.set(gauge_value(files.count()) - 1);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        self.files_max.set(limit.map_or(i64::MAX, gauge_value));
    }
}

impl Default for ProcessFigures {
    fn default() -> ProcessFigures {
        ProcessFigures::new()
    }
}

struct Stat(Vec<u64>);

impl Stat {
    fn number(&self, field: usize) -> u64 {
        self.0.get(field).copied().unwrap_or_default()
    }
}

fn stat() -> Option<Stat> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = text.rsplit_once(')')?;
    Some(Stat(fields.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect()))
}

fn start_seconds_of_this_process() -> Option<f64> {
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    let ticks = stat()?.number(STAT_START_TICKS) as f64;
    Some(boot + ticks / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_known() {
        let figures = ProcessFigures::new();
        let text = figures.encode();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let of_status = |name: &str| -> f64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let resident = value("process_resident_memory_bytes") / 1024.0 / of_status("VmRSS:");
        assert!((0.5..2.0).contains(&resident), "{resident}");
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age}");
        assert!(text.contains("stint_build_info{version=\"0.1.0\"} 1") || text.contains("stint_build_info{"));
    }
}
