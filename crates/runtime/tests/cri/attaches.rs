//! Clients of the own streams of a container of an engine.

use crate::attach_cases::{
    self, CAT, DEAF, ECHO, LINES, ONCE, OPEN, SCREEN, TERMINAL, attach, ended, rest, say, until_it_says,
};
use crate::exec_cases::run;
use crate::fixture::{Fixture, loses_output, never};
use std::sync::Arc;
use std::time::Duration;
use stint_runtime::{CriRuntime, PodSandbox, RunningContainer, Runtime, StreamsSpec};

const INPUT_BYTES: usize = 2_000_000;

async fn start(
    fixture: &Fixture,
    runtime: &CriRuntime,
    pod: &Arc<dyn PodSandbox>,
    name: &str,
    streams: StreamsSpec,
    script: &str,
) -> Arc<dyn RunningContainer> {
    let script = match loses_output(runtime) {
        true => script.replace("exit ", "sleep 1; exit "),
        false => script.to_owned(),
    };
    // `$$` is an escape of `$` in commands.
    let mut spec = fixture.shell(pod.pod_uid(), name, &script.replace('$', "$$"));
    spec.streams = streams;
    pod.start(spec, never()).await.unwrap()
}

pub async fn input_stays_for_clients_that_come_and_go(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = start(&fixture, &runtime, &pod, "main", OPEN, LINES).await;
    attach_cases::input_stays_for_clients_that_come_and_go(&container).await;
    let log = fixture.output(&runtime, container.id()).await;
    assert_eq!(String::from_utf8(log).unwrap(), "got one\ngot two\ngot three\ngot end\n");
}

pub async fn input_for_one_ends_as_its_client_ends_it(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = start(&fixture, &runtime, &pod, "cat", ONCE, CAT).await;
    attach_cases::input_for_one_ends_as_its_client_ends_it(&container, INPUT_BYTES).await;
}

pub async fn input_for_one_ends_with_its_client(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = start(&fixture, &runtime, &pod, "echo", ONCE, ECHO).await;
    attach_cases::input_for_one_ends_with_its_client(&container).await;
}

pub async fn what_a_container_has_not_is_refused(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let script = "read -r line || echo eof; exec sleep 1000";
    let container = start(&fixture, &runtime, &pod, "none", StreamsSpec::default(), script).await;
    attach_cases::what_a_container_has_not_is_refused(&container).await;
}

pub async fn a_terminal_is_the_containers_own(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = start(&fixture, &runtime, &pod, "main", TERMINAL, SCREEN).await;
    attach_cases::a_terminal_is_the_containers_own(&container).await;
    // Engines leave carriage returns out of their logs.
    let log = String::from_utf8(fixture.output(&runtime, container.id()).await).unwrap();
    let log = log.replace('\r', "");
    assert!(log.contains("\nterminal\n") && log.contains("interrupted\n"), "{log:?}");
}

pub async fn input_that_is_not_read_holds_up_nothing(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = start(&fixture, &runtime, &pod, "main", OPEN, DEAF).await;
    let (client, _) = attach_cases::input_that_is_not_read(&container).await;
    assert_eq!(run(&container, "echo still").await.0, "still\n");
    // A13.
    runtime.set_deadline(crate::fixture::boottime() + Duration::from_millis(300));
    assert!(container.wait().await.fenced);
    drop(client);
}

pub async fn a13_clients_of_the_next_agent_find_input_open(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = start(&fixture, &runtime, &pod, "main", OPEN, LINES).await;
    let mut client = attach(&container, true).await;
    say(&mut client, "one\n").await;
    until_it_says(&mut client.stdout, "got one\n").await;
    drop((client, container, pod, runtime));
    let runtime = fixture.runtime().await;
    let pods = runtime.recover().await.unwrap();
    let container = pods[0].containers[0].clone();
    let mut client = attach(&container, true).await;
    say(&mut client, "end\n").await;
    assert_eq!(rest(&mut client.stdout).await, "got end\n");
    assert_eq!(ended(&container).await, 7);
}
