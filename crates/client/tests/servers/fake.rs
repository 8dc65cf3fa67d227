//! A server that answers as a script says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stint_api::Job;
use stint_client::{Client, ClientOptions, v1};
use stint_proto::status::{ErrorReason, StatusDetails};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub type Script<T> = Mutex<VecDeque<T>>;
pub type Stream<T> = Vec<Result<T, Status>>;

/// What a server answers, in order, and what it was asked.
#[derive(Default)]
pub struct Fake {
    pub creates: Script<Result<v1::CreateJobResponse, Status>>,
    pub gets: Script<Result<v1::Job, Status>>,
    pub lists: Script<Result<v1::ListJobsResponse, Status>>,
    pub updates: Script<Result<v1::UpdateJobResponse, Status>>,
    pub deletes: Script<Result<v1::DeleteJobResponse, Status>>,
    pub watches: Script<Stream<v1::JobWatchEvent>>,
    pub logs: Script<Stream<v1::PodLogsChunk>>,
    /// What each command answers, before which its input is taken.
    pub execs: Script<Result<Vec<v1::exec_response::Message>, Status>>,
    pub exec_input: Arc<Mutex<Vec<v1::exec_request::Message>>>,
    pub statuses: Script<Result<v1::ClusterStatus, Status>>,
    /// Before a watch is opened.
    pub watch_delay: Duration,
    pub asked: Mutex<Vec<String>>,
    pub log_requests: Mutex<Vec<v1::PodLogsRequest>>,
}

impl Fake {
    /// Gives its address.
    pub async fn start(self) -> (String, Arc<Fake>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fake = Arc::new(self);
        let server = tonic::transport::Server::builder()
            // As stint's own.
            .max_concurrent_streams(1_024)
            .add_service(v1::jobs_server::JobsServer::from_arc(fake.clone()))
            .add_service(v1::pods_server::PodsServer::from_arc(fake.clone()))
            .add_service(v1::cluster_server::ClusterServer::from_arc(fake.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (address, fake)
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn note(&self, text: String) {
        self.asked.lock().unwrap().push(text);
    }
}

/// The next of a script; its last answer is given again and again.
pub fn next<T: Clone>(script: &Script<Result<T, Status>>) -> Result<Response<T>, Status> {
    let mut script = script.lock().unwrap();
    let answer = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
    answer.unwrap_or_else(|| Err(Status::unimplemented("not in the script"))).map(Response::new)
}

/// A stream of what the script says; without more of it, one that is silent.
pub fn stream<T: Send + 'static>(script: &Script<Stream<T>>) -> Response<ReceiverStream<Result<T, Status>>> {
    let items = script.lock().unwrap().pop_front();
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let Some(items) = items else { return sender.closed().await };
        for item in items {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    Response::new(ReceiverStream::new(receiver))
}

#[tonic::async_trait]
impl v1::jobs_server::Jobs for Fake {
    async fn create(
        &self,
        request: Request<v1::CreateJobRequest>,
    ) -> Result<Response<v1::CreateJobResponse>, Status> {
        self.note(request.into_inner().request_id);
        next(&self.creates)
    }
    async fn get(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        self.note(request.into_inner().name);
        next(&self.gets)
    }
    async fn list(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        self.note(format!("list {}", request.into_inner().continue_token));
        next(&self.lists)
    }
    async fn update(
        &self,
        _: Request<v1::UpdateJobRequest>,
    ) -> Result<Response<v1::UpdateJobResponse>, Status> {
        self.note("update".to_owned());
        next(&self.updates)
    }
    async fn delete(
        &self,
        request: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<v1::DeleteJobResponse>, Status> {
        self.note(request.into_inner().uid);
        next(&self.deletes)
    }
    type WatchStream = ReceiverStream<Result<v1::JobWatchEvent, Status>>;
    async fn watch(
        &self,
        request: Request<v1::WatchJobsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.note(format!("watch {}", request.into_inner().from_revision));
        tokio::time::sleep(self.watch_delay).await;
        Ok(stream(&self.watches))
    }
}

#[tonic::async_trait]
impl v1::pods_server::Pods for Fake {
    async fn get(&self, _: Request<v1::GetPodRequest>) -> Result<Response<v1::Pod>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
    async fn list(&self, _: Request<v1::ListPodsRequest>) -> Result<Response<v1::ListPodsResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
    async fn delete(
        &self,
        _: Request<v1::DeletePodRequest>,
    ) -> Result<Response<v1::DeletePodResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
    type WatchStream = ReceiverStream<Result<v1::PodWatchEvent, Status>>;
    async fn watch(&self, _: Request<v1::WatchPodsRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
    type LogsStream = ReceiverStream<Result<v1::PodLogsChunk, Status>>;
    async fn logs(&self, request: Request<v1::PodLogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        self.log_requests.lock().unwrap().push(request.into_inner());
        Ok(stream(&self.logs))
    }
    type ExecStream = ReceiverStream<Result<v1::ExecResponse, Status>>;
    async fn exec(
        &self,
        request: Request<Streaming<v1::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut requests = request.into_inner();
        match requests.message().await?.and_then(|first| first.message) {
            Some(v1::exec_request::Message::Start(start)) => self.note(start.command.join(" ")),
            _ => return Err(Status::invalid_argument("start comes first")),
        }
        self.converse(requests)
    }
    type AttachStream = ReceiverStream<Result<v1::ExecResponse, Status>>;
    async fn attach(
        &self,
        request: Request<Streaming<v1::ExecRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut requests = request.into_inner();
        match requests.message().await?.and_then(|first| first.message) {
            Some(v1::exec_request::Message::Attach(start)) => {
                self.note(format!("attach {} {} {:?}", start.container, start.stdin, start.terminal));
            }
            _ => return Err(Status::invalid_argument("attach comes first")),
        }
        self.converse(requests)
    }
    type PortForwardStream = ReceiverStream<Result<v1::PortForwardResponse, Status>>;
    async fn port_forward(
        &self,
        _: Request<Streaming<v1::PortForwardRequest>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
    async fn usage(&self, _: Request<v1::PodUsageRequest>) -> Result<Response<v1::PodUsageResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

impl Fake {
    /// Answers as the script of commands says.
    fn converse(
        &self,
        mut requests: Streaming<v1::ExecRequest>,
    ) -> Result<Response<ReceiverStream<Result<v1::ExecResponse, Status>>>, Status> {
        let answers = next(&self.execs)?.into_inner();
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let input = self.exec_input.clone();
        tokio::spawn(async move {
            for answer in answers {
                // What was sent before an answer is taken before it.
                while let Ok(Ok(Some(request))) =
                    tokio::time::timeout(Duration::from_millis(50), requests.message()).await
                {
                    input.lock().unwrap().extend(request.message);
                }
                if sender.send(Ok(v1::ExecResponse { message: Some(answer) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl v1::cluster_server::Cluster for Fake {
    async fn status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatus>, Status> {
        next(&self.statuses)
    }
    async fn add_member(
        &self,
        _: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
    async fn remove_member(
        &self,
        _: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
    async fn replace_member(
        &self,
        _: Request<v1::ReplaceMemberRequest>,
    ) -> Result<Response<v1::ReplaceMemberResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
    async fn transfer_leadership(
        &self,
        _: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
    async fn change_settings(
        &self,
        _: Request<v1::ChangeSettingsRequest>,
    ) -> Result<Response<v1::ChangeSettingsResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
    type SaveSnapshotStream = ReceiverStream<Result<v1::SaveSnapshotResponse, Status>>;
    async fn save_snapshot(
        &self,
        _: Request<v1::SaveSnapshotRequest>,
    ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

pub fn client(addresses: &[&str], timeout: Duration) -> Client {
    let mut options = ClientOptions::new(&addresses.join(","));
    options.timeout = timeout;
    Client::new(options).unwrap()
}

pub const SOON: Duration = Duration::from_secs(5);
pub const SHORT: Duration = Duration::from_millis(400);

pub fn refusal(reason: ErrorReason) -> Status {
    StatusDetails::new(reason, "says the script").with_retry_after(Duration::from_millis(10)).into_status()
}

/// A connection that breaks after the request was sent: no reason of stint's own.
pub fn broken() -> Status {
    Status::unknown("the connection broke")
}

pub fn job(name: &str) -> v1::Job {
    let mut job = Job::default();
    job.metadata.name = name.to_owned();
    job.into()
}

pub fn created(name: &str) -> v1::CreateJobResponse {
    let outcome = v1::CreateOutcome::AlreadyExisted.into();
    v1::CreateJobResponse { job: Some(job(name)), outcome, revision: 7, ..Default::default() }
}
