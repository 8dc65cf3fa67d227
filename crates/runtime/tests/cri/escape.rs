//! What a container must not be able to do, and what the node does not allow.

use crate::attacks::{self, FORBIDDEN, SystemCall};
use crate::fixture::{Fixture, never, until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use stint_runtime::{
    ContainerSpec, CriRuntime, Error, Mount, MountPropagation, NodePolicy, PodSandboxSpec, Runtime, Seccomp,
};

fn mount(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        source: source.to_owned(),
        target: PathBuf::from(target),
        read_only,
        propagation: MountPropagation::Private,
    }
}

/// What a container says, which must end well.
async fn said(fixture: &Fixture, runtime: &CriRuntime, spec: ContainerSpec) -> String {
    let pod = runtime
        .open_pod(PodSandboxSpec::new(spec.id.pod_uid(), fixture.pod_folder(spec.id.pod_uid())))
        .await
        .unwrap();
    let id = spec.id.clone();
    let exit = pod.start(spec, never()).await.unwrap().wait().await;
    let text = String::from_utf8(fixture.output(runtime, &id).await).unwrap();
    pod.close().await.unwrap();
    assert_eq!(exit.exit_code, 0, "{}: {text}", exit.message);
    text
}

/// Engines' own filters let a few more pass, which do no harm by themselves.
fn refused_by_engines(call: &&SystemCall) -> bool {
    let names = [
        "mount",
        "umount2",
        "pivot_root",
        "open_tree",
        "move_mount",
        "fsopen",
        "mount_setattr",
        "setns",
        "unshare of users",
        "clone of users",
        "clone3",
        "init_module",
        "finit_module",
        "delete_module",
        "kexec_load",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "add_key",
        "request_key",
        "keyctl",
        "open_by_handle_at",
        "reboot",
        "swapon",
        "acct",
        "settimeofday",
        "sethostname",
    ];
    names.contains(&call.0)
}

pub async fn forbidden_system_calls_are_refused(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let calls: Vec<SystemCall> = FORBIDDEN.iter().filter(refused_by_engines).copied().collect();
    assert!(calls.len() > 20);
    let mut spec = fixture.shell(&fixture.pod_uid(), "main", "");
    // `$$` is an escape of `$` in commands.
    let script = attacks::system_calls(&calls).replace('$', "$$");
    spec.command = vec!["/usr/bin/perl".to_owned(), "-e".to_owned(), script];
    for folder in ["/usr", "/lib", "/lib64"] {
        if let Ok(source) = fs::canonicalize(folder) {
            spec.mounts.push(mount(&source, folder, true));
        }
    }
    let text = said(&fixture, &runtime, spec).await;
    let errors: Vec<i32> = text.lines().map(|line| line.parse().unwrap()).collect();
    attacks::assert_refused(&calls, &errors);
}

pub async fn rights_are_few(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    // All of them in one container, as user 0: what succeeds is said.
    let attempts = [
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /sys",
        "mknod /disk b 254 0 && head -c 1 /disk",
        "mknod /memory c 1 1 && head -c 1 /memory",
        "mknod /console c 5 1 && echo x > /console",
        "hostname other",
        "chroot / mount -t proc none /proc",
        "insmod /bin/busybox",
        "echo 1 > /proc/sys/kernel/printk",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "echo x > /sys/kernel/uevent_helper",
        "mkdir /sys/fs/cgroup/memory/stint-test",
        "test -e /sys/fs/cgroup/cgroup.controllers && mkdir /sys/fs/cgroup/stint-test",
        "echo x > /sys/fs/cgroup/memory/release_agent",
        "echo 1 > /sys/fs/cgroup/pids/pids.max",
        "test $(head -c 1 /proc/kcore | wc -c) = 1",
        "test $(head -c 1 /proc/keys | wc -c) = 1",
        "nsenter -t 1 -m true",
        "unshare -m true",
        "swapon /etc/passwd",
        "reboot -f",
        "ip link add name stint0 type dummy",
        "test -e /dev/mem",
        "test -e /dev/kmsg",
        "dmesg | head -n 1 | grep .",
        // Raw packets, on the host's network.
        "ping -c 1 -W 1 127.0.0.1",
        "test $((0x$(grep CapBnd /proc/self/status | cut -f 2) >> 13 & 1)) = 1",
    ];
    let script: String = attempts
        .iter()
        .map(|attempt| format!("({attempt}) >/dev/null 2>&1 && echo '{}'; ", attempt.replace('\'', "")))
        .collect();
    let spec = fixture.shell(&fixture.pod_uid(), "main", &(script + "echo over"));
    assert_eq!(said(&fixture, &runtime, spec).await, "over\n");
}

pub async fn other_pods_are_out_of_reach(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let owner = fixture.pod(&runtime).await;
    let marker = format!("71{}.{}", owner.pod_uid().len(), std::process::id());
    let container =
        fixture.start(&owner, "main", &format!("umask 0; echo secret > /file; sleep {marker}")).await;
    let mut pid = None;
    until("it runs", || {
        pid = process_with(&marker);
        pid.is_some()
    })
    .await;
    let pid = pid.unwrap();
    let node = fixture.folder().display();
    let script = format!(
        "exec 2>/dev/null; test -e {node} && echo folder; test -e /file && echo file; kill -9 {pid} 2>/dev/null && test {pid} != 1 && echo killed; \
         tr '\\0' ' ' < /proc/{pid}/cmdline 2>/dev/null | grep -q {marker} && echo seen; \
         for fd in /proc/1/fd/*; do test -e $fd/file && echo fd; done; \
         ls -l /proc/self/fd | grep -E 'socket|anon_inode|memfd'; \
         ls /proc | grep -c '^[0-9]*$' | (read count; test $count -lt 12 || echo crowd); true"
    );
    let spec = fixture.shell(&fixture.pod_uid(), "main", &script);
    assert_eq!(said(&fixture, &runtime, spec).await, "");
    assert_eq!(process_with(&marker), Some(pid));
    container.kill().await;
    owner.close().await.unwrap();
}

fn process_with(marker: &str) -> Option<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"sleep\0") && line.windows(marker.len()).any(|part| part == marker.as_bytes())
    })
}

fn mounts_below(folder: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| Path::new(line.split(' ').nth(4).unwrap()).starts_with(folder)).count()
}

pub async fn links_in_volumes_lead_nowhere(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let uid = fixture.pod_uid();
    let volume = fixture.pod_folder(&uid).join("volumes/v");
    let victim = fixture.folder().join("victim");
    fs::create_dir_all(volume.join("sub")).unwrap();
    fs::create_dir(&victim).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(volume.join("sub/file"), "of the volume\n").unwrap();
    std::os::unix::fs::symlink(&victim, volume.join("out")).unwrap();
    let pod = runtime.open_pod(PodSandboxSpec::new(&uid, fixture.pod_folder(&uid))).await.unwrap();
    // As a source, which its volume's other container may have put there a moment ago.
    for (number, source) in ["out", "out/x"].into_iter().enumerate() {
        let mut spec = fixture.shell(&uid, &format!("link{number}"), "touch /mnt/x");
        spec.mounts.push(mount(&volume.join(source), "/mnt", false));
        let refused = pod.start(spec, never()).await.err().unwrap();
        assert!(refused.to_string().contains("without following links"), "{refused}");
        // By the name that it has in the manifest: where it is on the node is nobody's business.
        assert!(refused.to_string().contains("mounted at /mnt"), "{refused}");
        assert!(!refused.to_string().contains(fixture.folder().to_str().unwrap()), "{refused}");
    }
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    // What is none is seen, and stays the same when its place is taken by another.
    let script = "cat /mnt/file /one; touch /pod/ready; while ! test -e /pod/go; do sleep 0.1; done; echo x > /mnt/new";
    let mut spec = fixture.shell(&uid, "main", script);
    spec.mounts.push(mount(&volume.join("sub"), "/mnt", false));
    spec.mounts.push(mount(&volume.join("sub/file"), "/one", true));
    let id = spec.id.clone();
    let container = pod.start(spec, never()).await.unwrap();
    let ready = fixture.pod_folder(&uid).join("ready");
    until("it runs", || ready.exists()).await;
    fs::rename(volume.join("sub"), volume.join("moved")).unwrap();
    std::os::unix::fs::symlink(&victim, volume.join("sub")).unwrap();
    fs::write(fixture.pod_folder(&uid).join("go"), "").unwrap();
    assert_eq!(container.wait().await.exit_code, 0);
    assert_eq!(fixture.output(&runtime, &id).await, b"of the volume\nof the volume\n");
    assert!(volume.join("moved/new").exists() && fs::read_dir(&victim).unwrap().count() == 0);
    assert!(mounts_below(&fixture.folder().join("guard/sources")) > 0);
    container.release().await;
    pod.close().await.unwrap();
    assert_eq!(mounts_below(fixture.folder()), 0);
    assert_eq!(fs::read_dir(fixture.folder().join("guard/sources")).unwrap().count(), 0);
    assert!(volume.join("moved/file").exists(), "nothing of the volume was removed");
}

pub async fn what_the_node_does_not_allow_is_refused(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let refusal = |error: Error, word: &str| {
        assert!(matches!(&error, Error::NotAllowed { .. }) && error.to_string().contains(word), "{error}");
    };
    let spec = |change: fn(&mut ContainerSpec)| {
        let mut spec = fixture.shell(pod.pod_uid(), "main", "true");
        change(&mut spec);
        spec
    };
    for (spec, word) in [
        (spec(|spec| spec.security.privileged = true), "--allow privileged"),
        (
            spec(|spec| spec.security.capabilities_add = vec!["SYS_ADMIN".to_owned()]),
            "--allow capability=SYS_ADMIN",
        ),
        (spec(|spec| spec.security.seccomp = Seccomp::Unconfined), "--allow unconfined"),
    ] {
        refusal(pod.start(spec, never()).await.err().unwrap(), word);
    }
    let uid = fixture.pod_uid();
    let mut host_pid = PodSandboxSpec::new(&uid, fixture.pod_folder(&uid));
    host_pid.host_pid = true;
    refusal(runtime.open_pod(host_pid).await.err().unwrap(), "--allow host-pid");
    pod.close().await.unwrap();
    drop(runtime);
    // A container that asks for no limit has the node's.
    let policy = NodePolicy { processes_per_container: Some(20), ..NodePolicy::default() };
    let runtime = fixture.runtime_with(|options| options.policy = policy).await;
    let script = "for i in $(seq 60); do sleep 20 & done 2>/dev/null; jobs | wc -l; kill $(jobs -p)";
    let spec = fixture.shell(&fixture.pod_uid(), "main", script);
    let pod = PodSandboxSpec::new(spec.id.pod_uid(), fixture.pod_folder(spec.id.pod_uid()));
    let pod = runtime.open_pod(pod).await.unwrap();
    let id = spec.id.clone();
    pod.start(spec, never()).await.unwrap().wait().await;
    let text = String::from_utf8(fixture.output(&runtime, &id).await).unwrap();
    let count: usize = text.lines().next().map_or(0, |line| line.trim().parse().unwrap());
    assert!(count < 20, "{count} processes were made");
    pod.close().await.unwrap();
}
