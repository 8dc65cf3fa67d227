//! Calls about Events.

use stint_api::Event;
use stint_proto::v1;
use stint_proto::v1::events_client::EventsClient;

use crate::connection::{Client, Effect};
use crate::error::Error;
use crate::jobs::list_all;
use crate::watch::{Scope, Watch, WatchMessage};
use crate::{Listed, limits};

impl Client {
    /// Reads all Events of a scope, page by page.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn list_events(&self, scope: &Scope) -> Result<Listed<Event>, Error> {
        list_all(|continue_token| {
            let request = v1::ListEventsRequest {
                namespace: scope.namespace.clone(),
                all_namespaces: scope.all_namespaces,
                filter: filter_of(scope),
                limit: limits::PAGE_SIZE,
                continue_token,
                stale: false,
            };
            async move {
                let answer = self
                    .call(Effect::Read, |channel| {
                        let request = request.clone();
                        async move { EventsClient::new(channel).list(request).await }
                    })
                    .await?
                    .into_inner();
                let items = answer.items.into_iter().map(event_of).collect::<Result<_, _>>()?;
                Ok((items, answer.metadata.unwrap_or_default()))
            }
        })
        .await
    }

    /// Watches Events; changes after `from_revision` are given, each once.
    pub fn watch_events(&self, scope: &Scope, from_revision: u64) -> Watch<Event> {
        let (client, scope) = (self.clone(), scope.clone());
        Watch::new::<v1::EventWatchEvent>(
            Box::new(move |from_revision| {
                let client = client.clone();
                let request = v1::WatchEventsRequest {
                    namespace: scope.namespace.clone(),
                    all_namespaces: scope.all_namespaces,
                    filter: filter_of(&scope),
                    from_revision,
                };
                Box::pin(async move {
                    let open = |channel| {
                        let request = request.clone();
                        async move { EventsClient::new(channel).watch(request).await }
                    };
                    Ok(client.call(Effect::Read, open).await?.into_inner())
                })
            }),
            from_revision,
        )
    }
}

impl WatchMessage for v1::EventWatchEvent {
    type Object = Event;

    fn parts(self) -> Result<(v1::WatchEventType, u64, Option<Event>), Error> {
        let event_type = self.r#type();
        let object = self.event.map(event_of).transpose()?;
        Ok((event_type, self.revision, object))
    }
}

fn event_of(event: v1::Event) -> Result<Event, Error> {
    event.try_into().map_err(Error::answer)
}

fn filter_of(scope: &Scope) -> Option<v1::EventFilter> {
    let filter = v1::EventFilter {
        regarding_kind: scope.regarding_kind.clone(),
        regarding_name: scope.regarding_name.clone(),
        regarding_uid: scope.regarding_uid.clone(),
    };
    (filter != v1::EventFilter::default()).then_some(filter)
}
