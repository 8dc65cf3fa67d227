//! Snapshots on the peer port: a file in chunks, each with its checksum.
//!
//! Owns: cutting a snapshot file into messages and putting it together again. Does not own: what the file holds; its
//! installation checks that.
//!
//! Invariant: a stream that breaks off, skips a chunk or carries a wrong checksum leaves no snapshot behind.

use std::io::Read;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::limits::{
    SNAPSHOT_CHUNK_BYTES, SNAPSHOT_CHUNK_TIMEOUT_MS, SNAPSHOT_CHUNKS_AHEAD_MAX, SNAPSHOT_TRANSFER_TIMEOUT_MS,
};
use crate::peer::convert::{self, BadMessage};
use crate::peer::transport::describe;
use crate::snapshot::{SnapshotFile, SnapshotFolder};
use crate::types::{Snapshot, SnapshotMeta, Vote};
use crate::wire;
use crate::wire::peer_client::PeerClient;

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotStreamError {
    /// The sender's disk.
    #[error("could not read the snapshot: {0}")]
    Read(std::io::Error),
    /// The receiver's disk.
    #[error("could not write the snapshot: {0}")]
    Write(std::io::Error),
    /// The stream is not what it should be.
    #[error("snapshot stream is damaged: {0}")]
    Damaged(String),
    /// The other side, or the way to it.
    #[error("{0}")]
    Peer(String),
    /// Too slow.
    #[error("snapshot transfer took too long")]
    TimedOut,
}

impl From<BadMessage> for SnapshotStreamError {
    fn from(error: BadMessage) -> SnapshotStreamError {
        SnapshotStreamError::Damaged(error.to_string())
    }
}

/// Sends a snapshot; returns when the other side has installed or refused it.
pub async fn send(
    client: &mut PeerClient<Channel>,
    vote: &Vote,
    snapshot: Snapshot,
) -> Result<wire::PeerSnapshotResponse, SnapshotStreamError> {
    let header = convert::snapshot_header_to_wire(vote, &snapshot.meta);
    let (sender, receiver) = mpsc::channel(SNAPSHOT_CHUNKS_AHEAD_MAX);
    // Ends when the receiver is gone: the stream broke, or this future was dropped.
    let reading = tokio::task::spawn_blocking(move || read_chunks(&snapshot.snapshot, header, &sender));
    let limit = Duration::from_millis(SNAPSHOT_TRANSFER_TIMEOUT_MS);
    let sent = tokio::time::timeout(limit, client.install_snapshot(ReceiverStream::new(receiver))).await;
    match (sent, reading.await) {
        // The other side only sees that the stream ended; the reason is on ours.
        (_, Ok(Err(error))) => Err(SnapshotStreamError::Read(error)),
        (Err(_), _) => Err(SnapshotStreamError::TimedOut),
        (Ok(Err(status)), _) => Err(SnapshotStreamError::Peer(describe(&status))),
        (Ok(Ok(response)), _) => Ok(response.into_inner()),
    }
}

/// Receives a snapshot into a file of its own.
pub async fn receive(
    mut chunks: impl futures::Stream<Item = Result<wire::PeerSnapshotChunk, tonic::Status>> + Unpin,
    folder: &SnapshotFolder,
) -> Result<(Vote, SnapshotMeta, SnapshotFile), SnapshotStreamError> {
    let mut writer = folder.create().map_err(SnapshotStreamError::Write)?;
    let mut described = None;
    let mut expected_sequence = 0;
    loop {
        let limit = Duration::from_millis(SNAPSHOT_CHUNK_TIMEOUT_MS);
        let chunk = tokio::time::timeout(limit, chunks.next())
            .await
            .map_err(|_| SnapshotStreamError::TimedOut)?
            .ok_or_else(|| SnapshotStreamError::Damaged("it ends before its last chunk".to_owned()))?
            .map_err(|status| SnapshotStreamError::Peer(describe(&status)))?;
        if chunk.sequence != expected_sequence {
            return Err(SnapshotStreamError::Damaged(format!(
                "chunk {} came where {expected_sequence} was due",
                chunk.sequence
            )));
        }
        if crc32fast::hash(&chunk.data) != chunk.crc32 {
            return Err(SnapshotStreamError::Damaged(format!("checksum of chunk {}", chunk.sequence)));
        }
        match (&chunk.header, described.is_some()) {
            (Some(header), false) => described = Some(convert::snapshot_header_from_wire(header)?),
            (None, true) => {}
            _ => {
                let message = "the header must be in the first chunk and nowhere else";
                return Err(SnapshotStreamError::Damaged(message.to_owned()));
            }
        }
        let (data, last) = (chunk.data, chunk.last);
        writer = tokio::task::spawn_blocking(move || writer.append(&data).map(|()| writer))
            .await
            .map_err(|error| SnapshotStreamError::Write(std::io::Error::other(error)))?
            .map_err(SnapshotStreamError::Write)?;
        if last {
            let (vote, meta) =
                described.ok_or_else(|| SnapshotStreamError::Damaged("it has no header".to_owned()))?;
            let file = tokio::task::spawn_blocking(move || writer.finish())
                .await
                .map_err(|error| SnapshotStreamError::Write(std::io::Error::other(error)))?
                .map_err(SnapshotStreamError::Write)?;
            return Ok((vote, meta, file));
        }
        expected_sequence += 1;
    }
}

fn read_chunks(
    file: &SnapshotFile,
    header: wire::PeerSnapshotHeader,
    sender: &mpsc::Sender<wire::PeerSnapshotChunk>,
) -> std::io::Result<()> {
    let mut reader = file.open()?;
    let mut header = Some(header);
    let mut left_bytes = file.len_bytes();
    let mut sequence = 0;
    loop {
        let length = left_bytes.min(SNAPSHOT_CHUNK_BYTES as u64);
        let mut data = Vec::new();
        reader.by_ref().take(length).read_to_end(&mut data)?;
        if data.len() as u64 != length {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the snapshot file is shorter than it was",
            ));
        }
        left_bytes -= length;
        let chunk = wire::PeerSnapshotChunk {
            header: header.take(),
            sequence,
            crc32: crc32fast::hash(&data),
            data: data.into(),
            last: left_bytes == 0,
        };
        // Nobody listens any more: the sender of the stream says why.
        if sender.blocking_send(chunk).is_err() || left_bytes == 0 {
            return Ok(());
        }
        sequence += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    const CHUNK: usize = SNAPSHOT_CHUNK_BYTES;

    fn folder() -> (tempfile::TempDir, SnapshotFolder) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = SnapshotFolder::open(&temporary.path().join("snapshots")).unwrap();
        (temporary, folder)
    }

    fn file(folder: &SnapshotFolder, bytes: &[u8]) -> SnapshotFile {
        let mut writer = folder.create().unwrap();
        writer.append(bytes).unwrap();
        writer.finish().unwrap()
    }

    async fn chunks_of(file: SnapshotFile) -> Vec<wire::PeerSnapshotChunk> {
        let (sender, mut receiver) = mpsc::channel(4);
        let leader_id = crate::types::LeaderId { term: 1, voted_for: 1 };
        let vote = Vote { leader_id, committed: true };
        let header = convert::snapshot_header_to_wire(&vote, &SnapshotMeta::default());
        let reading = tokio::task::spawn_blocking(move || read_chunks(&file, header, &sender));
        let mut chunks = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            chunks.push(chunk);
        }
        reading.await.unwrap().unwrap();
        chunks
    }

    async fn receive_all(
        chunks: Vec<wire::PeerSnapshotChunk>,
        folder: &SnapshotFolder,
    ) -> Result<Vec<u8>, SnapshotStreamError> {
        let (_, _, file) = receive(stream::iter(chunks.into_iter().map(Ok)), folder).await?;
        let mut bytes = Vec::new();
        file.open().unwrap().read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    }

    #[tokio::test]
    async fn a_file_of_any_length_arrives_whole() {
        let (_temporary, folder) = folder();
        for length in [0, 1, CHUNK, 2 * CHUNK + 17] {
            let bytes: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
            let chunks = chunks_of(file(&folder, &bytes)).await;
            assert_eq!(chunks.len(), length.div_ceil(CHUNK).max(1));
            assert!(receive_all(chunks, &folder).await.unwrap() == bytes, "length {length}");
        }
    }

    #[tokio::test]
    async fn damage_is_found() {
        let (temporary, folder) = folder();
        let bytes = vec![7; 3 * CHUNK];
        let chunks = chunks_of(file(&folder, &bytes)).await;
        assert_eq!(chunks.len(), 3);

        let mut cut = chunks.clone();
        cut.pop();
        let mut gap = chunks.clone();
        gap.remove(1);
        let mut flipped = chunks.clone();
        flipped[1].crc32 ^= 1;
        let mut headless = chunks.clone();
        headless[0].header = None;
        let mut two_heads = chunks.clone();
        two_heads[2].header = chunks[0].header.clone();
        for damaged in [cut, gap, flipped, headless, two_heads] {
            let result = receive_all(damaged, &folder).await;
            assert!(matches!(result, Err(SnapshotStreamError::Damaged(_))), "{result:?}");
        }
        let left = std::fs::read_dir(temporary.path().join("snapshots")).unwrap().count();
        assert_eq!(left, 0, "files of broken streams stay behind");
    }
}
