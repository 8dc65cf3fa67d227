//! Further programs in a container.
//!
//! Owns: what is asked of the engine for one, knowing that it runs, its end by force. Does not own: the connection to it
//! (`streaming`), when one is run.
//!
//! The engine runs the program as it runs the container: with the same root, user, rights and filters, whatever it makes them
//! of. It says how the program ended, but not which process it is, and does not end it when nobody listens any more. So it is
//! looked for: what an engine starts in a container begins a session there and has a parent of the engine's. One program is started
//! at a time in a container, and the one that was not there before is it.
//!
//! A program whose output is held open by others that it has left behind ends, for the engine, when those do.

mod spdy;
pub(super) mod streaming;

use super::Shared;
use super::container::Facts;
use crate::{BoxFuture, Error, ExecInput, ExecOutput, ExecSession, ExecSpec, TerminalSize, limits};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use streaming::{Connection, Conversation, Outcome, Progress, Wanted};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Exit code of a program whose container, or engine, was gone before its end.
const LOST: i32 = 137;

/// What the programs of one container have in common.
#[derive(Debug)]
pub(super) struct Execs {
    /// Held while one is being started, until it is known which process it is.
    starting: Arc<tokio::sync::Mutex<()>>,
    running: Arc<Semaphore>,
    /// The container's own program, if it is known which process that is.
    main: Option<Pid>,
}

impl Execs {
    pub fn new(main: Option<Pid>) -> Execs {
        let running = Arc::new(Semaphore::new(limits::EXECS_PER_CONTAINER_MAX));
        Execs { starting: Arc::default(), running, main }
    }
}

/// Runs a program; resolves when it runs.
pub(super) async fn start(
    shared: &Arc<Shared>,
    facts: &Arc<Facts>,
    execs: &Execs,
    spec: ExecSpec,
) -> Result<Box<dyn ExecSession>, Error> {
    spec.check(&facts.id)?;
    let refused =
        |exit_code, message| Error::ExecStart { container: facts.id.to_string(), exit_code, message };
    let Ok(permit) = execs.running.clone().try_acquire_owned() else {
        let count = limits::EXECS_PER_CONTAINER_MAX;
        return Err(refused(128, format!("{count} programs run in the container besides its own")));
    };
    let starting = execs.starting.clone().lock_owned().await;
    let search = Search::begin(shared, facts, execs.main).await;
    let wanted = Wanted {
        stdin: spec.stdin,
        // Engines refuse a program without any stream.
        stdout: spec.stdout || spec.terminal.is_some() || !(spec.stdin || spec.stderr),
        stderr: spec.stderr && spec.terminal.is_none(),
        terminal: spec.terminal,
        // A terminal has no end that could be told.
        keeps_input: spec.terminal.is_some(),
    };
    let address = match shared.engine.exec(&facts.container_id, command_of(&spec), &wanted).await {
        Ok(address) => address,
        Err(refusal) if refusal.is_not_found() || failure_code(&refusal.message) == LOST => {
            return Err(Error::NotRunning { container: facts.id.to_string() });
        }
        Err(refusal) => return Err(shared.engine.error(refusal)),
    };
    let mut conversation = streaming::open(&address, wanted)
        .await
        .map_err(|problem| refused(128, format!("its engine's streaming server: {problem}")))?;
    if !spec.stdout {
        conversation.stdout = None;
    }
    let Conversation { stdin, stdout, stderr, sizes, progress, connection, .. } = conversation;
    let (kill, kill_wanted) = watch::channel(false);
    let (runs_sender, mut runs) = watch::channel(false);
    let (code_sender, code) = watch::channel(None);
    let keeper = Keeper {
        search,
        progress: progress.clone(),
        kill_wanted,
        runs: runs_sender,
        code: code_sender,
        connection,
        _permit: permit,
    };
    tokio::spawn(keeper.keep(starting));
    // From here on it is killed if nobody waits for it any more.
    let session = EngineExec {
        streams: Mutex::new(Streams {
            stdin: stdin.map(|pipe| Box::new(pipe) as ExecInput),
            stdout: stdout.map(|pipe| Box::new(pipe) as ExecOutput),
            stderr: stderr.map(|pipe| Box::new(pipe) as ExecOutput),
        }),
        sizes,
        kill,
        code,
    };
    let mut begun = progress;
    let outcome = tokio::select! {
        biased;
        progress = begun.wait_for(|progress| progress.has_spoken || progress.outcome.is_some()) => {
            progress.ok().and_then(|progress| progress.outcome.clone())
        }
        _ = runs.wait_for(|runs| *runs) => None,
    };
    match outcome {
        Some(Outcome::Failed(message)) => match failure_code(&message) {
            LOST => Err(Error::NotRunning { container: facts.id.to_string() }),
            exit_code => Err(refused(exit_code, shown(&message))),
        },
        Some(Outcome::Lost(message)) => Err(refused(128, message)),
        Some(Outcome::Exited(_)) | None => Ok(Box::new(session)),
    }
}

/// The interface has no environment for programs; `env` is in nearly every image. What the engine adds by itself is left out.
fn command_of(spec: &ExecSpec) -> Vec<String> {
    let is_given = |(name, value): &&(String, String)| {
        !(spec.terminal.is_some() && (name.as_str(), value.as_str()) == ("TERM", "xterm"))
    };
    let variables: Vec<_> = spec.env.iter().filter(is_given).collect();
    if variables.is_empty() {
        return spec.command.clone();
    }
    let variables = variables.into_iter().map(|(name, value)| format!("{name}={value}"));
    ["env".to_owned()].into_iter().chain(variables).chain(spec.command.iter().cloned()).collect()
}

/// What shells have for a program that can't be run.
fn failure_code(message: &str) -> i32 {
    if message.contains("executable file not found") || message.contains("no such file or directory") {
        127
    } else if message.contains("permission denied") || message.contains("exec format error") {
        126
    } else if ["not running", "stopped container", "CONTAINER_EXITED", "process already finished"]
        .iter()
        .any(|words| message.contains(words))
    {
        LOST
    } else {
        128
    }
}

/// The engine's own words come last.
fn shown(message: &str) -> String {
    message.rsplit("exec failed: ").next().unwrap_or(message).to_owned()
}

/// Looks for the process that the engine starts.
struct Search {
    shared: Arc<Shared>,
    facts: Arc<Facts>,
    main: Option<Pid>,
    /// Those that the engine had started before.
    before: BTreeSet<Pid>,
}

impl Search {
    async fn begin(shared: &Arc<Shared>, facts: &Arc<Facts>, main: Option<Pid>) -> Search {
        let search = Search { shared: shared.clone(), facts: facts.clone(), main, before: BTreeSet::new() };
        Search { before: search.programs().await.into_iter().collect(), ..search }
    }

    async fn programs(&self) -> Vec<Pid> {
        let (cgroups, facts, main) = (self.shared.cgroups.clone(), self.facts.clone(), self.main);
        let looking = tokio::task::spawn_blocking(move || {
            cgroups.programs(facts.id.pod_uid(), &facts.container_id, main)
        });
        looking.await.unwrap_or_default()
    }

    async fn look(&self) -> Option<Pid> {
        self.programs().await.into_iter().find(|pid| !self.before.contains(pid))
    }

    async fn kill(&self, leader: Pid) {
        let (cgroups, facts) = (self.shared.cgroups.clone(), self.facts.clone());
        let killing = tokio::task::spawn_blocking(move || {
            cgroups.kill_session(facts.id.pod_uid(), &facts.container_id, leader);
        });
        let _ = killing.await;
    }
}

/// Looks after one program until its end is known.
struct Keeper {
    search: Search,
    progress: watch::Receiver<Progress>,
    /// Its end is a wish to kill, too.
    kill_wanted: watch::Receiver<bool>,
    runs: watch::Sender<bool>,
    code: watch::Sender<Option<i32>>,
    connection: Connection,
    _permit: OwnedSemaphorePermit,
}

impl Keeper {
    async fn keep(mut self, starting: OwnedMutexGuard<()>) {
        let outcome = self.outcome(starting).await;
        drop(self.connection);
        let code = match outcome {
            Some(Outcome::Exited(code)) => code,
            Some(Outcome::Failed(message)) => failure_code(&message),
            Some(Outcome::Lost(_)) | None => LOST,
        };
        self.code.send_replace(Some(code));
    }

    /// `None`: it was killed, and the engine does not say that it has ended.
    async fn outcome(&mut self, starting: OwnedMutexGuard<()>) -> Option<Outcome> {
        let mut progress = self.progress.clone();
        let mut over = Box::pin(async move {
            let last = progress.wait_for(|progress| progress.outcome.is_some()).await;
            last.ok().and_then(|progress| progress.outcome.clone())
        });
        let begun = Instant::now();
        let (mut pause, longest) = limits::EXEC_LOOK_MS;
        let mut has_spoken = self.progress.clone();
        let found = loop {
            // One that has said something has begun: if it is not there, it has ended, and others hold its output open.
            let is_late = begun.elapsed() >= Duration::from_millis(limits::EXEC_FIND_MS);
            let is_over = self.progress.borrow().has_spoken || *self.kill_wanted.borrow();
            tokio::select! {
                outcome = &mut over => return outcome,
                _ = has_spoken.wait_for(|progress| progress.has_spoken), if !is_over => {}
                () = tokio::time::sleep(Duration::from_millis(pause)) => {}
            }
            let found = self.search.look().await;
            if found.is_some() || is_late || is_over {
                break found;
            }
            pause = (pause * 2).min(longest);
        };
        drop(starting);
        self.runs.send_replace(true);
        tokio::select! {
            outcome = &mut over => return outcome,
            _ = self.kill_wanted.wait_for(|wanted| *wanted) => {}
        }
        if let Some(leader) = found {
            self.search.kill(leader).await;
        }
        tokio::time::timeout(Duration::from_millis(limits::EXEC_KILL_MS), over).await.ok().flatten()
    }
}

/// A program in a container.
struct EngineExec {
    /// Only to be shared; never locked.
    streams: Mutex<Streams>,
    sizes: mpsc::Sender<TerminalSize>,
    kill: watch::Sender<bool>,
    code: watch::Receiver<Option<i32>>,
}

struct Streams {
    stdin: Option<ExecInput>,
    stdout: Option<ExecOutput>,
    stderr: Option<ExecOutput>,
}

impl EngineExec {
    fn take<T>(&mut self, of: impl FnOnce(&mut Streams) -> &mut Option<T>) -> Option<T> {
        // Whole after any panic.
        of(self.streams.get_mut().unwrap_or_else(PoisonError::into_inner)).take()
    }
}

impl ExecSession for EngineExec {
    fn stdin(&mut self) -> Option<ExecInput> {
        self.take(|streams| &mut streams.stdin)
    }

    fn stdout(&mut self) -> Option<ExecOutput> {
        self.take(|streams| &mut streams.stdout)
    }

    fn stderr(&mut self) -> Option<ExecOutput> {
        self.take(|streams| &mut streams.stderr)
    }

    fn resize(&self, size: TerminalSize) {
        // If that many wait already, the terminal is not looked at.
        let _ = self.sizes.try_send(size);
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_sets_by_itself_needs_no_program_of_the_image() {
        let spec = |env: &[(&str, &str)], has_terminal: bool| ExecSpec {
            command: vec!["sh".to_owned()],
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            terminal: has_terminal.then_some(TerminalSize { columns: 80, rows: 24 }),
            ..ExecSpec::default()
        };
        assert_eq!(command_of(&spec(&[], false)), ["sh"]);
        assert_eq!(command_of(&spec(&[("TERM", "xterm")], true)), ["sh"]);
        assert_eq!(command_of(&spec(&[("TERM", "xterm")], false)), ["env", "TERM=xterm", "sh"]);
        assert_eq!(
            command_of(&spec(&[("TERM", "vt100"), ("A", "")], true)),
            ["env", "TERM=vt100", "A=", "sh"]
        );
    }

    #[test]
    fn reasons_of_the_program_are_told_in_the_engines_words() {
        let runc = r#"error executing command in container: failed to exec in container: failed to start exec "0": OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown"#;
        assert_eq!(failure_code(runc), 127);
        assert!(
            shown(runc).starts_with("unable to start container process: exec: \"nope\""),
            "{}",
            shown(runc)
        );
        assert_eq!(failure_code("exec: \"/etc/passwd\": permission denied"), 126);
        assert_eq!(failure_code("container is in CONTAINER_EXITED state"), LOST);
        assert_eq!(failure_code("something else"), 128);
    }
}
