//! Clients of a container's own streams.

use crate::attach_cases::{
    self, CAT, DEAF, ECHO, LINES, ONCE, OPEN, SCREEN, TERMINAL, attach, ended, rest, say, until_it_says,
};
use crate::fixture::{Fixture, boot_time, exec};
use std::time::Duration;
use stint_runtime::{ContainerSpec, Runtime, StreamsSpec};

const INPUT_BYTES: usize = 2_000_000;

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
    let container = fixture.start(&fixture.shell("read -r line || echo eof; exec sleep 1000")).await;
    attach_cases::what_a_container_has_not_is_refused(&container).await;
    container.kill().await;
}

pub async fn a_terminal_is_the_containers_own(fixture: Fixture) {
    let spec = shell(&fixture, TERMINAL, SCREEN);
    let container = fixture.start(&spec).await;
    attach_cases::a_terminal_is_the_containers_own(&container).await;
    let log = fixture.text(&spec).await;
    assert!(log.contains("terminal\r\n") && log.contains("interrupted\r\n"), "{log:?}");
    // Also of another user than root, who can open it by its names.
    let quiet = StreamsSpec { stdin: false, ..TERMINAL };
    let script = "id -u; test -t 0 && echo terminal; seq 20000; : </dev/stdin; echo last >/dev/stdout";
    let mut spec = shell(&fixture, quiet, script);
    spec.security.user = Some(1234);
    assert_eq!(fixture.run(&spec).await.exit_code, 0);
    let log = fixture.text(&spec).await;
    assert!(
        log.starts_with("1234\r\nterminal\r\n1\r\n") && log.ends_with("\r\n20000\r\nlast\r\n"),
        "{log:?}"
    );
}

pub async fn input_that_is_not_read_holds_up_nothing(fixture: Fixture) {
    let container = fixture.start_ready(&shell(&fixture, OPEN, DEAF)).await;
    let (client, was_held_up) = attach_cases::input_that_is_not_read(&container).await;
    assert!(was_held_up, "nobody has read it");
    assert_eq!(exec(container.as_ref(), "echo still").await, (0, "still\n".to_owned()));
    // A13.
    fixture.runtime.set_deadline(boot_time() + Duration::from_millis(300));
    assert!(container.wait().await.fenced);
    drop(client);
}

pub async fn a13_clients_of_the_next_agent_find_input_open(fixture: Fixture) {
    let container = fixture.start(&shell(&fixture, OPEN, LINES)).await;
    let mut client = attach(&container, true).await;
    say(&mut client, "one\n").await;
    until_it_says(&mut client.stdout, "got one\n").await;
    drop((client, container));
    let fixture = fixture.successor().await;
    let pods = fixture.runtime.recover().await.unwrap();
    let container = pods[0].containers[0].clone();
    let mut client = attach(&container, true).await;
    say(&mut client, "end\n").await;
    assert_eq!(rest(&mut client.stdout).await, "got end\n");
    assert_eq!(ended(&container).await, 7);
}
