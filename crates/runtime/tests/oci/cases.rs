//! What runs, and how it ends.

use crate::fixture::{Fixture, exec, image};
use crate::images::Layer;
use serde_json::json;
use std::fs;
use std::path::Path;
use stint_runtime::{
    ContainerId, Error, ExecSpec, ExitReason, ImageReason, ImageSpec, Mount, MountPropagation, PullPolicy,
};

pub async fn p5_exit_codes_and_signals(fixture: Fixture) {
    for (script, code, reason) in [
        ("exit 0", 0, ExitReason::Completed),
        ("exit 7", 7, ExitReason::Error),
        ("exit 255", 255, ExitReason::Error),
    ] {
        let exit = fixture.run(&fixture.shell(script)).await;
        assert_eq!(
            (exit.exit_code, exit.signal, exit.reason),
            (code, None, reason),
            "{script}: {}",
            exit.message
        );
    }
    let container = fixture.start_ready(&fixture.shell("echo ready; sleep 100")).await;
    assert!(container.runtime_id().starts_with("oci://"));
    assert!(container.image_id().starts_with("docker.io/library/box@sha256:"), "{}", container.image_id());
    container.kill().await;
    let exit = container.wait().await;
    assert_eq!((exit.exit_code, exit.signal, exit.fenced), (137, Some(9), false));
}

pub async fn the_image_says_what_the_pod_does_not(fixture: Fixture) {
    assert_eq!(fixture.printed(&fixture.spec(&[])).await, "from the image\n");
    let mut spec = fixture.spec(&[]);
    spec.args = vec!["other".to_owned(), "$(FROM)".to_owned()];
    assert_eq!(fixture.printed(&spec).await, "other image\n");
    // A folder that the image names but does not have.
    assert_eq!(fixture.printed(&fixture.spec(&["pwd"])).await, "/srv/made\n");
    let mut spec = fixture.spec(&["pwd"]);
    spec.working_directory = Some("/etc".into());
    assert_eq!(fixture.printed(&spec).await, "/etc\n");
}

pub async fn output_and_environment_are_exact(fixture: Fixture) {
    let mut spec = fixture.spec(&["env"]);
    spec.env = vec![("BOTH".to_owned(), "pod".to_owned()), ("REF".to_owned(), "$(FROM)+$(BOTH)".to_owned())];
    let text = fixture.printed(&spec).await;
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["BOTH=pod", "FROM=image", "HOME=/root", path, "REF=image+pod"]);
    let spec =
        fixture.shell("seq 1 20000; cat; ls /proc/self/fd | wc -l; umask; grep SigBlk /proc/self/status");
    let text = fixture.printed(&spec).await;
    let tail: Vec<_> = text.lines().skip(20_000).map(str::trim).collect();
    // Standard input is empty; three streams, and the folder that is listed.
    assert_eq!(tail, ["4", "0022", "SigBlk:\t0000000000000000"]);
    assert!(text.starts_with("1\n2\n3\n"));
}

pub async fn users_are_those_of_the_image_or_the_pod(fixture: Fixture) {
    fixture.add_image("app:1", vec![], json!({"User": "app"}));
    let mut spec = fixture.shell("id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status");
    spec.image = Some(image("app:1"));
    let none = "CapEff:\t0000000000000000";
    assert_eq!(fixture.printed(&spec).await, format!("1000\n50\n50 60\n/home/app\n{none}\n"));
    let mut spec = fixture.shell("id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status");
    spec.security.user = Some(7);
    spec.security.group = Some(8);
    spec.security.supplemental_groups = vec![9];
    assert_eq!(fixture.printed(&spec).await, format!("7\n8\n8 9\n/\n{none}\n"));
    let mut pod = fixture.pod(&spec);
    pod.user = Some(1000);
    pod.fs_group = Some(70);
    let mut spec = fixture.shell("id -u; id -G");
    pod.uid = spec.id.pod_uid().to_owned();
    spec.security.run_as_non_root = true;
    let sandbox = stint_runtime::Runtime::open_pod(&*fixture.runtime, pod).await.unwrap();
    let container = sandbox.start(spec.clone(), crate::fixture::never()).await.unwrap();
    assert_eq!(container.wait().await.exit_code, 0);
    assert_eq!(fixture.text(&spec).await, "1000\n50 60 70\n");
}

/// An image names folders that no layer of it has, as engines make them.
pub async fn folders_that_an_image_writes_to_are_there(fixture: Fixture) {
    let volumes = json!({"/var/data/deep": {}, "/etc": {}, "relative": {}});
    fixture.add_image("data:1", vec![], json!({"Volumes": volumes}));
    let mut spec =
        fixture.shell("echo x > /var/data/deep/file && cat /var/data/deep/file && stat -c %a /var/data/deep");
    spec.image = Some(image("data:1"));
    assert_eq!(fixture.printed(&spec).await, "x\n755\n");
    spec = fixture.shell("ls -d /relative /etc/passwd");
    spec.image = Some(image("data:1"));
    assert_eq!(fixture.printed(&spec).await, "/etc/passwd\n/relative\n");
}

pub async fn what_cannot_start_says_why(fixture: Fixture) {
    let start_error = |exit: stint_runtime::Exit, code, word: &str| {
        assert_eq!((exit.exit_code, exit.reason), (code, ExitReason::StartError), "{}", exit.message);
        assert!(exit.message.contains(word), "{}", exit.message);
    };
    start_error(fixture.run(&fixture.spec(&["no-such-program"])).await, 127, "no such program in PATH");
    start_error(fixture.run(&fixture.spec(&["/no/such/program"])).await, 127, "/no/such/program");
    start_error(fixture.run(&fixture.spec(&["/etc/passwd"])).await, 126, "/etc/passwd");
    let mut spec = fixture.shell("true");
    spec.security.run_as_non_root = true;
    start_error(fixture.run(&spec).await, 128, "runAsNonRoot");
    fixture.add_image("nobody:1", vec![], json!({"User": "nobody-knows"}));
    let mut spec = fixture.shell("true");
    spec.image = Some(image("nobody:1"));
    start_error(fixture.run(&spec).await, 128, "nobody-knows");
    let mut spec = fixture.shell("true");
    spec.working_directory = Some("/etc/passwd".into());
    start_error(fixture.run(&spec).await, 128, "/etc/passwd");
    // What leads nowhere, and where the node has none of its folders named.
    fixture.add_image("link:1", vec![Layer::default().symlink("w", "/proc/self/fd")], json!({}));
    let mut spec = fixture.shell("true");
    spec.image = Some(image("link:1"));
    spec.working_directory = Some("/w".into());
    let exit = fixture.run(&spec).await;
    assert!(!exit.message.contains(fixture.folder.path().to_str().unwrap()), "{}", exit.message);
    start_error(exit, 128, "workingDir \"/w\"");
    fixture.add_image("nothing:1", vec![], json!({}));
    let mut spec = fixture.spec(&[]);
    spec.image = Some(image("nothing:1"));
    let error = fixture.try_start(spec).await.err().unwrap();
    assert!(matches!(&error, Error::NoCommandInImage { image, .. } if image == "nothing:1"), "{error}");
    let mut spec = fixture.shell("true");
    spec.security.capabilities_add = vec!["FLY".to_owned()];
    assert!(matches!(fixture.try_start(spec).await, Err(Error::Unsupported { .. })));
}

pub async fn layers_are_one_root_and_each_run_has_its_own_changes(fixture: Fixture) {
    let layers = vec![
        Layer::default()
            .file("data/a", "a1")
            .file("data/b", "b1")
            .file("gone", "x")
            .symlink("link", "/data/a"),
        Layer::default().file("data/a", "a2").whiteout("gone").opaque("home").file("home/new", "n"),
    ];
    fixture.add_image("layers:1", layers, json!({}));
    let script = "cat /data/a /data/b /link; ls /gone 2>/dev/null; ls /home; ls /changed 2>/dev/null
        echo mine > /data/a; rm /data/b; touch /changed; cat /data/a";
    let mut spec = fixture.shell(script);
    spec.image = Some(image("layers:1"));
    assert_eq!(fixture.printed(&spec).await, "a2b1a2new\nmine\n");
    // The same container again, and another: neither sees what that one wrote.
    let mut again = spec.clone();
    again.id = ContainerId::new(spec.id.pod_uid(), "main", 1).unwrap();
    assert_eq!(fixture.printed(&again).await, "a2b1a2new\nmine\n");
    let mut other = fixture.shell(script);
    other.image = Some(image("layers:1"));
    assert_eq!(fixture.printed(&other).await, "a2b1a2new\nmine\n");
}

pub async fn an_image_may_have_as_many_layers_as_fit(fixture: Fixture) {
    let layer = |at: usize| Layer::default().file("top", &at.to_string()).file(&format!("from/{at}"), "");
    fixture.add_image("many:1", (1..127).map(layer).collect(), json!({}));
    let mut spec = fixture.shell("cat /top; echo; ls /from | wc -l");
    spec.image = Some(image("many:1"));
    assert_eq!(fixture.printed(&spec).await, "126\n126\n");
}

pub async fn volumes_are_seen_where_they_are_mounted(fixture: Fixture) {
    let host = fixture.folder.path().join("volume");
    fs::create_dir_all(host.join("inner")).unwrap();
    fs::write(host.join("file"), "from the host").unwrap();
    let file = fixture.folder.path().join("termination");
    fs::write(&file, "").unwrap();
    let mount = |source: &Path, target: &str, read_only| Mount {
        source: source.to_owned(),
        target: target.into(),
        read_only,
        propagation: MountPropagation::Private,
    };
    let script = "cat /data/file; echo; echo written > /data/inner/new
        touch /read/x 2>/dev/null || echo refused; echo last words > /dev/termination-log; cat /data/ro/file; echo";
    let mut spec = fixture.shell(script);
    // In any order; targets that the image has not.
    spec.mounts = vec![
        mount(&host, "/data/ro", true),
        mount(&host, "/read", true),
        mount(&host, "/data", false),
        mount(&file, "/dev/termination-log", false),
    ];
    fs::create_dir(host.join("ro")).unwrap();
    spec.security.read_only_root = false;
    assert_eq!(fixture.printed(&spec).await, "from the host\nrefused\nfrom the host\n");
    assert_eq!(fs::read_to_string(host.join("inner/new")).unwrap(), "written\n");
    assert_eq!(fs::read_to_string(file).unwrap(), "last words\n");
    let mut spec = fixture.shell("touch /x 2>/dev/null || echo refused; touch /data/y && echo written");
    spec.security.read_only_root = true;
    spec.mounts = vec![mount(&host, "/data", false)];
    // A root that can't be written to has no place for a mount that the image does not name, so it is made before.
    assert_eq!(fixture.printed(&spec).await, "refused\nwritten\n");
}

pub async fn programs_run_inside_the_container(fixture: Fixture) {
    fixture.add_image("app:1", vec![], json!({"User": "app", "WorkingDir": "/tmp", "Env": ["FROM=image"]}));
    let mut spec = fixture.shell("touch /tmp/mark; echo ready; sleep 1000");
    spec.image = Some(image("app:1"));
    let container = fixture.start_ready(&spec).await;
    let script = "pwd; ls /tmp; echo $FROM $ADDED $HOME; id -u; cat /proc/1/comm; exit 3";
    let (code, text) = exec(&*container, script).await;
    assert_eq!((code, text.as_str()), (3, "/tmp\nmark\nimage by exec /home/app\n1000\nsleep\n"));
    // Its rights and limits are those of the container.
    let status = "grep -E 'CapBnd|CapEff|NoNewPrivs' /proc/self/status; cat /proc/self/cgroup | sort";
    let (_, of_exec) = exec(&*container, status).await;
    let (_, of_main) = exec(&*container, &status.replace("self", "1")).await;
    assert_eq!(of_exec, of_main);
    assert!(of_exec.contains("stint-oci"), "{of_exec}");
    let (code, _) = exec(&*container, "kill -9 $$").await;
    assert_eq!(code, 137);
    let spec = |program: &str| ExecSpec { command: vec![program.to_owned()], ..ExecSpec::default() };
    for (program, expected) in
        [("no-such-program", 127), ("/no/such/program", 127), ("/etc/passwd", 126), ("/etc", 126)]
    {
        let Err(error) = container.exec(spec(program)).await else { panic!("{program} runs") };
        let Error::ExecStart { exit_code, message, .. } = &error else { panic!("{error}") };
        assert_eq!(*exit_code, expected, "{error}");
        assert!(message.contains(program), "{error}");
    }
    // What is killed takes its program with it, and the container's end takes the rest.
    let marker = crate::processes::marker();
    let command = ["sleep", &marker].map(str::to_owned).into();
    let session = container.exec(ExecSpec { command, ..ExecSpec::default() }).await.unwrap();
    crate::fixture::eventually("the program runs", || crate::processes::alive(&marker) == 1).await;
    session.kill();
    session.wait().await;
    crate::fixture::eventually("the program is gone", || crate::processes::alive(&marker) == 0).await;
    container.kill().await;
    container.wait().await;
    assert!(container.exec(spec("true")).await.is_err());
}

/// The example of Kubernetes' own documentation, with an image under the name that it gives.
pub async fn perl_computes_pi(fixture: Fixture) {
    fixture.registry.add("library/perl:5.34", &crate::images::TestImage::perl());
    let mut spec = fixture.spec(&["perl", "-Mbignum=bpi", "-wle", "print bpi(2000)"]);
    spec.image = Some(image("perl:5.34"));
    let digits = fixture.printed(&spec).await;
    assert!(digits.starts_with("3.14159265358979323846264338327950288419716939937510"), "{digits}");
    assert_eq!(digits.trim().len(), 2001);
    assert!(digits.trim().ends_with("780275901"), "rounded at the last digit: {digits}");
}

pub async fn an_image_that_is_missing_is_said_to_be(fixture: Fixture) {
    for (reference, pull_policy, expected) in [
        ("none:1", PullPolicy::IfNotPresent, ImageReason::ErrImagePull),
        ("none:1", PullPolicy::Never, ImageReason::ErrImageNeverPull),
        ("No Name", PullPolicy::Always, ImageReason::InvalidImageName),
    ] {
        let mut spec = fixture.shell("true");
        spec.image = Some(ImageSpec { reference: reference.to_owned(), pull_policy });
        match fixture.try_start(spec).await {
            Err(Error::Image { reason, .. }) => assert_eq!(reason, expected, "{reference}"),
            Err(error) => panic!("another error: {error}"),
            Ok(_) => panic!("{reference} runs"),
        }
    }
    let mut spec = fixture.shell("true");
    spec.image = None;
    let sandbox = fixture.sandbox(&spec).await;
    assert!(matches!(
        sandbox.start(spec, crate::fixture::never()).await,
        Err(Error::Unsupported { runtime: "oci", .. })
    ));
}
