//! R11: watches are ordered, without gaps or repetitions, from any revision that is kept.

use std::collections::BTreeSet;

use stint_proto::v1::WatchEventType;
use stint_proto::{ErrorReason, v1};
use tonic::Streaming;

use crate::cluster::{TestServer, create, name_of, one, restart, suspended_job};

fn from(from_revision: u64) -> v1::WatchJobsRequest {
    v1::WatchJobsRequest { from_revision, ..v1::WatchJobsRequest::default() }
}

async fn next(stream: &mut Streaming<v1::JobWatchEvent>) -> v1::JobWatchEvent {
    let next = tokio::time::timeout(crate::cluster::PATIENCE, stream.message());
    next.await.expect("in time").expect("no error").expect("goes on")
}

/// Changes until a Job of this name is deleted: type, name and revision.
async fn until_deleted(
    stream: &mut Streaming<v1::JobWatchEvent>,
    last: &str,
) -> Vec<(WatchEventType, String, u64)> {
    let mut seen = Vec::new();
    loop {
        let event = next(stream).await;
        let Some(job) = &event.job else { continue };
        let name = name_of(&job.metadata).to_owned();
        let ends = event.r#type() == WatchEventType::Deleted && name == last;
        seen.push((event.r#type(), name, event.revision));
        if ends {
            return seen;
        }
    }
}

async fn label(server: &TestServer, name: &str, labels: &[(&str, &str)]) {
    let mut job = suspended_job(name);
    job.metadata.as_mut().expect("metadata").labels =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    server.jobs().update(v1::UpdateJobRequest { job: Some(job) }).await.expect("updated");
}

async fn delete(server: &TestServer, name: &str) {
    let request = v1::DeleteJobRequest { name: name.to_owned(), ..v1::DeleteJobRequest::default() };
    server.jobs().delete(request).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_resumed_anywhere_sees_the_rest_and_nothing_twice() {
    let server = one().await;
    let begin =
        server.jobs().create(create(suspended_job("first"))).await.expect("created").into_inner().revision;
    let mut whole = server.jobs().watch(from(begin)).await.expect("a watch").into_inner();
    for number in 0..20 {
        server.jobs().create(create(suspended_job(&format!("j{number}")))).await.expect("created");
    }
    for number in (0..20).step_by(2) {
        delete(&server, &format!("j{number}")).await;
    }
    delete(&server, "first").await;
    let all = until_deleted(&mut whole, "first").await;
    assert!(all.windows(2).all(|pair| pair[0].2 < pair[1].2), "in order: {all:?}");
    let added = all.iter().filter(|(kind, ..)| *kind == WatchEventType::Added).count();
    let deleted = all.iter().filter(|(kind, ..)| *kind == WatchEventType::Deleted).count();
    assert_eq!((added, deleted), (20, 11));
    for position in [0, 7, all.len() - 2] {
        let mut resumed = server.jobs().watch(from(all[position].2)).await.expect("a watch").into_inner();
        assert_eq!(until_deleted(&mut resumed, "first").await, all[position + 1..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_zero_begins_with_what_there_is() {
    let server = one().await;
    for number in 0..30 {
        server.jobs().create(create(suspended_job(&format!("j{number}")))).await.expect("created");
    }
    let mut stream = server.jobs().watch(from(0)).await.expect("a watch").into_inner();
    let mut names = BTreeSet::new();
    let bookmark = loop {
        let event = next(&mut stream).await;
        match event.r#type() {
            WatchEventType::Added => {
                assert!(names.insert(name_of(&event.job.expect("a Job").metadata).to_owned()))
            }
            WatchEventType::Bookmark => break event.revision,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(names.len(), 30);
    server.jobs().create(create(suspended_job("later"))).await.expect("created");
    let event = next(&mut stream).await;
    assert_eq!(name_of(&event.job.as_ref().expect("a Job").metadata), "later");
    assert!(event.revision > bookmark);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_see_objects_come_and_go() {
    let server = one().await;
    let begin =
        server.jobs().create(create(suspended_job("a"))).await.expect("created").into_inner().revision;
    let request = v1::WatchJobsRequest { label_selector: "app=web".to_owned(), ..from(begin) };
    let mut stream = server.jobs().watch(request).await.expect("a watch").into_inner();
    server.jobs().create(create(suspended_job("other"))).await.expect("created");
    label(&server, "a", &[("app", "web")]).await;
    label(&server, "a", &[("app", "web"), ("more", "yes")]).await;
    label(&server, "a", &[]).await;
    label(&server, "a", &[("app", "web")]).await;
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        let event = next(&mut stream).await;
        if let Some(job) = &event.job {
            assert_eq!(name_of(&job.metadata), "a");
            kinds.push(event.r#type());
        }
    }
    use WatchEventType::{Added, Deleted, Modified};
    assert_eq!(kinds, [Added, Modified, Deleted, Added]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_from_before_a_restart_goes_on_without_a_gap_or_is_expired() {
    let mut server = one().await;
    let old = server.jobs().create(create(suspended_job("a"))).await.expect("created").into_inner().revision;
    let last = server.jobs().create(create(suspended_job("b"))).await.expect("created").into_inner().revision;
    server.stop().await;
    let server = restart(server).await;
    server.jobs().create(create(suspended_job("c"))).await.expect("created");
    // How much is kept depends on how much of the log had to be applied again.
    for cursor in [old, last] {
        let first = match server.jobs().watch(from(cursor)).await {
            Ok(stream) => stream.into_inner().message().await,
            Err(status) => Err(status),
        };
        let expected = if cursor == old { "b" } else { "c" };
        match first {
            Ok(event) => {
                let job = event.expect("goes on").job.expect("a Job");
                assert_eq!(name_of(&job.metadata), expected);
            }
            Err(status) => assert_eq!(ErrorReason::of(&status), Some(ErrorReason::Expired), "{status:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_sees_nothing_gets_bookmarks_and_one_of_the_future_waits() {
    let server = one().await;
    let begin =
        server.jobs().create(create(suspended_job("first"))).await.expect("created").into_inner().revision;
    let request = v1::WatchJobsRequest { name: "nobody".to_owned(), ..from(begin) };
    let mut idle = server.jobs().watch(request).await.expect("a watch").into_inner();
    // A revision that comes a moment later.
    let mut jobs = server.jobs();
    let early = tokio::spawn(async move { jobs.watch(from(begin + 1)).await });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let created = server.jobs().create(create(suspended_job("a"))).await.expect("created").into_inner();
    early.await.expect("ended").expect("it has come");
    let bookmark = next(&mut idle).await;
    assert_eq!((bookmark.r#type(), bookmark.job.is_none()), (WatchEventType::Bookmark, true));
    assert!(bookmark.revision >= created.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_never_comes_is_waited_for_and_refused() {
    let server = one().await;
    let status = server.jobs().watch(from(1 << 50)).await.expect_err("never");
    assert_eq!(ErrorReason::of(&status), Some(ErrorReason::Timeout));
}
