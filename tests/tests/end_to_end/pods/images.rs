//! What a container has of its image, and what becomes of images that are not there.

use super::{Case, Need, case, script, shell, shell_with};
use serde_json::{Value, json};

const IMAGES: &[Need] = &[Need::Images];

fn of_image(image: &str, policy: &str) -> Value {
    let mut container = shell("main", "echo ran");
    container["image"] = json!(image);
    container["imagePullPolicy"] = json!(policy);
    json!({"containers": [container]})
}

pub fn cases() -> Vec<Case> {
    vec![
        case("image-says-the-environment", script("echo $OF_IMAGE"), |it| it.wrote("1\n")).needs(IMAGES),
        case(
            "image-is-the-root",
            script("test -x /bin/busybox && test ! -e /etc/debian_version && echo only"),
            |it| it.wrote("only\n"),
        )
        .needs(IMAGES),
        case(
            "image-is-each-container-s-own",
            json!({
                "initContainers": [shell("init", "echo changed >/etc/passwd; rm /bin/ls; echo x >/new")],
                "containers": [shell("main", "grep -c root: /etc/passwd; ls /new 2>/dev/null || echo none")],
            }),
            |it| it.wrote("1\nnone\n"),
        )
        .needs(IMAGES),
        case("image-is-named-in-the-status", script("true"), |it| {
            it.complete();
            let status = it.status("main");
            assert!(status["imageID"].as_str().is_some_and(|id| id.contains("sha256:")), "{status:#}");
            let id = status["containerID"].as_str().unwrap_or_default();
            assert!(id.starts_with("containerd://") || id.starts_with("oci://"), "{status:#}");
        })
        .needs(IMAGES),
        case("image-always-pulled", of_image(super::IMAGE, "Always"), |it| it.wrote("ran\n")).needs(IMAGES),
        case("image-never-pulled", of_image("localhost/stint-test/none:1", "Never"), |it| it.failed())
            .stopped_while_waiting(&["ErrImageNeverPull"])
            .needs(IMAGES),
        case("image-that-is-not-there", of_image("localhost/stint-test/none:1", "IfNotPresent"), |it| {
            it.failed()
        })
        .stopped_while_waiting(&["ErrImagePull", "ImagePullBackOff"])
        .needs(IMAGES),
        case("image-with-a-name-that-is-none", of_image("localhost/Stint Test:1", "IfNotPresent"), |it| {
            it.failed()
        })
        .stopped_while_waiting(&["InvalidImageName"])
        .needs(IMAGES),
        case(
            "user-by-number",
            as_user("id -u; id -g", json!({"runAsUser": 1234, "runAsGroup": 1235})),
            |it| it.wrote("1234\n1235\n"),
        )
        .needs(IMAGES),
        case("user-that-must-not-be-root", as_user("echo ran", json!({"runAsNonRoot": true})), |it| {
            it.failed();
            assert!(!it.status("main")["state"]["running"].is_object(), "{:#}", it.status("main"));
            assert_ne!(it.status("main")["state"]["terminated"]["exitCode"], 0);
        })
        .job(json!({"activeDeadlineSeconds": 30}))
        .needs(IMAGES),
    ]
}

fn as_user(text: &str, context: Value) -> Value {
    json!({"containers": [shell_with("main", text, json!({"securityContext": context}))]})
}
