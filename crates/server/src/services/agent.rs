//! Service Agent: opens sessions at the leader, tells agents elsewhere where it is.
//!
//! Owns: the method. Does not own: the life of a session (`session`), relaying (`forwarding`).

use std::sync::Arc;

use stint_proto::v1;
use stint_proto::v1::server_message::Message;
use tonic::{Request, Response, Status, Streaming};

use crate::error::{self, LeaderHint};
use crate::limits::SESSION_STREAMS_MAX;
use crate::session::{SessionContext, serve};
use crate::sessions::{Outgoing, OutgoingStream};

/// See `proto/stint/v1/agent.proto`.
#[derive(Clone)]
pub struct AgentService(pub SessionContext);

#[tonic::async_trait]
impl v1::agent_server::Agent for AgentService {
    type SessionStream = OutgoingStream;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let context = &self.0.context;
        let (out, heard) = Outgoing::new();
        let leads = {
            let leadership = context.raft.leadership();
            let leadership = leadership.borrow();
            leadership.is_leader && leadership.established
        };
        if leads {
            let place = Arc::clone(&self.0.streams).try_acquire_owned().map_err(|_| {
                error::overloaded(format!(
                    "{SESSION_STREAMS_MAX} agents are connected already: try again later"
                ))
            })?;
            let serving = serve(self.0.clone(), request.into_inner(), out);
            tokio::spawn(async move {
                serving.await;
                drop(place);
            });
        } else {
            let hint = LeaderHint::of(&context.raft);
            let said = v1::NotLeader { leader_address: hint.address.clone(), leader_name: hint.name.clone() };
            out.say(Message::NotLeader(said));
            out.end(error::not_leader_with(hint));
        }
        Ok(Response::new(heard))
    }
}
