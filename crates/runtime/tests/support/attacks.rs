//! What an attacker tries, whatever runs the container.
//!
//! System calls that no command makes are made by perl.
#![allow(dead_code, reason = "each test uses what it needs")]

use nix::libc;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Name, number, arguments.
pub type SystemCall = (&'static str, libc::c_long, &'static [i64]);

/// What would fail in another way, or succeed, if only it were let through.
pub const FORBIDDEN: &[SystemCall] = &[
    ("mount", libc::SYS_mount, &[0, 0, 0, 0, 0]),
    ("umount2", libc::SYS_umount2, &[0, 0]),
    ("pivot_root", libc::SYS_pivot_root, &[0, 0]),
    ("chroot", libc::SYS_chroot, &[0]),
    ("open_tree", libc::SYS_open_tree, &[-1, 0, 0]),
    ("move_mount", libc::SYS_move_mount, &[-1, 0, -1, 0, 0]),
    ("fsopen", libc::SYS_fsopen, &[0, 0]),
    ("mount_setattr", libc::SYS_mount_setattr, &[-1, 0, 0, 0, 0]),
    ("unshare", libc::SYS_unshare, &[0]),
    ("unshare of users", libc::SYS_unshare, &[libc::CLONE_NEWUSER as i64]),
    ("setns", libc::SYS_setns, &[-1, 0]),
    ("clone of users", libc::SYS_clone, &[(libc::CLONE_NEWUSER | libc::SIGCHLD) as i64, 0, 0, 0, 0]),
    ("clone3", libc::SYS_clone3, &[0, 0]),
    ("init_module", libc::SYS_init_module, &[0, 0, 0]),
    ("finit_module", libc::SYS_finit_module, &[-1, 0, 0]),
    ("delete_module", libc::SYS_delete_module, &[0, 0]),
    ("kexec_load", libc::SYS_kexec_load, &[0, 0, 0, 0]),
    ("bpf", libc::SYS_bpf, &[0, 0, 0]),
    ("perf_event_open", libc::SYS_perf_event_open, &[0, 0, 0, 0, 0]),
    ("userfaultfd", libc::SYS_userfaultfd, &[1]),
    ("io_uring_setup", libc::SYS_io_uring_setup, &[1, 0]),
    ("add_key", libc::SYS_add_key, &[0, 0, 0, 0, 0]),
    ("request_key", libc::SYS_request_key, &[0, 0, 0, 0]),
    ("keyctl", libc::SYS_keyctl, &[0, -3, 0]),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, &[-1, 0, 0]),
    ("reboot", libc::SYS_reboot, &[0, 0, 0, 0]),
    ("swapon", libc::SYS_swapon, &[0, 0]),
    ("acct", libc::SYS_acct, &[0]),
    ("syslog", libc::SYS_syslog, &[3, 0, 0]),
    ("settimeofday", libc::SYS_settimeofday, &[0, 0]),
    ("sethostname", libc::SYS_sethostname, &[0, 0]),
    ("personality", libc::SYS_personality, &[0x004_0000]),
    ("socket to the hypervisor", libc::SYS_socket, &[libc::AF_VSOCK as i64, 1, 0]),
    ("words for a terminal", libc::SYS_ioctl, &[0, libc::TIOCSTI as i64, 0]),
    ("one that is not known", 1000, &[]),
];

/// A line of perl that makes them and prints the number of the error of each, 0 if it succeeded.
pub fn system_calls(calls: &[SystemCall]) -> String {
    let mut script = String::new();
    for (_, number, arguments) in calls {
        script += &format!("$! = 0; $r = syscall({number}");
        arguments.iter().for_each(|argument| script += &format!(", {argument}"));
        script += "); print $r == -1 ? $!+0 : 0, qq(\\n);\n";
    }
    script
}

/// Each is refused as such.
pub fn assert_refused(calls: &[SystemCall], errors: &[i32]) {
    assert_eq!(errors.len(), calls.len());
    for ((name, ..), error) in calls.iter().zip(errors) {
        assert!([libc::EPERM, libc::ENOSYS].contains(error), "{name}: error {error}");
    }
}

/// The argument that makes this binary attack itself.
pub const ATTACK: &str = "attack-own-program";

pub fn is_attack(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|argument| argument == ATTACK)
}

/// Tries to change the program that this process runs, from within a container.
pub fn own_program() {
    let open = std::fs::File::open("/proc/self/exe");
    println!("opened: {:?}", open.as_ref().map(drop));
    if let Ok(open) = &open {
        println!("mode: {:?}", open.set_permissions(std::fs::Permissions::from_mode(0o6777)));
        println!("owner: {:?}", std::os::unix::fs::fchown(open, Some(1), Some(1)));
        println!("times: {:?}", open.set_modified(std::time::SystemTime::UNIX_EPOCH));
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(open));
        println!("written: {:?}", std::fs::File::options().write(true).open(again).map(drop));
    }
    println!(
        "truncated: {:?}",
        std::fs::File::options().write(true).truncate(true).open("/proc/self/exe").map(drop)
    );
    println!("attacked");
}

/// What must stay the same of a program.
pub fn facts(program: &Path) -> (u32, u32, u32, u64, i64) {
    let facts = std::fs::metadata(program).unwrap();
    (facts.mode(), facts.uid(), facts.gid(), facts.len(), facts.mtime())
}

/// A script that prints a file of the host, if the folder that it begins in is one of the host's.
pub fn climb_to(file: &Path) -> String {
    let up = "../".repeat(24);
    format!("cat {up}{}; true", file.strip_prefix("/").unwrap().display())
}
