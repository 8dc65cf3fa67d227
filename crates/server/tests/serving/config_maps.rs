//! ConfigMaps: made, read, changed, watched, deleted; on any server.

use stint_proto::v1::WatchEventType;
use stint_proto::{ErrorReason, v1};
use tonic::Code;

use crate::agent::{ScriptedAgent, register};
use crate::cluster::{Options, follower_of, job, leader_of, name_of, one, start};

fn config_map(name: &str, level: &str) -> v1::ConfigMap {
    v1::ConfigMap {
        metadata: Some(v1::ObjectMeta { name: name.to_owned(), ..v1::ObjectMeta::default() }),
        data: [("level".to_owned(), level.to_owned())].into(),
        binary_data: [("logo".to_owned(), vec![0, 255].into())].into(),
        immutable: None,
    }
}

fn create(map: v1::ConfigMap) -> v1::CreateConfigMapRequest {
    v1::CreateConfigMapRequest { config_map: Some(map) }
}

fn get(name: &str) -> v1::GetConfigMapRequest {
    v1::GetConfigMapRequest { name: name.to_owned(), ..v1::GetConfigMapRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_map_is_made_changed_watched_and_deleted() {
    let server = one().await;
    let mut maps = server.config_maps();
    let watch = maps.watch(v1::WatchConfigMapsRequest::default()).await.expect("a watch");
    let mut changes = watch.into_inner();

    let made = maps.create(create(config_map("settings", "info"))).await.expect("made").into_inner();
    let mut stored = made.config_map.expect("the map");
    let metadata = stored.metadata.clone().expect("metadata");
    assert_eq!((metadata.namespace.as_str(), metadata.resource_version), ("default", made.revision));
    assert!(!metadata.uid.is_empty() && metadata.creation_timestamp.is_some());
    assert_eq!(maps.get(get("settings")).await.expect("read").into_inner(), stored);
    let refused = maps.create(create(config_map("settings", "info"))).await.expect_err("taken");
    assert_eq!(ErrorReason::of(&refused), Some(ErrorReason::AlreadyExists));

    stored.data.insert("level".to_owned(), "debug".to_owned());
    let update = |map: &v1::ConfigMap| v1::UpdateConfigMapRequest { config_map: Some(map.clone()) };
    let changed = maps.update(update(&stored)).await.expect("changed").into_inner();
    assert!(changed.revision > made.revision);
    let refused = maps.update(update(&stored)).await.expect_err("of an old revision");
    assert_eq!((refused.code(), ErrorReason::of(&refused)), (Code::Aborted, Some(ErrorReason::Conflict)));
    let mut last = changed.config_map.expect("the map");
    last.immutable = Some(true);
    let mut last =
        maps.update(update(&last)).await.expect("frozen").into_inner().config_map.expect("the map");
    last.data.clear();
    let refused = maps.update(update(&last)).await.expect_err("immutable");
    assert_eq!(ErrorReason::of(&refused), Some(ErrorReason::Invalid));
    assert!(refused.message().contains("field is immutable when `immutable` is set"), "{refused}");

    let list = maps.list(v1::ListConfigMapsRequest::default()).await.expect("a list").into_inner();
    assert_eq!(list.items.iter().map(|map| name_of(&map.metadata)).collect::<Vec<_>>(), ["settings"]);
    let wrong = v1::DeleteConfigMapRequest {
        name: "settings".to_owned(),
        resource_version: 1,
        ..v1::DeleteConfigMapRequest::default()
    };
    assert_eq!(maps.delete(wrong.clone()).await.expect_err("of an old revision").code(), Code::Aborted);
    let delete = v1::DeleteConfigMapRequest { resource_version: 0, ..wrong };
    maps.delete(delete.clone()).await.expect("deleted");
    assert_eq!(maps.delete(delete).await.expect_err("gone").code(), Code::NotFound);
    assert_eq!(maps.get(get("settings")).await.expect_err("gone").code(), Code::NotFound);

    let mut kinds = Vec::new();
    while kinds.last() != Some(&WatchEventType::Deleted) {
        let event = changes.message().await.expect("no error").expect("goes on");
        if event.config_map.is_some() {
            kinds.push(event.r#type());
        }
    }
    use WatchEventType::{Added, Deleted, Modified};
    assert_eq!(kinds, [Added, Modified, Modified, Deleted]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_config_map_is_refused_with_the_field() {
    let server = one().await;
    let mut maps = server.config_maps();
    let mut bad_key = config_map("a", "x");
    bad_key.data.insert("a/b".to_owned(), String::new());
    let mut large = config_map("a", "x");
    large.data.insert("large".to_owned(), "x".repeat(1 << 20));
    for (map, expected) in [
        (config_map("", "x"), "metadata.name: Required value"),
        (config_map("A", "x"), "metadata.name: Invalid value"),
        (bad_key, "data[a/b]: Invalid value"),
        (large, "data: Too long: may not be more than 1048576 bytes"),
    ] {
        let refused = maps.create(create(map)).await.expect_err(expected);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(expected), "{expected}: {refused}");
    }
    let mut largest = config_map("a", "x");
    largest.data.insert("large".to_owned(), "x".repeat((1 << 20) - 3));
    maps.create(create(largest)).await.expect("just small enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_forwards_and_all_servers_hold_the_same() {
    let servers = start(3, Options::default()).await;
    let (leader, follower) = (leader_of(&servers), follower_of(&servers));
    let made = servers[follower].config_maps().create(create(config_map("settings", "info"))).await;
    let made = made.expect("forwarded").into_inner().config_map;
    for server in [leader, follower] {
        let read = servers[server].config_maps().get(get("settings")).await.expect("read").into_inner();
        assert_eq!(Some(read), made);
    }
}

/// A Job whose container reads a key as a variable, and has the whole ConfigMap as files.
fn job_with(map: &str) -> v1::Job {
    let mut job = job("reader");
    let template = job.spec.as_mut().expect("a spec").template.as_mut().expect("a template");
    let pod = template.spec.as_mut().expect("a Pod");
    let key = v1::ConfigMapKeySelector { name: map.to_owned(), key: "level".to_owned(), optional: None };
    let source = v1::env_var_source::Source::ConfigMapKeyRef(key);
    pod.containers[0].env.push(v1::EnvVar {
        name: "LEVEL".to_owned(),
        value_from: Some(v1::EnvVarSource { source: Some(source) }),
        ..v1::EnvVar::default()
    });
    pod.containers[0].volume_mounts.push(v1::VolumeMount {
        name: "settings".to_owned(),
        mount_path: "/etc/settings".to_owned(),
        ..v1::VolumeMount::default()
    });
    let source = v1::ConfigMapVolumeSource { name: map.to_owned(), ..v1::ConfigMapVolumeSource::default() };
    let source = v1::volume_source::Source::ConfigMap(source);
    pod.volumes.push(v1::Volume {
        name: "settings".to_owned(),
        volume_source: Some(v1::VolumeSource { source: Some(source) }),
    });
    job
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_brings_what_its_pod_refers_to_or_says_what_is_missing() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    assert!(agent.desired(&[], &[]).await.pods.is_empty());
    server.jobs().create(crate::cluster::create(job_with("settings"))).await.expect("created");
    let pod = agent.ordered_pod().await;
    assert_eq!(pod.config_errors["main"], "volume settings: configmap \"settings\" not found");

    server.config_maps().create(create(config_map("settings", "debug"))).await.expect("made");
    let set = agent.desired(&[], &[]).await;
    let Some(v1::desired_pod::Action::Run(run)) = &set.pods[0].action else { panic!("{set:?}") };
    let pod = run.pod.as_ref().expect("what to run");
    assert!(pod.config_errors.is_empty(), "an agent that asks again learns of it: {:?}", pod.config_errors);
    let env = &pod.spec.as_ref().expect("a spec").containers[0].env;
    let level = env.iter().find(|variable| variable.name == "LEVEL").expect("the variable");
    assert_eq!((level.value.as_str(), &level.value_from), ("debug", &None));
    let files: Vec<_> = pod.volume_files[0]
        .files
        .iter()
        .map(|file| (file.path.as_str(), &file.data[..], file.mode))
        .collect();
    assert_eq!(files, [("level", &b"debug"[..], 0o644), ("logo", &[0, 255], 0o644)]);
}
