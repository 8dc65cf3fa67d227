//! Service Events.
//!
//! Owns: its two methods. Does not own: when events are written (`stint-core`).

use stint_proto::v1;
use tonic::{Request, Response, Status};

use crate::listing::{PageRequest, list};
use crate::objects::{EventQuery, namespace_of};
use crate::services::Context;
use crate::watching::WatchStream;

/// See `proto/stint/v1/events.proto`.
#[derive(Clone)]
pub struct EventsService(pub Context);

#[tonic::async_trait]
impl v1::events_server::Events for EventsService {
    async fn list(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let request = request.into_inner();
        let query = EventQuery {
            namespace: namespace_of(request.namespace, request.all_namespaces),
            filter: request.filter.unwrap_or_default(),
        };
        let page = PageRequest {
            limit: request.limit,
            continue_token: request.continue_token,
            stale: request.stale,
        };
        let context = &self.0;
        let page = list(query, page, &context.reads, &context.lists).await?;
        Ok(Response::new(v1::ListEventsResponse { metadata: Some(page.metadata), items: page.items }))
    }

    type WatchStream = WatchStream<v1::EventWatchEvent>;

    async fn watch(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let query = EventQuery {
            namespace: namespace_of(request.namespace, request.all_namespaces),
            filter: request.filter.unwrap_or_default(),
        };
        Ok(Response::new(self.0.watches.watch(query, request.from_revision).await?))
    }
}
