//! Bad input to the commands that say what goes on: a clear error, the right exit code, nothing hangs.

use crate::manifests::shell_job;
use std::time::{Duration, Instant};
use stint_tests::{Cluster, ClusterOptions};

/// An error about words comes without any server.
const AT_ONCE: Duration = Duration::from_secs(60);

/// Arguments, the exit code, and what the error must say.
const WRONG: &[(&[&str], i32, &str)] = &[
    (&["explain"], 2, "JOB|POD"),
    (&["explain", ""], 1, "name"),
    (&["explain", "nobody"], 1, "jobs.batch \"nobody\" not found"),
    (&["explain", "job/nobody"], 1, "jobs.batch \"nobody\" not found"),
    (&["explain", "pod/nobody"], 1, "pods \"nobody\" not found"),
    (&["explain", "node/w1"], 1, "can't be explained: give job/NAME or pod/NAME"),
    (&["explain", "cm/x"], 1, "can't be explained"),
    (&["explain", "deployment/x"], 1, "there is no kind \"deployment\""),
    (&["explain", "job/"], 1, "has no name"),
    (&["explain", "job/a/b"], 1, "more than one slash"),
    (&["explain", "job/a", "job/b"], 2, "job/b"),
    (&["explain", "job/good", "-o", "yaml"], 2, "yaml"),
    (&["-n", "elsewhere", "explain", "job/good"], 1, "not found"),
    (&["tree"], 2, "JOB"),
    (&["tree", "nobody"], 1, "jobs.batch \"nobody\" not found"),
    (&["tree", "pod/x"], 1, "\"pod/x\" is no job: give its name, or job/NAME"),
    (&["tree", "job/"], 1, "has no name"),
    (&["tree", "job/a/b"], 1, "more than one slash"),
    (&["tree", "job/good", "--every"], 2, "--every"),
    (&["tree", "job/good", "extra"], 2, "extra"),
    (&["history"], 2, "JOB"),
    (&["history", "nobody"], 1, "jobs.batch \"nobody\" not found"),
    (&["history", "pod/x"], 1, "is no job"),
    (&["history", "job/good", "-o", "table"], 2, "table"),
    (&["-n", "elsewhere", "history", "good"], 1, "not found"),
    (&["events", "job/good"], 2, "job/good"),
    (&["events", "--for"], 2, "--for"),
    (&["events", "--for", "good"], 1, "there is no kind \"good\""),
    (&["events", "--for", "cm/x"], 1, "write job/NAME, pod/NAME or node/NAME"),
    (&["events", "--for", "job/a/b"], 1, "more than one slash"),
    (&["events", "-o", "text"], 2, "text"),
    (&["events", "-l", "a=b"], 2, "-l"),
    (&["top", "--interval", "0"], 2, "500ms to 1h"),
    (&["top", "--interval", "-1s"], 2, "-1"),
    (&["top", "--interval", "2h"], 2, "500ms to 1h"),
    (&["top", "jobs"], 2, "jobs"),
    (&["top"], 1, "use stint top nodes or stint top pods instead"),
    (&["drain"], 2, "NODE"),
    (&["drain", "nobody"], 1, "nobody is not registered"),
    (&["drain", "job/x"], 1, "is not a node"),
    (&["drain", "w1", "--timeout", "forever"], 2, "forever"),
    (&["drain", "w1", "--timeout", "1s", "--no-wait"], 2, "--timeout"),
    (&["describe", "job/nobody"], 1, "not found"),
    (&["describe", "event/x"], 1, "can't be described"),
    (&["top", "--interval", "1s", "nodes"], 1, "--interval is for the screen"),
];

#[test]
fn bad_input_is_named_and_harms_nothing() {
    let cluster = Cluster::start(ClusterOptions::new(1, 0));
    cluster.apply(&shell_job("good", &["suspend: true"], "true"));
    for (arguments, code, expected) in WRONG {
        let begun = Instant::now();
        let outcome = cluster.stint(arguments);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (*code, ""), "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(expected), "expected {expected:?} of {arguments:?}: {outcome:?}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
        assert!(begun.elapsed() < AT_ONCE, "{arguments:?} took {:?}", begun.elapsed());
    }
    let long = "x".repeat(100_000);
    let hostile = ["job/ü", "job/a\u{1b}[31m", "job/..", "job/%00", "job/ "];
    for name in hostile.iter().copied().chain([long.as_str()]) {
        for command in ["explain", "history", "tree"] {
            let outcome = cluster.stint(&[command, name]);
            assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{command} {name:.20}: {outcome:?}");
            assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
        }
    }
    // Nobody listens, or it is no server.
    for server in ["127.0.0.1:1", "not an address"] {
        for command in ["explain", "history", "tree", "events"] {
            let target: &[&str] = if command == "events" { &[] } else { &["job/good"] };
            let arguments = [&["--server", server, "--request-timeout", "2s", command], target].concat();
            let begun = Instant::now();
            let outcome = cluster.stint(&arguments);
            assert_ne!(outcome.code, 0, "{arguments:?}: {outcome:?}");
            assert!(outcome.stderr.starts_with("error"), "{arguments:?}: {outcome:?}");
            assert!(begun.elapsed() < AT_ONCE, "{arguments:?} took {:?}", begun.elapsed());
        }
    }
    cluster.stint(&["explain", "good"]).success();
}
