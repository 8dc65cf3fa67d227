//! Which system calls a payload may make.
//!
//! Owns: the profile, and its compilation to a BPF program. Does not own: installing it (`raw`), when that is right.
//!
//! Everything is allowed that this file knows and does not name below. What is named is refused with EPERM; numbers that are
//! not known here (newer kernels, the x32 ABI) with ENOSYS, as an old kernel would, so that libraries fall back; calls of
//! another architecture, such as 32-bit programs on a 64-bit kernel, end the process.
//!
//! The program is a binary search over ranges of numbers. A list that is compared one by one, as general compilers make it,
//! costs a container ten times as much: the kernel runs the program once for every number when it is installed.

use nix::libc::{self, c_long, sock_filter};
use std::sync::OnceLock;

/// How strict the profile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For containers with process ids of their own, which can see no process but theirs.
    Usual,
    /// Without that, nor a user of their own: other processes can't be traced or read either.
    NoTracing,
}

/// Highest system call that was looked at, as kernels number them since they gave all architectures the same numbers.
const NUMBER_MAX: u32 = 466;

/// Never needed by a program that minds its own business. Grouped by what they would open.
const REFUSED: &[c_long] = &[
    // Mounts: a namespace is shared by nobody, but bugs of this part of the kernel are.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Namespaces; the flags of `clone` are looked at, `clone3` is unknown.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Code in the kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Keys are not part of any namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Files by handles, which know no mounts.
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // The machine as a whole.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// As [`REFUSED`], on one architecture.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS__sysctl,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
];
/// As [`REFUSED`], on one architecture.
#[cfg(target_arch = "aarch64")]
const REFUSED_HERE: &[c_long] = &[libc::SYS_kexec_file_load];
/// As [`REFUSED`], on one architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REFUSED_HERE: &[c_long] = &[];

/// Reach into other processes of the same user.
const TRACING: &[c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
];

/// Flags of `clone` that make namespaces. `clone3` has its flags in memory, where a filter can't look.
const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Execution domains that are allowed: that of Linux with or without old version numbers, that of 32 bits, and the question.
const PERSONALITIES: &[u32] = &[0, 0x8, 0x2_0000, 0x2_0008, u32::MAX];

/// Requests to a terminal that put words into the mouth of whoever sits there.
const TERMINAL_INPUT: &[u32] = &[libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Refused,
    Unknown,
    /// Refused if any of these bits is set in the first argument.
    WithoutBits(u32),
    /// Refused unless the first argument is one of these.
    OnlyFirst(&'static [u32]),
    /// Refused if the argument of this number is one of these.
    Not(u32, &'static [u32]),
}

/// Whether somebody has made a profile for this architecture.
pub(crate) fn is_known() -> bool {
    ARCHITECTURE.is_some()
}

/// The program, or none on an architecture that nobody has made a profile for. Made once in a process: its copies have it.
pub(crate) fn program(profile: Profile) -> Option<&'static [sock_filter]> {
    static PROGRAMS: [OnceLock<Option<Vec<sock_filter>>>; 2] = [OnceLock::new(), OnceLock::new()];
    PROGRAMS[profile as usize].get_or_init(|| compile(profile)).as_deref()
}

fn compile(profile: Profile) -> Option<Vec<sock_filter>> {
    let mut code = vec![
        load(ARCHITECTURE_OFFSET),
        jump(BPF_JEQ, ARCHITECTURE?, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER_OFFSET),
    ];
    code.extend(search(&ranges(profile)));
    Some(code)
}

/// Verdicts for ranges of numbers, each from its number up to the next one's, the first from 0.
fn ranges(profile: Profile) -> Vec<(u32, Verdict)> {
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    let mut push = |number, verdict| {
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((number, verdict));
        }
    };
    (0..=NUMBER_MAX).for_each(|number| push(number, verdict(number, profile)));
    push(NUMBER_MAX + 1, Verdict::Unknown);
    ranges
}

fn verdict(number: u32, profile: Profile) -> Verdict {
    let number = c_long::from(number);
    match number {
        libc::SYS_clone3 => Verdict::Unknown,
        libc::SYS_clone => Verdict::WithoutBits(NAMESPACE_FLAGS),
        libc::SYS_personality => Verdict::OnlyFirst(PERSONALITIES),
        // Talks to the hypervisor.
        libc::SYS_socket => Verdict::Not(0, &[libc::AF_VSOCK as u32]),
        libc::SYS_ioctl => Verdict::Not(1, TERMINAL_INPUT),
        _ if REFUSED.contains(&number) || REFUSED_HERE.contains(&number) => Verdict::Refused,
        _ if profile == Profile::NoTracing && TRACING.contains(&number) => Verdict::Refused,
        _ => Verdict::Allowed,
    }
}

/// Code that finds the range of the number in the accumulator.
fn search(ranges: &[(u32, Verdict)]) -> Vec<sock_filter> {
    if let [(_, verdict)] = ranges {
        return decide(*verdict);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (pivot, low, high) = (high[0].0, search(low), search(high));
    // A conditional jump reaches 255 instructions far, an unconditional one anywhere.
    let over = instruction(BPF_JA, low.len() as u32, 0, 0);
    [vec![jump(BPF_JGE, pivot, 0, 1), over], low, high].concat()
}

fn decide(verdict: Verdict) -> Vec<sock_filter> {
    let (allow, refuse) =
        (answer(libc::SECCOMP_RET_ALLOW), answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    match verdict {
        Verdict::Allowed => vec![allow],
        Verdict::Refused => vec![refuse],
        Verdict::Unknown => vec![answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)],
        Verdict::WithoutBits(bits) => {
            vec![load(argument(0)), jump(BPF_JSET, bits, 0, 1), refuse, allow]
        }
        Verdict::OnlyFirst(values) => one_of(0, values, allow, refuse),
        Verdict::Not(number, values) => one_of(number, values, refuse, allow),
    }
}

/// Compares the low half of an argument: all that are looked at are `int`s for the kernel.
fn one_of(number: u32, values: &[u32], found: sock_filter, missing: sock_filter) -> Vec<sock_filter> {
    let mut code = vec![load(argument(number))];
    for (at, value) in values.iter().enumerate() {
        code.push(jump(BPF_JEQ, *value, (values.len() - at) as u8, 0));
    }
    code.extend([missing, found]);
    code
}

/// Offsets into what the kernel shows to the program.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;

const fn argument(number: u32) -> u32 {
    16 + 8 * number
}

const BPF_JA: u32 = libc::BPF_JMP | libc::BPF_JA;
const BPF_JEQ: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const BPF_JGE: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const BPF_JSET: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn answer(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0)
}

/// Skips that many instructions if the comparison holds, or if not.
fn jump(code: u32, value: u32, holds: u8, fails: u8) -> sock_filter {
    instruction(code, value, holds, fails)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    /// Runs the program as the kernel would; panics where the kernel would refuse to install it.
    fn run(program: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 2]) -> u32 {
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let one = program[at];
            at += 1;
            let holds = match u32::from(one.code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    accumulator = match one.k {
                        NUMBER_OFFSET => number,
                        ARCHITECTURE_OFFSET => architecture,
                        16 => arguments[0] as u32,
                        24 => arguments[1] as u32,
                        other => panic!("offset {other}"),
                    };
                    continue;
                }
                code if code == libc::BPF_RET | libc::BPF_K => return one.k,
                BPF_JA => {
                    at += one.k as usize;
                    continue;
                }
                BPF_JEQ => accumulator == one.k,
                BPF_JGE => accumulator >= one.k,
                BPF_JSET => accumulator & one.k != 0,
                other => panic!("code {other}"),
            };
            at += usize::from(if holds { one.jt } else { one.jf });
        }
    }

    #[test]
    fn every_number_gets_its_verdict() {
        for profile in [Profile::Usual, Profile::NoTracing] {
            let program = program(profile).unwrap();
            assert!(program.len() < 1000, "{} instructions", program.len());
            let ask = |number, arguments| run(program, ARCHITECTURE.unwrap(), number, arguments);
            for number in 0..=NUMBER_MAX {
                let expected = match verdict(number, profile) {
                    Verdict::Allowed => libc::SECCOMP_RET_ALLOW,
                    Verdict::Refused => EPERM,
                    Verdict::Unknown => ENOSYS,
                    // Below.
                    _ => continue,
                };
                assert_eq!(ask(number, [0, 0]), expected, "system call {number}");
            }
            for number in [NUMBER_MAX + 1, 1000, 0x4000_0000, 0x4000_0000 | libc::SYS_mount as u32, u32::MAX]
            {
                assert_eq!(ask(number, [0, 0]), ENOSYS, "system call {number}");
            }
            let tracing = if profile == Profile::Usual { libc::SECCOMP_RET_ALLOW } else { EPERM };
            assert_eq!(ask(libc::SYS_ptrace as u32, [16, 1]), tracing);
        }
    }

    #[test]
    fn arguments_are_looked_at() {
        let program = program(Profile::Usual).unwrap();
        let ask = |number: c_long, arguments| {
            run(program, ARCHITECTURE.unwrap(), u32::try_from(number).unwrap(), arguments)
        };
        let (allowed, sigchld) = (libc::SECCOMP_RET_ALLOW, libc::SIGCHLD as u64);
        assert_eq!(ask(libc::SYS_clone, [sigchld, 0]), allowed);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET] {
            assert_eq!(ask(libc::SYS_clone, [sigchld | flag as u64, 0]), EPERM);
        }
        assert_eq!(ask(libc::SYS_personality, [0xffff_ffff, 0]), allowed);
        assert_eq!(ask(libc::SYS_personality, [0x8, 0]), allowed);
        assert_eq!(ask(libc::SYS_personality, [0x004_0000, 0]), EPERM);
        assert_eq!(ask(libc::SYS_socket, [libc::AF_UNIX as u64, 1]), allowed);
        assert_eq!(ask(libc::SYS_socket, [libc::AF_VSOCK as u64, 1]), EPERM);
        // The upper half is not the kernel's business either.
        assert_eq!(ask(libc::SYS_ioctl, [0, 1 << 32 | libc::TIOCSTI]), EPERM);
        assert_eq!(ask(libc::SYS_ioctl, [0, libc::TIOCGWINSZ]), allowed);
    }

    #[test]
    fn another_architecture_ends_the_process() {
        let program = program(Profile::Usual).unwrap();
        let i386 = 0x4000_0003;
        assert_eq!(run(program, i386, 1, [0, 0]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn what_must_never_be_allowed_is_not() {
        for number in [
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_init_module,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_reboot,
        ] {
            assert_eq!(verdict(u32::try_from(number).unwrap(), Profile::Usual), Verdict::Refused);
        }
    }
}
