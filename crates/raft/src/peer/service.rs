//! The server side of the peer port.
//!
//! Owns: answering openraft's messages, discovery and joining; who may call what. Does not own: the handshake,
//! membership rules.
//!
//! Invariants: Raft's messages are taken only from members of this cluster, and only in their own name; a message that
//! cannot be read ends its stream, so that no hole can appear in a log.

use std::future::ready;
use std::sync::Arc;

use futures::StreamExt;
use openraft::base::BoxStream;
use openraft::raft::TransferLeaderError;
use stint_api::MemberId;
use tonic::{Request, Response, Status, Streaming};

use crate::bootstrap::{BootstrapRecord, encode_folder_uid};
use crate::clock::ClockReadings;
use crate::membership::Admission;
use crate::node::Shared;
use crate::peer::convert::{self, BadMessage};
use crate::peer::handshake::{PeerIdentity, encode_cluster_id};
use crate::peer::snapshot_stream;
use crate::peer::transport::describe;
use crate::running::Running;
use crate::status::Member;
use crate::types::{MemberInfo, Snapshot};
use crate::wire;
use crate::wire::peer_server::Peer;

/// Answers other servers.
#[derive(Clone)]
pub struct PeerService(pub Arc<Shared>);

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStreamStream = BoxStream<'static, Result<wire::PeerAppendResponse, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<wire::PeerAppendRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let (running, sender) = self.member(&request)?;
        let listener = Arc::clone(&running);
        let requests = request.into_inner().scan((), move |(), request| {
            let read =
                request.map_err(|status| (tracing::Level::DEBUG, describe(&status))).and_then(|request| {
                    check_sender(request.vote.as_ref(), sender)
                        .and_then(|()| convert::append_request_from_wire(request))
                        .map_err(|error| (tracing::Level::WARN, error.to_string()))
                });
            // The first failure ends the stream; what follows it must not be taken.
            ready(match read {
                Ok(request) => {
                    listener.hear(sender);
                    Some(request)
                }
                Err((tracing::Level::WARN, error)) => {
                    tracing::warn!(member = sender.0, error, "ended an append stream");
                    None
                }
                Err((_, error)) => {
                    tracing::debug!(member = sender.0, error, "an append stream broke off");
                    None
                }
            })
        });
        let results = running.raft.stream_append(requests);
        let responses = results.map(move |result| match result {
            Ok(result) => Ok(convert::append_result_to_wire(&result, report(&running))),
            Err(fatal) => Err(Status::unavailable(format!("this server has stopped: {fatal}"))),
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn vote(
        &self,
        request: Request<wire::PeerVoteRequest>,
    ) -> Result<Response<wire::PeerVoteResponse>, Status> {
        let (running, sender) = self.member(&request)?;
        let request = read_vote(&request.into_inner(), sender)?;
        let response = running.raft.vote(request).await.map_err(|error| stopped(&error))?;
        Ok(Response::new(convert::vote_response_to_wire(&response, report(&running))))
    }

    async fn pre_vote(
        &self,
        request: Request<wire::PeerVoteRequest>,
    ) -> Result<Response<wire::PeerVoteResponse>, Status> {
        let (running, sender) = self.member(&request)?;
        let request = read_vote(&request.into_inner(), sender)?;
        let response = running.raft.pre_vote(request).await.map_err(|error| stopped(&error))?;
        Ok(Response::new(convert::vote_response_to_wire(&response, report(&running))))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::PeerTransferRequest>,
    ) -> Result<Response<wire::PeerTransferResponse>, Status> {
        use wire::peer_transfer_response::Rejection;
        let (running, sender) = self.member(&request)?;
        let request = request.into_inner();
        check_sender(request.from_leader.as_ref(), sender).map_err(invalid)?;
        let request = convert::transfer_request_from_wire(&request).map_err(invalid)?;
        let handled = running.raft.handle_transfer_leader(request).await.map_err(|error| stopped(&error))?;
        let rejection = match handled {
            Ok(()) => None,
            Err(TransferLeaderError::VoteChanged { actual, .. }) => {
                Some(Rejection::VoteChanged(convert::vote_to_wire(&actual)))
            }
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
                let last = actual.as_ref().map(convert::log_id_to_wire);
                Some(Rejection::LogNotFlushed(wire::PeerMatched { last }))
            }
        };
        Ok(Response::new(wire::PeerTransferResponse { rejection }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::PeerSnapshotChunk>>,
    ) -> Result<Response<wire::PeerSnapshotResponse>, Status> {
        let (running, sender) = self.member(&request)?;
        let (vote, meta, file) = snapshot_stream::receive(request.into_inner(), &running.snapshots)
            .await
            .map_err(|error| Status::aborted(error.to_string()))?;
        check_sender(Some(&convert::vote_to_wire(&vote)), sender).map_err(invalid)?;
        let (term, index) = crate::state_machine::position_of(&meta);
        tracing::info!(member = sender.0, term, index, bytes = file.len_bytes(), "received a snapshot");
        let snapshot = Snapshot { meta, snapshot: file };
        let response =
            running.raft.install_full_snapshot(vote, snapshot).await.map_err(|error| stopped(&error))?;
        let vote = Some(convert::vote_to_wire(&response.vote));
        Ok(Response::new(wire::PeerSnapshotResponse { vote }))
    }

    async fn discover(
        &self,
        _request: Request<wire::PeerDiscoverRequest>,
    ) -> Result<Response<wire::PeerDiscoverResponse>, Status> {
        use wire::peer_discover_response::Situation;
        let newcomer = &self.0.newcomer;
        let situation = if let Some(running) = self.0.running.get() {
            let leader = running.leadership().leader;
            let (known, confirmed) = running.known_members();
            Situation::Initialized(wire::PeerInitialized {
                cluster_id: encode_cluster_id(Some(running.cluster_id)),
                leader_member_id: leader.map_or(0, |leader| leader.id.0),
                members: members(known),
                bootstrap: running.record.as_ref().map(BootstrapRecord::to_wire),
                confirmed,
            })
        } else if self.0.context.identity().member_id.is_none() {
            let initial_members = newcomer.initial_members.iter().map(|member| wire::PeerInitialMember {
                name: member.name.clone(),
                peer_address: member.peer_address.clone(),
            });
            Situation::Empty(wire::PeerEmpty {
                initial_members: initial_members.collect(),
                client_address: newcomer.client_address.clone(),
                peer_address: newcomer.peer_address.clone(),
            })
        } else {
            return Err(Status::unavailable("this server is starting"));
        };
        Ok(Response::new(wire::PeerDiscoverResponse {
            folder_uid: encode_folder_uid(newcomer.folder_uid),
            name: newcomer.name.clone(),
            situation: Some(situation),
        }))
    }

    async fn join(
        &self,
        request: Request<wire::PeerJoinRequest>,
    ) -> Result<Response<wire::PeerJoinResponse>, Status> {
        use wire::peer_join_response::Outcome;
        let running = self.running()?;
        let peer = identity(&request)?.clone();
        let request = request.into_inner();
        if peer.member_id.is_some() || peer.name != request.name {
            return Err(Status::permission_denied("a server joins in its own name, and only without an id"));
        }
        let info = MemberInfo {
            name: request.name,
            peer_address: request.peer_address,
            client_address: request.client_address,
        };
        let outcome = match running.admit(info).await {
            Admission::Admitted(member_id) => Outcome::Joined(wire::PeerJoined {
                member_id: member_id.0,
                cluster_id: encode_cluster_id(Some(running.cluster_id)),
                members: members(running.members()),
                bootstrap: running.record.as_ref().map(BootstrapRecord::to_wire),
            }),
            Admission::Refused(message) => Outcome::Refused(wire::PeerJoinRefused { message }),
            Admission::Later => {
                Outcome::LeaderMemberId(running.leadership().leader.map_or(0, |leader| leader.id.0))
            }
        };
        Ok(Response::new(wire::PeerJoinResponse { outcome: Some(outcome) }))
    }

    async fn read_index(
        &self,
        request: Request<wire::PeerReadIndexRequest>,
    ) -> Result<Response<wire::PeerReadIndexResponse>, Status> {
        let (running, _) = self.member(&request)?;
        let index = running.shared_read_index().await;
        let index = index.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::PeerReadIndexResponse { log_index: index.log_index }))
    }

    async fn announce(
        &self,
        request: Request<wire::PeerAnnounceRequest>,
    ) -> Result<Response<wire::PeerAnnounceResponse>, Status> {
        let (running, sender) = self.member(&request)?;
        let request = request.into_inner();
        if request.member_id != sender.0 {
            return Err(Status::permission_denied("a member announces its own addresses only"));
        }
        let changed = running.set_addresses(sender, request.peer_address, request.client_address).await;
        Ok(Response::new(wire::PeerAnnounceResponse { accepted: changed.is_ok() }))
    }
}

impl PeerService {
    fn running(&self) -> Result<Arc<Running>, Status> {
        self.0.running.get().cloned().ok_or_else(|| Status::unavailable("this server is no member yet"))
    }

    /// Raft's messages are taken from members of this cluster only.
    fn member<T>(&self, request: &Request<T>) -> Result<(Arc<Running>, MemberId), Status> {
        let running = self.running()?;
        let peer = identity(request)?;
        match peer.member_id {
            Some(member_id) if peer.cluster_id == Some(running.cluster_id) => Ok((running, member_id)),
            _ => Err(Status::permission_denied("only members of this cluster may call this")),
        }
    }
}

fn identity<T>(request: &Request<T>) -> Result<&PeerIdentity, Status> {
    request.extensions().get().ok_or_else(|| Status::unauthenticated("this connection had no handshake"))
}

/// A member speaks in its own name: its vote names itself.
fn check_sender(vote: Option<&wire::PeerVote>, sender: MemberId) -> Result<(), BadMessage> {
    match vote {
        Some(vote) if vote.member_id == sender.0 => Ok(()),
        _ => Err(BadMessage(format!("member {sender} speaks in another member's name"))),
    }
}

fn read_vote(
    request: &wire::PeerVoteRequest,
    sender: MemberId,
) -> Result<openraft::raft::VoteRequest<crate::types::TypeConfig>, Status> {
    check_sender(request.vote.as_ref(), sender).map_err(invalid)?;
    convert::vote_request_from_wire(request).map_err(invalid)
}

#[allow(clippy::needless_pass_by_value, reason = "map_err gives it by value")]
fn invalid(error: BadMessage) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: &impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this server has stopped: {error}"))
}

fn report(running: &Running) -> wire::PeerReport {
    wire::PeerReport { wall_clock_ms: ClockReadings::now().wall_ms, applied_index: running.applied_index() }
}

fn members(known: Vec<Member>) -> Vec<wire::PeerMember> {
    let members = known.into_iter().map(|member| wire::PeerMember {
        member_id: member.id.0,
        name: member.info.name,
        peer_address: member.info.peer_address,
        client_address: member.info.client_address,
        voter: member.voter,
    });
    members.collect()
}
