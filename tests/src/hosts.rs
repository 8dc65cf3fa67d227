//! Hosts of a test: network namespaces on one bridge, each of which can be cut off. Needs root and iproute2.
//!
//! Owns: namespaces, their addresses and links. Does not own: what runs on a host.

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Hosts on one bridge, numbered from 1; removed when dropped.
#[derive(Debug)]
pub struct Hosts {
    prefix: String,
    subnet: String,
    names: Vec<String>,
}

impl Hosts {
    /// Makes so many.
    ///
    /// # Panics
    /// Without the right to make namespaces.
    pub fn new(count: usize) -> Hosts {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = std::process::id() % 200 + 20;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("st{}x{number}", std::process::id() % 100_000);
        let subnet = format!("10.{unique}.{}", 10 + number);
        let mut hosts = Hosts { prefix, subnet, names: Vec::new() };
        // Interfaces of a namespace of their own, so that nothing of the machine's network is touched.
        ip(&["netns", "add", &hosts.switch()]);
        hosts.on_switch(&["ip", "link", "add", "br0", "type", "bridge"]);
        hosts.on_switch(&["ip", "link", "set", "br0", "up"]);
        for number in 1..=count {
            hosts.add(number);
        }
        hosts
    }

    fn add(&mut self, number: usize) {
        let host = format!("{}h{number}", self.prefix);
        let (inner, outer) = ("eth0", format!("p{number}"));
        ip(&["netns", "add", &host]);
        self.names.push(host.clone());
        self.on_switch(&["ip", "link", "add", &outer, "type", "veth", "peer", "name", inner, "netns", &host]);
        self.on_switch(&["ip", "link", "set", &outer, "master", "br0", "up"]);
        self.run(number, &["ip", "address", "add", &format!("{}/24", self.address(number)), "dev", inner]);
        self.run(number, &["ip", "link", "set", "lo", "up"]);
        self.run(number, &["ip", "link", "set", inner, "up"]);
    }

    /// Address of a host.
    pub fn address(&self, host: usize) -> String {
        format!("{}.{host}", self.subnet)
    }

    /// Takes a host's link away: nothing reaches it and nothing leaves it.
    pub fn cut(&self, host: usize) {
        self.on_switch(&["ip", "link", "set", &format!("p{host}"), "down"]);
    }

    /// Gives a host its link back.
    pub fn heal(&self, host: usize) {
        self.on_switch(&["ip", "link", "set", &format!("p{host}"), "up"]);
    }

    /// A command that will run on a host. Nothing else is another there than on this machine: `ip netns exec` would take
    /// control groups away.
    pub fn command(&self, host: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.file(host).display())).arg("--").arg(program);
        command
    }

    /// Listens on a host's 127.0.0.1.
    pub fn listen(&self, host: usize, port: u16) -> TcpListener {
        let namespace = File::open(self.file(host)).expect("the namespace is ours");
        // A socket belongs to where it was made; of this process only one thread goes there.
        let listening = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("nobody else listens there")
        });
        listening.join().expect("a thread that listens does not panic")
    }

    fn file(&self, host: usize) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.names[host - 1])
    }

    /// Runs a command on a host, which has to succeed.
    pub fn run(&self, host: usize, arguments: &[&str]) {
        in_namespace(&self.names[host - 1], arguments);
    }

    fn switch(&self) -> String {
        format!("{}sw", self.prefix)
    }

    fn on_switch(&self, arguments: &[&str]) {
        in_namespace(&self.switch(), arguments);
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in self.names.iter().chain([&self.switch()]) {
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn in_namespace(namespace: &str, arguments: &[&str]) {
    let mut all = vec!["netns", "exec", namespace];
    all.extend(arguments);
    ip(&all);
}
