//! Whether a node allows what a Pod asks for.
//!
//! Owns: asking the policy about everything of a template, also for runtimes that have no rights of their own to give. Does not
//! own: the policy, which the runtime asks once more about what it is given.

use std::path::Path;
use stint_api::VolumeSource;
use stint_runtime::{Mount, MountPropagation, NodePolicy, Rootfs};

use super::specs::{self, Addresses};
use super::template::PodTemplate;

/// What a node allows, and what it never shows.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What its Pods may ask for.
    pub policy: NodePolicy,
    /// The agent's own folder.
    pub data_dir: std::path::PathBuf,
}

/// Judges a Pod before anything of it is made. Blocks.
///
/// # Errors
/// The first thing that is not allowed, for people.
pub fn judge(template: &PodTemplate, rootfs: Rootfs, rules: &Rules) -> Result<(), String> {
    let policy = &rules.policy;
    policy.check_pod(rootfs, &specs::sandbox_spec(template)).map_err(|violation| violation.to_string())?;
    for (index, container) in template.containers().enumerate() {
        let spec = specs::container_spec(template, index, 0, &Addresses::default(), false, true);
        let mut spec = spec.map_err(|error| error.to_string())?;
        for wanted in &container.volume_mounts {
            let propagation = match wanted.mount_propagation {
                Some(stint_api::MountPropagation::Bidirectional) => MountPropagation::Bidirectional,
                Some(stint_api::MountPropagation::HostToContainer) => MountPropagation::HostToContainer,
                _ => MountPropagation::Private,
            };
            let (source, target) = (template.folder().to_owned(), wanted.mount_path.clone().into());
            spec.mounts.push(Mount { source, target, read_only: wanted.read_only, propagation });
            let volume = template.spec().volumes.iter().find(|volume| volume.name == wanted.name);
            if let Some(VolumeSource::HostPath(host)) = volume.map(|volume| &volume.source) {
                let path = Path::new(&host.path);
                let shown = policy.host_path(path, wanted.read_only, &rules.data_dir);
                shown.map_err(|violation| format!("volume {:?}: {violation}", wanted.name))?;
            }
        }
        policy.check_container(rootfs, &spec).map_err(|violation| violation.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{Container, HostPathVolume, PodSpec, SecurityContext, Volume, VolumeMount};
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
