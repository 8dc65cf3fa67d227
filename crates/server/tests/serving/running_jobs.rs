//! From a request to a finished Job, with a scripted agent in between; idempotency; logs.

use stint_proto::v1::server_message::Message as Hear;
use stint_proto::{ErrorReason, v1};
use tonic::Code;

use crate::agent::{ScriptedAgent, exited, register, running};
use crate::cluster::{create, eventually, job, name_of, one, suspended_job};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_to_its_end_and_everybody_sees_it() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    assert_eq!(agent.registered.node_lease_ms, 5_000);
    assert_eq!(agent.registered.server_addresses, std::slice::from_ref(&server.address));
    assert!(agent.desired(&[], &[]).await.pods.is_empty());

    let created = server.jobs().create(create(job("pi"))).await.expect("created").into_inner();
    assert_eq!(created.outcome(), v1::CreateOutcome::Created);
    let watch = v1::WatchPodsRequest { from_revision: created.revision, ..v1::WatchPodsRequest::default() };
    let mut changes = server.pods().watch(watch).await.expect("a watch").into_inner();

    // A9: the order comes by itself, and says all that is needed.
    let pod = agent.ordered_pod().await;
    let container = &pod.spec.as_ref().expect("what to run").containers[0];
    assert_eq!(container.command, ["true"]);
    let variables: Vec<&str> = container.env.iter().map(|variable| variable.name.as_str()).collect();
    assert!(variables.contains(&"STINT_FENCING_TOKEN"), "{variables:?}");
    // A8: the desired set says the same, without what to run if the agent has it.
    let set = agent.desired(&[], &[]).await;
    assert_eq!(set.pods.len(), 1);
    let content = |set: &v1::DesiredSet| match &set.pods[0].action {
        Some(v1::desired_pod::Action::Run(run)) => (run.pod.is_some(), run.containers[0].name.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(content(&set), (true, "main".to_owned()));
    let set = agent.desired(std::slice::from_ref(&pod.uid), &[]).await;
    assert_eq!(content(&set), (false, "main".to_owned()));

    // A10.
    assert_eq!(agent.report(1, &pod.uid, running()).await.counted, [1]);
    assert_eq!(agent.report(2, &pod.uid, exited(0)).await.counted, [2]);
    assert_eq!(agent.report(3, &pod.uid, exited(0)).await.ignored, [3], "a doubled report");
    assert_eq!(agent.report(4, &vec![9; 16].into(), running()).await.ignored, [4], "an unknown Pod");

    let finished = eventually("the Job is complete", || async {
        let request = v1::GetJobRequest { name: "pi".to_owned(), ..v1::GetJobRequest::default() };
        let job = server.jobs().get(request).await.expect("there").into_inner();
        let status = job.status.clone().expect("a status");
        status.conditions.iter().any(|condition| condition.r#type == "Complete").then_some(status)
    });
    assert_eq!(finished.await.succeeded, 1);
    let mut phases = Vec::new();
    let mut last_revision = created.revision;
    while phases.last() != Some(&v1::PodPhase::Succeeded) {
        let event = changes.message().await.expect("no error").expect("goes on");
        assert!(event.revision > last_revision, "R11: in order, each once");
        last_revision = event.revision;
        if let Some(pod) = event.pod {
            phases.push(pod.status.expect("a status").phase());
        }
    }
    assert!(phases.contains(&v1::PodPhase::Running), "{phases:?}");
    let events = v1::ListEventsRequest { all_namespaces: true, ..v1::ListEventsRequest::default() };
    let events = server.events().list(events).await.expect("events").into_inner().items;
    assert!(events.iter().any(|event| event.reason == "Completed"), "{events:?}");

    // Deleting the Job takes its Pods, and tells the agent that their logs may go (A8).
    assert!(agent.desired(&[], std::slice::from_ref(&pod.uid)).await.gone_pods.is_empty());
    let delete = v1::DeleteJobRequest { name: "pi".to_owned(), ..v1::DeleteJobRequest::default() };
    let deleted = server.jobs().delete(delete).await.expect("deleted").into_inner();
    assert_eq!(deleted.uid, created.job.expect("a Job").metadata.expect("metadata").uid);
    for _ in 0..500 {
        if !agent.desired(&[], std::slice::from_ref(&pod.uid)).await.gone_pods.is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the Pod is never called gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_create_is_the_same_job() {
    let server = one().await;
    let mut jobs = server.jobs();
    let request = |name: &str, id: &str| v1::CreateJobRequest {
        job: Some(suspended_job(name)),
        request_id: id.to_owned(),
    };
    let first = jobs.create(request("a", "r1")).await.expect("created").into_inner();
    let again = jobs.create(request("a", "r1")).await.expect("again").into_inner();
    assert_eq!(again.outcome(), v1::CreateOutcome::AlreadyExisted);
    let uid = |response: &v1::CreateJobResponse| {
        response.job.clone().expect("a Job").metadata.expect("metadata").uid
    };
    assert_eq!(uid(&first), uid(&again));
    let other = jobs.create(request("a", "r2")).await.expect_err("taken");
    assert_eq!(ErrorReason::of(&other), Some(ErrorReason::AlreadyExists));
    assert_eq!(jobs.create(create(suspended_job("a"))).await.expect_err("taken").code(), Code::AlreadyExists);

    let delete = v1::DeleteJobRequest { name: "a".to_owned(), ..v1::DeleteJobRequest::default() };
    jobs.delete(delete).await.expect("deleted");
    let after = jobs.create(request("a", "r1")).await.expect("known").into_inner();
    assert_eq!(after.outcome(), v1::CreateOutcome::AlreadyDeleted);
    let get = v1::GetJobRequest { name: "a".to_owned(), ..v1::GetJobRequest::default() };
    assert_eq!(jobs.get(get).await.expect_err("gone").code(), Code::NotFound);

    let request = v1::CreateJobRequest { job: Some(generated("batch-")), request_id: "r3".to_owned() };
    let one = jobs.create(request.clone()).await.expect("created").into_inner().job.expect("a Job");
    let two = jobs.create(request).await.expect("again").into_inner().job.expect("a Job");
    assert_eq!(name_of(&one.metadata), name_of(&two.metadata));
    assert!(name_of(&one.metadata).starts_with("batch-"));
}

/// A Job whose name the server makes.
fn generated(prefix: &str) -> v1::Job {
    let mut job = suspended_job("");
    job.metadata.as_mut().expect("metadata").generate_name = prefix.to_owned();
    job
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decision_10_a_made_name_that_is_taken_is_made_again_and_the_request_stays_the_same() {
    let request = || v1::CreateJobRequest { job: Some(generated("x-")), request_id: "r1".to_owned() };
    // Names derive from the request alone: another cluster tells what this one will make.
    let elsewhere = one().await.jobs().create(request()).await.expect("created").into_inner();
    let taken = name_of(&elsewhere.job.expect("a Job").metadata).to_owned();

    let server = one().await;
    let mut jobs = server.jobs();
    jobs.create(create(suspended_job(&taken))).await.expect("created");
    let first = jobs.create(request()).await.expect("created").into_inner();
    assert_eq!(first.outcome(), v1::CreateOutcome::Created);
    let made = first.job.expect("a Job");
    let name = name_of(&made.metadata).to_owned();
    assert!(name.starts_with("x-") && name != taken, "{name}");
    let labels = &made.spec.expect("a spec").template.expect("a template").metadata.expect("metadata").labels;
    assert_eq!(labels["batch.kubernetes.io/job-name"], name, "M2");

    let delete = |name: &str| v1::DeleteJobRequest { name: name.to_owned(), ..Default::default() };
    for expected in [v1::CreateOutcome::AlreadyExisted, v1::CreateOutcome::AlreadyExisted] {
        let again = jobs.create(request()).await.expect("again").into_inner();
        assert_eq!((again.outcome(), name_of(&again.job.expect("a Job").metadata)), (expected, &*name));
        // From now on the first of its names is free.
        let _ = jobs.delete(delete(&taken)).await;
    }
    jobs.delete(delete(&name)).await.expect("deleted");
    let after = jobs.create(request()).await.expect("known").into_inner();
    assert_eq!(after.outcome(), v1::CreateOutcome::AlreadyDeleted);
    assert_eq!(name_of(&after.job.expect("a Job").metadata), name);
    let listed = jobs.list(v1::ListJobsRequest::default()).await.expect("a list").into_inner();
    assert!(listed.items.is_empty(), "nothing runs twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutable_fields_change_and_preconditions_hold() {
    let server = one().await;
    let mut jobs = server.jobs();
    let created = jobs.create(create(suspended_job("a"))).await.expect("created").into_inner();
    let mut changed = suspended_job("a");
    let spec = changed.spec.as_mut().expect("a spec");
    (spec.parallelism, spec.completions) = (Some(3), Some(1));
    let update = v1::UpdateJobRequest { job: Some(changed.clone()) };
    let updated = jobs.update(update).await.expect("updated").into_inner();
    let job = updated.job.expect("a Job");
    assert_eq!(job.spec.expect("a spec").parallelism, Some(3));
    assert!(updated.revision > created.revision);

    let old = changed.metadata.as_mut().expect("metadata");
    old.resource_version = created.job.expect("a Job").metadata.expect("metadata").resource_version;
    let stale = jobs.update(v1::UpdateJobRequest { job: Some(changed) }).await.expect_err("stale");
    assert_eq!(ErrorReason::of(&stale), Some(ErrorReason::Conflict));

    let mut immutable = suspended_job("a");
    immutable.spec.as_mut().expect("a spec").completions = Some(7);
    let refused = jobs.update(v1::UpdateJobRequest { job: Some(immutable) }).await.expect_err("immutable");
    let violations = stint_proto::status::field_violations(&refused);
    assert_eq!(violations[0].field, "spec.completions", "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_come_from_the_agent_that_has_them() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let by_job = |follow: bool| v1::PodLogsRequest {
        target: Some(v1::pod_logs_request::Target::JobName("pi".to_owned())),
        follow,
        timestamps: true,
        tail_lines: Some(5),
        ..v1::PodLogsRequest::default()
    };
    let unknown = server.pods().logs(by_job(true)).await.expect_err("no such Job");
    assert_eq!(unknown.code(), Code::NotFound);
    server.jobs().create(create(job("pi"))).await.expect("created");
    let early = server.pods().logs(by_job(false)).await.expect_err("not started");
    assert_eq!(early.code(), Code::FailedPrecondition);

    // A reader that follows waits for the start.
    let mut pods = server.pods();
    let following = tokio::spawn(async move { pods.logs(by_job(true)).await });
    let pod = agent.ordered_pod().await;
    agent.report(1, &pod.uid, running()).await;
    let asked = agent.answer_log("3.14\n").await;
    assert_eq!((asked.pod_uid, asked.follow, asked.timestamps), (pod.uid.clone(), true, true));
    assert_eq!((asked.tail_lines, asked.restart_count), (Some(5), Some(0)));
    let mut chunks = following.await.expect("ended").expect("a stream").into_inner();
    let source =
        chunks.message().await.expect("no error").expect("a first message").source.expect("a source");
    assert_eq!((source.pod_name, source.node_name), (pod.name.clone(), "w1".to_owned()));
    let chunk = chunks.message().await.expect("no error").expect("a piece");
    assert_eq!((&chunk.data[..], chunk.next_offset), (&b"3.14\n"[..], 5));
    assert!(chunks.message().await.expect("no error").is_none());
    agent
        .hear_until(|message| match message {
            Hear::LogCredit(credit) => (credit.bytes == 5).then_some(()),
            _ => None,
        })
        .await;

    // A reader that goes away is told to the agent.
    let mut pods = server.pods();
    let leaving = tokio::spawn(async move { pods.logs(by_job(true)).await });
    let request = agent
        .hear_until(|message| match message {
            Hear::LogRequest(request) => Some(request),
            _ => None,
        })
        .await;
    drop(leaving.await.expect("ended").expect("a stream"));
    let cancelled = agent
        .hear_until(|message| match message {
            Hear::LogCancel(cancel) => Some(cancel.request_id),
            _ => None,
        })
        .await;
    assert_eq!(cancelled, request.request_id);

    // Without its agent the log cannot be read, and that is said.
    drop(agent);
    eventually("the node has no session", || async {
        let status = server.pods().logs(by_job(false)).await.err()?;
        (ErrorReason::of(&status) == Some(ErrorReason::NodeUnreachable)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_job_that_never_had_a_pod_is_said_to_have_none() {
    let server = one().await;
    let mut nothing = job("nothing");
    nothing.spec.as_mut().expect("a spec").completions = Some(0);
    server.jobs().create(create(nothing)).await.expect("created");
    let logs = |pod_uid: &str| v1::PodLogsRequest {
        target: Some(v1::pod_logs_request::Target::JobName("nothing".to_owned())),
        pod_uid: pod_uid.to_owned(),
        ..v1::PodLogsRequest::default()
    };
    for (pod_uid, expected) in [
        ("", "job \"nothing\" is finished and has no Pod"),
        ("00000000-0000-4000-8000-000000000001", "job \"nothing\" has no such Pod any more"),
    ] {
        // It is finished a moment after it is created.
        let status = eventually("it is finished", || async {
            let status = server.pods().logs(logs(pod_uid)).await.expect_err("there is no log");
            (status.code() == Code::NotFound).then_some(status)
        })
        .await;
        assert_eq!(status.message(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_run_of_a_container_has_its_log() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let mut again = job("again");
    let template = again.spec.as_mut().expect("a spec").template.as_mut().expect("a template");
    template.spec.as_mut().expect("a Pod").restart_policy = Some("OnFailure".to_owned());
    server.jobs().create(create(again)).await.expect("created");
    let pod = agent.ordered_pod().await;
    let target = || Some(v1::pod_logs_request::Target::PodName(pod.name.clone()));
    let plain = || v1::PodLogsRequest { target: target(), ..v1::PodLogsRequest::default() };
    agent.report(1, &pod.uid, running()).await;
    let none = server.pods().logs(v1::PodLogsRequest { previous: true, ..plain() }).await;
    assert_eq!(ErrorReason::of(&none.expect_err("only one run yet")), Some(ErrorReason::NotFound));
    agent.report(2, &pod.uid, exited(1)).await;
    let running_again = v1::pod_report::Kind::Running(v1::ContainerRunning {
        container: "main".to_owned(),
        restart_count: 1,
        started_at: None,
        ..v1::ContainerRunning::default()
    });
    agent.report(3, &pod.uid, running_again).await;

    let since = Some(v1::pod_logs_request::Since::SinceSeconds(60));
    for (request, run, since_ms) in [
        (plain(), 1, None),
        (v1::PodLogsRequest { previous: true, ..plain() }, 0, None),
        (v1::PodLogsRequest { restart_count: Some(0), since, ..plain() }, 0, Some(60_000)),
    ] {
        let mut pods = server.pods();
        let reading = tokio::spawn(async move { pods.logs(request).await });
        let asked = agent.answer_log("x\n").await;
        assert_eq!((asked.restart_count, asked.since_ms), (Some(run), since_ms));
        let mut chunks = reading.await.expect("ended").expect("a log").into_inner();
        let first = chunks.message().await.expect("no error").expect("a message");
        assert_eq!(first.source.expect("a source").restart_count, run);
    }
    let mut bad_time = stint_proto::time::timestamp_to_wire(stint_api::Timestamp(0));
    bad_time.nanos = -1;
    for (what, request) in [
        ("no such run", v1::PodLogsRequest { restart_count: Some(2), ..plain() }),
        ("another container", v1::PodLogsRequest { container: "other".to_owned(), ..plain() }),
        (
            "another Pod",
            v1::PodLogsRequest { pod_uid: "00000000-0000-4000-8000-000000000000".to_owned(), ..plain() },
        ),
        ("an offset of no run", v1::PodLogsRequest { offset: Some(3), ..plain() }),
        ("an offset and a tail", v1::PodLogsRequest { offset: Some(3), tail_lines: Some(1), ..plain() }),
        (
            "no time",
            v1::PodLogsRequest { since: Some(v1::pod_logs_request::Since::SinceTime(bad_time)), ..plain() },
        ),
    ] {
        let refused = server.pods().logs(request).await.expect_err(what);
        assert!(
            matches!(refused.code(), Code::NotFound | Code::InvalidArgument | Code::Aborted),
            "{what}: {refused:?}"
        );
        assert!(ErrorReason::of(&refused).is_some(), "{what}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_keep_their_preconditions_and_say_what_becomes_of_pods() {
    let server = one().await;
    let mut jobs = server.jobs();
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let created = jobs.create(create(job("a"))).await.expect("created").into_inner();
    let metadata = created.job.expect("a Job").metadata.expect("metadata");
    let delete = || v1::DeleteJobRequest { name: "a".to_owned(), ..v1::DeleteJobRequest::default() };
    let other_uid = "00000000-0000-4000-8000-000000000000".to_owned();
    for request in [
        v1::DeleteJobRequest { uid: other_uid.clone(), ..delete() },
        v1::DeleteJobRequest { resource_version: 1, ..delete() },
    ] {
        let refused = jobs.delete(request).await.expect_err("a precondition");
        assert_eq!(ErrorReason::of(&refused), Some(ErrorReason::Conflict));
    }
    let pod = agent.ordered_pod().await;
    agent.report(1, &pod.uid, running()).await;
    let wrong =
        v1::DeletePodRequest { name: pod.name.clone(), uid: other_uid, ..v1::DeletePodRequest::default() };
    let refused = server.pods().delete(wrong).await.expect_err("a precondition");
    assert_eq!(ErrorReason::of(&refused), Some(ErrorReason::Conflict));

    // Foreground: the Job stays until its Pod is gone.
    let foreground =
        v1::DeleteJobRequest { propagation_policy: v1::PropagationPolicy::Foreground.into(), ..delete() };
    assert_eq!(jobs.delete(foreground).await.expect("begun").into_inner().uid, metadata.uid);
    let get = || v1::GetJobRequest { name: "a".to_owned(), ..v1::GetJobRequest::default() };
    let going = jobs.get(get()).await.expect("still there").into_inner();
    assert!(going.metadata.expect("metadata").deletion_timestamp.is_some());
    agent
        .hear_until(|message| match message {
            Hear::Order(v1::Order { pod: Some(pod), .. }) => {
                matches!(pod.action, Some(v1::desired_pod::Action::Stop(_))).then_some(())
            }
            _ => None,
        })
        .await;
    agent.report(2, &pod.uid, exited(143)).await;
    eventually("the Job is gone", || async {
        server.jobs().get(get()).await.err().filter(|status| status.code() == Code::NotFound)
    })
    .await;

    // Orphan: the Pod stays and runs on.
    jobs.create(create(job("a"))).await.expect("created anew");
    let pod = agent.ordered_pod().await;
    agent.report(3, &pod.uid, running()).await;
    let orphan =
        v1::DeleteJobRequest { propagation_policy: v1::PropagationPolicy::Orphan.into(), ..delete() };
    jobs.delete(orphan).await.expect("deleted");
    let request = v1::GetPodRequest { name: pod.name.clone(), ..v1::GetPodRequest::default() };
    let orphaned = server.pods().get(request).await.expect("still there").into_inner();
    assert!(orphaned.metadata.expect("metadata").owner_references.is_empty());
    assert_eq!(agent.desired(std::slice::from_ref(&pod.uid), &[]).await.pods.len(), 1);
    let delete = v1::DeletePodRequest {
        name: pod.name.clone(),
        grace_period_seconds: Some(0),
        ..v1::DeletePodRequest::default()
    };
    let deleted = server.pods().delete(delete).await.expect("deleted").into_inner();
    assert!(!deleted.uid.is_empty() && deleted.revision > 0);
}
