//! What cannot be read or is not valid gets a clear error, changes nothing and harms nobody.

use std::pin::Pin;

use stint_proto::limits::REQUEST_ID_BYTES_MAX;
use stint_proto::v1;
use tonic::{Code, Status};

use crate::cluster::{TestServer, create, job, one};

type Attempt = Box<dyn Fn(&TestServer) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send>> + Send>;

fn creating(change: impl Fn(&mut v1::Job) + Send + 'static) -> Attempt {
    Box::new(move |server| {
        let mut jobs = server.jobs();
        let mut job = job("bad");
        change(&mut job);
        Box::pin(async move { jobs.create(create(job)).await.map(drop) })
    })
}

fn spec(job: &mut v1::Job) -> &mut v1::JobSpec {
    job.spec.as_mut().expect("a spec")
}

fn pod(job: &mut v1::Job) -> &mut v1::PodSpec {
    spec(job).template.as_mut().expect("a template").spec.as_mut().expect("a Pod")
}

fn metadata(job: &mut v1::Job) -> &mut v1::ObjectMeta {
    job.metadata.as_mut().expect("metadata")
}

macro_rules! calling {
    ($client:ident, $method:ident, $request:expr) => {
        Box::new(move |server: &TestServer| {
            let mut client = server.$client();
            let request = $request;
            Box::pin(async move { client.$method(request).await.map(drop) })
                as Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>
        }) as Attempt
    };
}

fn cases() -> Vec<(&'static str, Code, Attempt)> {
    let invalid = Code::InvalidArgument;
    let text = |text: &str| text.to_owned();
    vec![
        ("no job", invalid, calling!(jobs, create, v1::CreateJobRequest::default())),
        ("no name", invalid, creating(|job| metadata(job).name.clear())),
        ("a name with capitals", invalid, creating(|job| metadata(job).name = "Bad".to_owned())),
        ("a name with a path", invalid, creating(|job| metadata(job).name = "../../etc/passwd".to_owned())),
        ("a long name", invalid, creating(|job| metadata(job).name = "x".repeat(300))),
        ("a bad namespace", invalid, creating(|job| metadata(job).namespace = "a/b".to_owned())),
        (
            "a bad label",
            invalid,
            creating(|job| drop(metadata(job).labels.insert("a b".to_owned(), "c".to_owned()))),
        ),
        ("no spec", invalid, creating(|job| job.spec = None)),
        ("negative parallelism", invalid, creating(|job| spec(job).parallelism = Some(-1))),
        ("negative completions", invalid, creating(|job| spec(job).completions = Some(-1))),
        ("negative backoffLimit", invalid, creating(|job| spec(job).backoff_limit = Some(-1))),
        ("negative deadline", invalid, creating(|job| spec(job).active_deadline_seconds = Some(-1))),
        ("negative ttl", invalid, creating(|job| spec(job).ttl_seconds_after_finished = Some(-1))),
        (
            "Indexed without completions",
            invalid,
            creating(|job| {
                spec(job).completion_mode = Some("Indexed".to_owned());
                spec(job).parallelism = Some(1);
            }),
        ),
        ("an unknown mode", invalid, creating(|job| spec(job).completion_mode = Some("Sorted".to_owned()))),
        ("Always", invalid, creating(|job| pod(job).restart_policy = Some("Always".to_owned()))),
        ("no restartPolicy", invalid, creating(|job| pod(job).restart_policy = None)),
        ("no container", invalid, creating(|job| pod(job).containers.clear())),
        ("a container without a name", invalid, creating(|job| pod(job).containers[0].name.clear())),
        ("a long request id", invalid, {
            calling!(
                jobs,
                create,
                v1::CreateJobRequest {
                    job: Some(job("bad")),
                    request_id: "x".repeat(REQUEST_ID_BYTES_MAX + 1)
                }
            )
        }),
        ("get without a name", invalid, calling!(jobs, get, v1::GetJobRequest::default())),
        ("get of nothing", Code::NotFound, {
            calling!(jobs, get, v1::GetJobRequest { name: text("none"), ..v1::GetJobRequest::default() })
        }),
        ("a bad selector", invalid, {
            calling!(
                jobs,
                list,
                v1::ListJobsRequest { label_selector: text("a=(b"), ..v1::ListJobsRequest::default() }
            )
        }),
        ("a bad token", invalid, {
            calling!(
                pods,
                list,
                v1::ListPodsRequest { continue_token: text("../.."), ..v1::ListPodsRequest::default() }
            )
        }),
        ("an update of nothing", Code::NotFound, {
            calling!(jobs, update, v1::UpdateJobRequest { job: Some(job("none")) })
        }),
        ("a bad uid", invalid, {
            calling!(
                jobs,
                delete,
                v1::DeleteJobRequest { name: text("a"), uid: text("1"), ..v1::DeleteJobRequest::default() }
            )
        }),
        ("an unknown propagation", invalid, {
            calling!(
                jobs,
                delete,
                v1::DeleteJobRequest {
                    name: text("a"),
                    propagation_policy: 99,
                    ..v1::DeleteJobRequest::default()
                }
            )
        }),
        ("a deletion of nothing", Code::NotFound, {
            calling!(
                jobs,
                delete,
                v1::DeleteJobRequest { name: text("none"), ..v1::DeleteJobRequest::default() }
            )
        }),
        ("a Pod that is not there", Code::NotFound, {
            calling!(
                pods,
                delete,
                v1::DeletePodRequest { name: text("none"), ..v1::DeletePodRequest::default() }
            )
        }),
        ("a log of nobody", invalid, calling!(pods, logs, v1::PodLogsRequest::default())),
        ("a log of nothing", Code::NotFound, {
            calling!(
                pods,
                logs,
                v1::PodLogsRequest {
                    target: Some(v1::pod_logs_request::Target::PodName("../../x".to_owned())),
                    ..v1::PodLogsRequest::default()
                }
            )
        }),
        ("cordon of nothing", Code::NotFound, {
            calling!(nodes, cordon, v1::CordonNodeRequest { name: text("none") })
        }),
        ("a node that is not there", Code::NotFound, {
            calling!(nodes, delete, v1::DeleteNodeRequest { name: text("none") })
        }),
        ("a member without an address", invalid, {
            calling!(
                cluster,
                add_member,
                v1::AddMemberRequest { name: text("s9"), ..v1::AddMemberRequest::default() }
            )
        }),
        ("a member whose name is none", invalid, {
            calling!(
                cluster,
                add_member,
                v1::AddMemberRequest {
                    name: text("../s9"),
                    peer_address: text("127.0.0.1:1"),
                    ..v1::AddMemberRequest::default()
                }
            )
        }),
        ("a member far away", invalid, {
            calling!(
                cluster,
                add_member,
                v1::AddMemberRequest {
                    name: text("s9"),
                    peer_address: format!("{}:1", "x".repeat(300)),
                    ..v1::AddMemberRequest::default()
                }
            )
        }),
        ("cordon of a novel", invalid, {
            calling!(nodes, cordon, v1::CordonNodeRequest { name: "x".repeat(1 << 20) })
        }),
        ("a deletion in a novel", invalid, {
            calling!(
                jobs,
                delete,
                v1::DeleteJobRequest {
                    name: text("a"),
                    namespace: "x".repeat(1 << 20),
                    uid: text("00000000-0000-4000-8000-000000000000"),
                    ..v1::DeleteJobRequest::default()
                }
            )
        }),
        ("no member named", invalid, calling!(cluster, remove_member, v1::RemoveMemberRequest::default())),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_clearly_and_change_nothing() {
    let server = one().await;
    let before = server.revision().await;
    for (what, code, attempt) in cases() {
        let status = attempt(&server).await.expect_err(what);
        assert_eq!(status.code(), code, "{what}: {status:?}");
        assert!(!status.message().is_empty() && status.message().len() < 2_000, "{what}: {status:?}");
        assert!(stint_proto::ErrorReason::of(&status).is_some(), "{what}: {status:?}");
    }
    assert_eq!(server.revision().await, before, "nothing was changed");
    assert!(server.jobs().create(create(job("good"))).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_is_refused() {
    let server = one().await;
    let mut large = job("large");
    metadata(&mut large).annotations.insert("a".to_owned(), "x".repeat(5 << 20));
    let status = server.jobs().create(create(large)).await.expect_err("too large");
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument),
        "{status:?}"
    );
    assert!(server.jobs().create(create(job("good"))).await.is_ok());
}
