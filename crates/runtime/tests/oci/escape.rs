//! What a container must not be able to do, with a hostile image and user 0.

use crate::attacks::{self, FORBIDDEN};
use crate::fixture::{Fixture, exec, image};
use crate::images::Layer;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use stint_runtime::{ContainerSpec, ExecSpec, ExitReason, Mount, MountPropagation};
use tokio::io::AsyncReadExt;

fn mount(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        source: source.to_owned(),
        target: PathBuf::from(target),
        read_only,
        propagation: MountPropagation::Private,
    }
}

/// A container that has the host's programs to attack with.
fn armed(fixture: &Fixture, command: &[&str]) -> ContainerSpec {
    let links = ["lib", "lib64"].map(|name| (name, fs::read_link(Path::new("/").join(name))));
    let layer = links.into_iter().fold(Layer::default(), |layer, (name, to)| match to {
        Ok(to) => layer.symlink(name, to.to_str().unwrap()),
        Err(_) => layer,
    });
    fixture.add_image("armed:1", vec![layer], json!({}));
    let mut spec = fixture.spec(command);
    spec.image = Some(image("armed:1"));
    spec.mounts = vec![mount(Path::new("/usr"), "/usr", true)];
    spec
}

pub async fn forbidden_system_calls_are_refused(fixture: Fixture) {
    let script = attacks::system_calls(FORBIDDEN);
    let mut spec = armed(&fixture, &["/usr/bin/perl", "-e"]);
    // `$$` is an escape of `$` in commands.
    spec.command.push(script.replace('$', "$$"));
    let text = fixture.printed(&spec).await;
    attacks::assert_refused(FORBIDDEN, &text.lines().map(|line| line.parse().unwrap()).collect::<Vec<_>>());
}

/// On its way to its own program a container's process is the agent's, and an image may have that executed again.
pub async fn the_agents_program_is_not_changed_by_who_runs_it(fixture: Fixture) {
    let program = std::env::current_exe().unwrap();
    let before = attacks::facts(&program);
    let text = fixture.printed(&armed(&fixture, &["/proc/self/exe", attacks::ATTACK])).await;
    assert!(text.contains("attacked") && attacks::facts(&program) == before, "{text}");
    // The same by a program that somebody runs there.
    let container = fixture.start_ready(&armed(&fixture, &["sh", "-c", "echo ready; sleep 1000"])).await;
    let spec = ExecSpec {
        command: ["/proc/self/exe", attacks::ATTACK].map(str::to_owned).into(),
        stdout: true,
        ..ExecSpec::default()
    };
    let mut session = container.exec(spec).await.unwrap();
    let mut text = String::new();
    session.stdout().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(session.wait().await, 0);
    assert!(text.contains("attacked") && attacks::facts(&program) == before, "{text}");
    container.kill().await;
}

/// Who watches for what enters its container finds nothing of the shim's.
pub async fn who_enters_shows_nothing_of_the_shim(fixture: Fixture) {
    let watch = "echo ready; while :; do for p in /proc/[0-9]*; do
            test $p = /proc/1 || test $p = /proc/$$ || ls -l $p/exe $p/fd/ 2>/dev/null; done; done | grep -e '->' >> /seen";
    let container = fixture.start_ready(&fixture.shell(watch)).await;
    for _ in 0..60 {
        exec(&*container, "true").await;
    }
    let (_, seen) = exec(&*container, "cat /seen").await;
    container.kill().await;
    // The last one may not be written to its end.
    let whole = seen.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines() {
        let (_, to) = line.split_once(" -> ").unwrap_or_else(|| panic!("{line:?}"));
        let is_its_own = ["/bin/", "/dev/null", "/seen", "/proc/"].iter().any(|own| to.starts_with(own));
        // Nothing: it had gone between two looks.
        assert!(is_its_own || to.starts_with("pipe:") || to.is_empty(), "{line:?}");
    }
}

/// Nothing of the shim is open when the working folder is entered, whoever names it.
pub async fn a_working_folder_leads_nowhere_else(fixture: Fixture) {
    let secret = fixture.folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let climb = attacks::climb_to(&secret);
    for number in 3..24 {
        let folder = format!("/proc/self/fd/{number}");
        let mut spec = fixture.shell(&climb);
        spec.working_directory = Some(folder.clone().into());
        let exit = fixture.run(&spec).await;
        let text = fixture.text(&spec).await;
        assert!(!text.contains("secret"), "{number}: {text}");
        assert!(exit.exit_code == 0 || exit.reason == ExitReason::StartError, "{number}: {}", exit.message);
    }
    // A link of the image, also for those who come later.
    let layer = Layer::default().symlink("work", "/proc/self/fd/8");
    fixture.add_image("linked:1", vec![layer], json!({"WorkingDir": "/work"}));
    let mut spec = fixture.shell(&climb);
    spec.image = Some(image("linked:1"));
    fixture.run(&spec).await;
    assert!(!fixture.text(&spec).await.contains("secret"));
    // A folder that the container exchanges after its start.
    let script = "rmdir /srv/later; ln -s /proc/self/fd/8 /srv/later; echo ready; sleep 1000";
    let mut spec = fixture.shell(&format!("cd /; {script}"));
    spec.working_directory = Some("/srv/later".into());
    let container = fixture.start_ready(&spec).await;
    let command = ExecSpec {
        command: ["sh", "-c", &climb].map(str::to_owned).into(),
        stdout: true,
        ..ExecSpec::default()
    };
    if let Ok(mut session) = container.exec(command).await {
        let mut text = String::new();
        session.stdout().unwrap().read_to_string(&mut text).await.unwrap();
        assert!(!text.contains("secret"), "{text}");
    }
    container.kill().await;
}

pub async fn nothing_is_inherited(fixture: Fixture) {
    let list = "ls /proc/self/fd | tr '\\n' ' '; ls -l /proc/self/fd | grep -cE 'socket|anon_inode|memfd'";
    let container = fixture.start_ready(&fixture.shell(&format!("{list}; echo ready; sleep 1000"))).await;
    let (_, of_exec) = exec(&*container, list).await;
    container.kill().await;
    let text = fixture.printed(&fixture.shell(&format!("{list}; true"))).await;
    for found in [text, of_exec] {
        assert_eq!(found, "0 1 2 3 0\n");
    }
    // Nor what the agent has of the host's favour, of its mask, its signals.
    let facts = "cat /proc/self/oom_score_adj; cut -d' ' -f19 /proc/self/stat; cat /proc/self/timerslack_ns; umask; \
                 grep -E 'SigBlk|SigIgn' /proc/self/status | cut -f2";
    let expected = "500\n0\n50000\n0022\n0000000000000000\n0000000000000000\n";
    // Root of a container may not be allowed to spare itself.
    let spare = std::fs::write("/proc/self/oom_score_adj", "-300");
    spare.or_else(|_| std::fs::write("/proc/self/oom_score_adj", "300")).unwrap();
    // Its spawner is made now.
    let fixture = fixture.successor().await;
    std::fs::write("/proc/self/oom_score_adj", "0").unwrap();
    let container = fixture.start_ready(&fixture.shell("echo ready; sleep 1000")).await;
    let of_exec = exec(&*container, facts).await;
    container.kill().await;
    assert_eq!(of_exec, (0, expected.to_owned()));
    assert_eq!(fixture.printed(&fixture.shell(facts)).await, expected);
}

pub async fn other_pods_are_out_of_reach(fixture: Fixture) {
    let owner = fixture.shell("umask 0; echo secret > /file; echo ready; sleep 1000");
    let owners = fixture.start_ready(&owner).await;
    let marker = crate::processes::marker();
    let spec = ExecSpec { command: ["sleep", &marker].map(str::to_owned).into(), ..ExecSpec::default() };
    let session = owners.exec(spec).await.unwrap();
    let host_pids = processes_with(&marker);
    assert!(!host_pids.is_empty());
    // It is there, in the folder of its Pod.
    let upper = fixture.pod(&owner).directory.join("oci/main.0/upper/file");
    assert_eq!(fs::read_to_string(&upper).unwrap(), "secret\n");
    let data = fixture.folder.path().display();
    let pids = host_pids.iter().map(i32::to_string).collect::<Vec<_>>().join(" ");
    let script = format!(
        "test -e {data} && echo folder; test -e {} && echo file; \
         for pid in {pids}; do kill -9 $pid 2>/dev/null && echo killed $pid; cat /proc/$pid/environ 2>/dev/null; done; \
         for fd in /proc/1/fd/* /proc/self/fd/*; do ls $fd/../.. 2>/dev/null | grep -q secret && echo fd; done; \
         ls /proc/1/root/ | grep -qx file && echo root; grep -c . /proc/self/mountinfo; \
         grep {data} /proc/self/mountinfo | grep -v ' / / ' && echo mount; true",
        upper.display()
    );
    // Its own process of that number, if it has one, is none of the other's.
    let text = fixture.printed(&fixture.shell(&script)).await;
    for word in ["folder", "file", "fd", "root", "mount"] {
        assert!(!text.lines().any(|line| line == word), "{text}");
    }
    assert_eq!(processes_with(&marker), host_pids, "{text}");
    drop(session);
    owners.kill().await;
}

fn processes_with(marker: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut found: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"sleep\0") && line.windows(marker.len()).any(|part| part == marker.as_bytes())
        })
        .collect();
    found.sort_unstable();
    found
}

pub async fn links_in_volumes_lead_nowhere(fixture: Fixture) {
    let victim = fixture.folder.path().join("victim");
    let volume = fixture.folder.path().join("volume");
    for folder in [&victim, &volume] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    std::os::unix::fs::symlink(&victim, volume.join("out")).unwrap();
    std::os::unix::fs::symlink("/proc/self/root", volume.join("magic")).unwrap();
    // As a source, which its volume's other container may have put there a moment ago.
    for source in [volume.join("out"), volume.join("out/x"), volume.join("magic"), volume.join("magic/etc")] {
        let mut spec = fixture.shell("touch /mnt/x");
        spec.mounts = vec![mount(&source, "/mnt", false)];
        let exit = fixture.run(&spec).await;
        assert_eq!(exit.reason, ExitReason::StartError, "{}", source.display());
        assert!(exit.message.contains("without following links"), "{}", exit.message);
        // By the name that it has in the manifest: where it is on the node is nobody's business.
        assert!(exit.message.contains("mounted at /mnt"), "{}", exit.message);
        assert!(!exit.message.contains(fixture.folder.path().to_str().unwrap()), "{}", exit.message);
    }
    // As a place for a mount point to be made in: in the volume, and in the image.
    fixture.add_image(
        "outward:1",
        vec![Layer::default().symlink("out", victim.to_str().unwrap())],
        json!({}),
    );
    for target in ["/vol/out/made", "/out/made"] {
        let mut spec = fixture.shell("true");
        spec.image = Some(image("outward:1"));
        spec.mounts = vec![mount(&volume, "/vol", false), mount(&volume, target, false)];
        fixture.run(&spec).await;
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{target}");
    }
    // Where the runtime itself mounts and writes.
    for folder in ["proc", "dev", "sys", "etc", "srv"] {
        let layer = Layer::default().whiteout(folder).symlink(folder, victim.to_str().unwrap());
        fixture.add_image(&format!("{folder}:1"), vec![layer], json!({"WorkingDir": "/srv/made"}));
        let mut spec = fixture.shell("true");
        spec.image = Some(image(&format!("{folder}:1")));
        if let Ok(container) = fixture.try_start(spec).await {
            container.wait().await;
        }
        let found: Vec<_> = fs::read_dir(&victim).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(found.is_empty(), "{folder}: {found:?}");
    }
}

pub async fn the_host_is_not_written_to(fixture: Fixture) {
    let script = "for file in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sysrq-trigger \
            /sys/kernel/uevent_helper /sys/kernel/mm/ksm/run /proc/sys/vm/drop_caches /proc/irq/default_smp_affinity; do \
            (echo x > $file) 2>/dev/null && echo wrote $file; done; \
         for file in /proc/kcore /proc/keys /proc/timer_list; do \
            test $(head -c 1 $file 2>/dev/null | wc -c) = 0 || echo read $file; done; \
         for type in cgroup cgroup2 sysfs proc debugfs securityfs; do \
            mkdir -p /tmp/$type; mount -t $type none /tmp/$type 2>/dev/null && echo mounted $type; done; \
         find / -xdev -type b 2>/dev/null; ls /sys/fs/cgroup | head -n 1; \
         for number in '1 1' '1 2' '4 64' '10 200'; do mknod /tmp/d c $number 2>/dev/null && echo made $number; done; \
         ls -l /proc/1/ns/net > /dev/null; true";
    // It is the first process itself, which may see its own namespaces.
    assert_eq!(fixture.printed(&fixture.shell(script)).await, "");
    assert_ne!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap().trim(), "x");
}
