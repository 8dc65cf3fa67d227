//! R13: output outlives its node: its end is kept by the servers, also when they are killed.

use crate::manifests::{shell_job, shell_job_with};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use stint_tests::{Cluster, ClusterOptions, binary, eventually};

const SOON: Duration = Duration::from_secs(60);
/// New output of containers that run is sent every 10 s.
const SENT_WITHIN: Duration = Duration::from_secs(25);

#[test]
fn r13_the_last_output_of_a_lost_node_is_read_and_marked_as_cut() {
    let mut cluster = Cluster::start(ClusterOptions::with_shortest_lease(1, 1));
    cluster.apply(&shell_job("grows", &[], "seq 1 30000; echo now; sleep 1000"));
    let grows = cluster.wait_for_pods("grows", "Running", 1, SOON).remove(0);
    let grows = grows["metadata"]["name"].as_str().unwrap().to_owned();
    let begun = Instant::now();
    cluster.apply(&shell_job("ends", &[], "echo one; echo two; seq 1 20"));
    cluster.apply(&shell_job("long", &[], "seq 1 30000"));
    cluster.apply(&shell_job("quiet", &[], "true"));
    for job in ["ends", "long", "quiet"] {
        cluster.wait_for_condition(job, "Complete", SOON);
    }
    let whole = |job: &str| cluster.stint(&["logs", &format!("job/{job}")]).success();
    let (ends, long) = (whole("ends"), whole("long"));
    assert!(long.lines().count() == 30_000 && ends.starts_with("one\ntwo\n1\n"));
    // All of them have been sent: the node says so in its folder.
    let logs = cluster.data_folder("w1").join("logs");
    eventually("the tails of what has ended are sent", SOON, || {
        let pods = std::fs::read_dir(&logs).ok()?.flatten();
        let sent = pods.filter(|pod| pod.path().join("main.0.tail-shipped").exists()).count();
        (sent >= 2).then_some(())
    });
    std::thread::sleep(SENT_WITHIN.saturating_sub(begun.elapsed()));
    let mut following = Following::begin(&cluster, &grows);
    eventually("what there is is followed", SOON, || following.text().ends_with("now\n").then_some(()));

    cluster.kill_agent("w1");
    std::fs::remove_dir_all(cluster.data_folder("w1")).unwrap();
    cluster.wait_for_pods("grows", "Failed", 1, SOON);
    // Who followed has missed nothing that came before, and is told.
    let (text, told) = following.end();
    assert_eq!(text.lines().count(), 30_001, "nothing twice, nothing missed");
    assert!(told.contains("stint: output after ") && told.contains(" was lost with node w1"), "{told}");

    for round in ["at once", "after all servers were killed"] {
        let of = |arguments: &[&str]| {
            let outcome = cluster.stint(&[&["logs"], arguments].concat());
            assert_eq!(outcome.code, 0, "{round}: {outcome:?}");
            (outcome.stdout, outcome.stderr)
        };
        assert_eq!(of(&["job/ends"]), (ends.clone(), String::new()), "{round}");
        let (text, told) = of(&["job/long"]);
        assert!(text.len() > 4_000 && text.len() < 64 << 10 && long.ends_with(&text), "{round}: {text}");
        assert!(told.starts_with("stint: output before ") && !told.contains("output after"), "{told}");
        assert!(told.contains(" was lost with node w1"), "{told}");
        let (text, told) = of(&[&grows, "--tail", "2", "--timestamps"]);
        assert!(text.ends_with("Z now\n") && text.lines().count() == 2, "{round}: {text}");
        assert!(!told.contains("output before") && told.contains("stint: output after "), "{told}");
        assert_eq!(of(&["job/long", "--tail", "1"]), ("30000\n".to_owned(), String::new()));
        assert_eq!(of(&["job/ends", "--since", "1s"]), (String::new(), String::new()));
        let (text, told) = of(&["job/ends", "--all-pods"]);
        assert_eq!(text.lines().filter(|line| line.ends_with("] two")).count(), 1, "{text}");
        assert_eq!(told, "");
        let nothing = cluster.stint(&["logs", "job/quiet"]);
        assert!(nothing.stderr.contains("is kept elsewhere"), "{nothing:?}");
        if round == "at once" {
            cluster.kill_server("s1");
            cluster.start_server("s1");
            cluster.wait_for_leader(SOON);
        }
    }
    // With its Pod it goes.
    cluster.stint(&["delete", "job", "ends"]).success();
    assert_ne!(cluster.stint(&["logs", "job/ends"]).code, 0);
}

#[test]
fn r13_whole_logs_are_read_from_the_archive_once_their_node_is_gone() {
    let archive = tempfile::tempdir().unwrap();
    let mut options = ClusterOptions::with_shortest_lease(1, 1);
    options.server_arguments =
        vec!["--log-archive".to_owned(), format!("file://{}", archive.path().display())];
    let mut cluster = Cluster::start(options);
    let restarts =
        "n=$(cat count 2>/dev/null || echo 0); echo $((n + 1)) >count; seq 1 100000; echo run $n; [ $n = 1 ]";
    let annotated = shell_job_with("twice", &["backoffLimit: 3"], "OnFailure", restarts)
        .replace("  name: twice\n", "  name: twice\n  annotations:\n    stint.dev/backoff-base: 100ms\n");
    cluster.apply(&annotated);
    cluster.apply(&shell_job("grows", &[], "echo begins; sleep 1000"));
    cluster.wait_for_condition("twice", "Complete", SOON);
    let (last, previous) = (["job/twice"], ["job/twice", "--previous"]);
    let read = |cluster: &Cluster, arguments: &[&str]| cluster.stint(&[&["logs"], arguments].concat());
    let whole = [read(&cluster, &last).success(), read(&cluster, &previous).success()];
    assert!(whole[0].ends_with("run 1\n") && whole[0].lines().count() == 100_001, "{}", whole[0].len());
    assert!(whole[1].ends_with("run 0\n") && whole[1].lines().count() == 100_001, "{}", whole[1].len());
    let ends = || {
        let pods = std::fs::read_dir(archive.path()).unwrap().flatten();
        let objects = pods.flat_map(|pod| std::fs::read_dir(pod.path()).unwrap().flatten());
        objects.filter(|object| object.file_name().to_string_lossy().ends_with(".end.log.zst")).count()
    };
    eventually("both runs are archived", SOON, || (ends() == 2).then_some(()));

    cluster.kill_agent("w1");
    std::fs::remove_dir_all(cluster.data_folder("w1")).unwrap();
    cluster.wait_for_pods("grows", "Failed", 1, SOON);
    for (arguments, whole) in [(&last[..], &whole[0]), (&previous[..], &whole[1])] {
        let outcome = read(&cluster, arguments);
        assert!(outcome.stdout == *whole && outcome.stderr.is_empty(), "{}", outcome.stderr);
    }
    assert_eq!(read(&cluster, &["job/twice", "--tail", "2"]).success(), "100000\nrun 1\n");
    // An archive that is away: the tail, marked as cut.
    std::fs::rename(archive.path(), archive.path().with_extension("away")).unwrap();
    let outcome = read(&cluster, &last);
    assert!(outcome.stderr.starts_with("stint: output before "), "{}", outcome.stderr);
    assert!(outcome.stdout.len() < 64 << 10 && whole[0].ends_with(&outcome.stdout));
    std::fs::rename(archive.path().with_extension("away"), archive.path()).unwrap();
}

/// `stint logs -f` at work.
struct Following {
    child: Child,
    folder: tempfile::TempDir,
}

impl Following {
    fn begin(cluster: &Cluster, pod: &str) -> Following {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
        let child = Command::new(binary("stint"))
            .args(["logs", "-f", pod])
            .env("STINT_SERVER", cluster.addresses())
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        Following { child, folder }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("out")).unwrap()
    }

    fn end(&mut self) -> (String, String) {
        let status = eventually("following ends", SOON, || self.child.try_wait().unwrap());
        let told = std::fs::read_to_string(self.folder.path().join("err")).unwrap();
        assert!(status.success(), "{told}");
        (self.text(), told)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
