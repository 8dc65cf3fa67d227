//! Settings of the whole cluster: what a server was started with, what they are, how they are changed.
//!
//! Owns: the checks of their values, what is said of a flag that has no effect any more. Does not own: the settings
//! themselves (`stint-core`), the command line (`stint-cli`).
//!
//! A flag counts when the cluster is initialized. Afterwards the stored setting does, on every server: it is changed by a
//! command, so that it can't depend on which server leads. The node lease can't be changed: agents hold leases of the old
//! length.

use std::time::Duration;

use stint_api::{RUNTIME_CLASSES, duration};
use stint_core::{ClusterSettings, ClusterSettingsChange, PlacementPolicy};
use stint_proto::v1;
use tonic::Status;

use crate::error::{self, Error};
use crate::limits::{
    ENDED_PODS_DEFAULT, EVENT_RETENTION_MS, EVENT_RETENTION_MS_MAX, EVENT_RETENTION_MS_MIN,
    NODE_LEASE_DEFAULT_MS, NODE_LEASE_MS_MAX, NODE_LEASE_MS_MIN,
};

/// What the command line says of the cluster's settings; what is none is the default of a new cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenSettings {
    /// `--node-lease`: from 5 s to 10 min.
    pub node_lease: Option<Duration>,
    /// `--placement`.
    pub placement_policy: Option<PlacementPolicy>,
    /// `--default-runtime`: `process`, `cri` or `oci`; empty: the first runtime of each node.
    pub default_runtime: Option<String>,
    /// `--ended-pods-max`: ended Pods that are kept; 0: all.
    pub ended_pods_max: Option<u32>,
}

impl GivenSettings {
    /// Checks everything that can be checked without knowing the cluster.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let lease_ms = self.node_lease_ms();
        if !(NODE_LEASE_MS_MIN..=NODE_LEASE_MS_MAX).contains(&lease_ms) {
            return Err(invalid(format!(
                "node lease: {lease_ms} ms is not from {NODE_LEASE_MS_MIN} to {NODE_LEASE_MS_MAX} ms: choose between 5s and 10m"
            )));
        }
        match &self.default_runtime {
            Some(runtime) => {
                check_runtime(runtime).map_err(|problem| invalid(format!("default runtime: {problem}")))
            }
            None => Ok(()),
        }
    }

    /// What a new cluster is initialized with.
    pub(crate) fn initial(&self) -> stint_raft::InitialSettings {
        stint_raft::InitialSettings {
            node_lease_ms: self.node_lease_ms(),
            placement_policy: self.placement_policy.unwrap_or_default(),
            event_retention_ms: EVENT_RETENTION_MS,
            default_runtime: self.default_runtime.clone().unwrap_or_default(),
            ended_pods_max: self.ended_pods_max.unwrap_or(ENDED_PODS_DEFAULT),
        }
    }

    /// In milliseconds, also where nothing is given.
    pub(crate) fn node_lease_ms(&self) -> u64 {
        self.node_lease
            .map_or(NODE_LEASE_DEFAULT_MS, |lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX))
    }

    /// A lease that the cluster does not have and can't be given: whoever wrote it believes in something that is not so.
    pub(crate) fn check_lease_of(&self, cluster: &ClusterSettings) -> Result<(), Error> {
        let is_other = self.node_lease.is_some() && self.node_lease_ms() != cluster.node_lease_ms;
        if !is_other {
            return Ok(());
        }
        Err(invalid(format!(
            "node lease: the cluster's is {}, and it can't be changed once the cluster is initialized: leave --node-lease {} out",
            duration::format_ms(cluster.node_lease_ms),
            duration::format_ms(self.node_lease_ms())
        )))
    }

    /// What was given and is not so in this cluster, each with what to do about it.
    pub(crate) fn differences(&self, cluster: &ClusterSettings) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |flag: &str, given: Option<String>, is: String, key: &str| {
            if let Some(given) = given.filter(|given| *given != is) {
                found.push(format!(
                    "--{flag} {given:?} has no effect, as the cluster's setting is {is:?}: change it with `stint cluster set {key}={given}`, or leave the flag out"
                ));
            }
        };
        let placement = |policy: PlacementPolicy| placement_text(policy).to_owned();
        compare(
            "placement",
            self.placement_policy.map(placement),
            placement(cluster.placement_policy),
            "placement",
        );
        compare(
            "default-runtime",
            self.default_runtime.clone(),
            cluster.default_runtime.clone(),
            "default-runtime",
        );
        let ended = self.ended_pods_max.map(|max| max.to_string());
        compare("ended-pods-max", ended, cluster.ended_pods_max.to_string(), "ended-pods-max");
        found
    }
}

/// Settings on the wire.
pub fn to_wire(settings: &ClusterSettings) -> v1::ClusterSettings {
    v1::ClusterSettings {
        node_lease_ms: settings.node_lease_ms,
        placement_policy: match settings.placement_policy {
            PlacementPolicy::Spread => v1::PlacementPolicy::Spread.into(),
            PlacementPolicy::Pack => v1::PlacementPolicy::Pack.into(),
        },
        event_retention_ms: settings.event_retention_ms,
        default_runtime: settings.default_runtime.clone(),
        ended_pods_max: settings.ended_pods_max,
    }
}

/// A change that is asked for.
///
/// # Errors
/// `BadRequest` for a value that no cluster can have.
pub fn change_of(request: v1::ChangeSettingsRequest) -> Result<ClusterSettingsChange, Status> {
    let placement_policy = match request.placement_policy.map(|_| request.placement_policy()) {
        None => None,
        Some(v1::PlacementPolicy::Spread) => Some(PlacementPolicy::Spread),
        Some(v1::PlacementPolicy::Pack) => Some(PlacementPolicy::Pack),
        Some(v1::PlacementPolicy::Unspecified) => {
            return Err(error::bad_request("placementPolicy", "must be spread or pack"));
        }
    };
    if let Some(ms) = request.event_retention_ms
        && !(EVENT_RETENTION_MS_MIN..=EVENT_RETENTION_MS_MAX).contains(&ms)
    {
        let message = format!(
            "{} is not from {} to {}",
            duration::format_ms(ms),
            duration::format_ms(EVENT_RETENTION_MS_MIN),
            duration::format_ms(EVENT_RETENTION_MS_MAX)
        );
        return Err(error::bad_request("eventRetention", message));
    }
    if let Some(runtime) = &request.default_runtime {
        check_runtime(runtime).map_err(|problem| error::bad_request("defaultRuntime", problem))?;
    }
    Ok(ClusterSettingsChange {
        placement_policy,
        event_retention_ms: request.event_retention_ms,
        default_runtime: request.default_runtime,
        ended_pods_max: request.ended_pods_max,
    })
}

fn check_runtime(runtime: &str) -> Result<(), String> {
    if runtime.is_empty() || RUNTIME_CLASSES.contains(&runtime) {
        return Ok(());
    }
    Err(format!("there is no runtime {runtime:?}: choose one of {}", RUNTIME_CLASSES.join(", ")))
}

fn placement_text(policy: PlacementPolicy) -> &'static str {
    match policy {
        PlacementPolicy::Spread => "spread",
        PlacementPolicy::Pack => "pack",
    }
}

fn invalid(message: String) -> Error {
    Error::InvalidConfig { message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{ClusterId, MemberId};

    fn cluster() -> ClusterSettings {
        ClusterSettings {
            cluster_id: ClusterId(1),
            node_lease_ms: 10_000,
            placement_policy: PlacementPolicy::Spread,
            event_retention_ms: EVENT_RETENTION_MS,
            highest_member_id: MemberId(1),
            default_runtime: "oci".to_owned(),
            ended_pods_max: 7,
        }
    }

    #[test]
    fn a_flag_without_effect_is_named_with_what_to_do() {
        assert!(GivenSettings::default().differences(&cluster()).is_empty());
        let same = GivenSettings {
            placement_policy: Some(PlacementPolicy::Spread),
            default_runtime: Some("oci".to_owned()),
            ended_pods_max: Some(7),
            node_lease: Some(Duration::from_secs(10)),
        };
        assert!(same.differences(&cluster()).is_empty() && same.check_lease_of(&cluster()).is_ok());
        let other = GivenSettings {
            placement_policy: Some(PlacementPolicy::Pack),
            default_runtime: Some("cri".to_owned()),
            ended_pods_max: Some(0),
            node_lease: Some(Duration::from_secs(30)),
        };
        let found = other.differences(&cluster());
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[1].contains("stint cluster set default-runtime=cri"), "{found:?}");
        let refused = other.check_lease_of(&cluster()).unwrap_err().to_string();
        assert!(
            refused.contains("the cluster's is 10s") && refused.contains("--node-lease 30s"),
            "{refused}"
        );
    }

    #[test]
    fn values_that_no_cluster_can_have_are_refused() {
        let lease = |seconds| GivenSettings {
            node_lease: Some(Duration::from_secs(seconds)),
            ..GivenSettings::default()
        };
        assert!(
            lease(4).validate().is_err() && lease(601).validate().is_err() && lease(5).validate().is_ok()
        );
        let runtime =
            |name: &str| GivenSettings { default_runtime: Some(name.to_owned()), ..GivenSettings::default() };
        assert!(runtime("").validate().is_ok() && runtime("cri").validate().is_ok());
        assert!(runtime("docker").validate().unwrap_err().to_string().contains("process, cri, oci"));
        for request in [
            v1::ChangeSettingsRequest { default_runtime: Some("docker".to_owned()), ..Default::default() },
            v1::ChangeSettingsRequest { event_retention_ms: Some(0), ..Default::default() },
            v1::ChangeSettingsRequest { placement_policy: Some(0), ..Default::default() },
            v1::ChangeSettingsRequest { placement_policy: Some(99), ..Default::default() },
        ] {
            assert!(change_of(request.clone()).is_err(), "{request:?}");
        }
        let change =
            change_of(v1::ChangeSettingsRequest { ended_pods_max: Some(0), ..Default::default() }).unwrap();
        let expected = ClusterSettingsChange { ended_pods_max: Some(0), ..ClusterSettingsChange::default() };
        assert_eq!(change, expected, "the rest stays");
    }
}
