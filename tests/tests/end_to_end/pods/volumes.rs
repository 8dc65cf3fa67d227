//! Volumes: shared between containers, bounded, read-only, made of ConfigMaps and of the Pod's own fields.

use super::{Case, Need, case, shell, shell_with};
use serde_json::{Value, json};

const MOUNTS: &[Need] = &[Need::Mounts];

/// A container with the volume `data` at `/data`.
fn at_data(name: &str, text: &str, more: Value) -> Value {
    let mut mount = json!({"name": "data", "mountPath": "/data"});
    super::merge(&mut mount, &more);
    shell_with(name, text, json!({"volumeMounts": [mount]}))
}

fn one(text: &str, volume: Value, more: Value) -> Value {
    json!({"containers": [at_data("main", text, more)], "volumes": [volume]})
}

fn empty_dir() -> Value {
    json!({"name": "data", "emptyDir": {}})
}

pub fn cases() -> Vec<Case> {
    vec![
        case("empty-dir", one("echo x >/data/file && cat /data/file", empty_dir(), json!({})), |it| it.wrote("x\n")).needs(MOUNTS),
        case("empty-dir-is-empty", one("ls -A /data | wc -l", empty_dir(), json!({})), |it| assert_eq!(it.log("main").trim(), "0")).needs(MOUNTS),
        case("empty-dir-is-shared", json!({
            "containers": [at_data("main", "while [ ! -e /data/ready ]; do sleep 0.05; done; cat /data/ready", json!({})), at_data("writer", "echo from-writer >/data/part && mv /data/part /data/ready", json!({}))],
            "volumes": [empty_dir()],
        }), |it| {
            it.complete();
            it.wrote("from-writer\n");
        })
        .needs(MOUNTS),
        case("empty-dir-in-memory", one("grep ' /data tmpfs ' /proc/mounts >/dev/null && echo memory", json!({"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}), json!({})), |it| it.wrote("memory\n")).needs(&[Need::Mounts, Need::Users]),
        case("empty-dir-in-memory-is-bounded", one("head -c 4194304 /dev/zero >/data/big 2>/dev/null || echo full", json!({"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}), json!({})), |it| it.wrote("full\n")).needs(&[Need::Mounts, Need::Users]),
        case("empty-dir-over-its-limit", one("head -c 4194304 /dev/zero >/data/big; sleep 600", json!({"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}), json!({})), |it| {
            it.failed();
            let status = &it.pod()["status"];
            assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Evicted")), "P4: {status:#}");
            assert_eq!(status["message"], "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". ");
        })
        .needs(MOUNTS),
        case("read-only-mount", one("echo x 2>/dev/null >/data/file || echo refused", empty_dir(), json!({"readOnly": true})), |it| it.wrote("refused\n")).needs(MOUNTS),
        case("sub-path", json!({
            "initContainers": [at_data("init", "mkdir -p /data/a/b && echo deep >/data/a/b/file", json!({}))],
            "containers": [at_data("main", "cat /data/file", json!({"subPath": "a/b"}))],
            "volumes": [empty_dir()],
        }), |it| it.wrote("deep\n"))
        .needs(MOUNTS),
        case("sub-path-does-not-escape", json!({
            "initContainers": [at_data("init", "ln -s /etc /data/link", json!({}))],
            "containers": [at_data("main", "cat /data/passwd", json!({"subPath": "link"}))],
            "volumes": [empty_dir()],
        }), |it| {
            it.failed();
            assert!(!it.log("main").contains("root:"), "a link of the Pod leads nowhere outside");
        })
        .needs(MOUNTS),
        case("config-map-volume", one("cat /data/app.conf; ls /data | sort | tr '\\n' ' '", json!({"name": "data", "configMap": {"name": "settings"}}), json!({})), |it| {
            it.wrote("a=1\nb=2\napp.conf color level ");
        })
        .needs(MOUNTS),
        case("config-map-items-and-modes", one("cat /data/deep/conf; stat -L -c %a /data/deep/conf", json!({"name": "data", "configMap": {"name": "settings", "items": [{"key": "app.conf", "path": "deep/conf", "mode": 0o444}]}}), json!({})), |it| {
            it.wrote("a=1\nb=2\n444\n");
        })
        .needs(MOUNTS),
        case("config-map-for-its-user-only", one("cat /data/color", json!({"name": "data", "configMap": {"name": "settings", "defaultMode": 0o400}}), json!({})), |it| it.wrote("blue")).needs(MOUNTS),
        case("config-map-missing-but-optional", one("ls -A /data | wc -l", json!({"name": "data", "configMap": {"name": "no-such", "optional": true}}), json!({})), |it| assert_eq!(it.log("main").trim(), "0")).needs(MOUNTS),
        case("downward-volume", one("cat /data/labels | grep job-name= ; cat /data/name", json!({"name": "data", "downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        ]}}), json!({})), |it| {
            let log = it.log("main");
            assert!(log.contains("job-name=\"downward-volume\""), "{log}");
            assert!(log.ends_with(it.pod()["metadata"]["name"].as_str().expect("a name")), "{log}");
        })
        .needs(MOUNTS),
        case("projected-volume", one("cat /data/color /data/name", json!({"name": "data", "projected": {"sources": [
            {"configMap": {"name": "settings", "items": [{"key": "color", "path": "color"}]}},
            {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]}}), json!({})), |it| it.wrote("bluedefault"))
        .needs(MOUNTS),
        case("host-path-is-refused", one("ls /data", json!({"name": "data", "hostPath": {"path": "/etc"}}), json!({})), |it| {
            it.failed();
            // No node allows it, so it is never bound to one.
            assert!(it.pod()["spec"]["nodeName"].is_null(), "{:#}", it.pod());
        })
        .needs(MOUNTS)
        .job(json!({"activeDeadlineSeconds": 5})),
        case("private-tmp", json!({"containers": [shell("main", "ls -A /tmp | grep -v '^stint-test' | wc -l; echo x >/tmp/file && cat /tmp/file")]}), |it| {
            let log = it.log("main");
            assert_eq!(log.split_whitespace().collect::<Vec<_>>(), ["0", "x"]);
        })
        .needs(&[Need::Mounts, Need::Namespaces]),
        // Where the folder of a process itself lies, that of the tests as that of a service.
        case("volumes-at-common-folders", json!({
            "containers": [shell_with("main", "echo x >/tmp/a && echo y >/var/lib/a && cd && echo z >a && cat /tmp/a /var/lib/a a", json!({"volumeMounts": [
                {"name": "one", "mountPath": "/tmp"}, {"name": "two", "mountPath": "/var/lib"},
            ]}))],
            "volumes": [{"name": "one", "emptyDir": {}}, {"name": "two", "emptyDir": {}}],
        }), |it| it.wrote("x\ny\nz\n"))
        .needs(MOUNTS),
    ]
}
