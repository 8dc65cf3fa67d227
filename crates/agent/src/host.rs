//! What kind of host this is, as the servers show it of the node.
//!
//! Owns: reading it from the host. Does not own: what the node offers (module `config`).
//!
//! Invariant: what can't be read is left empty; it never keeps an agent from starting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use stint_proto::v1;

use crate::limits;

/// Kernel, distribution, architecture and the addresses given.
pub fn describe(addresses: &[IpAddr]) -> v1::NodeInfo {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = match read("/etc/os-release") {
        text if text.is_empty() => read("/usr/lib/os-release"),
        text => text,
    };
    v1::NodeInfo {
        kernel_version: word(read("/proc/sys/kernel/osrelease").trim()),
        os_image: word(&distribution(&release)),
        operating_system: std::env::consts::OS.to_owned(),
        architecture: architecture().to_owned(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
    }
}

/// As much of a text as the servers take.
fn word(text: &str) -> String {
    let fits = |(place, one): &(usize, char)| place + one.len_utf8() <= limits::NODE_WORD_BYTES_MAX;
    text.char_indices().take_while(fits).map(|(_, one)| one).collect()
}

/// As Kubernetes, which took Go's names, calls it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The name that the distribution has for people.
fn distribution(release: &str) -> String {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches(['"', '\'']).to_owned())
    };
    value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or_default()
}

/// The address from which this host reaches the servers, if it knows one. Sends nothing.
pub fn addresses(servers: &[String]) -> Vec<IpAddr> {
    let targets = servers.iter().filter_map(|server| server.to_socket_addrs().ok()).flatten();
    let route = |target: SocketAddr| {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(target).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    targets.take(limits::SERVER_ADDRESSES_MAX).find_map(route).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_says_what_it_is() {
        let info = describe(&["10.0.0.7".parse().unwrap()]);
        assert!(!info.kernel_version.is_empty() && !info.kernel_version.ends_with('\n'), "{info:?}");
        assert_eq!(
            (info.operating_system.as_str(), &info.addresses[..]),
            ("linux", &["10.0.0.7".to_owned()][..])
        );
        assert_ne!(info.architecture, "x86_64", "Kubernetes' name for it");
    }

    #[test]
    fn a_distribution_is_named_for_people() {
        let release = "NAME=\"Some Linux\"\nVERSION_ID=1\nPRETTY_NAME=\"Some Linux 1 (first)\"\n";
        assert_eq!(distribution(release), "Some Linux 1 (first)");
        assert_eq!(distribution("NAME=plain\n"), "plain");
        assert_eq!(distribution(""), "");
        let long = word(&"ü".repeat(1_000));
        assert!(long.len() <= limits::NODE_WORD_BYTES_MAX && !long.is_empty(), "{long}");
    }

    #[test]
    fn the_address_is_the_one_that_reaches_a_server() {
        assert_eq!(addresses(&["127.0.0.1:7440".to_owned()]), [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert!(addresses(&["nowhere.invalid:1".to_owned()]).is_empty());
    }
}
