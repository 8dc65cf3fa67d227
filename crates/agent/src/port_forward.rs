//! Connections to ports of Pods for callers of the servers.
//!
//! Owns: one connection and what goes between it and a channel. Does not own: credit (`channels`).
//!
//! Where a Pod's ports are is the runtime's to know. Who may come in this way may execute commands in the Pod as well, and could
//! connect from there.

use bytes::Bytes;
use stint_api::PodUid;
use stint_proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::channels::{Channel, ChannelEnd, Input, InputReader, OutputWriter};
use crate::limits;
use crate::live_pods::LivePods;

/// Connects; resolves when both directions are closed. Dropped before, the connection is closed.
pub async fn serve(channel: Channel, live: &LivePods, pod: PodUid, port: u32) -> ChannelEnd {
    let Some(sandbox) = live.sandbox(pod) else {
        return ChannelEnd::because(v1::ChannelEndReason::NotRunning, "nothing of the pod runs");
    };
    let Some(port) = u16::try_from(port).ok().filter(|port| *port > 0) else {
        return ChannelEnd::because(v1::ChannelEndReason::Failed, format!("{port} is no port"));
    };
    let connection = match sandbox.connect(port).await {
        Ok(connection) => connection,
        Err(problem) => {
            let message = format!("port {port} of the pod can't be connected to: {problem}");
            return ChannelEnd::because(v1::ChannelEndReason::Failed, message);
        }
    };
    // Small pieces go at once; without it they only go a little later.
    drop(connection.set_nodelay(true));
    let Channel { input, output, size: _ } = channel;
    output.opened().await;
    let (from_pod, to_pod) = connection.into_split();
    match tokio::try_join!(pass_input(input, to_pod), pass_output(&output, from_pod)) {
        Ok(_) => ChannelEnd::complete(0),
        Err(error) => {
            let message = format!("the connection to port {port} of the pod broke: {error}");
            ChannelEnd::because(v1::ChannelEndReason::Failed, message)
        }
    }
}

async fn pass_input(mut input: InputReader, mut to_pod: OwnedWriteHalf) -> std::io::Result<()> {
    while let Some(piece) = input.next().await {
        match piece {
            Input::Data(data) => {
                to_pod.write_all(&data).await?;
                input.give_credit(data.len()).await;
            }
            Input::End => break,
        }
    }
    to_pod.shutdown().await
}

async fn pass_output(output: &OutputWriter, mut from_pod: OwnedReadHalf) -> std::io::Result<()> {
    let mut buffer = vec![0_u8; limits::EXEC_READ_BYTES];
    loop {
        let n_bytes = from_pod.read(&mut buffer).await?;
        // An empty piece says that nothing more comes.
        let piece = Bytes::copy_from_slice(&buffer[..n_bytes]);
        if !output.send(v1::ChannelStream::Stdout, piece).await || n_bytes == 0 {
            return Ok(());
        }
    }
}
