//! How containers end: exit codes, signals, grace, what is left of a Pod.

use super::{Case, Need, case, script, shell};
use serde_json::{Value, json};

pub fn cases() -> Vec<Case> {
    vec![
        case("exit-0", script("exit 0"), |it| {
            it.complete();
            it.ended("main", 0, "Completed");
            assert_eq!(it.pod()["status"]["phase"], "Succeeded", "P1");
        }),
        case("exit-1", script("exit 1"), |it| {
            it.failed();
            it.ended("main", 1, "Error");
            assert_eq!(it.pod()["status"]["phase"], "Failed", "P1");
        }),
        case("exit-255", script("exit 255"), |it| it.ended("main", 255, "Error")),
        case("signal-becomes-code", script("sh -c 'kill -9 $$$$'; exit $?"), |it| {
            it.ended("main", 137, "Error")
        }),
        case("killed-by-a-signal", script("ulimit -t 1; while :; do :; done"), |it| {
            it.failed();
            let code = it.terminated("main")["exitCode"].as_i64();
            // SIGXCPU, or SIGKILL where the soft limit is the hard one.
            assert!(matches!(code, Some(137 | 152)), "P5: {code:?}");
        }),
        case("program-missing", json!({"containers": [program(&["/no/such/program"])]}), |it| {
            it.failed();
            let end = it.terminated("main");
            assert!(matches!(end["exitCode"].as_i64(), Some(127 | 128)), "P5: {end}");
            assert!(matches!(end["reason"].as_str(), Some("StartError" | "ContainerCannotRun")), "P3: {end}");
        }),
        case("program-not-in-path", json!({"containers": [program(&["no-such-program"])]}), |it| {
            let end = it.terminated("main");
            assert!(matches!(end["exitCode"].as_i64(), Some(127 | 128)), "P5: {end}");
        }),
        case("program-not-executable", json!({"containers": [program(&["/etc/passwd"])]}), |it| {
            let end = it.terminated("main");
            assert!(matches!(end["exitCode"].as_i64(), Some(126..=128)), "P5: {end}");
        }),
        case("shell-finds-no-program", script("no-such-program"), |it| it.ended("main", 127, "Error")),
        case(
            "sigterm-is-handled",
            script("trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done"),
            |it| {
                it.failed();
                it.ended("main", 3, "Error");
                it.wrote("ready\ncaught\n");
            },
        )
        .stopped_after("ready\n")
        .patient(),
        case("sigterm-is-ignored", script("trap '' TERM; echo ready; while :; do sleep 0.1; done"), |it| {
            it.failed();
            it.ended("main", 137, "Error");
        })
        .stopped_after("ready\n"),
        case("a-stopped-process-ends", script("kill -STOP $$$$; sleep 600"), |it| {
            it.failed();
            assert_eq!(it.terminated("main")["exitCode"], 137, "P6");
        })
        .stopped_after(""),
        case(
            "a-daemon-does-not-survive",
            script("(setsid sleep 86471 >/dev/null 2>&1 &) ; sleep 0.2; exit 0"),
            |it| {
                it.complete();
                assert_eq!(processes_with("86471"), Vec::<String>::new());
            },
        ),
        case(
            "a-double-fork-does-not-survive",
            script("(setsid sh -c 'setsid sleep 86472 & sleep 86472' &) ; sleep 0.3"),
            |it| {
                it.complete();
                assert_eq!(processes_with("86472"), Vec::<String>::new());
            },
        ),
        case(
            "ignoring-everything-does-not-help",
            script("(trap '' TERM INT HUP QUIT; setsid sleep 86473 & sleep 86473 &) ; sleep 0.2; exit 4"),
            |it| {
                it.ended("main", 4, "Error");
                assert_eq!(processes_with("86473"), Vec::<String>::new());
            },
        ),
        case(
            "orphans-are-reaped",
            script(
                "for n in 1 2 3 4 5; do (sh -c 'sleep 0.1 &' &); done; sleep 1; n=0
                while [ $(ls /proc | grep -c '^[0-9]') -gt 6 ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done
                ls /proc | grep -c '^[0-9]'",
            ),
            |it| {
                it.complete();
                let count: u32 = it.log("main").trim().parse().expect("a number");
                assert!(count <= 5, "no zombie is left: {count} processes");
            },
        )
        .needs(&[Need::Namespaces]),
        case(
            "many-processes-end",
            script("n=0; while [ $n -lt 100 ]; do sleep 86474 & n=$((n+1)); done; exit 0"),
            |it| {
                it.complete();
                assert_eq!(processes_with("86474"), Vec::<String>::new());
            },
        ),
        case("stdin-is-empty", script("if read line; then echo got; else echo end; fi"), |it| {
            it.wrote("end\n")
        }),
        case("no-arguments-but-a-command", json!({"containers": [program(&["/bin/true"])]}), |it| {
            it.complete()
        }),
        case(
            "arguments-follow-the-command",
            json!({"containers": [with_args(&["/bin/echo", "a"], &["b c", "", "$(NONE)", "d"])]}),
            |it| {
                it.wrote("a b c  $(NONE) d\n");
            },
        ),
        case("a-fork-bomb-is-bounded", json!({"containers": [fork_bomb()]}), |it| {
            // However it ends, how is known, and nothing of it is left.
            let end = it.terminated("main");
            assert!(matches!(end["reason"].as_str(), Some("Completed" | "Error" | "OOMKilled")), "{end}");
            assert_eq!(processes_with(FORK_BOMB), Vec::<String>::new());
        })
        // The shell that would end it may never get its turn.
        .stopped_after("")
        .needs(&[Need::Limits, Need::Namespaces]),
        case("out-of-memory", json!({"containers": [out_of_memory()]}), |it| {
            it.failed();
            it.ended("main", 137, "OOMKilled");
        })
        .needs(&[Need::Limits]),
        case("a-child-out-of-memory-is-not-the-end", json!({"containers": [child_out_of_memory()]}), |it| {
            // The main process lives on, and ends as it says; or the whole cgroup is killed, as by the kernel's version 2.
            let end = it.terminated("main");
            let known = (end["exitCode"].as_i64(), end["reason"].as_str());
            assert!(
                matches!(known, (Some(5), Some("Error" | "OOMKilled")) | (Some(137), Some("OOMKilled"))),
                "{end}"
            );
        })
        .needs(&[Need::Limits]),
        case("under-the-memory-limit", json!({"containers": [under_the_limit()]}), |it| it.complete())
            .needs(&[Need::Limits]),
        case("restart-policy-on-failure", on_failure(), |it| {
            it.complete();
            assert_eq!(it.status("main")["restartCount"], 1, "P9");
            assert_eq!(it.status("main")["lastState"]["terminated"]["exitCode"], 7, "P2");
            it.wrote("again\n");
        })
        .job(json!({"backoffLimit": 3}))
        .needs(&[Need::Mounts]),
        case(
            "the-end-of-a-container-is-no-failed-hook",
            json!({"containers": [ends_before_its_hook()]}),
            |it| {
                it.complete();
                it.ended("main", 0, "Completed");
                let end = it.terminated("main");
                assert!(end["message"].as_str().unwrap_or_default().is_empty(), "P8: {end}");
            },
        ),
    ]
}

fn program(command: &[&str]) -> Value {
    json!({"name": "main", "image": super::IMAGE, "command": command})
}

fn with_args(command: &[&str], args: &[&str]) -> Value {
    json!({"name": "main", "image": super::IMAGE, "command": command, "args": args})
}

/// `tail` keeps the last line of its input in memory, and the input has only one.
const EAT_MEMORY: &str = "tail /dev/zero";

/// The argument by which its processes are known.
const FORK_BOMB: &str = "f() { f | f & }; f 2>/dev/null; sleep 2; exit 0";

/// With little of the processor, so that the others of the suite go on.
fn fork_bomb() -> Value {
    let mut container = shell("main", FORK_BOMB);
    container["resources"] = json!({"limits": {"cpu": "200m", "memory": "256Mi"}});
    container
}

fn limited(text: &str) -> Value {
    let mut container = shell("main", text);
    container["resources"] = json!({"limits": {"memory": "24Mi"}});
    container
}

fn out_of_memory() -> Value {
    limited(&format!("exec {EAT_MEMORY}"))
}

fn child_out_of_memory() -> Value {
    limited(&format!("{EAT_MEMORY}; exit 5"))
}

fn under_the_limit() -> Value {
    limited("head -c 4194304 /dev/zero | tail -c 1 >/dev/null")
}

fn ends_before_its_hook() -> Value {
    let mut container = shell("main", "sleep 1; exit 0");
    container["lifecycle"] = json!({"postStart": {"exec": {"command": ["/bin/sh", "-c", "sleep 600"]}}});
    container
}

fn on_failure() -> Value {
    let mut container =
        shell("main", "if [ -e /data/ran ]; then echo again; exit 0; fi; : >/data/ran; exit 7");
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    json!({"restartPolicy": "OnFailure", "containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]})
}

/// Command lines of this machine's processes that have this argument.
fn processes_with(argument: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            entry.file_name().to_str()?.parse::<u32>().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            words.iter().any(|word| word == argument).then(|| words.join(" "))
        })
        .collect()
}
