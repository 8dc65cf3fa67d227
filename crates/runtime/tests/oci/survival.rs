//! Signals, kills, deadlines, and agents that come and go.

use crate::fixture::{Fixture, boot_time, eventually, exec, groups_of};
use crate::processes::{alive, marker};
use std::time::{Duration, Instant};
use stint_runtime::{Error, ExitReason, Runtime};

pub async fn p6_a_signal_reaches_the_main_process(fixture: Fixture) {
    let script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    let spec = fixture.shell(script);
    let container = fixture.start_ready(&spec).await;
    container.signal(15);
    let exit = container.wait().await;
    assert_eq!((exit.exit_code, exit.reason), (5, ExitReason::Error));
    assert_eq!(fixture.text(&spec).await, "ready\ngot it\n");
}

pub async fn nothing_survives_the_main_process_or_a_kill(fixture: Fixture) {
    let marker = marker();
    let escapees = format!(
        "sleep {marker} & setsid sleep {marker} & (setsid sh -c '(trap \"\" TERM HUP; sleep {marker}) & sleep {marker}' &)
        setsid sh -c 'kill -STOP $$; : {marker}' & sleep 0.2; echo ready;"
    );
    let exit = fixture.run(&fixture.shell(&format!("{escapees} exit 4"))).await;
    assert_eq!(exit.exit_code, 4);
    assert_eq!(alive(&marker), 0);
    let spec = fixture.shell(&format!("{escapees} sleep {marker}"));
    let container = fixture.start_ready(&spec).await;
    assert!(alive(&marker) > 4);
    container.kill().await;
    assert_eq!(alive(&marker), 0);
    assert_eq!(container.wait().await.exit_code, 137);
    let forks = format!("echo ready; f() {{ sleep {marker} & f & f & wait; }}; f");
    let mut spec = fixture.shell(&forks);
    spec.resources.processes_max = Some(200);
    let container = fixture.start_ready(&spec).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    container.kill().await;
    assert_eq!(alive(&marker), 0);
}

pub async fn a4_a_start_that_is_killed_leaves_nothing(fixture: Fixture) {
    let marker = marker();
    for delay in [0, 1, 3, 6, 10, 15, 20, 30, 50] {
        let spec = fixture.spec(&["sleep", &marker]);
        let sandbox = fixture.sandbox(&spec).await;
        sandbox.prepare(spec.image.as_ref().unwrap()).await.unwrap();
        let killed = Box::pin(tokio::time::sleep(Duration::from_millis(delay)));
        match sandbox.start(spec, killed).await {
            Err(Error::StartKilled { .. }) => assert_eq!(alive(&marker), 0, "after {delay} ms"),
            Err(error) => panic!("{error}"),
            Ok(container) => {
                container.kill().await;
                assert_eq!(alive(&marker), 0, "after {delay} ms");
            }
        }
    }
}

pub async fn a9_nothing_starts_at_or_after_its_last_moment(fixture: Fixture) {
    let mut spec = fixture.shell("echo it ran");
    fixture.run(&spec).await;
    let mut late = fixture.shell("echo it ran");
    late.start_before = Some(boot_time());
    assert!(matches!(fixture.try_start(late.clone()).await, Err(Error::StartTooLate { .. })));
    assert_eq!(fixture.text(&late).await, "");
    spec = fixture.shell("echo it ran");
    spec.start_before = Some(boot_time() + Duration::from_secs(60));
    assert_eq!(fixture.printed(&spec).await, "it ran\n");
    // What a try has left that came too late, half made, does not keep the same run from being started later.
    let spec = fixture.shell("ls /left; echo it ran");
    let folder = fixture.pod(&spec).directory.join("oci/main.0");
    for left in ["state/container", "upper/left", "work/work"] {
        std::fs::create_dir_all(folder.join(left)).unwrap();
    }
    assert_eq!(fixture.printed(&spec).await, "it ran\n");
}

pub async fn a13_the_deadline_kills(fixture: Fixture) {
    let marker = marker();
    let first = boot_time() + Duration::from_secs(6);
    fixture.runtime.set_deadline(first);
    let container = fixture.start_ready(&fixture.shell(&format!("echo ready; sleep {marker}"))).await;
    let deadline = first + Duration::from_secs(4);
    fixture.runtime.set_deadline(deadline);
    tokio::time::sleep((first + Duration::from_millis(500)).saturating_sub(boot_time())).await;
    let n_alive = alive(&marker);
    // A machine that is busy may have come to this too late.
    assert!(n_alive == 1 || boot_time() >= deadline, "the deadline was put off: {n_alive}");
    let exit = container.wait().await;
    let late = boot_time().saturating_sub(deadline);
    assert!(boot_time() >= deadline && late < Duration::from_millis(900), "{late:?} after the deadline");
    assert!(exit.fenced);
    assert_eq!((exit.exit_code, alive(&marker)), (137, 0));
}

pub async fn containers_are_adopted_with_their_images(fixture: Fixture) {
    let marker = marker();
    let running = fixture.shell(&format!("touch /mine; echo ready; sleep {marker}"));
    let ended = fixture.shell("echo ready; sleep 0.5; exit 9");
    let first = fixture.start_ready(&running).await;
    let second = fixture.start_ready(&ended).await;
    let image_id = first.image_id();
    drop((first, second));
    let fixture = fixture.successor().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pods = fixture.runtime.recover().await.unwrap();
    assert_eq!(pods.len(), 2);
    let find = |uid: &str| pods.iter().find(|pod| pod.pod_uid == uid).unwrap();
    let container = &find(ended.id.pod_uid()).containers[0];
    let exit = container.wait().await;
    assert_eq!((exit.exit_code, container.id()), (9, &ended.id));
    let container = &find(running.id.pod_uid()).containers[0];
    assert_eq!(container.image_id(), image_id);
    assert_eq!(exec(&**container, "ls /mine").await, (0, "/mine\n".to_owned()));
    // Another container of an adopted Pod.
    let mut sibling = fixture.shell("echo sibling");
    sibling.id = stint_runtime::ContainerId::new(running.id.pod_uid(), "other", 0).unwrap();
    let sandbox = &find(running.id.pod_uid()).sandbox;
    let started = sandbox.start(sibling.clone(), crate::fixture::never()).await.unwrap();
    assert_eq!(started.wait().await.exit_code, 0);
    assert_eq!(fixture.text(&sibling).await, "sibling\n");
    container.kill().await;
    assert_eq!((container.wait().await.exit_code, alive(&marker)), (137, 0));
    for pod in &pods {
        pod.sandbox.close().await.unwrap();
    }
    assert_eq!(fixture.runtime.recover().await.unwrap().len(), 0);
}

pub async fn a_pod_is_the_same_user_under_the_next_agent(fixture: Fixture) {
    let running = fixture.shell("echo ready; sleep 100");
    let mut pod = fixture.pod(&running);
    (pod.user, pod.fs_group, pod.hostname) = (Some(1000), Some(70), "pi-0".to_owned());
    let sandbox = fixture.runtime.open_pod(pod).await.unwrap();
    drop(sandbox.start(running.clone(), crate::fixture::never()).await.unwrap());
    drop(sandbox);
    let fixture = fixture.successor().await;
    let pods = fixture.runtime.recover().await.unwrap();
    let mut next = fixture.shell("id -u; id -G; hostname");
    next.id = stint_runtime::ContainerId::new(running.id.pod_uid(), "main", 1).unwrap();
    let container = pods[0].sandbox.start(next.clone(), crate::fixture::never()).await.unwrap();
    assert_eq!(container.wait().await.exit_code, 0);
    assert_eq!(fixture.text(&next).await, "1000\n50 60 70\npi-0\n");
    pods[0].containers[0].kill().await;
}

pub async fn many_containers_leave_nothing_behind(fixture: Fixture) {
    let mut uids = Vec::new();
    let began = Instant::now();
    for _ in 0..20 {
        let spec = fixture.spec(&["true"]);
        let exit = fixture.run(&spec).await;
        assert_eq!(exit.exit_code, 0, "{}", exit.message);
        uids.push(spec.id.pod_uid().to_owned());
    }
    println!("one container after the other: {} ms each", began.elapsed().as_millis() / 20);
    for uid in uids {
        assert_eq!(groups_of(&uid), 0);
        let folder = fixture.folder.path().join("pods").join(&uid).join("oci");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    }
    eventually("the shims' sockets are gone", || {
        std::fs::read_dir(fixture.folder.path().join("shims")).unwrap().count() == 0
    })
    .await;
}
