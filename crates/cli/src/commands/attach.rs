//! `attach`: a container's own streams from now on, and its exit code.
//!
//! Owns: which way they come. Does not own: this process's streams (`exec`).
//!
//! Without input it is the log that is followed, which goes on over lost connections and restarts of servers and agents. With
//! input it is a call, which ends with its connection; the container goes on then.

use anyhow::{Context as _, Result, bail};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use stint_api::{ContainerState, ContainerStatus, Pod};
use stint_client::{AttachStreams, LogsRequest, v1::LogSource};

use crate::arguments::Attach;
use crate::commands::Context;
use crate::commands::exec::{self, exit_code};
use crate::commands::target::pod_target;
use crate::output;
use crate::terminal;

/// How long the report of an end may take after the end of the output.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// `stint attach`.
pub async fn run(context: &Context, attach: &Attach) -> Result<ExitCode> {
    let with_terminal = exec::has_terminal("for the container", attach.tty, attach.stdin);
    if attach.stdin {
        return talk(context, attach, with_terminal).await;
    }
    let mut request = LogsRequest::new(context.namespace(), pod_target(&attach.target)?);
    request.container.clone_from(&attach.container);
    request.follow = true;
    request.tail_lines = Some(0);
    let mut stream = context.client.logs(&request).await?;
    while let Some(piece) = stream.next().await? {
        output::data(&piece)?;
    }
    let Some(source) = stream.source() else { bail!("the server did not say which container it was") };
    exit_code_of(context, source).await
}

/// Passes input too.
async fn talk(context: &Context, attach: &Attach, with_terminal: bool) -> Result<ExitCode> {
    let wanted = AttachStreams {
        namespace: context.namespace().to_owned(),
        target: pod_target(&attach.target)?,
        container: attach.container.clone(),
        stdin: true,
        terminal: with_terminal.then(terminal::size),
    };
    let mut call = context.client.attach(&wanted).await?;
    let container = call.source().clone();
    exec::converse(&mut call, true, with_terminal).await.with_context(|| {
        format!("no longer attached to container {:?} of pod {:?}", container.container, container.pod_name)
    })
}

/// Waits until the end of the run is known.
async fn exit_code_of(context: &Context, source: &LogSource) -> Result<ExitCode> {
    let begun = Instant::now();
    while begun.elapsed() < REPORT_TIMEOUT {
        let pod = context.client.get_pod(context.namespace(), &source.pod_name).await?;
        if let Some(code) = ended_with(&pod, source) {
            return Ok(exit_code(code));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    bail!(
        "container {:?} of pod {:?} writes no more, but its end was not reported",
        source.container,
        source.pod_name
    )
}

fn ended_with(pod: &Pod, source: &LogSource) -> Option<i32> {
    let mut statuses = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
    let status = statuses.find(|status| status.name == source.container)?;
    let exit_code = |state: &ContainerState| match state {
        ContainerState::Terminated(terminated) => Some(terminated.exit_code),
        _ => None,
    };
    let ContainerStatus { state, last_state, restart_count, .. } = status;
    match restart_count.checked_sub(source.restart_count)? {
        0 => exit_code(state),
        1 => last_state.as_ref().and_then(exit_code),
        // Runs before the last one are forgotten.
        _ => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{ContainerTermination, PodStatus};

    fn ended(name: &str, exit_code: i32) -> ContainerStatus {
        let state = ContainerState::Terminated(ContainerTermination { exit_code, ..Default::default() });
        ContainerStatus { name: name.to_owned(), state, ..ContainerStatus::default() }
    }

    #[test]
    fn every_container_of_a_pod_has_an_exit_code() {
        let again = ContainerStatus {
            state: ContainerState::default(),
            last_state: Some(ended("", 7).state),
            restart_count: 1,
            ..ended("proxy", 0)
        };
        let pod = Pod {
            metadata: Default::default(),
            spec: Default::default(),
            node_name: None,
            completion_index: None,
            binding_revision: None,
            status: PodStatus {
                init_container_statuses: vec![ended("setup", 3), again],
                container_statuses: vec![ended("main", 5)],
                ..PodStatus::default()
            },
        };
        let of = |container: &str, restart_count| {
            let container = container.to_owned();
            ended_with(&pod, &LogSource { container, restart_count, ..LogSource::default() })
        };
        assert_eq!((of("main", 0), of("setup", 0), of("none", 0)), (Some(5), Some(3), None));
        assert_eq!((of("proxy", 0), of("proxy", 1)), (Some(7), None), "of the run that was attached to");
    }
}
