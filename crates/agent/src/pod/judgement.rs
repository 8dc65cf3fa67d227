//! Whether a node allows what a Pod asks for.
//!
//! Owns: asking the policy about everything of a template, also for runtimes that have no rights of their own to give. Does not
//! own: the policy, which the runtime asks once more about what it is given.

use std::path::Path;
use stint_api::Ask;
use stint_runtime::{NodePolicy, Rootfs};

use super::template::PodTemplate;

/// What a node allows, and what it never shows.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What its Pods may ask for.
    pub policy: NodePolicy,
    /// The agent's own folder.
    pub data_dir: std::path::PathBuf,
}

/// Judges a Pod before anything of it is made, by the rules that the scheduler had; they may have changed since. Blocks.
///
/// # Errors
/// The first thing that is not allowed, for people.
pub fn judge(template: &PodTemplate, rootfs: Rootfs, rules: &Rules) -> Result<(), String> {
    let policy = &rules.policy;
    for (container, ask) in stint_api::asks_of(template.spec()) {
        let of = container.map(|name| format!("container {name:?}"));
        let judged = match &ask {
            // It is a matter of where the path really leads.
            Ask::HostPath { path, writable } => {
                policy.host_path(Path::new(path), !writable, &rules.data_dir).map(drop)
            }
            ask => policy.check(rootfs, of.as_deref(), ask),
        };
        judged.map_err(|violation| match (&ask, of) {
            (Ask::HostPath { .. }, Some(of)) => format!("{of}: {violation}"),
            _ => violation.to_string(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{
        Container, HostPathVolume, PodSecurityContext, PodSpec, SecurityContext, Volume, VolumeMount,
        VolumeSource,
    };
    use stint_proto::v1;

    fn judged(spec: PodSpec, rootfs: Rootfs, allowed: &str) -> Result<(), String> {
        let mut policy = NodePolicy::default();
        policy.allow(allowed).unwrap();
        let uid = vec![7; 16].into();
        let to_run = v1::PodToRun { uid, spec: Some(spec.into()), ..v1::PodToRun::default() };
        let template = PodTemplate::new(to_run, "/data/pods/x".into());
        judge(&template, rootfs, &Rules { policy, data_dir: "/data".into() })
    }

    fn shows(path: &str, read_only: bool) -> PodSpec {
        let source = VolumeSource::HostPath(HostPathVolume { path: path.to_owned(), path_type: None });
        let mount = VolumeMount {
            name: "host".to_owned(),
            mount_path: "/seen".to_owned(),
            read_only,
            ..VolumeMount::default()
        };
        let container =
            Container { name: "app".to_owned(), volume_mounts: vec![mount], ..Container::default() };
        let volumes = vec![Volume { name: "host".to_owned(), source }];
        PodSpec { containers: vec![container], volumes, ..PodSpec::default() }
    }

    #[test]
    fn paths_of_the_host_are_shown_only_as_far_as_that_is_allowed() {
        for rootfs in [Rootfs::Host, Rootfs::Image] {
            assert!(judged(shows("/usr/share", true), rootfs, "").unwrap_err().contains("host-path"));
            assert!(judged(shows("/usr/share", true), rootfs, "host-path=/usr").is_ok());
            assert!(judged(shows("/usr/share", false), rootfs, "host-path=/usr").is_err());
            assert!(judged(shows("/usr/../etc", true), rootfs, "host-path=/usr").is_err());
            assert!(judged(shows("/data/journal", true), rootfs, "host-path=/").is_err(), "the agent's own");
        }
    }

    #[test]
    fn groups_of_volumes_are_groups_of_the_host() {
        let spec = || PodSpec {
            containers: vec![Container { name: "app".to_owned(), ..Container::default() }],
            security_context: Some(PodSecurityContext {
                fs_group: Some(42),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        };
        assert!(judged(spec(), Rootfs::Host, "").unwrap_err().contains("fsGroup: 42"));
        assert!(judged(spec(), Rootfs::Host, "user=42").is_ok());
        assert!(judged(spec(), Rootfs::Image, "").is_ok());
    }

    #[test]
    fn rights_are_judged_for_every_container() {
        let container = |privileged| Container {
            name: "app".to_owned(),
            security_context: Some(SecurityContext {
                privileged: Some(privileged),
                ..SecurityContext::default()
            }),
            ..Container::default()
        };
        let spec = |privileged| PodSpec {
            init_containers: vec![container(privileged)],
            containers: vec![container(false)],
            ..PodSpec::default()
        };
        assert!(judged(spec(false), Rootfs::Image, "").is_ok());
        assert!(judged(spec(true), Rootfs::Image, "").unwrap_err().contains("privileged"));
        assert!(judged(spec(true), Rootfs::Image, "privileged").is_ok());
    }
}
