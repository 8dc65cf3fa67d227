//! Nodes with several runtimes: a Job gets the one that it names, else the node's first, and never another.

use crate::manifests::shell_job;
use std::time::Duration;
use stint_tests::engine::Engine;
use stint_tests::{BUSYBOX_IMAGE, Cluster, ClusterOptions, ServedImages, abilities, eventually};

const SOON: Duration = Duration::from_secs(90);

/// Says whether it is in a container of its image, and goes on for as long as it is told.
const WHERE: &str = "if [ -n \"$OF_IMAGE\" ]; then echo container; else echo process; fi";

fn job(name: &str, class: Option<&str>, node: &str, script: &str) -> String {
    let mut manifest =
        shell_job(name, &[], script).replace("image: none", &format!("image: {BUSYBOX_IMAGE}"));
    if let Some(class) = class {
        manifest.push_str(&format!("      runtimeClassName: {class}\n"));
    }
    manifest.push_str(&format!("      nodeSelector: {{kubernetes.io/hostname: {node}}}\n"));
    manifest
}

/// What a finished Job's only Pod wrote, and the scheme of its container's id.
fn outcome(cluster: &Cluster, name: &str) -> (String, String) {
    cluster.wait_for_condition(name, "Complete", SOON);
    let pods = cluster.pods(name);
    let id = pods[0]["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
    let scheme = id.split("://").next().unwrap_or_default().to_owned();
    (cluster.stint(&["logs", &format!("job/{name}")]).success(), scheme)
}

#[test]
fn a_job_gets_the_runtime_that_it_names() {
    let below = match abilities::containers_without_daemon() {
        Ok(below) => below,
        Err(why) => return println!("not run: nodes with several runtimes: {why}"),
    };
    let engine = Engine::start();
    let images = ServedImages::start();
    let mut options = ClusterOptions::new(1, 0);
    options.below = Some(below);
    options.agent_arguments.extend(images.agent_arguments());
    let mut cluster = Cluster::start(options);
    let socket = engine.as_ref().map(Engine::address);
    let mut all = vec!["--runtime", "oci", "--runtime", "process"];
    match &socket {
        Ok(socket) => all.extend(["--runtime", "cri", "--cri-socket", socket]),
        Err(why) => println!("not run: containers of containerd beside others: {why}"),
    }
    cluster.start_agent("all", &all);
    cluster.start_agent("plain", &[]);
    cluster.wait_for_agents(SOON);

    let mut expected = vec![
        ("plain-default", None, "plain", "process", "process"),
        ("plain-process", Some("process"), "plain", "process", "process"),
        ("all-default", None, "all", "container", "oci"),
        ("all-process", Some("process"), "all", "process", "process"),
        ("all-oci", Some("oci"), "all", "container", "oci"),
    ];
    if engine.is_ok() {
        expected.push(("all-cri", Some("cri"), "all", "container", "containerd"));
    }
    for (name, class, node, ..) in &expected {
        cluster.apply(&job(name, *class, node, WHERE));
    }
    // Nobody has this: they wait, and are told why. In no case are they processes instead.
    let nowhere = [("plain-oci", "oci"), ("plain-cri", "cri")];
    for (name, class) in nowhere {
        cluster.apply(&job(name, Some(class), "plain", WHERE));
    }
    for (name, _, node, place, scheme) in expected {
        let (log, id) = outcome(&cluster, name);
        assert_eq!((log.trim(), id.as_str()), (place, scheme), "{name}");
        assert_eq!(cluster.pods(name)[0]["spec"]["nodeName"], node, "{name}");
    }
    for (name, class) in nowhere {
        eventually("it is said why the pod waits", SOON, || {
            let pods = cluster.pods(name);
            pods[0].to_string().contains(&format!("runtime {class}")).then_some(())
        });
        let pod = &cluster.pods(name)[0];
        assert_eq!(
            (&pod["status"]["phase"], &pod["spec"]["nodeName"]),
            (&"Pending".into(), &().into()),
            "{pod:#}"
        );
    }

    // The next agent has another first runtime: what runs stays what it is, and ends as that.
    cluster.apply(&job(
        "adopted",
        None,
        "all",
        &format!("{WHERE}; while [ ! -e /tmp/end ]; do sleep 0.1; done"),
    ));
    let pod = cluster.wait_for_pods("adopted", "Running", 1, SOON)[0]["metadata"]["name"].clone();
    cluster.kill_agent("all");
    all.rotate_left(2);
    cluster.start_agent("all", &all);
    cluster.wait_for_agents(SOON);
    eventually("a command runs in the container that was taken over", SOON, || {
        let arguments = ["exec", pod.as_str().unwrap_or_default(), "--", "touch", "/tmp/end"];
        (cluster.stint(&arguments).code == 0).then_some(())
    });
    let (log, id) = outcome(&cluster, "adopted");
    assert_eq!((log.trim(), id.as_str()), ("container", "oci"));
    assert_eq!(cluster.pods("adopted").len(), 1, "it was not run again");
    cluster.end_agents();
}

/// An engine gives up what it was starting when its agent goes. That costs no Pod: the next agent starts it (A13).
#[test]
fn an_agent_that_is_killed_while_its_engine_starts_containers_costs_none() {
    const PODS: u64 = 16;
    let engine = match Engine::start() {
        Ok(engine) => engine,
        Err(why) => return println!("not run: an agent killed while its engine starts containers: {why}"),
    };
    let mut options = ClusterOptions::new(1, 0);
    options.node_lease = "30s".to_owned();
    let images = ServedImages::start();
    options.agent_arguments.extend(images.agent_arguments());
    let mut cluster = Cluster::start(options);
    let socket = engine.address();
    let arguments = ["--runtime", "cri", "--cri-socket", &socket];
    cluster.start_agent("w1", &arguments);
    cluster.wait_for_agents(SOON);
    let lines = [
        &format!("completions: {PODS}"),
        &format!("parallelism: {PODS}"),
        "completionMode: Indexed",
        "backoffLimit: 0",
    ];
    let script = "echo index $JOB_COMPLETION_INDEX; sleep 5";
    let manifest = shell_job("starts", &lines.map(|line| line as &str), script);
    cluster.apply(&manifest.replace("image: none", &format!("image: {BUSYBOX_IMAGE}")));
    for pause in [500, 900, 1_500] {
        std::thread::sleep(Duration::from_millis(pause));
        cluster.kill_agent("w1");
        cluster.start_agent("w1", &arguments);
    }
    cluster.wait_for_condition("starts", "Complete", SOON * 2);
    let status = cluster.job("starts")["status"].clone();
    assert!(status["failed"].as_u64().unwrap_or(0) == 0, "{status}");
    let pods = cluster.pods("starts");
    assert_eq!(pods.len() as u64, PODS, "none was replaced");
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let index = &pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"];
        let log = cluster.stint(&["logs", name]).success();
        assert_eq!(log.trim(), format!("index {}", index.as_str().unwrap_or_default()), "{name} ran once");
    }
    cluster.end_agents();
}
