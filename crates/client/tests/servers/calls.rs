//! Calls: the retry table, leader hints, lists.

use std::sync::Mutex;
use std::time::Duration;

use stint_api::Job;
use stint_client::{Error, Scope, v1};
use stint_proto::status::{ErrorReason, LEADER_ADDRESS, StatusDetails};

use crate::fake::{Fake, SHORT, SOON, broken, client, created, job, refusal};

#[tokio::test]
async fn decision_10_a_create_of_unknown_outcome_is_repeated_elsewhere_with_its_request_id() {
    let (first, first_asked) =
        Fake { creates: Mutex::new([Err(broken())].into()), ..Fake::default() }.start().await;
    let (second, second_asked) =
        Fake { creates: Mutex::new([Ok(created("x"))].into()), ..Fake::default() }.start().await;
    let client = client(&[&first, &second], SOON);
    let answer = client.create_job(&Job::default()).await.unwrap();
    assert_eq!((answer.outcome, answer.revision), (v1::CreateOutcome::AlreadyExisted, 7));
    assert_eq!(first_asked.asked(), second_asked.asked(), "one id for all attempts");
    assert_eq!(first_asked.asked()[0].len(), 32);
    client.create_job(&Job::default()).await.unwrap();
    assert_ne!(second_asked.asked()[0], second_asked.asked()[1], "another request has another id");
}

#[tokio::test]
async fn decision_10_a_write_that_may_have_been_carried_out_is_never_called_unreachable() {
    for status in [broken(), refusal(ErrorReason::OutcomeUnknown)] {
        let fake = Fake {
            creates: Mutex::new([Err(status.clone())].into()),
            updates: Mutex::new([Err(status.clone())].into()),
            gets: Mutex::new([Err(status)].into()),
            ..Fake::default()
        };
        let (address, fake) = fake.start().await;
        let client = client(&[&address], SHORT);
        let error = client.create_job(&Job::default()).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
        let attempts = fake.asked().len();
        assert!(attempts > 1, "a create is repeated");
        let error = client.update_job(&Job::default()).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
        assert_eq!(fake.asked().len(), attempts + 1, "an update is not");
        let error = client.get_job("default", "x").await.unwrap_err();
        assert!(error.is_outage(), "a read changes nothing: {error:?}");
    }
}

#[tokio::test]
async fn what_was_certainly_not_carried_out_is_repeated() {
    let answer = v1::UpdateJobResponse { job: Some(job("x")), revision: 3, ..Default::default() };
    let refusals = [ErrorReason::NoLeader, ErrorReason::TooManyRequests, ErrorReason::ShuttingDown];
    let script = refusals.into_iter().map(|reason| Err(refusal(reason))).chain([Ok(answer)]);
    let (address, fake) = Fake { updates: Mutex::new(script.collect()), ..Fake::default() }.start().await;
    assert_eq!(client(&[&address], SOON).update_job(&Job::default()).await.unwrap().revision, 3);
    assert_eq!(fake.asked().len(), 4);
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_told_from_one_that_is_unreachable() {
    let gets = Mutex::new([Err(refusal(ErrorReason::NoLeader))].into());
    let (address, _) = Fake { gets, ..Fake::default() }.start().await;
    // Long enough for an answer to the last attempt, on a machine that has much else to do.
    let error = client(&[&address], Duration::from_secs(4)).get_job("default", "x").await.unwrap_err();
    assert_eq!(error.to_string(), "given up after 4s: says the script");
    assert!(error.is_outage());
}

#[tokio::test]
async fn a_deletion_that_was_carried_out_unnoticed_is_success() {
    let script = [Err(broken()), Err(refusal(ErrorReason::NotFound))].into();
    let (address, fake) = Fake { deletes: Mutex::new(script), ..Fake::default() }.start().await;
    let client = client(&[&address], SOON);
    let uid = "00000000-0000-4000-8000-000000000001";
    let deleted = client.delete_job("default", "x", uid.parse().unwrap(), v1::PropagationPolicy::Background);
    assert_eq!(deleted.await.unwrap(), None);
    assert_eq!(fake.asked(), [uid, uid], "by uid: another Job of that name is not meant");
}

#[tokio::test]
async fn the_leader_that_a_server_names_is_asked() {
    let (leader, leader_asked) =
        Fake { gets: Mutex::new([Ok(job("x"))].into()), ..Fake::default() }.start().await;
    let hint = StatusDetails::new(ErrorReason::NotLeader, "another server leads")
        .with_retry_after(Duration::from_secs(9))
        .with_metadata(LEADER_ADDRESS, &leader);
    let gets = Mutex::new([Err(hint.into_status())].into());
    let (follower, follower_asked) = Fake { gets, ..Fake::default() }.start().await;
    // Also one that is not among the addresses that were given.
    client(&[&follower], SOON).get_job("default", "x").await.unwrap();
    assert_eq!((follower_asked.asked().len(), leader_asked.asked().len()), (1, 1));
    let client = client(&[&follower, &leader], SOON);
    client.get_job("default", "x").await.unwrap();
    client.get_job("default", "x").await.unwrap();
    assert_eq!((follower_asked.asked().len(), leader_asked.asked().len()), (2, 3), "remembered");
}

#[tokio::test]
async fn a_hint_that_leads_nowhere_does_not_stop_the_search() {
    let hint = StatusDetails::new(ErrorReason::NotLeader, "another server leads")
        .with_retry_after(Duration::from_millis(10))
        .with_metadata(LEADER_ADDRESS, "127.0.0.1:1");
    let gets = Mutex::new([Err(hint.into_status()), Ok(job("x"))].into());
    let (address, _) = Fake { gets, ..Fake::default() }.start().await;
    client(&[&address], SOON).get_job("default", "x").await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_leader_is_not_the_last_word_on_the_cluster() {
    let status = |leader: Option<&str>| {
        Ok(v1::ClusterStatus { leader: leader.map(str::to_owned), term: 4, ..Default::default() })
    };
    let cut_off = Fake { statuses: Mutex::new([status(None)].into()), ..Fake::default() }.start().await.0;
    let (other, _) =
        Fake { statuses: Mutex::new([status(Some("s2"))].into()), ..Fake::default() }.start().await;
    for addresses in [[&*cut_off, &other], [&other, &cut_off]] {
        let status = client(&addresses, SOON).cluster_status().await.unwrap();
        assert_eq!(status.leader.as_deref(), Some("s2"));
    }
    let status = client(&[&cut_off, "127.0.0.1:1"], SHORT).cluster_status().await.unwrap();
    assert_eq!((status.leader, status.term), (None, 4), "what is known is told");
}

#[tokio::test]
async fn a_list_whose_pages_expire_is_begun_anew_and_not_for_ever() {
    let page = |name: &str, token: &str| {
        let metadata =
            v1::ListMeta { resource_version: 9, continue_token: token.to_owned(), ..Default::default() };
        Ok(v1::ListJobsResponse { metadata: Some(metadata), items: vec![job(name)] })
    };
    let expired = || Err(refusal(ErrorReason::Expired));
    let lists = [page("old", "t1"), expired(), page("a", "t2"), page("b", "")];
    let (address, fake) = Fake { lists: Mutex::new(lists.into()), ..Fake::default() }.start().await;
    let listed = client(&[&address], SOON).list_jobs(&Scope::default()).await.unwrap();
    assert_eq!(listed.revision, 9);
    let names: Vec<String> = listed.into_iter().map(|job| job.metadata.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(fake.asked(), ["list ", "list t1", "list ", "list t2"]);

    let lists = Mutex::new([expired()].into());
    let (address, fake) = Fake { lists, ..Fake::default() }.start().await;
    let error = client(&[&address], SOON).list_jobs(&Scope::default()).await.unwrap_err();
    assert!(error.is_expired() && fake.asked().len() == 4, "{error:?}");
}

#[tokio::test]
async fn a_list_whose_pages_lead_nowhere_ends() {
    let metadata = v1::ListMeta { continue_token: "t".to_owned(), ..Default::default() };
    let page = v1::ListJobsResponse { metadata: Some(metadata), items: Vec::new() };
    let (address, fake) = Fake { lists: Mutex::new([Ok(page)].into()), ..Fake::default() }.start().await;
    let error = client(&[&address], SOON).list_jobs(&Scope::default()).await.unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error:?}");
    assert_eq!(fake.asked(), ["list ", "list t"]);
}

#[tokio::test]
async fn a_reason_of_a_later_server_is_a_refusal_with_its_word() {
    use tonic_types::StatusExt as _;
    let mut details = tonic_types::ErrorDetails::new();
    details.set_error_info("NewReason", stint_proto::status::ERROR_DOMAIN, std::collections::HashMap::new());
    let status = tonic::Status::with_error_details(tonic::Code::FailedPrecondition, "not now", details);
    let (address, fake) = Fake { gets: Mutex::new([Err(status)].into()), ..Fake::default() }.start().await;
    let error = client(&[&address], SOON).get_job("default", "x").await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused { reason: None, word: Some(word), .. } if word == "NewReason"),
        "{error:?}"
    );
    assert_eq!(
        (error.code(), error.to_string()),
        (Some(tonic::Code::FailedPrecondition), "not now".to_owned())
    );
    assert_eq!(fake.asked().len(), 1);
}
