//! Images that must be fetched: a registry that wants credentials, pull policies, and what people are told meanwhile (P2, D14).
//!
//! For each runtime of images that this machine has, side by side.

use crate::manifests::shell_job;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use stint_tests::engine::Engine;
use stint_tests::{Cluster, ClusterOptions, ServedImages, abilities, eventually};

/// Pauses between pulls double from 10 s on.
const SOON: Duration = Duration::from_secs(180);

const NAME: &str = "puller";
const PASSWORD: &str = "correct-horse-42";

/// Who may fetch from a registry, as `docker login` writes it.
fn write_credentials(file: &Path, registry: &str, password: &str) {
    let entry = json!({"auths": {registry: {"username": NAME, "password": password}}});
    // Whole at every moment.
    let part = file.with_extension("part");
    std::fs::write(&part, entry.to_string()).unwrap();
    std::fs::rename(part, file).unwrap();
}

fn job(name: &str, runtime: &str, image: &str, policy: &str) -> String {
    let fields = format!("image: {image}\n        imagePullPolicy: {policy}");
    let mut manifest = shell_job(name, &[], "echo $OF_IMAGE").replace("image: none", &fields);
    manifest.push_str(&format!("      runtimeClassName: {runtime}\n"));
    manifest
}

/// Reasons and messages of the events about a Pod.
fn events(cluster: &Cluster, pod: &str) -> Vec<(String, String)> {
    let list = cluster.json(&["get", "events", "--for", &format!("pod/{pod}"), "-o", "json"]);
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|event| (text(event, "reason"), text(event, "message"))).collect()
}

#[test]
fn pods_wait_for_the_right_credentials_and_policies_are_kept_to() {
    let images = ServedImages::start();
    let registry = images.address();
    images.require_token(NAME, PASSWORD);
    let mut options = ClusterOptions::new(1, 0);
    let below = abilities::containers_without_daemon();
    options.below = below.as_ref().ok().cloned();
    let engine = Engine::start();
    let mut cluster = Cluster::start(options);
    let credentials = cluster.folder.path().join("credentials.json");
    write_credentials(&credentials, &registry, "wrong");
    let file = credentials.display().to_string();
    let mut runtimes = Vec::new();
    match &below {
        Ok(_) => runtimes.push(("oci", vec!["--runtime", "oci", "--registry-credentials", &file])),
        Err(why) => println!("not run: images of containers without a daemon: {why}"),
    }
    let address = engine.as_ref().map(Engine::address);
    match &address {
        Ok(address) => runtimes.push((
            "cri",
            vec!["--runtime", "cri", "--cri-socket", address, "--registry-credentials", &file],
        )),
        Err(why) => println!("not run: images of containers of containerd: {why}"),
    }
    for (runtime, arguments) in &runtimes {
        cluster.start_agent(runtime, arguments);
    }
    cluster.wait_for_agents(SOON);

    let image = format!("{registry}/stint-test/busybox:1");
    for (runtime, _) in &runtimes {
        cluster.apply(&job(runtime, runtime, &image, "IfNotPresent"));
    }
    for (runtime, _) in &runtimes {
        // First the problem itself is shown, then that the next try is waited for; both stay as events.
        let waiting = eventually("it is told that the next pull is waited for", SOON, || {
            let pods = cluster.pods(runtime);
            let waiting = pods.first()?["status"]["containerStatuses"][0]["state"]["waiting"].clone();
            (waiting["reason"] == "ImagePullBackOff").then_some(waiting)
        });
        assert!(waiting["message"].as_str().is_some_and(|message| message.contains("busybox")), "{waiting}");
        let pod = cluster.pods(runtime)[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let told = events(&cluster, &pod);
        for (reason, word) in [("Failed", "ErrImagePull"), ("BackOff", "ImagePullBackOff")] {
            let is_told = told.iter().any(|(known, message)| known == reason && message.contains(word));
            assert!(is_told, "{runtime}: {reason}: {told:?}");
        }
        let described = cluster.stint(&["describe", "pod", &pod]).success();
        for word in ["ImagePullBackOff", "ErrImagePull", "BackOff", image.as_str()] {
            assert!(described.contains(word), "{runtime}: no {word} in\n{described}");
        }
        let listed = cluster.stint(&["get", "pods", &pod]).success();
        assert!(
            listed.contains("ImagePullBackOff") || listed.contains("ErrImagePull"),
            "{runtime}: {listed}"
        );
    }
    assert_eq!(images.requests("/blobs/"), Vec::<String>::new(), "nobody got anything");

    // The file is read anew for each pull.
    write_credentials(&credentials, &registry, PASSWORD);
    for (runtime, _) in &runtimes {
        let job = cluster.wait_for_condition(runtime, "Complete", SOON);
        assert!(job["status"]["failed"].as_u64().unwrap_or(0) == 0, "{runtime}: waiting is no failure");
        assert_eq!(cluster.stint(&["logs", &format!("job/{runtime}")]).success(), "1\n");
    }

    // What is there is fetched again by one policy only.
    let manifests = || images.requests("/manifests/").len();
    for (runtime, _) in &runtimes {
        for (policy, is_asked_for) in [("IfNotPresent", false), ("Never", false), ("Always", true)] {
            let name = format!("{runtime}-{}", policy.to_lowercase());
            let before = manifests();
            cluster.apply(&job(&name, runtime, &image, policy));
            cluster.wait_for_condition(&name, "Complete", SOON);
            assert_eq!(manifests() > before, is_asked_for, "{runtime}, {policy}");
        }
    }
    // Not even a log says what is nobody's business.
    for (runtime, _) in &runtimes {
        let log = std::fs::read_to_string(cluster.log_path(runtime)).unwrap();
        assert!(!log.contains(PASSWORD), "{runtime}");
    }
    cluster.end_agents();
    if let Ok(engine) = &engine {
        assert_eq!(engine.containers(), Vec::<String>::new(), "nothing is left in the engine");
    }
}
