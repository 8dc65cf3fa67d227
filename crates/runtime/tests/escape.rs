//! What a process container must not be able to do, and what it is promised: A13, the isolation of Pods.
//!
//! Has its own main: the shim is a re-exec of the running binary. Every case is run as root, without namespaces, and as an
//! unprivileged agent, as far as the machine allows; what is not run is said. System calls that no command makes are made by
//! perl, which every Debian has. Arguments that don't begin with `-` select cases by a part of their names.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test without harness reports by itself")]

#[path = "support/attacks.rs"]
mod attacks;

use std::future::Future;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use attacks::{FORBIDDEN, SystemCall};
use nix::libc;
use stint_runtime::{
    ContainerId, ContainerSpec, Error, Exit, ExitReason, Feature, LogStore, Mount, MountPropagation,
    NodePolicy, PodSandbox, PodSandboxSpec, ProcessRuntime, ProcessRuntimeOptions, ReadOptions,
    RunningContainer, Runtime, Seccomp, maybe_run_shim,
};

/// Who the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Root,
    Unprivileged,
    Degraded,
}

type Case = (&'static str, fn(Fixture) -> Pin<Box<dyn Future<Output = Outcome>>>);

/// What became of a case.
enum Outcome {
    Passed,
    /// The machine or the mode lacks what it is about.
    NotRun(&'static str),
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), |fixture| Box::pin($name(fixture)))),*] };
}

const CASES: &[Case] = cases![
    forbidden_system_calls_are_refused,
    another_pods_files_are_out_of_reach,
    the_agents_folder_is_hidden,
    nothing_outside_can_be_written_to,
    other_processes_are_out_of_reach,
    nothing_is_inherited,
    the_agents_standing_is_not_inherited,
    what_the_agent_was_started_with_is_closed,
    set_user_id_programs_gain_nothing,
    who_may_gain_privileges_is_filtered_all_the_same,
    the_pod_is_a_user_of_its_own,
    users_of_a_pod_share_its_folder_with_nobody_else,
    root_is_nobody_special,
    the_agents_program_is_not_changed_by_who_runs_it,
    a_working_folder_leads_nowhere_else,
    temporary_folders_are_private,
    r15_of_earlier_runs_little_is_kept,
    files_without_a_name_are_found,
    containers_of_a_pod_share_memory,
    the_host_has_the_pods_name,
    mounts_appear_where_they_are_wanted,
    mounts_above_the_agents_folder_leave_the_work_folder,
    links_in_volumes_lead_nowhere,
    what_policy_forbids_is_refused,
    groups_of_the_host_are_refused,
    read_only_root_leaves_the_work_folder,
    memory_is_limited,
    processes_are_limited,
    processors_are_limited_and_measured,
    groups_are_removed,
];

/// Where an unprivileged agent's own process of this test keeps its fixture.
const UNPRIVILEGED: u32 = 65_534;

fn main() {
    maybe_run_shim();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if attacks::is_attack(&arguments) {
        return attacks::own_program();
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let is_child = arguments.first().is_some_and(|argument| argument == "unprivileged");
    let wanted: Vec<_> =
        arguments.iter().skip(usize::from(is_child)).filter(|argument| !argument.starts_with('-')).collect();
    let is_root = nix::unistd::geteuid().is_root();
    let modes: &[Mode] = match (is_child, is_root) {
        (true, _) | (false, false) => &[Mode::Unprivileged],
        (false, true) => &[Mode::Root, Mode::Degraded],
    };
    let (mut passed, mut failed, mut not_run) = (0, 0, 0);
    for mode in modes {
        for (name, case) in CASES {
            if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
                continue;
            }
            let began = Instant::now();
            let outcome = std::panic::catch_unwind(|| {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                runtime.unwrap().block_on(async {
                    let work = async { case(Fixture::new(*mode).await).await };
                    tokio::time::timeout(Duration::from_secs(120), work).await.expect("the case hangs")
                })
            });
            let word = match outcome {
                Ok(Outcome::Passed) => {
                    passed += 1;
                    "ok".to_owned()
                }
                Ok(Outcome::NotRun(why)) => {
                    not_run += 1;
                    format!("not run: {why}")
                }
                Err(_) => {
                    failed += 1;
                    "FAILED".to_owned()
                }
            };
            println!("test {name} ({mode:?}) ... {word} in {} ms", began.elapsed().as_millis());
        }
    }
    for (tried, version) in &TRIED {
        let word = if tried.load(Ordering::Relaxed) { "tried" } else { "not run: no such limits here" };
        println!("limits by {}: {word}", version.as_str());
    }
    println!("{passed} passed, {failed} failed, {not_run} not run");
    let mut code = i32::from(failed > 0);
    if is_root && !is_child {
        code |= run_unprivileged(&wanted);
    }
    std::process::exit(code);
}

/// The same cases by an agent that is nobody, from a copy of this binary that nobody can read.
fn run_unprivileged(wanted: &[&String]) -> i32 {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("escape");
    std::fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    std::os::unix::fs::chown(&temporary, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
    let id = UNPRIVILEGED.to_string();
    let status = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all", "--"])
        .arg(&binary)
        .arg("unprivileged")
        .args(wanted)
        .env("TMPDIR", &temporary)
        .current_dir("/")
        .status();
    match status {
        Ok(status) => i32::from(!status.success()),
        Err(error) => {
            println!("the cases of an unprivileged agent are not run: no setpriv ({error})");
            0
        }
    }
}

/// One runtime with folders of its own.
struct Fixture {
    mode: Mode,
    folder: tempfile::TempDir,
    runtime: Arc<ProcessRuntime>,
    logs: LogStore,
    node: String,
}

static NEXT: AtomicU32 = AtomicU32::new(1);

fn next() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Fixture {
    async fn new(mode: Mode) -> Fixture {
        Fixture::with(mode, "").await
    }

    async fn with(mode: Mode, allowed: &str) -> Fixture {
        Fixture::within(mode, allowed, &std::env::temp_dir()).await
    }

    async fn within(mode: Mode, allowed: &str, base: &Path) -> Fixture {
        let folder = tempfile::tempdir_in(base).unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let logs = LogStore::open(&folder.path().join("data/logs")).unwrap();
        let mut policy = NodePolicy::default();
        policy.allow(allowed).unwrap();
        let node = format!("test-{}-{}", std::process::id(), next());
        let options = ProcessRuntimeOptions {
            force_degraded: mode == Mode::Degraded,
            policy,
            node_uid: Some(node.clone()),
            ..ProcessRuntimeOptions::new(logs.clone(), folder.path().join("data"))
        };
        let runtime = Arc::new(ProcessRuntime::new(options).await.unwrap());
        Fixture { mode, folder, runtime, logs, node }
    }

    fn has(&self, feature: Feature) -> bool {
        self.runtime.features().contains(&feature)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn pod(&self) -> Pod<'_> {
        self.pod_of(|_| {}).await.unwrap()
    }

    async fn pod_of(&self, change: impl FnOnce(&mut PodSandboxSpec)) -> Result<Pod<'_>, Error> {
        let uid = format!("00000000-0000-4000-8000-{:012x}", next());
        let directory = self.data().join("pods").join(&uid);
        let mut spec = PodSandboxSpec::new(&uid, directory.clone());
        change(&mut spec);
        Ok(Pod { fixture: self, uid, directory, sandbox: self.runtime.open_pod(spec).await?, user: None })
    }
}

/// One Pod of a fixture.
struct Pod<'a> {
    fixture: &'a Fixture,
    uid: String,
    directory: PathBuf,
    sandbox: Arc<dyn PodSandbox>,
    /// Of its system calls.
    user: Option<u32>,
}

impl Pod<'_> {
    fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    fn shell(&self, script: &str) -> ContainerSpec {
        self.spec(&["/bin/sh", "-c", script])
    }

    fn perl(&self, script: &str) -> ContainerSpec {
        self.spec(&["/usr/bin/perl", "-e", script])
    }

    /// Makes system calls; the number of the error of each, 0 if it succeeded.
    async fn system_calls(&self, calls: &[SystemCall]) -> Vec<i32> {
        let mut spec = self.perl(&attacks::system_calls(calls));
        spec.security.user = self.user;
        let (exit, text) = self.run(&spec).await;
        assert_eq!(exit.exit_code, 0, "{text}{}", exit.message);
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// A process that can be neither signalled nor traced nor read.
    async fn reaches_not(&self, pid: i32) {
        let script = format!(
            "$s = kill(9, {pid}); $t = syscall({}, 16, {pid}, 0, 0); $v = syscall({}, {pid}, 0, 0, 0, 0, 0); \
             $m = open(F, q(<), q(/proc/{pid}/mem)) ? 1 : 0; print qq($t $v $m\n); \
             exit($s && {pid} != 1 ? 1 : 0)",
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv
        );
        let (exit, text) = self.run(&self.perl(&script)).await;
        // Reading nothing of a process of one's own succeeds.
        assert!(exit.exit_code == 0 && text.starts_with("-1 ") && text.ends_with(" 0\n"), "{pid}: {text}");
    }

    async fn forbidden_are_refused(&self) {
        attacks::assert_refused(FORBIDDEN, &self.system_calls(FORBIDDEN).await);
    }

    fn spec(&self, command: &[&str]) -> ContainerSpec {
        let id = ContainerId::new(&self.uid, &format!("c{}", next()), 0).unwrap();
        ContainerSpec {
            command: command.iter().map(|text| (*text).to_owned()).collect(),
            ..ContainerSpec::new(id)
        }
    }

    async fn start(&self, spec: &ContainerSpec) -> Arc<dyn RunningContainer> {
        self.sandbox.start(spec.clone(), Box::pin(std::future::pending())).await.unwrap()
    }

    async fn refusal(&self, spec: &ContainerSpec) -> String {
        match self.sandbox.start(spec.clone(), Box::pin(std::future::pending())).await {
            Ok(_) => panic!("it was started"),
            Err(error) => error.to_string(),
        }
    }

    /// Runs it to its end; what it wrote.
    async fn run(&self, spec: &ContainerSpec) -> (Exit, String) {
        let exit = self.start(spec).await.wait().await;
        let mut reader = self.fixture.logs.reader(&spec.id, ReadOptions::default()).await.unwrap();
        let mut text = String::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            text.push_str(&String::from_utf8_lossy(&chunk.bytes));
        }
        (exit, text)
    }

    /// Stdout of a script that must succeed.
    async fn says(&self, script: &str) -> String {
        let (exit, text) = self.run(&self.shell(script)).await;
        assert_eq!(exit.exit_code, 0, "{script}: {text}{}", exit.message);
        text
    }

    /// A script that must fail, whatever it says.
    async fn fails(&self, script: &str) {
        let (exit, text) = self.run(&self.shell(script)).await;
        assert!(exit.exit_code != 0, "{script}: {text}");
        assert_ne!(exit.reason, ExitReason::StartError, "{script}: {}", exit.message);
    }
}

async fn forbidden_system_calls_are_refused(fixture: Fixture) -> Outcome {
    let pod = fixture.pod().await;
    pod.forbidden_are_refused().await;
    // Others work, or this would prove nothing.
    let allowed: &[SystemCall] = &[
        ("getpid", libc::SYS_getpid, &[]),
        ("personality", libc::SYS_personality, &[0xffff_ffff]),
        ("umask", libc::SYS_umask, &[0o22]),
        ("socket", libc::SYS_socket, &[libc::AF_UNIX as i64, 1, 0]),
    ];
    assert_eq!(pod.system_calls(allowed).await, [0; 4]);
    // As does what a program needs that is more than a shell.
    pod.says("perl -e 'fork // die; print 1' > /dev/null; find /etc -maxdepth 1 -name passwd | grep -q .")
        .await;
    Outcome::Passed
}

async fn another_pods_files_are_out_of_reach(fixture: Fixture) -> Outcome {
    let (owner, thief) = (fixture.pod().await, fixture.pod().await);
    owner.says("umask 022; echo secret > file; chmod 777 . file").await;
    let file = owner.work().join("file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "secret\n");
    if fixture.has(Feature::MountNamespaces) {
        // Even open to all: it is not there.
        thief.fails(&format!("cat {}", file.display())).await;
        thief.fails(&format!("ls {}", owner.directory.display())).await;
        let found = thief.says(&format!("ls {}", fixture.data().join("pods").display())).await;
        assert_eq!(found.trim(), thief.uid);
    } else {
        std::fs::set_permissions(owner.work(), std::fs::Permissions::from_mode(0o700)).unwrap();
        thief.fails(&format!("cat {}", file.display())).await;
    }
    Outcome::Passed
}

async fn the_agents_folder_is_hidden(fixture: Fixture) -> Outcome {
    if !fixture.has(Feature::MountNamespaces) {
        return Outcome::NotRun("no mount namespaces");
    }
    std::fs::write(fixture.data().join("journal"), "secret").unwrap();
    // A socket such as that of a shim.
    let socket = fixture.data().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let pod = fixture.pod().await;
    let found = pod.says(&format!("ls -a {}", fixture.data().display())).await;
    assert_eq!(found, ".\n..\npods\n");
    for path in ["journal", "logs", "socket"] {
        pod.fails(&format!("stat {}", fixture.data().join(path).display())).await;
    }
    let script = format!(
        "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) or exit 2; \
         exit(connect(S, pack_sockaddr_un(q({}))) ? 1 : 0)",
        socket.display()
    );
    let (exit, text) = pod.run(&pod.perl(&script)).await;
    assert_eq!(exit.exit_code, 0, "connected to a socket of the agent: {text}");
    // Nor by the root of another process, nor by taking the cover away.
    pod.fails(&format!("cat /proc/1/root{}/journal", fixture.data().display())).await;
    pod.fails(&format!("umount {}", fixture.data().display())).await;
    // Whatever is written there reaches nobody.
    pod.run(&pod.shell(&format!("echo x > {}/x", fixture.data().display()))).await;
    assert!(!fixture.data().join("x").exists());
    Outcome::Passed
}

async fn nothing_outside_can_be_written_to(fixture: Fixture) -> Outcome {
    if !fixture.has(Feature::MountNamespaces) {
        return Outcome::NotRun("no mount namespaces");
    }
    let open = fixture.folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let pod = fixture.pod().await;
    for path in ["/etc/stint-test", "/usr/stint-test", "/stint-test", "/dev/stint-test", "/sys/stint-test"] {
        pod.fails(&format!("echo x > {path}")).await;
        assert!(!Path::new(path).exists());
    }
    // Open to all, and below a private folder of the container: made there if at all.
    let (exit, _) = pod.run(&pod.shell(&format!("mkdir -p {0}; echo x > {0}/x", open.display()))).await;
    assert!(exit.exit_code != 0 || !open.join("x").exists());
    for file in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"] {
        pod.fails(&format!("echo x > {file}")).await;
    }
    pod.fails("mknod block b 8 0").await;
    pod.fails("cat /proc/kcore > /dev/null").await;
    // What every program needs works.
    let said = pod.says(
        "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo y > /dev/shm/y; \
         ls /dev | tr '\\n' ' '; tty < /dev/null; echo",
    );
    let said = said.await;
    assert!(said.starts_with("4\n4\nfd full mqueue null ptmx pts random shm"), "{said}");
    Outcome::Passed
}

async fn other_processes_are_out_of_reach(fixture: Fixture) -> Outcome {
    let victim = fixture.pod().await;
    let marker = format!("4242{}", next());
    let container = victim.start(&victim.shell(&format!("sleep {marker}; exit 3"))).await;
    let pod = fixture.pod().await;
    // All that can be seen, from the host's ids down: refused, or none of ours.
    let host_pid = loop {
        if let Some(pid) = pid_with(&marker) {
            break pid;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    pod.reaches_not(host_pid).await;
    if fixture.has(Feature::PidNamespaces) {
        // The shim is process 1: it can be neither killed nor stopped nor looked into.
        let text = pod.says("kill -9 1; kill -STOP 1; kill -TERM 1; sleep 0.1; echo here").await;
        assert!(text.ends_with("here\n"), "{text}");
        pod.reaches_not(1).await;
        for file in ["environ", "mem", "fd", "root"] {
            pod.fails(&format!("ls /proc/1/{file}/ || cat /proc/1/{file}")).await;
        }
        let count: usize = pod.says("ls /proc | grep -c '^[0-9]'").await.trim().parse().unwrap();
        assert!(count <= 5, "{count} processes are seen");
    }
    container.kill().await;
    assert_eq!(container.wait().await.exit_code, 137, "it lived until it was killed by us");
    Outcome::Passed
}

fn pid_with(marker: &str) -> Option<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"sleep\0") && line.windows(marker.len()).any(|part| part == marker.as_bytes())
    })
}

async fn nothing_is_inherited(fixture: Fixture) -> Outcome {
    let pod = fixture.pod().await;
    // 3 is the listed folder itself.
    assert_eq!(pod.says("ls /proc/self/fd").await, "0\n1\n2\n3\n");
    // Of the pipe's two ends, one is the program's: no socket, no folder, no pipe of others.
    let open = pod.says("ls -l /proc/self/fd | grep -cE 'socket|anon_inode'; true").await;
    assert_eq!(open.trim(), "0");
    assert_eq!(pod.says("ulimit -c; umask").await, "0\n0022\n");
    let status = pod
        .says("grep -E '^(NoNewPrivs|Seccomp|CapPrm|CapEff|CapInh|CapBnd|CapAmb|SigBlk|SigIgn):' /proc/self/status")
        .await;
    let none = "0000000000000000";
    for signals in ["SigBlk", "SigIgn"] {
        assert!(status.contains(&format!("{signals}:\t{none}")), "{status}");
    }
    for capabilities in ["CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb"] {
        // Who has no rights can't drop what it can't use.
        let unusable = fixture.mode == Mode::Unprivileged && !fixture.has(Feature::MountNamespaces);
        assert!(status.contains(&format!("{capabilities}:\t{none}")) || unusable, "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    Outcome::Passed
}

/// As a service of the host the agent may be spared when memory runs out, and be first at processors and disks. Its shims are
/// like it, its containers are not.
async fn the_agents_standing_is_not_inherited(fixture: Fixture) -> Outcome {
    let may_raise = fixture.mode != Mode::Unprivileged;
    // Root of a container may not be allowed to spare itself.
    let may_spare = std::fs::write("/proc/self/oom_score_adj", "-300").is_ok();
    let score = if may_spare { "-300" } else { "300" };
    let change = |score: &str, nice: &str, class: &str, slack: &str| {
        std::fs::write("/proc/self/oom_score_adj", score).unwrap();
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        for thread in threads.filter_map(|entry| entry.file_name().into_string().ok()).filter(|_| may_raise) {
            // One may have ended meanwhile.
            let run = |program: &str, arguments: &[&str]| {
                drop(Command::new(program).args(arguments).arg(&thread).output().unwrap());
            };
            run("renice", &["-n", nice, "-p"]);
            run("ionice", &["-c", class, "-p"]);
            drop(std::fs::write(format!("/proc/{thread}/timerslack_ns"), slack));
        }
    };
    change(score, "-7", "3", "1000000");
    let agents = Fixture::with(fixture.mode, "").await;
    let pod = agents.pod().await;
    let marker = format!("4545{}", next());
    let get_class = format!(
        "$c = syscall({}, 1, 0) >> 13; open F, q(</proc/self/stat); $n = (split q( ), <F>)[18]; \
         open F, q(</proc/self/oom_score_adj); $o = <F>; open F, q(</proc/self/timerslack_ns); $t = <F>; \
         chomp($o, $t); print qq($o $n $t ), $c == 3 ? 1 : 0",
        libc::SYS_ioprio_get
    );
    let (exit, of_main) = pod.run(&pod.perl(&get_class)).await;
    let container = pod.start(&pod.shell(&format!("sleep {marker}; exit 3"))).await;
    let spec = stint_runtime::ExecSpec {
        command: ["/usr/bin/perl", "-e", &get_class].map(str::to_owned).into(),
        stdout: true,
        ..Default::default()
    };
    let mut of_exec = String::new();
    let mut session = container.exec(spec).await.unwrap();
    tokio::io::AsyncReadExt::read_to_string(&mut session.stdout().unwrap(), &mut of_exec).await.unwrap();
    let shims_score = may_raise.then(|| score_of_shim_above(pid_with(&marker).unwrap()));
    container.kill().await;
    drop(container);
    change("0", "0", "0", "50000");
    assert_eq!(exit.exit_code, 0, "{of_main}{}", exit.message);
    assert_eq!(of_main, "500 0 50000 0");
    assert_eq!(of_exec, of_main);
    assert!(shims_score.as_ref().is_none_or(|shims| shims == score), "{shims_score:?}");
    Outcome::Passed
}

/// What the shim above a process has.
fn score_of_shim_above(pid: i32) -> String {
    let mut pid = pid;
    while !std::fs::read(format!("/proc/{pid}/cmdline")).unwrap().starts_with(b"stint-shim") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        pid = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap();
    }
    std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().to_owned()
}

/// A pipe of whoever started the agent ends with the agent, not with the last container.
async fn what_the_agent_was_started_with_is_closed(fixture: Fixture) -> Outcome {
    if fixture.mode == Mode::Unprivileged {
        return Outcome::NotRun("only root can look into a shim");
    }
    // Inherited by what is executed.
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let link = |pid: i32, fd: &str| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
    let raw = std::os::fd::AsRawFd::as_raw_fd(&writer).to_string();
    let pipe = link(i32::try_from(std::process::id()).unwrap(), &raw);
    let with_it = Fixture::with(fixture.mode, "").await;
    drop((reader, writer));
    let pod = with_it.pod().await;
    let marker = format!("4343{}", next());
    let container = pod.start(&pod.shell(&format!("sleep {marker}; exit 3"))).await;
    let mut pid = loop {
        if let Some(pid) = pid_with(&marker) {
            break pid;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    // The shell, and the shim.
    for _ in 0..2 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        pid = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap();
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let open: Vec<_> = open.map(|entry| link(pid, entry.file_name().to_str().unwrap())).collect();
        assert!(!open.is_empty() && !open.contains(&pipe), "{pid}: {open:?}");
    }
    container.kill().await;
    Outcome::Passed
}

async fn set_user_id_programs_gain_nothing(fixture: Fixture) -> Outcome {
    if fixture.mode == Mode::Unprivileged {
        return Outcome::NotRun("only root can make such a program");
    }
    let shell = fixture.folder.path().join("shell");
    std::fs::copy("/bin/sh", &shell).unwrap();
    std::fs::set_permissions(&shell, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let mut other =
        Fixture::with(fixture.mode, &format!("writable={}", fixture.folder.path().display())).await;
    let pod = other.pod().await;
    let said = pod.says(&format!("{} -p -c 'id -u'", shell.display())).await;
    assert_ne!(said.trim(), "0");
    drop(pod);
    other.node.clear();
    Outcome::Passed
}

async fn who_may_gain_privileges_is_filtered_all_the_same(fixture: Fixture) -> Outcome {
    let fixture = Fixture::with(fixture.mode, "root").await;
    let pod = fixture.pod().await;
    let mut spec =
        pod.shell("grep -E '^(NoNewPrivs|Seccomp|CapPrm|CapEff|CapInh|CapAmb):' /proc/self/status; id -u");
    spec.security.allow_privilege_escalation = Some(true);
    let (exit, status) = pod.run(&spec).await;
    assert_eq!(exit.exit_code, 0, "{status}{}", exit.message);
    let none = "0000000000000000";
    for capabilities in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert!(status.contains(&format!("{capabilities}:\t{none}")), "{status}");
    }
    // Who has no right to filter what may gain privileges can't let it gain any.
    let is_powerless = fixture.mode == Mode::Unprivileged && !fixture.has(Feature::MountNamespaces);
    assert!(status.contains(&format!("NoNewPrivs:\t{}", u8::from(is_powerless))), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let mut spec = pod.perl(&format!("$! = 0; syscall({}, 0); print $!+0", libc::SYS_unshare));
    spec.security.allow_privilege_escalation = Some(true);
    assert_eq!(pod.run(&spec).await.1, libc::EPERM.to_string());
    Outcome::Passed
}

async fn the_pod_is_a_user_of_its_own(fixture: Fixture) -> Outcome {
    let (first, second) = (fixture.pod().await, fixture.pod().await);
    let script = "id -u; id -g; id -G; stat -c '%u %g %a' .; touch mine; stat -c %u mine /tmp/. | head -1";
    let (one, two) = (first.says(script).await, second.says(script).await);
    if !fixture.has(Feature::Users) {
        assert_eq!(one, two);
        let message = match fixture.pod_of(|spec| spec.user = Some(1)).await {
            Ok(_) => panic!("it was allowed"),
            Err(error) => error.to_string(),
        };
        assert!(message.contains("--allow user=1"), "{message}");
        return Outcome::Passed;
    }
    assert_ne!(one, two);
    let uid: u32 = one.lines().next().unwrap().parse().unwrap();
    assert!(uid >= 2_000_000_000, "{one}");
    assert_eq!(one, format!("{uid}\n{uid}\n{uid}\n{uid} {uid} 700\n{uid}\n"));
    // Its next container is the same.
    assert_eq!(first.says("id -u").await.trim(), uid.to_string());
    // What was allowed explicitly.
    let allowing = Fixture::with(fixture.mode, "user=1234-1236").await;
    let pod = allowing.pod_of(|spec| {
        spec.user = Some(1234);
        spec.fs_group = Some(1235);
        spec.supplemental_groups = vec![1236];
    });
    let pod = pod.await.unwrap();
    let said = pod.says("id -u; id -g; id -G; stat -c '%u %g %a' .").await;
    assert_eq!(said, "1234\n1234\n1234 1235 1236\n1234 1235 2770\n");
    Outcome::Passed
}

/// Containers of a Pod that name users of their own begin in its working folder, and work in it. Users of other Pods can't, not
/// even where they have the same number.
async fn users_of_a_pod_share_its_folder_with_nobody_else(fixture: Fixture) -> Outcome {
    if !fixture.has(Feature::Users) {
        return Outcome::NotRun("no other users");
    }
    let fixture = Fixture::with(fixture.mode, "user=1234-1236").await;
    let several = |spec: &mut PodSandboxSpec| spec.other_users = true;
    for pod_user in [None, Some(1234)] {
        let pod = fixture.pod_of(|spec| (spec.user, spec.other_users) = (pod_user, true)).await.unwrap();
        assert_eq!(pod.says("echo first >of-the-pod; stat -c %a .").await, "2770\n");
        let mut other =
            pod.shell("id -u; cat of-the-pod; echo second >of-another; umask 077; echo third >closed");
        other.security.user = Some(1235);
        assert_eq!(pod.run(&other).await.1, "1235\nfirst\n");
        assert_eq!(
            pod.says("cat of-another; rm of-another; cat closed 2>/dev/null || echo closed").await,
            "second\nclosed\n"
        );
        let group = std::fs::metadata(pod.work()).unwrap().gid();
        assert!(group >= 2_000_000_000, "{group}");
        let thief = fixture.pod_of(several).await.unwrap();
        for user in [None, Some(1234), Some(1236)] {
            let script = format!("id -G; cat {0}/of-the-pod || ls {0} || cd {0}", pod.work().display());
            let mut spec = thief.shell(&script);
            spec.security.user = user;
            let (exit, text) = thief.run(&spec).await;
            assert!(
                exit.exit_code != 0 && exit.reason != ExitReason::StartError,
                "{user:?}: {text}{}",
                exit.message
            );
            assert!(!text.contains("first") && !text.contains(&group.to_string()), "{user:?}: {text}");
        }
    }
    Outcome::Passed
}

/// User 0, where it is allowed, owns files of the host and of `/proc` that no capability protects.
async fn root_is_nobody_special(fixture: Fixture) -> Outcome {
    if !fixture.has(Feature::Users) || !fixture.has(Feature::MountNamespaces) {
        return Outcome::NotRun("no other users");
    }
    let denied = fixture.pod().await;
    let mut spec = denied.shell("id -u");
    spec.security.user = Some(0);
    assert!(denied.refusal(&spec).await.contains("--allow root"));
    let allowing = Fixture::with(fixture.mode, "root").await;
    let pod = allowing.pod_of(|spec| spec.user = Some(0)).await.unwrap();
    assert_eq!(pod.says("id -u").await.trim(), "0");
    for script in [
        "echo x > /etc/stint-test",
        "echo x > /proc/sys/kernel/domainname",
        "echo core > /proc/sys/kernel/core_pattern",
        "echo x > /proc/sysrq-trigger",
        "echo x > /sys/kernel/mm/ksm/run",
        "mkdir /sys/fs/cgroup/memory/stint-test || mkdir /sys/fs/cgroup/stint-test",
        "cat /proc/kcore | head -c 1 | grep -q .",
        "mknod /tmp/block b 254 0",
        "chown 1 /tmp",
        "chroot / true",
        "mount -t tmpfs none /mnt",
        "dmesg",
    ] {
        pod.fails(script).await;
    }
    pod.forbidden_are_refused().await;
    Outcome::Passed
}

/// On its way to its own program a container's process is the agent's, and may have that executed again.
async fn the_agents_program_is_not_changed_by_who_runs_it(fixture: Fixture) -> Outcome {
    if !fixture.has(Feature::Users) {
        return Outcome::NotRun("it is another's already");
    }
    let allowing = Fixture::with(fixture.mode, "root").await;
    let pod = allowing.pod_of(|spec| spec.user = Some(0)).await.unwrap();
    let program = std::env::current_exe().unwrap();
    let before = attacks::facts(&program);
    let (exit, text) = pod.run(&pod.spec(&["/proc/self/exe", attacks::ATTACK])).await;
    assert_eq!((exit.exit_code, attacks::facts(&program)), (0, before), "{text}{}", exit.message);
    assert!(text.contains("attacked"), "{text}");
    Outcome::Passed
}

/// Nothing of the shim is open when the working folder is entered.
async fn a_working_folder_leads_nowhere_else(fixture: Fixture) -> Outcome {
    let secret = fixture.data().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let pod = fixture.pod().await;
    for number in 3..24 {
        let mut spec = pod.shell(&attacks::climb_to(&secret));
        spec.working_directory = Some(format!("/proc/self/fd/{number}").into());
        let (exit, text) = pod.run(&spec).await;
        let hidden = fixture.has(Feature::MountNamespaces);
        assert!(
            exit.reason == ExitReason::StartError || (hidden && !text.contains("secret")),
            "{number}: {text}"
        );
    }
    Outcome::Passed
}

async fn temporary_folders_are_private(fixture: Fixture) -> Outcome {
    if !fixture.has(Feature::MountNamespaces) {
        return Outcome::NotRun("no mount namespaces");
    }
    let (first, second) = (fixture.pod().await, fixture.pod().await);
    let name = format!("stint-test-{}", next());
    let script = format!(
        "for folder in /tmp /var/tmp /dev/shm; do echo $(ls $folder | grep -c {name}) $(stat -c %a $folder); \
         echo x > $folder/{name}; done"
    );
    let empty = "0 1777\n".repeat(3);
    assert_eq!(first.says(&script).await, empty);
    assert_eq!(second.says(&script).await, empty);
    assert!(!Path::new("/tmp").join(&name).exists() && !Path::new("/dev/shm").join(&name).exists());
    // On the disk, where it counts.
    assert!(stint_runtime::disk_usage(&first.directory, u64::MAX).unwrap().bytes > 0);
    let (exit, _) = first.run(&first.shell("head -c 100000000 /dev/zero > /dev/shm/big")).await;
    assert_ne!(exit.exit_code, 0, "shared memory is bounded");
    first.says("head -c 1000000 /dev/zero > /tmp/big").await;
    let taken = stint_runtime::disk_usage(&first.directory, u64::MAX).unwrap().bytes;
    assert!(taken >= 1_000_000, "{taken}");
    Outcome::Passed
}

/// A container that fails again and again fills no disk: of its runs the logs of the last two are kept, and what only the last
/// can see.
async fn r15_of_earlier_runs_little_is_kept(fixture: Fixture) -> Outcome {
    let pod = fixture.pod().await;
    let id = |run| ContainerId::new(&pod.uid, "again", run).unwrap();
    let log_of = async |run| {
        let mut reader = fixture.logs.reader(&id(run), ReadOptions::default()).await.unwrap();
        let chunk = reader.next().await.unwrap();
        chunk.map_or(String::new(), |chunk| String::from_utf8_lossy(&chunk.bytes).into_owned())
    };
    let temporary = || {
        let names = std::fs::read_dir(&pod.directory).unwrap().flatten().map(|entry| entry.file_name());
        let names = names.filter_map(|name| name.into_string().ok()).filter(|name| name.contains("tmp"));
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let has_view = fixture.has(Feature::MountNamespaces);
    for run in 0..5 {
        // Folders in folders, files of no rights.
        let script = "mkdir -p /tmp/a/b/c/d && touch /tmp/a/b/c/file && chmod 0 /tmp/a/b/c/file /tmp/a/b; echo said; exit 1";
        let script = if has_view { script } else { "echo said; exit 1" };
        let spec = ContainerSpec { id: id(run), ..pod.shell(script) };
        let container = pod.start(&spec).await;
        let exit = container.wait().await;
        assert_eq!((exit.exit_code, exit.reason), (1, ExitReason::Error), "{}", exit.message);
        for earlier in 0..=run {
            let expected = if earlier + 1 < run { "" } else { "said\n" };
            assert_eq!(log_of(earlier).await, expected, "of run {earlier} after {run}");
        }
        let of_last: std::collections::BTreeSet<_> = if has_view {
            [format!("tmp.again.{run}"), format!("var-tmp.again.{run}")].into()
        } else {
            [].into()
        };
        assert_eq!(temporary(), of_last);
        // What the last agent did not get to, the next run sees to.
        if run > 2 {
            container.release().await;
            assert!(temporary().is_empty(), "{:?}", temporary());
        }
    }
    Outcome::Passed
}

/// Who deletes what it goes on writing to still takes the disk.
async fn files_without_a_name_are_found(fixture: Fixture) -> Outcome {
    let has_mounts = fixture.has(Feature::MountNamespaces);
    let (pod, other) = (fixture.pod().await, fixture.pod().await);
    // The second is held by a child alone. Without mounts of its own /tmp is not the Pod's.
    let held = format!("/tmp/stint-test-{}-{}", std::process::id(), next());
    let script = format!(
        "exec 3>own; rm own; head -c 1000000 /dev/zero >&3; \
         (exec 4>{held} 3>&-; rm {held}; head -c 2000000 /dev/zero >&4; exec sleep 1000) & \
         exec 5>kept; sleep 1000"
    );
    let container = pod.start(&pod.shell(&script)).await;
    let idle = other.start(&other.shell("exec 3>own; rm own; sleep 1000")).await;
    let expected = if has_mounts { 3_000_000 } else { 1_000_000 };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = stint_runtime::deleted_files(&pod.directory, &pod.sandbox.ancestors());
        let bytes: u64 = found.files.iter().map(|file| file.bytes).sum();
        assert!(found.files.iter().all(|file| file.place.starts_with(&pod.directory)), "{found:?}");
        assert!(bytes < expected + 200_000, "{found:?}");
        if bytes >= expected {
            break;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Of another Pod, by its processes.
    let found = stint_runtime::deleted_files(&pod.directory, &other.sandbox.ancestors());
    assert_eq!(found.files, []);
    container.kill().await;
    idle.kill().await;
    assert!(pod.sandbox.ancestors().is_empty(), "nothing of it runs");
    Outcome::Passed
}

/// `/dev/shm` and memory by number are one for the containers of a Pod, and are the Pod's alone.
async fn containers_of_a_pod_share_memory(fixture: Fixture) -> Outcome {
    if fixture.mode != Mode::Root || !fixture.has(Feature::MountNamespaces) {
        return Outcome::NotRun("only root can make what containers share");
    }
    // Key, bytes, mode: makes it.
    let make = "system('echo word > /dev/shm/file'); print defined shmget(77, 4096, 0600 | 01000) ? 1 : 0";
    let find = "print -s '/dev/shm/file' ? 1 : 0, defined shmget(77, 4096, 0600) ? 1 : 0";
    let several = |spec: &mut PodSandboxSpec| spec.shares_ipc = true;
    let (pod, other) = (fixture.pod_of(several).await.unwrap(), fixture.pod_of(several).await.unwrap());
    assert_eq!(pod.run(&pod.perl(make)).await.1, "1");
    assert_eq!(pod.run(&pod.perl(find)).await.1, "11");
    assert_eq!(other.run(&other.perl(find)).await.1, "00");
    let single = fixture.pod().await;
    assert_eq!(single.run(&single.perl(find)).await.1, "00");
    assert!(pod.fixture.data().join("pods").join(&pod.uid).join("shm/file").exists());
    for pod in [&pod, &other] {
        pod.sandbox.close().await.unwrap();
        assert!(!pod.directory.join("shm/file").exists());
    }
    Outcome::Passed
}

async fn the_host_has_the_pods_name(fixture: Fixture) -> Outcome {
    if !fixture.has(Feature::MountNamespaces) {
        return Outcome::NotRun("no namespaces");
    }
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let pod = fixture.pod_of(|spec| spec.hostname = "pi-0-x7k2".to_owned()).await.unwrap();
    assert_eq!(pod.says("cat /proc/sys/kernel/hostname").await, "pi-0-x7k2\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
    Outcome::Passed
}

fn mount(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        source: source.to_owned(),
        target: target.into(),
        read_only,
        propagation: MountPropagation::Private,
    }
}

async fn mounts_appear_where_they_are_wanted(fixture: Fixture) -> Outcome {
    let pod = fixture.pod().await;
    pod.says("true").await;
    let volume = pod.directory.join("volumes/v");
    std::fs::create_dir_all(volume.join("sub")).unwrap();
    std::fs::write(volume.join("sub/file"), "content\n").unwrap();
    std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut spec = pod.shell(
        "cat /stint-a/b/sub/file /etc/stint-test/sub/file /usr/share/stint-file; echo x > /stint-a/b/new && \
         ! touch /etc/stint-test/no && ! touch /stint-a/no && echo said > /dev/termination-log && \
         cat /etc/passwd > /dev/null && ls / | grep -c stint-a && ls /stint-a/b/deep",
    );
    let last_words = pod.directory.join("termination");
    std::fs::write(&last_words, "").unwrap();
    std::fs::set_permissions(&last_words, std::fs::Permissions::from_mode(0o666)).unwrap();
    spec.mounts = vec![
        // A deeper one first: order does not matter.
        mount(&volume.join("sub"), "/stint-a/b/deep", true),
        mount(&volume, "/stint-a/b", false),
        mount(&volume, "/etc/stint-test", true),
        mount(&volume.join("sub/file"), "/usr/share/stint-file", true),
        mount(&last_words, "/dev/termination-log", false),
    ];
    if !fixture.has(Feature::MountNamespaces) {
        assert!(pod.refusal(&spec).await.contains("volumes"));
        return Outcome::NotRun("no mount namespaces");
    }
    let (exit, text) = pod.run(&spec).await;
    assert_eq!(exit.exit_code, 0, "{text}{}", exit.message);
    assert!(text.starts_with("content\ncontent\ncontent\n"), "{text}");
    assert!(text.ends_with("1\nfile\n"), "{text}");
    assert_eq!(std::fs::read_to_string(volume.join("new")).unwrap(), "x\n");
    assert_eq!(std::fs::read_to_string(&last_words).unwrap(), "said\n");
    for path in ["/stint-a", "/etc/stint-test", "/usr/share/stint-file"] {
        assert!(!Path::new(path).exists(), "{path} was made on the host");
    }
    // What can't be: a file over a folder.
    let mut spec = pod.shell("true");
    spec.mounts = vec![mount(&volume.join("sub/file"), "/etc", true)];
    let (exit, _) = pod.run(&spec).await;
    assert_eq!((exit.exit_code, exit.reason), (128, ExitReason::StartError));
    assert!(exit.message.contains("/etc exists as a folder"), "{}", exit.message);
    Outcome::Passed
}

/// What is mounted at `/tmp`, `/var` or deeper does not cover the folder in which a process begins, though that is below it.
async fn mounts_above_the_agents_folder_leave_the_work_folder(fixture: Fixture) -> Outcome {
    if !fixture.has(Feature::MountNamespaces) {
        return Outcome::NotRun("no mount namespaces");
    }
    let base = std::env::temp_dir();
    let elsewhere = if fixture.mode == Mode::Root { Path::new("/var/tmp") } else { base.as_path() };
    for base in [base.as_path(), elsewhere] {
        let fixture = Fixture::within(fixture.mode, "", base).await;
        let pod = fixture.pod().await;
        pod.says("true").await;
        let volume = pod.directory.join("volumes/v");
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o777)).unwrap();
        let above = pod.directory.ancestors().filter(|path| *path != Path::new("/"));
        for target in above.map(|path| path.to_str().unwrap()) {
            for read_only in [false, true] {
                let write = if read_only { "! touch" } else { "touch" };
                let mut spec = pod.shell(&format!(
                    "pwd; cd / && cd \"$HOME\" && echo x > mine && cat mine && {write} {target}/of-the-volume && \
                     ! ls {} && ! ls -d {}",
                    fixture.data().join("logs").display(),
                    pod.directory.join("volumes").display(),
                ).replace('$', "$$"));
                spec.mounts = vec![mount(&volume, target, read_only)];
                let (exit, text) = pod.run(&spec).await;
                assert_eq!(exit.exit_code, 0, "{target}: {text}{}", exit.message);
                assert!(text.starts_with(&format!("{}\nx\n", pod.work().display())), "{target}: {text}");
            }
            assert!(volume.join("of-the-volume").exists(), "{target}");
            std::fs::remove_file(volume.join("of-the-volume")).unwrap();
        }
    }
    Outcome::Passed
}

async fn links_in_volumes_lead_nowhere(fixture: Fixture) -> Outcome {
    if !fixture.has(Feature::MountNamespaces) {
        return Outcome::NotRun("no mount namespaces");
    }
    let victim = fixture.folder.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o777)).unwrap();
    let pod = fixture.pod().await;
    let volume = pod.directory.join("volumes/v");
    std::fs::create_dir_all(&volume).unwrap();
    std::os::unix::fs::symlink(&victim, volume.join("out")).unwrap();
    // As a source, such as by subPath.
    let mut spec = pod.shell("touch /mnt/x");
    spec.mounts = vec![mount(&volume.join("out"), "/mnt", false)];
    let (exit, _) = pod.run(&spec).await;
    assert_eq!(exit.reason, ExitReason::StartError);
    assert!(exit.message.contains("without following links"), "{}", exit.message);
    // By the name that it has in the manifest: where it is on the node is nobody's business.
    assert!(exit.message.contains("mounted at /mnt"), "{}", exit.message);
    assert!(!exit.message.contains(fixture.folder.path().to_str().unwrap()), "{}", exit.message);
    // As a place for a mount point to be made in.
    let mut spec = pod.shell("true");
    spec.mounts = vec![mount(&volume, "/mnt", false), mount(&volume, "/mnt/out/made", false)];
    let (exit, _) = pod.run(&spec).await;
    assert!(!victim.join("made").exists(), "{}", exit.message);
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
    Outcome::Passed
}

async fn what_policy_forbids_is_refused(fixture: Fixture) -> Outcome {
    let pod = fixture.pod().await;
    let mut spec = pod.shell("true");
    spec.mounts = vec![mount(Path::new("/etc"), "/mnt", true)];
    let message = pod.refusal(&spec).await;
    assert!(message.contains("--allow host-path=/etc") || message.contains("volumes"), "{message}");
    let mut spec = pod.shell("true");
    spec.security.seccomp = Seccomp::Unconfined;
    assert!(pod.refusal(&spec).await.contains("--allow unconfined"));
    let mut spec = pod.shell("true");
    spec.security.privileged = true;
    assert!(pod.refusal(&spec).await.contains("--allow privileged"));
    let mut spec = pod.shell("true");
    spec.security.capabilities_add = vec!["NET_ADMIN".to_owned()];
    assert!(pod.refusal(&spec).await.contains("--allow capability=NET_ADMIN"));
    if !fixture.has(Feature::MountNamespaces) {
        return Outcome::Passed;
    }
    let shown = fixture.folder.path().join("shown");
    std::fs::create_dir(&shown).unwrap();
    std::fs::write(shown.join("file"), "seen\n").unwrap();
    std::os::unix::fs::symlink("/etc", shown.join("etc")).unwrap();
    let allowing = Fixture::with(fixture.mode, &format!("host-path={}", shown.display())).await;
    let pod = allowing.pod().await;
    let mut spec = pod.shell("cat /mnt/file; ! touch /mnt/x");
    spec.mounts = vec![mount(&shown, "/mnt", true)];
    let (exit, text) = pod.run(&spec).await;
    assert_eq!((exit.exit_code, text.lines().next()), (0, Some("seen")));
    for (source, read_only) in [(shown.clone(), false), (shown.join("etc"), true)] {
        spec.mounts = vec![mount(&source, "/mnt", read_only)];
        assert!(pod.refusal(&spec).await.contains("--allow host-path="));
    }
    Outcome::Passed
}

/// A group opens files of the host, whatever a Pod wants it for.
async fn groups_of_the_host_are_refused(fixture: Fixture) -> Outcome {
    type Ask = fn(&mut PodSandboxSpec, u32);
    let asks: [Ask; 3] = [
        |spec, group| spec.group = Some(group),
        |spec, group| spec.supplemental_groups = vec![group],
        |spec, group| spec.fs_group = Some(group),
    ];
    for (group, missing) in [(0, "--allow root"), (42, "--allow user=42")] {
        for ask in asks {
            let refused = match fixture.pod_of(|spec| ask(spec, group)).await {
                Ok(_) => panic!("group {group} was given"),
                Err(error) => error,
            };
            assert!(
                matches!(refused, Error::NotAllowed { .. }) && refused.to_string().contains(missing),
                "{refused}"
            );
        }
    }
    if !fixture.has(Feature::Users) {
        return Outcome::NotRun("no other users");
    }
    let allowing = Fixture::with(fixture.mode, "user=42").await;
    for ask in asks {
        let pod = allowing.pod_of(|spec| ask(spec, 42)).await.unwrap();
        assert!(pod.says("id -G").await.split_whitespace().any(|group| group == "42"));
    }
    Outcome::Passed
}

async fn read_only_root_leaves_the_work_folder(fixture: Fixture) -> Outcome {
    let pod = fixture.pod().await;
    let mut spec = pod.shell("! touch /tmp/x && ! touch /var/tmp/x && touch mine /dev/shm/x");
    spec.security.read_only_root = true;
    if !fixture.has(Feature::MountNamespaces) {
        assert!(pod.refusal(&spec).await.contains("readOnlyRootFilesystem"));
        return Outcome::NotRun("no mount namespaces");
    }
    let (exit, text) = pod.run(&spec).await;
    assert_eq!(exit.exit_code, 0, "{text}{}", exit.message);
    Outcome::Passed
}

/// Versions of control groups that limits were tried with.
static TRIED: [(AtomicBool, Feature); 2] =
    [(AtomicBool::new(false), Feature::CgroupsV1), (AtomicBool::new(false), Feature::CgroupsV2)];

fn has_groups(fixture: &Fixture) -> bool {
    TRIED.iter().fold(false, |has, (tried, version)| {
        let is_here = fixture.has(*version);
        tried.fetch_or(is_here, Ordering::Relaxed);
        has || is_here
    })
}

async fn memory_is_limited(fixture: Fixture) -> Outcome {
    if !has_groups(&fixture) {
        return Outcome::NotRun("no control groups that the agent may use");
    }
    let pod = fixture.pod().await;
    let mut spec = pod.perl("$x = q(x) x 268435456; print length $x");
    spec.resources.memory_limit_bytes = Some(64 << 20);
    let (exit, text) = pod.run(&spec).await;
    assert_eq!((exit.exit_code, exit.reason), (137, ExitReason::OomKilled), "{text}");
    assert!(exit.message.contains("67108864"), "{}", exit.message);
    let mut spec = pod.perl("$x = q(x) x 16777216; print length $x");
    spec.resources.memory_limit_bytes = Some(64 << 20);
    let (exit, _) = pod.run(&spec).await;
    assert_eq!((exit.exit_code, exit.reason), (0, ExitReason::Completed));
    Outcome::Passed
}

async fn processes_are_limited(fixture: Fixture) -> Outcome {
    if !has_groups(&fixture) {
        return Outcome::NotRun("no control groups that the agent may use");
    }
    let pod = fixture.pod().await;
    let mut spec =
        pod.perl("while ($n < 5000 && defined($p = fork)) { if (!$p) { sleep 1000 } $n++ } print qq($n\\n)");
    spec.resources.processes_max = Some(20);
    let (exit, text) = pod.run(&spec).await;
    assert_eq!(exit.exit_code, 0, "{text}{}", exit.message);
    let made: u64 = text.trim().parse().unwrap();
    assert!((10..=20).contains(&made), "{made} processes were made");
    Outcome::Passed
}

async fn processors_are_limited_and_measured(fixture: Fixture) -> Outcome {
    if !has_groups(&fixture) {
        return Outcome::NotRun("no control groups that the agent may use");
    }
    let pod = fixture.pod().await;
    let mut spec = pod.shell("while :; do :; done");
    spec.resources.cpu_limit_millis = Some(200);
    let container = pod.start(&spec).await;
    let (began, before) = (Instant::now(), container.usage().await.unwrap());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = container.usage().await.unwrap();
    let share = (after.cpu_nanoseconds - before.cpu_nanoseconds) as f64 / began.elapsed().as_nanos() as f64;
    // It may get less on a busy machine.
    assert!(share > 0.0 && share < 0.3, "{share} of a processor");
    assert_eq!(after.processes, 1);
    assert!(after.memory_bytes > 0 && after.memory_bytes < 64 << 20, "{after:?}");
    let all = pod.sandbox.usage().await.unwrap();
    assert!(all.processes == 1 && all.disk_bytes.is_some(), "{all:?}");
    container.kill().await;
    Outcome::Passed
}

async fn groups_are_removed(fixture: Fixture) -> Outcome {
    if !has_groups(&fixture) {
        return Outcome::NotRun("no control groups that the agent may use");
    }
    let parents = group_folders(&format!("stint-{}", fixture.node));
    assert!(!parents.is_empty());
    let groups = || {
        let all = parents.iter().flat_map(|parent| std::fs::read_dir(parent).into_iter().flatten().flatten());
        all.filter(|entry| entry.file_type().unwrap().is_dir()).count()
    };
    let pod = fixture.pod().await;
    let container = pod.start(&pod.shell("setsid -f sleep 1000; sleep 1000")).await;
    assert_eq!(groups(), parents.len());
    container.kill().await;
    container.wait().await;
    assert_eq!(groups(), 0);
    // What an earlier agent left.
    for parent in &parents {
        std::fs::create_dir(parent.join("00000000-0000-4000-8000-000000000000_main.0")).unwrap();
    }
    fixture.runtime.recover().await.unwrap();
    assert_eq!(groups(), 0);
    Outcome::Passed
}

/// Folders of that name in hierarchies of control groups, right below where they are mounted.
fn group_folders(name: &str) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = table.lines().filter(|line| line.contains(" - cgroup"));
    let mut found: Vec<_> = mounts
        .map(|line| Path::new(line.split(' ').nth(4).unwrap()).join(name))
        .filter(|folder| folder.is_dir())
        .collect();
    found.sort();
    found.dedup();
    found
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for parent in group_folders(&format!("stint-{}", self.node)) {
            let _ = std::fs::remove_dir(parent);
        }
    }
}
