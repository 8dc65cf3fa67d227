//! Commands in containers, containers' own streams, and connections to ports of Pods.
//!
//! Owns: both directions of one call, and its credit. Does not own: terminals and sockets of this machine.
//!
//! A command is never executed twice by itself: a call that broke after it may have been taken is an
//! [`Error::OutcomeUnknown`].

use bytes::Bytes;
use std::sync::Arc;
use stint_proto::limits::{CHANNEL_CREDIT_BYTES_INITIAL, CHANNEL_PIECE_BYTES_MAX, channel_cost};
use stint_proto::v1;
use stint_proto::v1::pods_client::PodsClient;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::connection::{Client, Effect, refused};
use crate::error::Error;
use crate::limits;
use crate::logs::PodTarget;

/// What is to be executed where.
#[derive(Debug, Clone)]
pub struct ExecCommand {
    /// Namespace; empty: `default`.
    pub namespace: String,
    /// In which Pod.
    pub target: PodTarget,
    /// In which container; empty: the first.
    pub container: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// It gets what is sent; else its input is empty.
    pub stdin: bool,
    /// It gets a terminal of this size, and all its output is stdout.
    pub terminal: Option<TerminalSize>,
}

/// Which streams of which container are wanted. Its output from now on always is.
#[derive(Debug, Clone)]
pub struct AttachStreams {
    /// Namespace; empty: `default`.
    pub namespace: String,
    /// Of which Pod.
    pub target: PodTarget,
    /// Of which container; empty: the first.
    pub container: String,
    /// It gets what is sent; its template must say `stdin`.
    pub stdin: bool,
    /// The caller is a terminal of this size; the container's template must say `tty`.
    pub terminal: Option<TerminalSize>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Characters of a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// A command that is executed, or a container that is attached to. Dropping it kills the command, and detaches from the
/// container, which goes on.
#[derive(Debug)]
pub struct ExecCall {
    answers: Streaming<v1::ExecResponse>,
    input: ChannelInput,
    source: v1::ChannelSource,
}

/// What comes of a command or a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutput {
    /// Standard output, or a terminal.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// It has ended, with this exit code: 0-255. Nothing follows.
    Exit(i32),
}

/// A connection to a port of a Pod. Dropping it closes it.
#[derive(Debug)]
pub struct PortConnection {
    answers: Streaming<v1::PortForwardResponse>,
    input: Option<ChannelInput>,
    credit: Arc<Semaphore>,
}

/// What goes to a command or a connection. Cheap to clone; all clones share one credit.
#[derive(Debug, Clone)]
pub struct ChannelInput {
    requests: Requests,
    /// Bytes that may still be sent.
    credit: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
enum Requests {
    Exec(mpsc::Sender<v1::ExecRequest>),
    Port(mpsc::Sender<v1::PortForwardRequest>),
}

impl Client {
    /// Executes a command; resolves once it runs.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::{ExecCommand, ExecOutput, JobBuilder, PodTarget, Scope};
    ///
    /// let handle = client.run(JobBuilder::new(["sleep", "60"])).await?;
    /// # let scope = Scope { job_name: handle.name().to_owned(), ..Scope::default() };
    /// # let mut watch = client.watch_pods(&scope, 0);
    /// # while watch.next().await?.object.status.phase != stint_client::api::PodPhase::Running {}
    /// let mut call = client
    ///     .exec(&ExecCommand {
    ///         namespace: "default".to_owned(),
    ///         target: PodTarget::Job(handle.name().to_owned()),
    ///         container: String::new(),
    ///         command: vec!["echo".to_owned(), "hello".to_owned()],
    ///         stdin: false,
    ///         terminal: None,
    ///     })
    ///     .await?;
    /// let exit_code = loop {
    ///     match call.next().await? {
    ///         ExecOutput::Stdout(data) | ExecOutput::Stderr(data) => print!("{}", String::from_utf8_lossy(&data)),
    ///         ExecOutput::Exit(code) => break code,
    ///     }
    /// };
    /// assert_eq!(exit_code, 0);
    /// # handle.delete().await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a container that does not run; `CommandNotFound` and `CommandNotExecutable`;
    /// [`Error::OutcomeUnknown`]; those of every call.
    pub async fn exec(&self, wanted: &ExecCommand) -> Result<ExecCall, Error> {
        let start = v1::ExecStart {
            target: Some(target_of(&wanted.namespace, &wanted.target)),
            container: wanted.container.clone(),
            command: wanted.command.clone(),
            stdin: wanted.stdin,
            terminal: wanted.terminal.map(size_to_wire),
        };
        let first = v1::ExecRequest { message: Some(v1::exec_request::Message::Start(start)) };
        let begun = self
            .call(Effect::Write, |channel| {
                let (requests, body) = channel_requests(first.clone());
                async move { Ok((requests, PodsClient::new(channel).exec(body).await?.into_inner())) }
            })
            .await?;
        ExecCall::begun(begun).await
    }

    /// Attaches to a container's own streams; resolves once it gets all output.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a container that does not run, or whose template has not what is wanted;
    /// [`Error::OutcomeUnknown`]; those of every call.
    pub async fn attach(&self, wanted: &AttachStreams) -> Result<ExecCall, Error> {
        let start = v1::AttachStart {
            target: Some(target_of(&wanted.namespace, &wanted.target)),
            container: wanted.container.clone(),
            stdin: wanted.stdin,
            terminal: wanted.terminal.map(size_to_wire),
        };
        let first = v1::ExecRequest { message: Some(v1::exec_request::Message::Attach(start)) };
        let begun = self
            .call(Effect::Write, |channel| {
                let (requests, body) = channel_requests(first.clone());
                async move { Ok((requests, PodsClient::new(channel).attach(body).await?.into_inner())) }
            })
            .await?;
        ExecCall::begun(begun).await
    }

    /// Opens a connection to a port of a Pod.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a Pod that does not run and a port that nobody listens on; those of every call.
    pub async fn port_forward(
        &self,
        namespace: &str,
        target: &PodTarget,
        port: u16,
    ) -> Result<PortConnection, Error> {
        let start =
            v1::PortForwardStart { target: Some(target_of(namespace, target)), port: u32::from(port) };
        let first = v1::PortForwardRequest { message: Some(v1::port_forward_request::Message::Start(start)) };
        let (requests, answers) = self
            .call(Effect::Write, |channel| {
                let (requests, body) = channel_requests(first.clone());
                async move { Ok((requests, PodsClient::new(channel).port_forward(body).await?.into_inner())) }
            })
            .await?;
        let input = ChannelInput::new(Requests::Port(requests));
        Ok(PortConnection { answers, credit: input.credit.clone(), input: Some(input) })
    }

    /// What Pods that run use now. Pods of nodes that do not answer are left out.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// let usage = client.pod_usage(&Default::default()).await?;
    /// println!("{} Pods run", usage.len());
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// Those of every call.
    pub async fn pod_usage(&self, request: &v1::PodUsageRequest) -> Result<Vec<v1::PodUsage>, Error> {
        let answer = self
            .call(Effect::Read, |channel| {
                let request = request.clone();
                async move { PodsClient::new(channel).usage(request).await }
            })
            .await?;
        Ok(answer.into_inner().items)
    }
}

/// What begins a call: the end to say more at, and what the call sends.
fn channel_requests<M>(first: M) -> (mpsc::Sender<M>, ReceiverStream<M>) {
    let (requests, body) = mpsc::channel(limits::CHANNEL_REQUESTS_QUEUED_MAX);
    // The queue is new and has room.
    drop(requests.try_send(first));
    (requests, ReceiverStream::new(body))
}

impl ExecCall {
    async fn begun(
        (requests, mut answers): (mpsc::Sender<v1::ExecRequest>, Streaming<v1::ExecResponse>),
    ) -> Result<ExecCall, Error> {
        let first = answers.message().await.map_err(|status| refused(&status))?;
        match first.and_then(|answer| answer.message) {
            Some(v1::exec_response::Message::Started(source)) => {
                Ok(ExecCall { answers, input: ChannelInput::new(Requests::Exec(requests)), source })
            }
            _ => Err(Error::answer("the command was not said to run")),
        }
    }

    /// Where it is executed.
    pub fn source(&self) -> &v1::ChannelSource {
        &self.source
    }

    /// What goes to the command.
    pub fn input(&self) -> ChannelInput {
        self.input.clone()
    }

    /// What comes next of the command; its exit code comes last.
    ///
    /// # Errors
    /// If the call broke off: the command is killed then, or was not found any more.
    pub async fn next(&mut self) -> Result<ExecOutput, Error> {
        use v1::exec_response::Message;
        loop {
            let answer = self.answers.message().await.map_err(|status| refused(&status))?;
            let Some(answer) = answer else { return Err(Error::answer("the exit code did not come")) };
            match answer.message {
                Some(Message::Stdout(data)) => return Ok(ExecOutput::Stdout(data)),
                Some(Message::Stderr(data)) => return Ok(ExecOutput::Stderr(data)),
                Some(Message::Exit(exit)) => return Ok(ExecOutput::Exit(exit.exit_code)),
                Some(Message::StdinCredit(bytes)) => add_credit(&self.input.credit, bytes),
                Some(Message::Started(_)) | None => {}
            }
        }
    }
}

impl PortConnection {
    /// What goes to the connection; once. Dropping it closes this direction.
    pub fn take_input(&mut self) -> Option<ChannelInput> {
        self.input.take()
    }

    /// What comes next of the connection; empty when nothing more comes, None when both directions are closed.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        use v1::port_forward_response::Message;
        loop {
            let answer = self.answers.message().await.map_err(|status| refused(&status))?;
            let Some(answer) = answer else { return Ok(None) };
            match answer.message {
                Some(Message::Data(data)) => return Ok(Some(data)),
                Some(Message::End(_)) => return Ok(Some(Bytes::new())),
                Some(Message::Credit(bytes)) => add_credit(&self.credit, bytes),
                Some(Message::Started(_)) | None => {}
            }
        }
    }
}

impl ChannelInput {
    fn new(requests: Requests) -> ChannelInput {
        let credit = usize::try_from(CHANNEL_CREDIT_BYTES_INITIAL).unwrap_or(Semaphore::MAX_PERMITS);
        ChannelInput { requests, credit: Arc::new(Semaphore::new(credit)) }
    }

    /// Sends bytes, as fast as they are taken at the other end. False: the call is over.
    pub async fn send(&self, mut data: Bytes) -> bool {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(CHANNEL_PIECE_BYTES_MAX));
            let cost = u32::try_from(channel_cost(piece.len())).unwrap_or(u32::MAX);
            let permits = tokio::select! {
                permits = self.credit.acquire_many(cost) => permits,
                () = self.closed() => return false,
            };
            let Ok(permits) = permits else { return false };
            permits.forget();
            let sent = match &self.requests {
                Requests::Exec(requests) => {
                    let message = Some(v1::exec_request::Message::Stdin(piece));
                    requests.send(v1::ExecRequest { message }).await.is_ok()
                }
                Requests::Port(requests) => {
                    let message = Some(v1::port_forward_request::Message::Data(piece));
                    requests.send(v1::PortForwardRequest { message }).await.is_ok()
                }
            };
            if !sent {
                return false;
            }
        }
        true
    }

    /// No more bytes follow, for a command. A connection's direction is closed by dropping this.
    pub async fn end(&self) {
        if let Requests::Exec(requests) = &self.requests {
            let message = Some(v1::exec_request::Message::StdinEnd(v1::ExecStdinEnd {}));
            // The call may be over.
            drop(requests.send(v1::ExecRequest { message }).await);
        }
    }

    /// The command's terminal has another size.
    pub async fn resize(&self, size: TerminalSize) {
        if let Requests::Exec(requests) = &self.requests {
            let message = Some(v1::exec_request::Message::Resize(size_to_wire(size)));
            // The call may be over.
            drop(requests.send(v1::ExecRequest { message }).await);
        }
    }

    async fn closed(&self) {
        match &self.requests {
            Requests::Exec(requests) => requests.closed().await,
            Requests::Port(requests) => requests.closed().await,
        }
    }
}

/// A server that gives more than there can be is not followed.
fn add_credit(credit: &Semaphore, bytes: u64) {
    let room = Semaphore::MAX_PERMITS - credit.available_permits();
    credit.add_permits(usize::try_from(bytes).unwrap_or(usize::MAX).min(room));
}

fn target_of(namespace: &str, target: &PodTarget) -> v1::PodTarget {
    use v1::pod_target::Target;
    let target = match target {
        PodTarget::Pod(name) => Target::PodName(name.clone()),
        PodTarget::Job(name) => Target::JobName(name.clone()),
    };
    v1::PodTarget { namespace: namespace.to_owned(), target: Some(target), pod_uid: String::new() }
}

fn size_to_wire(size: TerminalSize) -> v1::TerminalSize {
    v1::TerminalSize { columns: size.columns.into(), rows: size.rows.into() }
}
