//! Settings of the whole cluster: shown, changed for all servers at once, and what of a command line has no effect.

use std::time::Duration;

use stint_proto::v1;
use stint_server::GivenSettings;
use tonic::Code;

use crate::agent::{ScriptedAgent, exited, register, running};
use crate::cluster::{Options, create, eventually, follower_of, job, name_of, one, restart_with, start};

fn given(default_runtime: Option<&str>, node_lease: Option<Duration>) -> GivenSettings {
    GivenSettings {
        default_runtime: default_runtime.map(str::to_owned),
        node_lease,
        ..GivenSettings::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_changes_on_every_server_at_once() {
    let servers = start(3, Options::default()).await;
    let follower = &servers[follower_of(&servers)];
    let shown = || async {
        let status = follower.cluster().status(v1::ClusterStatusRequest {}).await.expect("a status");
        status.into_inner().settings
    };
    let before = eventually("it knows the settings", shown).await;
    assert_eq!((before.node_lease_ms, before.placement_policy()), (5_000, v1::PlacementPolicy::Spread));
    let request = v1::ChangeSettingsRequest {
        placement_policy: Some(v1::PlacementPolicy::Pack.into()),
        default_runtime: Some("oci".to_owned()),
        ..v1::ChangeSettingsRequest::default()
    };
    let changed = follower.cluster().change_settings(request).await.expect("changed").into_inner();
    let expected = v1::ClusterSettings {
        placement_policy: v1::PlacementPolicy::Pack.into(),
        default_runtime: "oci".to_owned(),
        ..before
    };
    assert_eq!(changed.settings.as_ref(), Some(&expected), "the rest stays");
    for server in &servers {
        let seen = || async {
            let status = server.cluster().status(v1::ClusterStatusRequest {}).await.ok()?;
            (status.into_inner().settings.as_ref() == Some(&expected)).then_some(())
        };
        eventually("every server has it", seen).await;
    }
    let wrong =
        v1::ChangeSettingsRequest { default_runtime: Some("docker".to_owned()), ..Default::default() };
    let refused = follower.cluster().change_settings(wrong).await.expect_err("no such runtime");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("process, cri, oci"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_runtime_says_where_pods_go_and_what_runs_them() {
    let server = one().await;
    let mut mixed = register("w1", 1);
    mixed.runtimes = vec!["process".to_owned(), "oci".to_owned()];
    let mut agent = ScriptedAgent::register(server.channel(), mixed).await;
    let said = server.jobs().create(create(job("first"))).await.expect("created").into_inner().warnings;
    assert!(
        said.iter().any(|one| one.contains("runs Pods without a runtimeClassName as processes")),
        "{said:?}"
    );
    assert_eq!(agent.ordered_pod().await.runtime, "process", "without a default the node's first");

    let change = |runtime: &str| v1::ChangeSettingsRequest {
        default_runtime: Some(runtime.to_owned()),
        ..v1::ChangeSettingsRequest::default()
    };
    server.cluster().change_settings(change("oci")).await.expect("changed");
    let said = server.jobs().create(create(job("second"))).await.expect("created").into_inner().warnings;
    assert!(!said.iter().any(|one| one.contains("image")), "the image is used: {said:?}");
    let second = agent.ordered_pod().await;
    assert_eq!(second.runtime, "oci");
    let get = v1::GetPodRequest { name: second.name, ..v1::GetPodRequest::default() };
    let pod = server.pods().get(get).await.expect("there").into_inner();
    assert_eq!(pod.spec.expect("a spec").runtime_class_name.as_deref(), Some("oci"));

    server.cluster().change_settings(change("cri")).await.expect("changed");
    server.jobs().create(create(job("third"))).await.expect("created");
    let waits = || async {
        let pods = server.pods().list(v1::ListPodsRequest::default()).await.ok()?.into_inner().items;
        let pod = pods.into_iter().find(|pod| name_of(&pod.metadata).starts_with("third-"))?;
        let told =
            pod.status?.conditions.into_iter().find(|condition| condition.reason == "Unschedulable")?;
        Some(told.message)
    };
    let message = eventually("it is told why it waits", waits).await;
    assert_eq!(message, "0/1 nodes are available: 1 node(s) didn't offer the default runtime cri (w1).");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_that_has_no_effect_is_told_and_another_lease_is_refused() {
    let mut server = one().await;
    server.stop().await;
    let other = given(None, Some(Duration::from_secs(30)));
    let refused = restart_with(&mut server, other).await.expect_err("the lease can't be changed");
    assert!(refused.to_string().contains("the cluster's is 5s"), "{refused}");
    restart_with(&mut server, given(Some("oci"), None)).await.expect("it starts");
    let status = server.cluster().status(v1::ClusterStatusRequest {}).await.expect("a status").into_inner();
    let alarms: Vec<&str> = status.alarms.iter().map(|alarm| alarm.name.as_str()).collect();
    assert!(alarms.contains(&"SettingWithoutEffect"), "{:?}", status.alarms);
    assert_eq!(status.settings.expect("settings").default_runtime, "", "the stored one counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j122_the_oldest_ended_pods_go_and_nothing_is_counted_again() {
    // The agent does not beat.
    let options = Options { node_lease: Some(Duration::from_secs(600)), ..Options::default() };
    let server = start(1, options).await.remove(0);
    let request =
        v1::ChangeSettingsRequest { ended_pods_max: Some(2), ..v1::ChangeSettingsRequest::default() };
    server.cluster().change_settings(request).await.expect("changed");
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let mut work = job("work");
    let spec = work.spec.as_mut().expect("a spec");
    (spec.completions, spec.parallelism) = (Some(5), Some(5));
    server.jobs().create(create(work)).await.expect("created");
    let mut pods = Vec::new();
    for _ in 0..5 {
        pods.push(agent.ordered_pod().await);
    }
    for (seq, pod) in (0..).step_by(2).zip(&pods) {
        agent.report(seq + 1, &pod.uid, running()).await;
        agent.report(seq + 2, &pod.uid, exited(0)).await;
        // The order in which they ended is told by the cluster's time, in milliseconds.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut names: Vec<String> = pods.into_iter().map(|pod| pod.name).collect();
    let newest: Vec<String> = names.split_off(3);
    let kept = || async {
        names_of(&server.pods().list(v1::ListPodsRequest::default()).await.ok()?.into_inner().items, 2)
    };
    let mut kept = eventually("only two are kept", kept).await;
    kept.sort();
    let mut expected = newest;
    expected.sort();
    assert_eq!(kept, expected, "those that ended last");
    let get = v1::GetJobRequest { name: "work".to_owned(), ..v1::GetJobRequest::default() };
    let status = server.jobs().get(get).await.expect("there").into_inner().status.expect("a status");
    assert_eq!((status.succeeded, status.failed, status.active), (5, 0, 0), "J110");
}

/// Their names, once there are so many.
fn names_of(pods: &[v1::Pod], count: usize) -> Option<Vec<String>> {
    (pods.len() == count).then(|| pods.iter().map(|pod| name_of(&pod.metadata).to_owned()).collect())
}
