//! What containers write, read while they run and after their end.

use super::{Nodes, SOON, job};
use std::process::{Command, Stdio};
use stint_tests::{binary, eventually};

#[test]
fn r13_logs_are_read_by_run_by_line_and_while_they_grow() {
    let nodes = Nodes::start(1);
    nodes.each(|runtime| {
        let cluster = &nodes.cluster;
        // The first run fails. The second one goes on for as long as it is told.
        let script = "test $RUN = 1 && { seq 1 5; exit 3; }; seq 11 15; while [ ! -e go ]; do sleep 0.1; done; echo last";
        let script = format!("RUN=$(cat /data/run 2>/dev/null || echo 1); echo 2 >/data/run; {script}");
        let mut manifest = job(runtime, runtime, "OnFailure", &script);
        manifest = manifest.replace("        image:", "        volumeMounts: [{name: data, mountPath: /data}]\n        image:");
        manifest.push_str("      volumes: [{name: data, emptyDir: {}}]\n");
        cluster.apply(&manifest);
        let read = |arguments: &[&str]| cluster.stint(&[&["logs"], arguments].concat());
        let of_job = format!("job/{runtime}");
        let name = of_job.as_str();
        let all = eventually("the second run writes", SOON, || {
            let log = read(&[name]).stdout;
            log.ends_with("15\n").then_some(log)
        });
        assert_eq!(all, "11\n12\n13\n14\n15\n", "{runtime}: the first run has a log of its own");
        assert_eq!(read(&[name, "--previous"]).success(), "1\n2\n3\n4\n5\n", "{runtime}");
        assert_eq!(read(&[name, "--tail", "2"]).success(), "14\n15\n", "{runtime}");
        assert_eq!(read(&[name, "--since", "1h"]).success(), all, "{runtime}");
        let stamped = read(&[name, "--timestamps", "--tail", "1"]).success();
        let (time, line) = stamped.split_once(' ').expect("a time and a line");
        assert!(time.contains('T') && time.ends_with('Z') && line == "15\n", "{runtime}: {stamped}");
        let following = Command::new(binary("stint"))
            .args(["--server", &cluster.addresses(), "logs", "-f", name])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        cluster.stint(&["exec", name, "--", "touch", "go"]).success();
        let followed = following.wait_with_output().unwrap();
        let whole = format!("{all}last\n");
        assert_eq!(String::from_utf8_lossy(&followed.stdout), whole, "{runtime}: nothing twice, nothing lost");
        cluster.wait_for_condition(runtime, "Complete", SOON);
        assert_eq!(read(&[name]).success(), whole, "{runtime}: it is there after the end");
        assert_eq!(read(&[name, "--previous"]).success(), "1\n2\n3\n4\n5\n", "{runtime}");
    });
    nodes.end();
}
