//! Commands that are executed in containers for callers of the servers.
//!
//! Owns: what goes between a channel and a command, until the command has ended. Does not own: how it is executed (crate
//! `runtime`), credit (`channels`).

use std::time::Duration;

use bytes::Bytes;
use stint_api::PodUid;
use stint_proto::v1;
use stint_runtime::{Error, ExecInput, ExecOutput, ExecSession, ExecSpec, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::channels::{Channel, ChannelEnd, Input, InputReader, OutputWriter};
use crate::limits;
use crate::live_pods::LivePods;

/// What a command finds as its kind of terminal, as from other runtimes.
const TERM: &str = "xterm";

/// Executes a command; resolves when it has ended and its output is sent. Dropped before, the command is killed.
pub async fn serve(channel: Channel, live: &LivePods, pod: PodUid, command: v1::ExecCommand) -> ChannelEnd {
    let Some(container) = live.container(pod, &command.container) else {
        let message = format!("container {:?} does not run", command.container);
        return ChannelEnd::because(v1::ChannelEndReason::NotRunning, message);
    };
    let terminal = command.terminal.as_ref().map(size_of);
    let spec = ExecSpec {
        command: command.command,
        env: terminal.map(|_| ("TERM".to_owned(), TERM.to_owned())).into_iter().collect(),
        terminal,
        stdin: command.stdin,
        stdout: true,
        stderr: terminal.is_none(),
    };
    let started = tokio::time::timeout(limits::EXEC_START_TIMEOUT, container.exec(spec));
    let mut session = match started.await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return not_executed(&error),
        Err(_) => {
            let message = format!("the command did not run within {:?}", limits::EXEC_START_TIMEOUT);
            return ChannelEnd::because(v1::ChannelEndReason::Failed, message);
        }
    };
    channel.output.opened().await;
    ChannelEnd::complete(converse(channel, session.as_mut()).await)
}

fn not_executed(error: &Error) -> ChannelEnd {
    let reason = match error {
        Error::ExecStart { exit_code, .. } => return ChannelEnd::not_executed(*exit_code, error.to_string()),
        Error::NotRunning { .. } => v1::ChannelEndReason::NotRunning,
        Error::Unsupported { .. } => v1::ChannelEndReason::Unsupported,
        _ => v1::ChannelEndReason::Failed,
    };
    ChannelEnd::because(reason, error.to_string())
}

/// Passes everything on until the command has ended and what it wrote was sent.
async fn converse(channel: Channel, session: &mut dyn ExecSession) -> i32 {
    let Channel { input, output, mut size } = channel;
    let (stdin, stdout, stderr) = (session.stdin(), session.stdout(), session.stderr());
    let session = &*session;
    let (has_ended, ended) = watch::channel(false);
    let outputs = async {
        tokio::join!(
            pass_output(
                stdout,
                v1::ChannelStream::Stdout,
                &output,
                ended.clone(),
                limits::EXEC_LEFT_OVER_PATIENCE
            ),
            pass_output(
                stderr,
                v1::ChannelStream::Stderr,
                &output,
                ended.clone(),
                limits::EXEC_LEFT_OVER_PATIENCE
            ),
        );
    };
    let end = async {
        let exit_code = session.wait().await;
        has_ended.send_replace(true);
        exit_code
    };
    let resizes = async {
        while size.changed().await.is_ok() {
            if let Some(size) = size.borrow_and_update().as_ref() {
                session.resize(size_of(size));
            }
        }
        std::future::pending::<()>().await
    };
    tokio::select! {
        (exit_code, ()) = futures::future::join(end, outputs) => exit_code,
        () = resizes => 0,
        () = pass_input(input, stdin) => 0,
    }
}

/// Gives the command its input. Never resolves: it is the command that ends.
pub(crate) async fn pass_input(mut input: InputReader, mut stdin: Option<ExecInput>) {
    while let Some(piece) = input.next().await {
        match piece {
            Input::Data(data) => {
                if let Some(pipe) = &mut stdin
                    && (pipe.write_all(&data).await.is_err() || pipe.flush().await.is_err())
                {
                    // It has closed its input. What still comes is thrown away, as a shell's pipe would refuse it.
                    stdin = None;
                }
                input.give_credit(data.len()).await;
            }
            Input::End => {
                if let Some(mut pipe) = stdin.take() {
                    // Fails if it has closed its input itself.
                    drop(pipe.shutdown().await);
                }
            }
        }
    }
    std::future::pending().await
}

/// Sends what comes from one pipe until it ends, or the program has ended and nothing came for as long as `patience`.
pub(crate) async fn pass_output(
    pipe: Option<ExecOutput>,
    stream: v1::ChannelStream,
    output: &OutputWriter,
    mut ended: watch::Receiver<bool>,
    patience: Duration,
) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0_u8; limits::EXEC_READ_BYTES];
    loop {
        let silence = async {
            // An error means that the other end is gone, with the command.
            let _ = ended.wait_for(|ended| *ended).await;
            tokio::time::sleep(patience).await;
        };
        let read = tokio::select! {
            biased;
            read = pipe.read(&mut buffer) => read,
            () = silence => return,
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(n_bytes) => {
                if !output.send(stream, Bytes::copy_from_slice(&buffer[..n_bytes])).await {
                    return;
                }
            }
        }
    }
}

pub(crate) fn size_of(size: &v1::TerminalSize) -> TerminalSize {
    let part = |characters: u32| u16::try_from(characters).unwrap_or(u16::MAX);
    TerminalSize { columns: part(size.columns), rows: part(size.rows) }
}
