//! `stint dev`: one process, an embedded server and agent.

use crate::manifests::shell_job;
use std::process::Command;
use std::time::Duration;
use stint_tests::cluster::run_stint;
use stint_tests::{BUSYBOX_IMAGE, Process, ServedImages, abilities, binary, eventually};

#[test]
fn one_command_runs_jobs_and_ends_cleanly() {
    let folder = tempfile::TempDir::with_prefix("stint-dev-test.").unwrap();
    let address_file = folder.path().join("address");
    let start = || {
        let mut command = Command::new(binary("stint"));
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--node-lease", "5s", "--data-dir"])
            .arg(folder.path().join("data"));
        command.arg("--address-file").arg(&address_file);
        Process::start(command, &folder.path().join("output"))
    };
    let mut dev = start();
    let address = eventually("stint dev is ready", Duration::from_secs(90), || {
        std::fs::read_to_string(&address_file).ok()
    });
    let address = address.trim().to_owned();
    let ran = |arguments: &[&str], input: &str| run_stint(&address, arguments, input);
    let done = ran(&["run", "-f", "-"], &shell_job("hello", &[], "echo hello from a pod"));
    assert_eq!((done.code, done.stdout.as_str()), (0, "hello from a pod\n"), "{}", done.stderr);
    let marker = "62846284";
    assert_eq!(ran(&["apply", "-f", "-"], &shell_job("long", &[], &format!("sleep {marker}"))).code, 0);
    eventually("its pod runs", Duration::from_secs(90), || {
        (crate::job_behaviour::processes_with(marker) > 0).then_some(())
    });
    let ended = dev.terminate(Duration::from_secs(20)).expect("SIGTERM ends stint dev");
    assert!(ended.success(), "{ended}: {}", dev.output());
    eventually("its pods end with it", Duration::from_secs(5), || {
        (crate::job_behaviour::processes_with(marker) == 0).then_some(())
    });

    // The same data folder again: everything acknowledged is there.
    std::fs::remove_file(&address_file).unwrap();
    let _dev = start();
    let address = eventually("stint dev is ready again", Duration::from_secs(90), || {
        std::fs::read_to_string(&address_file).ok()
    });
    let address = address.trim().to_owned();
    let jobs = eventually("jobs can be read", Duration::from_secs(90), || {
        let listed = run_stint(&address, &["get", "jobs", "-o", "name"], "");
        (listed.code == 0).then_some(listed.stdout)
    });
    assert!(jobs.contains("hello") && jobs.contains("long"), "{jobs}");
    let log = run_stint(&address, &["logs", "job/hello"], "");
    assert_eq!(log.stdout, "hello from a pod\n", "{}", log.stderr);
}

#[test]
fn its_pods_may_be_containers() {
    let below = match abilities::containers_without_daemon() {
        Ok(below) => below,
        Err(why) => return println!("not run: containers of stint dev: {why}"),
    };
    let images = ServedImages::start();
    let folder = tempfile::TempDir::with_prefix_in("stint-dev-test.", below).unwrap();
    let address_file = folder.path().join("address");
    let mut command = Command::new(binary("stint"));
    command.args(["dev", "--listen", "127.0.0.1:0", "--node-lease", "5s", "--runtime", "oci", "--data-dir"]);
    command.arg(folder.path().join("data")).arg("--address-file").arg(&address_file);
    command.args(images.agent_arguments());
    let mut dev = Process::start(command, &folder.path().join("output"));
    let address = eventually("stint dev is ready", Duration::from_secs(90), || {
        std::fs::read_to_string(&address_file).ok()
    });
    let manifest =
        shell_job("hello", &[], "echo $OF_IMAGE").replace("image: none", &format!("image: {BUSYBOX_IMAGE}"));
    let done = run_stint(address.trim(), &["run", "-f", "-"], &manifest);
    assert_eq!((done.code, done.stdout.as_str()), (0, "1\n"), "{}\n{}", done.stderr, dev.output());
    assert!(dev.terminate(Duration::from_secs(20)).is_some_and(|ended| ended.success()), "{}", dev.output());
}
