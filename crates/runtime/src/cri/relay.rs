//! The relay: a small process between the agent and its engine that outlives the agent, so that starts come to an end.
//!
//! Owns: both sides of it. Does not own: which calls go through it (`engine`).
//!
//! An engine gives up what it does for a client that is gone. A start that is given up half way has perhaps begun, which nobody
//! can find out any more, and containerd can lose sight of what was made until then. So starts are asked for over a
//! connection that is not the agent's: when the agent is gone, the relay keeps it open until they are done, and the next
//! agent finds a container that runs. The guard ends that one too when the lease is over: the relay knows nothing of leases.
//!
//! It copies bytes and does not understand them. It blocks all signals, and ends by itself.

use super::guard_process::block_signals;
use crate::limits;
use crate::shim::sys;
use nix::sys::prctl;
use nix::unistd::{chdir, setsid};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// `argv[0]` of the relay.
const RELAY_NAME: &str = "stint-relay";

/// Bytes that are copied at once: more than a start and its answer have.
const BUFFER_BYTES: usize = 16 * 1024;

/// Runs the relay and never returns, if this process was started as one; else returns at once.
pub(crate) fn maybe_run_relay() {
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() == Some(OsStr::new(RELAY_NAME)) {
        std::process::exit(if run(arguments.collect()).is_ok() { 0 } else { 1 });
    }
}

/// A connection to the engine at `socket` that goes on without this process.
pub(super) async fn connect(program: PathBuf, socket: PathBuf) -> io::Result<tokio::net::UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = tokio::process::Command::new(program);
    command
        .arg0(RELAY_NAME)
        .arg(socket)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Dropped at once: it outlives this process, and is reaped in the background if it does not.
    drop(command.spawn()?);
    tokio::net::UnixStream::from_std(ours)
}

/// Arguments: the engine's socket. Descriptors: 0 a socket of the agent.
fn run(arguments: Vec<OsString>) -> io::Result<()> {
    let [socket] = <[OsString; 1]>::try_from(arguments).map_err(|_| io::ErrorKind::InvalidInput)?;
    sys::close_descriptors_but(&[]);
    // A terminal's Ctrl-C is for the agent.
    let _ = setsid();
    block_signals()?;
    let _ = chdir("/");
    let _ = prctl::set_name(c"stint-relay");
    let engine = UnixStream::connect(Path::new(&socket))?;
    let agent = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (from_engine, to_agent) = (engine.try_clone()?, agent.try_clone()?);
    std::thread::spawn(move || {
        answer(from_engine, to_agent);
        // Nothing can be asked any more.
        std::process::exit(0);
    });
    ask(agent, engine)?;
    // What was asked for goes on: an end of this connection, or of one half of it, would be one of the calls too.
    std::thread::sleep(Duration::from_millis(limits::RELAY_LINGER_MS));
    Ok(())
}

/// Passes on what the agent says, until it is gone.
fn ask(mut agent: File, mut engine: UnixStream) -> io::Result<()> {
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        match agent.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => engine.write_all(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It ended with something unread.
            Err(_) => return Ok(()),
        }
    }
}

/// Passes on what the engine says, until it is gone; to nobody, once the agent is.
fn answer(mut engine: UnixStream, mut agent: File) {
    let mut buffer = [0; BUFFER_BYTES];
    let mut agent_lives = true;
    loop {
        match engine.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) if agent_lives => {
                agent_lives = agent.write_all(buffer.get(..count).unwrap_or_default()).is_ok();
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
