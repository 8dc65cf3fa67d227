//! Service Agent: opens sessions at the leader, tells agents elsewhere where it is.
//!
//! Owns: the method. Does not own: the life of a session (`session`), relaying (`forwarding`).

use stint_proto::v1;
use stint_proto::v1::server_message::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::agent_wire;
use crate::error::{self, LeaderHint};
use crate::limits::SESSION_OUT_QUEUE;
use crate::session::{SessionContext, serve};

/// See `proto/stint/v1/agent.proto`.
#[derive(Clone)]
pub struct AgentService(pub SessionContext);

#[tonic::async_trait]
impl v1::agent_server::Agent for AgentService {
    type SessionStream = ReceiverStream<Result<v1::ServerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let context = &self.0.context;
        let (out, receiver) = mpsc::channel(SESSION_OUT_QUEUE);
        let leads = {
            let leadership = context.raft.leadership();
            let leadership = leadership.borrow();
            leadership.is_leader && leadership.established
        };
        if leads {
            tokio::spawn(serve(self.0.clone(), request.into_inner(), out));
        } else {
            let hint = LeaderHint::of(&context.raft);
            let said = v1::NotLeader { leader_address: hint.address.clone(), leader_name: hint.name.clone() };
            // The channel is new: there is room.
            let _ = out.try_send(Ok(agent_wire::message(Message::NotLeader(said))));
            let _ = out.try_send(Err(error::not_leader_with(hint)));
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
