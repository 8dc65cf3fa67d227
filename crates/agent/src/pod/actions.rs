//! Hooks and probes: what is done inside a container that runs.
//!
//! Owns: carrying one out, what its failure says. Does not own: when it is done (`machine`), its time limit.

use std::time::Duration;
use stint_runtime::{ExecOutput, ExecSpec, RunningContainer};
use tokio::io::AsyncReadExt;

use crate::limits;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Runs a program in the container.
    Exec(Vec<String>),
    /// Waits.
    Sleep(Duration),
}

impl Action {
    /// Resolves when it is done.
    ///
    /// # Errors
    /// Why it failed, for people.
    pub async fn carry_out(&self, container: &dyn RunningContainer) -> Result<(), String> {
        match self {
            Action::None => Ok(()),
            Action::Sleep(duration) => {
                tokio::time::sleep(*duration).await;
                Ok(())
            }
            Action::Exec(command) => execute(container, command.clone()).await,
        }
    }
}

async fn execute(container: &dyn RunningContainer, command: Vec<String>) -> Result<(), String> {
    let spec = ExecSpec { command, stdout: true, stderr: true, ..ExecSpec::default() };
    let mut session = container.exec(spec).await.map_err(|error| error.to_string())?;
    let (stdout, stderr) = (session.stdout(), session.stderr());
    let outputs = async { tokio::join!(beginning_of(stdout), beginning_of(stderr)) };
    // What it leaves behind in the background may hold its output open for ever.
    let mut outputs = std::pin::pin!(outputs);
    let (code, said) = tokio::select! {
        said = &mut outputs => (session.wait().await, said),
        code = session.wait() => {
            let said = tokio::time::timeout(limits::ACTION_OUTPUT_PATIENCE, outputs).await;
            (code, said.unwrap_or_default())
        }
    };
    match (code, said) {
        (0, _) => Ok(()),
        (code, (stdout, stderr)) => {
            let said = if stderr.is_empty() { stdout } else { stderr };
            let said = String::from_utf8_lossy(&said);
            let separator = if said.trim().is_empty() { "" } else { ": " };
            Err(format!("exit code {code}{separator}{}", said.trim()))
        }
    }
}

/// The rest is read too, so that it holds the program up no longer than it must.
async fn beginning_of(output: Option<ExecOutput>) -> Vec<u8> {
    let Some(mut output) = output else { return Vec::new() };
    let mut beginning = Vec::new();
    let mut limited = (&mut output).take(limits::ACTION_OUTPUT_BYTES_MAX);
    if limited.read_to_end(&mut beginning).await.is_ok() {
        drop(tokio::io::copy(&mut output, &mut tokio::io::sink()).await);
    }
    beginning
}
