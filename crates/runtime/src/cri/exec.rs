//! Further programs in a container.
//!
//! Owns: what is asked of the engine for one, and its output. Does not own: when one is run.
//!
//! A program that reads nothing is run as a whole by the engine, which answers its output at its end; giving that up kills it.

use super::Shared;
use super::container::Facts;
use crate::{BoxFuture, Error, ExecInput, ExecOutput, ExecSession, ExecSpec, TerminalSize};
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{oneshot, watch};

/// Exit code of a program whose container, or engine, was gone before its end.
const LOST: i32 = 137;

/// Runs a program.
pub(super) async fn start(
    shared: &Arc<Shared>,
    facts: &Arc<Facts>,
    spec: ExecSpec,
) -> Result<Box<dyn ExecSession>, Error> {
    if spec.stdin || spec.terminal.is_some() {
        let what = "a program with input or a terminal in a container of an engine".to_owned();
        return Err(Error::Unsupported { runtime: super::NAME, what });
    }
    let command = with_environment(spec.command, &spec.env);
    let (kill, killed) = watch::channel(false);
    let (code_sender, code) = watch::channel(None);
    let (out, stdout) = oneshot::channel();
    let (err, stderr) = oneshot::channel();
    let (shared, facts) = (shared.clone(), facts.clone());
    tokio::spawn(async move {
        let mut killed = killed;
        let answer = tokio::select! {
            answer = shared.engine.exec_sync(&facts.container_id, command) => answer,
            // An error is the end of the session.
            _ = killed.wait_for(|killed| *killed) => {
                code_sender.send_replace(Some(LOST));
                return;
            }
        };
        let (exit_code, output, errors) = match answer {
            Ok(answer) => (answer.exit_code, answer.stdout, answer.stderr),
            Err(refusal) => (failure_code(&refusal.message), Vec::new(), refusal.message.into_bytes()),
        };
        let _ = out.send(output);
        let _ = err.send(errors);
        code_sender.send_replace(Some(exit_code));
    });
    let later = |bytes: oneshot::Receiver<Vec<u8>>| Box::new(Later::new(bytes)) as ExecOutput;
    Ok(Box::new(WholeExec {
        stdout: Mutex::new(spec.stdout.then(|| later(stdout))),
        stderr: Mutex::new(spec.stderr.then(|| later(stderr))),
        kill,
        code,
    }))
}

/// The interface has no environment for programs; `env` is in nearly every image.
fn with_environment(command: Vec<String>, env: &[(String, String)]) -> Vec<String> {
    if env.is_empty() {
        return command;
    }
    let variables = env.iter().map(|(name, value)| format!("{name}={value}"));
    ["env".to_owned()].into_iter().chain(variables).chain(command).collect()
}

/// What shells have for a program that can't be run.
fn failure_code(message: &str) -> i32 {
    if message.contains("executable file not found") || message.contains("no such file or directory") {
        127
    } else if message.contains("permission denied") || message.contains("exec format error") {
        126
    } else if message.contains("not running") || message.contains("stopped container") {
        LOST
    } else {
        128
    }
}

/// A program that the engine runs as a whole.
struct WholeExec {
    /// Only to be shared; never locked.
    stdout: Mutex<Option<ExecOutput>>,
    stderr: Mutex<Option<ExecOutput>>,
    kill: watch::Sender<bool>,
    code: watch::Receiver<Option<i32>>,
}

impl ExecSession for WholeExec {
    fn stdin(&mut self) -> Option<ExecInput> {
        None
    }

    fn stdout(&mut self) -> Option<ExecOutput> {
        take(&mut self.stdout)
    }

    fn stderr(&mut self) -> Option<ExecOutput> {
        take(&mut self.stderr)
    }

    fn resize(&self, _size: TerminalSize) {}

    fn kill(&self) {
        self.kill.send_replace(true);
    }

    fn wait(&self) -> BoxFuture<'_, i32> {
        let mut code = self.code.clone();
        Box::pin(
            async move { code.wait_for(Option::is_some).await.ok().and_then(|code| *code).unwrap_or(LOST) },
        )
    }
}

fn take(output: &mut Mutex<Option<ExecOutput>>) -> Option<ExecOutput> {
    // Whole after any panic.
    output.get_mut().unwrap_or_else(PoisonError::into_inner).take()
}

/// Bytes that come all at once, later.
struct Later {
    waiting: Option<oneshot::Receiver<Vec<u8>>>,
    bytes: Cursor<Vec<u8>>,
}

impl Later {
    fn new(waiting: oneshot::Receiver<Vec<u8>>) -> Later {
        Later { waiting: Some(waiting), bytes: Cursor::default() }
    }
}

impl tokio::io::AsyncRead for Later {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        use std::future::Future;
        if let Some(waiting) = &mut self.waiting {
            let bytes = std::task::ready!(std::pin::Pin::new(waiting).poll(context));
            self.waiting = None;
            self.bytes = Cursor::new(bytes.unwrap_or_default());
        }
        std::pin::Pin::new(&mut self.bytes).poll_read(context, buffer)
    }
}
