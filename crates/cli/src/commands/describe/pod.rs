//! A Pod: where it is, what its containers do, what happened to it.

use stint_api::{Event, Pod, Timestamp, table as words};

use super::last_lines::LastLines;
use super::{conditions, containers, events, moment, pairs, seconds};
use crate::sheet::Sheet;

pub fn sheet(pod: &Pod, last: Option<&LastLines>, told: &[Event], now: Timestamp) -> String {
    let mut sheet = Sheet::default();
    place(&mut sheet, pod);
    let statuses = || pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    containers::containers(&mut sheet, &pod.spec, |name| statuses().find(|status| status.name == name));
    conditions(
        &mut sheet,
        pod.status.conditions.iter().map(|one| {
            let (kind, reason, message) = (&one.condition_type, &one.reason, &one.message);
            (kind.as_str(), one.status, one.last_transition_time, reason.as_str(), message.as_str())
        }),
    );
    containers::volumes(&mut sheet, &pod.spec.volumes);
    pairs(&mut sheet, "Node-Selectors", &pod.spec.node_selector);
    if let Some(last) = last {
        last.show(&mut sheet);
    }
    events(&mut sheet, told, now);
    sheet.finish()
}

/// What it is, where it is, and what is true of it as a whole.
fn place(sheet: &mut Sheet, pod: &Pod) {
    let (metadata, status) = (&pod.metadata, &pod.status);
    sheet.field("Name", &metadata.name);
    sheet.field("Namespace", &metadata.namespace);
    sheet.field("Priority", pod.spec.priority.unwrap_or(0).to_string());
    sheet.field(
        "Node",
        match (&pod.node_name, &status.host_ip) {
            (Some(node), Some(address)) => format!("{node}/{address}"),
            (Some(node), None) => node.clone(),
            (None, _) => "<none>".to_owned(),
        },
    );
    sheet.field_if("Runtime", pod.spec.runtime_class_name.as_deref().unwrap_or_default());
    sheet.field_if("Start Time", moment(status.start_time));
    pairs(sheet, "Labels", &metadata.labels);
    pairs(sheet, "Annotations", &metadata.annotations);
    match metadata.deletion_timestamp {
        Some(_) if !status.phase.is_terminal() => {
            sheet.field("Status", format!("Terminating (until {})", moment(metadata.deletion_timestamp)));
            let grace = metadata.deletion_grace_period_seconds.map(seconds).unwrap_or_default();
            sheet.field_if("Termination Grace Period", grace);
        }
        _ => sheet.field(
            "Status",
            match words::pod_status(pod) {
                word if word == status.phase.as_str() => word,
                word => format!("{} ({word})", status.phase.as_str()),
            },
        ),
    }
    sheet.field_if("Reason", &status.reason);
    sheet.field_if("Message", &status.message);
    sheet.field("IP", status.pod_ips.first().map_or("<none>", String::as_str));
    if status.pod_ips.len() > 1 {
        sheet.list("IPs", status.pod_ips.iter().cloned());
    }
    let owner = metadata.owner_references.iter().find(|owner| owner.controller);
    sheet.field_if(
        "Controlled By",
        owner.map(|owner| format!("{}/{}", owner.kind, owner.name)).unwrap_or_default(),
    );
    sheet.field_if(
        "Completion Index",
        pod.completion_index.map(|index| index.to_string()).unwrap_or_default(),
    );
    sheet.field_if("Fencing Token", pod.binding_revision.map(|token| token.to_string()).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{
        Container, ContainerState, ContainerStatus, ContainerTermination, EnvVar, ExecAction, ObjectMeta,
        OwnerReference, PodPhase, PodSpec, PodStatus, Probe, Revision,
    };

    fn end(exit_code: i32, reason: &str) -> ContainerState {
        ContainerState::Terminated(ContainerTermination {
            exit_code,
            reason: reason.to_owned(),
            started_at: Some(Timestamp(0)),
            finished_at: Some(Timestamp(1_000)),
            ..ContainerTermination::default()
        })
    }

    fn pod() -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: "pi-abcde".to_owned(),
                namespace: "team".to_owned(),
                owner_references: vec![OwnerReference {
                    kind: "Job".to_owned(),
                    name: "pi".to_owned(),
                    controller: true,
                    ..OwnerReference::default()
                }],
                ..ObjectMeta::default()
            },
            spec: PodSpec {
                containers: vec![Container {
                    name: "main".to_owned(),
                    image: "perl:5.34".to_owned(),
                    command: vec!["perl".to_owned(), "-e1".to_owned()],
                    env: vec![EnvVar { name: "A".to_owned(), value: "1".to_owned(), value_from: None }],
                    liveness_probe: Some(Probe {
                        exec: ExecAction { command: vec!["true".to_owned()] },
                        timeout_seconds: 1,
                        period_seconds: 10,
                        success_threshold: 1,
                        failure_threshold: 3,
                        ..Probe::default()
                    }),
                    ..Container::default()
                }],
                ..PodSpec::default()
            },
            node_name: Some("w1".to_owned()),
            completion_index: None,
            binding_revision: Some(Revision(41)),
            status: PodStatus {
                phase: PodPhase::Running,
                host_ip: Some("10.0.0.7".to_owned()),
                container_statuses: vec![ContainerStatus {
                    name: "main".to_owned(),
                    state: ContainerState::Waiting {
                        reason: "CrashLoopBackOff".to_owned(),
                        message: String::new(),
                    },
                    last_state: Some(end(137, "OOMKilled")),
                    restart_count: 2,
                    ..ContainerStatus::default()
                }],
                ..PodStatus::default()
            },
        }
    }

    #[test]
    fn a_pod_says_where_it_is_and_how_its_containers_fare() {
        let text = sheet(&pod(), None, &[], Timestamp(0));
        let expected = "\
Name:            pi-abcde
Namespace:       team
Priority:        0
Node:            w1/10.0.0.7
Labels:          <none>
Annotations:     <none>
Status:          Running (CrashLoopBackOff)
IP:              <none>
Controlled By:   Job/pi
Fencing Token:   41
Containers:
  main:
    Image:          perl:5.34
    Command:        perl
                    -e1
    State:          Waiting
      Reason:       CrashLoopBackOff
    Last State:     Terminated
      Reason:       OOMKilled
      Exit Code:    137
      Started:      1970-01-01T00:00:00Z
      Finished:     1970-01-01T00:00:01Z
    Ready:          false
    Restart Count:  2
    Liveness:       exec [true] delay=0s timeout=1s period=10s #success=1 #failure=3
    Environment:    A: 1
    Mounts:         <none>
Conditions:      <none>
Volumes:         <none>
Node-Selectors:  <none>
Events:          <none>";
        assert_eq!(text, expected);
    }
}
