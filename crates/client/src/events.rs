//! Calls about Events.

use stint_api::Event;
use stint_proto::v1;
use stint_proto::v1::events_client::EventsClient;

use crate::connection::Client;
use crate::error::Error;
use crate::watch::{Scope, Watch};
use crate::{Listed, limits};

impl Client {
    /// Reads all Events of a scope, page by page.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// let of_jobs = Scope { regarding_kind: "Job".to_owned(), ..Scope::default() };
    /// for event in client.list_events(&of_jobs).await? {
    ///     println!("{}: {}", event.reason, event.message);
    /// }
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// Those of every call.
    pub async fn list_events(&self, scope: &Scope) -> Result<Listed<Event>, Error> {
        let request = |continue_token| v1::ListEventsRequest {
            namespace: scope.namespace.clone(),
            all_namespaces: scope.all_namespaces,
            filter: filter_of(scope),
            limit: limits::PAGE_SIZE,
            continue_token,
            stale: false,
        };
        self.list(
            usize::MAX,
            request,
            |channel, request| async move { EventsClient::new(channel).list(request).await },
            |answer| (answer.items, answer.metadata),
        )
        .await
    }

    /// Watches Events; changes after `from_revision` are given, each once. With 0 what there is comes first, as added.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// let revision = client.revision("default").await?;
    /// // Only what happens from now on.
    /// let watch = client.watch_events(&Scope::default(), revision);
    /// # let _ = watch;
    /// # Ok(()) }); }
    /// ```
    pub fn watch_events(&self, scope: &Scope, from_revision: u64) -> Watch<Event> {
        let request = v1::WatchEventsRequest {
            namespace: scope.namespace.clone(),
            all_namespaces: scope.all_namespaces,
            filter: filter_of(scope),
            from_revision,
        };
        Watch::new::<v1::EventWatchEvent>(self, from_revision, move |channel, from_revision| {
            let request = v1::WatchEventsRequest { from_revision, ..request.clone() };
            Box::pin(async move { EventsClient::new(channel).watch(request).await })
        })
    }
}

fn filter_of(scope: &Scope) -> Option<v1::EventFilter> {
    let filter = v1::EventFilter {
        regarding_kind: scope.regarding_kind.clone(),
        regarding_name: scope.regarding_name.clone(),
        regarding_uid: scope.regarding_uid.clone(),
    };
    (filter != v1::EventFilter::default()).then_some(filter)
}
