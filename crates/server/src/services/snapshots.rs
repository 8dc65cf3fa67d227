//! Cluster.SaveSnapshot: a snapshot of everything, streamed by the server that is asked.
//!
//! Owns: how many are saved at once, the pace of the stream. Does not own: what is in a snapshot (`stint-raft`).
//!
//! Invariants: a reader that takes nothing for a while gets no more, since what it has not got is kept on disk for it; a
//! stream that was not finished ends with an error.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stint_proto::{ErrorReason, v1};
use stint_raft::ReadError;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::error;
use crate::limits::{
    READ_TIMEOUT_MS, SNAPSHOT_MESSAGE_BYTES, SNAPSHOT_MESSAGES_AHEAD, SNAPSHOT_READER_MS, SNAPSHOTS_SAVED_MAX,
};
use crate::services::Context;

/// What a reader gets.
pub type SnapshotStream = ReceiverStream<Result<v1::SaveSnapshotResponse, Status>>;

/// See `proto/stint/v1/cluster.proto`.
pub async fn save(context: &Context, request: v1::SaveSnapshotRequest) -> Result<SnapshotStream, Status> {
    let Ok(place) = Arc::clone(&context.snapshots_saved).try_acquire_owned() else {
        let message =
            format!("this server saves {SNAPSHOTS_SAVED_MAX} snapshots already: try again, or ask another");
        return Err(error::overloaded(message));
    };
    if !request.stale {
        confirm(context).await?;
    }
    let (pieces, receiver) = mpsc::channel(SNAPSHOT_MESSAGES_AHEAD + 1);
    // A place for the error that it may end with: a reader that is slow hears it too.
    let end = pieces.clone().reserve_owned().await.map_err(|_| error::stopping())?;
    let (context, runtime) = (context.clone(), Handle::current());
    tokio::spawn(async move {
        let _place = place;
        let stop = context.stop.clone();
        let send = move |piece: Bytes| {
            let passed_on = runtime.block_on(async {
                tokio::select! {
                    passed_on = pass_on(&pieces, piece) => passed_on,
                    () = stop.cancelled() => Err("this server stops"),
                }
            });
            passed_on.map_err(|what| stint_raft::Error::Snapshot { what: what.to_owned() })
        };
        match context.raft.save_snapshot(env!("CARGO_PKG_VERSION"), send).await {
            Ok(header) => {
                tracing::info!(revision = header.revision.0, index = header.log_index, "saved a snapshot");
            }
            Err(failed) => {
                tracing::warn!(%failed, "a snapshot was not saved");
                drop(end.send(Err(refusal(&failed))));
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Everything acknowledged before is applied here, whoever leads.
async fn confirm(context: &Context) -> Result<(), Status> {
    let confirming = context.raft.linearizable_anywhere();
    match tokio::time::timeout(Duration::from_millis(READ_TIMEOUT_MS), confirming).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(ReadError::NotLeader { .. })) => Err(error::not_leader(&context.raft)),
        Ok(Err(ReadError::Fatal(_))) => Err(error::stopping()),
        Ok(Err(ReadError::NoQuorum(_) | ReadError::NotApplied { .. })) | Err(_) => {
            Err(error::read_timeout("the snapshot"))
        }
    }
}

async fn pass_on(
    pieces: &mpsc::Sender<Result<v1::SaveSnapshotResponse, Status>>,
    mut piece: Bytes,
) -> Result<(), &'static str> {
    while !piece.is_empty() {
        let data = piece.split_to(piece.len().min(SNAPSHOT_MESSAGE_BYTES));
        let sending = pieces.send(Ok(v1::SaveSnapshotResponse { data }));
        match tokio::time::timeout(Duration::from_millis(SNAPSHOT_READER_MS), sending).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err("its reader has gone"),
            Err(_) => return Err("its reader takes too long"),
        }
    }
    Ok(())
}

fn refusal(failed: &stint_raft::Error) -> Status {
    match failed {
        stint_raft::Error::Snapshot { what } => {
            error::refused(ErrorReason::FailedPrecondition, format!("the snapshot was not saved: {what}"))
        }
        failed => error::internal("saving a snapshot", failed),
    }
}
