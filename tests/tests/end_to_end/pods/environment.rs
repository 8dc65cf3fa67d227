//! Environment: literal, expanded, taken from fields, resources and ConfigMaps; working folder and host name.

use super::{Case, Need, case, script, shell_with};
use serde_json::{Value, json};

/// ConfigMaps that the cases use.
pub fn config_maps() -> Vec<Value> {
    vec![json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
        "data": {"color": "blue", "level": "7", "app.conf": "a=1\nb=2\n"},
    })]
}

fn with_env(text: &str, env: Value) -> Value {
    json!({"containers": [shell_with("main", text, json!({"env": env}))]})
}

pub fn cases() -> Vec<Case> {
    vec![
        case("env-literal", with_env("echo \"$A|$B\"", json!([{"name": "A", "value": "1 2"}, {"name": "B", "value": ""}])), |it| {
            it.wrote("1 2|\n");
        }),
        case("env-expansion", with_env("echo \"$B $C\"", json!([
            {"name": "A", "value": "x"}, {"name": "B", "value": "$(A)y$(LATER)"}, {"name": "C", "value": "$$(A)"}, {"name": "LATER", "value": "z"},
        ])), |it| it.wrote("xy$(LATER) $(A)\n")),
        case("env-unicode", with_env("echo \"$A\"", json!([{"name": "A", "value": "Ärger 漢字"}])), |it| it.wrote("Ärger 漢字\n")),
        case("env-of-100-kilobytes", with_env("echo ${#A}", json!([{"name": "A", "value": "x".repeat(100_000)}])), |it| it.wrote("100000\n")),
        case("env-many", with_env("env | grep -c '^MANY_'", many_variables()), |it| it.wrote("500\n")),
        case("env-of-the-host-is-hidden", script("env | cut -d= -f1 | grep -E '^(STINT_SERVER|CARGO|RUST|SSH|USER)' ; exit 0"), |it| it.wrote("")),
        case("env-fencing-token", script("test \"$STINT_FENCING_TOKEN\" -gt 0 && echo yes"), |it| it.wrote("yes\n")),
        case("env-fields", with_env("echo \"$NAME $NAMESPACE $NODE\"; test ${#POD_UID} -eq 36 && echo uid; test -n \"$HOST_IP\" && echo ip", json!([
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['job-name']"}}},
            {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        ])), |it| it.wrote("env-fields default w1\nuid\nip\n")),
        case("env-addresses", with_env("echo \"$HOST $POD\"", json!([
            {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ])), |it| {
            let status = it.pod()["status"].clone();
            let address = |field: &str| status[field].as_str().unwrap_or_else(|| panic!("no {field}: {status}")).to_owned();
            it.wrote(&format!("{} {}\n", address("hostIP"), address("podIP")));
        }),
        case("env-pod-name", with_env("echo \"$NAME\"", json!([{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}])), |it| {
            let name = it.pod()["metadata"]["name"].as_str().expect("a name").to_owned();
            it.wrote(&format!("{name}\n"));
        }),
        case("env-resources", json!({"containers": [shell_with("main", "echo $CPU $MEMORY", json!({
            "resources": {"requests": {"cpu": "250m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
            "env": [
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
            ]}))]}), |it| it.wrote("500 16\n")),
        case("env-config-map-key", with_env("echo $COLOR:$NONE:", json!([
            {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "no-such", "key": "x", "optional": true}}},
        ])), |it| it.wrote("blue::\n")),
        case("env-from-config-map", json!({"containers": [shell_with("main", "echo $S_color $S_level", json!({
            "envFrom": [{"prefix": "S_", "configMapRef": {"name": "settings"}}, {"configMapRef": {"name": "no-such", "optional": true}}]}))]}), |it| {
            it.wrote("blue 7\n");
        }),
        case("working-folder", json!({"containers": [shell_with("main", "pwd", json!({"workingDir": "/usr"}))]}), |it| it.wrote("/usr\n")),
        case("working-folder-of-its-own", script("echo hello >file && cat file"), |it| it.wrote("hello\n")),
        case("working-folder-missing", json!({"containers": [shell_with("main", "pwd", json!({"workingDir": "/no/such/folder"}))]}), |it| {
            it.failed();
            assert_eq!(it.terminated("main")["reason"], "StartError", "P3");
        }),
        case("host-name", script("test \"$HOSTNAME\" = \"$(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)\" && echo same"), |it| it.wrote("same\n"))
            .needs(&[Need::Namespaces]),
        case("host-aliases", json!({
            "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["other.example", "other"]}],
            "containers": [shell_with("main", "grep -w other /etc/hosts", json!({}))],
        }), |it| it.wrote("192.0.2.9\tother.example\tother\n"))
            .needs(&[Need::Mounts]),
        // As a program finds its own address; images of the tests have nothing that asks for it.
        case("host-name-is-known", script("if command -v getent >/dev/null; then getent hosts \"$HOSTNAME\" >/dev/null; else grep -qw \"$HOSTNAME\" /etc/hosts; fi \
             && grep -q localhost /etc/hosts && echo known"), |it| it.wrote("known\n"))
            .needs(&[Need::Mounts]),
        case("completion-index", script("echo $JOB_COMPLETION_INDEX"), |it| it.wrote("0\n"))
            .job(json!({"completions": 1, "completionMode": "Indexed"})),
    ]
}

fn many_variables() -> Value {
    (0..500).map(|number| json!({"name": format!("MANY_{number}"), "value": number.to_string()})).collect()
}
