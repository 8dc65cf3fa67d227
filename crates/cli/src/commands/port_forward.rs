//! `port-forward`.
//!
//! Owns: local ports and the connections that come to them. Does not own: the connections at the Pod's end.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use stint_api::PodPhase;
use stint_client::{Client, PodTarget, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::arguments::PortForward;
use crate::commands::Context;
use crate::commands::target::pod_target;
use crate::output;

/// Connections at once; further ones wait. Half of what a node takes, so that others come in too.
const CONNECTIONS_MAX: usize = 32;
/// Bytes that are read of a local connection at once.
const READ_BYTES: usize = 32 << 10;

/// A local port and the one of the Pod; no local one: any that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    local: Option<u16>,
    remote: u16,
}

/// `stint port-forward`.
pub async fn run(context: &Context, wanted: &PortForward) -> Result<ExitCode> {
    let ports = wanted.ports.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
    let forward = Arc::new(Forward {
        client: context.client.clone(),
        namespace: context.namespace().to_owned(),
        target: PodTarget::Pod(running_pod(context, &pod_target(&wanted.target)?).await?),
        places: Semaphore::new(CONNECTIONS_MAX),
    });
    let mut listening = JoinSet::new();
    for ports in ports {
        let listener = listen(wanted.address, ports.local).await?;
        output::line(&format!("Forwarding from {} -> {}", listener.local_addr()?, ports.remote))?;
        listening.spawn(accept(Arc::clone(&forward), listener, ports.remote));
    }
    match listening.join_next().await {
        Some(ended) => ended.context("a port was given up")?,
        None => bail!("no port is forwarded"),
    }
}

/// Name of the Pod that is meant, which must run. All connections go to this one.
async fn running_pod(context: &Context, target: &PodTarget) -> Result<String> {
    let (namespace, client) = (context.namespace(), &context.client);
    match target {
        PodTarget::Pod(name) => {
            let phase = client.get_pod(namespace, name).await?.status.phase;
            anyhow::ensure!(phase == PodPhase::Running, "pod {name:?} does not run, it is {phase:?}");
            Ok(name.clone())
        }
        PodTarget::Job(name) => {
            client.get_job(namespace, name).await?;
            let of_job =
                Scope { namespace: namespace.to_owned(), job_name: name.clone(), ..Scope::default() };
            let pods = client.list_pods(&of_job).await?.items.into_iter();
            let running = pods.filter(|pod| pod.status.phase == PodPhase::Running);
            let newest = running.max_by_key(|pod| pod.metadata.creation_timestamp);
            newest.map(|pod| pod.metadata.name).with_context(|| format!("job {name:?} has no pod that runs"))
        }
    }
}

async fn listen(address: IpAddr, port: Option<u16>) -> Result<TcpListener> {
    let wanted = SocketAddr::new(address, port.unwrap_or(0));
    TcpListener::bind(wanted).await.with_context(|| format!("{wanted} can't be listened on"))
}

/// Where all connections go.
struct Forward {
    client: Client,
    namespace: String,
    target: PodTarget,
    places: Semaphore,
}

/// Ends when the port can't be listened on any more.
async fn accept(forward: Arc<Forward>, listener: TcpListener, remote: u16) -> Result<ExitCode> {
    let mut connections = JoinSet::new();
    loop {
        let (connection, from) = listener.accept().await.context("no connection can be accepted")?;
        let forward = Arc::clone(&forward);
        connections.spawn(async move {
            let Ok(_place) = forward.places.acquire().await else { return };
            if let Err(error) = pass(&forward, connection, remote).await {
                output::error(&error.context(format!("connection from {from}")));
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(forward: &Forward, connection: TcpStream, remote: u16) -> Result<()> {
    let mut to_pod = forward.client.port_forward(&forward.namespace, &forward.target, remote).await?;
    let Some(input) = to_pod.take_input() else { return Ok(()) };
    // Small pieces go at once; without it they only go a little later.
    drop(connection.set_nodelay(true));
    let (from_here, mut to_here) = connection.into_split();
    let sending = tokio::spawn(send(from_here, input));
    let received = async {
        while let Some(data) = to_pod.next().await? {
            match data.is_empty() {
                true => to_here.shutdown().await?,
                false => to_here.write_all(&data).await?,
            }
        }
        Ok(())
    };
    let outcome = received.await;
    // With both directions closed at the other end, what is sent goes nowhere.
    sending.abort();
    outcome
}

/// Until this side is closed; with the end of `input` the other side learns it.
async fn send(mut from_here: OwnedReadHalf, input: stint_client::ChannelInput) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(n_bytes @ 1..) = from_here.read(&mut buffer).await {
        if !input.send(Bytes::copy_from_slice(&buffer[..n_bytes])).await {
            return;
        }
    }
}

fn parse(text: &str) -> Result<Ports> {
    let port = |part: &str| match part.parse() {
        Ok(0) | Err(_) => bail!("{text:?} names no ports: write LOCAL:REMOTE, PORT or :REMOTE, each 1-65535"),
        Ok(port) => Ok(port),
    };
    match text.split_once(':') {
        None => port(text).map(|port| Ports { local: Some(port), remote: port }),
        Some(("", remote)) => Ok(Ports { local: None, remote: port(remote)? }),
        Some((local, remote)) => Ok(Ports { local: Some(port(local)?), remote: port(remote)? }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_as_kubernetes_users_know_it() {
        let ports = |local, remote| Ports { local, remote };
        assert_eq!(parse("80").unwrap(), ports(Some(80), 80));
        assert_eq!(parse("8080:80").unwrap(), ports(Some(8_080), 80));
        assert_eq!(parse(":80").unwrap(), ports(None, 80));
        for text in ["", ":", "0", "80:", "a", "1:2:3", "65536", "-1", "80:http", "0:80"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
