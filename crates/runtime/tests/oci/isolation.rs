//! What a container can't see and can't do.

use crate::fixture::{Fixture, never};
use std::time::Duration;
use stint_runtime::{
    ContainerId, ContainerSpec, Error, ExitReason, NodePolicy, PodSandbox, PodSandboxSpec, ResourceSpec,
    Runtime, Seccomp,
};

pub async fn what_the_node_does_not_allow_is_refused(fixture: Fixture) {
    let fixture = fixture.successor_with(NodePolicy::default()).await;
    let refusal = |error: Error, word: &str| {
        assert!(matches!(&error, Error::NotAllowed { .. }) && error.to_string().contains(word), "{error}");
    };
    let mut spec = fixture.shell("true");
    spec.security.privileged = true;
    refusal(fixture.try_start(spec).await.err().unwrap(), "--allow privileged");
    let mut spec = fixture.shell("true");
    spec.security.capabilities_add = vec!["SYS_ADMIN".to_owned()];
    refusal(fixture.try_start(spec).await.err().unwrap(), "--allow capability=SYS_ADMIN");
    let mut spec = fixture.shell("true");
    spec.security.seccomp = Seccomp::Unconfined;
    refusal(fixture.try_start(spec).await.err().unwrap(), "--allow unconfined");
    let mut pod = fixture.pod(&fixture.shell("true"));
    pod.host_ipc = true;
    refusal(fixture.runtime.open_pod(pod).await.err().unwrap(), "--allow host-ipc");
    // User 0 of an image is none of the host's.
    assert_eq!(fixture.printed(&fixture.shell("id -u")).await, "0\n");
}

pub async fn system_calls_are_filtered(fixture: Fixture) {
    let script = "grep -w Seccomp: /proc/self/status";
    let container = fixture.start_ready(&fixture.shell(&format!("{script}; echo ready; sleep 100"))).await;
    // Of a further program, too.
    assert_eq!(crate::fixture::exec(&*container, script).await, (0, "Seccomp:\t2\n".to_owned()));
    container.kill().await;
    let spec = fixture.shell(script);
    assert_eq!(fixture.printed(&spec).await, "Seccomp:\t2\n");
    // Whether or not programs may gain rights, and whoever they are: also if the Pod names the right that filters need.
    let facts = "grep -E '^(NoNewPrivs|Seccomp|CapPrm|CapEff|CapAmb):' /proc/self/status | cut -f2 | tr '\\n' ' '; \
                 unshare -U true 2>/dev/null && echo made || echo refused";
    let (usual, none) = ("00000000a00405fb", "0000000000000000");
    for (asked, no_new_rights) in [(None, 0), (Some(true), 0), (Some(false), 1)] {
        for (user, held) in [(0, usual), (1000, none)] {
            let mut spec = fixture.shell(&format!("{facts}; echo ready; sleep 1000"));
            spec.security.allow_privilege_escalation = asked;
            spec.security.user = Some(user);
            let container = fixture.start_ready(&spec).await;
            let expected = format!("{held} {held} {none} {no_new_rights} 2 refused\n");
            assert_eq!(
                crate::fixture::exec(&*container, facts).await,
                (0, expected.clone()),
                "{asked:?} {user}"
            );
            container.kill().await;
            container.wait().await;
            assert_eq!(fixture.text(&spec).await, format!("{expected}ready\n"), "{asked:?} {user}");
        }
    }
    let mut spec = fixture.shell(&format!("{facts}; grep CapBnd /proc/self/status"));
    spec.security.capabilities_add = vec!["SYS_ADMIN".to_owned()];
    let text = fixture.printed(&spec).await;
    assert_eq!(
        text,
        format!("00000000a02405fb 00000000a02405fb {none} 0 2 refused\nCapBnd:\t00000000a02405fb\n")
    );
    let mut spec = fixture.shell(script);
    spec.security.seccomp = Seccomp::Unconfined;
    assert_eq!(fixture.printed(&spec).await, "Seccomp:\t0\n");
}

pub async fn a_container_sees_nothing_of_the_host(fixture: Fixture) {
    let script = "echo $$; ls /proc | grep -c '^[0-9]'; ls /; hostname; mount | grep -c ' / '; ls /dev";
    let mut pod_hostname = fixture.pod(&fixture.shell("true"));
    pod_hostname.hostname = "pi-0".to_owned();
    let spec = fixture.shell(script);
    pod_hostname.uid = spec.id.pod_uid().to_owned();
    let sandbox = stint_runtime::Runtime::open_pod(&*fixture.runtime, pod_hostname).await.unwrap();
    let container = sandbox.start(spec.clone(), crate::fixture::never()).await.unwrap();
    assert_eq!(container.wait().await.exit_code, 0);
    let text = fixture.text(&spec).await;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "1", "it is the first process of its namespace");
    let processes: usize = lines[1].parse().unwrap();
    assert!(processes <= 4, "its own only: {text}");
    let root = ["bin", "dev", "etc", "home", "proc", "root", "srv", "sys", "tmp"];
    assert_eq!(lines[2..11], root);
    assert_eq!(lines[11..13], ["pi-0", "1"]);
    for device in &lines[13..] {
        let allowed = [
            "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
            "stdout", "tty", "urandom", "zero",
        ];
        assert!(allowed.contains(device), "{device} in {text}");
    }
    // Nothing that the container did is seen outside.
    assert_ne!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim(), "pi-0");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(fixture.folder.path().to_str().unwrap()), "{mounts}");
}

pub async fn rights_are_few(fixture: Fixture) {
    let attempts = [
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /sys",
        "mknod /tmp/disk b 254 0",
        "hostname other",
        "chroot / mount -t proc none /proc",
        "insmod /bin/busybox",
        "echo 1 > /proc/sys/kernel/printk",
        "echo b > /proc/sysrq-trigger",
        "cat /proc/kcore",
        "nsenter -t 1 -m true",
        "unshare -m true",
        "swapoff -a && swapon /etc/passwd",
        "reboot -f",
        "ip link add name stint0 type dummy",
        "test -e /dev/mem",
        "test -e /dev/kmsg",
    ];
    for attempt in attempts {
        let script = format!("({attempt}) >/dev/null 2>&1 && echo done; echo over");
        let text = fixture.printed(&fixture.shell(&script)).await;
        assert!(!text.contains("done"), "{attempt}: {text}");
    }
    let text = fixture.printed(&fixture.shell("grep -E 'NoNewPrivs|CapAmb|CapInh' /proc/self/status")).await;
    let none = "0000000000000000";
    assert_eq!(text, format!("CapInh:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t0\n"));
    // What is asked for is given.
    let mut spec = fixture.shell("ip link add name stint-test0 type dummy 2>&1; echo $?");
    spec.security.capabilities_drop = vec!["ALL".to_owned()];
    let without = fixture.printed(&spec).await;
    assert!(!without.ends_with("\n0\n") && without != "0\n", "{without}");
    let mut spec = fixture.shell("grep CapEff /proc/self/status");
    spec.security.capabilities_drop = vec!["ALL".to_owned()];
    spec.security.capabilities_add = vec!["KILL".to_owned()];
    assert_eq!(fixture.printed(&spec).await, "CapEff:\t0000000000000020\n");
}

pub async fn limits_hold(fixture: Fixture) {
    let mut spec = fixture.shell("head -c 200m /dev/zero | tail | wc -c");
    spec.resources.memory_limit_bytes = Some(32 << 20);
    // The pipe's end takes the shell's along, so that it is the container that ends.
    spec.command = ["sh", "-c", "exec tail /dev/zero"].map(str::to_owned).into();
    let exit = fixture.run(&spec).await;
    assert_eq!((exit.exit_code, exit.reason), (137, ExitReason::OomKilled), "{}", exit.message);
    // An end of its own is none of the kernel's.
    let mut spec = fixture.shell("exit 1");
    spec.resources.memory_limit_bytes = Some(32 << 20);
    assert_eq!(fixture.run(&spec).await.reason, ExitReason::Error);
    let script = "for i in $(seq 100); do sleep 5 & done 2>/dev/null; jobs | wc -l; kill $(jobs -p)";
    let mut spec = fixture.shell(script);
    spec.resources.processes_max = Some(20);
    let container = fixture.start(&spec).await;
    container.wait().await;
    let count: usize =
        fixture.text(&spec).await.lines().next().map_or(0, |line| line.trim().parse().unwrap());
    assert!(count < 20, "{count}");
    let mut spec = fixture.shell("echo ready; while :; do :; done");
    spec.resources = ResourceSpec { cpu_limit_millis: Some(100), ..ResourceSpec::default() };
    let container = fixture.start_ready(&spec).await;
    let before = container.usage().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = container.usage().await.unwrap();
    let used = Duration::from_nanos(after.cpu_nanoseconds - before.cpu_nanoseconds);
    assert!(used < Duration::from_millis(500), "a tenth of a core for two seconds is {used:?}");
    assert!(after.memory_bytes > 0 && after.processes == 1, "{after:?}");
    container.kill().await;
    container.wait().await;
    assert_eq!(crate::fixture::groups_of(spec.id.pod_uid()), 0);
}

/// `/dev/shm` and memory by number or name are one for the containers of a Pod, and are the Pod's alone.
pub async fn containers_of_a_pod_share_memory(fixture: Fixture) {
    let of_host = std::fs::read_link("/proc/self/ns/ipc").unwrap().display().to_string();
    let script = "echo x >> /dev/shm/said; wc -l < /dev/shm/said; readlink /proc/self/ns/ipc";
    // How often something was said in the Pod's memory, and its namespace.
    let said = async |sandbox: &dyn PodSandbox, spec: &ContainerSpec| {
        sandbox.prepare(spec.image.as_ref().unwrap()).await.unwrap();
        let container = sandbox.start(spec.clone(), never()).await.unwrap();
        let exit = container.wait().await;
        let text = fixture.text(spec).await;
        assert_eq!(exit.exit_code, 0, "{}: {text}", exit.message);
        let (count, namespace) = text.trim().split_once('\n').expect("two lines");
        assert_ne!(namespace, of_host);
        (count.to_owned(), namespace.to_owned())
    };
    let first = fixture.shell(script);
    let second =
        ContainerSpec { id: ContainerId::new(first.id.pod_uid(), "second", 0).unwrap(), ..first.clone() };
    let shared = PodSandboxSpec { shares_ipc: true, ..fixture.pod(&first) };
    let sandbox = fixture.runtime.open_pod(shared.clone()).await.unwrap();
    let (count, namespace) = said(sandbox.as_ref(), &first).await;
    assert_eq!(count, "1");
    assert_eq!(said(sandbox.as_ref(), &second).await, ("2".to_owned(), namespace.clone()));
    let other = fixture.shell(script);
    let another = PodSandboxSpec { shares_ipc: true, ..fixture.pod(&other) };
    let another = fixture.runtime.open_pod(another).await.unwrap();
    let (count, of_other) = said(another.as_ref(), &other).await;
    assert_eq!(count, "1");
    assert_ne!(of_other, namespace);
    // One that has nobody to share with has its own all the same.
    let single = fixture.shell(script);
    assert_eq!(said(fixture.sandbox(&single).await.as_ref(), &single).await.0, "1");
    for sandbox in [sandbox, another] {
        sandbox.close().await.unwrap();
    }
    assert!(!shared.directory.join("shm/said").exists(), "it goes with the Pod");
}
