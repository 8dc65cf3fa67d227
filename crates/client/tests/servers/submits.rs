//! Submits and the ends of Jobs.

use std::sync::Mutex;

use stint_api::{ConditionStatus, Job, JobCondition, JobConditionType, Timestamp};
use stint_client::{Error, JobBuilder, v1};
use stint_proto::status::ErrorReason;
use tonic::Status;

use crate::fake::{Fake, SHORT, SOON, broken, client, created, refusal};

const UID: &str = "00000000-0000-4000-8000-000000000001";

/// A Job of this uid for which a condition holds.
fn stored(name: &str, uid: &str, ended: Option<JobConditionType>) -> v1::Job {
    let mut job = Job::default();
    job.metadata.namespace = "default".to_owned();
    job.metadata.name = name.to_owned();
    job.metadata.uid = uid.to_owned();
    if let Some(condition_type) = ended {
        job.status.conditions.push(JobCondition {
            condition_type,
            status: ConditionStatus::True,
            last_probe_time: Timestamp(0),
            last_transition_time: Timestamp(0),
            reason: "BackoffLimitExceeded".to_owned(),
            message: "it failed too often".to_owned(),
        });
    }
    job.into()
}

fn answer(name: &str) -> Result<v1::CreateJobResponse, Status> {
    let outcome = v1::CreateOutcome::Created.into();
    let job = Some(stored(name, UID, None));
    Ok(v1::CreateJobResponse { job, outcome, revision: 7, ..Default::default() })
}

fn change(kind: v1::WatchEventType, job: v1::Job, revision: u64) -> Result<v1::JobWatchEvent, Status> {
    Ok(v1::JobWatchEvent { r#type: kind.into(), job: Some(job), revision })
}

fn bookmark(revision: u64) -> Result<v1::JobWatchEvent, Status> {
    Ok(v1::JobWatchEvent { r#type: v1::WatchEventType::Bookmark.into(), job: None, revision })
}

#[tokio::test]
async fn a_generated_name_that_is_taken_is_not_the_caller_s_business() {
    let taken = || Err(refusal(ErrorReason::AlreadyExists));
    let creates = Mutex::new([taken(), taken(), answer("x-1")].into());
    let (address, fake) = Fake { creates, ..Fake::default() }.start().await;
    let handle = client(&[&address], SOON).run(JobBuilder::new(["x"])).await.unwrap();
    assert_eq!((handle.name(), handle.outcome()), ("x-1", Some(v1::CreateOutcome::Created)));
    let ids = fake.asked();
    assert_eq!(
        ids.iter().collect::<std::collections::BTreeSet<_>>().len(),
        3,
        "other ids, other names: {ids:?}"
    );
    assert_eq!(handle.request_id(), Some(&*ids[2]));

    // Not for ever; not if the caller chose the name, or the id that the name derives from.
    let (address, fake) = Fake { creates: Mutex::new([taken()].into()), ..Fake::default() }.start().await;
    let client = client(&[&address], SOON);
    let error = client.run(JobBuilder::new(["x"])).await.unwrap_err();
    assert!(error.is_already_exists() && fake.asked().len() == 8, "{error:?}");
    let error = client.run(JobBuilder::new(["x"]).name("mine")).await.unwrap_err();
    assert!(error.is_already_exists() && fake.asked().len() == 9, "{error:?}");
    let job = JobBuilder::new(["x"]).build().unwrap();
    assert!(client.submit_again(&job, "id").await.unwrap_err().is_already_exists());
    assert_eq!((fake.asked().len(), fake.asked().pop().as_deref()), (10, Some("id")));
}

#[tokio::test]
async fn an_unknown_outcome_tells_the_id_to_ask_again_with() {
    let creates = Mutex::new([Err(broken())].into());
    let (address, fake) = Fake { creates, ..Fake::default() }.start().await;
    let client = client(&[&address], SHORT);
    let job = JobBuilder::new(["x"]).build().unwrap();
    let error = client.submit(&job).await.unwrap_err();
    let Error::OutcomeUnknown { request_id: Some(id), .. } = error else { panic!("{error:?}") };
    assert!(fake.asked().iter().all(|asked| *asked == id), "one id for all attempts");
    fake.creates.lock().unwrap().clear();
    fake.creates.lock().unwrap().push_back(Ok(created("x")));
    // What the fake answers has no uid: what is missing is said.
    assert!(matches!(client.submit_again(&job, &id).await.unwrap_err(), Error::Answer { .. }));
    *fake.creates.lock().unwrap() = [answer("x")].into();
    assert_eq!(client.submit_again(&job, &id).await.unwrap().request_id(), Some(&*id));
    for nonsense in ["", &"x".repeat(129)] {
        let error = client.submit_again(&job, nonsense).await.unwrap_err();
        assert!(matches!(error, Error::Option { option: "request id", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_end_of_a_job_is_waited_for_from_its_creation_across_broken_streams() {
    use v1::WatchEventType::{Added, Modified};
    let other = "00000000-0000-4000-8000-000000000002";
    let watches = [
        vec![
            change(Added, stored("x", UID, None), 8),
            // An earlier Job of that name is not meant.
            change(Modified, stored("x", other, Some(JobConditionType::Complete)), 9),
            Err(refusal(ErrorReason::ShuttingDown)),
        ],
        vec![change(Modified, stored("x", UID, Some(JobConditionType::Complete)), 11)],
    ];
    let creates = Mutex::new([answer("x")].into());
    let fake = Fake { creates, watches: Mutex::new(watches.into()), ..Fake::default() };
    let (address, fake) = fake.start().await;
    let job = JobBuilder::new(["x"]).name("x").build().unwrap();
    let ended = client(&[&address], SOON).submit_and_wait(&job).await.unwrap();
    assert_eq!(ended.metadata.uid, UID);
    assert_eq!(fake.asked()[1..], ["watch 7", "watch 9"]);
}

#[tokio::test]
async fn a_job_that_failed_or_was_deleted_is_an_error_that_says_so() {
    use v1::WatchEventType::{Deleted, Modified};
    let failed = || change(Modified, stored("x", UID, Some(JobConditionType::Failed)), 9);
    let gone = || change(Deleted, stored("x", UID, None), 9);
    // Nothing of it is left when changes were missed.
    let missed = || vec![vec![Err(refusal(ErrorReason::Expired))], vec![bookmark(20)]];
    for (watches, expected) in [
        (vec![vec![failed()]], "job default/x failed: BackoffLimitExceeded: it failed too often"),
        (vec![vec![gone()]], "job default/x was deleted before it had finished"),
        (missed(), "job default/x was deleted before it had finished"),
    ] {
        let creates = Mutex::new([answer("x")].into());
        let fake = Fake { creates, watches: Mutex::new(watches.into()), ..Fake::default() };
        let handle =
            client(&[&fake.start().await.0], SOON).run(JobBuilder::new(["x"]).name("x")).await.unwrap();
        assert_eq!(handle.wait().await.unwrap_err().to_string(), expected);
    }
}

#[tokio::test]
async fn a_job_that_ended_while_changes_were_missed_has_ended() {
    use v1::WatchEventType::Added;
    let watches = [
        vec![Err(refusal(ErrorReason::Expired))],
        vec![change(Added, stored("x", UID, Some(JobConditionType::Complete)), 20), bookmark(20)],
    ];
    let creates = Mutex::new([answer("x")].into());
    let fake = Fake { creates, watches: Mutex::new(watches.into()), ..Fake::default() };
    let handle = client(&[&fake.start().await.0], SOON).run(JobBuilder::new(["x"])).await.unwrap();
    handle.wait().await.unwrap();
}

#[tokio::test]
async fn a_job_that_is_gone_already_is_not_waited_for() {
    let outcome = v1::CreateOutcome::AlreadyDeleted.into();
    let job = Some(stored("x", UID, None));
    let creates = Mutex::new([Ok(v1::CreateJobResponse { job, outcome, ..Default::default() })].into());
    let handle = client(&[&Fake { creates, ..Fake::default() }.start().await.0], SOON)
        .run(JobBuilder::new(["x"]))
        .await
        .unwrap();
    assert!(matches!(handle.wait().await.unwrap_err(), Error::JobDeleted { .. }));
}

#[tokio::test]
async fn waiting_ends_in_time_and_many_ends_are_waited_for_by_one_watch() {
    use v1::WatchEventType::Modified;
    let uids = [UID, "00000000-0000-4000-8000-000000000002"];
    let creates = uids.map(|uid| {
        let (job, outcome) = (Some(stored("x", uid, None)), v1::CreateOutcome::Created.into());
        Ok(v1::CreateJobResponse { job, outcome, revision: 7, ..Default::default() })
    });
    let complete = Some(JobConditionType::Complete);
    // The first watch is silent; then both end, the later first.
    let watches = [
        Vec::new(),
        vec![
            change(Modified, stored("x", uids[1], complete), 8),
            change(Modified, stored("x", uids[0], complete), 9),
        ],
    ];
    let fake =
        Fake { creates: Mutex::new(creates.into()), watches: Mutex::new(watches.into()), ..Fake::default() };
    let (address, fake) = fake.start().await;
    let client = client(&[&address], SOON);
    let mut handles = Vec::new();
    for _ in uids {
        handles.push(client.run(JobBuilder::new(["x"])).await.unwrap());
    }
    let jobs = client.wait_all(&handles).await.unwrap();
    assert_eq!(jobs.iter().map(|job| &*job.metadata.uid).collect::<Vec<_>>(), uids);
    let n_asked = fake.asked().len();
    let error = handles[0].wait_at_most(SHORT).await.unwrap_err();
    assert_eq!(error.to_string(), "the job has not ended within 400ms");
    assert!(fake.asked().len() > n_asked);
}
