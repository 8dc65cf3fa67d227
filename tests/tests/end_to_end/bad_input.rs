//! Bad input by manifest, by command line and by address: a clear error each time, nothing changed, nothing down.

use crate::manifests::shell_job;
use std::time::Duration;
use stint_tests::{Cluster, ClusterOptions, Outcome};

/// A manifest, as a change of a good one, and what the error must say.
const MANIFESTS: &[(&str, &str, &str)] = &[
    ("completions: -1", "", "spec.completions: Invalid value: -1: must be greater than or equal to 0"),
    ("parallelism: -2", "", "spec.parallelism: Invalid value: -2: must be greater than or equal to 0"),
    ("backoffLimit: -1", "", "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"),
    (
        "activeDeadlineSeconds: -5",
        "",
        "spec.activeDeadlineSeconds: Invalid value: -5: must be greater than or equal to 0",
    ),
    (
        "ttlSecondsAfterFinished: -1",
        "",
        "spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0",
    ),
    ("completionMode: Sorted", "", "spec.completionMode: Unsupported value: \"Sorted\": supported values: "),
    (
        "completionMode: Indexed\n  parallelism: 2",
        "",
        "spec.completions: Required value: when completion mode is Indexed",
    ),
    ("podReplacementPolicy: Sometimes", "", "spec.podReplacementPolicy: Unsupported value: \"Sometimes\""),
    ("manualSelector: true", "", "spec.manualSelector"),
    ("managedBy: example.com/other", "", "spec.managedBy"),
    ("managedBy: nobody", "", "must be a domain-prefixed path"),
    ("podFailurePolicy: {rules: []}", "", "spec.podFailurePolicy"),
    ("successPolicy: {rules: []}", "", "spec.successPolicy"),
    ("backoffLimitPerIndex: 1", "", "spec.backoffLimitPerIndex"),
    ("complitions: 3", "", "unknown field \"spec.complitions\""),
    ("completions: three", "", "spec.completions"),
    ("completions: 1\n  completions: 2", "", "duplicate"),
    ("completions: 99999999999", "", "spec.completions"),
    (
        "",
        "restartPolicy: Never=>restartPolicy: Sometimes",
        "spec.template.spec.restartPolicy: Unsupported value: \"Sometimes\"",
    ),
    ("", "restartPolicy: Never=>priority: 0", "spec.template.spec.restartPolicy: Required value"),
    ("", "name: main=>name: Main_Program", "spec.template.spec.containers[0].name: Invalid value"),
    ("", "image: none=>imagine: none", "unknown field"),
    ("", "image: none=>image: none\n        volumeDevices: [{name: a, devicePath: /dev/a}]", "volumeDevices"),
    ("", "image: none=>image: none\n        stdin: maybe", "stdin"),
    ("", "image: none=>image: none\n        resources: {requests: {cpu: lots}}", "requests"),
    (
        "",
        "image: none=>image: none\n        resources: {requests: {\"example.com/gpu\": 1}}",
        "example.com/gpu",
    ),
    ("", "image: none=>image: none\n        resources: {requests: {cpu: 2}, limits: {cpu: 1}}", "requests"),
    (
        "",
        "image: none=>image: none\n        env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]",
        "secretKeyRef",
    ),
    ("", "image: none=>image: none\n        volumeMounts: [{name: v, mountPath: /v}]", "volumeMounts"),
    (
        "",
        "restartPolicy: Never=>restartPolicy: Never\n      topologySpreadConstraints: [{maxSkew: 1}]",
        "topologySpreadConstraints",
    ),
    ("", "restartPolicy: Never=>restartPolicy: Never\n      nodeName: w1", "nodeName"),
    (
        "",
        "restartPolicy: Never=>restartPolicy: Never\n      volumes: [{name: v, nfs: {server: s, path: /p}}]",
        "nfs",
    ),
    (
        "",
        "restartPolicy: Never=>restartPolicy: Never\n      volumes: [{name: v, emptyDir: {}}, {name: v, emptyDir: {}}]",
        "Duplicate value",
    ),
    ("", "image: none=>image: none\n        livenessProbe: {httpGet: {port: 80}}", "httpGet"),
    (
        "",
        "image: none=>image: none\n        startupProbe: {exec: {command: [a]}, successThreshold: 2}",
        "must be 1",
    ),
    ("", "image: none=>image: none\n        terminationMessagePolicy: Always", "terminationMessagePolicy"),
    ("", "image: none=>image: none\n        securityContext: {runAsUser: -1}", "runAsUser"),
    ("", "restartPolicy: Never=>restartPolicy: Never\n      runtimeClassName: gvisor", "runtimeClassName"),
    (
        "",
        "terminationGracePeriodSeconds: 2=>terminationGracePeriodSeconds: -2",
        "terminationGracePeriodSeconds",
    ),
    ("", "name: bad=>name: Bad_Name", "metadata.name: Invalid value: \"Bad_Name\""),
    ("", "name: bad=>name: \"\"", "metadata.name"),
    ("", "kind: Job=>kind: Deployment", "Deployment"),
    ("", "batch/v1=>batch/v2", "batch/v2"),
    ("", "kind: Job=>kind: Job\n  : broken", "line"),
    (
        "",
        "containers:=>containers: []\n      initContainers:",
        "spec.template.spec.containers: Required value",
    ),
];

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::start(ClusterOptions::new(1, 1));
    cluster.apply(&shell_job("good", &["suspend: true"], "true"));
    let before = cluster.json(&["get", "jobs", "-o", "json"])["items"].clone();
    // All of them before the test fails: one look shows everything that is wrong.
    let mut problems = Vec::new();
    for (spec_line, replacement, expected) in MANIFESTS {
        let mut manifest = shell_job("bad", &[spec_line], "true");
        if let Some((from, to)) = replacement.split_once("=>") {
            assert!(manifest.contains(from), "the change applies: {from}");
            manifest = manifest.replacen(from, to, 1);
        }
        let refused = cluster.stint_with_input(&["apply", "-f", "-"], &manifest);
        check(&mut problems, &refused, expected, &manifest);
    }
    for (arguments, input, expected) in command_lines() {
        let refused = cluster.stint_with_input(&arguments, &input);
        check(&mut problems, &refused, expected, &format!("{arguments:?}"));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let immutable = shell_job("good", &["suspend: true", "completions: 7"], "true");
    let refused = cluster.stint_with_input(&["apply", "-f", "-"], &immutable);
    assert!(
        refused.stderr.contains("spec.completions: Invalid value: 7: field is immutable"),
        "{}",
        refused.stderr
    );

    let after = cluster.json(&["get", "jobs", "-o", "json"])["items"].clone();
    assert_eq!(before, after, "nothing was changed");
    assert!(cluster.servers.values_mut().all(|server| server.is_running()));
    assert!(cluster.agents.values_mut().all(|agent| agent.is_running()));
    server_and_agent_flags(&cluster);
    hostile_connections(&mut cluster);
}

/// Adds what is wrong with an answer to bad input.
fn check(problems: &mut Vec<String>, refused: &Outcome, expected: &str, input: &str) {
    let text =
        format!("{input}: code {}, stdout {:?}, stderr {:?}", refused.code, refused.stdout, refused.stderr);
    if refused.code == 0 || refused.code >= 100 {
        problems.push(format!("not refused in order: {text}"));
    } else if !refused.stderr.contains(expected) {
        problems.push(format!("expected {expected:?}: {text}"));
    } else if !refused.stdout.is_empty() {
        problems.push(format!("errors go to stderr: {text}"));
    }
}

fn command_lines() -> Vec<(Vec<&'static str>, String, &'static str)> {
    let many_documents = "---\n".repeat(20_000);
    let deep = format!("a: {}1{}", "[".repeat(5000), "]".repeat(5000));
    vec![
        (vec!["get", "jobs", "no-such-job"], String::new(), "not found"),
        (vec!["get", "pods", "no-such-pod"], String::new(), "not found"),
        (vec!["get", "nodes", "no-such-node"], String::new(), "not found"),
        (vec!["get", "deployments"], String::new(), "deployments"),
        (vec!["get", "jobs", "-o", "xml"], String::new(), "xml"),
        (vec!["get", "jobs", "-l", "=="], String::new(), "selector"),
        (vec!["delete", "job", "no-such-job"], String::new(), "not found"),
        (vec!["delete", "job"], String::new(), "required"),
        (vec!["logs", "no-such-pod"], String::new(), "not found"),
        (vec!["logs", "job/no-such-job"], String::new(), "not found"),
        (vec!["logs", "--tail", "-3", "job/good"], String::new(), "--tail"),
        (vec!["wait", "job/good", "--for", "complete", "--timeout", "200ms"], String::new(), "timed out"),
        (vec!["wait", "job/good", "--for", "perfection"], String::new(), "perfection"),
        (vec!["wait", "job/good", "--for", "complete", "--timeout", "soon"], String::new(), "soon"),
        (vec!["wait", "good"], String::new(), "--for"),
        (vec!["apply", "-f", "/no/such/file.yaml"], String::new(), "/no/such/file.yaml"),
        (vec!["apply", "-f", "-"], String::new(), "no object"),
        (vec!["apply", "-f", "-"], many_documents, ""),
        (vec!["apply", "-f", "-"], deep, ""),
        (vec!["apply", "-f", "-"], "\u{0}\u{1}\u{2}".to_owned(), ""),
        (vec!["create", "-f", "-"], shell_job("good", &[], "true"), "already exists"),
        (vec!["cordon", "no-such-node"], String::new(), "no-such-node is not registered"),
        (vec!["uncordon", "no-such-node"], String::new(), "no-such-node is not registered"),
        (vec!["member", "remove", "no-such-member"], String::new(), "no-such-member"),
        (vec!["member", "add", "s2=nowhere"], String::new(), "nowhere"),
        (vec!["status", "-o", "xml"], String::new(), "xml"),
        (vec!["frobnicate"], String::new(), "frobnicate"),
        (vec!["run", "-f", "-"], "kind: Job".to_owned(), "apiVersion"),
        (vec!["--server", "127.0.0.1:1", "get", "jobs"], String::new(), "127.0.0.1:1"),
        (vec!["--server", "not an address", "get", "jobs"], String::new(), "not an address"),
    ]
}

fn server_and_agent_flags(cluster: &Cluster) {
    let folder = cluster.folder.path().join("bad-flags");
    let folder = folder.to_str().unwrap();
    let server = &cluster.addresses();
    for (program, arguments, expected) in [
        (
            "stint",
            vec![
                "server",
                "--name",
                "x",
                "--data-dir",
                folder,
                "--listen",
                "0.0.0.0:0",
                "--peer-listen",
                "127.0.0.1:0",
            ],
            "token",
        ),
        ("stint", vec!["server", "--name", "x", "--data-dir", folder, "--listen", "nonsense"], "nonsense"),
        ("stint", vec!["server", "--name", "Bad_Name", "--data-dir", folder], "Bad_Name"),
        ("stint", vec!["server", "--name", "x", "--data-dir", folder, "--node-lease", "1s"], "node lease"),
        (
            "stint",
            vec!["server", "--name", "x", "--data-dir", folder, "--initial-cluster", "y=127.0.0.1:1"],
            "initial-cluster",
        ),
        (
            "stint",
            vec!["server", "--name", "x", "--data-dir", folder, "--initial-cluster", "gibberish"],
            "gibberish",
        ),
        (
            "stint",
            vec!["server", "--name", "x", "--data-dir", folder, "--token-file", "/no/such/token"],
            "/no/such/token",
        ),
        (
            "stint",
            vec!["server", "--name", "x", "--data-dir", "/proc/no/such/folder"],
            "/proc/no/such/folder",
        ),
        ("stint-agent", vec!["--name", "Bad_Name", "--server", server, "--data-dir", folder], "Bad_Name"),
        ("stint-agent", vec!["--name", "x", "--data-dir", folder], "--server"),
        (
            "stint-agent",
            vec!["--name", "x", "--server", server, "--data-dir", folder, "--cpu", "lots"],
            "lots",
        ),
        (
            "stint-agent",
            vec!["--name", "x", "--server", server, "--data-dir", folder, "--memory", "-1Gi"],
            "-1Gi",
        ),
        (
            "stint-agent",
            vec!["--name", "x", "--server", server, "--data-dir", folder, "--label", "nonsense"],
            "nonsense",
        ),
    ] {
        let log = cluster.folder.path().join("bad-flags.output");
        drop(std::fs::remove_file(&log));
        let mut command = std::process::Command::new(stint_tests::binary(program));
        command.args(&arguments);
        let mut process = stint_tests::Process::start(command, &log);
        let ended = process.ended_within(Duration::from_secs(10));
        let ended = ended.unwrap_or_else(|| panic!("{program} {arguments:?} runs on: {}", process.output()));
        assert!(!ended.success(), "{program} {arguments:?} succeeded");
        assert!(
            process.output().contains(expected),
            "expected {expected:?} in {:?} for {arguments:?}",
            process.output()
        );
        assert!(!process.output().contains("panicked"), "{}", process.output());
    }
}

/// Clients that speak no gRPC at all, on both ports.
fn hostile_connections(cluster: &mut Cluster) {
    use std::io::{Read, Write};
    let addresses = [cluster.client_addresses["s1"].clone(), cluster.peer_addresses["s1"].clone()];
    let mut held = Vec::new();
    for address in &addresses {
        for bytes in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""]
        {
            let mut connection = std::net::TcpStream::connect(address).unwrap();
            drop(connection.write_all(bytes));
            connection.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            drop(connection.read(&mut [0; 1024]));
            held.push(connection);
        }
    }
    cluster.stint(&["get", "jobs"]).success();
    drop(held);
    cluster.stint_with_input(&["run", "-f", "-"], &shell_job("after-all", &[], "echo still here")).success();
    assert!(cluster.servers.values_mut().all(|server| server.is_running()));
}
