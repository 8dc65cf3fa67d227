//! Traces that servers and agents export, to a collector of the test's own, and to some that are none.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stint_client::v1;
use stint_tests::{Cluster, ClusterOptions, Process, eventually, scrape};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;

use crate::manifests::shell_job;
use crate::operation::{logged, metrics_address, value};

/// What is never to be seen in a trace.
const SECRET: &str = "swordfish";

/// A span, and who told of it.
#[derive(Debug, Clone)]
struct Seen {
    service: String,
    instance: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    attributes: BTreeMap<String, String>,
    links: Vec<String>,
    took_ns: i128,
}

impl Seen {
    fn has(&self, key: &str, value: &str) -> bool {
        self.attributes.get(key).is_some_and(|known| known == value)
    }
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(is_true)) => is_true.to_string(),
        other => format!("{other:?}"),
    }
}

fn read(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    attributes.iter().map(|one| (one.key.clone(), text(one.value.as_ref()))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seen(resource: &BTreeMap<String, String>, span: Span) -> Seen {
    let of_process = |key: &str| resource.get(key).cloned().unwrap_or_default();
    Seen {
        service: of_process("service.name"),
        instance: of_process("service.instance.id"),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: read(&span.attributes),
        links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        took_ns: i128::from(span.end_time_unix_nano) - i128::from(span.start_time_unix_nano),
    }
}

#[derive(Debug, Clone, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<Seen>>>,
    /// Everything as it came.
    all: Arc<Mutex<String>>,
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        for of_process in request.into_inner().resource_spans {
            self.all.lock().unwrap().push_str(&format!("{of_process:?}\n"));
            let resource = read(&of_process.resource.unwrap_or_default().attributes);
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans.map(|span| seen(&resource, span)));
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector that keeps what it is sent.
struct Collector {
    endpoint: String,
    kept: Kept,
    runtime: Runtime,
}

impl Collector {
    fn start() -> Collector {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let kept = Kept::default();
        let service = TraceServiceServer::new(kept.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Collector { endpoint, kept, runtime }
    }

    fn spans(&self) -> Vec<Seen> {
        self.kept.spans.lock().unwrap().clone()
    }

    /// The first span of which this is true.
    fn wait_for(&self, what: &str, is_it: impl Fn(&Seen) -> bool) -> Seen {
        let found =
            stint_tests::wait_until(Duration::from_secs(90), || self.spans().into_iter().find(&is_it));
        found.unwrap_or_else(|| {
            let told: Vec<String> = self
                .spans()
                .iter()
                .map(|span| {
                    format!("{} of {}: {} {:?}", span.name, span.instance, span.trace, span.attributes)
                })
                .collect();
            panic!("no span: {what}\n{}", told.join("\n"))
        })
    }
}

fn without_dashes(uid: &str) -> String {
    uid.replace('-', "")
}

fn text_of(object: &serde_json::Value, pointer: &str) -> String {
    object
        .pointer(pointer)
        .and_then(serde_json::Value::as_str)
        .unwrap_or_else(|| panic!("{object}"))
        .to_owned()
}

#[test]
fn servers_and_agents_tell_of_one_job_in_traces_that_fit_together() {
    let collector = Collector::start();
    let mut options = ClusterOptions::new(3, 1);
    options.node_lease = "30s".to_owned();
    for arguments in [&mut options.server_arguments, &mut options.agent_arguments] {
        arguments.extend(["--otlp-endpoint".to_owned(), collector.endpoint.clone()]);
    }
    let mut cluster = Cluster::start(options);
    let script = format!("echo {SECRET}; exit $CODE");
    for (name, code) in [("good", 0), ("bad", 3)] {
        let job = shell_job(name, &["backoffLimit: 0"], &script.replace("$CODE", &code.to_string()));
        let more = "terminationMessagePolicy: FallbackToLogsOnError\n        env:\n        - name: PASSWORD\n          value";
        cluster.apply(&format!("{job}        {more}: {SECRET}\n"));
    }
    cluster.wait_for_condition("good", "Complete", Duration::from_secs(60));
    cluster.wait_for_condition("bad", "Failed", Duration::from_secs(60));
    let leader = cluster.wait_for_leader(Duration::from_secs(90));

    for (name, condition, phase, outcome, exit_code) in
        [("good", "Complete", "Succeeded", "Succeeded", "0"), ("bad", "Failed", "Failed", "Failed", "3")]
    {
        let job_uid = text_of(&cluster.job(name), "/metadata/uid");
        let pod_uid = text_of(&cluster.pods(name)[0], "/metadata/uid");

        // The request that has made the Job, and the log entry that it is in.
        let created = collector.wait_for("the request of the leader", |span| {
            span.name == "stint.v1.Jobs/Create" && span.has("job.uid", &job_uid)
        });
        assert_eq!((created.service.as_str(), &created.instance), ("stint-server", &leader), "{created:?}");
        assert!(created.has("rpc.response.status_code", "OK"), "{created:?}");
        assert!(created.attributes.contains_key("request.id"), "{created:?}");
        let proposed = collector.wait_for("its proposal", |span| {
            span.name == "propose" && span.trace == created.trace && span.parent == created.id
        });
        assert!(proposed.took_ns <= created.took_ns, "{proposed:?} {created:?}");
        let index = &proposed.attributes["index"];
        let entry = collector.wait_for("the log entry", |span| {
            span.name == "log entry" && span.has("index", index) && span.instance == leader
        });
        assert_eq!(entry.attributes["term"], proposed.attributes["term"]);
        assert!(entry.attributes["commands"].parse::<u64>().unwrap() > 0, "{entry:?}");

        // Its own trace, which has its uid.
        let job = collector.wait_for("the Job", |span| span.name == "job" && span.has("job.uid", &job_uid));
        assert_eq!((job.trace.as_str(), job.parent.as_str()), (&*without_dashes(&job_uid), ""));
        assert!(job.has("condition", condition) && job.has("job.name", name), "{job:?}");

        // That of its Pod, by the leader and by the agent.
        let pod = collector.wait_for("the Pod", |span| span.name == "pod" && span.has("pod.uid", &pod_uid));
        assert_eq!((pod.trace.as_str(), pod.parent.as_str()), (&*without_dashes(&pod_uid), ""));
        assert_eq!(pod.links, std::slice::from_ref(&job.trace));
        assert!(pod.has("job.uid", &job_uid) && pod.has("phase", phase) && pod.has("node", "w1"), "{pod:?}");
        assert!(pod.attributes.contains_key("term") && pod.attributes.contains_key("index"), "{pod:?}");
        let part = |what: &str| collector.wait_for(what, |span| span.name == what && span.trace == pod.trace);
        let placement = part("placement");
        assert_eq!(placement.parent, pod.id);
        let run = part("run");
        assert_eq!((run.service.as_str(), run.instance.as_str()), ("stint-agent", "w1"));
        assert_eq!((&run.parent, &part("open").parent), (&pod.id, &pod.id));
        assert_eq!(part("start").parent, run.id);
        for (key, expected) in [
            ("pod.uid", &*pod_uid),
            ("job.uid", &*job_uid),
            ("node", "w1"),
            ("container", "main"),
            ("restart_count", "0"),
            ("adopted", "false"),
            ("outcome", outcome),
            ("exit_code", exit_code),
        ] {
            assert!(run.has(key, expected), "{key} {expected}: {run:?}");
        }
        assert!(run.attributes["incarnation"].parse::<u64>().unwrap() > 0, "{run:?}");
    }
    let lives = |name: &str| collector.spans().iter().filter(|span| span.name == name).count();
    assert_eq!((lives("pod"), lives("job")), (2, 2), "each life is told by one server");
    collector.wait_for("the change of leaders", |span| {
        span.name == "leadership" && span.has("leader", &leader) && span.attributes.contains_key("term")
    });

    // What a caller has begun goes on here, and on the server that it is passed on to.
    let follower = cluster.server_names().into_iter().find(|name| *name != leader).unwrap();
    let address = format!("http://{}", cluster.client_addresses[&follower]);
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    collector.runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        let mut client = v1::jobs_client::JobsClient::new(channel);
        let asked = v1::GetJobRequest { name: "good".to_owned(), ..v1::GetJobRequest::default() };
        let mut request = tonic::Request::new(asked);
        request.metadata_mut().insert("traceparent", format!("00-{trace}-{parent}-01").parse().unwrap());
        client.get(request).await.unwrap();
    });
    let first = collector.wait_for("the follower's", |span| span.trace == trace && span.parent == parent);
    assert_eq!((first.instance.as_str(), first.name.as_str()), (&*follower, "stint.v1.Jobs/Get"));
    let second = collector.wait_for("the leader's", |span| span.trace == trace && span.parent == first.id);
    assert_eq!((second.instance.as_str(), second.name.as_str()), (&*leader, "stint.v1.Jobs/Get"));
    assert!(second.has("port", "peers"), "{second:?}");

    // The end waits for what is left: this Pod ends with its agent.
    cluster.apply(&shell_job("cut", &["backoffLimit: 0"], "sleep 1000"));
    let running = cluster.wait_for_pods("cut", "Running", 1, Duration::from_secs(60));
    let uid = without_dashes(&text_of(&running[0], "/metadata/uid"));
    cluster.end_agents();
    let last = collector.spans().into_iter().find(|span| span.name == "run" && span.trace == uid);
    assert!(last.is_some(), "the agent has ended, and said so before");

    let all = collector.kept.all.lock().unwrap();
    assert!(all.contains("stint.v1.Jobs/Create") && !all.contains(SECRET), "a secret was exported");
    assert!(!cluster.outputs().contains("can't be exported"), "{}", cluster.outputs());
}

#[test]
fn a_collector_that_is_silent_or_gone_disturbs_nothing_and_is_told_of_once() {
    // One takes connections and says nothing, the other is not there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_endpoint = format!("http://{}", silent.local_addr().unwrap());
    std::thread::spawn(move || silent.incoming().map_while(Result::ok).collect::<Vec<_>>());
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut options = ClusterOptions::new(1, 1);
    let arguments = ["--metrics-listen", "127.0.0.1:0", "--log-format", "json"];
    for (of_process, endpoint) in [
        (&mut options.server_arguments, silent_endpoint),
        (&mut options.agent_arguments, format!("http://{gone}")),
    ] {
        of_process.extend(arguments.map(str::to_owned));
        of_process.extend(["--otlp-endpoint".to_owned(), endpoint]);
    }
    let mut cluster = Cluster::start(options);
    let failed = |cluster: &Cluster, name: &str| {
        let (_, text) = scrape::get(&metrics_address(cluster, name), "/metrics");
        value(&scrape::families(&[text]), "stint_trace_spans_total{outcome=\"failed\"}").unwrap()
    };
    // Each of these makes spans on both sides, for longer than one export takes to fail.
    for round in 0..3 {
        let job = format!("round-{round}");
        let before = ["s1", "w1"].map(|name| (name, failed(&cluster, name)));
        cluster.apply(&shell_job(&job, &["completions: 20", "parallelism: 20"], "true"));
        cluster.wait_for_condition(&job, "Complete", Duration::from_secs(60));
        for (name, before) in before {
            eventually(&format!("spans of {name} are given up"), Duration::from_secs(90), || {
                (failed(&cluster, name) > before).then_some(())
            });
        }
    }
    for name in ["s1", "w1"] {
        let told: Vec<String> = std::fs::read_to_string(cluster.log_path(name))
            .unwrap()
            .lines()
            .filter(|line| line.contains("can't be exported"))
            .map(str::to_owned)
            .collect();
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert_eq!(logged(&cluster, name, "exports traces").len(), 1, "{name}");
    }
    assert_eq!(cluster.pods("round-0").len(), 20, "none was lost and made anew");
    for process in [&mut cluster.agents, &mut cluster.servers] {
        let (name, process): (_, &mut Process) = process.iter_mut().next().unwrap();
        let ended = process.terminate(Duration::from_secs(60));
        assert!(ended.is_some_and(|status| status.success()), "{name}: {ended:?}");
    }
}

#[test]
fn an_endpoint_that_is_none_keeps_a_process_from_starting() {
    let options = ClusterOptions::new(1, 0);
    let cluster = Cluster::prepare(options);
    for (endpoint, says) in [
        ("collector:4317", "does not begin with http:// or https://"),
        ("http://user:word@collector:4317", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://collector:4318/v1/traces", "OTLP over gRPC has no path"),
    ] {
        let refused = cluster.server_command("s1").args(["--otlp-endpoint", endpoint]).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("--otlp-endpoint") && said.contains(says), "{said}");
    }
}
