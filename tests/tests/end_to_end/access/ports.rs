//! Ports of Pods on this machine.

use super::{Nodes, SOON};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use stint_tests::{abilities, binary, eventually};

/// How many there are to be asked for.
const PAGES: u32 = 20;

/// A web server on the first port that is free, which it says.
fn web_server() -> String {
    format!(
        "mkdir www; for n in $(seq {PAGES}); do echo \"page $n of $OF_IMAGE\" >www/$n; done; \
         for port in $(seq 20480 20680); do busybox httpd -p 127.0.0.1:$port -h www 2>/dev/null && break; done; \
         echo $port; exec sleep 600"
    )
}

#[test]
fn a_server_in_a_pod_is_reached_through_a_local_port() {
    if let Err(why) = abilities::require_image() {
        return println!("not run: ports of pods: {why}");
    }
    let nodes = Nodes::start(1);
    nodes.each(|runtime| {
        let cluster = &nodes.cluster;
        let pod = nodes.pod(runtime, &web_server());
        let port = eventually("it listens", SOON, || {
            let log = cluster.stint(&["logs", &pod]).stdout;
            log.lines().next().map(str::to_owned)
        });
        let of_job = format!("job/{runtime}");
        let mut forwarding = Command::new(binary("stint"))
            .args(["--server", &cluster.addresses(), "port-forward", &of_job, &format!(":{port}"), ":1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(forwarding.stdout.take().unwrap()));
        let mut address = || {
            let line = lines.next().unwrap().unwrap();
            line.split(' ').nth(2).unwrap().to_owned()
        };
        let (listened, silent) = (address(), address());
        let place = if runtime == "process" { "" } else { "1" };
        for page in 1..=PAGES {
            let mut connection = TcpStream::connect(&listened).unwrap();
            write!(connection, "GET /{page} HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with(&format!("\r\n\r\npage {page} of {place}\n")), "{runtime}: {answer:?}");
        }
        // Nobody listens there: the connection ends, the others go on.
        let mut nothing = Vec::new();
        let _ = TcpStream::connect(&silent).unwrap().read_to_end(&mut nothing);
        assert!(nothing.is_empty() && forwarding.try_wait().unwrap().is_none(), "{runtime}");
        forwarding.kill().unwrap();
        forwarding.wait().unwrap();
        let taken = cluster.stint(&["port-forward", &pod, "x:y"]);
        assert!(taken.code == 1 && taken.stderr.contains("LOCAL:REMOTE"), "{taken:?}");
    });
    nodes.end();
}
