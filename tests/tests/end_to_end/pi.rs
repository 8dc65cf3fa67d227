//! The user's own Job: π to 2000 places, by the quickstart, on a cluster of 3 servers and 2 agents, and in containers of its
//! image.

use std::process::Command;
use std::time::Duration;
use stint_tests::engine::Engine;
use stint_tests::{Cluster, ClusterOptions, ServedImages, abilities, binary};

// Seen from the package, where Cargo runs tests: not compiled in, as clones may share a target folder.
const MANIFEST: &str = "../deploy/examples/pi-calculator.yaml";
const QUICKSTART: &str = "../deploy/quickstart.sh";

#[test]
fn pi_on_three_servers_and_two_agents() {
    let cluster = Cluster::start(ClusterOptions::new(3, 2));
    cluster.stint(&["apply", "-f", MANIFEST]).success();
    cluster.wait_for_condition("pi-calculator", "Complete", Duration::from_secs(120));
    assert_is_pi(&cluster.stint(&["logs", "job/pi-calculator"]).success());
    let pods = cluster.stint(&["get", "pods"]).success();
    assert!(pods.contains("Completed"), "a finished Pod is shown by the seed's word: {pods}");
}

#[test]
fn pi_in_a_container_of_an_engine() {
    let engine = match Engine::start() {
        Ok(engine) => engine,
        Err(why) => return println!("not run: pi in a container of containerd: {why}"),
    };
    let mut options = ClusterOptions::new(1, 1);
    let arguments = ["--runtime", "cri", "--cri-socket", &engine.address()].map(str::to_owned);
    options.agent_arguments.extend(arguments);
    pi_out_of_its_image(options, "containerd://");
    assert_eq!(engine.containers(), Vec::<String>::new(), "nothing is left in the engine");
}

#[test]
fn pi_in_a_container_without_a_daemon() {
    let mut options = ClusterOptions::new(1, 1);
    options.below = match abilities::containers_without_daemon() {
        Ok(below) => Some(below),
        Err(why) => return println!("not run: pi in a container without a daemon: {why}"),
    };
    options.agent_arguments.extend(["--runtime", "oci"].map(str::to_owned));
    pi_out_of_its_image(options, "oci://");
}

/// The manifest as it was written, on a node that has no perl for it but that of the image.
fn pi_out_of_its_image(mut options: ClusterOptions, runtime: &str) {
    let images = ServedImages::start().with_perl();
    options.agent_arguments.extend(images.agent_arguments());
    let mut cluster = Cluster::start(options);
    let applied = cluster.stint(&["apply", "-f", MANIFEST]);
    assert!(!applied.stderr.contains("not pulled"), "it is pulled: {}", applied.stderr);
    applied.success();
    cluster.wait_for_condition("pi-calculator", "Complete", Duration::from_secs(180));
    assert_is_pi(&cluster.stint(&["logs", "job/pi-calculator"]).success());
    let pod = &cluster.pods("pi-calculator")[0];
    let status = &pod["status"]["containerStatuses"][0];
    assert!(status["containerID"].as_str().is_some_and(|id| id.starts_with(runtime)), "{status:#}");
    assert!(status["imageID"].as_str().is_some_and(|id| id.contains("sha256:")), "{status:#}");
    assert_ne!(images.requests("library/perl"), Vec::<String>::new(), "its image was pulled");
    cluster.end_agents();
}

#[test]
fn quickstart_prints_pi_and_leaves_nothing_behind() {
    let temporary = tempfile::TempDir::with_prefix("stint-quickstart-test.").unwrap();
    let target = binary("stint").parent().unwrap().parent().unwrap().to_owned();
    let output = Command::new(QUICKSTART)
        .env("CARGO_TARGET_DIR", target)
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_is_pi(&String::from_utf8(output.stdout).unwrap());
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "data was left: {left:?}");
    let folder = temporary.path().display().to_string();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        assert!(!command.contains(&folder), "a process was left: {command}");
    }
}

/// 2000 significant digits; the last few may be rounded.
fn assert_is_pi(text: &str) {
    let text = text.trim_end();
    let digits: String = text.chars().filter(|character| *character != '.').collect();
    assert_eq!(digits.len(), 2000, "{text}");
    let expected = pi_digits(2010);
    assert_eq!(text[..2], *"3.");
    assert_eq!(digits[..1998], expected[..1998]);
}

/// The first digits of π, by the spigot of Rabinowitz and Wagon.
fn pi_digits(count: usize) -> String {
    let length = count * 10 / 3 + 16;
    let mut remainders = vec![2_u64; length];
    let mut digits: Vec<u8> = Vec::new();
    for _ in 0..count + 8 {
        let mut carry = 0_u64;
        for position in (0..length).rev() {
            let value = remainders[position] * 10 + carry;
            let divisor = if position == 0 { 10 } else { 2 * position as u64 + 1 };
            remainders[position] = value % divisor;
            carry = value / divisor * if position == 0 { 1 } else { position as u64 };
        }
        // `carry` is the next digit, or 10: then the digits before it grow by one.
        digits.push((carry % 10) as u8);
        let mut overflow = carry / 10;
        let mut position = digits.len() - 1;
        while overflow > 0 && position > 0 {
            position -= 1;
            let digit = digits[position] + 1;
            digits[position] = digit % 10;
            overflow = u64::from(digit / 10);
        }
    }
    digits.iter().take(count).map(|digit| char::from(b'0' + digit)).collect()
}

#[test]
fn the_digits_that_pi_is_compared_with() {
    let digits = pi_digits(1010);
    assert!(digits.starts_with("31415926535897932384626433832795028841971693993751"));
    // The "Feynman point": six nines from the 762nd decimal place on.
    assert_eq!(digits[762..768], *"999999");
}
