//! The shim: owner of one container's processes.
//!
//! Owns: starting the payload, carrying out orders, reaping, the deadline, the death of the whole tree, what is known of its
//! end until an agent has taken it. Does not own: how the program is executed (`payload`), where output goes (`output`).
//!
//! Invariants: `Gone` is told when this process has no child left, and a process of the container that is not a descendant of
//! this one can't exist: orphans come back to a namespace's init, or to a subreaper. The loop waits for nothing but its poll:
//! not for an agent, not for the disk of the log, not for a process that is slow to die.

#[cfg(feature = "oci")]
use super::container;
use super::deadline::{self, Deadline};
use super::execs::{Execs, Surroundings, read_failure};
use super::link::{Heard, Link, Ordered};
use super::messages::{
    Attach, Fact, Hello, Isolation, NotExecuted, Order, Recorded, Stage, Start, WIRE_VERSION,
};
use super::output::Output;
use super::payload::{self, Stdio};
use super::processes;
use super::spawner::AgentUser;
use super::streams::{self, Clients, PayloadEnds};
use super::sys::{self, ChildEnd, Waited};
use crate::lease_cell::LeaseCell;
use crate::payload::Payload;
use crate::process::begun;
use crate::{AttachRefusal, LogWriter, limits};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{Backlog, listen};
use nix::unistd::{ForkResult, Pid, dup2_stdin, getpid, pipe2, read, setsid, write};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// What the spawner hands over.
pub(super) struct ShimFds<'a> {
    /// Connection to the agent that wants the container.
    pub agent: OwnedFd,
    /// Where later agents connect.
    pub listener: OwnedFd,
    /// See `lease_cell`.
    pub cell: OwnedFd,
    /// `/dev/null`.
    pub null: &'a OwnedFd,
}

/// Runs one container from its start until its end is known elsewhere; the result is this process's exit code.
pub(super) fn run(fds: ShimFds<'_>, isolation: Isolation, user: AgentUser) -> i32 {
    let null = fds.null;
    let prepared = prepare(fds, isolation, user);
    let Ok(Prepared { mut link, listener, deadline, signals, pidfd }) = prepared else { return 1 };
    // Before anything of the payload exists, so that the agent can wait for our end whatever happens to us.
    let hello = Hello { version: WIRE_VERSION, isolation, known: 0, container: None };
    link.tell(&Fact::Hello(hello), pidfd.as_ref().map(AsFd::as_fd));
    let Some(start) = receive_start(&mut link) else { return 1 };
    let Start { id, socket_path, pod_directory, log_directory, log_limits, streams, payload } = start;
    // From here on only this process's own death keeps the run from beginning.
    if let Err(error) = begun::write(&path_of(pod_directory), &id)
        // What is no folder can't be begun in either, and the start says so.
        && error.kind() != std::io::ErrorKind::NotADirectory
    {
        let errno = error.raw_os_error().unwrap_or(Errno::EIO as i32);
        link.tell(&Fact::NoShim { errno }, None);
        return 1;
    }
    let log = LogWriter::new(path_of(log_directory), id.clone(), log_limits);
    let recorded = Recorded {
        id,
        program: payload.arguments.first().map(|text| shown(text)).unwrap_or_default(),
        home: payload.home.clone(),
        working_directory: payload.working_directory.clone(),
    };
    let (clients, output, payload_ends) = match streams::make(streams, log) {
        Ok(made) => made,
        Err(errno) => {
            link.tell(&Fact::NoShim { errno: errno as i32 }, None);
            return 1;
        }
    };
    let mut shim = Shim {
        null,
        isolation,
        pid: getpid(),
        pidfd,
        recorded,
        socket_path: path_of(socket_path),
        payload,
        signals,
        deadline,
        listener,
        link: Some(link),
        main: None,
        launcher: None,
        early_signal: None,
        exec_result: None,
        clients,
        output,
        is_output_refused: false,
        execs: Execs::default(),
        facts: Vec::new(),
        phase: Phase::Running,
        is_fenced: false,
        end: None,
    };
    shim.start(&payload_ends);
    // Only the payload may hold these now.
    drop(payload_ends);
    shim.serve()
}

struct Prepared {
    link: Link,
    listener: OwnedFd,
    deadline: Deadline,
    signals: SignalFd,
    pidfd: Option<OwnedFd>,
}

fn prepare(fds: ShimFds<'_>, isolation: Isolation, user: AgentUser) -> Result<Prepared, Errno> {
    if isolation == Isolation::Degraded {
        prctl::set_child_subreaper(true)?;
    }
    // The spawner ends with its agent; what a terminal or a service does to its session is not for us.
    let _ = setsid();
    sys::reap_by_waiting();
    // In place of the spawner's own socket.
    dup2_stdin(fds.null)?;
    if isolation == Isolation::UserNamespace {
        user.exist_in_new_namespace()?;
    }
    // Not even a payload of the same user can look into this process.
    prctl::set_dumpable(false)?;
    // Again, as who connects is told the process that listened last.
    listen(&fds.listener, Backlog::new(limits::SHIM_BACKLOG)?)?;
    // Deaths of children and what others want of us wait in this from now on.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGTERM);
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    Ok(Prepared {
        link: Link::new(fds.agent),
        listener: fds.listener,
        deadline: Deadline::new(LeaseCell::from_descriptor(fds.cell))?,
        signals,
        pidfd: sys::pidfd_open(getpid()).ok(),
    })
}

/// Waits for what to run; `None` if the agent is gone, or wants nothing any more.
fn receive_start(link: &mut Link) -> Option<Start> {
    loop {
        match link.hear() {
            Heard::Order(Ordered { order: Order::Start(start), .. }) => return Some(*start),
            Heard::Order(_) | Heard::End => return None,
            Heard::Nothing => {
                let mut watched = [PollFd::new(link.as_fd(), PollFlags::POLLIN)];
                sys::retry(|| poll(&mut watched, PollTimeout::NONE)).ok()?;
            }
        }
    }
}

/// Where a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The main process has not ended, and nobody wants it to.
    Running,
    /// Everything is being killed and reaped.
    Dying,
    /// Nothing of it is left; its output is on its way to the disk.
    Draining,
    /// All is known, and waits to be taken until this moment.
    Ended { keep_until: Duration },
}

struct Shim<'a> {
    null: &'a OwnedFd,
    isolation: Isolation,
    pid: Pid,
    pidfd: Option<OwnedFd>,
    recorded: Recorded,
    socket_path: PathBuf,
    payload: Payload,
    signals: SignalFd,
    deadline: Deadline,
    listener: OwnedFd,
    /// To the agent that connected last.
    link: Option<Link>,
    /// The main process, until it is reaped.
    main: Option<Pid>,
    /// What makes the main process, if that is not the shim itself.
    launcher: Option<Launcher>,
    /// A signal for the main process, from before there was one.
    early_signal: Option<u8>,
    /// Closed by the exec, so its end says that the program runs; a failure comes through it.
    exec_result: Option<OwnedFd>,
    /// Of its streams.
    clients: Clients,
    output: Output,
    /// The system refuses what is needed to write output: tried again in a while.
    is_output_refused: bool,
    execs: Execs,
    /// What every agent is told, in order.
    facts: Vec<Fact>,
    phase: Phase,
    /// The deadline has killed it.
    is_fenced: bool,
    end: Option<ChildEnd>,
}

/// A process between the shim and the main one, while that is being made.
struct Launcher {
    pid: Pid,
    /// Where it says which one that is.
    main: Option<OwnedFd>,
}

/// What the loop watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Deadline,
    Listener,
    Link,
    Launcher,
    Start,
    Output,
    Execs,
}

impl Shim<'_> {
    /// Makes the payload, or knows why not.
    fn start(&mut self, ends: &PayloadEnds) {
        if let Err(why) = self.try_start(ends) {
            self.failed(why);
        }
    }

    fn try_start(&mut self, ends: &PayloadEnds) -> Result<(), NotExecuted> {
        self.payload.confinement.prepare()?;
        let fork = |errno| NotExecuted::from((Stage::Fork, errno));
        let (exec_result, exec_reporter) = pipe2(OFlag::O_CLOEXEC).map_err(fork)?;
        let (main_result, main_reporter) = pipe2(OFlag::O_CLOEXEC).map_err(fork)?;
        match sys::fork().map_err(fork)? {
            ForkResult::Child => {
                let stdio = Stdio {
                    stdin: ends.stdin.as_ref().unwrap_or(self.null).as_fd(),
                    stdout: ends.stdout.as_fd(),
                    stderr: ends.stderr.as_fd(),
                    terminal: ends.terminal,
                };
                stdio.close_all_but(&[exec_reporter.as_fd(), main_reporter.as_fd()]);
                #[cfg(feature = "oci")]
                if let Some(launch) = container::launch_of(&self.payload) {
                    container::launch_and_exit(&self.payload, &launch, &stdio, exec_reporter, &main_reporter)
                }
                drop(main_reporter);
                let why = payload::execute(&self.payload, &stdio, self.isolation, self.pid, None);
                let _ = write(&exec_reporter, &why.encode());
                sys::exit_now(payload::exit_code(why.stage, why.errno))
            }
            ForkResult::Parent { child } => {
                if self.payload.launch.is_empty() {
                    self.main = Some(child);
                } else {
                    self.launcher = Some(Launcher { pid: child, main: Some(main_result) });
                }
                self.exec_result = Some(exec_result);
                // Of these only the environment is needed again.
                self.payload.arguments = Vec::new();
                Ok(())
            }
        }
    }

    fn failed(&mut self, why: NotExecuted) {
        self.end = Some(ChildEnd::Exited(payload::exit_code(why.stage, why.errno)));
        self.know(Fact::StartFailed(why));
        self.phase = Phase::Dying;
    }

    /// The loop, until the end is known elsewhere.
    fn serve(&mut self) -> i32 {
        // From now on the timer fires.
        self.look_at_deadline();
        loop {
            self.advance();
            if let Phase::Ended { keep_until } = self.phase
                && self.link.is_none()
            {
                // If its folder was removed, nobody will come.
                if deadline::now() >= keep_until || !self.socket_path.exists() {
                    return 0;
                }
                self.deadline.arm(keep_until.min(deadline::next_look()));
            }
            let Some(ready) = self.wait() else { return 1 };
            for source in ready {
                match source {
                    Source::Signals => self.read_signals(),
                    Source::Deadline => self.look_at_deadline(),
                    Source::Listener => self.take_connection(),
                    Source::Launcher => self.read_launcher(),
                    Source::Start => self.read_start(),
                    Source::Output => self.is_output_refused = self.output.attend().is_err(),
                    Source::Execs => {
                        let facts = self.execs.attend();
                        self.tell_all(&facts);
                    }
                    Source::Link => {
                        if self.hear() {
                            return 0;
                        }
                    }
                }
            }
        }
    }

    /// Waits until something is ready; `None` if even that is impossible.
    fn wait(&self) -> Option<Vec<Source>> {
        let mut watched = vec![
            (Source::Signals, self.signals.as_fd()),
            (Source::Deadline, self.deadline.as_fd()),
            (Source::Listener, self.listener.as_fd()),
        ];
        watched.extend(self.link.iter().map(|link| (Source::Link, link.as_fd())));
        let main = self.launcher.iter().filter_map(|launcher| launcher.main.as_ref());
        watched.extend(main.map(|main| (Source::Launcher, main.as_fd())));
        watched.extend(self.exec_result.iter().map(|result| (Source::Start, result.as_fd())));
        if !self.is_output_refused && self.phase != (Phase::Dying) {
            let is_over = matches!(self.phase, Phase::Ended { .. });
            let output = if is_over { Vec::new() } else { self.output.watched() };
            watched.extend(output.into_iter().map(|pipe| (Source::Output, pipe)));
        }
        watched.extend(self.execs.watched().into_iter().map(|result| (Source::Execs, result)));
        let timeout = match self.phase {
            Phase::Dying if self.isolation == Isolation::Degraded => milliseconds(limits::KILL_LOOP_PAUSE_MS),
            _ if self.is_output_refused => milliseconds(limits::LOG_THREAD_RETRY_MS),
            _ => PollTimeout::NONE,
        };
        let mut polled: Vec<_> = watched.iter().map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        sys::retry(|| poll(&mut polled, timeout)).ok()?;
        let ready = watched.iter().zip(&polled).filter_map(|((source, _), polled)| {
            polled.revents().is_some_and(|events| !events.is_empty()).then_some(*source)
        });
        let mut ready: Vec<_> = ready.collect();
        ready.dedup();
        if self.is_output_refused {
            ready.push(Source::Output);
        }
        Some(ready)
    }

    /// What follows from where the container is.
    fn advance(&mut self) {
        if self.phase == Phase::Dying && self.kill_rest() {
            self.know(Fact::Gone { at: wall_clock() });
            self.output.end();
            self.phase = Phase::Draining;
        }
        if self.phase == Phase::Draining && self.output.is_finished() {
            // Always known by now: the main process was a child.
            let end = self.end.unwrap_or(ChildEnd::Signaled(Signal::SIGKILL as i32));
            let log_bytes_dropped = self.output.dropped_bytes();
            self.know(Fact::Ended { end, fenced: self.is_fenced, log_bytes_dropped });
            self.phase = Phase::Ended { keep_until: self.deadline.keep_until() };
        }
    }

    /// Kills what is left; true if nothing is.
    fn kill_rest(&mut self) -> bool {
        let mut is_killed = false;
        loop {
            match sys::wait_any(false) {
                // Whatever a container's processes leave behind becomes ours, so there is no other either.
                Waited::NoChildren => return true,
                Waited::Ended(pid, end) => self.reaped(pid, end),
                Waited::NoneEnded if is_killed => return false,
                Waited::NoneEnded => {
                    // Not before somebody is left: the kernel looks at every process of the host for this.
                    is_killed = true;
                    if self.isolation.is_namespace() {
                        // Everything in the namespace but us, at once. Nothing can be forked past it: a fork fails in a
                        // process that has a signal pending.
                        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
                    } else {
                        // Nobody can end all of them at once here: it is gone round until no child is left, as whatever is
                        // orphaned meanwhile becomes ours.
                        processes::kill_descendants(self.pid);
                    }
                }
            }
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            // From the host, such as a service manager that stops everything it knows. Who is inside has a number.
            let is_inside = self.isolation.is_namespace() && signal.ssi_pid != 0;
            if signal.ssi_signo == Signal::SIGTERM as u32 && !is_inside {
                self.signal_main(Signal::SIGTERM as u8);
            }
        }
        // One SIGCHLD may stand for many children.
        while let Waited::Ended(pid, end) = sys::wait_any(false) {
            self.reaped(pid, end);
        }
    }

    fn reaped(&mut self, pid: Pid, end: ChildEnd) {
        if self.launcher.as_ref().is_some_and(|launcher| launcher.pid == pid) {
            // It may have said so right before its end.
            self.read_launcher();
            self.launcher = None;
            if self.main.is_none() && self.end.is_none() {
                // There will be none.
                self.main = Some(pid);
            }
        }
        if self.main == Some(pid) {
            // Its end has closed its side, maybe after the last look.
            self.read_start();
            self.main = None;
            self.end.get_or_insert(end);
            self.phase = Phase::Dying;
            return;
        }
        let facts = self.execs.ended(pid, end);
        self.tell_all(&facts);
    }

    /// Which process is the main one.
    fn read_launcher(&mut self) {
        let Some(main) = self.launcher.as_mut().and_then(|launcher| launcher.main.take()) else { return };
        let mut bytes = [0; size_of::<i32>()];
        // Nothing: it will end, and say why through the other pipe.
        if sys::retry(|| read(&main, &mut bytes)) == Ok(bytes.len()) {
            self.main = Some(Pid::from_raw(i32::from_ne_bytes(bytes)));
            if let Some(number) = self.early_signal.take() {
                self.signal_main(number);
            }
        }
    }

    fn look_at_deadline(&mut self) {
        if self.phase != Phase::Running {
            self.deadline.rest();
        } else if self.deadline.has_passed() {
            self.deadline.rest();
            self.is_fenced = true;
            self.phase = Phase::Dying;
        }
    }

    /// Passes on what the process that was to become the payload said, or that it has become it.
    fn read_start(&mut self) {
        let Some(result) = self.exec_result.take() else { return };
        match read_failure(&result) {
            None => self.know(Fact::Started { at: wall_clock() }),
            Some(why) => self.know(Fact::StartFailed(why)),
        }
    }

    fn take_connection(&mut self) {
        let Some(mut link) = Link::accept(&self.listener, self.isolation) else { return };
        // Only the newest agent is listened to: there is one per data folder, and the one before is gone.
        self.agent_is_gone();
        let hello = Hello {
            version: WIRE_VERSION,
            isolation: self.isolation,
            known: self.facts.len() as u32,
            container: Some(self.recorded.clone()),
        };
        link.tell(&Fact::Hello(hello), self.pidfd.as_ref().map(AsFd::as_fd));
        self.facts.iter().for_each(|fact| link.tell(fact, None));
        self.link = Some(link);
    }

    /// Carries out what the agent wants; true if the shim may go.
    fn hear(&mut self) -> bool {
        loop {
            let Some(link) = &mut self.link else { return false };
            match link.hear() {
                Heard::Nothing => return false,
                Heard::End => {
                    self.agent_is_gone();
                    return false;
                }
                Heard::Order(ordered) => {
                    if self.carry_out(ordered) {
                        return true;
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, ordered: Ordered) -> bool {
        let Ordered { order, mut descriptors } = ordered;
        match order {
            Order::Signal(number) => self.signal_main(number),
            Order::Kill => {
                if self.phase == Phase::Running {
                    self.phase = Phase::Dying;
                }
            }
            Order::Release => return matches!(self.phase, Phase::Ended { .. }),
            Order::Cell => {
                if let Some(cell) = descriptors.pop() {
                    self.deadline.replace_cell(LeaseCell::from_descriptor(cell));
                    self.look_at_deadline();
                }
            }
            Order::DiscardLog => self.output.discard(),
            Order::Exec(exec) => {
                let failure = match self.main {
                    Some(main) if self.phase == Phase::Running => {
                        let around = Surroundings {
                            payload: &self.payload,
                            isolation: self.isolation,
                            null: self.null,
                            shim: self.pid,
                            main,
                        };
                        self.execs.begin(exec, descriptors, &around)
                    }
                    _ => Some(Fact::ExecFailed { exec: exec.exec, why: (Stage::Fork, Errno::ESRCH).into() }),
                };
                self.tell_all(failure.as_slice());
            }
            Order::ExecKill { exec } => self.execs.kill(exec),
            Order::Attach(wanted) => self.attach(wanted, descriptors),
            Order::EndInput { attach } => {
                let is_closed = self.clients.end_input(attach);
                self.tell_all(is_closed.then_some(Fact::InputClosed).as_slice());
            }
            Order::Detach { attach } => {
                let is_closed = self.clients.detach(attach, &mut self.output);
                self.tell_all(is_closed.then_some(Fact::InputClosed).as_slice());
            }
            // There is one start per shim.
            Order::Start(_) => self.link = None,
        }
        false
    }

    fn attach(&mut self, wanted: Attach, descriptors: Vec<OwnedFd>) {
        let attach = wanted.attach;
        let outcome = match self.phase {
            Phase::Running => self.clients.attach(wanted, descriptors, &mut self.output),
            // The agent is told about the end, or has been.
            _ => Err(AttachRefusal::Failed),
        };
        let Some(link) = &mut self.link else { return };
        match outcome {
            Ok((input, terminal)) => link.tell(&Fact::Attached { attach, terminal }, input),
            Err(refusal) => link.tell(&Fact::AttachRefused { attach, refusal }, None),
        }
        self.look_at_link();
    }

    fn signal_main(&mut self, number: u8) {
        match self.main {
            // Not reaped yet, so this is still its id.
            Some(main) => sys::send_signal(main, number),
            None if self.launcher.is_some() => self.early_signal = Some(number),
            None => {}
        }
    }

    /// Tells the agent, and every later one.
    fn know(&mut self, fact: Fact) {
        self.tell_all(std::slice::from_ref(&fact));
        self.facts.push(fact);
    }

    fn tell_all(&mut self, facts: &[Fact]) {
        if let Some(link) = &mut self.link {
            facts.iter().for_each(|fact| link.tell(fact, None));
            self.look_at_link();
        }
    }

    fn look_at_link(&mut self) {
        if self.link.as_ref().is_some_and(Link::is_broken) {
            self.agent_is_gone();
        }
    }

    /// What was done for people behind it is over.
    fn agent_is_gone(&mut self) {
        self.link = None;
        self.execs.kill_all();
        self.clients.detach_all(&mut self.output);
    }
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// The beginning of a program's name, for messages.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(limits::SHOWN_PROGRAM_CHARS_MAX + 1).collect()
}

fn milliseconds(count: u64) -> PollTimeout {
    PollTimeout::from(u16::try_from(count).unwrap_or(u16::MAX))
}

/// Nanoseconds since the epoch.
fn wall_clock() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}
