//! Who a container runs as, and what it may not do.

use super::platform::Platform;
use super::{Case, Need, case, script, shell_with};
use serde_json::{Value, json};

fn secured(text: &str, context: Value) -> Value {
    json!({"containers": [shell_with("main", text, json!({"securityContext": context}))]})
}

/// Capabilities that reach beyond a container, by their numbers: to read whatever there is, the network, modules, devices,
/// `chroot` out of it, other processes, mounts, the clock and so on.
const DANGEROUS: u64 = {
    let numbers = [2, 12, 16, 17, 19, 20, 21, 22, 23, 24, 25, 26, 30, 33, 34, 35, 36, 37, 38, 39, 40];
    let (mut set, mut at) = (0, 0);
    while at < numbers.len() {
        set |= 1 << numbers[at];
        at += 1;
    }
    set
};

pub fn cases() -> Vec<Case> {
    vec![
        case("no-new-privileges", script("grep NoNewPrivs /proc/self/status | tr -d '\\t '"), |it| {
            it.wrote("NoNewPrivs:1\n")
        }),
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
            assert_eq!(words.len(), 2, "{log}");
            assert_eq!(words[1], "0", "no core files");
        }),
    ]
}
