//! Whether a node allows what a Pod asks for.
//!
//! Owns: judging a template before anything of its Pod is made, for every runtime. Does not own: carrying it out.
//!
//! Safe by default: nothing is allowed that reaches beyond the Pod.

use stint_api::{Container, MountPropagation, SeccompProfile, SeccompProfileType, VolumeSource};

use super::template::PodTemplate;

/// Judges a Pod.
///
/// # Errors
/// The first thing that is not allowed, for people.
pub fn judge(template: &PodTemplate) -> Result<(), String> {
    let spec = template.spec();
    let refused = |what: &str| Err(format!("{what} is not allowed on this node"));
    if spec.host_pid {
        return refused("hostPID: true");
    }
    if spec.host_ipc {
        return refused("hostIPC: true");
    }
    for volume in &spec.volumes {
        if let VolumeSource::HostPath(host) = &volume.source {
            return refused(&format!("volume {:?}: hostPath {}", volume.name, host.path));
        }
    }
    let security = spec.security_context.as_ref();
    if is_unconfined(security.and_then(|context| context.seccomp_profile.as_ref())) {
        return refused("seccompProfile: Unconfined");
    }
    template.containers().iter().try_for_each(|container| match asks_beyond(container) {
        Some(what) => refused(&format!("container {:?}: {what}", container.name)),
        None => Ok(()),
    })
}

fn asks_beyond(container: &Container) -> Option<&'static str> {
    let bidirectional = Some(MountPropagation::Bidirectional);
    if container.volume_mounts.iter().any(|mount| mount.mount_propagation == bidirectional) {
        return Some("mountPropagation: Bidirectional");
    }
    let context = container.security_context.as_ref()?;
    if context.privileged == Some(true) {
        return Some("privileged: true");
    }
    if context.capabilities.as_ref().is_some_and(|capabilities| !capabilities.add.is_empty()) {
        return Some("a further capability");
    }
    is_unconfined(context.seccomp_profile.as_ref()).then_some("seccompProfile: Unconfined")
}

fn is_unconfined(profile: Option<&SeccompProfile>) -> bool {
    profile.is_some_and(|profile| profile.profile_type == SeccompProfileType::Unconfined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{Capabilities, HostPathVolume, PodSpec, SecurityContext, Volume};
    use stint_proto::v1;

    fn judged(spec: PodSpec) -> Result<(), String> {
        let uid = vec![7; 16].into();
        let to_run = v1::PodToRun { uid, spec: Some(spec.into()), ..v1::PodToRun::default() };
        judge(&PodTemplate::new(to_run, "/data/pods/x".into()))
    }

    fn contained(context: SecurityContext) -> PodSpec {
        let container =
            |security_context| Container { name: "app".to_owned(), security_context, ..Container::default() };
        // Whatever an init container may do, the Pod may.
        PodSpec {
            init_containers: vec![container(Some(context))],
            containers: vec![container(None)],
            ..PodSpec::default()
        }
    }

    #[test]
    fn what_reaches_beyond_the_pod_is_refused() {
        assert_eq!(judged(contained(SecurityContext::default())), Ok(()));
        let host = VolumeSource::HostPath(HostPathVolume { path: "/etc".to_owned(), path_type: None });
        let add = Capabilities { add: vec!["SYS_ADMIN".to_owned()], drop: Vec::new() };
        let unconfined =
            SeccompProfile { profile_type: SeccompProfileType::Unconfined, localhost_profile: None };
        for (spec, what) in [
            (PodSpec { host_pid: true, ..PodSpec::default() }, "hostPID"),
            (PodSpec { host_ipc: true, ..PodSpec::default() }, "hostIPC"),
            (
                PodSpec {
                    volumes: vec![Volume { name: "v".to_owned(), source: host }],
                    ..PodSpec::default()
                },
                "hostPath /etc",
            ),
            (
                contained(SecurityContext { privileged: Some(true), ..SecurityContext::default() }),
                "privileged",
            ),
            (
                contained(SecurityContext { capabilities: Some(add), ..SecurityContext::default() }),
                "capability",
            ),
            (
                contained(SecurityContext {
                    seccomp_profile: Some(unconfined),
                    ..SecurityContext::default()
                }),
                "Unconfined",
            ),
        ] {
            assert!(judged(spec).unwrap_err().contains(what), "{what}");
        }
    }
}
