//! What people live with every day: Jobs out of flags, contexts, completion, colours, and what a terminal shows.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use harness::{Dev, Running, SOON, Terminal, code, job, signal, until};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A server that nobody is.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn a_job_of_flags_runs_as_one_of_a_manifest() {
    let dev = Dev::start();
    exit_codes(&dev);
    environment_and_indexes(&dev);
    names_and_detaching(&dev);
    manifests_out_of_flags(&dev);
    progress_in_lines(&dev);
    what_is_wrong_is_told(&dev);
}

/// J63: 0, 1, 124; whatever the exit codes of containers are.
fn exit_codes(dev: &Dev) {
    let run = |arguments: &[&str]| dev.stint(&[&["run"], arguments].concat());
    let well = run(&["--name", "well", "--", "echo", "hello"]);
    assert_eq!((well.code, well.stdout.as_str()), (0, "hello\n"), "{well:?}");
    assert!(well.stderr.contains("job.batch/well complete: 1 succeeded, 0 failed"), "{well:?}");
    assert!(!well.stderr.contains("warning"), "nobody gave an image: {well:?}");
    let badly = run(&["--retries", "0", "--", "sh", "-c", "echo bad; exit 3"]);
    assert_eq!((badly.code, badly.stdout.as_str()), (1, "bad\n"), "{badly:?}");
    assert!(badly.stderr.contains(" failed: Error (exit code 3)"), "{badly:?}");
    let late = run(&["--deadline", "1s", "--", "sleep", "600"]);
    assert_eq!(late.code, 124, "{late:?}");
    assert!(late.stderr.contains("DeadlineExceeded"), "{late:?}");
    let running = Running::start(dev.command(&["run", "--name", "left", "--", "sleep", "600"]), "");
    until("it runs", || dev.pod_of("left", "Running"));
    // Until the command itself has been told that its Job is there.
    std::thread::sleep(Duration::from_secs(1));
    running.interrupt();
    let left = running.end();
    assert_eq!(left.code, 130, "without a terminal nobody is asked: {left:?}");
    assert!(left.stderr.contains("job.batch/left runs on"), "{left:?}");
    dev.stint(&["delete", "job/left"]).success();
}

fn environment_and_indexes(dev: &Dev) {
    let mut command = dev.command(&["run", "--name", "indexed", "-c", "3", "-p", "3", "--index"]);
    command.args(["-e", "A=a=b $(B)", "-e", "FROM_HERE", "--", "sh", "-c"]);
    command.arg("echo \"$JOB_COMPLETION_INDEX $A $FROM_HERE\"").env("FROM_HERE", "here");
    let ran = Running::start(command, "").end();
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut lines: Vec<&str> = ran.stdout.lines().map(|line| line.split_once("] ").unwrap().1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0 a=b $(B) here", "1 a=b $(B) here", "2 a=b $(B) here"], "{ran:?}");
    assert!(ran.stdout.lines().all(|line| line.starts_with("[indexed-")), "{ran:?}");
    let silent = dev.stint(&["run", "--no-logs", "--", "echo", "unseen"]);
    assert_eq!((silent.code, silent.stdout.as_str()), (0, ""), "{silent:?}");
    let spec = &dev.json(&["get", "job", "indexed", "-o", "json"])["spec"];
    assert_eq!((&spec["completionMode"], &spec["completions"]), (&"Indexed".into(), &3.into()));
    assert_eq!(spec["template"]["spec"]["runtimeClassName"], "process");
}

fn names_and_detaching(dev: &Dev) {
    let detached = dev.stint(&["run", "--detach", "--", "/bin/echo", "behind"]);
    let name = detached.stdout.strip_prefix("job.batch/").and_then(|text| text.strip_suffix(" created\n"));
    let name = name.unwrap_or_else(|| panic!("{detached:?}"));
    assert!(name.starts_with("echo-") && name.len() == 10, "{name}");
    assert!(detached.stderr.contains(&format!("stint logs -f job/{name}")), "{detached:?}");
    let target = format!("job/{name}");
    dev.stint(&["wait", &target, "--for", "complete", "--timeout", "60s"]).success();
    assert_eq!(dev.stint(&["logs", &target]).success(), "behind\n");
    let manifest =
        job("x", "completions: 1", "echo from a file").replace("{name: x,", "{generateName: file-,");
    let of_manifest = dev.stint_with(&["run", "-d", "-f", "-"], &manifest);
    assert!(of_manifest.stdout.starts_with("job.batch/file-"), "{of_manifest:?}");
}

fn manifests_out_of_flags(dev: &Dev) {
    let flags = [
        "run",
        "--dry-run",
        "--name",
        "dry",
        "--cpu",
        "100m",
        "--ttl",
        "1h",
        "-l",
        "a=b",
        "--",
        "echo",
        "dry",
    ];
    let manifest = dev.stint(&flags).success();
    dev.stint(&["get", "job", "dry"]).failure(1, "not found");
    assert!(manifest.starts_with("apiVersion: batch/v1\nkind: Job\n"), "{manifest}");
    let ran = dev.stint_with(&["run", "-f", "-"], &manifest);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "dry\n"), "{ran:?} of {manifest}");
    let job = dev.json(&["get", "job", "dry", "-o", "json"]);
    assert_eq!(
        (&job["metadata"]["labels"]["a"], &job["spec"]["ttlSecondsAfterFinished"]),
        (&"b".into(), &3600.into())
    );
}

/// Where stderr is no terminal progress comes in lines, with nothing that only a terminal understands.
fn progress_in_lines(dev: &Dev) {
    let script = "[ $JOB_COMPLETION_INDEX = 0 ] || sleep 12";
    let arguments = ["run", "--name", "slow", "-c", "2", "-p", "2", "--index", "--", "sh", "-c", script];
    let ran = dev.stint(&arguments);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("\njob.batch/slow: 1/2 succeeded, 1 running\n"), "{ran:?}");
    assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\r'), "{ran:?}");
    let quiet = [&arguments[..1], &["-q"], &arguments[3..]].concat();
    let ran = dev.stint(&quiet);
    assert!(ran.code == 0 && !ran.stderr.contains("1/2 succeeded"), "{ran:?}");
}

/// Bad input: each is refused with its cause and what to do, at once, with nothing on stdout.
fn what_is_wrong_is_told(dev: &Dev) {
    dev.stint_with(&["apply", "-f", "-"], &job("training", "suspend: true", "true")).success();
    dev.stint_with(&["apply", "-n", "team", "-f", "-"], &job("elsewhere", "suspend: true", "true")).success();
    let at_nobody = ["--server", NOBODY, "--request-timeout", "1s", "get", "jobs"];
    for (arguments, code, expected) in [
        (&["run"][..], 2, "--filename"),
        (&["run", "--"], 2, "--filename"),
        (&["run", "--", ""], 1, "a command is required"),
        (&["run", "-f", "/no/such"], 1, "/no/such can't be read"),
        (&["run", "-f", "/dev/null"], 1, "there is no object in it"),
        (&["run", "--name", "Bad_Name", "--", "true"], 1, "metadata.name: Invalid value: \"Bad_Name\""),
        (&["run", "--name", "training", "--", "true"], 1, "already exists"),
        (&["run", "--parallelism", "-1", "--", "true"], 2, "-1"),
        (&["run", "--index", "--", "true"], 2, "--completions"),
        (&["run", "-e", "=x", "--", "true"], 1, "env[0].name"),
        (&["run", "-e", "NOT_SET_ANYWHERE", "--", "true"], 1, "write NOT_SET_ANYWHERE=VALUE"),
        (&["run", "--cpu", "2", "--cpu-limit", "1", "--", "true"], 1, "requests"),
        (&["run", "--cpu=-1", "--", "true"], 1, "cpu"),
        (&["run", "--memory", "much", "--", "true"], 2, "512Mi"),
        (&["run", "--deadline", "0s", "--", "true"], 2, "1s or longer"),
        (&["run", "--ttl", "1000000h", "--", "true"], 1, "--ttl is too long"),
        (&["run", "--runtime", "oci", "--", "true"], 1, "give --image"),
        (&["run", "--runtime", "warp", "--image", "x", "--", "true"], 1, "runtimeClassName"),
        (&["run", "--label", "x", "--", "true"], 1, "write KEY=VALUE"),
        (&["run", "--label", "a b=c", "--", "true"], 1, "labels"),
        (&["run", "--node-selector", "x", "--", "true"], 1, "write KEY=VALUE"),
        (&["run", "-f", "x", "--", "true"], 2, "cannot be used with"),
        (&["run", "--complitions", "1", "--", "true"], 2, "--completions"),
        (&["rnu"], 2, "hint: did you mean run?"),
        (&["get", "jbos"], 1, "did you mean jobs?"),
        (&["get", "job", "trainig"], 1, "hint: did you mean training?"),
        (&["logs", "job/trainin"], 1, "hint: did you mean training?"),
        (&["delete", "job", "trainnig"], 1, "hint: did you mean training?"),
        (&["describe", "node", "dve"], 1, "hint: did you mean dev?"),
        (&["wait", "job/tranining", "--for", "complete"], 1, "hint: did you mean training?"),
        (&["get", "job", "elsewhere"], 1, "hint: there is one in namespace team: -n team"),
        (&at_nobody, 1, "hint: stint config show"),
        (&["--server", "nowhere", "get", "jobs"], 1, "hint: stint config show"),
        (&["--server", "", "get", "jobs"], 1, "is not the address of a server"),
        (&["--token-file", "/no/such", "get", "jobs"], 1, "token file /no/such of --token-file"),
        (&["--color", "blue", "get", "jobs"], 2, "always"),
        (&["--context", "prod", "get", "jobs"], 1, "stint context add makes one"),
        (&["context", "use", "prod"], 1, "stint context add makes one"),
        (&["context", "add", "a b", "--server", "h:1"], 1, "can't be the name of a context"),
        (&["context", "add", "prod"], 1, "--server HOST:PORT"),
        (&["context", "add", "prod", "--server", "nowhere"], 1, "is not the address of a server"),
        (&["context", "add", "prod", "--server", "h:1", "-n", "Bad_Name"], 1, "can't be a namespace"),
        (&["context", "show"], 1, "no context is used"),
        (&["context", "remove", "prod"], 1, "there is no context \"prod\""),
        (&["completion", "tcsh"], 2, "bash"),
        (&["man", "rnu"], 1, "did you mean run?"),
        (&["man", "--out", "/proc/no"], 1, "/proc/no"),
        (&["config", "shwo"], 2, "show"),
    ] {
        let begun = Instant::now();
        dev.stint(arguments).failure(code, expected);
        assert!(begun.elapsed() < SOON, "{arguments:?}");
    }
    assert!(!dev.job_names().contains("true"), "nothing was made");
    let refused = dev.stint_with(
        &["run", "-f", "-"],
        &(job("a", "completions: 1", "true") + &job("b", "completions: 1", "true")),
    );
    refused.failure(1, "run takes one Job, the manifest holds 2");
}

#[test]
fn contexts_name_clusters() {
    let dev = Dev::start();
    let folder = dev.folder.path().join("home/stint");
    let file = folder.join("config.toml");
    let stint = |arguments: &[&str]| {
        let mut command = dev.command(arguments);
        command
            .env_remove("STINT_SERVER")
            .env_remove("STINT_CONFIG")
            .env("XDG_CONFIG_HOME", dev.folder.path().join("home"));
        Running::start(command, "").end()
    };
    assert_eq!(
        stint(&["context", "list"]).stderr,
        "there are no contexts: stint context add NAME --server HOST:PORT makes one\n"
    );
    let added = stint(&["context", "add", "here", "--server", &dev.address, "-n", "team"]);
    assert_eq!((added.code, added.stdout.as_str()), (0, "context/here added\n"), "{added:?}");
    assert!(added.stderr.contains("it is used from now on"), "{added:?}");
    stint(&[
        "context",
        "add",
        "away",
        "--server",
        NOBODY,
        "--token-file",
        "token",
        "--request-timeout",
        "1s",
    ])
    .success();
    stint(&["context", "add", "here", "--server", NOBODY]).failure(1, "--replace");
    let list = stint(&["context", "ls"]).success();
    assert!(list.starts_with("CURRENT   NAME   SERVER"), "{list}");
    assert!(list.contains(&format!("\n*         here   {}   team", dev.address)), "{list}");
    // A context's namespace is the one that is meant, and manifests may say another.
    stint(&["run", "--name", "a", "--", "true"]).success();
    assert_eq!(dev.stint(&["get", "jobs", "-n", "team", "-o", "name"]).success(), "job.batch/a\n");
    assert_eq!(stint(&["get", "jobs", "-o", "name"]).success(), "job.batch/a\n");
    stint(&["get", "jobs", "-n", "default"]).success();
    let shown = stint(&["config", "show"]).success();
    let row = |name: &str| {
        shown.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(row("server")[1..], [&dev.address, "context", "here"], "{shown}");
    assert_eq!(row("namespace")[1..], ["team", "context", "here"], "{shown}");
    assert_eq!(row("context")[1..], ["here", "configuration"], "{shown}");
    assert_eq!(row("token-file")[1..], ["<none>", "default"], "{shown}");
    let json =
        stint(&["--context", "away", "config", "show", "-o", "json", "--server", &dev.address]).success();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let of = |name: &str| json.as_array().unwrap().iter().find(|one| one["setting"] == name).unwrap().clone();
    assert_eq!(
        (&of("server")["origin"], &of("request-timeout")["value"]),
        (&"--server".into(), &"1s".into())
    );
    assert_eq!(of("context")["origin"], "--context");
    assert_eq!(of("token-file")["value"], serde_json::Value::Null, "another server gets no token: {json}");
    let shown = stint(&["--context", "away", "config", "show"]).success();
    assert!(shown.lines().any(|line| line.starts_with("token-file") && line.contains("/token ")), "{shown}");
    // Its token file is not there, its server neither.
    stint(&["--context", "away", "get", "jobs"]).failure(1, "of context away can't be read");
    stint(&["context", "use", "hree"]).failure(1, "did you mean here?");
    assert_eq!(stint(&["context", "use", "away"]).success(), "context/away is used\n");
    assert_eq!(stint(&["context", "show"]).success().lines().next(), Some("Name:             away"));
    let removed = stint(&["context", "remove", "away"]);
    assert!(removed.code == 0 && removed.stderr.contains("no context is used any more"), "{removed:?}");
    stint(&["context", "remove", "away"]).failure(1, "there is no context \"away\"");
    // Only its owner reads it; what is wrong in it is told with its place.
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    for (text, expected) in [
        ("curent = \"here\"\n", ":1:1: unknown field `curent`"),
        ("[contexts.here]\nserver = 7440\n", ":2:10: invalid type: integer `7440`"),
        ("[contexts.here]\nserver = \"h:1\"\nport = 1\n", ":3:1: unknown field `port`"),
        ("current = \"gone\"\n", "there is no context \"gone\""),
        ("current = [", ":1:"),
        ("[contexts.here]\nrequest-timeout = \"soon\"\n\n[contexts.b]\n", ""),
    ] {
        std::fs::write(&file, text).unwrap();
        if !expected.is_empty() {
            stint(&["get", "jobs"]).failure(1, expected);
            // What does not ask a cluster needs no settings.
            stint(&["completion", "bash"]).success();
        } else {
            stint(&["--context", "here", "get", "jobs"]).failure(1, "\"soon\" is not a duration");
        }
    }
    std::fs::write(&file, [0xff_u8, 0xfe]).unwrap();
    stint(&["get", "jobs"]).failure(1, "config.toml can't be read");
    std::fs::write(&file, "#".repeat(2 << 20)).unwrap();
    stint(&["get", "jobs"]).failure(1, "more than 1048576 bytes");
}

#[test]
fn shells_complete_the_names_that_the_cluster_has_now() {
    let dev = Dev::start();
    for name in ["import", "train-a", "train-b"] {
        dev.stint_with(&["apply", "-f", "-"], &job(name, "suspend: true", "true")).success();
    }
    dev.stint_with(&["apply", "-n", "team", "-f", "-"], &job("of-team", "suspend: true", "true")).success();
    dev.stint(&["create", "configmap", "of-others", "-n", "others", "--from-literal", "a=b"]).success();
    dev.stint(&["run", "--detach", "--name", "runs", "--", "sleep", "600"]).success();
    let pod = until("it runs", || dev.pod_of("runs", "Running"));
    let of_kind = format!("pod/{pod}");
    let ask = |shell: &str, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = dev.command(&[]);
        command.env("STINT_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        command.env("_CLAP_IFS", "\n").arg("--").args(&words);
        let answered = Running::start(command, "").end();
        assert!(answered.code == 0 && answered.stderr.is_empty(), "{line}: {answered:?}");
        answered
            .stdout
            .lines()
            .map(|line| line.split(['\t', ':']).next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for shell in ["bash", "zsh", "fish"] {
        let contains = |line: &str, expected: &[&str]| {
            // A loaded machine may need longer than a key has.
            until(&format!("{shell} {line}: {expected:?}"), || {
                let names = ask(shell, line);
                expected.iter().all(|one| names.iter().any(|name| name == one)).then_some(())
            });
        };
        contains("stint ge", &["get"]);
        contains("stint get ", &["jobs", "pods", "nodes"]);
        contains("stint get jobs tr", &["train-a", "train-b"]);
        contains("stint get job/", &["job/import", "job/train-a"]);
        contains("stint -n team get jobs ", &["of-team"]);
        contains("stint logs job/tr", &["job/train-a"]);
        contains("stint wait ", &["job/import"]);
        contains("stint explain ", &["job/import", &of_kind]);
        contains("stint explain pod/", &[&of_kind]);
        contains("stint explain tr", &["train-a", "train-b"]);
        contains("stint tree ", &["job/import", "job/train-a"]);
        contains("stint tree jobs/im", &["jobs/import"]);
        contains("stint history im", &["import"]);
        contains("stint -n team history job/", &["job/of-team"]);
        contains("stint events --for ", &["job/import", &of_kind, "node/dev"]);
        contains("stint get events --for node/", &["node/dev"]);
        contains("stint top pods ru", &[&pod]);
        contains("stint top nodes ", &["dev"]);
        contains("stint --namespace ", &["default", "team", "others"]);
        contains("stint get jobs -n te", &["team"]);
        contains("stint drain ", &["dev"]);
        contains("stint run --com", &["--completions"]);
        assert!(!ask(shell, "stint get jobs tr").contains(&"import".to_owned()));
        // One target is all that these take; no Pod is a Job.
        for line in ["stint explain job/import job/", "stint tree job/import im", "stint history pod/"] {
            let offered = ask(shell, line);
            assert!(offered.iter().all(|one| one.starts_with("--")), "{line}: {offered:?}");
        }
    }
    dev.stint(&["context", "add", "prod", "--server", &dev.address, "-n", "of-context"]).success();
    assert_eq!(ask("bash", "stint context use "), ["prod"]);
    assert_eq!(ask("bash", "stint get jobs --namespace of-c"), ["of-context"]);
    // Nobody answers: nothing is offered, nothing is said, and nobody waits.
    let begun = Instant::now();
    for line in [format!("stint --server {NOBODY} get jobs "), "stint --server nonsense get jobs ".to_owned()]
    {
        // Options are there without a cluster.
        let offered = ask("bash", &line);
        assert!(offered.iter().all(|one| one.starts_with("--")), "{line}: {offered:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // As a shell really does it.
    let script = "source <(\"$0\" completion bash); COMP_WORDS=(stint get jobs imp); COMP_CWORD=3; _clap_complete_stint stint imp \
                  jobs; echo \"${COMPREPLY[*]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, env!("CARGO_BIN_EXE_stint")]).env("STINT_SERVER", &dev.address);
    bash.env("STINT_CONFIG", dev.folder.path().join("config.toml"));
    // Not that of the context, which is in use since it was added.
    bash.env("STINT_NAMESPACE", "default");
    until("bash offers the name", || (Running::start_again(&mut bash).stdout == "import\n").then_some(()));
}

#[test]
fn there_are_manual_pages_of_all_commands() {
    let folder = tempfile::tempdir().unwrap();
    let stint = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stint"));
        Running::start_again(command.args(arguments))
    };
    let written = stint(&["man", "--out", folder.path().to_str().unwrap()]).success();
    let count = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(written, format!("{count} pages written to {}\n", folder.path().display()));
    assert!(count > 30, "{count}");
    let page = stint(&["man", "context", "add"]).success();
    assert_eq!(page, std::fs::read_to_string(folder.path().join("stint-context-add.1")).unwrap());
    assert!(page.contains(".TH stint-context-add 1"), "{page}");
}

#[test]
fn colours_are_for_terminals() {
    let dev = Dev::start();
    dev.stint(&["run", "-q", "--name", "well", "--", "true"]).success();
    let red_or_green = |text: &str| text.contains("\u{1b}[3") || text.contains("\u{1b}[38;5;");
    let on_terminal = |arguments: &[&str], variable: Option<(&str, &str)>| {
        let mut command = dev.command(arguments);
        command.envs(variable);
        let mut terminal = Terminal::start(&command);
        let status = terminal.end();
        // What is still on its way through the terminal.
        until("something was shown", || (!terminal.shown().is_empty()).then_some(()));
        std::thread::sleep(Duration::from_millis(200));
        (code(status), terminal.shown())
    };
    let (exit, shown) = on_terminal(&["get", "jobs"], None);
    assert!(exit == 0 && red_or_green(&shown) && shown.contains("Complete"), "{shown:?}");
    let (_, error) = on_terminal(&["get", "job", "nobody"], None);
    assert!(red_or_green(&error) && error.contains("not found"), "{error:?}");
    for (arguments, variable) in [
        (&["get", "jobs"][..], Some(("NO_COLOR", "1"))),
        (&["get", "jobs"], Some(("TERM", "dumb"))),
        (&["--color", "never", "get", "jobs"], None),
    ] {
        let (exit, shown) = on_terminal(arguments, variable);
        assert!(exit == 0 && !shown.contains('\u{1b}'), "{arguments:?} {variable:?}: {shown:?}");
    }
    // Not into a pipe, unless it is asked for; columns are the same with and without.
    let plain = dev.stint(&["get", "jobs"]).success();
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let painted = dev.stint(&["--color=always", "get", "jobs"]).success();
    assert!(red_or_green(&painted), "{painted:?}");
    let mut stripped = String::new();
    let mut rest = painted.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        stripped.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    stripped.push_str(rest);
    let words = |text: &str| text.lines().map(|line| line.find(char::is_whitespace)).collect::<Vec<_>>();
    assert_eq!(words(&stripped), words(&plain));
    assert_eq!(stripped.find("Complete"), plain.find("Complete"), "{stripped} {plain}");
}

#[test]
fn a_terminal_shows_progress_and_asks_what_ctrl_c_means() {
    let dev = Dev::start();
    let start = |name: &str| {
        let script = "echo begun $JOB_COMPLETION_INDEX; [ $JOB_COMPLETION_INDEX = 0 ] || exec sleep 600";
        let mut command = dev.command(&["run", "--name", name, "-c", "3", "-p", "3", "--index"]);
        command.args(["--", "sh", "-c", script]);
        let terminal = Terminal::start(&command);
        terminal.wait_for("begun 2");
        terminal.wait_for("1/3 succeeded, 2 running");
        terminal
    };
    let modes = |terminal: &Terminal| nix::sys::termios::tcgetattr(&terminal.screen).unwrap();
    // A mistake: it goes on, and can be asked again.
    let mut terminal = start("cancelled");
    let before = modes(&terminal);
    let question = "c cancels it, d detaches";
    terminal.press("\u{3}");
    terminal.wait_for(question);
    // Neither Ctrl-Z nor Ctrl-\ leaves the terminal as the question has it.
    until("keys come at once", || (modes(&terminal) != before).then_some(()));
    terminal.press("x\u{1a}\u{1c}\r");
    until("the modes are back", || (modes(&terminal) == before).then_some(()));
    // The question is gone before they are.
    let asked_once = terminal.shown().matches(question).count();
    assert!(terminal.shown().contains("[cancelled-"), "{:?}", terminal.shown());
    terminal.press("\u{3}");
    until("it asks again", || (terminal.shown().matches(question).count() > asked_once).then_some(()));
    until("keys come at once", || (modes(&terminal) != before).then_some(()));
    terminal.press("c");
    assert_eq!(code(terminal.end()), 130, "{:?}", terminal.shown());
    terminal.wait_for("cancelled: it is deleted");
    assert_eq!(modes(&terminal), before, "the terminal is as it was");
    until("it is gone", || (!dev.job_names().contains("cancelled")).then_some(()));

    for (name, keys) in [("detached", "d"), ("twice", "\u{3}")] {
        let mut terminal = start(name);
        let before = modes(&terminal);
        terminal.press("\u{3}");
        terminal.wait_for(question);
        until("keys come at once", || (modes(&terminal) != before).then_some(()));
        terminal.press(keys);
        assert_eq!(code(terminal.end()), 130, "{:?}", terminal.shown());
        terminal.wait_for(&format!("stint delete job {name} ends it"));
        assert_eq!(modes(&terminal), before);
        assert_eq!(dev.json(&["get", "job", name, "-o", "json"])["status"]["active"], 2, "it runs on");
        dev.stint(&["delete", "job", name]).success();
    }
    // A Job that comes to its end while the question stands has answered it.
    let mut terminal = Terminal::start(&dev.command(&["run", "--name", "ends", "--", "sleep", "600"]));
    terminal.wait_for("0/1 succeeded, 1 running");
    terminal.press("\u{3}");
    terminal.wait_for(question);
    dev.stint(&["delete", "job", "ends"]).success();
    assert_eq!(code(terminal.end()), 1, "{:?}", terminal.shown());
    terminal.wait_for("was deleted before it ended");
    // Whoever pipes the output elsewhere sees the progress, and the file has only what Pods wrote.
    let file = dev.folder.path().join("written");
    let shell = format!(
        "exec '{}' run --name piped -- sh -c 'printf one; sleep 1; echo two' >'{}'",
        env!("CARGO_BIN_EXE_stint"),
        file.display()
    );
    let command = dev.program("sh", &["-c", &shell]);
    let mut terminal = Terminal::start(&command);
    assert_eq!(code(terminal.end()), 0, "{:?}", terminal.shown());
    terminal.wait_for("0/1 succeeded");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "onetwo\n");
}

#[test]
fn the_screen_of_top_goes_away_with_ctrl_z_and_comes_again() {
    const ENTERED: &str = "\u{1b}[?1049h";
    const LEFT: &str = "\u{1b}[?1049l";
    let dev = Dev::start();
    let modes = |terminal: &Terminal| nix::sys::termios::tcgetattr(&terminal.screen).unwrap();
    let count = |terminal: &Terminal, what: &str| terminal.shown().matches(what).count();
    // A shell that has jobs: it alone continues what was stopped.
    let script = "set -m; \"$0\" top --interval 1s; echo \"left with $?\"; read; fg; echo \"ended with $?\"";
    let command = dev.program("bash", &["-c", script, env!("CARGO_BIN_EXE_stint")]);
    let mut terminal = Terminal::start(&command);
    let before = modes(&terminal);
    terminal.wait_for("q quit");
    assert_ne!(modes(&terminal), before);
    terminal.press("\u{1a}");
    // 128 and SIGTSTP.
    terminal.wait_for("left with 148");
    assert_eq!((count(&terminal, ENTERED), count(&terminal, LEFT)), (1, 1));
    assert_eq!(modes(&terminal), before, "the shell has its terminal");
    let shown_before = count(&terminal, "q quit");
    terminal.press("\r");
    until("it is drawn again", || (count(&terminal, "q quit") > shown_before).then_some(()));
    assert_eq!(count(&terminal, ENTERED), 2);
    assert_ne!(modes(&terminal), before);
    // Stopped by somebody else, with no word before, it draws itself again all the same.
    let shown_before = count(&terminal, "q quit");
    let top = Command::new("pgrep").args(["-P", &terminal.process().to_string()]).output().unwrap();
    let top: u32 = String::from_utf8(top.stdout).unwrap().trim().parse().unwrap();
    signal(top, "-CONT");
    until("it is drawn again", || (count(&terminal, "q quit") > shown_before).then_some(()));
    terminal.press("q");
    terminal.wait_for("ended with 0");
    assert_eq!(code(terminal.end()), 0, "{:?}", terminal.shown());
    assert_eq!(modes(&terminal), before);
    // Where no shell could continue it, it is not stopped.
    let mut terminal = Terminal::start(&dev.command(&["top"]));
    terminal.wait_for("q quit");
    terminal.press("\u{1a}");
    until("it is drawn again", || (count(&terminal, "q quit") > 1).then_some(()));
    terminal.press("q");
    assert_eq!(code(terminal.end()), 0, "{:?}", terminal.shown());
    assert_eq!(modes(&terminal), before);
}

#[test]
fn servers_that_do_not_answer_are_told_of_in_words() {
    let dev = Dev::start();
    let mut command =
        dev.command(&["--request-timeout", "2s", "run", "--name", "waits", "--", "sleep", "600"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let errors = dev.folder.path().join("waits.stderr");
    command.stderr(std::fs::File::create(&errors).unwrap());
    let mut child = command.spawn().unwrap();
    let told = || std::fs::read_to_string(&errors).unwrap();
    until("it runs", || dev.pod_of("waits", "Running"));
    signal(dev.child.id(), "-STOP");
    until("that nobody answers is told", || {
        told().contains(&format!("s, trying {}", dev.address)).then_some(())
    });
    signal(dev.child.id(), "-CONT");
    until("that somebody answers again is told", || {
        told().contains("the servers answer again").then_some(())
    });
    signal(child.id(), "-INT");
    let ended = until("it has ended", || child.try_wait().unwrap());
    assert_eq!(code(ended), 130, "{}", told());
    assert!(told().contains("no answer for "), "{}", told());
}
