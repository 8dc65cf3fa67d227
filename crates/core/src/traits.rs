//! What the core must know of a template: requests, selector, priority, grace, restart policy.
//!
//! Owns: reading them out of a `PodSpec`, whatever it holds. Does not own: which values are valid (crate `api`).

use std::collections::BTreeMap;
use std::sync::Arc;

use stint_api::limits::REQUEST_MAX;
use stint_api::{NodeCapacity, PodSpec, Quantity, RestartPolicy, StringMap};

use crate::limits::{GRACE_DEFAULT_SECONDS, GRACE_SECONDS_MAX, NODE_PODS_MAX};

// What the Pods of a node have requested is added up and subtracted again, in another order after a restart: the sum must
// never saturate, or servers would differ.
const _: () = assert!(NODE_PODS_MAX as u128 * REQUEST_MAX as u128 <= u64::MAX as u128);

/// What all Pods of one template have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodTraits {
    pub(crate) class: Arc<PodClass>,
    pub(crate) grace_seconds: u32,
    /// restartPolicy is OnFailure (A14).
    pub(crate) on_failure: bool,
}

/// What decides where a Pod can go and when its turn is: Pods of one class are alike for the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodClass {
    pub(crate) priority: i32,
    pub(crate) requests: NodeCapacity,
    pub(crate) node_selector: StringMap,
}

impl PodTraits {
    pub(crate) fn of(spec: &PodSpec) -> PodTraits {
        let mut requests = NodeCapacity { cpu_millis: 0, memory_bytes: 0, pods: 1 };
        for container in &spec.containers {
            let cpu = requested(&container.requests, &container.limits, "cpu", Quantity::millis);
            let memory = requested(&container.requests, &container.limits, "memory", Quantity::units);
            requests.cpu_millis = requests.cpu_millis.saturating_add(cpu).min(REQUEST_MAX);
            requests.memory_bytes = requests.memory_bytes.saturating_add(memory).min(REQUEST_MAX);
        }
        let grace_seconds = match spec.termination_grace_period_seconds {
            None => GRACE_DEFAULT_SECONDS,
            Some(seconds) => {
                u32::try_from(seconds.clamp(0, i64::from(GRACE_SECONDS_MAX))).unwrap_or(GRACE_SECONDS_MAX)
            }
        };
        PodTraits {
            class: Arc::new(PodClass {
                priority: spec.priority.unwrap_or(0),
                requests,
                node_selector: spec.node_selector.clone(),
            }),
            grace_seconds,
            on_failure: spec.restart_policy == Some(RestartPolicy::OnFailure),
        }
    }
}

/// A limit without a request is the request.
fn requested(
    requests: &BTreeMap<String, Quantity>,
    limits: &BTreeMap<String, Quantity>,
    resource: &str,
    amount: fn(&Quantity) -> i128,
) -> u64 {
    let quantity = requests.get(resource).or_else(|| limits.get(resource));
    quantity.map_or(0, |quantity| u64::try_from(amount(quantity).max(0)).unwrap_or(u64::MAX))
}
