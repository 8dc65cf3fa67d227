//! A leader that says what a test tells it to, and remembers what an agent says.
//!
//! Owns: one gRPC port. Does not own: rules of any kind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use stint_api::PodUid;
use stint_proto::uid::uid_to_wire;
use stint_proto::v1::agent_message::Message as FromAgent;
use stint_proto::v1::server_message::Message as ToAgent;
use stint_proto::{RELAY_METADATA, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// The shortest lease that there is: a deadline 3.5 s after the sending of what renewed it. For what happens when it ends.
pub const NODE_LEASE_MS: u64 = 5_000;

/// One that a busy machine does not use up: a deadline 7 s after.
pub const LONGER_NODE_LEASE_MS: u64 = 10_000;

/// One that outlasts the end of an agent and the start of the next on a busy machine.
pub const NODE_LEASE_OVER_RESTARTS_MS: u64 = 20_000;

/// What it does and what it has seen.
pub struct State {
    /// Says that another server leads.
    pub redirects_to: Option<String>,
    /// Sessions that asked to be relayed; they are not redirected.
    pub relayed: usize,
    /// Refuses registrations, once.
    pub refuses: Option<v1::RefusalReason>,
    pub cluster_id: u128,
    /// Of registrations and heartbeats.
    pub node_lease_ms: u64,
    pub answers_heartbeats: bool,
    pub acknowledges: bool,
    /// How long a commit takes.
    pub commit_time: Duration,
    /// Sent as the desired set whenever an agent asks, unless none.
    pub desired: Option<v1::DesiredSet>,
    pub registers: Vec<(Instant, v1::Register)>,
    pub resumes: Vec<(Instant, v1::Resume)>,
    pub redirected: Vec<Instant>,
    /// When each heartbeat came, and its number.
    pub heartbeats: Vec<(Instant, u64)>,
    /// When the last one came that was answered.
    pub answered_at: Option<Instant>,
    pub reports: Vec<(Instant, v1::PodReport)>,
    pub report_messages: usize,
    pub held: Vec<v1::HeldPods>,
    pub logs: BTreeMap<u64, (Vec<u8>, Option<v1::LogEnd>)>,
    pub log_offsets: BTreeMap<u64, Vec<(usize, u64)>>,
    /// Stream of each piece of a log, and where the piece ends.
    pub log_streams: BTreeMap<u64, Vec<(v1::LogStream, usize)>>,
    /// What came through channels, in order.
    pub channels: BTreeMap<u64, Vec<FromAgent>>,
    pub usage: Vec<v1::UsageAnswer>,
    /// What the node said of itself after it had registered.
    pub conditions: Vec<v1::NodeConditions>,
    /// Times that tails of logs were offered.
    pub tail_offers: usize,
    /// Bytes that may come after an offer; none: no answer.
    pub tail_credit: Option<u32>,
    /// What is said of tails; none: nothing.
    pub tail_result: Option<v1::LogTailResult>,
    /// Servers that agents are told of with each answer to a heartbeat.
    pub server_addresses: Vec<String>,
    /// Where whole logs are to go.
    pub log_archive: String,
    /// Those that came, message by message.
    pub tails: Vec<Vec<v1::LogTail>>,
    incarnation: u64,
    out: Option<mpsc::Sender<Result<v1::ServerMessage, Status>>>,
}

/// One server.
#[derive(Clone)]
pub struct FakeLeader {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl FakeLeader {
    pub async fn start() -> FakeLeader {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State {
            redirects_to: None,
            relayed: 0,
            refuses: None,
            cluster_id: 1,
            node_lease_ms: LONGER_NODE_LEASE_MS,
            answers_heartbeats: true,
            acknowledges: true,
            commit_time: Duration::ZERO,
            desired: None,
            registers: Vec::new(),
            resumes: Vec::new(),
            redirected: Vec::new(),
            heartbeats: Vec::new(),
            answered_at: None,
            reports: Vec::new(),
            report_messages: 0,
            held: Vec::new(),
            logs: BTreeMap::new(),
            log_offsets: BTreeMap::new(),
            log_streams: BTreeMap::new(),
            channels: BTreeMap::new(),
            usage: Vec::new(),
            conditions: Vec::new(),
            tail_offers: 0,
            tail_credit: Some(256 << 10),
            tail_result: Some(v1::LogTailResult::Stored),
            server_addresses: Vec::new(),
            log_archive: String::new(),
            tails: Vec::new(),
            incarnation: 100,
            out: None,
        };
        let leader = FakeLeader { address, state: Arc::new(Mutex::new(state)) };
        let service = v1::agent_server::AgentServer::new(leader.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        leader
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The incarnation that was granted last.
    pub fn incarnation(&self) -> u64 {
        self.state().incarnation
    }

    /// Says something in the present session.
    pub fn say(&self, message: ToAgent) {
        let state = self.state();
        let out = state.out.as_ref().expect("a session");
        out.try_send(Ok(v1::ServerMessage { message: Some(message) })).expect("the agent reads");
    }

    pub fn order(&self, pod: v1::DesiredPod) {
        let incarnation = self.incarnation();
        self.say(ToAgent::Order(v1::Order { incarnation, pod: Some(pod) }));
    }

    /// Breaks the present session off.
    pub fn break_off(&self) {
        let out = self.state().out.take().expect("a session");
        let _ = out.try_send(Err(Status::unavailable("broken off by the test")));
    }

    /// Waits until something was seen; fails after a minute.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = look(&self.state()) {
                return found;
            }
            assert!(Instant::now() < deadline, "still not: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for the registration after the first `count`.
    pub async fn registration(&self, count: usize) -> v1::Register {
        let what = format!("registration {}", count + 1);
        self.until(&what, |state| state.registers.get(count).map(|(_, register)| register.clone())).await
    }

    /// Waits for a report of a Pod that is of some kind.
    pub async fn report<T>(
        &self,
        pod: PodUid,
        what: &str,
        kind: impl Fn(&v1::pod_report::Kind) -> Option<T>,
    ) -> T {
        let uid = uid_to_wire(pod);
        self.until(what, |state| {
            let of_pod = state.reports.iter().filter(|(_, report)| report.pod_uid == uid);
            of_pod.filter_map(|(_, report)| report.kind.as_ref()).find_map(&kind)
        })
        .await
    }

    /// The exit code with which a run of a Pod was reported to have ended.
    pub async fn exit_code(&self, pod: PodUid, run: u32) -> i32 {
        self.report(pod, &format!("the end of run {run}"), |kind| match kind {
            v1::pod_report::Kind::Exited(exited) if exited.restart_count == run => {
                exited.termination.as_ref().map(|termination| termination.exit_code)
            }
            _ => None,
        })
        .await
    }

    pub async fn running(&self, pod: PodUid) {
        self.report(pod, "that it runs", |kind| {
            matches!(kind, v1::pod_report::Kind::Running(_)).then_some(())
        })
        .await;
    }

    async fn serve(
        self,
        mut incoming: Streaming<v1::AgentMessage>,
        relayed: bool,
        out: mpsc::Sender<Result<v1::ServerMessage, Status>>,
    ) {
        let (reports, waiting) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().commit(waiting, out.clone()));
        while let Ok(Some(message)) = incoming.message().await {
            let Some(message) = message.message else { continue };
            let answer = self.take(message, relayed, &out, &reports);
            for message in answer {
                if out.send(Ok(v1::ServerMessage { message: Some(message) })).await.is_err() {
                    return;
                }
            }
        }
    }

    fn take(
        &self,
        message: FromAgent,
        relayed: bool,
        out: &mpsc::Sender<Result<v1::ServerMessage, Status>>,
        reports: &mpsc::UnboundedSender<v1::Reports>,
    ) -> Vec<ToAgent> {
        let now = Instant::now();
        let mut state = self.state();
        let is_first = matches!(message, FromAgent::Register(_) | FromAgent::Resume(_));
        if is_first
            && !relayed
            && let Some(address) = state.redirects_to.clone()
        {
            state.redirected.push(now);
            return vec![ToAgent::NotLeader(v1::NotLeader { leader_address: address, ..Default::default() })];
        }
        match message {
            FromAgent::Register(register) => {
                state.registers.push((now, register));
                if let Some(reason) = state.refuses.take() {
                    let message = "refused by the test".to_owned();
                    let refused = v1::Refused { reason: reason.into(), message, retry_after_ms: 0 };
                    return vec![ToAgent::Refused(refused)];
                }
                state.incarnation += 1;
                state.answered_at = Some(now);
                state.out = Some(out.clone());
                vec![ToAgent::Registered(registered(&state))]
            }
            FromAgent::Resume(resume) => {
                state.resumes.push((now, resume));
                state.out = Some(out.clone());
                vec![ToAgent::Registered(registered(&state))]
            }
            FromAgent::Heartbeat(heartbeat) => {
                state.heartbeats.push((now, heartbeat.seq));
                if !state.answers_heartbeats {
                    return Vec::new();
                }
                state.answered_at = Some(now);
                let answer = v1::HeartbeatAnswer {
                    seq: heartbeat.seq,
                    node_lease_ms: state.node_lease_ms,
                    server_addresses: state.server_addresses.clone(),
                };
                vec![ToAgent::HeartbeatAnswer(answer)]
            }
            FromAgent::HeldPods(held) => {
                state.held.push(held);
                state.desired.clone().map(ToAgent::DesiredSet).into_iter().collect()
            }
            FromAgent::Reports(message) => {
                state.report_messages += 1;
                let all = message.reports.iter().filter_map(|report| report.report.clone());
                state.reports.extend(all.map(|report| (now, report)));
                // The session may be over.
                let _ = reports.send(message);
                Vec::new()
            }
            FromAgent::ChannelOpened(v1::ChannelOpened { channel_id })
            | FromAgent::ChannelOutput(v1::ChannelOutput { channel_id, .. })
            | FromAgent::ChannelCredit(v1::ChannelCredit { channel_id, .. })
            | FromAgent::ChannelEnd(v1::ChannelEnd { channel_id, .. }) => {
                state.channels.entry(channel_id).or_default().push(message);
                Vec::new()
            }
            FromAgent::UsageAnswer(answer) => {
                state.usage.push(answer);
                Vec::new()
            }
            FromAgent::NodeConditions(said) => {
                let number = said.number;
                state.conditions.push(said);
                let ack = ToAgent::NodeConditionsAck(v1::NodeConditionsAck { number });
                if state.acknowledges { vec![ack] } else { Vec::new() }
            }
            FromAgent::LogChunk(chunk) => {
                let (data, _) = state.logs.entry(chunk.request_id).or_default();
                data.extend_from_slice(&chunk.data);
                let length = data.len();
                state.log_offsets.entry(chunk.request_id).or_default().push((length, chunk.next_offset));
                state.log_streams.entry(chunk.request_id).or_default().push((chunk.stream(), length));
                let (request_id, bytes) = (chunk.request_id, chunk.data.len() as u64);
                vec![ToAgent::LogCredit(v1::LogCredit { request_id, bytes })]
            }
            FromAgent::LogEnd(end) => {
                let (_, known) = state.logs.entry(end.request_id).or_default();
                *known = Some(end);
                Vec::new()
            }
            FromAgent::LogTailOffer(_) => {
                state.tail_offers += 1;
                let credit = state.tail_credit.map(|bytes| v1::LogTailCredit { bytes });
                credit.map(ToAgent::LogTailCredit).into_iter().collect()
            }
            FromAgent::LogTails(message) => {
                let count = message.tails.len();
                state.tails.push(message.tails);
                let results = state.tail_result.map(|result| vec![result.into(); count]);
                let ack = results.map(|results| v1::LogTailAck { results });
                ack.map(ToAgent::LogTailAck).into_iter().collect()
            }
            FromAgent::OrderCredits(_) => Vec::new(),
        }
    }

    /// As a real leader does it: one message of reports after the other.
    async fn commit(
        self,
        mut waiting: mpsc::UnboundedReceiver<v1::Reports>,
        out: mpsc::Sender<Result<v1::ServerMessage, Status>>,
    ) {
        while let Some(message) = waiting.recv().await {
            let commit_time = self.state().commit_time;
            tokio::time::sleep(commit_time).await;
            if !self.state().acknowledges {
                continue;
            }
            let counted = message.reports.iter().map(|report| report.seq).collect();
            let acknowledgement = ToAgent::ReportAck(v1::ReportAck { counted, ignored: Vec::new() });
            let _ = out.send(Ok(v1::ServerMessage { message: Some(acknowledgement) })).await;
        }
    }
}

fn registered(state: &State) -> v1::Registered {
    v1::Registered {
        incarnation: state.incarnation,
        node_lease_ms: state.node_lease_ms,
        cluster_id: state.cluster_id.to_be_bytes().to_vec().into(),
        revision: state.incarnation,
        server_addresses: Vec::new(),
        log_archive: state.log_archive.clone(),
    }
}

#[tonic::async_trait]
impl v1::agent_server::Agent for FakeLeader {
    type SessionStream = ReceiverStream<Result<v1::ServerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (out, receiver) = mpsc::channel(4_096);
        let relayed = request.metadata().get(RELAY_METADATA).is_some_and(|value| value == "true");
        self.state().relayed += usize::from(relayed);
        tokio::spawn(self.clone().serve(request.into_inner(), relayed, out));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
