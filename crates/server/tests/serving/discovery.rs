//! Health and reflection, membership by hand, and how a server ends.

use std::time::{Duration, Instant};

use stint_proto::{ErrorReason, v1};
use tokio_stream::StreamExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::cluster::{Options, create, eventually, follower_of, leader_of, one, start, suspended_job};

const SERVICES: [&str; 6] = [
    "stint.v1.Agent",
    "stint.v1.Cluster",
    "stint.v1.Events",
    "stint.v1.Jobs",
    "stint.v1.Nodes",
    "stint.v1.Pods",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_and_describes_every_service() {
    let server = one().await;
    let mut reflection = ServerReflectionClient::new(server.channel());
    let mut asked = vec![MessageRequest::ListServices(String::new())];
    asked.extend(SERVICES.map(|service| MessageRequest::FileContainingSymbol(service.to_owned())));
    let requests = asked.into_iter().map(|message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    });
    let answers = reflection.server_reflection_info(tokio_stream::iter(requests)).await.expect("reflection");
    let answers: Vec<_> = answers.into_inner().collect().await;
    let mut answers = answers.into_iter().map(|answer| answer.expect("no error").message_response);
    let Some(Some(MessageResponse::ListServicesResponse(list))) = answers.next() else { panic!("a list") };
    let listed: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for service in SERVICES {
        assert!(listed.contains(&service.to_owned()), "{service} in {listed:?}");
        assert!(
            matches!(answers.next(), Some(Some(MessageResponse::FileDescriptorResponse(_)))),
            "{service}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_by_name_and_its_watchers_do_not_hold_up_the_end() {
    let mut server = one().await;
    let mut health = HealthClient::new(server.channel());
    for service in SERVICES.into_iter().chain([""]) {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.expect(service).into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let mut watched = health.watch(HealthCheckRequest::default()).await.expect("a watch").into_inner();
    assert_eq!(watched.message().await.expect("no error").expect("now").status(), ServingStatus::Serving);
    let mut jobs = server.jobs().watch(v1::WatchJobsRequest::default()).await.expect("a watch").into_inner();

    let begun = Instant::now();
    let stopping = tokio::spawn(async move {
        server.stop().await;
        begun.elapsed()
    });
    let told = watched.message().await.expect("no error").expect("before the end");
    assert_eq!(told.status(), ServingStatus::NotServing);
    let end = loop {
        match jobs.message().await {
            Ok(event) => assert!(event.is_some(), "an end without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(ErrorReason::of(&end), Some(ErrorReason::ShuttingDown));
    let took = stopping.await.expect("stopped");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

fn member(name: &str) -> Option<v1::MemberReference> {
    Some(v1::MemberReference { member: Some(v1::member_reference::Member::Name(name.to_owned())) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_through_any_server() {
    let servers = start(3, Options::default()).await;
    let (asked, target) = (follower_of(&servers), follower_of(&servers));
    let name = servers[target].name.clone();
    let answer = eventually("leadership is handed over", || async {
        let request = v1::TransferLeadershipRequest { target: member(&name) };
        servers[asked].cluster().transfer_leadership(request).await.ok()
    })
    .await;
    assert_eq!(answer.into_inner().leader, name);
    eventually("it leads", || async { servers[target].running().is_leader().then_some(()) }).await;
    servers[asked].jobs().create(create(suspended_job("a"))).await.expect("and takes writes");
    let unknown = v1::TransferLeadershipRequest { target: member("s9") };
    let refused = servers[asked].cluster().transfer_leadership(unknown).await.expect_err("no such member");
    assert_eq!(ErrorReason::of(&refused), Some(ErrorReason::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_added_and_removed_and_a_leader_that_is_removed_leads_no_more_before() {
    let servers = start(3, Options::default()).await;
    let leader = leader_of(&servers);
    let name = servers[leader].name.clone();
    let asked = &servers[follower_of(&servers)];
    let add = |name: &str| v1::AddMemberRequest {
        name: name.to_owned(),
        peer_address: "127.0.0.1:1".to_owned(),
        address: String::new(),
    };
    let taken = asked.cluster().add_member(add(&name)).await.expect_err("taken");
    assert_eq!(ErrorReason::of(&taken), Some(ErrorReason::AlreadyExists));
    let added = asked.cluster().add_member(add("s4")).await.expect("a place").into_inner();
    let added = added.member.expect("a member");
    assert!(added.id > 3 && added.role() == v1::MemberRole::Learner, "{added:?}");
    asked.cluster().remove_member(v1::RemoveMemberRequest { member: member("s4") }).await.expect("removed");

    let first = asked.cluster().remove_member(v1::RemoveMemberRequest { member: member(&name) }).await;
    let first = first.expect_err("it hands leadership over first");
    assert_eq!(first.code(), tonic::Code::Unavailable, "{first:?}");
    let left = eventually("the new leader removes it", || async {
        asked.cluster().remove_member(v1::RemoveMemberRequest { member: member(&name) }).await.ok()
    })
    .await;
    let left: Vec<String> = left.into_inner().members.into_iter().map(|member| member.name).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.contains(&name));
}
