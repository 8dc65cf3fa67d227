//! `exec`, and what `attach` has in common with it.
//!
//! Owns: what goes between this process's streams and a command or container. Does not own: the terminal's modes
//! (`terminal`), the call (crate `client`).

use anyhow::{Context as _, Result};
use bytes::Bytes;
use std::io::{ErrorKind, Read};
use std::process::ExitCode;
use stint_client::{Error, ErrorReason, ExecCall, ExecCommand, ExecOutput};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::arguments::Exec;
use crate::commands::Context;
use crate::commands::target::pod_target;
use crate::ending_signals::EndingSignals;
use crate::output;
use crate::terminal::{self, RawTerminal};

/// Bytes that are read of stdin at once.
const READ_BYTES: usize = 32 << 10;
/// Exit code if there is no such program, as of a shell.
const NOT_FOUND: u8 = 127;
/// Exit code if it is no program, as of a shell.
const NOT_EXECUTABLE: u8 = 126;
/// Pieces of stdin that are read ahead.
pub const PIECES_AHEAD: usize = 2;

/// `stint exec`.
pub async fn run(context: &Context, exec: Exec) -> Result<ExitCode> {
    let with_terminal = has_terminal("for the command", exec.tty, exec.stdin);
    let wanted = ExecCommand {
        namespace: context.namespace().to_owned(),
        target: pod_target(&exec.target)?,
        container: exec.container,
        command: exec.command,
        stdin: exec.stdin,
        terminal: with_terminal.then(terminal::size),
    };
    let mut call = match context.client.exec(&wanted).await {
        Ok(call) => call,
        Err(error) => return not_executed(error),
    };
    converse(&mut call, exec.stdin, with_terminal).await
}

/// Passes everything on until the other end has ended, and answers with its exit code.
pub async fn converse(call: &mut ExecCall, with_stdin: bool, with_terminal: bool) -> Result<ExitCode> {
    if with_stdin {
        pass_stdin(call);
    }
    // Not before the other end is there: until then Ctrl-C is meant for this process.
    let raw = with_terminal.then(RawTerminal::enter).transpose()?;
    let outcome = tokio::select! {
        outcome = show(call, with_terminal) => outcome,
        code = ended_by_signal(with_terminal) => code,
    };
    drop(raw);
    outcome
}

/// Whether what is wanted has a terminal here; says so if it is wanted and there is none.
pub fn has_terminal(whose: &str, is_wanted: bool, with_stdin: bool) -> bool {
    let has_one = is_wanted && with_stdin && terminal::is_stdin();
    if is_wanted && !has_one {
        output::note(&format!("no terminal {whose}: that needs -i and a terminal as stdin"));
    }
    has_one
}

/// Ends as a shell does whose command can't be executed.
fn not_executed(error: Error) -> Result<ExitCode> {
    let code = match error.reason() {
        Some(ErrorReason::CommandNotFound) => NOT_FOUND,
        Some(ErrorReason::CommandNotExecutable) => NOT_EXECUTABLE,
        _ => return Err(error.into()),
    };
    output::error(&error.into());
    Ok(ExitCode::from(code))
}

/// Shows what a command writes until it has ended.
async fn show(call: &mut ExecCall, with_terminal: bool) -> Result<ExitCode> {
    let (mut stdout, mut stderr) = (output::stdout_stream()?, output::stderr_stream()?);
    let mut resized = signal(SignalKind::window_change()).context("signals can't be listened to")?;
    loop {
        let next = tokio::select! {
            next = call.next() => next?,
            _ = resized.recv(), if with_terminal => {
                call.input().resize(terminal::size()).await;
                continue;
            }
        };
        let was_written = match next {
            ExecOutput::Stdout(data) => write(&mut stdout, &data).await?,
            ExecOutput::Stderr(data) => write(&mut stderr, &data).await?,
            ExecOutput::Exit(code) => return Ok(exit_code(code)),
        };
        if !was_written {
            return Ok(ExitCode::from(output::NOBODY_READS));
        }
    }
}

/// False: nobody reads any more.
async fn write(stream: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> Result<bool> {
    let written = async {
        stream.write_all(data).await?;
        stream.flush().await
    };
    match written.await {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("the output can't be written"),
    }
}

/// Resolves at a signal that ends processes, so that the terminal can be restored before.
async fn ended_by_signal(with_terminal: bool) -> Result<ExitCode> {
    if !with_terminal {
        // The default ends this process, and with it the command.
        return std::future::pending().await;
    }
    Ok(EndingSignals::listen()?.received().await)
}

fn pass_stdin(call: &ExecCall) {
    let (input, mut pieces) = (call.input(), stdin_pieces());
    tokio::spawn(async move {
        while let Some(piece) = pieces.recv().await {
            if !input.send(piece).await {
                return;
            }
        }
        input.end().await;
    });
}

/// What comes from stdin, read by a thread of its own: a read can't be given up, and must not keep the process from its end.
pub fn stdin_pieces() -> mpsc::Receiver<Bytes> {
    let (pieces, read) = mpsc::channel(PIECES_AHEAD);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match stdin.read(&mut buffer) {
                Ok(n_bytes) if n_bytes > 0 => {
                    if pieces.blocking_send(Bytes::copy_from_slice(&buffer[..n_bytes])).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What can't be read has ended.
                Ok(_) | Err(_) => return,
            }
        }
    });
    read
}

/// As the exit code of this process.
pub fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
