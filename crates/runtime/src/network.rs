//! Connections to ports of Pods.
//!
//! Owns: where a port of a Pod is looked for. Does not own: who may connect, what goes over a connection.
//!
//! As Kubernetes does it: at the Pod's own loopback, so that what a program offers to itself only is reached too. A Pod without a
//! network of its own has the host's.

use crate::limits;
use nix::sched::{CloneFlags, setns};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Connects, in this network namespace or in the host's.
///
/// # Errors
/// Why the first address does not take the connection.
pub(crate) async fn connect(namespace: Option<OwnedFd>, port: u16) -> io::Result<TcpStream> {
    let (sender, connected) = oneshot::channel();
    // A thread of its own: the namespace is the thread's, and nothing else may run in it. It waits for as long as its last try.
    std::thread::Builder::new().name("port-forward".to_owned()).spawn(move || {
        // Whoever asked may be gone.
        let _ = sender.send(connect_here(namespace, port));
    })?;
    let connection = connected.await.map_err(|_| io::Error::other("the connecting thread is gone"))??;
    connection.set_nonblocking(true)?;
    TcpStream::from_std(connection)
}

fn connect_here(namespace: Option<OwnedFd>, port: u16) -> io::Result<std::net::TcpStream> {
    if let Some(namespace) = namespace {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
    }
    let patience = Duration::from_millis(limits::PORT_CONNECT_MS);
    let mut first_problem = None;
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        match std::net::TcpStream::connect_timeout(&SocketAddr::new(address, port), patience) {
            Ok(connection) => return Ok(connection),
            Err(problem) => drop(first_problem.get_or_insert(problem)),
        }
    }
    Err(first_problem.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_port_of_the_hosts_loopback_is_found_on_either_address() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let mut connection = connect(None, port).await.unwrap();
            connection.write_all(b"said").await.unwrap();
            drop(connection);
            let mut text = String::new();
            listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
            assert_eq!(text, "said");
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert_eq!(connect(None, port).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
