//! Logs that go on where they broke off.

use std::sync::Mutex;
use std::time::Duration;

use stint_client::{Error, LogOutput, LogsRequest, PodTarget, v1};
use stint_proto::status::ErrorReason;
use tonic::Status;

use crate::fake::{Fake, SHORT, SOON, Stream, client, refusal};

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

#[tokio::test]
async fn pieces_say_where_output_was_written_to_and_where_some_is_missing() {
    let cut = v1::LogCut { node_name: "w1".to_owned(), ..Default::default() };
    let of = |data: &'static str, stream: v1::LogStream, next_offset| {
        Ok(v1::PodLogsChunk { data: data.into(), stream: stream.into(), next_offset, ..Default::default() })
    };
    let streams = vec![vec![
        source(),
        of("out\n", v1::LogStream::Stdout, 10),
        of("err\n", v1::LogStream::Stderr, 20),
        Ok(v1::PodLogsChunk { cut: Some(cut.clone()), next_offset: 20, ..Default::default() }),
        of("old\n", v1::LogStream::Unspecified, 30),
    ]];
    let (address, _) = Fake { logs: Mutex::new(streams.into()), ..Fake::default() }.start().await;
    let wanted = LogsRequest::new("default", PodTarget::Pod("p1".to_owned()));
    let mut stream = client(&[&address], SOON).logs(&wanted).await.unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.next_piece().await.unwrap() {
        pieces.push((String::from_utf8_lossy(&piece.data).into_owned(), piece.output, piece.cut));
    }
    let expected = [
        ("out\n", LogOutput::Stdout, None),
        ("err\n", LogOutput::Stderr, None),
        ("", LogOutput::Unknown, Some(cut)),
        ("old\n", LogOutput::Unknown, None),
    ];
    assert_eq!(pieces, expected.map(|(text, output, cut)| (text.to_owned(), output, cut)));
    assert!(stream.next_piece().await.unwrap().is_none(), "the end stays the end");
}

#[tokio::test]
async fn a_log_that_says_no_more_than_whose_it_is_is_given_up_in_time() {
    let gone = || Err(refusal(ErrorReason::NodeUnreachable));
    let streams = (0..1_000).map(|_| vec![source(), piece("one\n", 0), gone()]).collect();
    let fake = Fake { logs: Mutex::new(streams), ..Fake::default() };
    let (address, fake) = fake.start().await;
    let wanted = LogsRequest::new("default", PodTarget::Pod("p1".to_owned())).follow();
    let mut stream = client(&[&address], SHORT).logs(&wanted).await.unwrap();
    assert_eq!(stream.next().await.unwrap().as_deref(), Some(&b"one\n"[..]));
    assert!(stream.next().await.unwrap_err().is_outage());
    let n_asked = fake.log_requests.lock().unwrap().len();
    assert!((2..100).contains(&n_asked), "asked {n_asked} times within {SHORT:?}");
}

#[tokio::test]
async fn a_log_that_gets_no_further_is_given_up_in_time() {
    let cut = || Ok(v1::PodLogsChunk { cut: Some(v1::LogCut::default()), ..Default::default() });
    // Nothing at all; only that some is missing; a place that was reached before.
    type Messages = fn() -> Stream<v1::PodLogsChunk>;
    let cases: [Messages; 2] = [|| vec![Ok(v1::PodLogsChunk::default()); 3], || vec![piece("", 10)]];
    let with_cut = (0..1_000).map(|_| vec![source(), cut(), Err(Status::unavailable("gone"))]).collect();
    let mut scripts: Vec<std::collections::VecDeque<_>> = vec![with_cut];
    for messages in cases {
        let one = || [vec![source()], messages(), vec![Err(Status::unavailable("gone"))]].concat();
        scripts.push((0..1_000).map(|_| one()).collect());
    }
    for script in scripts {
        let (address, fake) = Fake { logs: Mutex::new(script), ..Fake::default() }.start().await;
        let wanted = LogsRequest::new("default", PodTarget::Pod("p1".to_owned())).follow();
        let mut stream = client(&[&address], SHORT).logs(&wanted).await.unwrap();
        let error = loop {
            match stream.next_piece().await {
                Ok(piece) => assert!(piece.unwrap().data.is_empty()),
                Err(error) => break error,
            }
        };
        assert!(error.is_outage(), "{error:?}");
        let n_asked = fake.log_requests.lock().unwrap().len();
        assert!((2..100).contains(&n_asked), "asked {n_asked} times within {SHORT:?}");
    }
}

#[tokio::test]
async fn lines_are_put_together_from_pieces() {
    let long: &'static str = Box::leak("x".repeat(3 << 20).into_boxed_str());
    let streams =
        vec![vec![source(), piece("one\ntw", 10), piece("o\n\n", 20), piece(long, 30), piece("\nlast", 40)]];
    let (address, _) = Fake { logs: Mutex::new(streams.into()), ..Fake::default() }.start().await;
    let wanted = LogsRequest::new("default", PodTarget::Pod("p1".to_owned()));
    let mut lines = client(&[&address], SOON).logs(&wanted).await.unwrap().lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        found.push(line);
    }
    assert_eq!(found[..3], ["one", "two", ""]);
    assert_eq!(found[3..found.len() - 1].concat(), long, "a line without end is not kept without end");
    assert_eq!(found.last().unwrap(), "last");
}

#[tokio::test]
async fn a_log_that_is_not_there_is_said_at_once() {
    let streams = vec![vec![Err(refusal(ErrorReason::NotFound))]];
    let (end, requests) = read(streams, LogsRequest::new("default", PodTarget::Pod("p1".to_owned()))).await;
    assert!(end.unwrap_err().is_not_found());
    assert_eq!(requests.len(), 1);
}
