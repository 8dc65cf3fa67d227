//! Into Pods that run: commands, copies, connections, what they use (A3).

use crate::job_behaviour::processes_with;
use crate::manifests::shell_job;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stint_client::{Client, ClientOptions, ExecCall, ExecCommand, ExecOutput, PodTarget, TerminalSize};
use stint_tests::cluster::{Cluster, ClusterOptions};
use stint_tests::{binary, eventually};

const SOON: Duration = Duration::from_secs(20);

/// A cluster with a Pod of job `a` that runs, and the Pod's name.
fn with_pod(servers: usize, script: &str) -> (Cluster, String) {
    let cluster = Cluster::start(ClusterOptions::new(servers, 1));
    cluster.apply(&shell_job("a", &[], script));
    let pods = cluster.wait_for_pods("a", "Running", 1, SOON);
    let name = pods[0]["metadata"]["name"].as_str().unwrap().to_owned();
    (cluster, name)
}

#[test]
fn a_command_in_a_container_is_as_one_at_home() {
    let (cluster, pod) = with_pod(3, "export SEEN=here; echo begun; exec sleep 600");
    let exec =
        |arguments: &[&str], input: &str| cluster.stint_with_input(&[&["exec"], arguments].concat(), input);
    // Exit codes and both outputs.
    let both = exec(&[&pod, "--", "sh", "-c", "echo out; echo err >&2; exit 7"], "");
    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(exec(&["job/a", "--", "sh", "-c", "kill -9 $$"], "").code, 137);
    // Without -i there is no input.
    assert_eq!(exec(&[&pod, "--", "cat"], "unseen").success(), "");
    // Ten megabytes there and back.
    let large: String = (0..1_400_000).map(|number| format!("{number:06}\n")).collect();
    let back = exec(&["-i", &pod, "-c", "main", "--", "cat"], &large).success();
    assert!(back == large, "{} bytes came back of {}", back.len(), large.len());
    // A command that does not read what it gets ends all the same.
    assert_eq!(exec(&["-i", &pod, "--", "sh", "-c", "exit 3"], &large).code, 3);
    // What it left behind does not hold it up.
    let begun = Instant::now();
    assert_eq!(exec(&[&pod, "--", "sh", "-c", "sleep 31 & echo left"], "").success(), "left\n");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());

    for (arguments, expected) in [
        (&["none", "--", "true"][..], "not found"),
        (&["job/none", "--", "true"], "not found"),
        (&[pod.as_str(), "--", "no-such-program"], "no-such-program"),
        (&[pod.as_str(), "-c", "other", "--", "true"], "other"),
        (&["node/n1", "--", "true"], "is no pod"),
    ] {
        let failed = exec(arguments, "");
        assert!(failed.code == 1 && failed.stderr.contains(expected), "{arguments:?}: {failed:?}");
    }
    // attach ends as the container does; then nothing can be executed in it any more.
    let attached = Command::new(binary("stint"))
        .args(["--server", &cluster.addresses(), "attach", &pod])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.apply(&shell_job("b", &[], "sleep 2; echo late; exit 5"));
    let of_b = cluster.wait_for_pods("b", "Running", 1, SOON)[0]["metadata"]["name"].clone();
    let ended = cluster.stint(&["attach", of_b.as_str().unwrap()]);
    assert_eq!((ended.code, ended.stdout.as_str()), (5, "late\n"), "{}", ended.stderr);
    let after = exec(&[of_b.as_str().unwrap(), "--", "true"], "");
    assert!(after.code == 1 && after.stderr.contains("has ended"), "{after:?}");
    cluster.stint(&["delete", "job", "a"]).success();
    let output = attached.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "what was written before is not shown");
}

fn client(cluster: &Cluster) -> Client {
    Client::new(ClientOptions::new(&cluster.addresses())).unwrap()
}

fn command(script: &str, terminal: Option<TerminalSize>) -> ExecCommand {
    ExecCommand {
        namespace: String::new(),
        target: PodTarget::Job("a".to_owned()),
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
    tokio::time::timeout(SOON, reading).await.expect("in time");
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
    tokio::time::timeout(Duration::from_secs(40), reading).await.expect("in time")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn a_command_with_a_terminal_knows_its_size_and_gets_ctrl_c() {
    let (cluster, _pod) = with_pod(1, "exec sleep 600");
    block_on(async {
        let client = client(&cluster);
        let size = Some(TerminalSize { columns: 100, rows: 30 });
        let script = "stty size; trap 'stty size; echo resized' WINCH; trap 'echo caught; exit 9' INT; \
                      echo ready; while :; do sleep 0.1; done";
        let mut call = client.exec(&command(script, size)).await.unwrap();
        assert!(text_until(&mut call, "ready").await.contains("30 100"));
        call.input().resize(TerminalSize { columns: 50, rows: 20 }).await;
        assert!(text_until(&mut call, "resized").await.contains("20 50"));
        assert!(call.input().send("\u{3}".into()).await);
        text_until(&mut call, "caught").await;
        assert_eq!(end_of(&mut call).await.unwrap(), 9);
    });
}

#[test]
fn a3_who_reads_nothing_holds_up_nobody_and_who_leaves_leaves_nothing() {
    let (cluster, _pod) = with_pod(1, "exec sleep 600");
    let marker = "73846251";
    block_on(async {
        let client = client(&cluster);
        let unread = client.exec(&command(&format!("yes {marker}"), None)).await.unwrap();
        eventually("it runs", SOON, || (processes_with(marker) > 0).then_some(()));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(8) {
            let mut other = client.exec(&command("echo quick", None)).await.unwrap();
            text_until(&mut other, "quick").await;
            assert_eq!(end_of(&mut other).await.unwrap(), 0);
            assert_eq!(cluster.ready_nodes().len(), 1, "the lease is renewed meanwhile");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        drop(unread);
        eventually("it is killed with its caller", SOON, || (processes_with(marker) == 0).then_some(()));
    });
}

#[test]
fn a3_commands_end_with_the_leader_and_with_the_agent_and_say_so() {
    let (mut cluster, _pod) = with_pod(3, "exec sleep 600");
    let marker = "84625173";
    block_on(async {
        let client = client(&cluster);
        let mut call = client.exec(&command(&format!("sleep {marker}"), None)).await.unwrap();
        eventually("it runs", SOON, || (processes_with(marker) > 0).then_some(()));
        let leader = cluster.leader().expect("a leader");
        cluster.kill_server(&leader);
        let end = end_of(&mut call).await;
        assert!(end.is_err(), "its exit code is not known: {end:?}");
        eventually("it is killed", SOON, || (processes_with(marker) == 0).then_some(()));
        // Another one is executed through the next leader.
        let mut again = loop {
            match client.exec(&command("sleep 84625174", None)).await {
                Ok(call) => break call,
                Err(error) => println!("not yet: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let agent = cluster.agent_names().remove(0);
        cluster.kill_agent(&agent);
        let end = end_of(&mut again).await;
        assert!(end.is_err(), "its exit code is not known: {end:?}");
    });
}

/// A tree with what is hard to copy, and its checksum.
fn tree(folder: &Path) {
    let script = "mkdir -p 'a b/deep/er' empty && head -c 3000000 /dev/urandom >'a b/deep/er/large' && echo hi >'a b/-file' \
                  && printf '\\000\\001' >ü && : >nothing && chmod 755 nothing && ln -s '../a b' empty/link";
    assert!(Command::new("sh").args(["-c", script]).current_dir(folder).status().unwrap().success());
}

fn checksum(folder: &Path) -> String {
    let script = "find . -type f -exec sha256sum {} + | sort; find . -printf '%p %y %l\\n' | sort; \
                  find . -type f -printf '%p %m\\n' | sort";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn trees_files_and_streams_are_copied_both_ways() {
    let (cluster, pod) = with_pod(1, "exec sleep 600");
    let here = cluster.folder.path().join("here");
    std::fs::create_dir_all(here.join("tree")).unwrap();
    tree(&here.join("tree"));
    let path = |name: &str| here.join(name).display().to_string();
    let copy = |from: &str, to: &str| cluster.stint(&["cp", from, to]);
    copy(&path("tree"), &format!("{pod}:there")).success();
    copy(&format!("job/a:{}", "there"), &path("back")).success();
    assert_eq!(checksum(&here.join("back")), checksum(&here.join("tree")));
    // Into folders that are there.
    copy(&path("tree/a b/-file"), &format!("{pod}:there/")).success();
    std::fs::create_dir(here.join("into")).unwrap();
    copy(&format!("{pod}:there/-file"), &path("into")).success();
    assert_eq!(std::fs::read_to_string(here.join("into/-file")).unwrap(), "hi\n");
    // Streams.
    cluster.stint_with_input(&["cp", "-", &format!("{pod}:stream")], "streamed").success();
    assert_eq!(copy(&format!("{pod}:stream"), "-").success(), "streamed");
    for (from, to, expected) in [
        (path("none"), format!("{pod}:x"), "none"),
        (format!("{pod}:none"), path("x"), "none"),
        (format!("{pod}:a"), format!("{pod}:b"), "both places"),
        ("a".to_owned(), "b".to_owned(), "neither place"),
        (path("tree/nothing"), format!("{pod}:no/such/folder/x"), "tar"),
    ] {
        let failed = copy(&from, &to);
        assert!(failed.code == 1 && failed.stderr.contains(expected), "{from} {to}: {failed:?}");
    }
    assert!(!here.join("x").exists());
}

#[test]
fn a_server_in_a_pod_is_reached_through_a_local_port() {
    let server = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, \
                  Listen => 5) or die; $| = 1; print $s->sockport, \"\\n\"; while (my $c = $s->accept) { my $l = <$c>; \
                  print $c \"HTTP/1.0 200 OK\\r\\n\\r\\nyou asked: $l\"; close $c }";
    let (cluster, pod) = with_pod(1, &format!("exec perl -e '{}'", server.replace('\'', "'\\''")));
    let port = eventually("it listens", SOON, || {
        let log = cluster.stint(&["logs", &pod]).stdout;
        log.lines().next().map(str::to_owned)
    });
    let mut forwarding = Command::new(binary("stint"))
        .args(["--server", &cluster.addresses(), "port-forward", "job/a", &format!(":{port}"), ":1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(forwarding.stdout.take().unwrap()));
    let mut address = || {
        let line = lines.next().unwrap().unwrap();
        line.split(' ').nth(2).unwrap().to_owned()
    };
    let (listened, silent) = (address(), address());
    for number in 0..20 {
        let mut connection = TcpStream::connect(&listened).unwrap();
        write!(connection, "GET /{number} HTTP/1.0\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with(&format!("you asked: GET /{number} HTTP/1.0\r\n")), "{answer:?}");
    }
    // Nobody listens there: the connection ends, the others go on.
    let mut nothing = Vec::new();
    let _ = TcpStream::connect(&silent).unwrap().read_to_end(&mut nothing);
    assert!(nothing.is_empty() && forwarding.try_wait().unwrap().is_none());
    forwarding.kill().unwrap();
    forwarding.wait().unwrap();
    let taken = cluster.stint(&["port-forward", &pod, "x:y"]);
    assert!(taken.code == 1 && taken.stderr.contains("LOCAL:REMOTE"), "{taken:?}");

    // What the node uses, whoever uses it.
    let top = cluster.stint(&["top", "nodes"]).success();
    let cells: Vec<&str> = top.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(cells.len() == 5 && cells[1].ends_with('m') && cells[3].ends_with("Mi"), "{top}");
    let unknown = cluster.stint(&["top", "nodes", "none"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("not found"), "{unknown:?}");
}
