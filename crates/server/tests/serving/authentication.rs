//! The bearer token: needed for everything but health, and no way around it.

use stint_proto::{BearerInterceptor, BearerToken, ErrorReason, v1};
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::agent::{open, register};
use crate::cluster::{Options, TestServer, create, follower_of, start, suspended_job};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn with_token() -> Options {
    Options { token: Some(TOKEN.to_owned()), ..Options::default() }
}

async fn list_with(server: &TestServer, token: Option<&str>) -> Result<v1::ListJobsResponse, tonic::Status> {
    let token = token.map(|token| BearerToken::new(token).expect("a token"));
    let mut jobs =
        v1::jobs_client::JobsClient::with_interceptor(server.channel(), BearerInterceptor::new(token));
    jobs.list(v1::ListJobsRequest::default()).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_health_is_answered_without_the_token() {
    let server = start(1, with_token()).await.remove(0);
    assert!(list_with(&server, Some(TOKEN)).await.is_ok());
    let mut refusals = Vec::new();
    for token in [None, Some("x"), Some("0123456789abcdef0123456789abcdeF"), Some("0123456789abcdef")] {
        let status = list_with(&server, token).await.expect_err("refused");
        assert_eq!(ErrorReason::of(&status), Some(ErrorReason::Unauthenticated));
        refusals.push(status.message().to_owned());
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "a refusal tells nothing apart: {refusals:?}");

    assert!(server.jobs().create(create(suspended_job("a"))).await.is_err());
    assert!(server.cluster().status(v1::ClusterStatusRequest {}).await.is_err());
    let (_say, hear) =
        open(server.channel(), v1::agent_message::Message::Register(register("w1", 1)), false).await;
    assert_eq!(hear.expect_err("refused").code(), tonic::Code::Unauthenticated);

    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel());
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.expect("health");
    assert_eq!(answer.into_inner().status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_cannot_be_claimed_from_outside() {
    let server = start(1, with_token()).await.remove(0);
    let mut request = Request::new(v1::ListJobsRequest::default());
    request.metadata_mut().insert("stint-forwarded-identity", MetadataValue::from_static("token/token"));
    request.metadata_mut().insert("stint-forwarded-by", MetadataValue::from_static("s2"));
    let status = server.jobs().list(request).await.expect_err("refused");
    assert_eq!(ErrorReason::of(&status), Some(ErrorReason::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_forward_for_whoever_has_the_token() {
    let servers = start(3, with_token()).await;
    let follower = &servers[follower_of(&servers)];
    assert!(list_with(follower, Some(TOKEN)).await.is_ok());
    assert!(list_with(follower, None).await.is_err());
}
