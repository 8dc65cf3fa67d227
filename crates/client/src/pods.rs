//! Calls about Pods and their logs.

use bytes::{Buf, Bytes};
use std::time::Duration;
use stint_api::{Pod, Timestamp};
use stint_proto::v1;
use stint_proto::v1::pods_client::PodsClient;
use tonic::Streaming;

use crate::connection::{Client, Effect, is_resumable, refused};
use crate::error::Error;
use crate::jobs::list_most;
use crate::watch::{Scope, Watch, WatchMessage};
use crate::{Listed, limits};

/// Which Pod is meant: whose log, or where something is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodTarget {
    /// The Pod of this name.
    Pod(String),
    /// One Pod of the Job of this name: a running one before an ended one, then the newest.
    Job(String),
}

/// Which part of a log.
#[derive(Debug, Clone)]
pub struct LogsRequest {
    /// Namespace; empty: `default`.
    pub namespace: String,
    /// Whose log.
    pub target: PodTarget,
    /// The container; empty: the only one.
    pub container: String,
    /// Which run of the container; unset: the present or last one.
    pub restart_count: Option<u32>,
    /// The run before that.
    pub previous: bool,
    /// Go on until the container has ended.
    pub follow: bool,
    /// Begin so many lines before the end.
    pub tail_lines: Option<u64>,
    /// Leave out lines older than this.
    pub since: Option<Duration>,
    /// Leave out lines written before this moment.
    pub since_time: Option<Timestamp>,
    /// Begin each line with the time at which it was written.
    pub timestamps: bool,
}

impl LogsRequest {
    /// The whole log of a target.
    pub fn new(namespace: &str, target: PodTarget) -> LogsRequest {
        LogsRequest {
            namespace: namespace.to_owned(),
            target,
            container: String::new(),
            restart_count: None,
            previous: false,
            follow: false,
            tail_lines: None,
            since: None,
            since_time: None,
            timestamps: false,
        }
    }
}

/// A log as it comes. A broken connection is mended where it broke.
#[derive(Debug)]
pub struct LogStream {
    client: Client,
    request: v1::PodLogsRequest,
    stream: Streaming<v1::PodLogsChunk>,
    source: Option<v1::LogSource>,
    /// Told of and not asked for yet.
    cuts: Vec<v1::LogCut>,
    /// Bytes given after the last position that the stream has named: a new stream begins with them again.
    given_since_offset: usize,
    /// Bytes that a new stream repeats and that are not given again.
    repeated: usize,
    /// Before the next connection is opened.
    pause: Duration,
}

impl LogStream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.stream.message().await {
                Ok(Some(chunk)) => {
                    if let Some(data) = self.take(chunk) {
                        return Ok(Some(data));
                    }
                }
                Ok(None) => return Ok(None),
                Err(status) if is_resumable(&status) && self.can_go_on() => {
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).clamp(limits::RETRY_PAUSE_FIRST, limits::RETRY_PAUSE_MAX);
                    self.stream = self.client.open_logs(&self.request).await?;
                    self.repeated = self.given_since_offset;
                }
                Err(status) => return Err(refused(&status)),
            }
        }
    }

    /// What a chunk has to give.
    fn take(&mut self, chunk: v1::PodLogsChunk) -> Option<Bytes> {
        if let Some(source) = chunk.source {
            // From now on this very run.
            self.request.pod_uid = source.pod_uid.clone();
            self.request.restart_count = Some(source.restart_count);
            self.request.previous = false;
            self.request.target = Some(v1::pod_logs_request::Target::PodName(source.pod_name.clone()));
            self.source = Some(source);
        }
        self.cuts.extend(chunk.cut);
        let mut data = chunk.data;
        if !data.is_empty() {
            self.pause = Duration::ZERO;
        }
        let repeated = self.repeated.min(data.len());
        self.repeated -= repeated;
        data.advance(repeated);
        self.given_since_offset += data.len();
        if chunk.next_offset > self.request.offset.unwrap_or(0) {
            // And from this very place: what is there is neither too old nor before the tail.
            self.request.offset = Some(chunk.next_offset);
            self.request.tail_lines = None;
            self.request.since = None;
            self.given_since_offset = 0;
            self.repeated = 0;
        }
        (!data.is_empty()).then_some(data)
    }

    /// False if a new stream could begin at another place than this one did.
    fn can_go_on(&self) -> bool {
        let begins_anew = self.request.tail_lines.is_some() || self.request.since.is_some();
        self.given_since_offset == 0 || !begins_anew
    }

    /// Name of the Pod that the log is of, once the first piece has come.
    pub fn pod_name(&self) -> Option<&str> {
        self.source().map(|source| source.pod_name.as_str())
    }

    /// Where output is missing that was asked for, as far as the pieces that came have told; each is given once. A cut with
    /// nothing before it comes with the first piece, one with nothing after it with the end.
    pub fn take_cuts(&mut self) -> Vec<v1::LogCut> {
        std::mem::take(&mut self.cuts)
    }

    /// Of which run of which container the log is, once the first piece has come.
    pub fn source(&self) -> Option<&v1::LogSource> {
        self.source.as_ref()
    }
}

impl Client {
    /// Reads a Pod, linearizably.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn get_pod(&self, namespace: &str, name: &str) -> Result<Pod, Error> {
        let request =
            v1::GetPodRequest { namespace: namespace.to_owned(), name: name.to_owned(), stale: false };
        let answer = self
            .call(Effect::Read, |channel| {
                let request = request.clone();
                async move { PodsClient::new(channel).get(request).await }
            })
            .await?;
        pod_of(answer.into_inner())
    }

    /// Reads all Pods of a scope, page by page.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn list_pods(&self, scope: &Scope) -> Result<Listed<Pod>, Error> {
        let items_max = if scope.items_max == 0 { usize::MAX } else { scope.items_max };
        list_most(items_max, |continue_token| {
            let request = v1::ListPodsRequest {
                namespace: scope.namespace.clone(),
                all_namespaces: scope.all_namespaces,
                label_selector: scope.label_selector.clone(),
                limit: limits::PAGE_SIZE,
                continue_token,
                stale: false,
                job_name: scope.job_name.clone(),
                node_name: scope.node_name.clone(),
            };
            async move {
                let answer = self
                    .call(Effect::Read, |channel| {
                        let request = request.clone();
                        async move { PodsClient::new(channel).list(request).await }
                    })
                    .await?
                    .into_inner();
                let items = answer.items.into_iter().map(pod_of).collect::<Result<_, _>>()?;
                Ok((items, answer.metadata.unwrap_or_default()))
            }
        })
        .await
    }

    /// Deletes the Pod with this uid; one that is gone already is success.
    ///
    /// # Errors
    /// `Conflict` if the name belongs to another Pod by now, and those of every call.
    pub async fn delete_pod(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        grace_period_seconds: Option<u32>,
    ) -> Result<(), Error> {
        let request = v1::DeletePodRequest {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            grace_period_seconds,
        };
        let answer = self
            .call(Effect::RepeatableWrite, |channel| {
                let request = request.clone();
                async move { PodsClient::new(channel).delete(request).await }
            })
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Watches Pods; changes after `from_revision` are given, each once.
    pub fn watch_pods(&self, scope: &Scope, from_revision: u64) -> Watch<Pod> {
        let (client, scope) = (self.clone(), scope.clone());
        Watch::new::<v1::PodWatchEvent>(
            Box::new(move |from_revision| {
                let client = client.clone();
                let request = v1::WatchPodsRequest {
                    namespace: scope.namespace.clone(),
                    all_namespaces: scope.all_namespaces,
                    name: scope.name.clone(),
                    label_selector: scope.label_selector.clone(),
                    from_revision,
                    job_name: scope.job_name.clone(),
                    node_name: scope.node_name.clone(),
                };
                Box::pin(async move {
                    let open = |channel| {
                        let request = request.clone();
                        async move { PodsClient::new(channel).watch(request).await }
                    };
                    Ok(client.call(Effect::Read, open).await?.into_inner())
                })
            }),
            from_revision,
        )
    }

    /// Reads a log.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn logs(&self, wanted: &LogsRequest) -> Result<LogStream, Error> {
        let target = match &wanted.target {
            PodTarget::Pod(name) => v1::pod_logs_request::Target::PodName(name.clone()),
            PodTarget::Job(name) => v1::pod_logs_request::Target::JobName(name.clone()),
        };
        let since = match (wanted.since_time, wanted.since) {
            (Some(time), _) => Some(v1::pod_logs_request::Since::SinceTime(prost_types::Timestamp {
                seconds: time.0.div_euclid(1000),
                nanos: (time.0.rem_euclid(1000) * 1_000_000) as i32,
            })),
            (None, Some(since)) => Some(v1::pod_logs_request::Since::SinceSeconds(
                since.as_secs() + u64::from(since.subsec_nanos() > 0),
            )),
            (None, None) => None,
        };
        let request = v1::PodLogsRequest {
            namespace: wanted.namespace.clone(),
            target: Some(target),
            pod_uid: String::new(),
            container: wanted.container.clone(),
            restart_count: wanted.restart_count,
            previous: wanted.previous,
            follow: wanted.follow,
            tail_lines: wanted.tail_lines,
            since,
            timestamps: wanted.timestamps,
            offset: None,
            limit_bytes: 0,
        };
        let stream = self.open_logs(&request).await?;
        Ok(LogStream {
            client: self.clone(),
            request,
            stream,
            source: None,
            cuts: Vec::new(),
            given_since_offset: 0,
            repeated: 0,
            pause: Duration::ZERO,
        })
    }

    async fn open_logs(&self, request: &v1::PodLogsRequest) -> Result<Streaming<v1::PodLogsChunk>, Error> {
        let open = |channel| {
            let request = request.clone();
            async move { PodsClient::new(channel).logs(request).await }
        };
        Ok(self.call(Effect::Read, open).await?.into_inner())
    }
}

impl WatchMessage for v1::PodWatchEvent {
    type Object = Pod;

    fn parts(self) -> Result<(v1::WatchEventType, u64, Option<Pod>), Error> {
        let event_type = self.r#type();
        let object = self.pod.map(pod_of).transpose()?;
        Ok((event_type, self.revision, object))
    }
}

fn pod_of(pod: v1::Pod) -> Result<Pod, Error> {
    pod.try_into().map_err(Error::answer)
}
