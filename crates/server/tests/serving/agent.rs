//! An agent whose every message a test decides.
//!
//! Owns: one session as the wire has it. Does not own: the agent's rules.

use std::time::Duration;

use stint_proto::v1;
use stint_proto::v1::agent_message::Message as Say;
use stint_proto::v1::server_message::Message as Hear;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::cluster::PATIENCE;

/// One session.
pub struct ScriptedAgent {
    pub incarnation: u64,
    pub registered: v1::Registered,
    say: mpsc::Sender<v1::AgentMessage>,
    hear: Streaming<v1::ServerMessage>,
}

/// What a node says of itself.
pub fn register(node: &str, number: u64) -> v1::Register {
    let mut uid = [0_u8; 16];
    for (byte, letter) in uid.iter_mut().zip(node.bytes()) {
        *byte = letter;
    }
    v1::Register {
        node_name: node.to_owned(),
        node_uid: uid.to_vec().into(),
        boot_id: "boot-1".to_owned(),
        registration_number: number,
        nonce: number,
        capacity: Some(v1::NodeCapacity { cpu_millis: 4_000, memory_bytes: 1 << 30, pods: 110 }),
        runtimes: vec!["process".to_owned()],
        agent_version: "test".to_owned(),
        ..v1::Register::default()
    }
}

/// Opens a session and says the first thing.
pub async fn open(
    channel: Channel,
    first: Say,
    relay: bool,
) -> (mpsc::Sender<v1::AgentMessage>, Result<Streaming<v1::ServerMessage>, Status>) {
    let (say, said) = mpsc::channel(64);
    say.send(v1::AgentMessage { message: Some(first) }).await.expect("room");
    let mut request = Request::new(ReceiverStream::new(said));
    if relay {
        request.metadata_mut().insert(stint_proto::RELAY_METADATA, MetadataValue::from_static("true"));
    }
    let hear = v1::agent_client::AgentClient::new(channel).session(request).await;
    (say, hear.map(tonic::Response::into_inner))
}

impl ScriptedAgent {
    /// Registers a node and expects that it holds.
    pub async fn register(channel: Channel, register: v1::Register) -> ScriptedAgent {
        let (say, hear) = open(channel, Say::Register(register), false).await;
        ScriptedAgent::begun(say, hear.expect("a session")).await
    }

    /// Takes a session whose first answer must be Registered.
    pub async fn begun(
        say: mpsc::Sender<v1::AgentMessage>,
        mut hear: Streaming<v1::ServerMessage>,
    ) -> ScriptedAgent {
        match heard(&mut hear).await {
            Ok(Some(Hear::Registered(registered))) => {
                ScriptedAgent { incarnation: registered.incarnation, registered, say, hear }
            }
            other => panic!("not registered: {other:?}"),
        }
    }

    pub async fn say(&self, message: Say) {
        self.say.send(v1::AgentMessage { message: Some(message) }).await.expect("the session is open");
    }

    /// Says something, if the session is still open.
    pub async fn try_say(&self, message: Say) -> bool {
        self.say.send(v1::AgentMessage { message: Some(message) }).await.is_ok()
    }

    /// The next message; None at the end of the stream.
    pub async fn hear(&mut self) -> Result<Option<Hear>, Status> {
        heard(&mut self.hear).await
    }

    /// The next message of a kind; others are passed over.
    pub async fn hear_until<T>(&mut self, mut wanted: impl FnMut(Hear) -> Option<T>) -> T {
        loop {
            let message = self.hear().await.expect("no error").expect("the session goes on");
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    pub async fn heartbeat(&mut self, seq: u64) {
        self.say(Say::Heartbeat(v1::Heartbeat { incarnation: self.incarnation, seq })).await;
        self.hear_until(|message| match message {
            Hear::HeartbeatAnswer(answer) if answer.seq == seq => Some(()),
            _ => None,
        })
        .await;
    }

    /// The desired set.
    pub async fn desired(&mut self, unfinished: &[bytes::Bytes], ended: &[bytes::Bytes]) -> v1::DesiredSet {
        let held = v1::HeldPods {
            incarnation: self.incarnation,
            unfinished_pods: unfinished.to_vec(),
            ended_pods: ended.to_vec(),
        };
        self.say(Say::HeldPods(held)).await;
        self.hear_until(|message| match message {
            Hear::DesiredSet(set) => Some(set),
            _ => None,
        })
        .await
    }

    /// What the next order wants to run.
    pub async fn ordered_pod(&mut self) -> v1::PodToRun {
        self.hear_until(|message| match message {
            Hear::Order(v1::Order { pod: Some(pod), .. }) => match pod.action {
                Some(v1::desired_pod::Action::Run(run)) => run.pod,
                _ => None,
            },
            _ => None,
        })
        .await
    }

    /// Reports and waits for the acknowledgement: the numbers counted and ignored.
    pub async fn report(
        &mut self,
        seq: u64,
        pod_uid: &bytes::Bytes,
        kind: v1::pod_report::Kind,
    ) -> v1::ReportAck {
        let report = v1::PodReport { pod_uid: pod_uid.clone(), kind: Some(kind) };
        let reports = vec![v1::SequencedReport { seq, report: Some(report) }];
        self.say(Say::Reports(v1::Reports { incarnation: self.incarnation, reports })).await;
        self.hear_until(|message| match message {
            Hear::ReportAck(ack) => Some(ack),
            _ => None,
        })
        .await
    }

    /// Offers tails of logs, sends these when it may, and returns what became of each.
    pub async fn send_tails(&mut self, tails: Vec<v1::LogTail>) -> Vec<v1::LogTailResult> {
        self.say(Say::LogTailOffer(v1::LogTailOffer {})).await;
        let credit = self
            .hear_until(|message| match message {
                Hear::LogTailCredit(credit) => Some(credit.bytes),
                _ => None,
            })
            .await;
        assert!(credit >= 80 << 10, "any tail fits");
        self.say(Say::LogTails(v1::LogTails { incarnation: self.incarnation, tails })).await;
        let ack = self.hear_until(|message| match message {
            Hear::LogTailAck(ack) => Some(ack),
            _ => None,
        });
        ack.await.results().collect()
    }

    /// Answers the next request for a log with one piece.
    pub async fn answer_log(&mut self, text: &str) -> v1::LogRequest {
        let request = self
            .hear_until(|message| match message {
                Hear::LogRequest(request) => Some(request),
                _ => None,
            })
            .await;
        let (request_id, next_offset) = (request.request_id, text.len() as u64);
        let data = text.to_owned().into();
        let stream = v1::LogStream::Stdout.into();
        self.say(Say::LogChunk(v1::LogChunk { request_id, data, next_offset, stream })).await;
        let reason = v1::LogEndReason::Complete.into();
        self.say(Say::LogEnd(v1::LogEnd { request_id, reason, message: String::new(), next_offset })).await;
        request
    }
}

/// The container runs.
pub fn running() -> v1::pod_report::Kind {
    v1::pod_report::Kind::Running(v1::ContainerRunning {
        container: "main".to_owned(),
        restart_count: 0,
        started_at: None,
        ..v1::ContainerRunning::default()
    })
}

/// The container has ended.
pub fn exited(exit_code: i32) -> v1::pod_report::Kind {
    v1::pod_report::Kind::Exited(v1::ContainerExited {
        container: "main".to_owned(),
        restart_count: 0,
        termination: Some(v1::ContainerStateTerminated {
            exit_code,
            ..v1::ContainerStateTerminated::default()
        }),
    })
}

async fn heard(hear: &mut Streaming<v1::ServerMessage>) -> Result<Option<Hear>, Status> {
    let next = tokio::time::timeout(PATIENCE, hear.message()).await.expect("something is heard in time")?;
    Ok(next.map(|message| message.message.expect("a message")))
}

/// Answers heartbeats every so often until dropped.
pub struct Beating(tokio::task::JoinHandle<()>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps an agent alive and does nothing else.
pub fn beat(mut agent: ScriptedAgent) -> Beating {
    Beating(tokio::spawn(async move {
        for seq in 1.. {
            agent.heartbeat(seq).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }))
}
