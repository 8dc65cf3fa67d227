//! Starting, ending, what a container gets.

use crate::engine::STOPPED_BY_USR1;
use crate::fixture::{Fixture, never, until};
use crate::images::{Registry, TestImage};
use nix::libc;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use stint_runtime::{
    CriNetwork, Error, ExitReason, ImageDisk, ImageReason, ImageSpec, Mount, MountPropagation,
    PodSandboxSpec, PullPolicy, RegistryMirror, Runtime,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is started while the engine is silent is not said to have failed: its agent tries again.
pub async fn an_engine_that_does_not_answer_is_told_of_and_ends_no_container(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let is_unavailable =
        || runtime.conditions().into_iter().any(|condition| condition.kind == "EngineUnavailable");
    assert!(!is_unavailable() && !runtime.image_folders().is_empty());
    let pod = fixture.pod(&runtime).await;
    let running = fixture.start(&pod, "main", "sleep 1000").await;
    let frozen = fixture.engine.freeze();
    let refused = pod.start(fixture.shell(pod.pod_uid(), "late", "exit 3"), never()).await;
    let error = refused.err().expect("nothing has started");
    assert!(matches!(error, Error::Engine { .. } | Error::StartResources { .. }), "{error}");
    until("the node says so", is_unavailable).await;
    drop(frozen);
    until("the node says no more", || !is_unavailable()).await;
    let late = fixture.start(&pod, "late", "exit 3").await;
    assert_eq!(late.wait().await.exit_code, 3);
    running.kill().await;
    running.wait().await;
    pod.close().await.unwrap();
}

pub async fn p5_exit_codes(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    for code in [0, 1, 3, 255] {
        let exit = fixture.run(&runtime, &format!("exit {code}")).await;
        let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Error };
        assert_eq!((exit.exit_code, exit.signal, exit.reason, exit.fenced), (code, None, reason, false));
    }
}

pub async fn p5_programs_that_cannot_run(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    for (program, code) in [("nope", 127), ("/no/such", 127), ("/etc/passwd", 126), ("/tmp", 126)] {
        let pod = fixture.pod(&runtime).await;
        let mut spec = fixture.shell(pod.pod_uid(), "main", "");
        spec.command = vec![program.to_owned()];
        let container = pod.start(spec, never()).await.unwrap();
        let exit = container.wait().await;
        assert_eq!(
            (exit.exit_code, exit.reason),
            (code, ExitReason::StartError),
            "{program}: {}",
            exit.message
        );
        assert!(
            container.started_at().is_none() && exit.message.contains(program),
            "{program}: {}",
            exit.message
        );
        pod.close().await.unwrap();
    }
}

pub async fn p6_signals_reach_the_main_process(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let ready = fixture.pod_folder(pod.pod_uid()).join("ready");
    let handles = "trap 'exit 5' TERM; touch /pod/ready; while true; do sleep 0.1; done";
    let container = fixture.start(&pod, "handles", handles).await;
    until("the trap is set", || ready.exists()).await;
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait().await.exit_code, 5);
    std::fs::remove_file(&ready).unwrap();
    let ignores = fixture
        .start(&pod, "ignores", "trap '' TERM; touch /pod/ready; while true; do sleep 0.1; done")
        .await;
    until("the trap is set", || ready.exists()).await;
    ignores.signal(libc::SIGTERM);
    let waited = tokio::time::timeout(Duration::from_millis(500), ignores.wait()).await;
    assert!(waited.is_err(), "it goes on: {waited:?}");
    ignores.kill().await;
    let exit = ignores.wait().await;
    assert_eq!((exit.exit_code, exit.signal, exit.reason), (137, Some(9), ExitReason::Error));
    assert_eq!(ignores.wait().await, exit, "the answer stays the same");
    // Nobody answers after the end.
    ignores.signal(libc::SIGTERM);
    ignores.kill().await;
}

pub async fn p6_an_image_says_how_it_is_stopped(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let line = "trap 'exit 6' USR1; trap 'exit 7' TERM; echo ready; while true; do sleep 0.1; done";
    let usr1 =
        Some(ImageSpec { reference: STOPPED_BY_USR1.to_owned(), pull_policy: PullPolicy::IfNotPresent });
    for (name, stop_signal, expected) in [("image", None, 6), ("spec", Some(libc::SIGTERM), 7)] {
        let mut spec = fixture.shell(pod.pod_uid(), name, line);
        (spec.image, spec.stop_signal) = (usr1.clone(), stop_signal);
        let container = pod.start(spec, never()).await.unwrap();
        let begun = Instant::now();
        while fixture.output(&runtime, container.id()).await.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it says that it is ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        container.signal(libc::SIGTERM);
        assert_eq!(container.wait().await.exit_code, expected, "{name}");
    }
}

pub async fn what_is_asked_for_is_what_it_gets(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let uid = fixture.pod_uid();
    let mut pod = PodSandboxSpec::new(&uid, fixture.pod_folder(&uid));
    (pod.fs_group, pod.supplemental_groups) = (Some(3000), vec![4000]);
    let pod = runtime.open_pod(pod).await.unwrap();
    let again = runtime.open_pod(PodSandboxSpec::new(&uid, fixture.pod_folder(&uid))).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&pod, &again), "a Pod is opened once");
    assert!(pod.addresses().is_empty(), "the host's network");
    let line = r#"id -u; id -g; id -G; echo $OF_IMAGE $A $B "$0" "$@"; pwd; (echo x >/etc/x) 2>/dev/null || echo read-only;
        (echo x >/seen/x) 2>/dev/null || echo read-only; cat /seen/file;
        test "$$$$" = 1 && echo first; (echo 1 >/proc/sys/vm/drop_caches) 2>/dev/null || echo refused; ls /sys/firmware | head -n 1"#;
    let mut spec = fixture.shell(&uid, "main", line);
    spec.command.push("$(A)".to_owned());
    spec.args = vec!["$(B)".to_owned(), "$$(A)".to_owned()];
    spec.env = [("A", "1"), ("B", "$(A)2"), ("OF_IMAGE", "replaced")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .to_vec();
    spec.working_directory = Some(PathBuf::from("/tmp"));
    (spec.security.user, spec.security.group) = (Some(1001), Some(2000));
    spec.security.read_only_root = true;
    spec.security.capabilities_drop = vec!["ALL".to_owned()];
    spec.security.allow_privilege_escalation = Some(false);
    let seen = fixture.pod_folder(&uid).join("seen");
    std::fs::create_dir(&seen).unwrap();
    std::fs::write(seen.join("file"), "of the host\n").unwrap();
    spec.mounts.push(Mount {
        source: seen,
        target: PathBuf::from("/seen"),
        read_only: true,
        propagation: MountPropagation::Private,
    });
    let container = pod.start(spec, never()).await.unwrap();
    let exit = container.wait().await;
    let output = String::from_utf8(fixture.output(&runtime, container.id()).await).unwrap();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[..3], ["1001", "2000", "2000 3000 4000"], "{output}");
    assert_eq!(lines[3], "replaced 1 12 1 12 $(A)", "{output}");
    assert_eq!(lines[4..8], ["/tmp", "read-only", "read-only", "of the host"], "{output}");
    assert_eq!(lines[8..], ["first", "refused"], "{output}");
    assert!(exit.finished_at >= container.started_at().unwrap());
    assert!(container.runtime_id().starts_with("containerd://"), "{}", container.runtime_id());
    assert!(container.image_id().contains("sha256:"), "{}", container.image_id());
}

pub async fn the_root_user_is_refused_where_it_must_not_be(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let mut spec = fixture.shell(pod.pod_uid(), "main", "exit 0");
    spec.security.run_as_non_root = true;
    let refused = pod.start(spec.clone(), never()).await.err().unwrap();
    assert!(
        matches!(refused, Error::Unsupported { .. }) && refused.to_string().contains("runAsNonRoot"),
        "{refused}"
    );
    spec.security.user = Some(1000);
    assert_eq!(pod.start(spec, never()).await.unwrap().wait().await.exit_code, 0);
}

pub async fn images_come_by_their_policies(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let cases = [
        ("stint.test/missing:1", PullPolicy::Never, ImageReason::ErrImageNeverPull),
        // Nobody listens there.
        ("127.0.0.1:1/missing:1", PullPolicy::IfNotPresent, ImageReason::ErrImagePull),
        ("127.0.0.1:1/missing:1", PullPolicy::Always, ImageReason::ErrImagePull),
        ("No Such Name", PullPolicy::IfNotPresent, ImageReason::InvalidImageName),
    ];
    for (reference, pull_policy, expected) in cases {
        let image = ImageSpec { reference: reference.to_owned(), pull_policy };
        match pod.prepare(&image).await.unwrap_err() {
            Error::Image { reason, .. } => assert_eq!(reason, expected, "{reference}"),
            other => panic!("{reference}: {other}"),
        }
        let mut spec = fixture.shell(pod.pod_uid(), "main", "true");
        spec.image = Some(image);
        let refused = pod.start(spec, never()).await.err().unwrap();
        assert!(matches!(refused, Error::Image { .. }), "{reference}: {refused}");
    }
    for pull_policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        let reference = crate::engine::BUSYBOX.to_owned();
        pod.prepare(&ImageSpec { reference, pull_policy }).await.unwrap();
    }
}

pub async fn images_are_fetched_from_mirrors_with_credentials(fixture: Fixture) {
    let registry = Registry::start().await;
    registry
        .add("library/tool:1", &TestImage::busybox(serde_json::json!({"Env": ["PATH=/bin", "FROM=mirror"]})));
    registry.require_basic("somebody", "secret");
    let credentials = fixture.folder().join("config.json");
    let login = |password: &str| {
        let auths = serde_json::json!({registry.address(): {"username": "somebody", "password": password}});
        std::fs::write(&credentials, serde_json::json!({"auths": auths}).to_string()).unwrap();
    };
    login("wrong");
    let mirror: RegistryMirror = registry.mirror_of("docker.io").parse().unwrap();
    let runtime = fixture
        .runtime_with(|options| {
            options.credentials = Some(credentials.clone());
            options.mirrors = vec![mirror];
        })
        .await;
    let pod = fixture.pod(&runtime).await;
    let image = |reference: &str, pull_policy| ImageSpec { reference: reference.to_owned(), pull_policy };
    let by_address = format!("{}/library/tool:1", registry.address());
    match pod.prepare(&image(&by_address, PullPolicy::IfNotPresent)).await.unwrap_err() {
        Error::Image { reason: ImageReason::ErrImagePull, message, .. } => {
            assert!(!message.contains("secret") && !message.contains("wrong"), "{message}");
        }
        other => panic!("{other}"),
    }
    // The file is read anew.
    login("secret");
    let mut spec = fixture.shell(pod.pod_uid(), "main", "test $FROM = mirror && exit 9");
    spec.image = Some(image("tool:1", PullPolicy::IfNotPresent));
    pod.prepare(spec.image.as_ref().unwrap()).await.unwrap();
    assert_eq!(pod.start(spec, never()).await.unwrap().wait().await.exit_code, 9);
    let asked = registry.requests("/manifests/").len();
    pod.prepare(&image("docker.io/library/tool:1", PullPolicy::IfNotPresent)).await.unwrap();
    pod.prepare(&image("tool:1", PullPolicy::Never)).await.unwrap();
    assert_eq!(registry.requests("/manifests/").len(), asked, "the node has it");
    pod.prepare(&image("tool:1", PullPolicy::Always)).await.unwrap();
    assert!(registry.requests("/manifests/").len() > asked, "asked again");
}

pub async fn images_that_nobody_uses_go_when_the_disk_is_full(fixture: Fixture) {
    let registry = Registry::start().await;
    // Of its own content: images of the same content are one.
    let image = |variable: &str| TestImage::busybox(serde_json::json!({"Env": ["PATH=/bin", variable]}));
    registry.add("library/used:1", &image("A=used"));
    registry.add("library/unused:1", &image("A=unused"));
    let name = |name: &str| ImageSpec {
        reference: format!("{}/library/{name}:1", registry.address()),
        pull_policy: PullPolicy::IfNotPresent,
    };
    let is_there = async |runtime: &stint_runtime::CriRuntime, image: &str| {
        let pod = fixture.pod(runtime).await;
        let found = pod.prepare(&ImageSpec { pull_policy: PullPolicy::Never, ..name(image) }).await.is_ok();
        pod.close().await.unwrap();
        found
    };
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let mut spec = fixture.shell(pod.pod_uid(), "main", "sleep 1000");
    spec.image = Some(name("used"));
    let container = pod.start(spec, never()).await.unwrap();
    pod.prepare(&name("unused")).await.unwrap();
    // It is not full, or they are young.
    let never_full = ImageDisk { high_percent: 100, low_percent: 100 };
    let always_full = ImageDisk { high_percent: 0, low_percent: 0 };
    for (disk, age_min, expected) in [
        (never_full, Duration::ZERO, true),
        (always_full, Duration::from_secs(3600), true),
        (always_full, Duration::ZERO, false),
    ] {
        let runtime = fixture
            .runtime_with(|options| (options.image_disk, options.image_age_min) = (disk, age_min))
            .await;
        runtime.collect_images().await.unwrap();
        // What the engine makes sandboxes of is still there, or this could not be asked.
        assert_eq!(is_there(&runtime, "unused").await, expected, "{disk:?} {age_min:?}");
        assert!(is_there(&runtime, "used").await);
    }
    container.kill().await;
    // The other cases are run by it.
    fixture.engine.import_all();
}

pub async fn containers_of_a_pod_share_what_they_asked_for(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    for shares in [false, true] {
        let uid = fixture.pod_uid();
        let mut spec = PodSandboxSpec::new(&uid, fixture.pod_folder(&uid));
        spec.share_process_namespace = shares;
        let pod = runtime.open_pod(spec).await.unwrap();
        let other = fixture.start(&pod, "other", "sleep 1234").await;
        let line = "ps -o args | grep -q '[s]leep 1234'";
        let mut main = fixture.shell(&uid, "main", line);
        main.command[2] =
            "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done | while read l; do \
                           test \"$l\" = 'sleep 1234' && exit 4; done"
                .to_owned();
        let exit = pod.start(main, never()).await.unwrap().wait().await;
        assert_eq!(exit.exit_code == 4, shares, "sees the other's process: {exit:?}");
        // The end of one is not the other's.
        let waited = tokio::time::timeout(Duration::from_millis(300), other.wait()).await;
        assert!(waited.is_err(), "{waited:?}");
        other.kill().await;
        pod.close().await.unwrap();
    }
}

pub async fn ports_are_reached_on_the_hosts_network_and_on_the_pods_own(fixture: Fixture) {
    for network in [CriNetwork::Host, CriNetwork::Pod] {
        if let (CriNetwork::Pod, Some(why)) = (network, fixture.engine.lacks_network()) {
            println!("     not run: a network of the Pod's own: {why}");
            continue;
        }
        let runtime = fixture.runtime_with(|options| options.network = network).await;
        let pod = fixture.pod(&runtime).await;
        assert_eq!(pod.addresses().is_empty(), network == CriNetwork::Host, "{:?}", pod.addresses());
        // For programs of the Pod only.
        let line = "mkdir /www; echo served >/www/index.html; \
             for port in $(seq 20700 20800); do httpd -p 127.0.0.1:$port -h /www 2>/dev/null && break; done; \
             echo $port >/pod/port.new; mv /pod/port.new /pod/port; exec sleep 1000";
        let container = fixture.start(&pod, "main", line).await;
        let file = fixture.pod_folder(pod.pod_uid()).join("port");
        until("it listens", || file.exists()).await;
        let port: u16 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let mut connection = pod.connect(port).await.unwrap();
        connection.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("served\n"), "{network:?}: {answer:?}");
        assert!(pod.connect(1).await.is_err(), "nobody listens there");
        container.kill().await;
        pod.close().await.unwrap();
        assert!(pod.connect(port).await.is_err(), "{network:?}");
    }
}

pub async fn a_killed_start_leaves_nothing(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    // At any moment of a start.
    for milliseconds in [0, 1, 20, 50, 80, 120, 200] {
        let pod = fixture.pod(&runtime).await;
        let uid = pod.pod_uid().to_owned();
        let spec =
            fixture.shell(&uid, "main", "touch /pod/ran; while true; do date >/pod/tick; sleep 0.01; done");
        let killed = Box::pin(tokio::time::sleep(Duration::from_millis(milliseconds)));
        match pod.start(spec, killed).await {
            Ok(container) => container.kill().await,
            Err(Error::StartKilled { .. }) => {}
            Err(other) => panic!("after {milliseconds} ms: {other}"),
        }
        let tick = fixture.pod_folder(&uid).join("tick");
        let _ = std::fs::remove_file(&tick);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!tick.exists(), "after {milliseconds} ms nothing runs");
        pod.close().await.unwrap();
    }
}

/// Not a limit but a figure: how long a Pod's sandbox and its container take to start.
pub async fn start_times(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let (mut sandboxes, mut containers, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let begun = Instant::now();
    for _ in 0..10 {
        let one = Instant::now();
        let pod = fixture.pod(&runtime).await;
        sandboxes.push(one.elapsed());
        let one = Instant::now();
        let container = fixture.start(&pod, "main", "true").await;
        containers.push(one.elapsed());
        let one = Instant::now();
        assert_eq!(container.wait().await.exit_code, 0);
        ends.push(one.elapsed());
        pod.close().await.unwrap();
    }
    let all = begun.elapsed();
    let middle = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_millis()
    };
    println!(
        "     one after another: sandbox {} ms, container {} ms, until its end is known {} ms (medians of 10); {:.1} Pods/s",
        middle(&mut sandboxes),
        middle(&mut containers),
        middle(&mut ends),
        10.0 / all.as_secs_f64()
    );
    let begun = Instant::now();
    let runs = (0..16).map(|_| fixture.run(&runtime, "true"));
    for exit in futures::future::join_all(runs).await {
        assert_eq!(exit.exit_code, 0);
    }
    println!("     16 at once: {:.1} Pods/s", 16.0 / begun.elapsed().as_secs_f64());
}

/// As in Kubernetes: a program may gain rights, within those that its container has, unless that is forbidden.
pub async fn rights_are_gained_unless_that_is_forbidden(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    for (name, asked, expected) in [("default", None, "0"), ("forbidden", Some(false), "1")] {
        let line = "grep NoNewPrivs /proc/self/status | cut -f2; cat /proc/self/oom_score_adj";
        let mut spec = fixture.shell(pod.pod_uid(), name, line);
        spec.security.allow_privilege_escalation = asked;
        let container = pod.start(spec, never()).await.unwrap();
        container.wait().await;
        let output = String::from_utf8(fixture.output(&runtime, container.id()).await).unwrap();
        assert_eq!(output, format!("{expected}\n500\n"), "{asked:?}");
    }
}
