//! The real command line against a real `stint dev`: what it prints where, and with which exit code it ends.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use harness::{Dev, Running, code, job, until};
use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_command_line_does_what_it_says() {
    let dev = Dev::start();
    nothing_there(&dev);
    a_manifest_is_sent_whole_or_not_at_all(&dev);
    running(&dev);
    getting(&dev);
    describing(&dev);
    logs(&dev);
    waiting(&dev);
    watching(&dev);
    deleting(&dev);
    streams(&dev);
    status(&dev);
    a_second_dev_is_refused(&dev);
    the_end_of_dev(dev);
}

fn nothing_there(dev: &Dev) {
    let shown = dev.stint(&["get", "jobs"]);
    assert_eq!(
        (shown.code, &*shown.stdout, &*shown.stderr),
        (0, "", "no jobs found in namespace \"default\"\n")
    );
    let shown = dev.stint(&["-n", "team", "get", "jobs,pods"]);
    assert_eq!(shown.stderr, "no jobs or pods found in namespace \"team\"\n");
    assert_eq!(dev.stint(&["get", "pods", "-A"]).stderr, "no pods found\n");
    let list = dev.json(&["get", "jobs", "-o", "json"]);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&"List".into(), &"v1".into()));
    assert_eq!(list["items"], serde_json::json!([]));
    // Before any server is asked: with one that does not exist.
    for (arguments, expected) in [
        (&["get", "jobs", "a", "-l", "x=y"][..], "names and a selector can't be given together"),
        (&["get", "jobs", "a", "-A"], "names and --all-namespaces can't be given together"),
        (&["get", "events", "-l", "x=y"], "events have no labels"),
        (&["get", "jobs,pods", "-w"], "only one kind"),
        (&["get", "job/a", "b"], "write KIND/NAME"),
        (&["get", "job", "a/b"], "\"a/b\" is no name"),
        (&["delete", "events", "x"], "events can't be deleted"),
        (&["delete", "job", "x", "--grace-period", "3"], "--grace-period is for pods"),
        (&["logs", "node/x"], "is no pod"),
        (&["logs", "pod", "--all-pods"], "give job/NAME"),
        (&["wait", "pod/x", "--for", "complete"], "write job/NAME"),
        (&["wait", "x", "--for", "complete"], "write job/x"),
        (&["logs", "job/a/b"], "more than one slash"),
        (&["cordon", "job/x"], "is not a node"),
        (&["member", "add", "nowhere"], "NAME=HOST:PORT"),
        (&["run", "-f", "/no/such/file"], "/no/such/file can't be read"),
        (&["apply", "-f", "-", "-f", "-"], "stdin can be read once"),
    ] {
        let arguments = [&["--server", "127.0.0.1:1", "--request-timeout", "30s"], arguments].concat();
        let begun = Instant::now();
        dev.stint(&arguments).failure(1, expected);
        assert!(begun.elapsed() < Duration::from_secs(10), "{arguments:?} asked a server");
    }
}

fn a_manifest_is_sent_whole_or_not_at_all(dev: &Dev) {
    let good = job("good", "suspend: true", "true");
    for wrong in [
        job("wrong", "completions: -1", "true"),
        job("wrong", "complitions: 1", "true"),
        job("wrong", "completions: 1", "true").replace("Never", "Always"),
        // M2: too long for the label that is generated from it.
        job(&"n".repeat(64), "completions: 1", "true"),
        job("good", "suspend: false", "true"),
        job("", "suspend: true", "true"),
    ] {
        for command in ["apply", "create"] {
            let refused = dev.stint_with(&[command, "-f", "-"], &(good.clone() + &wrong));
            assert_eq!((refused.code, &*refused.stdout), (1, ""), "{wrong}: {refused:?}");
            assert_eq!(dev.job_names(), "", "{command} of {wrong}");
        }
    }
    let both = good.clone() + &job("other", "suspend: true", "true");
    assert_eq!(
        dev.stint_with(&["apply", "-f", "-"], &both).success(),
        "job.batch/good created\njob.batch/other created\n"
    );
    let third = job("third", "suspend: true", "true");
    dev.stint_with(&["create", "-f", "-"], &(third.clone() + &good)).failure(1, "nothing was created");
    dev.stint_with(&["apply", "-f", "-"], &(third + &job("good", "completions: 3", "true")))
        .failure(1, "spec.completions: Invalid value: 3: field is immutable");
    assert_eq!(dev.job_names(), "good\nother\n");
    // What was read can be applied again, and changes nothing.
    let yaml = dev.stint(&["get", "job", "good", "-o", "yaml"]).success();
    assert_eq!(dev.stint_with(&["apply", "-f", "-"], &yaml).success(), "job.batch/good unchanged\n");
    let list = dev.stint(&["get", "jobs", "-o", "json"]).success();
    let applied = dev.stint_with(&["apply", "-f", "-"], &list).success();
    assert_eq!(applied, "job.batch/good unchanged\njob.batch/other unchanged\n");
    let faster =
        good.replace("suspend: true", "{suspend: true, backoffLimit: 1}").replace("  {suspend", "  suspend");
    let faster = faster.replace("suspend: true, backoffLimit: 1}", "suspend: true\n  backoffLimit: 1");
    assert_eq!(dev.stint_with(&["apply", "-f", "-"], &faster).success(), "job.batch/good configured\n");
    let file = dev.folder.path().join("other.yaml");
    std::fs::write(&file, &both).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        dev.stint(&["delete", "-f", file]).success(),
        "job.batch/good deleted\njob.batch/other deleted\n"
    );
    dev.stint(&["delete", "-f", file]).failure(1, "not found");
    assert_eq!(dev.stint(&["delete", "-f", file, "--ignore-not-found"]).success(), "");
}

fn running(dev: &Dev) {
    let run = |manifest: &str| dev.stint_with(&["run", "-f", "-"], manifest);
    let ran = run(&job("well", "completions: 1", "echo out; echo err >&2"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("out\n") && ran.stdout.contains("err\n"), "{ran:?}");
    assert!(ran.stderr.contains("job.batch/well complete: 1 succeeded, 0 failed"), "{ran:?}");
    let ran = run(&job("badly", "backoffLimit: 0", "echo bad; exit 3"));
    assert_eq!((ran.code, &*ran.stdout), (1, "bad\n"), "{ran:?}");
    assert!(
        ran.stderr.contains("job.batch/badly failed: 0 succeeded, 1 failed: BackoffLimitExceeded"),
        "{ran:?}"
    );
    let ran = run(&job("many", "completions: 3\n  parallelism: 3", "echo one; printf two"));
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_by_key(|line| line.ends_with("two"));
    assert_eq!((ran.code, lines.len()), (0, 6), "{ran:?}");
    assert!(lines.iter().all(|line| line.starts_with("[many-")), "{ran:?}");
    assert!(lines[2].ends_with("] one") && lines[3].ends_with("] two"), "{ran:?}");
    // Why there is no output.
    let absent = job("absent", "backoffLimit: 0", "true").replace("[sh, -c, ", "[/no/such/program, ");
    run(&absent).failure(1, " failed: StartError (exit code 127): exec \"/no/such/program\"");
    let huge = job("huge", "activeDeadlineSeconds: 2", "true");
    let huge = huge.replace("image: none, ", "image: none, resources: {requests: {cpu: 1000}}, ");
    run(&huge).failure(124, " can't be placed: 0/1 nodes are available: 1 Insufficient cpu");
    dev.stint(&["delete", "job/absent", "job/huge"]).success();
    // A Job that is gone as soon as it has ended.
    let ran = run(&job("short", "ttlSecondsAfterFinished: 0", "echo short"));
    assert_eq!(ran.code, 0, "{ran:?}");
    run(&(job("a", "completions: 1", "true") + &job("b", "completions: 1", "true")))
        .failure(1, "run takes one Job, the manifest holds 2");
    run(&job("well", "completions: 1", "true")).failure(1, "already exists");

    let running =
        Running::start(dev.command(&["run", "-f", "-"]), &job("gone", "completions: 1", "sleep 600"));
    until("it runs", || pod_of(dev, "gone", "Running"));
    dev.stint(&["delete", "job/gone"]).success();
    running.end().failure(1, "job \"gone\" was deleted before it ended");

    let running =
        Running::start(dev.command(&["run", "-f", "-"]), &job("left", "completions: 1", "sleep 600"));
    until("it runs", || pod_of(dev, "left", "Running"));
    // Until the command itself has been told that its Job is there.
    std::thread::sleep(Duration::from_secs(1));
    running.interrupt();
    running.end().failure(130, "job.batch/left runs on: stint logs -f job/left shows it");
    assert_eq!(dev.json(&["get", "job", "left", "-o", "json"])["status"]["active"], 1);
    dev.stint(&["delete", "job/left"]).success();
}

fn pod_of(dev: &Dev, job: &str, phase: &str) -> Option<String> {
    dev.pod_of(job, phase)
}

fn getting(dev: &Dev) {
    let table = dev.stint(&["get", "jobs"]).success();
    assert!(table.starts_with("NAME    STATUS     COMPLETIONS   DURATION   AGE\n"), "{table}");
    assert!(table.contains("\nbadly   Failed     0/1 "), "{table}");
    assert!(table.contains("\nwell    Complete   1/1 "), "{table}");
    let pods = dev.stint(&["get", "po", "-l", "job-name in (badly,well)"]).success();
    let words = |line: &str| line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" ");
    let mut states: Vec<String> = pods.lines().skip(1).map(words).collect();
    states.sort();
    assert_eq!(states, ["0/1 Completed 0", "0/1 Error 0"], "{pods}");
    let wide = dev.stint(&["get", "nodes", "-o", "wide"]).success();
    assert!(wide.starts_with("NAME   STATUS   ROLES    AGE "), "{wide}");
    assert!(wide.contains("\ndev    Ready    <none>   "), "{wide}");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(wide.contains("127.0.0.1") && wide.contains(kernel.trim()), "{wide}");
    let node = dev.json(&["get", "node", "dev", "-o", "json"]);
    assert_eq!(node["status"]["nodeInfo"]["kernelVersion"], kernel.trim());
    assert_eq!(node["status"]["addresses"][0]["address"], "127.0.0.1");

    let several = dev.stint(&["get", "jobs,nodes"]).success();
    assert!(several.starts_with("NAME              STATUS"), "{several}");
    assert!(several.contains("\njob.batch/well ") && several.contains("\n\nNAME       STATUS"), "{several}");
    assert!(several.contains("\nnode/dev "), "{several}");
    let both = dev.json(&["get", "job/well", "node/dev", "-o", "json"]);
    assert_eq!((&both["kind"], both["items"].as_array().unwrap().len()), (&"List".into(), 2));
    assert_eq!((&both["items"][0]["kind"], &both["items"][1]["kind"]), (&"Job".into(), &"Node".into()));

    let one = dev.json(&["get", "job/well", "-o", "json"]);
    assert_eq!((&one["apiVersion"], &one["kind"]), (&"batch/v1".into(), &"Job".into()));
    let uid = one["metadata"]["uid"].as_str().unwrap();
    let list = dev.json(&["get", "pods", "-l", &format!("controller-uid={uid}"), "-o", "json"]);
    let labels = &list["items"][0]["metadata"]["labels"];
    for (label, expected) in [
        ("job-name", "well"),
        ("batch.kubernetes.io/job-name", "well"),
        ("controller-uid", uid),
        ("batch.kubernetes.io/controller-uid", uid),
    ] {
        assert_eq!(labels[label], expected, "J41");
    }
    let yaml = dev.stint(&["get", "job", "well", "-o", "yaml"]).success();
    assert!(yaml.starts_with("apiVersion: batch/v1\nkind: Job\nmetadata:\n"), "{yaml}");

    // What is there is shown, what is not there is an error.
    let partly = dev.stint(&["get", "jobs", "well", "nobody", "-o", "name"]);
    assert_eq!((partly.code, &*partly.stdout), (1, "job.batch/well\n"), "{partly:?}");
    assert!(partly.stderr.contains("jobs.batch \"nobody\" not found"), "{partly:?}");
    dev.stint(&["get", "job", "nobody", "-o", "json"]).failure(1, "not found");
    dev.stint(&["get", "job", "nobody", "-w"]).failure(1, "not found");
    let events = dev.stint(&["get", "events"]).success();
    assert!(events.starts_with("LAST SEEN   TYPE"), "{events}");
    assert!(events.contains("Warning   BackoffLimitExceeded"), "{events}");
}

fn describing(dev: &Dev) {
    let node = dev.stint(&["describe", "node", "dev"]).success();
    assert!(node.starts_with("Name:") && node.contains("\nRuntimes:"), "{node}");
    assert!(node.contains("NodeReady") && node.contains("\nUnfinished Pods"), "{node}");
    assert!(node.contains("\nGuarantees:") && node.contains("Kernel Version:"), "{node}");
    let job = dev.stint(&["describe", "job/badly"]).success();
    assert!(job.contains("\nStatus:") && job.contains("Failed"), "{job}");
    assert!(job.contains("\nAttempts:") && job.contains("BackoffLimitExceeded"), "{job}");
    let name = pod_of(dev, "badly", "Failed").unwrap();
    let pod = dev.stint(&["describe", "pod", &name]).success();
    for expected in ["Exit Code:", "Controlled By:", "Scheduled", "Started container main", "dev/127.0.0.1"] {
        assert!(pod.contains(expected), "{expected}: {pod}");
    }
    let events = dev.stint(&["get", "events", "--for", &format!("pod/{name}")]).success();
    assert!(events.contains("Successfully assigned") && !events.contains("SuccessfulCreate"), "{events}");
    dev.stint(&["describe", "jobs", "no-such"]).failure(1, "not found");
    dev.stint(&["describe", "configmap/x"]).failure(1, "nodes, jobs and pods can");
    dev.stint(&["get", "jobs", "--for", "job/badly"]).failure(1, "--for is for events");
}

fn logs(dev: &Dev) {
    let shown = dev.stint(&["logs", "job/many"]);
    assert_eq!((shown.code, &*shown.stdout), (0, "one\ntwo"), "{shown:?}");
    assert!(shown.stderr.contains("--all-pods shows all"), "{shown:?}");
    let all = dev.stint(&["logs", "job/many", "--all-pods", "--tail", "1"]);
    assert_eq!((all.code, all.stdout.lines().count(), &*all.stderr), (0, 3, ""), "{all:?}");
    assert!(all.stdout.lines().all(|line| line.starts_with("[many-") && line.ends_with("] two")), "{all:?}");
    assert_eq!(dev.stint(&["logs", "-f", "job/many", "--all-pods"]).success().lines().count(), 6);
    let pod = pod_of(dev, "well", "Succeeded").unwrap();
    for target in [pod.clone(), format!("pod/{pod}")] {
        assert_eq!(dev.stint(&["logs", &target, "--tail=-1"]).success().lines().count(), 2);
    }
    dev.stint(&["logs", &pod, "-p"]).failure(1, "no earlier run");
    // A Pod that comes later than a request may take is waited for all the same.
    let late = job("late", "suspend: true", "echo at last");
    dev.stint_with(&["apply", "-f", "-"], &late).success();
    dev.stint(&["logs", "job/late"]).failure(1, "has no Pod yet");
    let follow = ["--request-timeout", "4s", "logs", "-f", "job/late"];
    let following = Running::start(dev.command(&follow), "");
    let all_following = Running::start(dev.command(&[&follow[..], &["--all-pods"]].concat()), "");
    std::thread::sleep(Duration::from_secs(6));
    dev.stint_with(&["apply", "-f", "-"], &late.replace("true", "false")).success();
    assert_eq!(following.end().success(), "at last\n");
    let all = all_following.end().success();
    assert!(all.starts_with("[late-") && all.ends_with("] at last\n"), "{all}");
}

fn waiting(dev: &Dev) {
    let wait = |arguments: &[&str]| dev.stint(&[&["wait"], arguments].concat());
    assert_eq!(wait(&["job/well", "--for", "complete"]).success(), "job.batch/well complete\n");
    assert_eq!(wait(&["job/badly", "--for=condition=Failed"]).success(), "job.batch/badly failed\n");
    assert_eq!(
        wait(&["job/badly", "--for", "finished", "--timeout", "0s"]).success(),
        "job.batch/badly finished\n"
    );
    assert_eq!(wait(&["job/nobody", "--for", "delete"]).success(), "job.batch/nobody deleted\n");
    wait(&["job/nobody", "--for", "complete"]).failure(1, "not found");
    wait(&["job/badly", "--for", "complete", "--timeout", "1h"])
        .failure(1, "is Failed and can't become complete");
    wait(&["job/well", "--for", "failed", "--timeout", "1h"])
        .failure(1, "is Complete and can't become failed");
    dev.stint_with(&["apply", "-f", "-"], &job("slow", "completions: 1", "sleep 600")).success();
    wait(&["job/slow", "--for", "complete", "--timeout", "300ms"]).failure(1, "timed out after 300ms");
    wait(&["job/slow", "--for", "complete", "--timeout", "0s"]).failure(1, "is not complete");
    let start = |state: &str| {
        Running::start(dev.command(&["wait", "job/slow", "--for", state, "--timeout", "1h"]), "")
    };
    let (complete, deleted) = (start("complete"), start("delete"));
    // Who comes when it is gone is told something else.
    std::thread::sleep(Duration::from_secs(5));
    dev.stint(&["delete", "job", "slow"]).success();
    complete.end().failure(1, "job \"slow\" was deleted and can't become complete");
    assert_eq!(deleted.end().success(), "job.batch/slow deleted\n");
}

fn watching(dev: &Dev) {
    let mut watched = dev.command(&["get", "jobs", "-w"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = watched.stdout.take().unwrap();
    let mut text = String::new();
    let mut read = |wanted: &str, text: &mut String| {
        let mut buffer = [0; 4096];
        while !text.contains(wanted) {
            let length = shown.read(&mut buffer).unwrap();
            assert!(length > 0, "{text}");
            text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    };
    read("well ", &mut text);
    dev.stint_with(&["apply", "-f", "-"], &job("seen", "completions: 1", "true")).success();
    read("\nseen    Complete ", &mut text);
    drop(watched.kill());
    drop(watched.wait());
    assert_eq!(text.matches("STATUS").count(), 1, "{text}");
    let column = text.lines().next().unwrap().find("STATUS").unwrap();
    let aligned = |line: &str| !line.starts_with("seen") || line.as_bytes()[column - 1..column + 1] != *b"  ";
    assert!(text.lines().all(aligned), "columns stay: {text}");
}

fn deleting(dev: &Dev) {
    let partly = dev.stint(&["delete", "job", "nobody", "seen"]);
    assert_eq!((partly.code, &*partly.stdout), (1, "job.batch/seen deleted\n"), "{partly:?}");
    assert!(partly.stderr.contains("\"nobody\" not found"), "{partly:?}");
    assert_eq!(dev.stint(&["delete", "job/nobody", "--ignore-not-found"]).success(), "");
    let none = dev.stint(&["delete", "jobs", "-l", "app=nobody"]);
    assert_eq!((none.code, &*none.stdout, &*none.stderr), (0, "", "no jobs match app=nobody\n"));
    assert_eq!(dev.stint(&["delete", "jobs", "-l", "app=late"]).success(), "job.batch/late deleted\n");
    dev.stint(&["delete", "node", "dev"]).failure(1, "dev");
    assert_eq!(dev.stint(&["cordon", "node/dev"]).success(), "node/dev cordoned\n");
    let nodes = dev.stint(&["get", "nodes"]).success();
    assert!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
    assert_eq!(dev.stint(&["uncordon", "dev"]).success(), "node/dev uncordoned\n");
    draining(dev);
}

/// A drain returns when the node's Pods have ended, not before.
fn draining(dev: &Dev) {
    let script = "trap \"sleep 8; exit 1\" TERM; echo begun; while true; do sleep 0.1; done";
    let slow = job("drained", "completions: 1", script)
        .replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 20");
    dev.stint_with(&["apply", "-f", "-"], &slow).success();
    until("the pod has begun", || dev.stint(&["logs", "job/drained"]).stdout.contains("begun").then_some(()));
    let begun = Instant::now();
    assert_eq!(dev.stint(&["drain", "dev", "--no-wait"]).success(), "node/dev draining\n");
    dev.stint(&["drain", "dev", "--timeout", "0s"]).failure(1, "some are left: default/drained-");
    let drained = dev.stint(&["drain", "node/dev", "--timeout", "30s"]);
    assert_eq!((drained.code, &*drained.stdout), (0, "node/dev drained\n"), "{drained:?}");
    assert!(drained.stderr.contains("waiting for pods of node \"dev\": default/drained-"), "{drained:?}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "the pod was not waited for: {drained:?}");
    // Nothing is left to wait for.
    assert_eq!(dev.stint(&["drain", "dev", "--timeout", "0s"]).success(), "node/dev drained\n");
    assert_eq!(dev.stint(&["delete", "job", "drained"]).success(), "job.batch/drained deleted\n");
    assert_eq!(dev.stint(&["uncordon", "dev"]).success(), "node/dev uncordoned\n");
}

fn streams(dev: &Dev) {
    // A reader that goes away: quiet, and not as if all had been well.
    let script = "yes $(printf %0999d 0) | head -n 3000";
    let ran = dev.stint_with(&["run", "-f", "-"], &job("loud", "completions: 1", script));
    assert_eq!((ran.code, ran.stdout.len()), (0, 3_000_000));
    for arguments in [&["logs", "job/loud"][..], &["logs", "job/loud", "--all-pods"]] {
        let mut reading = Running::start(dev.command(arguments), "");
        let mut stdout = reading.child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 10]).unwrap();
        drop(stdout);
        reading.end().failure(141, "");
    }
    let mut full = dev.command(&["get", "jobs"]);
    full.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let output = full.stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(code(output.status), 1, "{stderr}");
    assert!(stderr.starts_with("error: stdout can't be written: "), "{stderr}");
    // No server at all, and one that is none.
    dev.stint(&["--server", "127.0.0.1:1", "--request-timeout", "1s", "get", "jobs"])
        .failure(1, "no server could be reached at 127.0.0.1:1 within 1s");
    let list = format!("127.0.0.1:1,{}", dev.address);
    dev.stint(&["--server", &list, "get", "jobs"]).success();
    for (text, expected) in
        [("", "is empty"), ("two words\n", "can't be used"), ("a-good-token-that-nobody-checks", "")]
    {
        let file = dev.folder.path().join("token");
        std::fs::write(&file, text).unwrap();
        let asked = dev.stint(&["--token-file", file.to_str().unwrap(), "get", "nodes"]);
        assert_eq!(asked.code, i32::from(!expected.is_empty()), "{asked:?}");
        assert!(asked.stderr.contains(expected) && !asked.stderr.contains("two words"), "{asked:?}");
    }
}

fn status(dev: &Dev) {
    let status = dev.json(&["status", "-o", "json"]);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&status), "clusterId leader term members alarms");
    assert_eq!(status["leader"], "dev");
    let members = status["members"].as_array().unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(keys(&members[0]), "name id role address peerAddress lastLogIndex appliedIndex lag");
    assert_eq!((&members[0]["role"], &members[0]["lag"]), (&"leader".into(), &0.into()));
    assert_eq!(members[0]["address"], dev.address.as_str());
    let table = dev.stint(&["member", "list"]).success();
    assert!(
        table.contains("\nNAME   ID   ROLE     ADDRESS ") && table.contains("\ndev    1    leader   "),
        "{table}"
    );
    dev.stint(&["member", "remove", "dev"]).failure(1, "");
    dev.stint(&["member", "remove", "nobody"]).failure(1, "nobody");
}

fn a_second_dev_is_refused(dev: &Dev) {
    let data: PathBuf = dev.folder.path().join("data");
    let other = dev.folder.path().join("other-data");
    for (arguments, expected) in [
        (
            vec!["dev", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()],
            data.to_str().unwrap(),
        ),
        (vec!["dev", "--listen", &dev.address, "--data-dir", other.to_str().unwrap()], &*dev.address),
        (vec!["dev", "--listen", "0.0.0.0:0", "--data-dir", other.to_str().unwrap()], "loopback"),
        (vec!["dev", "--listen", "localhost", "--data-dir", other.to_str().unwrap()], "--listen"),
        (
            vec![
                "dev",
                "--node-lease",
                "1s",
                "--listen",
                "127.0.0.1:0",
                "--data-dir",
                other.to_str().unwrap(),
            ],
            "node lease",
        ),
    ] {
        dev.stint(&arguments).failure(1, expected);
    }
}

fn the_end_of_dev(mut dev: Dev) {
    let banner = std::fs::read_to_string(dev.folder.path().join("dev.stderr")).unwrap();
    assert!(banner.contains(&format!("export STINT_SERVER={}", dev.address)), "{banner}");
    dev.stint_with(&["apply", "-f", "-"], &job("still-there", "completions: 1", "sleep 600")).success();
    until("it runs", || pod_of(&dev, "still-there", "Running"));
    assert!(Command::new("kill").args(["-INT", &dev.child.id().to_string()]).status().unwrap().success());
    let ended = until("Ctrl-C ends stint dev", || dev.child.try_wait().unwrap());
    assert_eq!(code(ended), 0, "{}", std::fs::read_to_string(dev.folder.path().join("dev.stderr")).unwrap());
}
