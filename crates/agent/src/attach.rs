//! Containers' own streams for callers of the servers.
//!
//! Owns: what goes between a channel and the streams, until the container has ended. Does not own: the streams (crate `runtime`),
//! credit (`channels`).

use stint_api::PodUid;
use stint_proto::v1;
use stint_runtime::{AttachSession, AttachSpec, Error, RunningContainer};
use tokio::sync::watch;

use crate::channels::{Channel, ChannelEnd};
use crate::exec::{pass_input, pass_output, size_of};
use crate::limits;
use crate::live_pods::LivePods;

/// Gives a caller the streams of a container; resolves when that has ended and its output is sent. Dropped before, the caller is
/// detached, and the container goes on.
pub async fn serve(channel: Channel, live: &LivePods, pod: PodUid, wanted: v1::AttachStreams) -> ChannelEnd {
    let Some(container) = live.container(pod, &wanted.container) else {
        let message = format!("container {:?} does not run", wanted.container);
        return ChannelEnd::because(v1::ChannelEndReason::NotRunning, message);
    };
    let spec = AttachSpec { stdin: wanted.stdin, terminal: wanted.terminal.as_ref().map(size_of) };
    match tokio::time::timeout(limits::EXEC_START_TIMEOUT, container.attach(spec)).await {
        Ok(Ok(session)) => {
            channel.output.opened().await;
            converse(channel, container.as_ref(), session).await
        }
        Ok(Err(error)) => not_attached(&error),
        Err(_) => {
            let message = format!("no answer came within {:?}", limits::EXEC_START_TIMEOUT);
            ChannelEnd::because(v1::ChannelEndReason::Failed, message)
        }
    }
}

fn not_attached(error: &Error) -> ChannelEnd {
    let reason = match error {
        Error::NotRunning { .. } => v1::ChannelEndReason::NotRunning,
        Error::Unsupported { .. } => v1::ChannelEndReason::Unsupported,
        _ => v1::ChannelEndReason::Failed,
    };
    ChannelEnd::because(reason, error.to_string())
}

/// The runtime has ended a client's streams before the container ended.
fn let_go_message(container: &dyn RunningContainer) -> String {
    let name = container.id().container_name();
    format!(
        "the output of container {name:?} is not passed on any more: it came faster than it was taken, or the engine has \
         broken off; the container goes on, its log has all of it, and it can be attached to again"
    )
}

/// Passes everything on until the container has ended and what it wrote was sent.
async fn converse(channel: Channel, container: &dyn RunningContainer, session: AttachSession) -> ChannelEnd {
    let Channel { input, output, mut size } = channel;
    let AttachSession { stdin, stdout, stderr, control } = session;
    let (has_ended, ended) = watch::channel(false);
    let (is_silent, silent) = watch::channel(false);
    let outputs = async {
        tokio::join!(
            pass_output(
                Some(stdout),
                v1::ChannelStream::Stdout,
                &output,
                ended.clone(),
                limits::ATTACH_END_PATIENCE
            ),
            pass_output(
                stderr,
                v1::ChannelStream::Stderr,
                &output,
                ended.clone(),
                limits::ATTACH_END_PATIENCE
            ),
        );
        is_silent.send_replace(true);
    };
    let end = async {
        let exit = container.wait().await;
        has_ended.send_replace(true);
        exit.exit_code
    };
    let let_go = async {
        let mut silent = silent.clone();
        // The sender is ours.
        let _ = silent.wait_for(|silent| *silent).await;
        tokio::time::sleep(limits::ATTACH_END_PATIENCE).await;
    };
    let resizes = async {
        while size.changed().await.is_ok() {
            if let Some(size) = size.borrow_and_update().as_ref() {
                control.resize(size_of(size));
            }
        }
        std::future::pending::<()>().await
    };
    tokio::select! {
        (exit_code, ()) = futures::future::join(end, outputs) => ChannelEnd::complete(exit_code),
        () = let_go => ChannelEnd::because(v1::ChannelEndReason::Failed, let_go_message(container)),
        () = resizes => ChannelEnd::complete(0),
        () = pass_input(input, stdin) => ChannelEnd::complete(0),
    }
}
