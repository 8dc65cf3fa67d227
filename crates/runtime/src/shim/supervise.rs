//! The shim: owner of one container's processes.
//!
//! Owns: starting the payload, forwarding orders and signals, reaping, the death of the whole tree. Does not own: how
//! the program is executed (`payload`).
//!
//! Invariant: `Exited` and `Signaled` are sent when this process has no child left, and a process of the container that
//! is not a descendant of this one can't exist: orphans come back to a namespace's init, or to a subreaper.

use super::wire::{self, Frame, Isolation, Order, Stage};
use super::{payload, spawner, sys};
use crate::limits;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid, dup2_stdin, getpid, pipe2, read, write};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use sys::{ChildEnd, Waited};

/// What the spawner hands over.
pub(super) struct ShimFds<'a> {
    /// Socket to the agent; nobody else holds its other end.
    pub agent: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// `/dev/null`.
    pub null: &'a OwnedFd,
}

/// Runs one container from its start to its end; the result is this process's exit code.
pub(super) fn run(fds: &ShimFds<'_>, isolation: Isolation) -> i32 {
    if prepare(fds, isolation).is_err() {
        return 1;
    }
    let Some(payload) = receive_payload(&fds.agent) else { return 1 };
    // Orders and deaths of children wait in these from now on.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGTERM);
    let Ok(signals) = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) else {
        return 1;
    };
    if let Err((stage, errno)) = payload::make_pod_directory(&payload) {
        return fail(fds, stage, errno);
    }
    // Closed by the exec, so its end says that the program runs; a failure comes through it.
    let (exec_result, exec_reporter) = match pipe2(OFlag::O_CLOEXEC) {
        Ok(pipe) => pipe,
        Err(errno) => return fail(fds, Stage::Fork, errno),
    };
    let shim = getpid();
    match sys::fork() {
        Err(errno) => fail(fds, Stage::Fork, errno),
        Ok(ForkResult::Child) => {
            let (stage, errno) = payload::execute(&payload, fds, isolation, shim);
            // Eight bytes fit into an empty pipe.
            let _ = write(&exec_reporter, &wire::encode_failure(stage, errno));
            sys::exit_now(payload::exit_code(stage, errno))
        }
        Ok(ForkResult::Parent { child }) => {
            drop((payload, exec_reporter));
            let end = wait_for_end(fds, &signals, exec_result, child);
            let end = end_tree(isolation, child, end);
            wire::send_frame(fds.agent.as_fd(), end_frame(end), None);
            0
        }
    }
}

fn prepare(fds: &ShimFds<'_>, isolation: Isolation) -> Result<(), Errno> {
    match isolation {
        // The spawner's end may have come before this line; then the agent's socket is the one to end us.
        Isolation::NamespaceWithProc | Isolation::NamespaceOnly => prctl::set_pdeathsig(Signal::SIGKILL)?,
        Isolation::Degraded => prctl::set_child_subreaper(true)?,
    }
    sys::reap_by_waiting();
    // In place of the spawner's own socket.
    dup2_stdin(fds.null)?;
    if isolation == Isolation::NamespaceWithProc {
        spawner::mount_proc()?;
    }
    // Before anything of the payload exists, so that the agent can wait for our end whatever happens to us.
    let pidfd = sys::pidfd_open(getpid()).ok();
    wire::send_frame(fds.agent.as_fd(), Frame::Born, pidfd.as_ref().map(AsFd::as_fd));
    Ok(())
}

fn receive_payload(agent: &OwnedFd) -> Option<crate::payload::Payload> {
    let mut length = [0; 4];
    read_whole(agent, &mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    // Texts have four bytes of length each, so the encoding is at most a few times the limit of the texts.
    if length > limits::SPEC_BYTES_MAX * 8 {
        return None;
    }
    let mut bytes = vec![0; length];
    read_whole(agent, &mut bytes)?;
    wire::decode_payload(&bytes)
}

fn read_whole(agent: &OwnedFd, mut bytes: &mut [u8]) -> Option<()> {
    while !bytes.is_empty() {
        match sys::retry(|| read(agent, bytes)) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes = &mut bytes[count..],
        }
    }
    Some(())
}

/// Waits until the main process has ended (`Some`), or the agent wants the container killed or is gone (`None`). Tells the
/// agent meanwhile whether the program runs.
fn wait_for_end(fds: &ShimFds<'_>, signals: &SignalFd, exec_result: OwnedFd, main: Pid) -> Option<ChildEnd> {
    let mut exec_result = Some(exec_result);
    loop {
        // Once it has come, the agent's socket is watched twice, which costs nothing.
        let third = exec_result.as_ref().unwrap_or(&fds.agent);
        let mut watched = [fds.agent.as_fd(), signals.as_fd(), third.as_fd()]
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
        if sys::retry(|| poll(&mut watched, PollTimeout::NONE)).is_err() {
            return None;
        }
        let ready = watched.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if ready[2] {
            exec_result.take().into_iter().for_each(|result| tell_start(fds, &result));
        }
        if ready[1] {
            while let Ok(Some(signal)) = signals.read_signal() {
                // From the host, such as a service manager that stops everything it knows.
                if signal.ssi_signo == Signal::SIGTERM as u32 {
                    let _ = kill(main, Signal::SIGTERM);
                }
            }
            // One SIGCHLD may stand for many children.
            while let Waited::Ended(pid, end) = sys::wait_any(false) {
                if pid == main {
                    // Its end has closed its side, maybe after the look above.
                    exec_result.take().into_iter().for_each(|result| tell_start(fds, &result));
                    return Some(end);
                }
            }
        }
        if ready[0] {
            let mut bytes = [0; Order::BYTES];
            match read_whole(&fds.agent, &mut bytes).and_then(|()| Order::decode(bytes)) {
                // Not reaped yet, so this is still its id.
                Some(Order::Signal(number)) => sys::send_signal(main, number),
                // To be killed, or nobody is left who could want it to run.
                _ => return None,
            }
        }
    }
}

/// Passes on what the process that was to become the payload said, or that it has become it.
fn tell_start(fds: &ShimFds<'_>, exec_result: &OwnedFd) {
    let mut bytes = [0; wire::FAILURE_BYTES];
    let frame = match sys::retry(|| read(exec_result, &mut bytes)) {
        Ok(wire::FAILURE_BYTES) => wire::decode_failure(bytes)
            .map_or(Frame::Started, |(stage, errno)| Frame::StartFailed { stage, errno }),
        _ => Frame::Started,
    };
    wire::send_frame(fds.agent.as_fd(), frame, None);
}

/// Kills and reaps everything that is left; returns how the main process ended.
fn end_tree(isolation: Isolation, main: Pid, mut end: Option<ChildEnd>) -> ChildEnd {
    match isolation {
        Isolation::NamespaceWithProc | Isolation::NamespaceOnly => {
            // Everything in the namespace but us, at once. Nothing can be forked past it: a fork fails in a process
            // that has a signal pending.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            while let Waited::Ended(pid, ended) = sys::wait_any(true) {
                if pid == main {
                    end = Some(ended);
                }
            }
        }
        // Nobody can end all of them at once here: go round until no child is left, as whatever is orphaned meanwhile
        // becomes ours.
        Isolation::Degraded => loop {
            match sys::wait_any(false) {
                Waited::NoChildren => break,
                Waited::Ended(pid, ended) if pid == main => end = Some(ended),
                Waited::Ended(..) => {}
                Waited::NoneEnded => {
                    kill_descendants();
                    std::thread::sleep(Duration::from_millis(limits::KILL_LOOP_PAUSE_MS));
                }
            }
        },
    }
    // Always known by now: the main process was a child.
    end.unwrap_or(ChildEnd::Signaled(Signal::SIGKILL as i32))
}

/// Sends SIGKILL to every descendant.
fn kill_descendants() {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // Gone since the folder was listed, if it can't be read.
        let Ok(status) = std::fs::read(format!("/proc/{pid}/stat")) else { continue };
        if let Some(parent) = parent_in_stat(&status) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut parents = vec![getpid().as_raw()];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            // A child of ours keeps its id until we reap it. A deeper one could end, and its id be given to a stranger,
            // between the listing and this line: one more reason why this mode is called degraded.
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            parents.push(child);
        }
    }
}

/// The parent's id in a line of `/proc/<pid>/stat`: second field after the name, which may contain anything.
fn parent_in_stat(line: &[u8]) -> Option<i32> {
    let after_name = line.iter().rposition(|byte| *byte == b')')? + 1;
    std::str::from_utf8(&line[after_name..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn end_frame(end: ChildEnd) -> Frame {
    match end {
        ChildEnd::Exited(code) => Frame::Exited { code },
        ChildEnd::Signaled(signal) => Frame::Signaled { signal },
    }
}

fn fail(fds: &ShimFds<'_>, stage: Stage, errno: Errno) -> i32 {
    wire::send_frame(fds.agent.as_fd(), Frame::StartFailed { stage, errno: errno as i32 }, None);
    wire::send_frame(fds.agent.as_fd(), Frame::Exited { code: payload::exit_code(stage, errno) }, None);
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent_in_stat(b"12 (true) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat(b"12 (a) S 3 (b)) R 9 1"), Some(9));
        assert_eq!(parent_in_stat(b"12 (\xff)) R 9 1"), Some(9));
        assert_eq!(parent_in_stat(b""), None);
    }
}
