//! What agent, spawner and shim say to each other.
//!
//! Owns: the messages and their encoding. Does not own: how they travel (`wire`), what is done with them.
//!
//! - agent → spawner: one byte with three descriptors (the shim's first connection, its listening socket, the lease cell).
//! - spawner → agent: [`SpawnerHello`], once.
//! - agent → shim: [`Order`]s. The first over the first connection is `Start`.
//! - shim → agent: [`Fact`]s. The first of every connection is `Hello`, with a pidfd of the shim; those that it counts
//!   follow, and then what happens.
//!
//! A shim outlives the agent that started it, and an upgrade must not end what runs, so agents talk with shims of other
//! versions, which say their number in their `Hello`. For that these rules hold:
//!
//! - An agent understands every version from [`WIRE_VERSION_OLDEST`] on, later ones than its own too.
//! - A message that is there keeps its kind, its fields and their meaning. New fields come at its end: who does not know them
//!   passes over them, who misses them takes what they stood for before. New kinds get numbers that no kind ever had: who does
//!   not know one passes over the message. The first eight bytes of a `Hello` never change, nor do the numbers of isolations.
//! - Shims of version 2 do not do that: to them nothing may be said but what version 2 has, to the byte.
//! - `Start` alone may change at will, with all that is in it: a shim is started by an agent of the same program.
//!
//! A test holds the bytes. Whoever has to change them raises [`WIRE_VERSION`], keeps reading the old ones, and keeps what the
//! test says of older versions.

use super::confine::Confinement;
use super::sys::ChildEnd;
use super::wire::{
    push_long, push_number, push_text, push_texts, take_long, take_number, take_text, take_texts,
};
use crate::payload::Payload;
use crate::{AttachRefusal, ContainerId, LogLimits, StreamsSpec};
use nix::errno::Errno;

/// Version of what shims say and understand. Since 3 they pass over what they don't know; since 4 clients can have the
/// container's streams.
pub(crate) const WIRE_VERSION: u32 = 4;

/// First version whose shims answer an [`Order::Attach`].
pub(crate) const WIRE_VERSION_ATTACH: u32 = 4;

/// First version whose shims are understood.
pub(crate) const WIRE_VERSION_OLDEST: u32 = 2;

/// Begins a shim's `Hello`.
const MAGIC: &[u8; 4] = b"shim";

/// Bytes of a request to the spawner.
pub(crate) const SHIM_REQUEST_BYTES: usize = 1;

/// What holds a container's processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// A PID namespace, and a view of the host of its own.
    NamespaceWithProc,
    /// A PID namespace; it sees the host as it is, and `/proc` shows the host's processes.
    NamespaceOnly,
    /// A subreaper.
    Degraded,
    /// As the first, in a user namespace, as the agent is not root.
    UserNamespace,
}

impl Isolation {
    const ALL: [Isolation; 4] = [
        Isolation::NamespaceWithProc,
        Isolation::NamespaceOnly,
        Isolation::Degraded,
        Isolation::UserNamespace,
    ];

    fn of(number: u32) -> Option<Isolation> {
        Isolation::ALL.into_iter().find(|isolation| *isolation as u32 == number)
    }

    /// Whether the shim is the init of a PID namespace.
    pub fn is_namespace(self) -> bool {
        self != Isolation::Degraded
    }
}

/// Where the start of a payload failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A text says which step.
    Confinement,
    WorkingDirectory,
    Fork,
    Exec,
    /// The moment before which it may start had passed.
    StartDeadline,
    /// Its own root, with all that belongs to it; the text says what of it.
    Container,
}

impl Stage {
    fn of(number: u32) -> Option<Stage> {
        let stages = [
            Stage::Confinement,
            Stage::WorkingDirectory,
            Stage::Fork,
            Stage::Exec,
            Stage::StartDeadline,
            Stage::Container,
        ];
        stages.into_iter().find(|stage| *stage as u32 == number)
    }
}

/// Why a program was never executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotExecuted {
    pub stage: Stage,
    pub errno: Errno,
    /// For people, where the stage does not say it all.
    pub text: String,
}

impl From<(Stage, Errno)> for NotExecuted {
    fn from((stage, errno): (Stage, Errno)) -> NotExecuted {
        NotExecuted { stage, errno, text: String::new() }
    }
}

impl NotExecuted {
    /// Bytes of an encoded one: a pipe takes them at once.
    pub const BYTES_MAX: usize = 2048;
    const TEXT_BYTES_MAX: usize = NotExecuted::BYTES_MAX - 12;

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.push(&mut bytes);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<NotExecuted> {
        let mut rest = bytes;
        NotExecuted::take(&mut rest)
    }

    fn push(&self, bytes: &mut Vec<u8>) {
        push_number(bytes, self.stage as u32);
        push_number(bytes, self.errno as i32 as u32);
        let text = self.text.as_bytes();
        push_text(bytes, &text[..text.len().min(NotExecuted::TEXT_BYTES_MAX)]);
    }

    fn take(rest: &mut &[u8]) -> Option<NotExecuted> {
        let (stage, errno) = (Stage::of(take_number(rest)?)?, take_number(rest)?);
        let text = String::from_utf8_lossy(&take_text(rest)?).into_owned();
        Some(NotExecuted { stage, errno: Errno::from_raw(errno as i32), text })
    }
}

/// First word of a spawner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpawnerHello {
    /// What holds the processes of its shims together.
    pub isolation: Isolation,
    /// Why it is not more, if the system said so.
    pub errno: i32,
}

impl SpawnerHello {
    pub const BYTES: usize = 8;

    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_number(&mut bytes, self.isolation as u32);
        push_number(&mut bytes, self.errno as u32);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<SpawnerHello> {
        let mut rest = bytes;
        let (isolation, errno) = (Isolation::of(take_number(&mut rest)?)?, take_number(&mut rest)?);
        rest.is_empty().then_some(SpawnerHello { isolation, errno: errno as i32 })
    }
}

/// First word of a shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Of what follows.
    pub version: u32,
    pub isolation: Isolation,
    /// Facts that follow at once.
    pub known: u32,
    /// What it runs; none over the first connection, where the agent knows better.
    pub container: Option<Recorded>,
}

/// What a shim keeps for an agent that knows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub id: ContainerId,
    /// The program, for messages.
    pub program: String,
    /// Where it began.
    pub home: Vec<u8>,
    pub working_directory: Vec<u8>,
}

/// What a message was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read<T> {
    /// This.
    Known(T),
    /// Something that a later version says.
    Unknown,
    /// Nothing that any version says.
    Wrong,
}

impl<T> Read<T> {
    fn of(message: Option<T>) -> Read<T> {
        message.map_or(Read::Wrong, Read::Known)
    }
}

/// What a shim tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    Hello(Hello),
    /// The spawner could not make a shim; nothing was started.
    NoShim {
        errno: i32,
    },
    /// The program runs, since this moment in nanoseconds of the wall clock.
    Started {
        at: u64,
    },
    /// The program never ran.
    StartFailed(NotExecuted),
    /// No process of the container is left, since this moment of the wall clock.
    Gone {
        at: u64,
    },
    /// And all its output is on the disk, but for so many bytes that it refused.
    Ended {
        end: ChildEnd,
        fenced: bool,
        log_bytes_dropped: u64,
    },
    /// A further program runs.
    ExecStarted {
        exec: u32,
    },
    /// A further program could not be executed.
    ExecFailed {
        exec: u32,
        why: NotExecuted,
    },
    /// A further program has ended.
    ExecEnded {
        exec: u32,
        end: ChildEnd,
    },
    /// A client has the container's streams. With the shim's end of its input, if it has that or a terminal.
    Attached {
        attach: u32,
        terminal: bool,
    },
    /// A client can't have them.
    AttachRefused {
        attach: u32,
        refusal: AttachRefusal,
    },
    /// The container's input has ended for all clients.
    InputClosed,
}

impl Fact {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Fact::Hello(hello) => {
                // Not a kind: see MAGIC.
                bytes.extend_from_slice(MAGIC);
                push_number(&mut bytes, hello.version);
                push_number(&mut bytes, hello.isolation as u32);
                push_number(&mut bytes, hello.known);
                if let Some(recorded) = &hello.container {
                    push_id(&mut bytes, &recorded.id);
                    push_text(&mut bytes, recorded.program.as_bytes());
                    push_text(&mut bytes, &recorded.home);
                    push_text(&mut bytes, &recorded.working_directory);
                }
            }
            Fact::NoShim { errno } => {
                bytes.push(1);
                push_number(&mut bytes, *errno as u32);
            }
            Fact::Started { at } => {
                bytes.push(2);
                push_long(&mut bytes, *at);
            }
            Fact::StartFailed(why) => {
                bytes.push(3);
                why.push(&mut bytes);
            }
            Fact::Gone { at } => {
                bytes.push(4);
                push_long(&mut bytes, *at);
            }
            Fact::Ended { end, fenced, log_bytes_dropped } => {
                bytes.push(5);
                push_end(&mut bytes, *end);
                bytes.push(u8::from(*fenced));
                push_long(&mut bytes, *log_bytes_dropped);
            }
            Fact::ExecStarted { exec } => {
                bytes.push(6);
                push_number(&mut bytes, *exec);
            }
            Fact::ExecFailed { exec, why } => {
                bytes.push(7);
                push_number(&mut bytes, *exec);
                why.push(&mut bytes);
            }
            Fact::ExecEnded { exec, end } => {
                bytes.push(8);
                push_number(&mut bytes, *exec);
                push_end(&mut bytes, *end);
            }
            Fact::Attached { attach, terminal } => {
                bytes.push(9);
                push_number(&mut bytes, *attach);
                bytes.push(u8::from(*terminal));
            }
            Fact::AttachRefused { attach, refusal } => {
                bytes.push(10);
                push_number(&mut bytes, *attach);
                push_number(&mut bytes, refusal_number(*refusal));
            }
            Fact::InputClosed => bytes.push(11),
        }
        bytes
    }

    /// Reads one of any version that is understood.
    pub fn decode(bytes: &[u8]) -> Read<Fact> {
        if let Some(rest) = bytes.strip_prefix(MAGIC) {
            return Read::of(decode_hello(rest).map(Fact::Hello));
        }
        match bytes.split_first() {
            Some((kind @ 1..=11, rest)) => Read::of(Fact::decode_fields(*kind, rest)),
            Some(_) => Read::Unknown,
            None => Read::Wrong,
        }
    }

    fn decode_fields(kind: u8, mut rest: &[u8]) -> Option<Fact> {
        let rest = &mut rest;
        let fact = match kind {
            1 => Fact::NoShim { errno: take_number(rest)? as i32 },
            2 => Fact::Started { at: take_long(rest)? },
            3 => Fact::StartFailed(NotExecuted::take(rest)?),
            4 => Fact::Gone { at: take_long(rest)? },
            5 => Fact::Ended {
                end: take_end(rest)?,
                fenced: take_flag(rest)?,
                log_bytes_dropped: take_long(rest)?,
            },
            6 => Fact::ExecStarted { exec: take_number(rest)? },
            7 => Fact::ExecFailed { exec: take_number(rest)?, why: NotExecuted::take(rest)? },
            8 => Fact::ExecEnded { exec: take_number(rest)?, end: take_end(rest)? },
            9 => Fact::Attached { attach: take_number(rest)?, terminal: take_flag(rest)? },
            10 => Fact::AttachRefused { attach: take_number(rest)?, refusal: refusal_of(take_number(rest)?) },
            11 => Fact::InputClosed,
            _ => return None,
        };
        Some(fact)
    }

    /// The version that a `Hello` names, whatever follows there.
    pub fn version_of_hello(bytes: &[u8]) -> Option<u32> {
        take_number(&mut bytes.strip_prefix(MAGIC)?)
    }
}

fn decode_hello(mut rest: &[u8]) -> Option<Hello> {
    let rest = &mut rest;
    let version = Some(take_number(rest)?).filter(|version| *version >= WIRE_VERSION_OLDEST)?;
    let (isolation, known) = (Isolation::of(take_number(rest)?)?, take_number(rest)?);
    let container = if rest.is_empty() {
        None
    } else {
        Some(Recorded {
            id: take_id(rest)?,
            program: String::from_utf8_lossy(&take_text(rest)?).into_owned(),
            home: take_text(rest)?,
            working_directory: take_text(rest)?,
        })
    };
    Some(Hello { version, isolation, known, container })
}

/// What the agent wants of a shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// To run this.
    Start(Box<Start>),
    /// To the main process.
    Signal(u8),
    /// Everything shall end.
    Kill,
    /// The end is known elsewhere: the shim may go.
    Release,
    /// The lease cell that comes with it counts from now on.
    Cell,
    /// The Pod was deleted: no log of it shall be made again.
    DiscardLog,
    /// To run a further program. With the descriptors that its streams name, in this order.
    Exec(Exec),
    /// To end a further program.
    ExecKill { exec: u32 },
    /// To give a client the container's streams. With two descriptors that output and errors are to be written to.
    Attach(Attach),
    /// A client has ended its input.
    EndInput { attach: u32 },
    /// A client is gone.
    Detach { attach: u32 },
}

/// What to run, and where its output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub id: ContainerId,
    /// Where the shim listens: without it no agent finds the shim any more.
    pub socket_path: Vec<u8>,
    /// The Pod's folder, in which it is written down that the run begins.
    pub pod_directory: Vec<u8>,
    /// Folder of the Pod's logs.
    pub log_directory: Vec<u8>,
    pub log_limits: LogLimits,
    pub streams: StreamsSpec,
    pub payload: Payload,
}

/// A client of the container's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attach {
    /// Its number over this connection.
    pub attach: u32,
    /// It wants to write.
    pub stdin: bool,
    /// It is a terminal, and the container is to have one too.
    pub terminal: bool,
}

/// A further program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exec {
    /// Its number over this connection.
    pub exec: u32,
    pub arguments: Vec<Vec<u8>>,
    /// Besides the container's, as `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    pub streams: ExecStreams,
}

/// Which descriptors come with an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ExecStreams {
    /// One, for all three streams.
    pub terminal: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl ExecStreams {
    fn flags(self) -> [bool; 4] {
        [self.terminal, self.stdin, self.stdout, self.stderr]
    }
}

impl Order {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Order::Start(start) => {
                bytes.push(1);
                push_id(&mut bytes, &start.id);
                push_text(&mut bytes, &start.socket_path);
                push_text(&mut bytes, &start.pod_directory);
                push_text(&mut bytes, &start.log_directory);
                push_long(&mut bytes, start.log_limits.file_bytes);
                push_long(&mut bytes, start.log_limits.files as u64);
                let StreamsSpec { stdin, stdin_once, terminal } = start.streams;
                bytes.extend([stdin, stdin_once, terminal].map(u8::from));
                push_payload(&mut bytes, &start.payload);
            }
            Order::Signal(number) => bytes.extend_from_slice(&[2, *number]),
            Order::Kill => bytes.push(3),
            Order::Release => bytes.push(4),
            Order::Cell => bytes.push(5),
            Order::DiscardLog => bytes.push(6),
            Order::Exec(exec) => {
                bytes.push(7);
                push_number(&mut bytes, exec.exec);
                bytes.extend(exec.streams.flags().map(u8::from));
                push_texts(&mut bytes, &exec.arguments);
                push_texts(&mut bytes, &exec.environment);
            }
            Order::ExecKill { exec } => {
                bytes.push(8);
                push_number(&mut bytes, *exec);
            }
            Order::Attach(Attach { attach, stdin, terminal }) => {
                bytes.push(9);
                push_number(&mut bytes, *attach);
                bytes.extend([*stdin, *terminal].map(u8::from));
            }
            Order::EndInput { attach } => {
                bytes.push(10);
                push_number(&mut bytes, *attach);
            }
            Order::Detach { attach } => {
                bytes.push(11);
                push_number(&mut bytes, *attach);
            }
        }
        bytes
    }

    /// Reads one of any version.
    pub fn decode(bytes: &[u8]) -> Read<Order> {
        match bytes.split_first() {
            Some((kind @ 1..=11, rest)) => Read::of(Order::decode_fields(*kind, rest)),
            Some(_) => Read::Unknown,
            None => Read::Wrong,
        }
    }

    fn decode_fields(kind: u8, mut rest: &[u8]) -> Option<Order> {
        let rest = &mut rest;
        let order = match kind {
            1 => Order::Start(Box::new(Start {
                id: take_id(rest)?,
                socket_path: take_text(rest)?,
                pod_directory: take_text(rest)?,
                log_directory: take_text(rest)?,
                log_limits: LogLimits {
                    file_bytes: take_long(rest)?,
                    files: usize::try_from(take_long(rest)?).ok()?,
                },
                streams: StreamsSpec {
                    stdin: take_flag(rest)?,
                    stdin_once: take_flag(rest)?,
                    terminal: take_flag(rest)?,
                },
                payload: take_payload(rest)?,
            })),
            2 => {
                let (number, tail) = rest.split_first()?;
                *rest = tail;
                Order::Signal(*number)
            }
            3 => Order::Kill,
            4 => Order::Release,
            5 => Order::Cell,
            6 => Order::DiscardLog,
            7 => Order::Exec(Exec {
                exec: take_number(rest)?,
                streams: ExecStreams {
                    terminal: take_flag(rest)?,
                    stdin: take_flag(rest)?,
                    stdout: take_flag(rest)?,
                    stderr: take_flag(rest)?,
                },
                arguments: take_texts(rest)?,
                environment: take_texts(rest)?,
            }),
            8 => Order::ExecKill { exec: take_number(rest)? },
            9 => Order::Attach(Attach {
                attach: take_number(rest)?,
                stdin: take_flag(rest)?,
                terminal: take_flag(rest)?,
            }),
            10 => Order::EndInput { attach: take_number(rest)? },
            11 => Order::Detach { attach: take_number(rest)? },
            _ => return None,
        };
        Some(order)
    }
}

fn refusal_number(refusal: AttachRefusal) -> u32 {
    match refusal {
        AttachRefusal::NoStdin => 1,
        AttachRefusal::StdinClosed => 2,
        AttachRefusal::NoTerminal => 3,
        AttachRefusal::TooMany => 4,
        AttachRefusal::Failed => 5,
    }
}

/// A later version's other reasons are taken for the one that says least.
fn refusal_of(number: u32) -> AttachRefusal {
    let known = [
        AttachRefusal::NoStdin,
        AttachRefusal::StdinClosed,
        AttachRefusal::NoTerminal,
        AttachRefusal::TooMany,
    ];
    known.into_iter().find(|refusal| refusal_number(*refusal) == number).unwrap_or(AttachRefusal::Failed)
}

fn push_id(bytes: &mut Vec<u8>, id: &ContainerId) {
    push_text(bytes, id.pod_uid().as_bytes());
    push_text(bytes, id.container_name().as_bytes());
    push_number(bytes, id.restart_count());
}

fn take_id(rest: &mut &[u8]) -> Option<ContainerId> {
    let (pod, name) = (take_text(rest)?, take_text(rest)?);
    let restart_count = take_number(rest)?;
    ContainerId::new(std::str::from_utf8(&pod).ok()?, std::str::from_utf8(&name).ok()?, restart_count).ok()
}

fn push_payload(bytes: &mut Vec<u8>, payload: &Payload) {
    push_long(bytes, payload.start_before.unwrap_or(u64::MAX));
    push_text(bytes, &payload.home);
    push_text(bytes, &payload.working_directory);
    push_texts(bytes, &payload.arguments);
    push_texts(bytes, &payload.environment);
    payload.confinement.encode(bytes);
    push_text(bytes, &payload.launch);
}

fn take_payload(rest: &mut &[u8]) -> Option<Payload> {
    Some(Payload {
        start_before: Some(take_long(rest)?).filter(|moment| *moment != u64::MAX),
        home: take_text(rest)?,
        working_directory: take_text(rest)?,
        arguments: take_texts(rest)?,
        environment: take_texts(rest)?,
        confinement: Confinement::decode(rest)?,
        launch: take_text(rest)?,
    })
}

fn push_end(bytes: &mut Vec<u8>, end: ChildEnd) {
    let (is_signal, number) = match end {
        ChildEnd::Exited(code) => (false, code),
        ChildEnd::Signaled(signal) => (true, signal),
    };
    bytes.push(u8::from(is_signal));
    push_number(bytes, number as u32);
}

fn take_end(rest: &mut &[u8]) -> Option<ChildEnd> {
    let is_signal = take_flag(rest)?;
    let number = take_number(rest)? as i32;
    Some(if is_signal { ChildEnd::Signaled(number) } else { ChildEnd::Exited(number) })
}

fn take_flag(rest: &mut &[u8]) -> Option<bool> {
    let (flag, tail) = rest.split_first()?;
    *rest = tail;
    match flag {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::confine::Profile;
    use super::*;

    fn id() -> ContainerId {
        ContainerId::new("01234567-89ab-cdef-0123-456789abcdef", "main", 3).unwrap()
    }

    #[test]
    fn facts_come_back_and_cut_ones_do_not() {
        let why = NotExecuted { stage: Stage::Exec, errno: Errno::ENOENT, text: "why".to_owned() };
        let recorded = Recorded {
            id: id(),
            program: "sh".to_owned(),
            home: b"/pod".to_vec(),
            working_directory: Vec::new(),
        };
        let hello =
            |container| Hello { version: WIRE_VERSION, isolation: Isolation::Degraded, known: 2, container };
        let facts = [
            Fact::Hello(hello(Some(recorded))),
            Fact::Hello(hello(None)),
            Fact::NoShim { errno: 11 },
            Fact::Started { at: u64::MAX },
            Fact::StartFailed(why.clone()),
            Fact::Gone { at: 5 },
            Fact::Ended { end: ChildEnd::Exited(255), fenced: true, log_bytes_dropped: 7 },
            Fact::Ended { end: ChildEnd::Signaled(64), fenced: false, log_bytes_dropped: 0 },
            Fact::ExecStarted { exec: 1 },
            Fact::ExecFailed { exec: 2, why },
            Fact::ExecEnded { exec: 3, end: ChildEnd::Exited(1) },
            Fact::Attached { attach: 4, terminal: true },
            Fact::AttachRefused { attach: 5, refusal: AttachRefusal::TooMany },
            Fact::InputClosed,
        ];
        for fact in facts {
            let bytes = fact.encode();
            assert_eq!(Fact::decode(&bytes), Read::Known(fact.clone()));
            for cut in 0..bytes.len() {
                let is_other = Fact::decode(&bytes[..cut]) != Read::Known(fact.clone());
                assert!(is_other, "{fact:?} cut at {cut}");
            }
            // What a later version adds. Only a shim that has not begun has nothing to say of a container.
            if !matches!(&fact, Fact::Hello(Hello { container: None, .. })) {
                let more = [&bytes[..], b"more"].concat();
                assert_eq!(Fact::decode(&more), Read::Known(fact.clone()), "{fact:?} and more");
            }
        }
        assert_eq!(Fact::decode(&[0xff; 64]), Read::Unknown);
        assert_eq!(Fact::decode(&[]), Read::Wrong);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What shims of an agent say that is long gone. A line that fails here is an upgrade that kills every container: see the
    /// rules above before it is changed.
    #[test]
    fn the_bytes_between_agents_and_shims_of_other_versions_stay() {
        let recorded = Recorded {
            id: id(),
            program: "sh".to_owned(),
            home: b"/h".to_vec(),
            working_directory: b"/w".to_vec(),
        };
        let isolation = Isolation::NamespaceWithProc;
        let hello = |version, container| Fact::Hello(Hello { version, isolation, known: 2, container });
        let why = NotExecuted { stage: Stage::Exec, errno: Errno::ENOENT, text: "why".to_owned() };
        let uid = "30313233343536372d383961622d636465662d303132332d343536373839616263646566";
        let of_container =
            format!("24000000 {uid} 04000000 6d61696e 03000000 02000000 7368 02000000 2f68 02000000 2f77");
        let facts = [
            (hello(2, Some(recorded.clone())), format!("7368696d 02000000 00000000 02000000 {of_container}")),
            (hello(3, Some(recorded.clone())), format!("7368696d 03000000 00000000 02000000 {of_container}")),
            (hello(4, Some(recorded)), format!("7368696d 04000000 00000000 02000000 {of_container}")),
            (hello(3, None), "7368696d 03000000 00000000 02000000".to_owned()),
            (Fact::NoShim { errno: 11 }, "01 0b000000".to_owned()),
            (Fact::Started { at: 0x0102 }, "02 0201000000000000".to_owned()),
            (Fact::StartFailed(why.clone()), "03 03000000 02000000 03000000 776879".to_owned()),
            (Fact::Gone { at: 5 }, "04 0500000000000000".to_owned()),
            (
                Fact::Ended { end: ChildEnd::Exited(255), fenced: true, log_bytes_dropped: 7 },
                "05 00 ff000000 01 0700000000000000".to_owned(),
            ),
            (
                Fact::Ended { end: ChildEnd::Signaled(9), fenced: false, log_bytes_dropped: 0 },
                "05 01 09000000 00 0000000000000000".to_owned(),
            ),
            (Fact::ExecStarted { exec: 1 }, "06 01000000".to_owned()),
            (Fact::ExecFailed { exec: 2, why }, "07 02000000 03000000 02000000 03000000 776879".to_owned()),
            (Fact::ExecEnded { exec: 3, end: ChildEnd::Exited(1) }, "08 03000000 00 01000000".to_owned()),
            (Fact::Attached { attach: 4, terminal: true }, "09 04000000 01".to_owned()),
            (
                Fact::AttachRefused { attach: 5, refusal: AttachRefusal::StdinClosed },
                "0a 05000000 02000000".to_owned(),
            ),
            (Fact::InputClosed, "0b".to_owned()),
        ];
        for (fact, expected) in facts {
            assert_eq!(hex(&fact.encode()), expected.replace(' ', ""), "{fact:?}");
        }
        let exec = Exec {
            exec: 9,
            arguments: vec![b"true".to_vec()],
            environment: vec![b"B=2".to_vec()],
            streams: ExecStreams { stdin: true, stderr: true, ..ExecStreams::default() },
        };
        let orders = [
            (Order::Signal(15), "02 0f"),
            (Order::Kill, "03"),
            (Order::Release, "04"),
            (Order::Cell, "05"),
            (Order::DiscardLog, "06"),
            (
                Order::Exec(exec),
                "07 09000000 00 01 00 01 01000000 04000000 74727565 01000000 03000000 423d32",
            ),
            (Order::ExecKill { exec: 4 }, "08 04000000"),
            (Order::Attach(Attach { attach: 5, stdin: true, terminal: false }), "09 05000000 01 00"),
            (Order::EndInput { attach: 6 }, "0a 06000000"),
            (Order::Detach { attach: 7 }, "0b 07000000"),
        ];
        for (order, expected) in orders {
            assert_eq!(hex(&order.encode()), expected.replace(' ', ""), "{order:?}");
        }
        let of_isolations = Isolation::ALL.map(|isolation| isolation as u32);
        let of_stages = [
            Stage::Confinement,
            Stage::WorkingDirectory,
            Stage::Fork,
            Stage::Exec,
            Stage::StartDeadline,
            Stage::Container,
        ];
        assert_eq!((of_isolations, of_stages.map(|stage| stage as u32)), ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5]));
    }

    #[test]
    fn a_hello_of_a_version_that_is_too_old_is_known_as_such() {
        let mut bytes = b"shim".to_vec();
        push_number(&mut bytes, WIRE_VERSION_OLDEST - 1);
        bytes.extend_from_slice(b"whatever that version says");
        assert_eq!((Fact::version_of_hello(&bytes), Fact::decode(&bytes)), (Some(1), Read::Wrong));
        assert_eq!(Fact::version_of_hello(b"something"), None);
    }

    #[test]
    fn orders_come_back_and_cut_ones_do_not() {
        let payload = Payload {
            arguments: vec![b"sh".to_vec(), Vec::new(), vec![0xff]],
            environment: vec![b"A=1".to_vec()],
            home: b"/pod".to_vec(),
            working_directory: Vec::new(),
            start_before: Some(7),
            confinement: Confinement { profile: Some(Profile::Usual), ..Confinement::default() },
            launch: b"{}".to_vec(),
        };
        let start = Start {
            id: id(),
            socket_path: b"/shims/one".to_vec(),
            pod_directory: b"/pods/one".to_vec(),
            log_directory: b"/logs/one".to_vec(),
            log_limits: LogLimits { file_bytes: 1, files: 2 },
            streams: StreamsSpec { stdin: true, stdin_once: false, terminal: true },
            payload,
        };
        let exec = Exec {
            exec: 9,
            arguments: vec![b"true".to_vec()],
            environment: vec![b"B=2".to_vec()],
            streams: ExecStreams { stdin: true, stderr: true, ..ExecStreams::default() },
        };
        let orders = [
            Order::Start(Box::new(start)),
            Order::Signal(15),
            Order::Kill,
            Order::Release,
            Order::Cell,
            Order::DiscardLog,
            Order::Exec(exec),
            Order::ExecKill { exec: 4 },
            Order::Attach(Attach { attach: 5, stdin: true, terminal: true }),
            Order::EndInput { attach: 6 },
            Order::Detach { attach: 7 },
        ];
        for order in orders {
            let bytes = order.encode();
            assert_eq!(Order::decode(&bytes), Read::Known(order.clone()));
            assert_eq!(Order::decode(&[&bytes[..], b"more"].concat()), Read::Known(order.clone()));
            for cut in 0..bytes.len() {
                assert_eq!(Order::decode(&bytes[..cut]), Read::Wrong, "{order:?} cut at {cut}");
            }
        }
        assert_eq!(Order::decode(&[200, 1, 2]), Read::Unknown);
    }

    #[test]
    fn every_refusal_of_streams_comes_back_and_an_unknown_one_says_least() {
        for number in 1..=5 {
            assert_eq!(refusal_number(refusal_of(number)), number);
        }
        assert_eq!(refusal_of(99), AttachRefusal::Failed);
    }

    #[test]
    fn what_a_failure_says_has_a_limit() {
        let why = NotExecuted {
            stage: Stage::Fork,
            errno: Errno::EPERM,
            text: "x".repeat(2 * NotExecuted::BYTES_MAX),
        };
        let bytes = why.encode();
        assert!(bytes.len() <= NotExecuted::BYTES_MAX);
        assert_eq!(NotExecuted::decode(&bytes).map(|why| why.stage), Some(Stage::Fork));
    }
}
