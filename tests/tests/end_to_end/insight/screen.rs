//! `top` without an object: the live screen, on a terminal of 80 columns and 24 rows.

use super::SOON;
use super::terminal::Terminal;
use crate::manifests::shell_job;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stint_tests::{Cluster, ClusterOptions};

const SIZE: (u16, u16) = (80, 24);

#[test]
fn the_screen_shows_what_goes_on_and_gives_the_terminal_back() {
    let mut cluster = Cluster::start(ClusterOptions::new(3, 1));
    let servers = cluster.addresses();
    cluster.apply(&shell_job("lasting", &["completions: 4", "parallelism: 2"], "sleep 600"));
    cluster.wait_for_pods("lasting", "Running", 2, SOON);
    let mut screen = Terminal::start(&servers, &["top", "--interval", "500ms"], SIZE);
    let shown = screen.shows("lasting", SOON);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("stint top  leader s"), "{shown}");
    assert!(lines[1].starts_with("Jobs 1/1 unfinished  Pods 2 run"), "{shown}");
    assert!(lines[3].starts_with("[Jobs]"), "{shown}");
    assert!(lines.last().is_some_and(|line| line.starts_with("q quit")), "{shown}");
    screen.type_keys("p");
    assert!(screen.shows("[Pods]", SOON).contains("lasting-"));
    screen.type_keys("n");
    assert!(screen.shows("[Nodes]", SOON).contains("w1"));
    screen.type_keys("\t");
    screen.shows("[Jobs]", SOON);
    screen.type_keys("s");
    screen.shows("by NAME", SOON);
    screen.type_keys("r");
    screen.shows("by NAME, turned", SOON);
    // It is live.
    cluster.apply(&shell_job("another", &["suspend: true"], "true"));
    screen.shows("another", SOON);
    screen.type_keys("q");
    assert_eq!(screen.ends(SOON), 0);

    // Whatever ends it.
    let mut screen = Terminal::start(&servers, &["top"], SIZE);
    screen.shows("lasting", SOON);
    screen.type_keys("\u{3}");
    assert_eq!(screen.ends(SOON), 0, "Ctrl-C");
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let screen = Terminal::start(&servers, &["top"], SIZE);
        screen.shows("lasting", SOON);
        kill(Pid::from_raw(screen.pid().try_into().unwrap()), signal).unwrap();
        assert_eq!(screen.ends(SOON), code, "{signal}");
    }

    // Without a majority it says so, and goes on when there is one.
    let mut screen = Terminal::start(&servers, &["top", "--interval", "500ms"], SIZE);
    screen.shows("lasting", SOON);
    let leader = cluster.wait_for_leader(SOON);
    let follower = cluster.server_names().into_iter().find(|name| *name != leader).unwrap();
    cluster.kill_server(&leader);
    cluster.kill_server(&follower);
    let shown = screen.shows("no leader", SOON);
    assert!(shown.contains("s old)"), "the picture is not of now: {shown}");
    cluster.start_server(&follower);
    screen.shows("Rates", SOON);
    screen.type_keys("q");
    assert_eq!(screen.ends(SOON), 0);
}

#[test]
fn the_screen_needs_a_terminal_and_fits_on_small_ones() {
    let cluster = Cluster::start(ClusterOptions::new(1, 0));
    let refused = cluster.stint(&["top"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused:?}");
    assert!(refused.stderr.contains("use stint top nodes or stint top pods instead"), "{refused:?}");
    let mut small = Terminal::start(&cluster.addresses(), &["top"], (20, 6));
    small.shows("stint top", SOON);
    small.type_keys("pnj q");
    assert_eq!(small.ends(SOON), 0);
    // Before any server has answered.
    let mut lonely = Terminal::start("127.0.0.1:1", &["top"], SIZE);
    lonely.shows("asking the servers", SOON);
    lonely.shows("no server answers", SOON);
    lonely.type_keys("q");
    assert_eq!(lonely.ends(SOON), 0);
}
