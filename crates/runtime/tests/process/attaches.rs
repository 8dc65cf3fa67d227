//! Clients of a container's own streams.

use crate::attach_cases::{
    self, CAT, DEAF, ECHO, LINES, ONCE, OPEN, SCREEN, TERMINAL, attach, end_input, ended, rest, say,
    until_it_says,
};
use crate::exec_cases::run;
use crate::fixture::{Fixture, boot_time};
use crate::processes::{alive, marker};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{IoSlice, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stint_runtime::{
    AttachRefusal, AttachSpec, ContainerSpec, Error, ProcessRuntime, RunningContainer, Runtime, Stream,
    StreamsSpec, limits,
};

const INPUT_BYTES: usize = 10_000_000;

fn shell(fixture: &Fixture, streams: StreamsSpec, script: &str) -> ContainerSpec {
    ContainerSpec { streams, ..fixture.shell(script) }
}

pub async fn input_stays_for_clients_that_come_and_go(fixture: Fixture) {
    let spec = shell(&fixture, OPEN, LINES);
    let container = fixture.start(&spec).await;
    attach_cases::input_stays_for_clients_that_come_and_go(&container).await;
    assert_eq!(fixture.text(&spec).await, "got one\ngot two\ngot three\ngot end\n");
}

pub async fn input_for_one_ends_with_its_client(fixture: Fixture) {
    let container = fixture.start(&shell(&fixture, ONCE, CAT)).await;
    attach_cases::input_for_one_ends_as_its_client_ends_it(&container, INPUT_BYTES).await;
    let container = fixture.start(&shell(&fixture, ONCE, ECHO)).await;
    attach_cases::input_for_one_ends_with_its_client(&container).await;
    // One of several that ends its input ends that of all.
    let container = fixture.start(&shell(&fixture, ONCE, CAT)).await;
    let (mut first, mut second) = (attach(&container, true).await, attach(&container, true).await);
    say(&mut second, "second\n").await;
    until_it_says(&mut first.stdout, "second\n").await;
    end_input(&mut first).await;
    assert!(rest(&mut second.stdout).await.ends_with("over\n"));
    assert_eq!(ended(&container).await, 3);
}

pub async fn what_a_container_has_not_is_refused(fixture: Fixture) {
    let container = fixture.start(&fixture.shell("read -r line || echo eof; exec sleep 1000")).await;
    attach_cases::what_a_container_has_not_is_refused(&container).await;
    let mut clients = Vec::new();
    let all = Instant::now() + Duration::from_secs(60);
    while clients.len() < limits::ATTACHES_PER_CONTAINER_MAX {
        assert!(Instant::now() < all, "clients of before have gone");
        match container.attach(AttachSpec::default()).await {
            Ok(client) => clients.push(client),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    let refusal = attach_cases::refusal(&container, AttachSpec::default()).await;
    assert_eq!(refusal, AttachRefusal::TooMany);
    drop(clients);
    let again = Instant::now() + Duration::from_secs(60);
    while container.attach(AttachSpec::default()).await.is_err() {
        assert!(Instant::now() < again, "there is room again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    container.kill().await;
}

pub async fn a_terminal_is_the_containers_own(fixture: Fixture) {
    let spec = shell(&fixture, TERMINAL, SCREEN);
    let container = fixture.start(&spec).await;
    attach_cases::a_terminal_is_the_containers_own(&container).await;
    let log = fixture.text(&spec).await;
    assert!(log.contains("terminal\r\n") && log.contains("interrupted\r\n"), "{log:?}");
    assert!(fixture.output(&spec, Stream::Stderr).await.is_empty());
    // Its last words are kept, and so is what comes without clients, and without input.
    let quiet = StreamsSpec { stdin: false, ..TERMINAL };
    let spec = shell(&fixture, quiet, "test -t 0 && echo terminal; seq 20000; printf last");
    assert_eq!(fixture.run(&spec).await.exit_code, 0);
    let log = fixture.text(&spec).await;
    let whole = log.starts_with("terminal\r\n1\r\n2\r\n") && log.ends_with("\r\n20000\r\nlast");
    assert!(whole && log.lines().count() == 20_002, "{} lines", log.lines().count());
    // One that lets go of its terminal, and takes it again.
    let script = "exec </dev/null >/dev/null 2>&1; sleep 0.5; echo back >/dev/tty; sleep 0.5";
    let spec = shell(&fixture, quiet, script);
    assert_eq!(fixture.run(&spec).await.exit_code, 0);
    assert_eq!(fixture.text(&spec).await, "back\r\n");
    let container = fixture.start(&shell(&fixture, quiet, "sleep 1000")).await;
    let wanted = AttachSpec { stdin: true, terminal: None };
    assert_eq!(attach_cases::refusal(&container, wanted).await, AttachRefusal::NoStdin);
    container.kill().await;
}

pub async fn input_that_is_not_read_holds_up_nothing(fixture: Fixture) {
    let container = fixture.start_ready(&shell(&fixture, OPEN, DEAF)).await;
    let (client, was_held_up) = attach_cases::input_that_is_not_read(&container).await;
    assert!(was_held_up, "nobody has read it");
    assert_eq!(run(&container, "echo still").await.0, "still\n");
    container.signal(15);
    assert_eq!(ended(&container).await, 4);
    drop(client);
    // A13.
    let marker = marker();
    let container = fixture.start_ready(&shell(&fixture, OPEN, &format!("echo ready; sleep {marker}"))).await;
    let (client, was_held_up) = attach_cases::input_that_is_not_read(&container).await;
    assert!(was_held_up, "nobody has read it");
    fixture.runtime.set_deadline(boot_time() + Duration::from_millis(300));
    let exit = container.wait().await;
    assert_eq!((exit.fenced, alive(&marker)), (true, 0));
    drop(client);
}

pub async fn a_client_that_does_not_read_is_let_go(fixture: Fixture) {
    let script = "read -r line; yes 0123456789abcde | head -c 4000000; echo over";
    let spec = shell(&fixture, OPEN, script);
    let container = fixture.start(&spec).await;
    let (mut slow, mut quick) = (attach(&container, false).await, attach(&container, true).await);
    say(&mut quick, "go\n").await;
    let said = rest(&mut quick.stdout).await;
    assert!(said.len() == 4_000_005 && said.ends_with("over\n"), "{} bytes", said.len());
    assert_eq!(ended(&container).await, 0);
    assert_eq!(fixture.text(&spec).await.len(), 4_000_005);
    assert!(rest(&mut slow.stdout).await.len() < 4_000_000);
}

/// Containers of an agent of before go on, and their shims, which kept no input and know nothing of clients, are not asked for it.
pub async fn a13_shims_of_before_are_not_asked_for_streams(fixture: Fixture) {
    let mut old = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&old);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let text = |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let home = fixture.home();
    let mut hello = b"shim".to_vec();
    [3_u32, 0, 1].iter().for_each(|number| hello.extend(number.to_le_bytes()));
    hello.extend([text("00000000-0000-4000-a000-000000000001"), text("main")].concat());
    hello.extend(0_u32.to_le_bytes());
    hello.extend([text("sh"), text(home.to_str().unwrap()), text("")].concat());
    let started = [&[2][..], &7_u64.to_le_bytes()].concat();
    let framed = |body: &[u8]| [&(body.len() as u32).to_le_bytes()[..], body].concat();
    let said = [framed(&hello), framed(&started)].concat();
    let listener = UnixListener::bind(fixture.folder.path().join("shims/old")).unwrap();
    let shim = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let rights = [pidfd.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&rights)];
        let flags = MsgFlags::empty();
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&said)], &control, flags, None).unwrap();
        let mut heard = Vec::new();
        socket.read_to_end(&mut heard).unwrap();
        heard
    });
    let pods = fixture.runtime.recover().await.unwrap();
    let refusal = pods[0].containers[0].attach(AttachSpec::default()).await.unwrap_err();
    assert!(matches!(refusal, Error::Unsupported { .. }), "{refusal}");
    drop((pods, fixture.runtime));
    // The lease cell, and nothing else.
    let heard = tokio::task::spawn_blocking(|| shim.join().unwrap()).await.unwrap();
    assert_eq!(heard, framed(&[5]));
    old.kill().unwrap();
    old.wait().unwrap();
}

pub async fn a13_clients_of_the_next_agent_find_input_open(fixture: Fixture) {
    let lines = fixture.start(&shell(&fixture, OPEN, LINES)).await;
    let once = fixture.start(&shell(&fixture, ONCE, CAT)).await;
    let screen = fixture.start(&shell(&fixture, TERMINAL, "read -r line; echo got $line; exit 6")).await;
    let mut client = attach(&lines, true).await;
    say(&mut client, "one\n").await;
    until_it_says(&mut client.stdout, "got one\n").await;
    let ids = [lines.id().clone(), once.id().clone(), screen.id().clone()];
    let options = fixture.options();
    drop((client, lines, once, screen));
    drop(fixture.runtime);
    let next = ProcessRuntime::new(options).await.unwrap();
    let pods = next.recover().await.unwrap();
    let found = |id| -> Arc<dyn RunningContainer> {
        let all = pods.iter().flat_map(|pod| &pod.containers);
        all.into_iter().find(|container| container.id() == id).unwrap().clone()
    };
    let [lines, once, screen] = ids.each_ref().map(found);
    let mut client = attach(&lines, true).await;
    say(&mut client, "end\n").await;
    assert_eq!(rest(&mut client.stdout).await, "got end\n");
    assert_eq!(ended(&lines).await, 7);
    let mut client = attach(&once, true).await;
    say(&mut client, "data\n").await;
    end_input(&mut client).await;
    assert_eq!(rest(&mut client.stdout).await, "data\nover\n");
    assert_eq!(ended(&once).await, 3);
    let mut client = attach(&screen, true).await;
    say(&mut client, "line\n").await;
    assert!(rest(&mut client.stdout).await.contains("got line\r\n"));
    assert_eq!(ended(&screen).await, 6);
}
