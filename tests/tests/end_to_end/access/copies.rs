//! Copies of trees, files and streams, into containers and out of them.

use super::{Nodes, SOON};
use std::path::Path;
use std::process::Command;
use stint_tests::eventually;

/// One that is over at once is what is lost most easily.
const SMALL_STREAMS: u32 = 20;

/// A tree with what is hard to copy.
fn tree(folder: &Path) {
    let script = "mkdir -p 'a b/deep/er' empty && head -c 3000000 /dev/urandom >'a b/deep/er/large' && echo hi >'a b/-file' \
                  && printf '\\000\\001' >ü && : >nothing && chmod 755 nothing && ln -s '../a b' empty/link";
    assert!(Command::new("sh").args(["-c", script]).current_dir(folder).status().unwrap().success());
}

/// Of what is in it, its modes and its links.
fn checksum(folder: &Path) -> String {
    let script = "find . -type f -exec sha256sum {} + | sort; find . -printf '%p %y %l\\n' | sort; \
                  find . -type f -printf '%p %m\\n' | sort";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn trees_files_and_streams_are_copied_both_ways() {
    let nodes = Nodes::start(1);
    nodes.each(|runtime| {
        let cluster = &nodes.cluster;
        let pod = nodes.pod(runtime, "exec sleep 600");
        let here = cluster.folder.path().join(format!("here-{runtime}"));
        std::fs::create_dir_all(here.join("tree")).unwrap();
        tree(&here.join("tree"));
        let path = |name: &str| here.join(name).display().to_string();
        let copy = |from: &str, to: &str| cluster.stint(&["cp", from, to]);
        copy(&path("tree"), &format!("{pod}:there")).success();
        copy(&format!("job/{runtime}:there"), &path("back")).success();
        assert_eq!(checksum(&here.join("back")), checksum(&here.join("tree")), "{runtime}");
        // Into folders that are there.
        copy(&path("tree/a b/-file"), &format!("{pod}:there/")).success();
        std::fs::create_dir(here.join("into")).unwrap();
        copy(&format!("{pod}:there/-file"), &path("into")).success();
        assert_eq!(std::fs::read_to_string(here.join("into/-file")).unwrap(), "hi\n");
        // What is in a folder, there and back, as `docker cp` has it.
        copy(&format!("{pod}:there"), &path("whole")).success();
        copy(&format!("{pod}:there/."), &path("contents")).success();
        assert_eq!(checksum(&here.join("contents")), checksum(&here.join("whole")), "{runtime}");
        copy(&format!("default/{pod}:there/."), &path("into")).success();
        assert!(here.join("into/a b").is_dir(), "into a folder that is there");
        copy(&path("tree/."), &format!("{pod}:more")).success();
        copy(&path("tree/."), &format!("{pod}:more")).success();
        copy(&format!("{pod}:more"), &path("more")).success();
        assert_eq!(checksum(&here.join("more")), checksum(&here.join("tree")), "{runtime}");
        // No folder takes the place of a file.
        cluster.stint_with_input(&["cp", "-", &format!("{pod}:kept")], "kept").success();
        let refused = copy(&path("tree"), &format!("{pod}:kept"));
        assert!(refused.code == 1 && refused.stderr.contains("is a file in the container"), "{refused:?}");
        assert_eq!(copy(&format!("{pod}:kept"), "-").success(), "kept", "{runtime}");
        // Where a container has what it shares with nobody.
        copy(&path("tree/ü"), &format!("{pod}:/tmp/absolute")).success();
        copy(&format!("{pod}:/tmp/absolute"), &path("absolute")).success();
        assert_eq!(std::fs::read(here.join("absolute")).unwrap(), [0, 1], "{runtime}");
        // Streams.
        for number in 0..SMALL_STREAMS {
            let (there, text) = (format!("{pod}:stream-{number}"), format!("streamed {number}"));
            cluster.stint_with_input(&["cp", "-", &there], &text).success();
            assert_eq!(copy(&there, "-").success(), text, "{runtime}");
            assert_eq!(copy(&there, "-").success(), text, "{runtime}, again");
        }
        for (from, to, expected) in [
            (path("none"), format!("{pod}:x"), "none"),
            (format!("{pod}:none"), path("x"), "none"),
            (format!("{pod}:a"), format!("{pod}:b"), "both places"),
            ("a".to_owned(), "b".to_owned(), "neither place"),
            (path("tree/nothing"), format!("{pod}:no/such/folder/x"), "tar"),
        ] {
            let failed = copy(&from, &to);
            assert!(
                failed.code == 1 && failed.stderr.contains(expected),
                "{runtime} {from} {to}: {failed:?}"
            );
        }
        assert!(!here.join("x").exists());
    });
    // What the nodes use, whoever uses it.
    let top = eventually("the use of each node is told", SOON, || {
        let top = nodes.cluster.stint(&["top", "nodes"]).success();
        (!top.contains("unknown")).then_some(top)
    });
    for line in top.lines().skip(1) {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert!(cells.len() == 5 && cells[1].ends_with('m') && cells[3].ends_with("Mi"), "{top}");
    }
    assert_eq!(top.lines().count(), 1 + nodes.runtimes.len(), "{top}");
    let unknown = nodes.cluster.stint(&["top", "nodes", "none"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("not found"), "{unknown:?}");
    nodes.end();
}
