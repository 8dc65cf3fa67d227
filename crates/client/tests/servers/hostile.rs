//! Servers that do what no server should, and input that makes no sense: clear errors, nothing hangs.

use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use stint_api::Job;
use stint_client::{Client, ClientOptions, Error, JobBuilder, LogsRequest, PodTarget, Scope, v1};
use stint_proto::status::{ErrorReason, LEADER_ADDRESS, StatusDetails};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::fake::{Fake, SHORT, SOON, client, job, refusal};

/// Accepts connections and does this to each; gives its address.
async fn raw_server<F, Behaviour>(behave: F) -> String
where
    F: Fn(TcpStream) -> Behaviour + Send + 'static,
    Behaviour: Future<Output = Option<TcpStream>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            kept.extend(behave(connection).await);
        }
    });
    address
}

async fn says_nothing() -> String {
    raw_server(|connection| async { Some(connection) }).await
}

async fn hangs_up() -> String {
    raw_server(|connection| async {
        drop(connection);
        None
    })
    .await
}

async fn half_closes() -> String {
    raw_server(|mut connection| async {
        connection.shutdown().await.ok();
        Some(connection)
    })
    .await
}

async fn says(bytes: &'static [u8]) -> String {
    raw_server(move |mut connection| async move {
        connection.write_all(bytes).await.ok();
        Some(connection)
    })
    .await
}

/// Garbage, a web server of another kind, an end without a word, one that keeps listening, silence.
async fn servers_of_other_kinds() -> Vec<(&'static str, String)> {
    vec![
        ("silent", says_nothing().await),
        ("hangs up", hangs_up().await),
        ("half closed", half_closes().await),
        ("web server", says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await),
        ("garbage", says(&[0x5a; 4096]).await),
        ("empty frames", says(&[0; 900]).await),
    ]
}

/// Well within what a test may take, and far beyond the client's own limit.
const PATIENCE: Duration = Duration::from_secs(60);

async fn in_time<T>(what: &str, call: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| panic!("{what} hangs"))
}

#[tokio::test]
async fn servers_of_another_kind_end_every_call_with_an_error() {
    for (what, address) in servers_of_other_kinds().await {
        let client = client(&[&address], SHORT);
        let error = in_time(what, client.get_job("default", "x")).await.unwrap_err();
        assert!(error.is_outage(), "{what}: {error:?}");
        let error = in_time(what, client.run(JobBuilder::new(["x"]))).await.unwrap_err();
        let is_known =
            error.is_outage() || matches!(error, Error::OutcomeUnknown { request_id: Some(_), .. });
        assert!(is_known, "{what}: {error:?}");
        let error = in_time(what, client.update_job(&Job::default())).await.unwrap_err();
        let is_known = error.is_outage() || matches!(error, Error::OutcomeUnknown { .. });
        assert!(is_known, "{what}: {error:?}");
        let mut watch = client.watch_jobs(&Scope::default(), 0);
        assert!(in_time(what, watch.next()).await.unwrap_err().is_outage(), "{what}");
        let request = LogsRequest::new("default", PodTarget::Pod("p".to_owned())).follow();
        assert!(in_time(what, client.logs(&request)).await.unwrap_err().is_outage(), "{what}");
        assert!(in_time(what, client.cluster_status()).await.unwrap_err().is_outage(), "{what}");
    }
}

#[tokio::test]
async fn servers_of_another_kind_do_not_keep_a_call_from_a_good_one() {
    let good = || async {
        let gets = Mutex::new([Ok(job("x"))].into());
        Fake { gets, ..Fake::default() }.start().await.0
    };
    for (what, address) in servers_of_other_kinds().await {
        let client = client(&[&address, "127.0.0.1:1", &good().await], PATIENCE);
        let answer = in_time(what, client.get_job("default", "x")).await;
        assert!(answer.is_ok(), "{what}: {answer:?}");
        // It is remembered: the next call does not ask the others first.
        let begun = Instant::now();
        client.get_job("default", "x").await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_unreachable_and_named() {
    let error = client(&["no-such-host.invalid:7440"], SHORT).get_job("default", "x").await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-host.invalid:7440"), "{error}");
}

#[tokio::test]
async fn servers_that_name_each_other_as_leader_are_given_up_in_time() {
    let (one, first) = Fake::default().start().await;
    let (two, second) = Fake::default().start().await;
    for (fake, leader) in [(&first, &two), (&second, &one)] {
        let hint = StatusDetails::new(ErrorReason::NotLeader, "another server leads")
            .with_metadata(LEADER_ADDRESS, leader);
        fake.gets.lock().unwrap().push_back(Err(hint.into_status()));
    }
    let error = in_time("the chase", client(&[&one, &two], SHORT).get_job("default", "x")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let asked = first.asked().len() + second.asked().len();
    assert!(asked < 100, "asked {asked} times within {SHORT:?}");
}

#[tokio::test]
async fn a_server_that_always_asks_for_a_pause_is_given_up_in_time() {
    let status = StatusDetails::new(ErrorReason::TooManyRequests, "busy").with_retry_after(PATIENCE);
    let gets = Mutex::new([Err(status.into_status())].into());
    let (address, fake) = Fake { gets, ..Fake::default() }.start().await;
    let begun = Instant::now();
    let error = client(&[&address], SOON).get_job("default", "x").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert_eq!(fake.asked().len(), 1);
    assert!(begun.elapsed() < SOON, "what would come too late is not waited for");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    for (reason, check) in [
        (ErrorReason::Unauthenticated, Error::is_unauthenticated as fn(&Error) -> bool),
        (ErrorReason::PermissionDenied, Error::is_permission_denied),
        (ErrorReason::NotFound, Error::is_not_found),
        (ErrorReason::AlreadyExists, Error::is_already_exists),
        (ErrorReason::Conflict, Error::is_conflict),
        (ErrorReason::Expired, Error::is_expired),
        (ErrorReason::Invalid, Error::is_invalid),
        (ErrorReason::BadRequest, Error::is_invalid),
        (ErrorReason::RequestTooLarge, Error::is_invalid),
    ] {
        let gets = Mutex::new([Err(refusal(reason))].into());
        let (address, fake) = Fake { gets, ..Fake::default() }.start().await;
        let error = client(&[&address], SOON).get_job("default", "x").await.unwrap_err();
        assert!(check(&error), "{reason:?}: {error:?}");
        assert_eq!((error.reason(), error.code()), (Some(reason), Some(reason.code())));
        assert_eq!(fake.asked().len(), 1, "{reason:?} is final");
    }
    // Of something between, only the code is known.
    let gets = Mutex::new([Err(tonic::Status::unauthenticated("the proxy says no"))].into());
    let (address, _fake) = Fake { gets, ..Fake::default() }.start().await;
    let error = client(&[&address], SOON).get_job("default", "x").await.unwrap_err();
    assert!(error.is_unauthenticated() && error.reason().is_none(), "{error:?}");
}

#[tokio::test]
async fn a_request_that_no_server_takes_is_not_sent() {
    let (address, fake) = Fake::default().start().await;
    let huge = JobBuilder::new(["x"]).env("A", "x".repeat(5 << 20)).build().unwrap();
    let client = client(&[&address], SOON);
    for error in [client.submit(&huge).await.unwrap_err(), client.update_job(&huge).await.unwrap_err()] {
        assert_eq!(error.reason(), Some(ErrorReason::RequestTooLarge));
        assert!(error.is_invalid() && error.to_string().contains("at most 4194304"), "{error}");
    }
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors() {
    let nothing = v1::CreateJobResponse::default();
    let huge = v1::Job {
        metadata: Some(v1::ObjectMeta { name: "x".repeat(5 << 20), ..Default::default() }),
        ..Default::default()
    };
    let fake = Fake {
        creates: Mutex::new([Ok(nothing)].into()),
        gets: Mutex::new([Ok(huge)].into()),
        updates: Mutex::new([Ok(v1::UpdateJobResponse::default())].into()),
        ..Fake::default()
    };
    let client = client(&[&fake.start().await.0], SHORT);
    let error = client.run(JobBuilder::new(["x"])).await.unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error:?}");
    assert!(matches!(client.update_job(&Job::default()).await.unwrap_err(), Error::Answer { .. }));
    let error = in_time("a huge answer", client.get_job("default", "x")).await.unwrap_err();
    assert!(!error.to_string().is_empty(), "{error:?}");
}

#[tokio::test]
async fn a_client_without_servers_is_not_made() {
    for options in
        [ClientOptions { addresses: Vec::new(), ..ClientOptions::new("") }, ClientOptions::new(" , ")]
    {
        assert!(matches!(Client::new(options).unwrap_err(), Error::Address { .. }));
    }
}
