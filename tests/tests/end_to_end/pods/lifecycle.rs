//! Order of containers: init containers, sidecars, restarts by rule, hooks, probes, termination messages (P7–P12).

use super::{Case, Need, case, script, shell, shell_with};
use serde_json::{Value, json};

const MOUNTS: &[Need] = &[Need::Mounts];

/// A container that shares `/data` with the others of its Pod.
fn sharing(name: &str, text: &str, fields: Value) -> Value {
    let mut all = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    super::merge(&mut all, &fields);
    shell_with(name, text, all)
}

fn shared_pod(init: Value, containers: Value) -> Value {
    json!({"initContainers": init, "containers": containers, "volumes": [{"name": "data", "emptyDir": {}}]})
}

fn exec(text: &str) -> Value {
    json!({"exec": {"command": ["/bin/sh", "-c", text]}})
}

fn probe(text: &str, fields: Value) -> Value {
    let mut probe = exec(text);
    super::merge(&mut probe, &fields);
    probe
}

fn on_failure(mut pod: Value) -> Value {
    pod["restartPolicy"] = json!("OnFailure");
    pod
}

pub fn cases() -> Vec<Case> {
    let sidecar = json!({"restartPolicy": "Always"});
    vec![
        case("two-containers", json!({"containers": [shell("main", "exit 0"), shell("other", "sleep 0.5; exit 0")]}), |it| {
            it.complete();
            it.ended("other", 0, "Completed");
        }),
        case("one-of-two-fails", json!({"containers": [shell("main", "exit 0"), shell("other", "sleep 0.3; exit 9")]}), |it| {
            it.failed();
            it.ended("main", 0, "Completed");
            it.ended("other", 9, "Error");
        }),
        case("init-in-order", shared_pod(
            json!([sharing("first", "sleep 0.3; printf a >>/data/order", json!({})), sharing("second", "printf b >>/data/order", json!({}))]),
            json!([sharing("main", "printf c >>/data/order; cat /data/order", json!({}))]),
        ), |it| {
            it.complete();
            it.wrote("abc");
            it.ended("first", 0, "Completed");
        })
        .needs(MOUNTS),
        case("init-fails", json!({"initContainers": [shell("init", "exit 3")], "containers": [shell("main", "echo never")]}), |it| {
            it.failed();
            it.ended("init", 3, "Error");
            assert!(it.status("main")["state"]["waiting"].is_object(), "P8: {:#}", it.status("main"));
        }),
        case("init-is-retried", json!({
            "restartPolicy": "OnFailure",
            "initContainers": [sharing("init", "if [ -e /data/x ]; then exit 0; fi; : >/data/x; exit 1", json!({}))],
            "containers": [sharing("main", "echo ran", json!({}))],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }), |it| {
            it.complete();
            assert_eq!(it.status("init")["restartCount"], 1, "P8");
            it.wrote("ran\n");
        })
        .job(json!({"backoffLimit": 4}))
        .needs(MOUNTS),
        case("sidecar-starts-first-and-ends-last", shared_pod(
            json!([sharing("sidecar", "trap 'exit 0' TERM; : >/data/up; while :; do sleep 0.05; done", sidecar.clone())]),
            json!([sharing("main", "n=0; while [ ! -e /data/up ] && [ $n -lt 1200 ]; do sleep 0.05; n=$((n+1)); done; test -e /data/up && echo beside", json!({}))]),
        ), |it| {
            it.complete();
            it.wrote("beside\n");
        })
        .needs(MOUNTS),
        case("sidecar-s-exit-code-does-not-count", json!({
            "initContainers": [shell_with("sidecar", "trap 'exit 5' TERM; while :; do sleep 0.05; done", sidecar.clone())],
            "containers": [shell("main", "sleep 0.3")],
        }), |it| it.complete()),
        case("sidecar-is-started-again", shared_pod(
            json!([sharing("sidecar", "echo x >>/data/runs; exit 1", sidecar.clone())]),
            json!([sharing("main", "n=0; while [ $(wc -l </data/runs) -lt 2 ] && [ $n -lt 1200 ]; do sleep 0.1; n=$((n+1)); done; wc -l </data/runs", json!({}))]),
        ), |it| {
            it.complete();
            assert!(it.log("main").trim().parse::<u32>().expect("a number") >= 2, "P7");
        })
        .needs(MOUNTS),
        case("sidecar-s-startup-gates-what-follows", shared_pod(
            json!([sharing("sidecar", "trap 'exit 0' TERM; sleep 1; : >/data/up; while :; do sleep 0.05; done",
                json!({"restartPolicy": "Always", "startupProbe": probe("test -e /data/up", json!({"periodSeconds": 1, "failureThreshold": 30}))}))]),
            json!([sharing("main", "test -e /data/up && echo after", json!({}))]),
        ), |it| {
            it.complete();
            it.wrote("after\n");
        })
        .needs(MOUNTS),
        case("restart-rule", shared_pod(json!([]), json!([sharing("main", "if [ -e /data/x ]; then exit 0; fi; : >/data/x; exit 42",
            json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}))])), |it| {
            it.complete();
            assert_eq!(it.status("main")["restartCount"], 1, "P10");
        })
        .job(json!({"backoffLimit": 4}))
        .needs(MOUNTS),
        case("restart-rule-that-does-not-match", json!({"containers": [shell_with("main", "exit 41",
            json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}))]}), |it| {
            it.failed();
            assert_eq!(it.status("main")["restartCount"], 0, "P10");
        }),
        case("liveness", on_failure(shared_pod(json!([]), json!([sharing("main", "if [ -e /data/x ]; then exit 0; fi; : >/data/x; exec sleep 300",
            json!({"livenessProbe": probe("exit 1", json!({"periodSeconds": 1, "failureThreshold": 2, "terminationGracePeriodSeconds": 1}))}))]))), |it| {
            it.complete();
            assert!(it.status("main")["restartCount"].as_u64() >= Some(1));
        })
        .job(json!({"backoffLimit": 6}))
        .needs(MOUNTS),
        case("startup-fails", json!({"containers": [shell_with("main", "exec sleep 300",
            json!({"startupProbe": probe("exit 1", json!({"periodSeconds": 1, "failureThreshold": 2}))}))]}), |it| {
            it.failed();
            assert_ne!(it.terminated("main")["exitCode"], 0);
        }),
        case("readiness", json!({"containers": [shell_with("main", "sleep 4",
            json!({"readinessProbe": probe("exit 1", json!({"periodSeconds": 1}))}))]}), |it| it.complete()),
        case("post-start", shared_pod(json!([]), json!([sharing("main", "n=0; while [ ! -e /data/hook ] && [ $n -lt 1200 ]; do sleep 0.05; n=$((n+1)); done; cat /data/hook",
            json!({"lifecycle": {"postStart": exec("echo hooked >/data/part && mv /data/part /data/hook")}}))])), |it| it.wrote("hooked\n"))
            .needs(MOUNTS),
        case("post-start-fails", json!({"containers": [shell_with("main", "exec sleep 300", json!({"lifecycle": {"postStart": exec("exit 1")}}))]}), |it| {
            it.failed();
            assert_ne!(it.terminated("main")["exitCode"], 0);
        }),
        case("pre-stop", shared_pod(json!([]), json!([sharing("main", "trap 'cat /data/hook; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
            json!({"lifecycle": {"preStop": exec("echo before-term >/data/hook")}}))])), |it| it.wrote("ready\nbefore-term\n"))
            .stopped_after("ready\n")
            .patient()
            .needs(MOUNTS),
        case("pre-stop-has-the-grace-only", json!({"containers": [shell_with("main", "exec sleep 300", json!({"lifecycle": {"preStop": exec("sleep 300")}}))]}), |it| {
            it.failed();
            assert!(matches!(it.terminated("main")["exitCode"].as_i64(), Some(137 | 143)), "P6");
        })
        .stopped_after(""),
        case("stop-signal", json!({"containers": [shell_with("main", "trap 'echo usr1; exit 0' USR1; echo ready; while :; do sleep 0.05; done", json!({"lifecycle": {"stopSignal": "SIGUSR1"}}))]}), |it| {
            it.wrote("ready\nusr1\n");
        })
        .stopped_after("ready\n")
        .patient(),
        case("containers-share-memory", json!({"containers": [
            shell("main", "n=0; while [ ! -e /dev/shm/word ] && [ $n -lt 1200 ]; do sleep 0.1; n=$((n+1)); done; cat /dev/shm/word"),
            shell("other", "echo shared >/dev/shm/part && mv /dev/shm/part /dev/shm/word"),
        ]}), |it| it.wrote("shared\n"))
        .needs(&[Need::Mounts, Need::Users]),
        case("termination-message", json!({"containers": [shell_with("main", "printf 'the reason' >/tmp/why; exit 1", json!({"terminationMessagePath": "/tmp/why"}))]}), |it| {
            assert_eq!(it.terminated("main")["message"], "the reason", "P12");
        })
        .needs(MOUNTS),
        case("termination-message-at-its-default", script("printf why >/dev/termination-log; exit 1"), |it| {
            assert_eq!(it.terminated("main")["message"], "why", "P12");
        })
        .needs(MOUNTS),
        case("termination-message-is-bounded", script("head -c 10000 /dev/zero | tr '\\0' y >/dev/termination-log; exit 1"), |it| {
            let message = it.terminated("main")["message"].as_str().unwrap_or_default().to_owned();
            assert!(!message.is_empty() && message.len() <= 4096, "P12: {} bytes", message.len());
        })
        .needs(MOUNTS),
        case("termination-message-of-the-log", json!({"containers": [shell_with("main", "echo first; echo last words; exit 1", json!({"terminationMessagePolicy": "FallbackToLogsOnError"}))]}), |it| {
            let message = it.terminated("main")["message"].as_str().unwrap_or_default().to_owned();
            assert!(message.contains("last words"), "P12: {message:?}");
        }),
        case("deadline-stops-all-containers", json!({"containers": [shell("main", "exec sleep 86481"), shell("other", "exec sleep 86481")]}), |it| {
            it.failed();
            // In a container the program is the first process, which no signal ends that it does not handle.
            let code = if it.platform.is_containers() { 137 } else { 143 };
            it.ended("main", code, "Error");
            it.ended("other", code, "Error");
        })
        .stopped_after(""),
        case("restart-of-all-containers", shared_pod(
            json!([sharing("init", "echo init >>/data/inits", json!({}))]),
            json!([
                sharing("main", "while [ ! -e /data/others ]; do sleep 0.1; done; if [ -e /data/x ]; then cat /data/inits; exit 0; fi; : >/data/x; exit 42",
                    json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]})),
                // Ends by itself only if it has begun before.
                sharing("other", "echo other >>/data/others; if [ $(wc -l </data/others) -ge 2 ]; then exit 0; fi; exec sleep 300", json!({})),
            ]),
        ), |it| {
            it.complete();
            it.wrote("init\ninit\n");
            it.ended("other", 0, "Completed");
            for container in ["init", "main", "other"] {
                assert_eq!(it.status(container)["restartCount"], 1, "P10: {container}");
            }
        })
        .job(json!({"backoffLimit": 6}))
        .needs(MOUNTS),
    ]
}
