//! What nobody means to do and everybody does: each ends in order, with a cause and what to do, and harms nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use harness::{Dev, Outcome, Running, SOON, Terminal, code, job, signal, until};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of commands that are interrupted: long enough that nothing but the interruption can end them.
const PATIENT: [&str; 2] = ["--request-timeout", "10m"];

/// What a process is that a signal has ended, as [`code`] tells it.
const ENDED_BY_SIGINT: i32 = 1002;

#[test]
fn odd_words_are_refused_or_understood() {
    let dev = Dev::start();
    // What one argument may have is 128 KiB.
    let long = "n".repeat(100_000);
    for (arguments, code, expected) in [
        (&["--server", "::1:7440", "get", "jobs"][..], 1, "hint: an IPv6 address stands in brackets"),
        (&["--server", "::1", "get", "jobs"], 1, "hint: an IPv6 address stands in brackets"),
        (&["--server", "[::1]", "get", "jobs"], 1, "\"[::1]\" is not the address of a server"),
        (&["--server", "[::1]:x", "get", "jobs"], 1, "\"[::1]:x\" is not the address of a server"),
        (&["--server", "[fe80::1%eth0]:7440", "get", "jobs"], 1, "is not the address of a server"),
        (&["--server", "https://h:7440", "get", "jobs"], 1, "hint: servers speak no TLS"),
        (&["--server", "user@h:7440", "get", "jobs"], 1, "is not the address of a server"),
        (&["--server", "h:0", "get", "jobs"], 1, "is not the address of a server"),
        (&["--server", "h:65536", "get", "jobs"], 1, "is not the address of a server"),
        (&["--server", "h:+7440", "get", "jobs"], 1, "is not the address of a server"),
        (&["--server", ",,,", "get", "jobs"], 1, "is not the address of a server"),
        (
            &["--server", "no.such.host.invalid:1", "--request-timeout", "1s", "get", "jobs"],
            1,
            "no.such.host.invalid:1",
        ),
        (&["--request-timeout", "0", "get", "jobs"], 2, "10ms or longer"),
        (&["-n", "Bad Name", "get", "jobs"], 1, "the namespace \"Bad Name\" of --namespace can't be one"),
        (&["-n", "../..", "get", "jobs"], 1, "the namespace \"../..\" of --namespace can't be one"),
        (&["-n", "-", "logs", "x"], 1, "can't be one"),
        (&["create", "-f", ""], 1, "-f is empty"),
        (&["create", "-f", "/proc/self/mem"], 1, "/proc/self/mem can't be read"),
        (&["get", ","], 1, "names no kind"),
        (&["get", "/x"], 1, "there is no kind \"\""),
        (&["get", "jobs/"], 1, "has no name"),
        (&["delete", "jobs", "-l", ""], 1, "a name is required"),
        (&["run", "--completions", "2147483648", "--", "true"], 2, "2147483648"),
        (&["run", "--completions", "2147483647", "--", "true"], 1, "spec.completions"),
        (&["run", "--memory", "1e99", "--", "true"], 2, "512Mi"),
        (
            &["run", "--name", "ünïcode", "--", "echo hello | wc"],
            1,
            "was -- sh -c \"echo hello | wc\" meant?",
        ),
        (&["run", "--name", "ünïcode", "--", "true"], 1, "metadata.name: Invalid value: \"ünïcode\""),
        (&["run", "--name", &long, "--", "true"], 1, "bytes more)"),
        (&["port-forward", "job/x", "99999"], 1, "\"99999\" names no ports"),
        (&["port-forward", "job/x", "1:2:3"], 1, "\"1:2:3\" names no ports"),
        (&["cp", ":", ":"], 1, "neither place is in a container"),
        (&["cluster", "set", "="], 1, "there is no setting \"\""),
        (&["man", ""], 1, "stint has no command \"\""),
    ] {
        let begun = Instant::now();
        let outcome = dev.stint(arguments);
        assert!(outcome.stderr.len() < 20_000, "nobody wants it back: {}", outcome.stderr.len());
        outcome.failure(code, expected);
        assert!(begun.elapsed() < SOON, "{arguments:.60?}");
    }
    // What is not UTF-8 is no argument; nothing but this line says so.
    let mut command = dev.command(&["get", "jobs"]);
    command
        .arg(std::ffi::OsStr::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"a\xff")));
    Running::start(command, "").end().failure(2, "invalid UTF-8");
    let mut command = dev.command(&["get", "jobs"]);
    command.env("STINT_SERVER", <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff:1"));
    Running::start(command, "").end().failure(1, "STINT_SERVER is not text");
    // Spellings that are understood.
    for server in [
        format!("http://{}", dev.address),
        format!(" {} ", dev.address),
        format!("{},", dev.address),
        format!("{0},{0}", dev.address),
        dev.address.replace("127.0.0.1", "localhost"),
    ] {
        dev.stint(&["--server", &server, "get", "jobs"]).success();
    }
    manifests(&dev);
    surroundings(&dev);
    assert_eq!(dev.job_names().lines().filter(|name| !name.starts_with("well")).count(), 0);
}

fn manifests(dev: &Dev) {
    let at = |name: &str| dev.folder.path().join(name).to_str().unwrap().to_owned();
    let one = job("well", "suspend: true", "true");
    let many: String =
        (0..3_000).map(|number| job(&format!("well-{number}"), "suspend: true", "true")).collect();
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (one, before) in ('b'..='j').zip('a'..) {
        bomb.push_str(&format!("{one}: &{one} [{}]\n", vec![format!("*{before}"); 9].join(",")));
    }
    let utf16: Vec<u8> =
        std::iter::once(0xfeff).chain(one.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    for (name, bytes, expected) in [
        ("many.yaml", many.into_bytes(), "more than 1000 documents"),
        ("huge.yaml", vec![b'x'; 17 << 20], "more than 16777216 bytes"),
        ("bomb.yaml", bomb.into_bytes(), "values behind aliases"),
        ("utf16.yaml", utf16, "is UTF-16: save it as UTF-8"),
        ("binary.yaml", (0..=255).collect(), "is not text, see line"),
        ("tabs.yaml", b"apiVersion: batch/v1\n\tkind: Job\n".to_vec(), "line 1, column"),
        ("null.json", b"null".to_vec(), "there is no object in it"),
        ("array.json", b"[]".to_vec(), "expected an object"),
        ("long.json", format!("{{\"kind\": \"{}\"}}", "y".repeat(5 << 20)).into_bytes(), "Unsupported value"),
    ] {
        std::fs::write(at(name), bytes).unwrap();
        for command in ["create", "delete"] {
            let outcome = dev.stint(&[command, "-f", &at(name)]);
            assert!(outcome.stderr.len() < 20_000, "{name}: {}", outcome.stderr.len());
            outcome.failure(1, expected);
        }
    }
    std::fs::create_dir(at("empty")).unwrap();
    dev.stint(&["create", "-f", &at("empty")]).failure(1, "holds no manifest");
    // As editors of other systems save it.
    std::fs::write(at("saved.yaml"), format!("\u{feff}{}", one.replace('\n', "\r\n"))).unwrap();
    assert_eq!(dev.stint(&["create", "-f", &at("saved.yaml")]).success(), "job.batch/well created\n");
}

/// Shells and services that set less, or something else, than people's terminals do.
fn surroundings(dev: &Dev) {
    let mut bare = Command::new(env!("CARGO_BIN_EXE_stint"));
    bare.env_clear().args(["--server", &dev.address, "get", "jobs", "-o", "name"]);
    assert_eq!(Running::start_again(&mut bare).success(), "job.batch/well\n");
    let mut ascii = dev.command(&["run", "-q", "--name", "well-spoken", "--", "echo", "größe 日本 🎉"]);
    ascii.env("LANG", "C").env("LC_ALL", "C");
    assert_eq!(Running::start(ascii, "").end().success(), "größe 日本 🎉\n");
    let plain = dev.stint(&["get", "nodes", "-o", "wide"]).success();
    let without_age = |text: &str| {
        text.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (name, value) in
        [("COLUMNS", "1"), ("COLUMNS", "0"), ("COLUMNS", "many"), ("TERM", ""), ("TZ", ":nowhere")]
    {
        let mut command = dev.command(&["get", "nodes", "-o", "wide"]);
        let shown = Running::start_again(command.env(name, value)).success();
        assert_eq!(without_age(&shown), without_age(&plain), "{name}={value:?}");
        assert_eq!(shown.lines().count(), plain.lines().count(), "a row is a line with {name}={value:?}");
    }
    let mut dumb = dev.command(&["top"]);
    let mut terminal = Terminal::start(dumb.env("TERM", "dumb"));
    assert_eq!(code(terminal.end()), 1);
    terminal.wait_for("use stint top nodes or stint top pods instead");
    let mut help = dev.command(&["run", "--help"]);
    assert!(Running::start_again(help.env("COLUMNS", "1")).success().contains("--completions"));
}

#[test]
fn token_files_that_hold_no_token_are_named() {
    let dev = Dev::start();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink("loop", at("loop")).unwrap();
    for (name, bytes, expected) in [
        ("empty", &b""[..], "is empty"),
        ("blank", b" \n\t\n", "is empty"),
        ("binary", &[0xff, 0xfe, 0], "can't be read"),
        ("nul", b"a-token\0of-c", "not visible ASCII"),
        ("mark", "\u{feff}a-token-of-an-editor".as_bytes(), "not visible ASCII"),
        ("umlaut", "a-token-of-größe".as_bytes(), "not visible ASCII"),
        ("two", b"a-token\nanother-token\n", "not visible ASCII"),
    ] {
        std::fs::write(at(name), bytes).unwrap();
        let refused = dev.stint(&["--token-file", at(name).to_str().unwrap(), "get", "jobs"]);
        assert!(!refused.stderr.contains("a-token"), "a token is never shown: {refused:?}");
        refused.failure(1, expected);
    }
    std::fs::write(at("huge"), vec![b'a'; 3 << 20]).unwrap();
    for (path, expected) in [
        (at("huge"), "more than 4096"),
        ("/dev/zero".into(), "not visible ASCII"),
        ("/dev/null".into(), "is empty"),
        (at("loop"), "can't be read"),
        (folder.path().to_owned(), "can't be read"),
        (at("empty/below"), "can't be read"),
    ] {
        let outcome = dev.stint(&["--token-file", path.to_str().unwrap(), "get", "jobs"]);
        // However /dev/zero is put: too long, or no token.
        assert!(outcome.code == 1 && outcome.stderr.starts_with("error: the token"), "{path:?}: {outcome:?}");
        assert!(path == Path::new("/dev/zero") || outcome.stderr.contains(expected), "{path:?}: {outcome:?}");
    }
    std::fs::write(at("windows"), "a-token-that-nobody-checks\r\n").unwrap();
    dev.stint(&["--token-file", at("windows").to_str().unwrap(), "get", "jobs"]).success();
    // As shells give what another program prints.
    for writer in ["<(echo a-token-that-nobody-checks)", "<(sleep 1; echo a-token-that-nobody-checks)"] {
        let script = format!("exec \"$0\" --token-file {writer} get jobs -o name");
        let mut piped = dev.program("bash", &["-c", &script, env!("CARGO_BIN_EXE_stint")]);
        assert_eq!(Running::start_again(&mut piped).success(), "");
    }
    // Into which nobody ever writes.
    let script = "mkfifo \"$1\"; exec \"$0\" --token-file \"$1\" get jobs";
    let fifo = at("fifo");
    let arguments = ["-c", script, env!("CARGO_BIN_EXE_stint"), fifo.to_str().unwrap()];
    Running::start_again(&mut dev.program("bash", &arguments)).failure(1, "it is no regular file");
}

#[test]
fn homes_and_configurations_that_are_none_harm_nothing() {
    let dev = Dev::start();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let stint = |variables: &[(&str, &Path)], arguments: &[&str]| {
        let mut command = dev.command(arguments);
        command.env_remove("HOME").env_remove("XDG_CONFIG_HOME").env_remove("STINT_CONFIG");
        command.envs(variables.iter().copied());
        Running::start(command, "").end()
    };
    let add = ["context", "add", "a", "--server", "h:1"];
    stint(&[], &["get", "jobs"]).success();
    stint(&[], &add).failure(1, "there is no HOME to keep contexts in");
    for home in ["relative", "/dev/null", "/proc/self"] {
        stint(&[("HOME", Path::new(home))], &["get", "jobs"]).success();
        let outcome = stint(&[("HOME", Path::new(home))], &add);
        assert!(outcome.code == 1 && outcome.stderr.starts_with("error: "), "{home}: {outcome:?}");
    }
    // What is no file stays what it is. A pipe stands for devices: nobody's /dev/null is at stake here.
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    for (name, expected) in [("pipe", "is no file"), ("dangling", "not there"), ("", "is no file")] {
        stint(&[("STINT_CONFIG", &at(name))], &add).failure(1, expected);
    }
    assert!(!at("pipe").is_file() && at("dangling").is_symlink() && !at("nowhere").exists());
    stint(&[("STINT_CONFIG", Path::new("/dev/null"))], &["get", "jobs"]).success();
    stint(&[("STINT_CONFIG", Path::new("/dev/zero"))], &["get", "jobs"])
        .failure(1, "more than 1048576 bytes");
    for (text, expected) in [
        ("[contexts]\n\"\" = {server = \"a:1\"}\n", "can't be the name of a context"),
        ("current = \"\"\n", "there is no context \"\""),
        ("current = 3\n", ":1:11: invalid type"),
        ("[contexts.a]\nserver = \"h:1\"\nnamespace = \"Bad Name\"\n", "of context a can't be one"),
        ("[contexts.a]\nserver = \"h:1\"\nrequest-timeout = \"0s\"\n", "10ms or longer"),
        (&format!("a = {}", "[".repeat(20_000)), ":1:"),
    ] {
        std::fs::write(at("config"), text).unwrap();
        let context = if text.contains("contexts.a") { &["--context", "a"][..] } else { &[] };
        stint(&[("STINT_CONFIG", &at("config"))], &[context, &["get", "jobs"]].concat()).failure(1, expected);
    }
    let good = "\u{feff}current = \"a\"\r\n[contexts.a]\r\nnamespace = \"team\"\r\n";
    std::fs::write(at("config"), good).unwrap();
    let empty = stint(&[("STINT_CONFIG", &at("config"))], &["get", "jobs"]);
    assert_eq!(empty.stderr, "no jobs found in namespace \"team\"\n");
    let variable = stint(&[("STINT_NAMESPACE", Path::new("Bad Name"))], &["get", "jobs"]);
    variable.failure(1, "of STINT_NAMESPACE can't be one");
    // Twice the same name is one context.
    let file = [("STINT_CONFIG", at("contexts"))];
    let file = [(file[0].0, file[0].1.as_path())];
    stint(&file, &add).success();
    assert_eq!(stint(&file, &["context", "remove", "a", "a"]).success(), "context/a removed\n");
}

/// R9: a token reaches the servers that it is meant for, and no others.
#[test]
fn the_token_of_a_context_stays_with_its_servers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("token"), "a-token-of-one-cluster\n").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (address, alias) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let mut server = Command::new(env!("CARGO_BIN_EXE_stint"));
    server.args(["server", "--name", "s1", "--listen", &address, "--peer-listen", "127.0.0.1:0"]);
    server.args([Path::new("--data-dir"), &at("data"), Path::new("--token-file"), &at("token")]);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(at("stderr")).unwrap());
    let _server = EndedWhenDropped(server.spawn().unwrap());
    let stint = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stint"));
        command.args(arguments).env("STINT_CONFIG", at("config"));
        for name in ["STINT_SERVER", "STINT_TOKEN_FILE", "STINT_NAMESPACE", "STINT_CONTEXT", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        Running::start(command, "").end()
    };
    let token = at("token").to_str().unwrap().to_owned();
    let servers = format!("{address},127.0.0.1:1");
    stint(&[], &["context", "add", "prod", "--server", &servers, "--token-file", &token]).success();
    until("the server answers", || (stint(&[], &["get", "jobs"]).code == 0).then_some(()));
    stint(&[], &["--server", &address, "get", "jobs"]).success();
    stint(&[("STINT_SERVER", &address)], &["get", "jobs"]).success();
    let told = format!(
        "hint: the token of context prod is not sent, as {alias} is none of its servers; --token-file"
    );
    stint(&[], &["--server", &alias, "get", "jobs"]).failure(1, &told);
    stint(&[], &["--server", &format!("{address},{alias}"), "get", "jobs"]).failure(1, &told);
    stint(&[("STINT_SERVER", &alias)], &["get", "jobs"]).failure(1, &told);
    stint(&[("STINT_SERVER", &alias), ("STINT_TOKEN_FILE", &token)], &["get", "jobs"]).success();
    stint(&[], &["--server", &alias, "--token-file", &token, "get", "jobs"]).success();
    // Without a context nothing is held back, and the hint is the usual one.
    let stranger = stint(&[("STINT_CONFIG", "/dev/null")], &["--server", &address, "get", "jobs"]);
    assert!(!stranger.stderr.contains("is not sent"), "{stranger:?}");
    stranger.failure(1, "hint: give the cluster's token");
    let shown = stint(&[], &["--server", &alias, "config", "show"]);
    assert!(shown.stderr.starts_with("warning: the token of context prod is not sent"), "{shown:?}");
    assert!(shown.stdout.contains("\ntoken-file        <none>"), "{shown:?}");
}

struct EndedWhenDropped(Child);

impl Drop for EndedWhenDropped {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A server that is none.
#[derive(Debug, Clone, Copy)]
enum Impostor {
    Silent,
    OneByte,
    HangsUp,
    Noise,
    OtherProtocol,
    SettingsOnly,
    GoesAway,
    NeverStops,
}

impl Impostor {
    /// Its address; it answers as long as the test runs.
    fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for connection in listener.incoming().flatten() {
                match self {
                    Impostor::Silent => held.push(connection),
                    _ => drop(std::thread::spawn(move || self.answer(connection))),
                }
            }
        });
        address
    }

    fn answer(self, mut connection: TcpStream) {
        const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let written = match self {
            Impostor::Silent | Impostor::HangsUp => Ok(()),
            Impostor::OneByte => connection.write_all(&[0]),
            Impostor::Noise => connection.write_all(&[0xa5; 5_000]),
            Impostor::OtherProtocol => {
                connection.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            }
            Impostor::SettingsOnly => connection.write_all(SETTINGS),
            Impostor::GoesAway => connection.write_all(&[SETTINGS, GOAWAY].concat()),
            Impostor::NeverStops => loop {
                if connection.write_all(&[0; 65_536]).is_err() {
                    break Ok(());
                }
            },
        };
        drop(written);
        if !matches!(self, Impostor::OneByte | Impostor::HangsUp) {
            // Whatever comes until the other side has had enough.
            drop(std::io::copy(&mut connection, &mut std::io::sink()));
        }
    }
}

#[test]
fn servers_that_are_none_are_given_up_in_time() {
    let dev = Dev::start();
    for impostor in [
        Impostor::Silent,
        Impostor::OneByte,
        Impostor::HangsUp,
        Impostor::Noise,
        Impostor::OtherProtocol,
        Impostor::SettingsOnly,
        Impostor::GoesAway,
        Impostor::NeverStops,
    ] {
        let address = impostor.start();
        for command in [&["get", "jobs"][..], &["exec", "x", "--", "true"]] {
            let arguments = [&["--server", &address, "--request-timeout", "1s"], command].concat();
            let begun = Instant::now();
            let outcome = dev.stint(&arguments);
            assert!(
                outcome.code == 1 && outcome.stderr.starts_with("error: "),
                "{impostor:?} {command:?}: {outcome:?}"
            );
            assert!(!outcome.stderr.contains("panicked"), "{impostor:?}: {outcome:?}");
            assert!(begun.elapsed() < SOON, "{impostor:?} {command:?} took {:?}", begun.elapsed());
        }
        // Nobody can know whether it was submitted, or it certainly was not: never that it was.
        let run = dev.stint(&["--server", &address, "--request-timeout", "1s", "run", "--", "true"]);
        assert!(run.code == 1 && !run.stderr.contains("created"), "{impostor:?}: {run:?}");
        // Beside one that answers it is only slower.
        let both = format!("{address},{}", dev.address);
        dev.stint(&["--server", &both, "--request-timeout", "30s", "get", "jobs"]).success();
    }
}

#[test]
fn streams_that_are_gone_or_full_are_told_of() {
    let dev = Dev::start();
    let shell = |script: &str| {
        let mut command = dev.program("bash", &["-c", script, env!("CARGO_BIN_EXE_stint")]);
        Running::start_again(&mut command)
    };
    for command in
        ["--help", "--version", "run --help", "man run", "completion bash", "get nodes", "config show"]
    {
        let full = shell(&format!("exec \"$0\" {command} >/dev/full"));
        assert!(full.code == 1 && full.stderr.contains("stdout can't be written"), "{command}: {full:?}");
        // Its reader is gone before it begins.
        let unread =
            shell(&format!("set +m; (sleep 1; exec \"$0\" {command}; ) | true; echo ${{PIPESTATUS[0]}}"));
        assert_eq!((unread.stdout.as_str(), unread.stderr.as_str()), ("141\n", ""), "{command}");
    }
    // Closed from the start.
    assert_eq!(shell("\"$0\" get nodes 2>&-").code, 0);
    assert_eq!(shell("\"$0\" get jbos 2>&-").code, 1);
    assert_eq!(shell("\"$0\" get nodes >&-").stderr, "");
    shell("\"$0\" apply -f - <&-").failure(1, "there is no object in it");
    assert_eq!(shell("\"$0\" run -q --name closed -- echo hi <&-").success(), "hi\n");
    assert_eq!(shell("\"$0\" run --name none -- echo hi <&- >&- 2>&-").code, 0);
    // J63, but whoever reads the exit code must not believe that the output is there.
    for (name, more) in [("full", ""), ("full-of-many", "-c 2 -p 2")] {
        let full = shell(&format!("exec \"$0\" run --name {name} {more} -- echo lost >/dev/full"));
        assert_eq!(full.code, 1, "{full:?}");
        assert!(full.stderr.contains(&format!("job.batch/{name} complete")), "{full:?}");
        assert!(
            full.stderr
                .contains(&format!("error: not all of the output could be written: stint logs job/{name}")),
            "{full:?}"
        );
    }
    let follow = "\"$0\" run -d --name followed -- sh -c 'sleep 5; echo lost'; exec \"$0\" logs -f job/followed --all-pods >/dev/full";
    let followed = shell(follow);
    assert!(followed.code == 1 && followed.stderr.contains("stdout can't be written"), "{followed:?}");
    let unread =
        shell("\"$0\" run --name unread -- sh -c 'yes | head -c 3000000' | head -n 1; echo ${PIPESTATUS[0]}");
    assert!(unread.stdout.ends_with("\n141\n"), "{unread:?}");
    links_stay(&dev);
}

/// A copy goes into what a link leads to, as everywhere.
fn links_stay(dev: &Dev) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    dev.stint(&["run", "-d", "--name", "source", "--", "sh", "-c", "echo new >made; sleep 600"]).success();
    until("it runs", || dev.pod_of("source", "Running"));
    std::fs::write(at("real"), "what was there").unwrap();
    symlink("real", at("link")).unwrap();
    until("it is copied", || {
        (dev.stint(&["cp", "job/source:made", at("link").to_str().unwrap()]).code == 0).then_some(())
    });
    assert!(at("link").is_symlink());
    assert_eq!(std::fs::read_to_string(at("real")).unwrap(), "new\n");
    dev.stint(&["delete", "job", "source"]).success();
}

/// Whoever interrupts `run` is told what is left behind, wherever it is.
#[test]
fn run_can_be_interrupted_at_every_stage() {
    let dev = Dev::start();
    let end_by = |mut running: Running, number: &str| -> Outcome {
        let begun = Instant::now();
        signal(running.child.id(), number);
        let outcome = {
            drop(running.child.stdin.take());
            running.end()
        };
        assert!(begun.elapsed() < SOON, "{outcome:?}");
        outcome
    };
    let started = |arguments: &[&str]| {
        let mut command = dev.command(&[&PATIENT, arguments].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: command.spawn().unwrap() }
    };
    // It waits for a manifest: there is nothing that could be left.
    let waits = started(&["run", "-f", "-"]);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(end_by(waits, "-INT").code, ENDED_BY_SIGINT);
    // It is being submitted, to a server that takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for (name, number, expected_code, expected) in [
        (&["--name", "x"][..], "-INT", 130, "whether it runs is not known; stint get job x shows it"),
        (&[], "-TERM", 143, "its name begins with true-: stint get jobs shows it"),
    ] {
        let submits = started(&[&["--server", &address, "run"], name, &["--", "true"]].concat());
        let _held = silent.accept().unwrap();
        end_by(submits, number).failure(expected_code, expected);
    }
    // No node takes it; it runs; it waits for its next attempt.
    for (name, more, script) in [
        ("unplaced", &["--cpu", "1000"][..], "true"),
        ("running", &[], "sleep 600"),
        ("backing-off", &["--retries", "6"], "exit 1"),
    ] {
        let arguments = [&["run", "--name", name], more, &["--", "sh", "-c", script]].concat();
        let running = started(&arguments);
        until("it is there", || match name {
            "unplaced" => dev.pod_of(name, "Pending"),
            "running" => dev.pod_of(name, "Running"),
            _ => dev.pod_of(name, "Failed"),
        });
        // Until the command itself has been told that its Job is there.
        std::thread::sleep(Duration::from_secs(1));
        let left = end_by(running, "-INT");
        assert_eq!(left.code, 130, "{left:?}");
        assert!(left.stderr.contains(&format!("job.batch/{name} runs on")), "{left:?}");
        dev.stint(&["delete", "job", name]).success();
    }
    // The servers don't answer any more: neither to whoever detaches, nor to whoever cancels and loses patience.
    let running = started(&["run", "--name", "unanswered", "--", "sleep", "600"]);
    until("it runs", || dev.pod_of("unanswered", "Running"));
    let mut terminal = Terminal::start(
        &dev.command(&[&PATIENT[..], &["run", "--name", "asked", "--", "sleep", "600"]].concat()),
    );
    terminal.wait_for("0/1 succeeded, 1 running");
    signal(dev.child.id(), "-STOP");
    let left = end_by(running, "-INT");
    terminal.press("\u{3}");
    terminal.wait_for("c cancels it, d detaches");
    let modes = || nix::sys::termios::tcgetattr(&terminal.screen).unwrap().local_flags;
    until("keys come at once", || (!modes().contains(nix::sys::termios::LocalFlags::ICANON)).then_some(()));
    terminal.press("c");
    until("its question is answered", || {
        nix::sys::termios::tcgetattr(&terminal.screen)
            .unwrap()
            .local_flags
            .contains(nix::sys::termios::LocalFlags::ICANON)
            .then_some(())
    });
    terminal.press("\u{3}");
    let ended = terminal.end();
    signal(dev.child.id(), "-CONT");
    assert_eq!((left.code, code(ended)), (130, 130), "{left:?} {:?}", terminal.shown());
    terminal.wait_for("whether job.batch/asked is cancelled is not known");
}

/// Whoever interrupts a backup finds nothing of it.
#[test]
fn a_snapshot_that_is_interrupted_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for (number, expected_code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stint"));
        command.env_clear().env("HOME", folder.path()).args(["--server", &address]).args(PATIENT);
        command.args(["snapshot", "save"]).arg(folder.path().join("backup"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let saves = Running { child: command.spawn().unwrap() };
        let held = silent.accept().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing could be left");
        signal(saves.child.id(), number);
        saves.end().failure(expected_code, "backup was not saved");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something is left");
        drop(held);
    }
}

/// A reader that is slow is waited for, and loses nothing.
#[test]
fn a_slow_reader_gets_everything() {
    let dev = Dev::start();
    let script = "yes 0123456789 | head -c 1000001";
    let mut command = dev.command(&["run", "-q", "--name", "loud", "--", "sh", "-c", script]);
    let mut running = Running {
        child: command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(),
    };
    let mut stdout = running.child.stdout.take().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let mut bytes = Vec::new();
    stdout.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len(), running.end().code), (1_000_001, 0));
}
