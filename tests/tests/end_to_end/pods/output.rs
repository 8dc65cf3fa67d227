//! What containers write, and what of it `stint logs` gives back.

use super::{Case, case, script, shell};
use serde_json::json;

pub fn cases() -> Vec<Case> {
    vec![
        case("no-output", script("true"), |it| it.wrote("")),
        case("a-line", script("echo one"), |it| it.wrote("one\n")),
        case("no-newline-at-the-end", script("printf 'no newline'"), |it| it.wrote("no newline")),
        case("both-streams", script("echo out; echo err >&2"), |it| {
            let mut lines: Vec<String> = it.log("main").lines().map(str::to_owned).collect();
            lines.sort();
            assert_eq!(lines, ["err", "out"]);
        }),
        case("empty-lines", script("printf '\\n\\n\\nx\\n'"), |it| it.wrote("\n\n\nx\n")),
        case("carriage-returns", script("printf 'a\\rb\\r\\nc\\n'"), |it| it.wrote("a\rb\r\nc\n")),
        case("unicode", script("echo 'Größe 漢字 🚀'"), |it| it.wrote("Größe 漢字 🚀\n")),
        case("ten-thousand-lines", script("seq 1 10000"), |it| {
            it.complete();
            let log = it.log("main");
            let mut lines = log.split_inclusive('\n').zip(1..);
            let wrong = lines.find(|(line, number)| *line != format!("{number}\n"));
            let count = log.lines().count();
            assert!(wrong.is_none(), "every line, once and in order: {wrong:?}, {count} lines");
            assert_eq!(count, 10_000);
        })
        .writes_much(),
        case("one-line-of-a-megabyte", script("head -c 1048576 /dev/zero | tr '\\0' x; echo"), |it| {
            let log = it.log("main");
            assert_eq!(log.len(), 1_048_577);
            assert!(log.trim_end_matches('\n').bytes().all(|byte| byte == b'x'));
        })
        .writes_much(),
        case(
            "twenty-megabytes",
            script(
                "seq -f '%039.0f' 1 524288 2>/dev/null || yes 000000000000000000000000000000000000000 | head -n 524288",
            ),
            |it| {
                let log = it.log("main");
                assert_eq!(log.lines().count(), 524_288, "nothing is lost below the bound of a log");
                assert!(log.lines().all(|line| line.len() == 39));
            },
        )
        .writes_much(),
        case("output-of-children", script("(echo child; (echo grandchild)) ; echo parent"), |it| {
            it.wrote("child\ngrandchild\nparent\n");
        }),
        case("output-after-the-parent", script("(sleep 0.2; echo late) & wait; echo done"), |it| {
            it.wrote("late\ndone\n")
        }),
        case("closed-output", script("exec >&- 2>&-; echo nothing; exit 0"), |it| it.wrote("")),
        case("a-prompt-without-end", script("printf 'name? '; sleep 1; printf 'bye'"), |it| {
            it.wrote("name? bye")
        }),
        case(
            "each-container-has-its-log",
            json!({"containers": [shell("main", "echo a"), shell("other", "echo b")]}),
            |it| {
                it.complete();
                it.wrote("a\n");
                assert_eq!(it.log("other"), "b\n");
            },
        ),
        case(
            "output-of-a-program-that-is-killed",
            script("echo before; trap '' TERM; while :; do sleep 0.1; done"),
            |it| {
                it.wrote("before\n");
            },
        )
        .stopped_after("before\n"),
        case("output-to-dev-stdout", script("echo one >/dev/stdout; echo two >/dev/stderr"), |it| {
            let log = it.log("main");
            assert!(log.contains("one\n") && log.contains("two\n"), "{log:?}");
        }),
    ]
}
