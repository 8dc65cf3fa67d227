//! What the host and its Pods use, measured when a server asks.
//!
//! Owns: two samples and their difference. Does not own: what a runtime can count of its Pods (crate `runtime`).
//!
//! Invariant: nothing is measured that nobody asks for; however many ask, one measures at a time and the others share it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stint_api::PodUid;
use stint_proto::{uid_to_wire, v1};
use stint_runtime::Usage;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use crate::limits;
use crate::live_pods::LivePods;

/// Measures. Cheap to clone; all clones share what was measured.
#[derive(Clone)]
pub struct Meter {
    live: LivePods,
    last: Arc<Mutex<Option<Measured>>>,
}

/// What was measured when.
struct Measured {
    at: Instant,
    with_pods: bool,
    answer: v1::UsageAnswer,
}

/// What was counted at one moment.
struct Sample {
    at: Instant,
    /// Of the whole host, in nanoseconds since its boot.
    host_cpu: Option<u64>,
    pods: BTreeMap<PodUid, Usage>,
}

impl Meter {
    /// Of these Pods, and of the host.
    pub fn new(live: LivePods) -> Meter {
        Meter { live, last: Arc::default() }
    }

    /// Answers a question in the background.
    pub fn answer(&self, request: v1::UsageRequest, outgoing: mpsc::Sender<v1::AgentMessage>) {
        let meter = self.clone();
        tokio::spawn(async move {
            let mut answer = meter.measured(request.pods).await;
            answer.request_id = request.request_id;
            let message = v1::agent_message::Message::UsageAnswer(answer);
            // If the session is gone, nobody waits for it.
            drop(outgoing.send(v1::AgentMessage { message: Some(message) }).await);
        });
    }

    async fn measured(&self, with_pods: bool) -> v1::UsageAnswer {
        let mut last = self.last.lock().await;
        if let Some(known) = &*last
            && known.at.elapsed() < limits::USAGE_FRESH
            && (known.with_pods || !with_pods)
        {
            return known.answer.clone();
        }
        let before = self.sample(with_pods).await;
        tokio::time::sleep(limits::USAGE_WINDOW).await;
        let after = self.sample(with_pods).await;
        let answer = difference(&before, &after);
        *last = Some(Measured { at: after.at, with_pods, answer: answer.clone() });
        answer
    }

    async fn sample(&self, with_pods: bool) -> Sample {
        let mut pods = BTreeMap::new();
        let sandboxes = if with_pods { self.live.sandboxes() } else { Vec::new() };
        for (pod, sandbox) in sandboxes {
            // One that has ended meanwhile, or that this runtime can't measure, is left out.
            if let Ok(usage) = sandbox.usage().await {
                pods.insert(pod, usage);
            }
        }
        Sample { at: Instant::now(), host_cpu: host_cpu_nanoseconds(), pods }
    }
}

fn difference(before: &Sample, after: &Sample) -> v1::UsageAnswer {
    let window = after.at.duration_since(before.at);
    let usage = |cpu_before: u64, cpu_after: u64, memory_bytes: u64| v1::Usage {
        cpu_millis: cpu_millis(cpu_after.saturating_sub(cpu_before), window),
        memory_bytes,
        window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
    };
    let pods = after.pods.iter().filter_map(|(pod, now)| {
        let then = before.pods.get(pod)?;
        let usage = usage(then.cpu_nanoseconds, now.cpu_nanoseconds, now.memory_bytes);
        Some(v1::MeasuredPod { pod_uid: uid_to_wire(*pod), usage: Some(usage) })
    });
    let node = before.host_cpu.zip(after.host_cpu).zip(host_memory_bytes());
    v1::UsageAnswer {
        request_id: 0,
        node: node.map(|((before, after), memory_bytes)| usage(before, after, memory_bytes)),
        pods: pods.take(limits::PODS_HELD_MAX).collect(),
    }
}

/// Thousandths of a CPU.
fn cpu_millis(cpu_nanoseconds: u64, window: Duration) -> u64 {
    let window = window.as_nanos().max(1);
    u64::try_from(u128::from(cpu_nanoseconds) * 1_000 / window).unwrap_or(u64::MAX)
}

/// Time that the host's processors were busy since its boot.
fn host_cpu_nanoseconds() -> Option<u64> {
    busy_nanoseconds(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// Of the first line of `/proc/stat`: all that is neither idle nor waiting for a disk. Time of guests is part of `user`.
fn busy_nanoseconds(stat: &str) -> Option<u64> {
    /// Ticks of `/proc` last 10 ms on every Linux there is.
    const TICK_NANOSECONDS: u64 = 10_000_000;
    let mut words = stat.lines().next()?.split_ascii_whitespace();
    (words.next()? == "cpu").then_some(())?;
    let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    Some((user + nice + system + irq + softirq + steal).saturating_mul(TICK_NANOSECONDS))
}

/// Memory of the host that can't be taken back at once.
fn host_memory_bytes() -> Option<u64> {
    unavailable_bytes(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn unavailable_bytes(meminfo: &str) -> Option<u64> {
    Some(meminfo_bytes(meminfo, "MemTotal")?.saturating_sub(meminfo_bytes(meminfo, "MemAvailable")?))
}

/// An amount out of `/proc/meminfo`.
pub fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_measured_as_the_kernel_counts() {
        let stat = "cpu  100 20 30 4000 500 6 7 8 90 10\ncpu0 1 2 3\n";
        assert_eq!(busy_nanoseconds(stat), Some(171 * 10_000_000));
        for text in ["", "intr 1", "cpu 1 2 3", "cpu a b"] {
            assert_eq!(busy_nanoseconds(text), None, "{text:?}");
        }
        let meminfo = "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     400 kB\n";
        assert_eq!(unavailable_bytes(meminfo), Some(600 << 10));
        assert_eq!(unavailable_bytes("MemTotal: 1 kB\n"), None);
        assert!(host_cpu_nanoseconds().is_some() && host_memory_bytes().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn cpu_time_becomes_a_rate() {
        assert_eq!(cpu_millis(500_000_000, Duration::from_secs(1)), 500);
        assert_eq!(cpu_millis(3_000_000_000, Duration::from_secs(2)), 1_500);
        assert_eq!(cpu_millis(u64::MAX, Duration::ZERO), u64::MAX);
    }

    #[test]
    fn a_pod_that_came_between_the_samples_is_left_out() {
        let at = Instant::now();
        let used = |cpu_nanoseconds| Usage { cpu_nanoseconds, memory_bytes: 7, ..Usage::default() };
        let before = Sample {
            at,
            host_cpu: None,
            pods: BTreeMap::from([(PodUid(1), used(10)), (PodUid(2), used(5))]),
        };
        let after = Sample {
            at: at + Duration::from_millis(1),
            host_cpu: None,
            pods: BTreeMap::from([(PodUid(2), used(1_000_005)), (PodUid(3), used(9))]),
        };
        let answer = difference(&before, &after);
        let [pod] = &answer.pods[..] else { panic!("{answer:?}") };
        assert_eq!(pod.pod_uid, uid_to_wire(PodUid(2)));
        assert_eq!(pod.usage, Some(v1::Usage { cpu_millis: 1_000, memory_bytes: 7, window_ms: 1 }));
        assert_eq!(answer.node, None);
    }
}
