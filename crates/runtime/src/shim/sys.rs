//! System calls that `nix` has no safe form of.
//!
//! Owns: thin wrappers, each with the reason why it is sound. Does not own: when to call them.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::{ForkResult, Pid};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildEnd {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// What waiting found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// This child ended and is reaped.
    Ended(Pid, ChildEnd),
    /// Children exist, none has ended.
    NoneEnded,
    /// There are no children.
    NoChildren,
}

/// Gives memory that this process has freed back to the system, as far as its C library can: the one of GNU keeps most of what
/// threads have freed, for as long as it lives. Takes milliseconds; what other threads allocate waits meanwhile.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called by any thread at any time; it takes the locks of the allocator itself, and moves nothing.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Repeats a call that a signal interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Reaps one child, any. Not `nix::sys::wait`, which fails for real-time signals.
pub(crate) fn wait_any(block: bool) -> Waited {
    let mut status = 0;
    let flags = if block { libc::__WALL } else { libc::__WALL | libc::WNOHANG };
    // SAFETY: `status` is valid for writes for the whole call.
    let result = retry(|| Errno::result(unsafe { libc::waitpid(-1, &mut status, flags) }));
    match result {
        Ok(0) => Waited::NoneEnded,
        Ok(pid) if libc::WIFEXITED(status) => {
            Waited::Ended(Pid::from_raw(pid), ChildEnd::Exited(libc::WEXITSTATUS(status)))
        }
        Ok(pid) => Waited::Ended(Pid::from_raw(pid), ChildEnd::Signaled(libc::WTERMSIG(status))),
        Err(_) => Waited::NoChildren,
    }
}

/// Copies this process into new namespaces and runs `child` there; its result is the copy's exit code.
///
/// To be called by a single-threaded process only: the child may then do anything that this process may.
pub(crate) fn clone_process(
    flags: CloneFlags,
    stack: &mut [u8],
    child: impl FnMut() -> i32,
) -> Result<Pid, Errno> {
    let mut child = child;
    let callback = Box::new(move || child() as isize);
    // SAFETY: without CLONE_VM the child has a copy of all memory, with `stack` as its stack, which nothing else there
    // uses; the callback lives in that copy. No other thread exists whose locks could be copied as held.
    unsafe { nix::sched::clone(callback, stack, flags - CloneFlags::CLONE_VM, Some(libc::SIGCHLD)) }
}

/// Copies this process, into a child that only prepares and executes a program.
pub(crate) fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: the only other thread that the caller may have copies output. What the child could find locked by it is the
    // allocator, which the C library makes usable in a child.
    unsafe { nix::unistd::fork() }
}

/// Sends a signal by its number, also a real-time one, which `nix` has no name for.
pub(crate) fn send_signal(pid: Pid, signal: u8) {
    // SAFETY: the call takes two integers. One that is no signal is refused.
    unsafe { libc::kill(pid.as_raw(), i32::from(signal)) };
}

/// Ends this process without running anything of it, for copies.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Sets every signal to its default; ignored ones would stay ignored across exec.
///
/// Not by the C library, which refuses to touch the two signals that it keeps for itself, though a parent may well have
/// left those ignored too.
pub(crate) fn reset_signal_dispositions() {
    // A kernel `sigaction` of zeros is SIG_DFL without flags on every architecture; this is larger than any of them.
    let default_action = [0_u64; 32];
    let old_action = std::ptr::null_mut::<u64>();
    // Bytes of a kernel signal mask.
    let mask_bytes = 8;
    for signal in 1..=64 {
        // SAFETY: the kernel reads the new action, which is valid, and is given nowhere to write the old one. SIG_DFL
        // installs no handler. SIGKILL and SIGSTOP answer EINVAL.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default_action.as_ptr(), old_action, mask_bytes)
        };
    }
}

/// Ignores SIGCHLD, so that the kernel reaps children by itself.
pub(crate) fn reap_automatically() {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Makes this process, and all that it starts, one like any other at the processors and the disks.
pub(crate) fn be_scheduled_as_usual() {
    // Names of the kernel's that the crate `libc` does not have.
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_AS_NICE: libc::c_int = 0;
    // The kernel's default.
    const TIMER_SLACK_NANOSECONDS: libc::c_ulong = 50_000;
    // SAFETY: a structure of integers, of which zeros are valid.
    let usual: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: `usual` is valid for reads for the whole call; the other calls take integers only. What a process without rights
    // may not take back, because it would be a gain, is refused.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &usual);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_AS_NICE);
        libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NANOSECONDS);
    }
}

/// Takes SIGCHLD's default back, so that children can be waited for.
pub(crate) fn reap_by_waiting() {
    // SAFETY: SIG_DFL installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Marks every descriptor from 3 on as closed on exec.
pub(crate) fn close_descriptors_on_exec() {
    // SAFETY: sets a flag on descriptors, closes none.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        return;
    }
    // Linux before 5.11. The folder's own descriptor is among those listed and harmless.
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    for descriptor in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok())
    {
        if descriptor > 2 {
            // SAFETY: sets a flag on a descriptor; a number that is no longer open answers EBADF.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

/// Closes every descriptor from 3 on but these. To be called by a process that has not opened any itself, or by a copy of one, which
/// runs none of the code that still counts on them.
pub(crate) fn close_descriptors_but(kept: &[BorrowedFd<'_>]) {
    let mut kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).filter(|raw| *raw > 2).collect();
    kept.sort_unstable();
    let mut from = 3;
    let mut is_done = true;
    for next in kept.iter().copied().chain([RawFd::MAX]) {
        if next > from {
            // SAFETY: the owners of what is closed are not used any more, as the caller promises.
            is_done &= unsafe { libc::syscall(libc::SYS_close_range, from, next - 1, 0) } == 0;
        }
        from = next.saturating_add(1);
    }
    if is_done {
        return;
    }
    // Linux before 5.9.
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    // Listed before any is closed: the folder's own is among them.
    for raw in open.collect::<Vec<_>>().into_iter().filter(|raw| *raw > 2 && !kept.contains(raw)) {
        // SAFETY: as above; one that is no longer open answers EBADF.
        unsafe { libc::close(raw) };
    }
}

/// A descriptor that becomes readable when the process has ended and, for a namespace's init, all of the namespace.
/// Fails with ENOSYS before Linux 5.3.
pub(crate) fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two integers.
    let raw = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just made this descriptor for us; it is closed on exec by definition.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}

/// Number of the process that a pidfd names, here; none if it has ended.
pub(crate) fn pid_of(pidfd: &OwnedFd) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|pid| *pid > 0)
}

/// Sends SIGKILL to the very process that a pidfd names.
pub(crate) fn pidfd_kill(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    pidfd_signal(pidfd, libc::SIGKILL)
}

/// Sends a signal to the very process that a pidfd names.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means that of kill(2).
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    Errno::result(result).map(drop)
}

/// Whether anybody has a file open for writing, this process included. The file is to be open for reading only, and to belong
/// to this process's user.
#[cfg(feature = "cri")]
pub(crate) fn is_open_for_writing(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    // The same on all architectures; the crate `libc` does not have it.
    const F_SETSIG: libc::c_int = 10;
    // A lease to read is given only if there is no writer. It is given back at once. Should somebody open the file for writing
    // just then, the kernel tells us by a signal: one that is ignored unless somebody asks for it.
    // SAFETY: the call takes three integers.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) })?;
    // SAFETY: as above.
    match Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) }) {
        Ok(_) => {
            // SAFETY: as above.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
            Ok(false)
        }
        Err(Errno::EAGAIN) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// Makes a descriptor one that async code can wait for.
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` answers the same open descriptor for as long as it exists, and the result owns it.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(io::Error::from)
}

/// Makes the terminal that is descriptor 0 the one of this process's session, which it has just begun.
pub(crate) fn make_controlling_terminal() -> Result<(), Errno> {
    // SAFETY: the call takes integers only.
    Errno::result(unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) }).map(drop)
}

/// Changes the size of a terminal, and tells those that use it.
pub(crate) fn set_terminal_size(terminal: BorrowedFd<'_>, size: &libc::winsize) -> Result<(), Errno> {
    // SAFETY: the call reads a `winsize`, which lives until it returns.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, size) }).map(drop)
}

/// Takes a descriptor that a call of `nix` has just returned.
pub(crate) fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: the caller has it from the kernel, and gives it to nobody else.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Descriptor 0, as the agent gave it to the spawner.
pub(crate) fn stdin() -> BorrowedFd<'static> {
    // SAFETY: descriptor 0 is open for as long as the process runs; a copy replaces it by `/dev/null`, never closes it.
    unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
}
