//! What the core must know of a template: containers and their policies, requests, placement, priority, grace.
//!
//! Owns: reading them out of a `PodSpec`, whatever it holds. Does not own: which values are valid (crate `api`), what is
//! decided by them (modules `progress` and `scheduler`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stint_api::limits::REQUEST_MAX;
use stint_api::{
    Ask, Container, ContainerRestartRule, NodeCapacity, PodSpec, Quantity, RestartPolicy, StringMap, asks_of,
};

use crate::limits::{GRACE_DEFAULT_SECONDS, GRACE_SECONDS_MAX, NODE_PODS_MAX};

// What the Pods of a node have requested is added up and subtracted again, in another order after a restart: the sum must
// never saturate, or servers would differ.
const _: () = assert!(NODE_PODS_MAX as u128 * REQUEST_MAX as u128 <= u64::MAX as u128);

/// What all Pods of one template have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodTraits {
    pub(crate) class: Arc<PodClass>,
    pub(crate) grace_seconds: u32,
    /// The Pod's restartPolicy is OnFailure: its restarts in place count (J61).
    pub(crate) on_failure: bool,
    /// Init containers first, in the order of the template.
    pub(crate) containers: Arc<[ContainerTraits]>,
}

/// What all runs of one container have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerTraits {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) restarts: Restarts,
    /// P10: the first that matches decides.
    pub(crate) rules: Vec<ContainerRestartRule>,
    pub(crate) has_startup_probe: bool,
    pub(crate) has_readiness_probe: bool,
}

/// What a container is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs before the others, to its success (P8).
    Init,
    /// An init container that stays (P7).
    Sidecar,
    /// What the Pod is there for.
    App,
}

/// When a container is started again in place, unless a rule says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restarts {
    Never,
    OnFailure,
    Always,
}

/// What decides where a Pod can go and when its turn is: Pods of one class are alike for the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodClass {
    pub(crate) priority: i32,
    pub(crate) requests: NodeCapacity,
    pub(crate) node_selector: StringMap,
    /// The runtime that is asked for; empty: the cluster's default, without one the node's first.
    pub(crate) runtime: String,
    /// What the node must grant.
    pub(crate) asks: BTreeSet<Ask>,
    /// Some container may use no more than it says: better on a node that sees to it.
    pub(crate) has_limits: bool,
}

impl PodTraits {
    pub(crate) fn of(spec: &PodSpec) -> PodTraits {
        let grace_seconds = match spec.termination_grace_period_seconds {
            None => GRACE_DEFAULT_SECONDS,
            Some(seconds) => {
                u32::try_from(seconds.clamp(0, i64::from(GRACE_SECONDS_MAX))).unwrap_or(GRACE_SECONDS_MAX)
            }
        };
        let on_failure = spec.restart_policy == Some(RestartPolicy::OnFailure);
        let of_pod = if on_failure { Restarts::OnFailure } else { Restarts::Never };
        let init = spec.init_containers.iter().map(|container| match container.restart_policy {
            Some(RestartPolicy::Always) => ContainerTraits::of(container, Role::Sidecar, of_pod),
            _ => ContainerTraits::of(container, Role::Init, of_pod),
        });
        let apps = spec.containers.iter().map(|container| ContainerTraits::of(container, Role::App, of_pod));
        PodTraits {
            class: Arc::new(PodClass {
                priority: spec.priority.unwrap_or(0),
                requests: requests(spec),
                node_selector: spec.node_selector.clone(),
                runtime: spec.runtime_class_name.clone().unwrap_or_default(),
                asks: asks_of(spec).into_iter().map(|(_, ask)| ask).collect(),
                has_limits: has_limits(spec),
            }),
            grace_seconds,
            on_failure,
            containers: init.chain(apps).collect(),
        }
    }

    /// Where the container of this name stands.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.containers.iter().position(|container| &*container.name == name)
    }
}

impl ContainerTraits {
    fn of(container: &Container, role: Role, of_pod: Restarts) -> ContainerTraits {
        ContainerTraits {
            name: Arc::from(container.name.as_str()),
            role,
            restarts: match container.restart_policy {
                Some(RestartPolicy::Always) => Restarts::Always,
                Some(RestartPolicy::OnFailure) => Restarts::OnFailure,
                Some(RestartPolicy::Never) => Restarts::Never,
                Some(RestartPolicy::Other(_)) | None => of_pod,
            },
            rules: container.restart_policy_rules.clone(),
            has_startup_probe: container.startup_probe.is_some(),
            has_readiness_probe: container.readiness_probe.is_some(),
        }
    }
}

/// What a Pod takes at most at any moment of its life, as Kubernetes computes it: all containers together with all sidecars,
/// or an init container with the sidecars before it.
fn requests(spec: &PodSpec) -> NodeCapacity {
    let mut sidecars = NodeCapacity::default();
    let mut most = NodeCapacity::default();
    for container in &spec.init_containers {
        let requested = container_requests(container);
        let with_sidecars = added(sidecars, requested);
        if container.restart_policy == Some(RestartPolicy::Always) {
            sidecars = with_sidecars;
        }
        most = larger(most, with_sidecars);
    }
    let all =
        spec.containers.iter().fold(sidecars, |sum, container| added(sum, container_requests(container)));
    NodeCapacity { pods: 1, ..larger(most, all) }
}

fn container_requests(container: &Container) -> NodeCapacity {
    let cpu = requested(&container.requests, &container.limits, "cpu", Quantity::millis);
    let memory = requested(&container.requests, &container.limits, "memory", Quantity::units);
    NodeCapacity { cpu_millis: cpu, memory_bytes: memory, pods: 0 }
}

fn added(one: NodeCapacity, other: NodeCapacity) -> NodeCapacity {
    NodeCapacity {
        cpu_millis: one.cpu_millis.saturating_add(other.cpu_millis).min(REQUEST_MAX),
        memory_bytes: one.memory_bytes.saturating_add(other.memory_bytes).min(REQUEST_MAX),
        pods: 0,
    }
}

fn larger(one: NodeCapacity, other: NodeCapacity) -> NodeCapacity {
    NodeCapacity {
        cpu_millis: one.cpu_millis.max(other.cpu_millis),
        memory_bytes: one.memory_bytes.max(other.memory_bytes),
        pods: 0,
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

fn has_limits(spec: &PodSpec) -> bool {
    let mut containers = spec.init_containers.iter().chain(&spec.containers);
    containers.any(|container| ["cpu", "memory"].iter().any(|name| container.limits.contains_key(*name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::SecurityContext;

    fn container(cpu: &str, policy: Option<RestartPolicy>) -> Container {
        Container {
            requests: BTreeMap::from([("cpu".to_owned(), Quantity::parse(cpu).expect("a quantity"))]),
            restart_policy: policy,
            ..Container::default()
        }
    }

    fn cpu_millis(init: Vec<Container>, apps: Vec<Container>) -> u64 {
        let spec = PodSpec { init_containers: init, containers: apps, ..PodSpec::default() };
        PodTraits::of(&spec).class.requests.cpu_millis
    }

    #[test]
    fn a_pod_requests_what_it_takes_at_its_most() {
        let sidecar = |cpu| container(cpu, Some(RestartPolicy::Always));
        let plain = |cpu| container(cpu, None);
        assert_eq!(cpu_millis(vec![], vec![plain("1"), plain("2")]), 3_000);
        assert_eq!(cpu_millis(vec![plain("5"), plain("4")], vec![plain("1"), plain("2")]), 5_000);
        assert_eq!(cpu_millis(vec![sidecar("1")], vec![plain("2")]), 3_000);
        // Only the sidecars before an init container run beside it.
        assert_eq!(cpu_millis(vec![plain("4"), sidecar("1")], vec![plain("2")]), 4_000);
        assert_eq!(cpu_millis(vec![sidecar("1"), plain("4")], vec![plain("2")]), 5_000);
    }

    #[test]
    fn pods_that_ask_for_the_same_are_of_one_class() {
        let context = |user: &i64| SecurityContext { run_as_user: Some(*user), ..SecurityContext::default() };
        let class = |users: &[i64]| {
            let container =
                |user| Container { security_context: Some(context(user)), ..Container::default() };
            let spec = PodSpec { containers: users.iter().map(container).collect(), ..PodSpec::default() };
            PodTraits::of(&spec).class
        };
        assert_eq!(class(&[7, 0]), class(&[0, 7]));
        assert_ne!(class(&[7, 0]), class(&[7]));
        assert_eq!(class(&[7, 0, 7]).asks, BTreeSet::from([Ask::User(0), Ask::User(7)]));
    }

    #[test]
    fn limits_are_of_cpu_and_memory_of_any_container() {
        let limited = |name: &str| Container {
            limits: BTreeMap::from([(name.to_owned(), Quantity::parse("1").expect("a quantity"))]),
            ..Container::default()
        };
        let has = |init: Vec<Container>, apps: Vec<Container>| {
            let spec = PodSpec { init_containers: init, containers: apps, ..PodSpec::default() };
            PodTraits::of(&spec).class.has_limits
        };
        assert!(has(vec![limited("memory")], vec![Container::default()]));
        assert!(has(vec![], vec![Container::default(), limited("cpu")]));
        assert!(!has(vec![], vec![container("1", None), limited("example.com/thing")]));
    }
}
