//! Clients of a container's own streams.
//!
//! Owns: what is asked of the engine for one, which containers have what is wanted. Does not own: the connection to the engine
//! (`exec::streaming`); the streams, which the engine keeps open for whoever comes.
//!
//! That input for one client is closed is known here only as far as this process saw it, and is asked of nobody: the engine
//! throws away what comes after that.

use super::Shared;
use super::container::Facts;
use super::exec::streaming::{self, Conversation, Wanted};
use crate::{AttachRefusal, AttachSession, AttachSpec, Error, ExecInput, ExecOutput, TerminalSize, limits};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Those of one container.
pub(super) struct Clients {
    places: Arc<Semaphore>,
    /// One with input has come and gone.
    had_input: Arc<AtomicBool>,
}

impl Default for Clients {
    fn default() -> Clients {
        let places = Arc::new(Semaphore::new(limits::ATTACHES_PER_CONTAINER_MAX));
        Clients { places, had_input: Arc::default() }
    }
}

/// One client. Dropping it closes its connection, which detaches it.
struct Client {
    _connection: streaming::Connection,
    _place: OwnedSemaphorePermit,
    /// Its end is that of the input.
    ends_input: Option<Arc<AtomicBool>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(had_input) = &self.ends_input {
            had_input.store(true, Ordering::Relaxed);
        }
    }
}

impl Clients {
    /// Makes one more; resolves when it gets all output.
    pub async fn begin(
        &self,
        shared: &Arc<Shared>,
        facts: &Facts,
        spec: AttachSpec,
    ) -> Result<AttachSession, Error> {
        let refused = |refusal| Error::Attach { container: facts.id.to_string(), refusal };
        let streams = facts.streams;
        let ends_with_client = streams.ends_with_client();
        if spec.stdin && !streams.stdin {
            return Err(refused(AttachRefusal::NoStdin));
        }
        if spec.terminal.is_some() && !streams.terminal {
            return Err(refused(AttachRefusal::NoTerminal));
        }
        if spec.stdin && ends_with_client && self.had_input.load(Ordering::Relaxed) {
            return Err(refused(AttachRefusal::StdinClosed));
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| refused(AttachRefusal::TooMany))?;
        let unknown = TerminalSize { columns: 0, rows: 0 };
        let wanted = Wanted {
            stdin: spec.stdin,
            stdout: true,
            stderr: !streams.terminal,
            // Engines have it as the container has it, whoever looks at it.
            terminal: streams.terminal.then(|| spec.terminal.unwrap_or(unknown)),
            keeps_input: !ends_with_client,
        };
        let address = match shared.engine.attach(&facts.container_id, &wanted).await {
            Ok(address) => address,
            Err(refusal) if refusal.is_not_found() => {
                return Err(Error::NotRunning { container: facts.id.to_string() });
            }
            Err(refusal) => return Err(shared.engine.error(refusal)),
        };
        let patience = Duration::from_millis(limits::ATTACH_ANSWER_MS);
        let opening = async {
            let mut conversation = streaming::open(&address, wanted).await?;
            conversation.taken_up().await;
            Ok::<_, String>(conversation)
        };
        let opened = tokio::time::timeout(patience, opening).await;
        let conversation = match opened {
            Ok(Ok(conversation)) => conversation,
            Ok(Err(problem)) => {
                tracing::warn!(container = %facts.id, %problem, "the engine's streaming server can't be used");
                return Err(refused(AttachRefusal::Failed));
            }
            Err(_) => return Err(refused(AttachRefusal::Failed)),
        };
        let Conversation { stdin, stdout, stderr, sizes, connection, .. } = conversation;
        let stdout = stdout.ok_or_else(|| refused(AttachRefusal::Failed))?;
        let ends_input = (spec.stdin && ends_with_client).then(|| self.had_input.clone());
        let client = Client { _connection: connection, _place: place, ends_input };
        // If that many wait already, the terminal is not looked at.
        let resize = move |size| {
            let _ = sizes.try_send(size);
        };
        Ok(AttachSession::new(
            stdin.map(|pipe| Box::new(pipe) as ExecInput),
            Box::new(stdout) as ExecOutput,
            stderr.map(|pipe| Box::new(pipe) as ExecOutput),
            resize,
            client,
        ))
    }
}
