//! Pods.Exec, Pods.Attach and Pods.PortForward: finds the Pod that is meant and connects its agent with the caller.
//!
//! Owns: which Pod, the pace of both directions, what the end of a channel means to the caller. Does not own: executing and
//! connecting (agents), the session in between (`channels`).
//!
//! Invariants: a caller that does not read holds up its own channel only; what a caller sends beyond its credit is refused,
//! not kept; when the caller is gone, so is what was executed for it, and it is no client of a container's streams any more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stint_api::{NodeName, PodPhase, PodUid};
use stint_core::{ContainerRecord, ContainerRunState, PodRecord, TemplateRecord};
use stint_proto::limits::{
    CHANNEL_CREDIT_BYTES_INITIAL, CHANNEL_PIECE_BYTES_MAX, EXEC_COMMAND_BYTES_MAX, channel_cost,
};
use stint_proto::{ErrorReason, uid_to_wire, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::channels::{ChannelPiece, ChannelReader, ChannelWriter};
use crate::error;
use crate::limits::{CHANNEL_OPEN_MS, CHANNEL_STREAM_BUFFER, EXEC_ARGUMENTS_MAX, REQUEST_READ_MS};
use crate::objects::{RowReader, namespace_of};
use crate::services::logs::{container_of, pod_of_job};
use crate::services::{Context, no_longer_than, uid_of};

/// What a caller hears.
pub type ChannelStream<Response> = ReceiverStream<Result<Response, Status>>;

/// What a caller says after the first message.
enum Input {
    Data(Bytes),
    End,
    Resize(v1::TerminalSize),
}

/// How the methods differ once a channel is open.
trait Protocol: Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;

    fn input(request: Self::Request) -> Result<Input, Status>;
    fn started(source: v1::ChannelSource) -> Self::Response;
    fn output(output: v1::ChannelOutput) -> Self::Response;
    fn credit(bytes: u64) -> Self::Response;
    /// None: the end of the stream says it.
    fn end(end: &v1::ChannelEnd) -> Option<Self::Response>;
}

struct Exec;
struct PortForward;

/// See `proto/stint/v1/pods.proto`.
pub async fn exec(
    context: Context,
    mut requests: Streaming<v1::ExecRequest>,
) -> Result<ChannelStream<v1::ExecResponse>, Status> {
    let start = match first(&mut requests).await?.message {
        Some(v1::exec_request::Message::Start(start)) => start,
        _ => return Err(error::bad_request("start", "Required value: the first message must be start")),
    };
    check_command(&start.command)?;
    if let Some(size) = &start.terminal {
        check_size(size)?;
    }
    let source = source(&context, start.target, Some(start.container), None).await?;
    let exec = v1::ExecCommand {
        container: source.container.clone(),
        command: start.command,
        stdin: start.stdin,
        terminal: start.terminal,
    };
    connect::<Exec>(context, requests, source, v1::channel_open::Target::Exec(exec)).await
}

/// See `proto/stint/v1/pods.proto`.
pub async fn attach(
    context: Context,
    mut requests: Streaming<v1::ExecRequest>,
) -> Result<ChannelStream<v1::ExecResponse>, Status> {
    let start = match first(&mut requests).await?.message {
        Some(v1::exec_request::Message::Attach(start)) => start,
        _ => return Err(error::bad_request("attach", "Required value: the first message must be attach")),
    };
    if let Some(size) = &start.terminal {
        check_size(size)?;
    }
    let streams = Streams { stdin: start.stdin, terminal: start.terminal.is_some() };
    let source = source(&context, start.target, Some(start.container), Some(streams)).await?;
    let attach = v1::AttachStreams {
        container: source.container.clone(),
        stdin: start.stdin,
        terminal: start.terminal,
    };
    connect::<Exec>(context, requests, source, v1::channel_open::Target::Attach(attach)).await
}

/// See `proto/stint/v1/pods.proto`.
pub async fn port_forward(
    context: Context,
    mut requests: Streaming<v1::PortForwardRequest>,
) -> Result<ChannelStream<v1::PortForwardResponse>, Status> {
    let start = match first(&mut requests).await?.message {
        Some(v1::port_forward_request::Message::Start(start)) => start,
        _ => return Err(error::bad_request("start", "Required value: the first message must be start")),
    };
    if u16::try_from(start.port).ok().is_none_or(|port| port == 0) {
        return Err(error::bad_request("port", format!("Invalid value: {}: must be 1-65535", start.port)));
    }
    let source = source(&context, start.target, None, None).await?;
    let target = v1::channel_open::Target::Port(v1::PodPort { port: start.port });
    connect::<PortForward>(context, requests, source, target).await
}

async fn first<M>(requests: &mut Streaming<M>) -> Result<M, Status> {
    match tokio::time::timeout(Duration::from_millis(REQUEST_READ_MS), requests.message()).await {
        Ok(first) => first?.ok_or_else(|| error::bad_request("start", "Required value")),
        Err(_) => Err(error::read_timeout("the first message")),
    }
}

fn check_command(command: &[String]) -> Result<(), Status> {
    if command.first().is_none_or(String::is_empty) {
        return Err(error::bad_request("command", "Required value: give a program"));
    }
    if command.len() > EXEC_ARGUMENTS_MAX {
        let message = format!("Too many: {}: must have at most {EXEC_ARGUMENTS_MAX} items", command.len());
        return Err(error::bad_request("command", message));
    }
    let bytes: usize = command.iter().map(|argument| argument.len() + 1).sum();
    if bytes > EXEC_COMMAND_BYTES_MAX {
        let message = format!("Too long: may not be more than {EXEC_COMMAND_BYTES_MAX} bytes");
        return Err(error::bad_request("command", message));
    }
    if command.iter().any(|argument| argument.contains('\0')) {
        return Err(error::bad_request("command", "Invalid value: must not contain NUL"));
    }
    Ok(())
}

fn check_size(size: &v1::TerminalSize) -> Result<(), Status> {
    if size.columns.max(size.rows) > u32::from(u16::MAX) {
        return Err(error::bad_request("terminal", "Invalid value: must be at most 65535 by 65535"));
    }
    Ok(())
}

/// Where a channel leads.
struct Source {
    node: NodeName,
    pod: PodUid,
    pod_name: String,
    /// Empty for a port.
    container: String,
}

/// What a caller wants of a container's own streams.
#[derive(Clone, Copy)]
struct Streams {
    stdin: bool,
    terminal: bool,
}

/// Finds the Pod, and of an exec or an attach the container: whether it runs is known to the agent alone.
async fn source(
    context: &Context,
    target: Option<v1::PodTarget>,
    container: Option<String>,
    streams: Option<Streams>,
) -> Result<Source, Status> {
    let target = target.unwrap_or_default();
    let find = move |rows: &mut RowReader<'_>| {
        let (record, source) = find(rows, &target, container.as_deref())?;
        if let Some(streams) = streams {
            let template = rows.template(record.job)?;
            let template = template.ok_or_else(|| error::not_found("pods", &record.name))?;
            check_streams(&source, &template, streams)?;
        }
        Ok(source)
    };
    context.reads.rows(false, find).await
}

/// Refuses what the template does not provide for, which no agent could mend.
fn check_streams(source: &Source, template: &TemplateRecord, wanted: Streams) -> Result<(), Status> {
    let spec = &template.template.spec;
    let all = spec.init_containers.iter().chain(&spec.containers);
    let container = all.into_iter().find(|container| container.name == source.container);
    let container = container.ok_or_else(|| error::not_found("containers", &source.container))?;
    let (what, field) = if wanted.stdin && !container.stdin {
        ("stdin", "stdin: true")
    } else if wanted.terminal && !container.tty {
        ("terminal", "tty: true")
    } else {
        return Ok(());
    };
    let message = format!(
        "container {:?} of pod {:?} has no {what}: set {field} in its template",
        source.container, source.pod_name
    );
    Err(error::refused(ErrorReason::FailedPrecondition, message))
}

fn find(
    rows: &mut RowReader<'_>,
    target: &v1::PodTarget,
    container: Option<&str>,
) -> Result<(Arc<PodRecord>, Source), Status> {
    use v1::pod_target::Target;
    let namespace = namespace_of(target.namespace.clone(), false).unwrap_or_default();
    let expected = uid_of::<PodUid>("target.podUid", &target.pod_uid)?;
    let record = match &target.target {
        Some(Target::PodName(name)) if !name.is_empty() => {
            no_longer_than("target.podName", name, stint_api::limits::DNS_SUBDOMAIN_BYTES_MAX)?;
            let found = rows.pod_by_name(&namespace, name)?;
            found.map(|(record, _)| record).ok_or_else(|| error::not_found("pods", name))?
        }
        Some(Target::JobName(name)) if !name.is_empty() => {
            no_longer_than("target.jobName", name, stint_api::limits::DNS_SUBDOMAIN_BYTES_MAX)?;
            let uid = rows.job_uid(&namespace, name)?.ok_or_else(|| error::not_found("jobs.batch", name))?;
            let newest = pod_of_job(rows, uid, expected, rank_of_access)?;
            newest.filter(|record| rank_of_access(record) > 0).ok_or_else(|| {
                let message = format!("job {name:?} has no pod that runs");
                error::refused(ErrorReason::FailedPrecondition, message)
            })?
        }
        _ => return Err(error::bad_request("target", "Required value: give podName or jobName")),
    };
    if expected.is_some_and(|uid| uid != record.uid) {
        let message = format!("pod {:?} has uid {}: it is another one by now", record.name, record.uid);
        return Err(error::refused(ErrorReason::Conflict, message));
    }
    let container = match container {
        None => String::new(),
        Some("") => {
            let template =
                rows.template(record.job)?.ok_or_else(|| error::not_found("pods", &record.name))?;
            let (place, container) = container_of(&template, "")?;
            check_begun(&record, &template, place, &container)?;
            container
        }
        Some(name) => {
            no_longer_than("container", name, stint_api::limits::DNS_LABEL_BYTES_MAX)?;
            name.to_owned()
        }
    };
    let (node, pod_name) = (node_of(&record)?, record.name.clone());
    let source = Source { node, pod: record.uid, pod_name, container };
    Ok((record, source))
}

/// A Pod that runs before one of which an init container does, which is better than none.
fn rank_of_access(record: &PodRecord) -> u8 {
    match record.phase {
        PodPhase::Running => 2,
        PodPhase::Pending if record.containers.iter().any(is_running) => 1,
        PodPhase::Pending | PodPhase::Succeeded | PodPhase::Failed => 0,
    }
}

fn is_running(container: &ContainerRecord) -> bool {
    matches!(container.state, ContainerRunState::Running { .. })
}

/// Refuses the container that is meant when none is named, while it is not its turn: which of the others is meant then is not
/// for us to guess.
fn check_begun(
    record: &PodRecord,
    template: &TemplateRecord,
    place: usize,
    container: &str,
) -> Result<(), Status> {
    if rank_of_access(record) != 1 || record.containers.get(place).is_some_and(is_running) {
        return Ok(());
    }
    let spec = &template.template.spec;
    let all = spec.init_containers.iter().chain(&spec.containers).zip(&record.containers);
    let running: Vec<&str> =
        all.filter(|(_, known)| is_running(known)).map(|(one, _)| one.name.as_str()).collect();
    let message = format!(
        "container {container:?} of pod {:?} does not run yet: name one that does ({})",
        record.name,
        running.join(", ")
    );
    Err(error::refused(ErrorReason::FailedPrecondition, message))
}

/// The node of a Pod that has not ended.
fn node_of(record: &PodRecord) -> Result<NodeName, Status> {
    let not_now =
        |why: &str| error::refused(ErrorReason::FailedPrecondition, format!("pod {:?} {why}", record.name));
    match &record.node {
        _ if record.phase.is_terminal() => Err(not_now("has ended")),
        Some(node) => Ok(node.clone()),
        None => Err(not_now("waits for a node")),
    }
}

/// Opens the channel, waits until the agent has said that it is open, and lets it go on by itself.
async fn connect<P: Protocol>(
    context: Context,
    requests: Streaming<P::Request>,
    source: Source,
    target: v1::channel_open::Target,
) -> Result<ChannelStream<P::Response>, Status> {
    let open = v1::ChannelOpen {
        channel_id: 0,
        pod_uid: uid_to_wire(source.pod),
        target: Some(target),
        credit_bytes: 0,
    };
    let place = context.sessions.channel_place()?;
    let (mut reader, writer) = context.sessions.open_channel(place, &source.node, open)?;
    let opened = tokio::time::timeout(Duration::from_millis(CHANNEL_OPEN_MS), reader.next());
    match opened.await {
        Ok(Some(ChannelPiece::Opened)) => {}
        Ok(Some(ChannelPiece::End(end))) => return Err(not_opened(&end)),
        Ok(Some(ChannelPiece::Output(_) | ChannelPiece::InputCredit(_))) => {
            let problem = format!("node {} sends what was not asked for", source.node);
            return Err(error::internal("opening a channel", &problem));
        }
        Ok(None) => {
            return Err(error::outcome_unknown(&format!("the session of node {} ended", source.node)));
        }
        Err(_) => {
            let why = format!("node {} did not say within {CHANNEL_OPEN_MS} ms that it is open", source.node);
            return Err(error::outcome_unknown(&why));
        }
    }
    let (sender, receiver) = mpsc::channel(CHANNEL_STREAM_BUFFER);
    tokio::spawn(async move {
        let end = tokio::select! {
            end = pass_on::<P>(reader, writer, requests, source, &sender) => end,
            () = context.stop.cancelled() => Err(error::stopping()),
            () = sender.closed() => Ok(()),
        };
        if let Err(status) = end {
            // A caller that is gone needs no end; one that does not read sees its stream close.
            let _ = sender.try_send(Err(status));
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn pass_on<P: Protocol>(
    mut reader: ChannelReader,
    writer: ChannelWriter,
    requests: Streaming<P::Request>,
    source: Source,
    sender: &mpsc::Sender<Result<P::Response, Status>>,
) -> Result<(), Status> {
    let (give_credit, credits) = mpsc::unbounded_channel();
    let out = async {
        let started = P::started(v1::ChannelSource {
            pod_name: source.pod_name.clone(),
            pod_uid: source.pod.to_string(),
            container: source.container.clone(),
            node_name: source.node.to_string(),
        });
        let mut next = Some(started);
        loop {
            if let Some(response) = next.take()
                && sender.send(Ok(response)).await.is_err()
            {
                return Ok(());
            }
            match reader.next().await {
                Some(ChannelPiece::Output(output)) => {
                    reader.give_credit(output.data.len());
                    next = Some(P::output(output));
                }
                Some(ChannelPiece::InputCredit(bytes)) => {
                    // Bounded by the queue that it came from; the other side is gone only with this one.
                    let _ = give_credit.send(bytes);
                    next = Some(P::credit(bytes));
                }
                Some(ChannelPiece::End(end)) => {
                    if end.reason() != v1::ChannelEndReason::Complete {
                        return Err(not_opened(&end));
                    }
                    if let Some(last) = P::end(&end) {
                        let _ = sender.send(Ok(last)).await;
                    }
                    return Ok(());
                }
                Some(ChannelPiece::Opened) => {}
                None => return Err(error::node_unreachable(&source.node)),
            }
        }
    };
    tokio::select! {
        end = out => end,
        failed = take_in::<P>(&writer, requests, credits) => Err(failed),
    }
}

/// Passes input on until something is wrong with it.
async fn take_in<P: Protocol>(
    writer: &ChannelWriter,
    mut requests: Streaming<P::Request>,
    mut credits: mpsc::UnboundedReceiver<u64>,
) -> Status {
    use v1::channel_input::Input as ToAgent;
    let mut allowed = CHANNEL_CREDIT_BYTES_INITIAL;
    let mut has_ended = false;
    loop {
        let input = match requests.message().await {
            Ok(Some(request)) => match P::input(request) {
                Ok(input) => input,
                Err(status) => return status,
            },
            Ok(None) if has_ended => break,
            Ok(None) => Input::End,
            // Broken off: nobody hears what is answered.
            Err(status) => return status,
        };
        while let Ok(bytes) = credits.try_recv() {
            allowed = allowed.saturating_add(bytes).min(CHANNEL_CREDIT_BYTES_INITIAL);
        }
        let input = match input {
            Input::Data(_) if has_ended => {
                return error::bad_request("data", "no more may follow the end of the input");
            }
            Input::Data(data) if data.len() > CHANNEL_PIECE_BYTES_MAX => {
                let message = format!("Too long: may not be more than {CHANNEL_PIECE_BYTES_MAX} bytes");
                return error::bad_request("data", message);
            }
            Input::Data(data) => {
                match allowed.checked_sub(channel_cost(data.len())) {
                    Some(left) => allowed = left,
                    None => return error::bad_request("data", "is more than was given credit for"),
                }
                ToAgent::Data(data)
            }
            Input::End => {
                has_ended = true;
                ToAgent::End(v1::ChannelInputEnd {})
            }
            Input::Resize(size) => match check_size(&size) {
                Ok(()) => ToAgent::Resize(size),
                Err(status) => return status,
            },
        };
        if !writer.send(input).await {
            break;
        }
    }
    // What comes out goes on, and says how it ends.
    std::future::pending().await
}

/// What a shell ends with if there is no such program.
const NOT_FOUND: i32 = 127;
/// What a shell ends with if it is no program.
const NOT_EXECUTABLE: i32 = 126;

fn not_opened(end: &v1::ChannelEnd) -> Status {
    use v1::ChannelEndReason as Reason;
    match end.reason() {
        Reason::NotFound => error::refused(ErrorReason::NotFound, end.message.clone()),
        Reason::NotRunning | Reason::Failed | Reason::Unsupported => {
            let reason = match (end.reason(), end.exit_code) {
                (Reason::Failed, NOT_FOUND) => ErrorReason::CommandNotFound,
                (Reason::Failed, NOT_EXECUTABLE) => ErrorReason::CommandNotExecutable,
                _ => ErrorReason::FailedPrecondition,
            };
            error::refused(reason, end.message.clone())
        }
        Reason::TooManyChannels => error::overloaded(end.message.clone()),
        Reason::Complete | Reason::Unspecified => {
            error::refused(ErrorReason::Internal, format!("the agent gave up: {}", end.message))
        }
    }
}

impl Protocol for Exec {
    type Request = v1::ExecRequest;
    type Response = v1::ExecResponse;

    fn input(request: v1::ExecRequest) -> Result<Input, Status> {
        use v1::exec_request::Message;
        match request.message {
            Some(Message::Stdin(data)) => Ok(Input::Data(data)),
            Some(Message::StdinEnd(_)) => Ok(Input::End),
            Some(Message::Resize(size)) => Ok(Input::Resize(size)),
            Some(Message::Start(_) | Message::Attach(_)) | None => {
                Err(error::bad_request("message", "input is what may follow the first message"))
            }
        }
    }

    fn started(source: v1::ChannelSource) -> v1::ExecResponse {
        v1::ExecResponse { message: Some(v1::exec_response::Message::Started(source)) }
    }

    fn output(output: v1::ChannelOutput) -> v1::ExecResponse {
        use v1::exec_response::Message;
        let message = match output.stream() {
            v1::ChannelStream::Stderr => Message::Stderr(output.data),
            v1::ChannelStream::Stdout | v1::ChannelStream::Unspecified => Message::Stdout(output.data),
        };
        v1::ExecResponse { message: Some(message) }
    }

    fn credit(bytes: u64) -> v1::ExecResponse {
        v1::ExecResponse { message: Some(v1::exec_response::Message::StdinCredit(bytes)) }
    }

    fn end(end: &v1::ChannelEnd) -> Option<v1::ExecResponse> {
        let exit = v1::ExecExit { exit_code: end.exit_code };
        Some(v1::ExecResponse { message: Some(v1::exec_response::Message::Exit(exit)) })
    }
}

impl Protocol for PortForward {
    type Request = v1::PortForwardRequest;
    type Response = v1::PortForwardResponse;

    fn input(request: v1::PortForwardRequest) -> Result<Input, Status> {
        match request.message {
            Some(v1::port_forward_request::Message::Data(data)) => Ok(Input::Data(data)),
            Some(v1::port_forward_request::Message::Start(_)) | None => {
                Err(error::bad_request("message", "data is what may follow start"))
            }
        }
    }

    fn started(source: v1::ChannelSource) -> v1::PortForwardResponse {
        v1::PortForwardResponse { message: Some(v1::port_forward_response::Message::Started(source)) }
    }

    fn output(output: v1::ChannelOutput) -> v1::PortForwardResponse {
        use v1::port_forward_response::Message;
        let message = match output.data.is_empty() {
            true => Message::End(v1::PortForwardEnd {}),
            false => Message::Data(output.data),
        };
        v1::PortForwardResponse { message: Some(message) }
    }

    fn credit(bytes: u64) -> v1::PortForwardResponse {
        v1::PortForwardResponse { message: Some(v1::port_forward_response::Message::Credit(bytes)) }
    }

    fn end(_: &v1::ChannelEnd) -> Option<v1::PortForwardResponse> {
        None
    }
}
