//! `attach`: a container's output from now on, and its exit code.
//!
//! Containers have no input and no terminal of their own (the fields `stdin` and `tty` of a container are refused): for that
//! there is `exec`.

use anyhow::{Result, bail};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use stint_api::{ContainerState, ContainerStatus, Pod};
use stint_client::{LogsRequest, v1::LogSource};

use crate::arguments::Attach;
use crate::commands::Context;
use crate::commands::exec::exit_code;
use crate::commands::target::pod_target;
use crate::output;

/// How long the report of an end may take after the end of the output.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// `stint attach`.
pub async fn run(context: &Context, attach: &Attach) -> Result<ExitCode> {
    check(attach)?;
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

/// Refuses what no container has.
fn check(attach: &Attach) -> Result<()> {
    let (flag, has_no) = match attach {
        Attach { stdin: true, .. } => ("-i", "standard input"),
        Attach { tty: true, .. } => ("-t", "terminal"),
        _ => return Ok(()),
    };
    bail!(
        "attach takes no {flag}: a container has no {has_no}, as its fields stdin and tty are not supported; to talk to a \
         program in it use: stint exec -it {} -- COMMAND",
        attach.target
    )
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
    fn input_and_terminal_are_refused_with_what_to_do_instead() {
        let attach =
            Attach { target: "job/a".to_owned(), container: String::new(), stdin: false, tty: false };
        assert!(check(&attach).is_ok());
        for (stdin, tty, flag) in [(true, true, "-i"), (true, false, "-i"), (false, true, "-t")] {
            let refused = check(&Attach { stdin, tty, ..attach.clone() }).unwrap_err().to_string();
            assert!(refused.contains(flag) && refused.contains("stint exec -it job/a"), "{refused}");
        }
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
