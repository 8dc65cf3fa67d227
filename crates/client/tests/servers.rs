//! The client against servers that answer as a script says: the retry table, leader hints, watches and logs that go on
//! where they broke off.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use stint_api::Job;
use stint_client::{
    AttachStreams, Client, ClientOptions, Error, ExecCommand, ExecOutput, LogsRequest, PodTarget, Scope,
    TerminalSize, v1,
};
use stint_proto::status::{ErrorReason, LEADER_ADDRESS, StatusDetails};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Script<T> = Mutex<VecDeque<T>>;
type Stream<T> = Vec<Result<T, Status>>;

/// What a server answers, in order, and what it was asked.
#[derive(Default)]
struct Fake {
    creates: Script<Result<v1::CreateJobResponse, Status>>,
    gets: Script<Result<v1::Job, Status>>,
    updates: Script<Result<v1::UpdateJobResponse, Status>>,
    deletes: Script<Result<v1::DeleteJobResponse, Status>>,
    watches: Script<Stream<v1::JobWatchEvent>>,
    logs: Script<Stream<v1::PodLogsChunk>>,
    /// What each command answers, before which its input is taken.
    execs: Script<Result<Vec<v1::exec_response::Message>, Status>>,
    exec_input: Arc<Mutex<Vec<v1::exec_request::Message>>>,
    statuses: Script<Result<v1::ClusterStatus, Status>>,
    /// Before a watch is opened.
    watch_delay: Duration,
    asked: Mutex<Vec<String>>,
    log_requests: Mutex<Vec<v1::PodLogsRequest>>,
}

impl Fake {
    async fn start(self) -> (String, Arc<Fake>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fake = Arc::new(self);
        let server = tonic::transport::Server::builder()
            .add_service(v1::jobs_server::JobsServer::from_arc(fake.clone()))
            .add_service(v1::pods_server::PodsServer::from_arc(fake.clone()))
            .add_service(v1::cluster_server::ClusterServer::from_arc(fake.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (address, fake)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn note(&self, text: String) {
        self.asked.lock().unwrap().push(text);
    }
}

/// The next of a script; its last answer is given again and again.
fn next<T: Clone>(script: &Script<Result<T, Status>>) -> Result<Response<T>, Status> {
    let mut script = script.lock().unwrap();
    let answer = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
    answer.unwrap_or_else(|| Err(Status::unimplemented("not in the script"))).map(Response::new)
}

/// A stream of what the script says; without more of it, one that is silent.
fn stream<T: Send + 'static>(script: &Script<Stream<T>>) -> Response<ReceiverStream<Result<T, Status>>> {
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
    async fn list(&self, _: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
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
}

fn client(addresses: &[&str], timeout: Duration) -> Client {
    let mut options = ClientOptions::new(&addresses.join(","));
    options.timeout = timeout;
    Client::new(options).unwrap()
}

const SOON: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(400);

fn refusal(reason: ErrorReason) -> Status {
    StatusDetails::new(reason, "says the script").with_retry_after(Duration::from_millis(10)).into_status()
}

/// A connection that breaks after the request was sent: no reason of stint's own.
fn broken() -> Status {
    Status::unknown("the connection broke")
}

fn job(name: &str) -> v1::Job {
    let mut job = Job::default();
    job.metadata.name = name.to_owned();
    job.into()
}

fn created(name: &str) -> v1::CreateJobResponse {
    let outcome = v1::CreateOutcome::AlreadyExisted.into();
    v1::CreateJobResponse { job: Some(job(name)), outcome, revision: 7, ..Default::default() }
}

#[tokio::test]
async fn decision_10_a_create_of_unknown_outcome_is_repeated_elsewhere_with_its_request_id() {
    let (first, first_asked) =
        Fake { creates: Mutex::new([Err(broken())].into()), ..Fake::default() }.start().await;
    let (second, second_asked) =
        Fake { creates: Mutex::new([Ok(created("x"))].into()), ..Fake::default() }.start().await;
    let client = client(&[&first, &second], SOON);
    let answer = client.create_job(&Job::default()).await.unwrap();
    assert_eq!((answer.outcome, answer.revision), (v1::CreateOutcome::AlreadyExisted, 7));
    assert_eq!(first_asked.asked(), second_asked.asked(), "one id for all attempts");
    assert_eq!(first_asked.asked()[0].len(), 32);
    client.create_job(&Job::default()).await.unwrap();
    assert_ne!(second_asked.asked()[0], second_asked.asked()[1], "another request has another id");
}

#[tokio::test]
async fn decision_10_a_write_that_may_have_been_carried_out_is_never_called_unreachable() {
    for status in [broken(), refusal(ErrorReason::OutcomeUnknown)] {
        let fake = Fake {
            creates: Mutex::new([Err(status.clone())].into()),
            updates: Mutex::new([Err(status.clone())].into()),
            gets: Mutex::new([Err(status)].into()),
            ..Fake::default()
        };
        let (address, fake) = fake.start().await;
        let client = client(&[&address], SHORT);
        let error = client.create_job(&Job::default()).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
        let attempts = fake.asked().len();
        assert!(attempts > 1, "a create is repeated");
        let error = client.update_job(&Job::default()).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
        assert_eq!(fake.asked().len(), attempts + 1, "an update is not");
        let error = client.get_job("default", "x").await.unwrap_err();
        assert!(error.is_outage(), "a read changes nothing: {error:?}");
    }
}

#[tokio::test]
async fn what_was_certainly_not_carried_out_is_repeated() {
    let answer = v1::UpdateJobResponse { job: Some(job("x")), revision: 3, ..Default::default() };
    let refusals = [ErrorReason::NoLeader, ErrorReason::TooManyRequests, ErrorReason::ShuttingDown];
    let script = refusals.into_iter().map(|reason| Err(refusal(reason))).chain([Ok(answer)]);
    let (address, fake) = Fake { updates: Mutex::new(script.collect()), ..Fake::default() }.start().await;
    assert_eq!(client(&[&address], SOON).update_job(&Job::default()).await.unwrap().revision, 3);
    assert_eq!(fake.asked().len(), 4);
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_told_from_one_that_is_unreachable() {
    let gets = Mutex::new([Err(refusal(ErrorReason::NoLeader))].into());
    let (address, _) = Fake { gets, ..Fake::default() }.start().await;
    let error = client(&[&address], SHORT).get_job("default", "x").await.unwrap_err();
    assert_eq!(error.to_string(), "given up after 400ms: says the script");
    assert!(error.is_outage());
}

#[tokio::test]
async fn a_deletion_that_was_carried_out_unnoticed_is_success() {
    let script = [Err(broken()), Err(refusal(ErrorReason::NotFound))].into();
    let (address, fake) = Fake { deletes: Mutex::new(script), ..Fake::default() }.start().await;
    let client = client(&[&address], SOON);
    let uid = "00000000-0000-4000-8000-000000000001";
    let deleted = client.delete_job("default", "x", uid.parse().unwrap(), v1::PropagationPolicy::Background);
    assert_eq!(deleted.await.unwrap(), None);
    assert_eq!(fake.asked(), [uid, uid], "by uid: another Job of that name is not meant");
}

#[tokio::test]
async fn the_leader_that_a_server_names_is_asked() {
    let (leader, leader_asked) =
        Fake { gets: Mutex::new([Ok(job("x"))].into()), ..Fake::default() }.start().await;
    let hint = StatusDetails::new(ErrorReason::NotLeader, "another server leads")
        .with_retry_after(Duration::from_secs(9))
        .with_metadata(LEADER_ADDRESS, &leader);
    let gets = Mutex::new([Err(hint.into_status())].into());
    let (follower, follower_asked) = Fake { gets, ..Fake::default() }.start().await;
    // Also one that is not among the addresses that were given.
    client(&[&follower], SOON).get_job("default", "x").await.unwrap();
    assert_eq!((follower_asked.asked().len(), leader_asked.asked().len()), (1, 1));
    let client = client(&[&follower, &leader], SOON);
    client.get_job("default", "x").await.unwrap();
    client.get_job("default", "x").await.unwrap();
    assert_eq!((follower_asked.asked().len(), leader_asked.asked().len()), (2, 3), "remembered");
}

#[tokio::test]
async fn a_hint_that_leads_nowhere_does_not_stop_the_search() {
    let hint = StatusDetails::new(ErrorReason::NotLeader, "another server leads")
        .with_retry_after(Duration::from_millis(10))
        .with_metadata(LEADER_ADDRESS, "127.0.0.1:1");
    let gets = Mutex::new([Err(hint.into_status()), Ok(job("x"))].into());
    let (address, _) = Fake { gets, ..Fake::default() }.start().await;
    client(&[&address], SOON).get_job("default", "x").await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_leader_is_not_the_last_word_on_the_cluster() {
    let status = |leader: Option<&str>| {
        Ok(v1::ClusterStatus { leader: leader.map(str::to_owned), term: 4, ..Default::default() })
    };
    let cut_off = Fake { statuses: Mutex::new([status(None)].into()), ..Fake::default() }.start().await.0;
    let (other, _) =
        Fake { statuses: Mutex::new([status(Some("s2"))].into()), ..Fake::default() }.start().await;
    for addresses in [[&*cut_off, &other], [&other, &cut_off]] {
        let status = client(&addresses, SOON).cluster_status().await.unwrap();
        assert_eq!(status.leader.as_deref(), Some("s2"));
    }
    let status = client(&[&cut_off, "127.0.0.1:1"], SHORT).cluster_status().await.unwrap();
    assert_eq!((status.leader, status.term), (None, 4), "what is known is told");
}

fn change(kind: v1::WatchEventType, name: &str, revision: u64) -> Result<v1::JobWatchEvent, Status> {
    let job = (kind != v1::WatchEventType::Bookmark).then(|| job(name));
    Ok(v1::JobWatchEvent { r#type: kind.into(), job, revision })
}

async fn seen(watch: &mut stint_client::Watch<Job>, count: usize) -> Vec<(String, u64)> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let event = watch.next().await.unwrap();
        seen.push((event.object.metadata.name, event.revision));
    }
    seen
}

#[tokio::test]
async fn a_watch_goes_on_without_gap_or_repetition_where_its_server_was_lost() {
    use v1::WatchEventType::{Added, Bookmark, Deleted, Modified};
    let watches = [
        vec![change(Added, "a", 5), change(Modified, "a", 7), Err(refusal(ErrorReason::ShuttingDown))],
        vec![change(Modified, "a", 7), change(Modified, "b", 9), change(Bookmark, "", 12)],
        vec![Err(Status::unavailable("gone"))],
        vec![change(Deleted, "b", 13)],
    ];
    let (address, fake) = Fake { watches: Mutex::new(watches.into()), ..Fake::default() }.start().await;
    let mut watch = client(&[&address], SOON).watch_jobs(&Scope::default(), 4);
    assert_eq!(seen(&mut watch, 2).await, [("a".to_owned(), 5), ("a".to_owned(), 7)]);
    assert_eq!(seen(&mut watch, 2).await, [("b".to_owned(), 9), ("b".to_owned(), 13)]);
    assert_eq!(fake.asked(), ["watch 4", "watch 7", "watch 12", "watch 12"]);
}

#[tokio::test]
async fn a_watch_from_the_beginning_gives_every_object_that_there_is() {
    use v1::WatchEventType::{Added, Bookmark, Modified};
    let watches = [
        vec![
            change(Added, "a", 10),
            change(Added, "b", 10),
            change(Bookmark, "", 10),
            change(Modified, "a", 10),
            change(Modified, "a", 11),
        ],
        // A new connection goes on from the last revision.
        vec![change(Modified, "b", 12)],
    ];
    let (address, fake) = Fake { watches: Mutex::new(watches.into()), ..Fake::default() }.start().await;
    let mut watch = client(&[&address], SOON).watch_jobs(&Scope::default(), 0);
    let expected = [("a", 10), ("b", 10), ("a", 11), ("b", 12)];
    let seen = seen(&mut watch, 4).await;
    assert_eq!(seen.iter().map(|(name, revision)| (name.as_str(), *revision)).collect::<Vec<_>>(), expected);
    assert_eq!(fake.asked(), ["watch 0", "watch 11"]);
}

#[tokio::test]
async fn a_watch_whose_beginning_breaks_off_says_so() {
    use v1::WatchEventType::Added;
    let watches = [vec![change(Added, "a", 10), Err(Status::unavailable("gone"))]];
    let (address, _) = Fake { watches: Mutex::new(watches.into()), ..Fake::default() }.start().await;
    let mut watch = client(&[&address], SOON).watch_jobs(&Scope::default(), 0);
    watch.next().await.unwrap();
    let error = watch.next().await.unwrap_err();
    assert!(error.is_expired(), "the next connection would give `a` again: {error:?}");
}

#[tokio::test]
async fn a_watch_that_is_waited_for_in_small_steps_opens_one_connection() {
    use v1::WatchEventType::Added;
    let watches = [vec![change(Added, "a", 5)]];
    let watch_delay = Duration::from_millis(300);
    let fake = Fake { watches: Mutex::new(watches.into()), watch_delay, ..Fake::default() };
    let (address, fake) = fake.start().await;
    let mut watch = client(&[&address], SOON).watch_jobs(&Scope::default(), 4);
    let mut steps = 0;
    let event = loop {
        steps += 1;
        if let Ok(event) = tokio::time::timeout(Duration::from_millis(20), watch.next()).await {
            break event.unwrap();
        }
    };
    assert!(steps > 3, "several waits were given up");
    assert_eq!((event.revision, fake.asked().len()), (5, 1));
}

#[tokio::test]
async fn a_watch_goes_on_after_an_outage_longer_than_a_call() {
    let client = client(&["127.0.0.1:1"], SHORT);
    let mut watch = client.watch_jobs(&Scope::default(), 4);
    for _ in 0..2 {
        assert!(watch.next().await.unwrap_err().is_outage());
    }
}

fn piece(data: &'static str, next_offset: u64) -> Result<v1::PodLogsChunk, Status> {
    Ok(v1::PodLogsChunk { data: data.into(), next_offset, ..Default::default() })
}

fn source() -> Result<v1::PodLogsChunk, Status> {
    let source = v1::LogSource {
        pod_name: "p1".to_owned(),
        pod_uid: "u1".to_owned(),
        restart_count: 2,
        ..Default::default()
    };
    Ok(v1::PodLogsChunk { source: Some(source), ..Default::default() })
}

/// Reads a log to its end; gives its text and the requests that were needed.
async fn read(
    streams: Vec<Stream<v1::PodLogsChunk>>,
    wanted: LogsRequest,
) -> (Result<String, Error>, Vec<v1::PodLogsRequest>) {
    let (address, fake) = Fake { logs: Mutex::new(streams.into()), ..Fake::default() }.start().await;
    let mut stream = client(&[&address], SOON).logs(&wanted).await.unwrap();
    let mut text = Vec::new();
    let end = loop {
        match stream.next().await {
            Ok(Some(piece)) => text.extend_from_slice(&piece),
            Ok(None) => break Ok(String::from_utf8(text).unwrap()),
            Err(error) => break Err(error),
        }
    };
    let requests = fake.log_requests.lock().unwrap().clone();
    (end, requests)
}

#[tokio::test]
async fn a_log_goes_on_where_its_connection_broke() {
    let gone = || Err(refusal(ErrorReason::NodeUnreachable));
    let streams = vec![
        // The second piece is in the middle of what one offset names: the next stream begins with it again.
        vec![source(), piece("one\n", 10), piece("tw", 10), gone()],
        vec![source(), piece("t", 10), piece("wo\nth", 20), gone()],
        vec![source(), gone()],
        vec![source(), piece("ree\n", 30)],
    ];
    let mut wanted = LogsRequest::new("default", PodTarget::Job("j".to_owned()));
    wanted.follow = true;
    wanted.since = Some(Duration::from_millis(1500));
    let (text, requests) = read(streams, wanted).await;
    assert_eq!(text.unwrap(), "one\ntwo\nthree\n");
    let offsets: Vec<Option<u64>> = requests.iter().map(|request| request.offset).collect();
    assert_eq!(offsets, [None, Some(10), Some(20), Some(20)]);
    use v1::pod_logs_request::{Since, Target};
    assert_eq!(requests[0].since, Some(Since::SinceSeconds(2)), "rounded up: nothing wanted is left out");
    assert_eq!(requests[1].since, None, "what comes after an outage is not too old");
    assert_eq!(
        requests[1].target,
        Some(Target::PodName("p1".to_owned())),
        "the same Pod, not the Job's next"
    );
    assert_eq!((&*requests[1].pod_uid, requests[1].restart_count), ("u1", Some(2)));
}

#[tokio::test]
async fn a_tail_stays_a_tail_when_the_connection_breaks_before_its_first_line() {
    let gone = || Err(Status::unavailable("gone"));
    let mut wanted = LogsRequest::new("default", PodTarget::Pod("p1".to_owned()));
    wanted.tail_lines = Some(1);
    let streams = vec![vec![source(), gone()], vec![source(), piece("last\n", 40)]];
    let (text, requests) = read(streams, wanted.clone()).await;
    assert_eq!(text.unwrap(), "last\n");
    assert_eq!((requests[1].tail_lines, requests[1].offset), (Some(1), None));
    // Where a part was given and no place was named, another tail could be another part.
    let streams = vec![vec![source(), piece("la", 0), gone()], vec![source(), piece("last\n", 40)]];
    assert!(read(streams, wanted).await.0.is_err());
}

fn cat() -> ExecCommand {
    ExecCommand {
        namespace: String::new(),
        target: PodTarget::Pod("p".to_owned()),
        container: String::new(),
        command: vec!["cat".to_owned()],
        stdin: true,
        terminal: None,
    }
}

#[tokio::test]
async fn decision_10_a_command_is_executed_once_or_not_at_all() {
    use v1::exec_response::Message;
    let answers =
        vec![Message::Started(v1::ChannelSource::default()), Message::Exit(v1::ExecExit { exit_code: 4 })];
    let execs =
        [Err(refusal(ErrorReason::NoLeader)), Err(refusal(ErrorReason::TooManyRequests)), Ok(answers)];
    let (address, fake) = Fake { execs: Mutex::new(execs.into()), ..Fake::default() }.start().await;
    let mut call = client(&[&address], SOON).exec(&cat()).await.unwrap();
    assert_eq!(call.next().await.unwrap(), ExecOutput::Exit(4));
    assert_eq!(fake.asked().len(), 3, "what certainly was not executed is tried again");

    for unknown in [broken(), refusal(ErrorReason::OutcomeUnknown)] {
        let execs = Mutex::new([Err(unknown)].into());
        let (address, fake) = Fake { execs, ..Fake::default() }.start().await;
        let error = client(&[&address], SOON).exec(&cat()).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
        assert_eq!(fake.asked().len(), 1, "what may have been executed is not");
    }
    // The end of the stream is no exit code.
    let execs = Mutex::new([Ok(vec![Message::Started(v1::ChannelSource::default())])].into());
    let (address, _fake) = Fake { execs, ..Fake::default() }.start().await;
    let mut call = client(&[&address], SOON).exec(&cat()).await.unwrap();
    assert!(call.next().await.is_err());
}

/// A3: as a command, but for how it begins.
#[tokio::test]
async fn a3_a_container_is_attached_to_and_says_how_it_ended() {
    use v1::exec_request::Message as Sent;
    use v1::exec_response::Message;
    let source = v1::ChannelSource { pod_name: "p".to_owned(), ..v1::ChannelSource::default() };
    let answers = vec![
        Message::Started(source),
        Message::Stdout(Bytes::from_static(b"out")),
        Message::Exit(v1::ExecExit { exit_code: 9 }),
    ];
    let execs = [Err(refusal(ErrorReason::NoLeader)), Ok(answers), Err(broken())];
    let (address, fake) = Fake { execs: Mutex::new(execs.into()), ..Fake::default() }.start().await;
    let wanted = AttachStreams {
        namespace: String::new(),
        target: PodTarget::Job("j".to_owned()),
        container: "side".to_owned(),
        stdin: true,
        terminal: Some(TerminalSize { columns: 80, rows: 24 }),
    };
    let client = client(&[&address], SOON);
    let mut call = client.attach(&wanted).await.unwrap();
    assert_eq!(call.source().pod_name, "p");
    let input = call.input();
    assert!(input.send(Bytes::from_static(b"in")).await);
    input.resize(TerminalSize { columns: 100, rows: 50 }).await;
    assert_eq!(call.next().await.unwrap(), ExecOutput::Stdout(Bytes::from_static(b"out")));
    assert_eq!(call.next().await.unwrap(), ExecOutput::Exit(9));
    let expected = "attach side true Some(TerminalSize { columns: 80, rows: 24 })";
    assert_eq!(fake.asked(), [expected, expected]);
    let sent = fake.exec_input.lock().unwrap().clone();
    let resized = v1::TerminalSize { columns: 100, rows: 50 };
    assert_eq!(sent, [Sent::Stdin(Bytes::from_static(b"in")), Sent::Resize(resized)]);
    // What may have closed a container's input is not repeated.
    let error = client.attach(&wanted).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
}

#[tokio::test]
async fn a3_input_is_sent_as_credit_comes() {
    use v1::exec_request::Message as Sent;
    use v1::exec_response::Message;
    let initial = stint_proto::limits::CHANNEL_CREDIT_BYTES_INITIAL as usize;
    let answers = vec![
        Message::Started(v1::ChannelSource::default()),
        Message::Stdout(Bytes::from_static(b"wait")),
        Message::StdinCredit(1_000),
        Message::Exit(v1::ExecExit { exit_code: 0 }),
    ];
    let (address, fake) = Fake { execs: Mutex::new([Ok(answers)].into()), ..Fake::default() }.start().await;
    let mut call = client(&[&address], SOON).exec(&cat()).await.unwrap();
    let input = call.input();
    let sending = tokio::spawn(async move {
        assert!(input.send(Bytes::from(vec![7; initial + 1_000])).await);
        input.end().await;
        // Beyond it nothing is sent, and the end of the call ends the waiting.
        input.send(Bytes::from_static(b"more")).await
    });
    assert_eq!(call.next().await.unwrap(), ExecOutput::Stdout(Bytes::from_static(b"wait")));
    let sent = |fake: &Fake| {
        let input = fake.exec_input.lock().unwrap();
        input.iter().map(|sent| if let Sent::Stdin(data) = sent { data.len() } else { 0 }).sum::<usize>()
    };
    assert_eq!(sent(&fake), initial);
    assert_eq!(call.next().await.unwrap(), ExecOutput::Exit(0));
    assert_eq!(sent(&fake), initial + 1_000);
    drop(call);
    assert!(!sending.await.unwrap());
}
