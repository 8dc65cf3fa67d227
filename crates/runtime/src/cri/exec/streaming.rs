//! A connection to the streaming server of an engine, over which one program is talked to.
//!
//! Owns: the upgrade, streams and what goes over them, the words about the program's end. Does not own: frames (`spdy`), the
//! program (`exec`).
//!
//! A connection is closed only once the engine has taken up all its streams: containerd 1.6 holds on to the streams of one that it
//! finds closed before, for ever, and then can't even stop the container that they were to be attached to.
//!
//! As Kubernetes' own client does it: the address is asked for an upgrade to SPDY/3.1 and to version 4 of the remote commands'
//! protocol, in which standard input, output, errors, the terminal's size and the end are a stream each.

use super::spdy::{Control, Encoder, HEAD_BYTES, Head};
use crate::{TerminalSize, limits};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::transport::Uri;

const PROTOCOL: &str = "v4.channel.k8s.io";

/// Numbers of the streams; a client's are odd.
const ERROR: u32 = 1;
const STDIN: u32 = 3;
const STDOUT: u32 = 5;
const STDERR: u32 = 7;
const RESIZE: u32 = 9;

/// Which streams there are, besides the one of errors. At least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cri) struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Of this size; one without characters is not told.
    pub terminal: Option<TerminalSize>,
    /// The end of the input is not told.
    pub keeps_input: bool,
}

/// What is known of the program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::cri) struct Progress {
    /// The engine has taken up so many streams.
    pub replies: usize,
    /// It has said something, so it runs, or has run.
    pub has_spoken: bool,
    pub outcome: Option<Outcome>,
}

/// How it came to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cri) enum Outcome {
    /// With this exit code.
    Exited(i32),
    /// The engine could not run it.
    Failed(String),
    /// The connection is gone.
    Lost(String),
}

/// A conversation with one program.
pub(in crate::cri) struct Conversation {
    pub stdin: Option<DuplexStream>,
    pub stdout: Option<DuplexStream>,
    pub stderr: Option<DuplexStream>,
    pub sizes: mpsc::Sender<TerminalSize>,
    /// Its last value has an outcome, unless the connection was closed here.
    pub progress: watch::Receiver<Progress>,
    pub connection: Connection,
    /// How many streams there are.
    streams: usize,
}

impl Conversation {
    /// Resolves when the engine has taken up all streams, or it is over.
    pub async fn taken_up(&mut self) {
        taken_up(&mut self.progress, self.streams).await;
    }
}

async fn taken_up(progress: &mut watch::Receiver<Progress>, streams: usize) {
    // An error is an end, too.
    let _ = progress.wait_for(|progress| progress.replies >= streams || progress.outcome.is_some()).await;
}

/// Closed when it is dropped, as soon as that may be.
pub(in crate::cri) struct Connection(
    #[allow(dead_code, reason = "its end is what counts")] oneshot::Sender<()>,
);

/// Begins a conversation at an address that the engine has just given.
///
/// # Errors
/// Words for people.
pub(in crate::cri) async fn open(address: &str, wanted: Wanted) -> Result<Conversation, String> {
    let address = address.to_owned();
    // Goes on if nobody waits for it any more: see above.
    let opening = tokio::spawn(async move {
        let patience = Duration::from_millis(limits::ENGINE_CALL_MS);
        match tokio::time::timeout(patience, upgrade(&address)).await {
            Ok(Ok(socket)) => begin(socket, wanted).await.map_err(|error| error.to_string()),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(format!("no answer within {patience:?}")),
        }
    });
    opening.await.unwrap_or_else(|failure| Err(failure.to_string()))
}

async fn upgrade(address: &str) -> Result<TcpStream, String> {
    let uri: Uri = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let (Some(authority), Some("http")) = (uri.authority(), uri.scheme_str()) else {
        return Err(
            "only plain HTTP is spoken with it: set enable_tls_streaming (containerd) or stream_enable_tls \
                    (CRI-O) to false"
                .to_owned(),
        );
    };
    // In brackets if it is one of version 6.
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(80);
    let mut socket = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    // Keys are to be seen at once; without it they only come a little later.
    let _ = socket.set_nodelay(true);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {PROTOCOL}\r\nContent-Length: 0\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let head = read_head(&mut socket).await.map_err(|error| error.to_string())?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        let shown: String = status.chars().take(limits::SHOWN_PROGRAM_CHARS_MAX).collect();
        return Err(format!("it does not speak SPDY/3.1: {shown:?}"));
    }
    let is_spoken = head.lines().filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.eq_ignore_ascii_case("X-Stream-Protocol-Version") && value.trim() == PROTOCOL
    });
    if is_spoken { Ok(socket) } else { Err(format!("it does not speak {PROTOCOL}")) }
}

/// The head of an HTTP answer. Byte by byte, as what follows it is none; it is short and local.
async fn read_head(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= limits::STREAMING_HEAD_BYTES_MAX {
            return Err(std::io::Error::other("its answer has no end"));
        }
        head.push(socket.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn begin(socket: TcpStream, wanted: Wanted) -> std::io::Result<Conversation> {
    let (from_engine, mut to_engine) = socket.into_split();
    let mut encoder = Encoder::default();
    let streams = [
        (ERROR, "error", true),
        (STDIN, "stdin", wanted.stdin),
        (STDOUT, "stdout", wanted.stdout),
        (STDERR, "stderr", wanted.stderr),
        (RESIZE, "resize", wanted.terminal.is_some()),
    ];
    for (stream, kind, is_wanted) in streams {
        if is_wanted {
            to_engine.write_all(&encoder.open(stream, &[("streamtype", kind)])).await?;
        }
    }
    if let Some(size) = wanted.terminal.filter(|size| size.columns > 0) {
        to_engine.write_all(&resize(size)).await?;
    }
    let streams = streams.iter().filter(|(_, _, is_wanted)| *is_wanted).count();
    let pipe = |is_wanted: bool| {
        let (ours, theirs) = tokio::io::duplex(limits::STREAMING_PIPE_BYTES);
        if is_wanted { (Some(ours), Some(theirs)) } else { (None, None) }
    };
    let (stdin, input) = pipe(wanted.stdin);
    let (stdout, output) = pipe(wanted.stdout);
    let (stderr, errors) = pipe(wanted.stderr);
    let (sizes, wanted_sizes) = mpsc::channel(limits::STREAMING_WORDS_WAITING_MAX);
    let (pings, wanted_pings) = mpsc::channel(limits::STREAMING_WORDS_WAITING_MAX);
    let (progress_sender, progress) = watch::channel(Progress::default());
    let writer = Writer { to_engine, input, keeps_input: wanted.keeps_input };
    let reader = Reader {
        from_engine: BufReader::new(from_engine),
        output,
        errors,
        pings,
        status: Vec::new(),
        progress: progress_sender,
    };
    let (connection, closed) = oneshot::channel();
    let mut seen = progress.clone();
    tokio::spawn(async move {
        let conversation = async {
            tokio::select! {
                () = reader.read_all() => {}
                () = writer.write_all(wanted_sizes, wanted_pings) => {}
            }
        };
        let may_be_closed = async {
            // Nothing is ever sent.
            let _ = closed.await;
            let patience = Duration::from_millis(limits::ENGINE_CALL_MS);
            let _ = tokio::time::timeout(patience, taken_up(&mut seen, streams)).await;
        };
        tokio::select! {
            () = conversation => {}
            () = may_be_closed => {}
        }
    });
    Ok(Conversation { stdin, stdout, stderr, sizes, progress, connection: Connection(connection), streams })
}

fn resize(size: TerminalSize) -> Vec<u8> {
    let words = json!({"Width": size.columns, "Height": size.rows}).to_string() + "\n";
    Encoder::data(RESIZE, words.as_bytes(), false)
}

/// What goes to the engine.
struct Writer {
    to_engine: OwnedWriteHalf,
    input: Option<DuplexStream>,
    keeps_input: bool,
}

impl Writer {
    /// Never resolves: the end is read, not written.
    async fn write_all(mut self, mut sizes: mpsc::Receiver<TerminalSize>, mut pings: mpsc::Receiver<u32>) {
        let mut buffer = vec![0; limits::STREAMING_PIECE_BYTES];
        loop {
            let frame = tokio::select! {
                biased;
                Some(ping) = pings.recv() => Encoder::ping(ping),
                Some(size) = sizes.recv() => resize(size),
                read = read_some(&mut self.input, &mut buffer) => match read {
                    0 => {
                        self.input = None;
                        if self.keeps_input {
                            continue;
                        }
                        Encoder::data(STDIN, &[], true)
                    }
                    count => Encoder::data(STDIN, &buffer[..count], false),
                },
                else => break,
            };
            if self.to_engine.write_all(&frame).await.is_err() {
                break;
            }
        }
        std::future::pending().await
    }
}

/// The next bytes, none at the end; pending if there is nothing to read from.
async fn read_some(input: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match input {
        // What is here in memory can't fail.
        Some(input) => input.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// What comes from the engine.
struct Reader {
    from_engine: BufReader<OwnedReadHalf>,
    output: Option<DuplexStream>,
    errors: Option<DuplexStream>,
    pings: mpsc::Sender<u32>,
    /// What the engine has said about the end so far.
    status: Vec<u8>,
    progress: watch::Sender<Progress>,
}

impl Reader {
    /// Resolves at the end.
    async fn read_all(mut self) {
        let outcome = match self.read_until_end().await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Lost(format!("the connection to the engine broke: {error}")),
        };
        // Who knows of the end finds that of the output, too.
        (self.output, self.errors) = (None, None);
        self.progress.send_modify(|progress| progress.outcome = Some(outcome));
    }

    async fn read_until_end(&mut self) -> std::io::Result<Outcome> {
        loop {
            let mut head = [0; HEAD_BYTES];
            self.from_engine.read_exact(&mut head).await?;
            match Head::decode(head) {
                Head::Data { stream: ERROR, is_last, bytes } => {
                    if self.status.len() + bytes > limits::STREAMING_STATUS_BYTES_MAX {
                        return Err(std::io::Error::other("what it says about the end is too long"));
                    }
                    let begin = self.status.len();
                    self.status.resize(begin + bytes, 0);
                    self.from_engine.read_exact(&mut self.status[begin..]).await?;
                    if let Some(outcome) = outcome_of(&self.status) {
                        return Ok(outcome);
                    }
                    if is_last {
                        return Err(std::io::Error::other("it does not say how the program ended"));
                    }
                }
                Head::Data { stream, is_last, bytes } => self.pass_on(stream, is_last, bytes).await?,
                Head::Control { kind, bytes } => {
                    if bytes > limits::STREAMING_STATUS_BYTES_MAX {
                        return Err(std::io::Error::other("a word of it is too long"));
                    }
                    let mut body = vec![0; bytes];
                    self.from_engine.read_exact(&mut body).await?;
                    match Control::decode(kind, &body) {
                        // One that is not answered in time is another's problem, waiting for it would be ours.
                        Control::Reply => self.progress.send_modify(|progress| progress.replies += 1),
                        Control::Ping(number) => drop(self.pings.try_send(number)),
                        Control::Reset { stream: ERROR } => {
                            return Err(std::io::Error::other("it has given up the program"));
                        }
                        Control::Reset { .. } | Control::Other => {}
                    }
                }
            }
        }
    }

    async fn pass_on(&mut self, stream: u32, is_last: bool, mut bytes: usize) -> std::io::Result<()> {
        if bytes > 0 {
            self.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.has_spoken, true));
        }
        let sink = match stream {
            STDOUT => &mut self.output,
            STDERR => &mut self.errors,
            _ => &mut None,
        };
        let mut buffer = [0; 8 * 1024];
        while bytes > 0 {
            let piece = &mut buffer[..bytes.min(8 * 1024)];
            self.from_engine.read_exact(piece).await?;
            bytes -= piece.len();
            write_some(sink, piece).await;
        }
        if is_last {
            *sink = None;
        }
        Ok(())
    }
}

/// Gives bytes to who wants them; once nobody does, they are thrown away.
async fn write_some(sink: &mut Option<impl AsyncWrite + Unpin>, bytes: &[u8]) {
    if let Some(pipe) = sink
        && pipe.write_all(bytes).await.is_err()
    {
        *sink = None;
    }
}

/// What the engine says at the end; `None` if that is not all of it.
fn outcome_of(status: &[u8]) -> Option<Outcome> {
    let status: Value = serde_json::from_slice(status).ok()?;
    if status["status"] == "Success" {
        return Some(Outcome::Exited(0));
    }
    let causes = status["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let code = causes.iter().find(|cause| cause["reason"] == "ExitCode");
    if let Some(code) = code.and_then(|cause| cause["message"].as_str()?.parse().ok()) {
        return Some(Outcome::Exited(code));
    }
    let message = status["message"].as_str().unwrap_or("it does not say why");
    Some(Outcome::Failed(message.chars().take(limits::ENGINE_MESSAGE_CHARS_MAX).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_for_an_end_are_understood() {
        let check = |status: Value, expected: Outcome| {
            assert_eq!(outcome_of(status.to_string().as_bytes()), Some(expected), "{status}");
        };
        check(json!({"metadata": {}, "status": "Success"}), Outcome::Exited(0));
        let with_code = json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated",
            "details": {"causes": [{"reason": "ExitCode", "message": "137"}]},
        });
        check(with_code, Outcome::Exited(137));
        let failed = json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": "no such thing"});
        check(failed, Outcome::Failed("no such thing".to_owned()));
        assert_eq!(outcome_of(b"{\"status\":\"Succ"), None);
    }

    /// A server of the tests' own answers an upgrade in this way.
    async fn refusal(answer: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/exec/token", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let head = read_head(&mut socket).await.unwrap();
            assert!(head.starts_with("POST /exec/token HTTP/1.1\r\n") && head.contains("Upgrade: SPDY/3.1"));
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
        let wanted = Wanted { stdin: false, stdout: true, stderr: false, terminal: None, keeps_input: false };
        open(&address, wanted).await.err().unwrap()
    }

    #[tokio::test]
    async fn a_server_that_speaks_something_else_is_told_so() {
        assert!(refusal("HTTP/1.1 403 Forbidden\r\n\r\n").await.contains("403 Forbidden"));
        let other = "HTTP/1.1 101 Switching Protocols\r\nX-Stream-Protocol-Version: channel.k8s.io\r\n\r\n";
        assert!(refusal(other).await.contains(PROTOCOL));
        assert!(!refusal("HTTP/1.1 101").await.is_empty());
        let wanted = Wanted { stdin: true, stdout: false, stderr: false, terminal: None, keeps_input: false };
        let refused = open("https://127.0.0.1:1/exec/token", wanted).await.err().unwrap();
        assert!(refused.contains("enable_tls_streaming"), "{refused}");
    }

    /// See the top of the file.
    #[tokio::test]
    async fn a_connection_is_closed_once_its_streams_are_taken_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let (left, was_left) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_head(&mut socket).await.unwrap();
            let answer = format!("HTTP/1.1 101 Switching\r\nx-stream-protocol-version: {PROTOCOL}\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
            was_left.await.unwrap();
            let reply = |stream: u8| [&[0x80, 3, 0, 2, 0, 0, 0, 4, 0, 0, 0][..], &[stream]].concat();
            socket.write_all(&reply(1)).await.unwrap();
            let mut received = Vec::new();
            let still = tokio::time::timeout(Duration::from_millis(200), socket.read_to_end(&mut received));
            assert!(still.await.is_err(), "one of two streams is taken up");
            socket.write_all(&reply(5)).await.unwrap();
            // Either is a close.
            let _ = socket.read_to_end(&mut received).await;
        });
        let wanted = Wanted { stdin: false, stdout: true, stderr: false, terminal: None, keeps_input: false };
        drop(open(&address, wanted).await.unwrap());
        left.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(30), server).await.expect("it is closed").unwrap();
    }

    #[tokio::test]
    async fn pings_are_answered_and_output_ends_with_the_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_head(&mut socket).await.unwrap();
            let answer = format!("HTTP/1.1 101 Switching\r\nx-stream-protocol-version: {PROTOCOL}\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
            socket.write_all(&Encoder::ping(2)).await.unwrap();
            socket.write_all(&Encoder::data(STDOUT, b"half", false)).await.unwrap();
            let mut received = Vec::new();
            while !received.ends_with(&Encoder::ping(2)) {
                received.push(socket.read_u8().await.unwrap());
            }
        });
        let wanted = Wanted { stdin: false, stdout: true, stderr: true, terminal: None, keeps_input: false };
        let mut conversation = open(&address, wanted).await.unwrap();
        server.await.unwrap();
        let mut text = String::new();
        conversation.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "half");
        let progress = conversation.progress.wait_for(|progress| progress.outcome.is_some()).await.unwrap();
        assert!(progress.has_spoken && matches!(progress.outcome, Some(Outcome::Lost(_))), "{progress:?}");
    }
}
