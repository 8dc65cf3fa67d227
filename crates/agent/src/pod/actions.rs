//! Hooks and probes: what is done inside a container that runs.
//!
//! Owns: carrying one out, what its failure says. Does not own: when it is done (`machine`), its time limit.

use std::time::Duration;
use stint_runtime::{ExecOutput, ExecSpec, RunningContainer};
use tokio::io::AsyncReadExt;

use crate::limits;

/// 128 + SIGKILL.
const KILLED: i32 = 137;

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
    /// Resolves when it is done; never if the container ends before that, which is told by others.
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
    let mut session = match container.exec(spec).await {
        Ok(session) => session,
        Err(error) => return Err(unless_it_ended(container, error.to_string()).await),
    };
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
            let problem = format!("exit code {code}{separator}{}", said.trim());
            Err(if code == KILLED { unless_it_ended(container, problem).await } else { problem })
        }
    }
}

/// A program that was killed, or could not begin, may have met the end of its container. Then that is what has happened, and the
/// program has not failed: this does not resolve.
async fn unless_it_ended(container: &dyn RunningContainer, problem: String) -> String {
    match tokio::time::timeout(limits::ACTION_END_PATIENCE, container.wait()).await {
        Ok(_) => std::future::pending().await,
        Err(_) => problem,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;
    use stint_runtime::{
        AttachSession, AttachSpec, BoxFuture, ContainerId, Error, ExecInput, ExecSession, Exit, ExitReason,
        TerminalSize, Usage,
    };

    /// A container in which every program ends with this code, and which has ended or goes on.
    struct Fake {
        id: ContainerId,
        code: Option<i32>,
        has_ended: bool,
    }

    fn fake(code: Option<i32>, has_ended: bool) -> Fake {
        let id = ContainerId::new("01234567-89ab-cdef-0123-456789abcdef", "main", 0).unwrap();
        Fake { id, code, has_ended }
    }

    impl RunningContainer for Fake {
        fn id(&self) -> &ContainerId {
            &self.id
        }
        fn runtime_id(&self) -> String {
            String::new()
        }
        fn image_id(&self) -> String {
            String::new()
        }
        fn started_at(&self) -> Option<SystemTime> {
            None
        }
        fn signal(&self, _: i32) {}
        fn kill(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
        fn wait(&self) -> BoxFuture<'_, Exit> {
            Box::pin(async {
                if !self.has_ended {
                    return std::future::pending().await;
                }
                Exit {
                    exit_code: 0,
                    signal: None,
                    reason: ExitReason::Completed,
                    message: String::new(),
                    finished_at: SystemTime::UNIX_EPOCH,
                    log_bytes_dropped: 0,
                    fenced: false,
                }
            })
        }
        fn release(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
        fn attach(&self, _: AttachSpec) -> BoxFuture<'_, Result<AttachSession, Error>> {
            unreachable!("nobody attaches to it")
        }

        fn exec(&self, _: ExecSpec) -> BoxFuture<'_, Result<Box<dyn ExecSession>, Error>> {
            Box::pin(async {
                match self.code {
                    Some(code) => Ok(Box::new(Ended(code)) as Box<dyn ExecSession>),
                    None => Err(Error::NotRunning { container: "main".to_owned() }),
                }
            })
        }
        fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
            Box::pin(async { Ok(Usage::default()) })
        }
    }

    struct Ended(i32);

    impl ExecSession for Ended {
        fn stdin(&mut self) -> Option<ExecInput> {
            None
        }
        fn stdout(&mut self) -> Option<ExecOutput> {
            Some(Box::new(&b"said\n"[..]))
        }
        fn stderr(&mut self) -> Option<ExecOutput> {
            None
        }
        fn resize(&self, _: TerminalSize) {}
        fn kill(&self) {}
        fn wait(&self) -> BoxFuture<'_, i32> {
            Box::pin(async { self.0 })
        }
    }

    /// Within far longer than anything is waited for.
    async fn carried_out(container: &Fake) -> Option<Result<(), String>> {
        let action = Action::Exec(vec!["program".to_owned()]);
        tokio::time::timeout(Duration::from_secs(600), action.carry_out(container)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn p8_what_is_killed_with_its_container_has_not_failed() {
        assert_eq!(carried_out(&fake(Some(0), false)).await, Some(Ok(())));
        assert_eq!(carried_out(&fake(Some(9), true)).await, Some(Err("exit code 9: said".to_owned())));
        assert_eq!(carried_out(&fake(Some(KILLED), true)).await, None);
        assert_eq!(carried_out(&fake(None, true)).await, None);
        // By others, in a container that goes on.
        assert_eq!(
            carried_out(&fake(Some(KILLED), false)).await,
            Some(Err("exit code 137: said".to_owned()))
        );
        assert!(carried_out(&fake(None, false)).await.unwrap().unwrap_err().contains("main"));
    }
}
