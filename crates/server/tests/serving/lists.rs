//! Lists: all pages of one list as of one revision.

use stint_proto::{ErrorReason, v1};

use crate::cluster::{TestServer, create, name_of, one, suspended_job};

async fn page(server: &TestServer, request: v1::ListJobsRequest) -> v1::ListJobsResponse {
    server.jobs().list(request).await.expect("a page").into_inner()
}

fn limited(limit: u32, continue_token: &str) -> v1::ListJobsRequest {
    v1::ListJobsRequest { limit, continue_token: continue_token.to_owned(), ..v1::ListJobsRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_of_one_revision_whatever_happens_meanwhile() {
    let server = one().await;
    for number in 10..35 {
        server.jobs().create(create(suspended_job(&format!("j{number}")))).await.expect("created");
    }
    let first = page(&server, limited(10, "")).await;
    let metadata = first.metadata.clone().expect("metadata");
    for name in ["j12", "j22"] {
        let delete = v1::DeleteJobRequest { name: name.to_owned(), ..v1::DeleteJobRequest::default() };
        server.jobs().delete(delete).await.expect("deleted");
    }
    server.jobs().create(create(suspended_job("j21a"))).await.expect("created");
    let mut names: Vec<String> = first.items.iter().map(|job| name_of(&job.metadata).to_owned()).collect();
    let mut token = metadata.continue_token;
    while !token.is_empty() {
        let next = page(&server, limited(10, &token)).await;
        let next_metadata = next.metadata.expect("metadata");
        assert_eq!(next_metadata.resource_version, metadata.resource_version);
        names.extend(next.items.iter().map(|job| name_of(&job.metadata).to_owned()));
        token = next_metadata.continue_token;
    }
    let expected: Vec<String> = (10..35).map(|number| format!("j{number}")).collect();
    assert_eq!(names, expected);
    let now = page(&server, limited(0, "")).await.items.len();
    assert_eq!(now, 24);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_and_selectors_limit_lists() {
    let server = one().await;
    for (namespace, name, tier) in
        [("default", "a", "x"), ("default", "b", "y"), ("other", "a", "x"), ("other1", "c", "x")]
    {
        let mut job = suspended_job(name);
        let metadata = job.metadata.as_mut().expect("metadata");
        metadata.namespace = namespace.to_owned();
        metadata.labels.insert("tier".to_owned(), tier.to_owned());
        server.jobs().create(create(job)).await.expect("created");
    }
    let names = async |request: v1::ListJobsRequest| -> Vec<String> {
        page(&server, request).await.items.iter().map(|job| name_of(&job.metadata).to_owned()).collect()
    };
    let all = v1::ListJobsRequest::default;
    assert_eq!(names(all()).await, ["a", "b"]);
    assert_eq!(names(v1::ListJobsRequest { namespace: "other".to_owned(), ..all() }).await, ["a"]);
    assert_eq!(names(v1::ListJobsRequest { all_namespaces: true, ..all() }).await, ["a", "b", "a", "c"]);
    let selected =
        v1::ListJobsRequest { all_namespaces: true, label_selector: "tier in (x)".to_owned(), ..all() };
    assert_eq!(names(selected).await, ["a", "a", "c"]);
    assert!(names(v1::ListJobsRequest { namespace: "none".to_owned(), ..all() }).await.is_empty());
    let stale = v1::ListJobsRequest { stale: true, ..all() };
    assert_eq!(names(stale).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_for_its_list_only() {
    let server = one().await;
    for number in 0..5 {
        server.jobs().create(create(suspended_job(&format!("j{number}")))).await.expect("created");
    }
    let token = page(&server, limited(2, "")).await.metadata.expect("metadata").continue_token;
    // Of another kind of object.
    let nodes = v1::ListNodesRequest { continue_token: token.clone(), ..v1::ListNodesRequest::default() };
    let mut refusals = vec![server.nodes().list(nodes).await.expect_err("other objects")];
    // With another filter.
    for other in [
        v1::ListJobsRequest { namespace: "other".to_owned(), ..limited(2, &token) },
        v1::ListJobsRequest { all_namespaces: true, ..limited(2, &token) },
        v1::ListJobsRequest { label_selector: "tier=x".to_owned(), ..limited(2, &token) },
    ] {
        refusals.push(server.jobs().list(other).await.expect_err("another filter"));
    }
    for status in refusals {
        assert_eq!(ErrorReason::of(&status), Some(ErrorReason::BadRequest), "{status:?}");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains("must be as they were"), "{status:?}");
    }
    // The namespace may be said as it is meant, and pages may have other lengths.
    let same = v1::ListJobsRequest { namespace: "default".to_owned(), stale: true, ..limited(1, &token) };
    assert_eq!(page(&server, same).await.items.len(), 1);
    // Altered.
    let (_, key) = token.strip_prefix("1/").expect("a version").split_once('/').expect("a key");
    let forged = format!("1/1/{key}");
    let status = server.jobs().list(limited(2, &forged)).await.expect_err("forged");
    assert_eq!(ErrorReason::of(&status), Some(ErrorReason::Expired));
    // Read to its end, it is over.
    let mut last = token.clone();
    loop {
        let next = page(&server, limited(2, &last)).await.metadata.expect("metadata").continue_token;
        if next.is_empty() {
            break;
        }
        last = next;
    }
    let status = server.jobs().list(limited(2, &last)).await.expect_err("over");
    assert_eq!(ErrorReason::of(&status), Some(ErrorReason::Expired));
}
