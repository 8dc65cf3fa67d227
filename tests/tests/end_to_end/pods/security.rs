//! Who a container runs as, and what it may not do.

use super::platform::Platform;
use super::{Case, Need, case, script, shell, shell_with};
use serde_json::{Value, json};

fn secured(text: &str, context: Value) -> Value {
    json!({"containers": [shell_with("main", text, json!({"securityContext": context}))]})
}

/// All capabilities but those that engines give user 0 of a container, by their numbers: to change owners (0), to pass over the
/// permissions of its files (1, 3, 4), to signal its processes (5), to change users (6, 7) and rights (8), to listen at low ports
/// (10), to change its root (18), which leads nowhere without a descriptor from outside, to make devices (27), which do not work,
/// audit messages (29) and files with rights (31). Those to read whatever there is, for raw packets, the network's settings,
/// modules, mounts, other processes, the clock and so on are not among them.
const DANGEROUS: u64 = {
    let usual = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31];
    let (mut set, mut at) = (0, 0);
    while at < usual.len() {
        set |= 1 << usual[at];
        at += 1;
    }
    !set
};

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "no-new-privileges",
            secured(
                "grep NoNewPrivs /proc/self/status | tr -d '\\t '",
                json!({"allowPrivilegeEscalation": false}),
            ),
            |it| it.wrote("NoNewPrivs:1\n"),
        ),
        case(
            "few-capabilities",
            script("grep -E 'Cap(Eff|Prm|Bnd|Amb)' /proc/self/status | tr -d ':'"),
            |it| {
                for line in it.log("main").lines() {
                    let (kind, set) = line.split_once('\t').expect("a kind and a set");
                    if kind == "CapBnd" && it.platform == Platform::BareProcess {
                        // Only who has rights can give up those that it never had: and no_new_privs keeps it from getting them.
                        continue;
                    }
                    let set = u64::from_str_radix(set, 16).expect("a set of capabilities");
                    // Root of a container may do what needs nothing but its own files and users.
                    let allowed = if it.platform.is_containers() { !DANGEROUS } else { 0 };
                    assert_eq!(set & !allowed, 0, "{set:x}");
                }
            },
        ),
        case("seccomp", script("grep '^Seccomp:' /proc/self/status | tr -d '\\t '"), |it| {
            it.wrote("Seccomp:2\n")
        }),
        case("not-root", script("test $(id -u) -ne 0 && test $(id -g) -ne 0 && echo nobody-special"), |it| {
            it.wrote("nobody-special\n")
        })
        .needs(&[Need::Users]),
        case(
            "mount-is-refused",
            script("mount -t tmpfs none /mnt 2>/dev/null && echo mounted || echo refused"),
            |it| it.wrote("refused\n"),
        ),
        case(
            "device-nodes-are-refused",
            script(
                "cd /tmp; mknod disk b 8 0 2>/dev/null && dd if=disk of=/dev/null count=1 2>/dev/null && echo read || echo refused",
            ),
            |it| it.wrote("refused\n"),
        ),
        case(
            "host-settings-are-refused",
            script("echo 1 2>/dev/null >/proc/sys/kernel/panic && echo written || echo refused"),
            |it| it.wrote("refused\n"),
        ),
        case("only-own-processes-are-seen", script("ls /proc | grep -c '^[0-9]'"), |it| {
            let count: u32 = it.log("main").trim().parse().expect("a number");
            assert!(count <= 6, "{count} processes are seen");
        })
        .needs(&[Need::Namespaces]),
        case("no-descriptors-leak", script("ls /proc/self/fd | wc -l"), |it| {
            let count: u32 = it.log("main").trim().parse().expect("a number");
            assert!(count <= 4, "stdin, stdout, stderr and that of the listing: {count}");
        }),
        case(
            "read-only-root",
            secured(
                "echo x 2>/dev/null >/var/tmp/x && echo written || echo refused",
                json!({"readOnlyRootFilesystem": true}),
            ),
            |it| it.wrote("refused\n"),
        )
        .needs(&[Need::Mounts]),
        case("mask-and-core", script("umask; ulimit -c"), |it| {
            let log = it.log("main");
            let words: Vec<&str> = log.split_whitespace().collect();
            assert_eq!(words, ["0022", "0"], "others may read, and there are no core files: {log}");
        }),
        // Kubernetes lets programs gain rights unless that is forbidden; where those would be programs of the host they may not.
        case("privileges-by-default", script("grep NoNewPrivs /proc/self/status | tr -d '\\t '"), |it| {
            it.wrote(if it.platform.is_containers() { "NoNewPrivs:0\n" } else { "NoNewPrivs:1\n" })
        }),
        case("first-to-go-without-memory", script("cat /proc/self/oom_score_adj"), |it| it.wrote("500\n")),
        case(
            "groups-of-the-host",
            json!({"containers": [shell("main", "id -G")], "securityContext": {"fsGroup": 42}}),
            |it| {
                let log = it.log("main");
                assert!(log.split_whitespace().any(|group| group == "42"), "{log}");
            },
        )
        .needs(&[Need::Images]),
        case(
            "groups-of-the-host-are-refused",
            json!({"containers": [shell("main", "id -G")], "securityContext": {"fsGroup": 42}}),
            |it| {
                it.failed();
                // No node allows it, so it is never bound to one.
                assert!(it.pod()["spec"]["nodeName"].is_null(), "{:#}", it.pod());
            },
        )
        .job(json!({"activeDeadlineSeconds": 60})),
        case(
            "ids-by-number",
            json!({
                "securityContext": {"runAsUser": 4200, "runAsGroup": 4201, "supplementalGroups": [4202], "fsGroup": 4203},
                "containers": [shell_with(
                    "main",
                    "id -u; id -g; id -G | tr ' ' '\n' | sort -n; : >/data/file && stat -c %g /data /data/file",
                    json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
                )],
                "volumes": [{"name": "data", "emptyDir": {}}],
            }),
            |it| it.wrote("4200\n4201\n4201\n4202\n4203\n4203\n4203\n"),
        )
        .needs(&[Need::Users, Need::Mounts]),
        case(
            "ids-of-a-container-go-first",
            json!({
                "securityContext": {"runAsUser": 4200, "runAsGroup": 4201},
                "containers": [shell_with(
                    "main",
                    "id -u; id -g",
                    json!({"securityContext": {"runAsUser": 4210, "runAsGroup": 4211}}),
                )],
            }),
            |it| it.wrote("4210\n4211\n"),
        )
        .needs(&[Need::Users]),
    ]
}
