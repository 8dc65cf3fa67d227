//! Commands in containers: exit codes, streams, terminals, and what becomes of them when somebody goes.

use super::{LONGER_THAN_A_LEASE, Nodes, SOON, block_on, job};
use crate::job_behaviour::processes_with;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stint_client::{AttachStreams, ExecCall, ExecCommand, ExecOutput, PodTarget, TerminalSize};
use stint_tests::{binary, eventually};

#[test]
fn a_command_in_a_container_is_as_one_at_home() {
    let nodes = Nodes::start(3);
    nodes.each(|runtime| {
        let cluster = &nodes.cluster;
        let pod = nodes.pod(runtime, "echo begun; exec sleep 600");
        let exec = |arguments: &[&str], input: &str| {
            cluster.stint_with_input(&[&["exec"], arguments].concat(), input)
        };
        // Exit codes and both outputs, where the container is.
        let both = exec(&[&pod, "--", "sh", "-c", "echo \"image $OF_IMAGE\"; echo err >&2; exit 7"], "");
        let place = if runtime == "process" { "image \n" } else { "image 1\n" };
        assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (7, place, "err\n"), "{runtime}");
        assert_eq!(exec(&[&format!("job/{runtime}"), "--", "sh", "-c", "kill -9 $$"], "").code, 137);
        // Without -i there is no input.
        assert_eq!(exec(&[&pod, "--", "cat"], "unseen").success(), "");
        // Ten megabytes there and back.
        let large: String = (0..1_400_000).map(|number| format!("{number:06}\n")).collect();
        let back = exec(&["-i", &pod, "-c", "main", "--", "cat"], &large).success();
        assert!(back == large, "{runtime}: {} bytes came back of {}", back.len(), large.len());
        // A command that does not read what it gets ends all the same.
        assert_eq!(exec(&["-i", &pod, "--", "sh", "-c", "exit 3"], &large).code, 3, "{runtime}");
        // What it left behind does not hold it up.
        let begun = Instant::now();
        assert_eq!(exec(&[&pod, "--", "sh", "-c", "sleep 31 & echo left"], "").success(), "left\n");
        // For an engine a command ends when its output does, whoever holds that.
        assert!(runtime == "cri" || begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());

        for (arguments, code, expected) in [
            (&["none", "--", "true"][..], 1, "not found"),
            (&["job/none", "--", "true"], 1, "not found"),
            // As a shell would.
            (&[pod.as_str(), "--", "no-such-program"], 127, "no-such-program"),
            (&[pod.as_str(), "-c", "other", "--", "true"], 1, "other"),
            (&["node/n1", "--", "true"], 1, "is no pod"),
        ] {
            let failed = exec(arguments, "");
            assert!(
                failed.code == code && failed.stderr.contains(expected),
                "{runtime} {arguments:?}: {failed:?}"
            );
        }
        // What the Pod uses.
        let top = eventually("its use is told", SOON, || {
            let top = cluster.stint(&["top", "pods", &pod]);
            (top.code == 0 && top.stdout.contains("Mi")).then_some(top.stdout)
        });
        assert!(top.lines().nth(1).is_some_and(|line| line.starts_with(&pod)), "{runtime}: {top}");
        // attach ends as the container does; then nothing can be executed in it any more.
        let attached = Command::new(binary("stint"))
            .args(["--server", &cluster.addresses(), "attach", &pod])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let other = format!("{runtime}-ends");
        let waits = "while [ ! -e go ]; do echo tick; sleep 0.1; done; echo late; exit 5";
        cluster.apply(&job(&other, runtime, "Never", waits));
        let of_other = cluster.wait_for_pods(&other, "Running", 1, SOON)[0]["metadata"]["name"].clone();
        let of_other = of_other.as_str().unwrap();
        let mut ended = Command::new(binary("stint"))
            .args(["--server", &cluster.addresses(), "attach", of_other])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Nobody says when somebody has begun to follow, but what is written from then on.
        let mut written = BufReader::new(ended.stdout.take().unwrap()).lines().map(Result::unwrap);
        let first = written.next();
        exec(&[of_other, "--", "touch", "go"], "").success();
        let rest: Vec<String> = written.skip_while(|line| line == "tick").collect();
        let ended = ended.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(
            (first.as_deref(), rest.as_slice(), ended.status.code()),
            (Some("tick"), &["late".to_owned()][..], Some(5)),
            "{runtime}: {words}"
        );
        let after = exec(&[of_other, "--", "true"], "");
        assert!(after.code == 1 && after.stderr.contains("has ended"), "{runtime}: {after:?}");
        cluster.stint(&["delete", "job", runtime]).success();
        let output = attached.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "what was written before is not shown");
    });
    nodes.end();
}

fn command(runtime: &str, script: &str, terminal: Option<TerminalSize>) -> ExecCommand {
    ExecCommand {
        namespace: String::new(),
        target: PodTarget::Job(runtime.to_owned()),
        container: String::new(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        stdin: true,
        terminal,
    }
}

async fn text_until(call: &mut ExecCall, wanted: &str) -> String {
    let mut text = String::new();
    let reading = async {
        while !text.contains(wanted) {
            match call.next().await.unwrap() {
                ExecOutput::Stdout(data) => text.push_str(&String::from_utf8_lossy(&data)),
                other => panic!("{other:?} after {text:?}"),
            }
        }
    };
    let in_time = tokio::time::timeout(SOON, reading).await.is_ok();
    assert!(in_time, "no {wanted:?} in {text:?}");
    text
}

/// How a call ends that nobody ends.
async fn end_of(call: &mut ExecCall) -> Result<i32, stint_client::Error> {
    let reading = async {
        loop {
            match call.next().await {
                Ok(ExecOutput::Exit(code)) => return Ok(code),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("in time")
}

#[test]
fn a_command_with_a_terminal_knows_its_size_and_gets_ctrl_c() {
    let nodes = Nodes::with_pods(1);
    nodes.each(|runtime| {
        block_on(async {
            let size = Some(TerminalSize { columns: 100, rows: 30 });
            // An engine tells the size to a program that runs already.
            let script = "trap 'echo resized' WINCH; trap 'echo caught; exit 9' INT; test -t 0 && echo terminal; \
                          while :; do now=$(stty size); test \"$now\" = \"$last\" || echo \"size $now.\"; last=$now; \
                          sleep 0.1; done";
            let mut call = nodes.client().exec(&command(runtime, script, size)).await.unwrap();
            assert!(text_until(&mut call, "size 30 100.").await.contains("terminal"), "{runtime}");
            call.input().resize(TerminalSize { columns: 50, rows: 20 }).await;
            if !text_until(&mut call, "size 20 50.").await.contains("resized") {
                text_until(&mut call, "resized").await;
            }
            assert!(call.input().send("\u{3}".into()).await);
            text_until(&mut call, "caught").await;
            assert_eq!(end_of(&mut call).await.unwrap(), 9, "{runtime}");
        });
    });
    nodes.end();
}

/// A Job of one Pod whose container has input, and what else is said of its streams.
fn job_with_streams(name: &str, runtime: &str, streams: &str, script: &str) -> String {
    job(name, runtime, "Never", script).replace("        image:", &format!("{streams}        image:"))
}

#[test]
fn what_is_attached_reaches_the_containers_own_program() {
    let nodes = Nodes::start(3);
    nodes.each(|runtime| {
        let cluster = &nodes.cluster;
        let apply = |name: &str, streams: &str, script: &str| {
            let name = format!("{runtime}-{name}");
            cluster.apply(&job_with_streams(&name, runtime, streams, script));
            let pods = cluster.wait_for_pods(&name, "Running", 1, SOON);
            (name, pods[0]["metadata"]["name"].as_str().unwrap().to_owned())
        };
        let attach = |arguments: &[&str], input: &str| {
            cluster.stint_with_input(&[&["attach"], arguments].concat(), input)
        };
        // Input for one client: all of it comes back, and the exit code is the container's.
        let once = "        stdin: true\n        stdinOnce: true\n";
        let (_, pod) = apply("once", once, "cat; echo over >&2; exit 6");
        let large: String = (0..140_000).map(|number| format!("{number:06}\n")).collect();
        let back = attach(&["-i", &pod], &large);
        let returned = format!("{runtime}: {} bytes of {}", back.stdout.len(), large.len());
        if runtime == "cri" {
            // Engines may close their connection before what a container wrote last has been read from it; its log has all.
            assert!(!back.stdout.is_empty() && large.starts_with(&back.stdout), "{returned}");
            assert_eq!(back.code, 6, "{runtime}");
        } else {
            assert!(back.stdout == large, "{returned}");
            assert_eq!((back.code, back.stderr.as_str()), (6, "over\n"), "{runtime}");
        }

        // Input that stays, for several clients.
        let lines = "while read -r line; do echo got $line; if [ $line = end ]; then exit 7; fi; done; exit 8";
        let (name, _) = apply("lines", "        stdin: true\n", lines);
        let shown = cluster.json(&["get", "jobs", &name, "-o", "json"]);
        let container = &shown["spec"]["template"]["spec"]["containers"][0];
        assert_eq!((&container["stdin"], &container["tty"]), (&true.into(), &serde_json::Value::Null));
        block_on(async {
            let streams = AttachStreams {
                namespace: String::new(),
                target: PodTarget::Job(name.clone()),
                container: String::new(),
                stdin: true,
                terminal: None,
            };
            let client = nodes.client();
            let mut first = client.attach(&streams).await.unwrap();
            let mut other = client.attach(&streams).await.unwrap();
            assert!(first.input().send("one\n".into()).await);
            text_until(&mut first, "got one\n").await;
            text_until(&mut other, "got one\n").await;
            first.input().end().await;
            drop(first);
            assert!(other.input().send("two\n".into()).await);
            text_until(&mut other, "got two\n").await;
            // Without a client the program waits, and does not end.
            drop(other);
            let mut last = client.attach(&streams).await.unwrap();
            assert!(last.input().send("end\n".into()).await);
            assert_eq!(end_of(&mut last).await.unwrap(), 7, "{runtime}");
        });

        // A terminal.
        let screen = "trap 'echo caught; exit 9' INT; test -t 0 && test -t 1 && echo terminal; \
                      while :; do now=$(stty size); test \"$now\" = \"$last\" || echo \"size $now.\"; last=$now; \
                      sleep 0.1; done";
        let (name, _) = apply("screen", "        stdin: true\n        tty: true\n", screen);
        block_on(async {
            let streams = AttachStreams {
                namespace: String::new(),
                target: PodTarget::Job(name.clone()),
                container: "main".to_owned(),
                stdin: true,
                terminal: Some(TerminalSize { columns: 100, rows: 30 }),
            };
            let mut call = nodes.client().attach(&streams).await.unwrap();
            text_until(&mut call, "size 30 100.\r\n").await;
            call.input().resize(TerminalSize { columns: 50, rows: 20 }).await;
            // As with commands.
            if runtime != "cri" {
                text_until(&mut call, "size 20 50.\r\n").await;
            }
            assert!(call.input().send("\u{3}".into()).await);
            text_until(&mut call, "caught\r\n").await;
            assert_eq!(end_of(&mut call).await.unwrap(), 9, "{runtime}");
        });
        let log = cluster.stint(&["logs", &format!("job/{name}")]).success();
        // An engine leaves carriage returns out.
        assert!(log.replace('\r', "").contains("terminal\n"), "{runtime}: {log:?}");

        // What a container has not is refused with what would mend it.
        let (_, pod) = apply("plain", "", "exec sleep 600");
        let refused = attach(&["-i", &pod], "unseen");
        let expected = format!("container \"main\" of pod \"{pod}\" has no stdin: set stdin: true in its template");
        assert!(refused.code == 1 && refused.stderr.contains(&expected), "{runtime}: {refused:?}");
        let refused = attach(&["-i", &pod, "-c", "none"], "");
        assert!(refused.code == 1 && refused.stderr.contains("none"), "{runtime}: {refused:?}");
    });
    nodes.end();
}

/// An argument that no other process has.
fn marker(runtime: &str, number: u32) -> String {
    let place = ["process", "oci", "cri"].iter().position(|known| *known == runtime).expect("a runtime");
    format!("7384625{number}{place}")
}

#[test]
fn a3_who_reads_nothing_holds_up_nobody_and_who_leaves_leaves_nothing() {
    let nodes = Nodes::with_pods(1);
    let count = nodes.runtimes.len();
    nodes.each(|runtime| {
        let marker = marker(runtime, 1);
        block_on(async {
            let client = nodes.client();
            let unread = client.exec(&command(runtime, &format!("yes {marker}"), None)).await.unwrap();
            eventually("it runs", SOON, || (processes_with(&marker) > 0).then_some(()));
            let begun = Instant::now();
            while begun.elapsed() < LONGER_THAN_A_LEASE {
                let mut other = client.exec(&command(runtime, "echo quick", None)).await.unwrap();
                text_until(&mut other, "quick").await;
                assert_eq!(end_of(&mut other).await.unwrap(), 0, "{runtime}");
                assert_eq!(nodes.cluster.ready_nodes().len(), count, "leases are renewed meanwhile");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            drop(unread);
            eventually("it is killed with its caller", SOON, || (processes_with(&marker) == 0).then_some(()));
        });
    });
    nodes.end();
}

#[test]
fn a3_commands_end_with_the_leader_and_with_the_agent_and_say_so() {
    let mut nodes = Nodes::with_pods(3);
    let runtimes = nodes.runtimes.clone();
    block_on(async {
        let client = nodes.client();
        let mut calls = Vec::new();
        for runtime in &runtimes {
            let marker = marker(runtime, 2);
            calls.push(client.exec(&command(runtime, &format!("sleep {marker}"), None)).await.unwrap());
            eventually("it runs", SOON, || (processes_with(&marker) > 0).then_some(()));
        }
        let leader = nodes.cluster.leader().expect("a leader");
        nodes.cluster.kill_server(&leader);
        for (runtime, call) in runtimes.iter().zip(&mut calls) {
            let end = end_of(call).await;
            assert!(end.is_err(), "{runtime}: its exit code is not known: {end:?}");
            let marker = marker(runtime, 2);
            eventually("it is killed", SOON, || (processes_with(&marker) == 0).then_some(()));
        }
        // Others are executed through the next leader.
        let mut again = Vec::new();
        for runtime in &runtimes {
            let script = format!("sleep {}", marker(runtime, 3));
            let begun = Instant::now();
            again.push(loop {
                match client.exec(&command(runtime, &script, None)).await {
                    Ok(call) => break call,
                    Err(error) => assert!(begun.elapsed() < SOON, "{runtime}: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            });
        }
        for (runtime, call) in runtimes.iter().zip(&mut again) {
            nodes.cluster.kill_agent(runtime);
            let end = end_of(call).await;
            assert!(end.is_err(), "{runtime}: its exit code is not known: {end:?}");
        }
    });
    // With the next agents all ends, these commands too.
    runtimes.iter().for_each(|runtime| nodes.start_agent(runtime));
    // One that is told to end before it has taken over what is there leaves it; and its node may be ready since before.
    block_on(async {
        let client = nodes.client();
        for runtime in &runtimes {
            let begun = Instant::now();
            loop {
                if let Ok(mut call) = client.exec(&command(runtime, "true", None)).await
                    && end_of(&mut call).await.is_ok()
                {
                    break;
                }
                assert!(begun.elapsed() < SOON, "{runtime}: its next agent executes no command");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    nodes.end();
    for runtime in runtimes {
        assert_eq!(processes_with(&marker(runtime, 3)), 0, "{runtime}");
    }
}
