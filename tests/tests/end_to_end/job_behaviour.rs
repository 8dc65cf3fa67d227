//! What a Job does, on real processes: parallelism, restart policies, deadline, TTL, suspend, deletion, exit codes, logs.

use crate::manifests::{journal_script, most_at_once, read_journal, shell_job, shell_job_with};
use std::time::Duration;
use stint_tests::cluster::condition;
use stint_tests::{Cluster, ClusterOptions, eventually};

const SOON: Duration = Duration::from_secs(90);

#[test]
fn job_behaviour() {
    let cluster = Cluster::start(ClusterOptions::new(1, 2));
    // One cluster for all: starting one costs more than most of these.
    parallelism_two_of_ten(&cluster);
    restart_policy_always_is_refused(&cluster);
    deadline(&cluster);
    time_to_live(&cluster);
    suspend_and_resume(&cluster);
    deletion_takes_pods_and_logs(&cluster);
    exit_codes(&cluster);
    restart_in_place(&cluster);
    nothing_survives_a_pods_end(&cluster);
    environment_and_expansion(&cluster);
    a_config_map_that_comes_later(&cluster);
    logs(&cluster);
    run_and_wait(&cluster);
    placement(&cluster);
    watching(&cluster);
}

fn parallelism_two_of_ten(cluster: &Cluster) {
    let journal = cluster.folder.path().join("two-of-ten");
    let script = journal_script(&journal, 4, 0);
    cluster.apply(&shell_job("two-of-ten", &["completions: 10", "parallelism: 2"], &script));
    let job = cluster.wait_for_condition("two-of-ten", "Complete", Duration::from_secs(60));
    assert_eq!(job["status"]["succeeded"], 10);
    let pods = read_journal(&journal);
    assert_eq!(pods.len(), 10);
    assert_eq!(most_at_once(&pods), 2, "J21: two at a time, and never more: {pods:?}");
    assert!(pods.keys().is_sorted());
    let conditions: Vec<&str> = job["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["type"].as_str())
        .collect();
    assert_eq!(conditions, ["SuccessCriteriaMet", "Complete"], "J90");
    assert_eq!(condition(&job, "Complete").unwrap()["reason"], "CompletionsReached", "J83");
}

fn restart_policy_always_is_refused(cluster: &Cluster) {
    let refused =
        cluster.stint_with_input(&["apply", "-f", "-"], &shell_job_with("always", &[], "Always", "true"));
    assert_ne!(refused.code, 0);
    let expected = r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#;
    assert!(refused.stderr.contains(expected), "V16: {}", refused.stderr);
    assert_ne!(cluster.stint(&["get", "jobs", "always"]).code, 0);
}

fn deadline(cluster: &Cluster) {
    cluster.apply(&shell_job("late", &["activeDeadlineSeconds: 1"], "sleep 300"));
    let job = cluster.wait_for_condition("late", "Failed", SOON);
    let failed = condition(&job, "Failed").unwrap();
    assert_eq!(failed["reason"], "DeadlineExceeded", "J63");
    assert_eq!(failed["message"], "Job was active longer than specified deadline");
    assert!(matches!(job["status"]["active"].as_i64(), None | Some(0)));
}

fn time_to_live(cluster: &Cluster) {
    cluster.apply(&shell_job("short-lived", &["ttlSecondsAfterFinished: 1"], "true"));
    eventually("J121: the job and its pods are gone", SOON, || {
        let gone = cluster.stint(&["get", "jobs", "short-lived"]).stderr.contains("not found");
        (gone && cluster.pods("short-lived").is_empty()).then_some(())
    });
}

fn suspend_and_resume(cluster: &Cluster) {
    let suspended = shell_job("paused", &["suspend: true", "completions: 1", "parallelism: 1"], "true");
    cluster.apply(&suspended);
    let job = cluster.wait_for_condition("paused", "Suspended", SOON);
    assert!(job["status"]["startTime"].is_null(), "J100");
    assert!(cluster.pods("paused").is_empty());
    cluster.apply(&suspended.replace("suspend: true", "suspend: false"));
    let job = cluster.wait_for_condition("paused", "Complete", SOON);
    assert_eq!(condition(&job, "Suspended").unwrap()["reason"], "JobResumed", "J102");
    // While it runs.
    let running =
        shell_job("paused-later", &["suspend: false", "completions: 1", "parallelism: 1"], "sleep 300");
    cluster.apply(&running);
    cluster.wait_for_pods("paused-later", "Running", 1, SOON);
    cluster.apply(&running.replace("suspend: false", "suspend: true"));
    eventually("J101: the running pod is stopped and gone", SOON, || {
        cluster.pods("paused-later").is_empty().then_some(())
    });
    let job = cluster.job("paused-later");
    assert!(
        matches!(job["status"]["failed"].as_i64(), None | Some(0)),
        "J16: not counted: {}",
        job["status"]
    );
    cluster.stint(&["delete", "job", "paused-later"]).success();
}

fn deletion_takes_pods_and_logs(cluster: &Cluster) {
    cluster.apply(&shell_job("unwanted", &[], "echo written; sleep 300"));
    let pods = cluster.wait_for_pods("unwanted", "Running", 1, SOON);
    let pod = pods[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let uid = pods[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    eventually("the log is there", SOON, || {
        (cluster.stint(&["logs", &pod]).stdout == "written\n").then_some(())
    });
    let has_log = |cluster: &Cluster| {
        cluster
            .agent_names()
            .iter()
            .any(|name| !files_named_after(&cluster.data_folder(name), &uid).is_empty())
    };
    assert!(has_log(cluster), "the agent keeps files named after the pod's uid");
    cluster.stint(&["delete", "job", "unwanted"]).success();
    assert!(cluster.stint(&["get", "jobs", "unwanted"]).stderr.contains("not found"), "D1, J120");
    eventually("its pods and their logs are gone", SOON, || {
        (cluster.pods("unwanted").is_empty() && !has_log(cluster)).then_some(())
    });
}

/// Files and folders below `folder` whose name holds `text`.
fn files_named_after(folder: &std::path::Path, text: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(text) {
            found.push(entry.path());
        }
        if entry.path().is_dir() {
            found.extend(files_named_after(&entry.path(), text));
        }
    }
    found
}

fn exit_codes(cluster: &Cluster) {
    for (name, script, code) in [
        ("exit-seven", "exit 7", 7),
        ("exit-255", "exit 255", 255),
        ("killed", "kill -9 $$$$", 137),
        ("terminated", "kill -15 $$$$", 143),
    ] {
        cluster.apply(&shell_job(name, &["backoffLimit: 0"], script));
        cluster.wait_for_condition(name, "Failed", SOON);
        let pods = cluster.pods(name);
        let terminated = &pods[0]["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(
            (&terminated["exitCode"], &terminated["reason"]),
            (&code.into(), &"Error".into()),
            "P5: {name}"
        );
    }
    for (name, command, code) in
        [("missing", "/no/such/program", 127), ("not-executable", "/etc/passwd", 126)]
    {
        let manifest = shell_job(name, &["backoffLimit: 0"], "true")
            .replace("[\"/bin/sh\", \"-c\", \"true\"]", &format!("[\"{command}\"]"));
        cluster.apply(&manifest);
        cluster.wait_for_condition(name, "Failed", SOON);
        let pods = cluster.pods(name);
        let terminated = &pods[0]["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(terminated["exitCode"], code, "P5: {name}: {pods:?}");
    }
}

fn restart_in_place(cluster: &Cluster) {
    let marker = cluster.folder.path().join("restarted");
    let script = format!("[ -e {0} ] && exit 0; touch {0}; exit 1", marker.display());
    let manifest = shell_job_with("in-place", &["backoffLimit: 3"], "OnFailure", &script).replace(
        "  name: in-place\n",
        "  name: in-place\n  annotations:\n    stint.dev/backoff-base: 200ms\n",
    );
    cluster.apply(&manifest);
    let job = cluster.wait_for_condition("in-place", "Complete", SOON);
    assert!(matches!(job["status"]["failed"].as_i64(), None | Some(0)));
    let pods = cluster.pods("in-place");
    assert_eq!(pods.len(), 1, "A14: the same pod");
    assert_eq!(pods[0]["status"]["containerStatuses"][0]["restartCount"], 1);
}

fn nothing_survives_a_pods_end(cluster: &Cluster) {
    let marker = "73195731";
    let script = format!("setsid sh -c 'sh -c \"sleep {marker}\" & sleep {marker}' & sleep 0.3; exit 0");
    cluster.apply(&shell_job("daemons", &[], &script));
    cluster.wait_for_condition("daemons", "Complete", SOON);
    assert_eq!(processes_with(marker), 0, "a daemon outlived its pod");
    // SIGTERM ignored: SIGKILL after the grace period.
    cluster.apply(&shell_job("stubborn", &[], "trap '' TERM; echo up; while :; do sleep 0.1; done"));
    let pods = cluster.wait_for_pods("stubborn", "Running", 1, SOON);
    let pod = pods[0]["metadata"]["name"].as_str().unwrap();
    eventually("it ignores SIGTERM by now", SOON, || {
        (cluster.stint(&["logs", pod]).stdout == "up\n").then_some(())
    });
    cluster.stint(&["delete", "job", "stubborn"]).success();
    eventually("it is killed after its grace", SOON, || cluster.pods("stubborn").is_empty().then_some(()));
}

/// Processes whose command line holds `text`.
pub fn processes_with(text: &str) -> usize {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let is_number = entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
            is_number && String::from_utf8_lossy(&command).contains(text)
        })
        .count()
}

fn environment_and_expansion(cluster: &Cluster) {
    let manifest = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: environment\nspec:\n  completions: 2\n  \
        completionMode: Indexed\n  template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - name: main\n        \
        image: none\n        workingDir: /tmp\n        env:\n        - {name: GREETING, value: hello}\n        \
        - {name: BOTH, value: $(GREETING)-$(GREETING)}\n        command: [/bin/sh, -c]\n        \
        args: ['echo $(BOTH) $$(GREETING) index=$JOB_COMPLETION_INDEX in=$PWD token=$STINT_FENCING_TOKEN']\n";
    cluster.apply(manifest);
    cluster.wait_for_condition("environment", "Complete", SOON);
    for pod in cluster.pods("environment") {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let index = pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"].as_str().unwrap();
        for label in [
            "job-name",
            "batch.kubernetes.io/job-name",
            "controller-uid",
            "batch.kubernetes.io/controller-uid",
        ] {
            assert!(pod["metadata"]["labels"][label].is_string(), "J41: {label}");
        }
        let log = cluster.stint(&["logs", name]).success();
        // `$$(GREETING)` is an escaped reference: the shell sees `$(GREETING)`, which runs a command that is not there.
        let expected = format!("hello-hello index={index} in=/tmp token=");
        assert!(log.contains(&expected), "{log}");
        let token = log.lines().find(|line| line.starts_with("hello")).unwrap().rsplit('=').next().unwrap();
        assert!(token.parse::<u64>().unwrap() > 0, "D11: {log}");
    }
}

fn a_config_map_that_comes_later(cluster: &Cluster) {
    let pod = r#"{"restartPolicy": "Never", "containers": [{"name": "main", "image": "none", "command": ["/bin/sh", "-c", "test $WORD = late"], "env": [{"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "word"}}}]}]}"#;
    let job = format!(
        r#"{{"apiVersion": "batch/v1", "kind": "Job", "metadata": {{"name": "early"}}, "spec": {{"template": {{"spec": {pod}}}}}}}"#
    );
    cluster.apply(&job);
    eventually("P2: it waits for its ConfigMap", SOON, || {
        let waiting =
            cluster.pods("early").first()?["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        (waiting["reason"] == "CreateContainerConfigError").then_some(())
    });
    cluster.apply(r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"word": "late"}}"#);
    let job = cluster.wait_for_condition("early", "Complete", Duration::from_secs(60));
    assert_eq!((&job["status"]["succeeded"], job["status"]["failed"].as_i64().unwrap_or(0)), (&1.into(), 0));
}

fn logs(cluster: &Cluster) {
    cluster.apply(&shell_job(
        "chatty",
        &[],
        "for i in 1 2 3 4 5 6 7 8; do echo line $i; echo error $i >&2; sleep 0.1; done; printf end",
    ));
    let followed = cluster.stint(&["logs", "-f", "job/chatty"]).success();
    assert_eq!(followed.lines().filter(|line| line.starts_with("line")).count(), 8, "{followed}");
    assert_eq!(followed.lines().filter(|line| line.starts_with("error")).count(), 8, "{followed}");
    assert!(followed.ends_with("end"), "output without a newline at its end stays so: {followed:?}");
    cluster.wait_for_condition("chatty", "Complete", SOON);
    let tail = cluster.stint(&["logs", "--tail", "2", "job/chatty"]).success();
    assert_eq!(tail.lines().count(), 2, "{tail}");
    assert!(tail.ends_with("end"));
    let stamped = cluster.stint(&["logs", "--timestamps", "job/chatty"]).success();
    assert!(stamped.lines().all(|line| line.starts_with("20") && line.contains('T')), "{stamped}");
}

fn run_and_wait(cluster: &Cluster) {
    let file = cluster.folder.path().join("run.yaml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, shell_job("run-well", &[], "echo done well")).unwrap();
    let ran = cluster.stint(&["run", "-f", path]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "done well\n"), "{}", ran.stderr);
    std::fs::write(&file, shell_job("run-badly", &["backoffLimit: 0"], "echo done badly; exit 3")).unwrap();
    let ran = cluster.stint(&["run", "-f", path]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "done badly\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("BackoffLimitExceeded"), "{}", ran.stderr);
    assert_eq!(cluster.stint(&["wait", "job/run-badly", "--for", "failed", "--timeout", "90s"]).code, 0);
    assert_eq!(cluster.stint(&["wait", "job/run-badly", "--for", "finished", "--timeout", "90s"]).code, 0);
    let waited = cluster.stint(&["wait", "job/run-badly", "--for", "complete", "--timeout", "1s"]);
    assert_ne!(waited.code, 0);
    cluster.stint(&["delete", "job", "run-badly"]).success();
    assert_eq!(cluster.stint(&["wait", "job/run-badly", "--for", "delete", "--timeout", "90s"]).code, 0);
}

fn placement(cluster: &Cluster) {
    let manifest = shell_job("too-big", &[], "true").replace(
        "        image: none\n",
        "        image: none\n        resources: {requests: {cpu: \"1000\"}}\n",
    );
    cluster.apply(&manifest);
    let pod = eventually("the pod says why it can't be placed", SOON, || {
        let pod = cluster.pods("too-big").into_iter().next()?;
        condition(&pod, "PodScheduled").filter(|scheduled| scheduled["status"] == "False").map(|_| pod)
    });
    let scheduled = condition(&pod, "PodScheduled").unwrap();
    assert_eq!(scheduled["reason"], "Unschedulable");
    assert!(scheduled["message"].as_str().unwrap().contains("Insufficient cpu"), "{scheduled}");
    let events = cluster.stint(&["get", "events"]).success();
    assert!(events.contains("FailedScheduling"), "{events}");
    cluster.stint(&["delete", "job", "too-big"]).success();
    // A cordoned node takes no new Pod.
    cluster.stint(&["cordon", "w1"]).success();
    cluster.apply(&shell_job("elsewhere", &["completions: 4", "parallelism: 4"], "true"));
    cluster.wait_for_condition("elsewhere", "Complete", SOON);
    assert!(cluster.pods("elsewhere").iter().all(|pod| pod["spec"]["nodeName"] == "w2"));
    cluster.stint(&["uncordon", "w1"]).success();
}

fn watching(cluster: &Cluster) {
    cluster.apply(&shell_job("watched-before", &["suspend: true"], "true"));
    let path = cluster.folder.path().join("watched");
    let mut child = std::process::Command::new(stint_tests::binary("stint"))
        .args(["get", "jobs", "-w", "-o", "name"])
        .env("STINT_SERVER", cluster.addresses())
        .stdout(std::fs::File::create(&path).unwrap())
        .spawn()
        .unwrap();
    let seen = |name: &str| {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().filter(|line| line.ends_with(&format!("/{name}"))).count()
    };
    eventually("what there is is listed", SOON, || (seen("watched-before") > 0).then_some(()));
    cluster.apply(&shell_job("watched", &[], "true"));
    eventually("it is created, then changed", SOON, || (seen("watched") >= 2).then_some(()));
    drop(child.kill());
    drop(child.wait());
    cluster.stint(&["delete", "job", "watched-before"]).success();
}
