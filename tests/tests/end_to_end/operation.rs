//! What operators do: set processes up by files, read their logs, watch them.

use crate::manifests::shell_job;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use stint_tests::cluster::run_stint;
use stint_tests::scrape::{self, Family};
use stint_tests::{Cluster, ClusterOptions, Process, binary, eventually};

/// The lines of a process's log in JSON that say this.
pub fn logged(cluster: &Cluster, name: &str, message: &str) -> Vec<serde_json::Value> {
    let log = std::fs::read_to_string(cluster.log_path(name)).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// Where a process serves its metrics.
pub fn metrics_address(cluster: &Cluster, name: &str) -> String {
    eventually(&format!("{name} serves metrics"), Duration::from_secs(90), || {
        logged(cluster, name, "serves metrics").last()?["address"].as_str().map(str::to_owned)
    })
}

/// What deploy/METRICS.md says: type and labels by name.
fn described() -> BTreeMap<String, (String, BTreeSet<String>)> {
    // Seen from the package, where Cargo runs tests: not compiled in, as clones may share a target folder.
    let page = std::fs::read_to_string("../deploy/METRICS.md").unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let described = rows.filter_map(|row| {
        let (name, rest) = row.split_once("` |")?;
        let mut cells = rest.split('|').map(str::trim);
        let (kind, labels) = (cells.next()?, cells.next()?);
        let labels = labels.split(',').map(|label| label.trim_matches([' ', '`']).to_owned());
        name.contains('_')
            .then(|| (name.to_owned(), (kind.to_owned(), labels.filter(|label| !label.is_empty()).collect())))
    });
    described.collect()
}

pub fn value(families: &BTreeMap<String, Family>, sample: &str) -> Option<f64> {
    let samples = families.values().flat_map(|family| &family.samples);
    samples.filter(|(name, _)| name == sample).find_map(|(_, value)| value.parse().ok())
}

#[test]
fn every_figure_is_described_and_every_description_is_true() {
    let mut options = ClusterOptions::new(3, 1);
    // No node is lost while figures are compared, however slow the machine is.
    options.node_lease = "30s".to_owned();
    for arguments in [&mut options.server_arguments, &mut options.agent_arguments] {
        arguments.extend(
            [
                "--metrics-listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
                "--log-level",
                "info,stint_server=debug",
            ]
            .map(str::to_owned),
        );
    }
    let mut cluster = Cluster::start(options);
    cluster.apply(&shell_job("good", &[], "echo hello"));
    cluster.apply(&shell_job("bad", &["backoffLimit: 0"], "exit 3"));
    cluster.wait_for_condition("good", "Complete", Duration::from_secs(60));
    cluster.wait_for_condition("bad", "Failed", Duration::from_secs(60));
    let names: Vec<String> = cluster.server_names().into_iter().chain(cluster.agent_names()).collect();
    let addresses: BTreeMap<String, String> =
        names.iter().map(|name| (name.clone(), metrics_address(&cluster, name))).collect();
    for (name, address) in &addresses {
        assert_eq!(scrape::get(address, "/healthz").0, 200, "{name}");
        eventually(&format!("{name} is ready"), Duration::from_secs(90), || {
            (scrape::get(address, "/readyz").0 == 200).then_some(())
        });
        assert_eq!(scrape::get(address, "/").0, 404, "{name}");
    }
    let leader = cluster.wait_for_leader(Duration::from_secs(90));
    let of = |name: &str| {
        let (code, text) = scrape::get(&addresses[name], "/metrics");
        assert_eq!(code, 200, "{name}");
        text
    };

    let texts: Vec<String> = names.iter().map(|name| of(name)).collect();
    let exposed = scrape::families(&texts);
    let described = described();
    let names_of = |names: Vec<&String>| names.into_iter().cloned().collect::<BTreeSet<String>>();
    assert_eq!(names_of(exposed.keys().collect()), names_of(described.keys().collect()));
    assert!(described.len() > 60, "{}", described.len());
    for (name, family) in &exposed {
        let (kind, labels) = &described[name];
        assert_eq!(&family.kind, kind, "{name}");
        if !family.samples.is_empty() {
            assert_eq!(&family.labels, labels, "{name}");
        }
    }
    let silent: Vec<_> = exposed.iter().filter(|(_, family)| family.samples.is_empty()).collect();
    assert!(silent.is_empty(), "not one sample: {silent:?}");

    let leads = scrape::families(&[of(&leader)]);
    for (sample, expected) in [
        ("stint_raft_is_leader", 1.0),
        ("stint_raft_has_leader", 1.0),
        ("stint_raft_members{role=\"voter\"}", 3.0),
        ("stint_jobs{state=\"finished\"}", 2.0),
        ("stint_jobs{state=\"unfinished\"}", 0.0),
        ("stint_jobs_finished_total{condition=\"Complete\"}", 1.0),
        ("stint_jobs_finished_total{condition=\"Failed\"}", 1.0),
        ("stint_pods_ended_total{phase=\"Succeeded\"}", 1.0),
        ("stint_pods_ended_total{phase=\"Failed\"}", 1.0),
        ("stint_pods_bound_total", 2.0),
        ("stint_placement_seconds_count", 2.0),
        ("stint_pods_waiting", 0.0),
        ("stint_nodes{lease=\"live\"}", 1.0),
        ("stint_agent_sessions", 1.0),
        ("stint_lease_expiries_total", 0.0),
        ("stint_storage_writes_stopped", 0.0),
    ] {
        // Whoever came to lead later has not seen all of it.
        assert_eq!(value(&leads, sample), Some(expected), "{sample} of {leader}");
    }
    for sample in [
        "stint_raft_applied_index",
        "stint_raft_term",
        "stint_lease_renewals_total",
        "stint_storage_sync_seconds_count",
        "stint_storage_wal_bytes",
        "stint_apply_seconds_count",
        "stint_proposer_batch_seconds_count",
        "stint_disk_free_bytes",
        "stint_raft_log_bytes",
    ] {
        assert!(value(&leads, sample).is_some_and(|value| value > 0.0), "{sample} of {leader}");
    }
    let lag = leads["stint_raft_member_lag_entries"].samples.len();
    assert_eq!(lag, 3, "of each member");
    let works = scrape::families(&[of("w1")]);
    for (sample, expected) in [
        ("stint_agent_starts_total", 2.0),
        ("stint_agent_start_seconds_count", 2.0),
        ("stint_agent_run_ends_total{outcome=\"Succeeded\"}", 1.0),
        ("stint_agent_run_ends_total{outcome=\"Failed\"}", 1.0),
        ("stint_agent_has_lease", 1.0),
        ("stint_agent_has_session", 1.0),
        ("stint_agent_registrations_total", 1.0),
    ] {
        assert_eq!(value(&works, sample), Some(expected), "{sample} of the agent");
    }

    let begins = logged(&cluster, &leader, "agent session begins");
    assert!(begins.iter().any(|line| line["node"] == "w1" && line["incarnation"].is_u64()), "{begins:?}");
    for (message, fields) in [
        ("a pod is bound", &["job.uid", "pod.uid", "node", "term", "index"][..]),
        ("a pod has ended", &["job.uid", "pod.uid", "node", "term", "index"]),
        ("a job has finished", &["job.uid", "term", "index"]),
    ] {
        let lines = logged(&cluster, &leader, message);
        assert_eq!(lines.len(), 2, "{message}: {lines:?}");
        assert!(lines.iter().all(|line| fields.iter().all(|field| !line[field].is_null())), "{lines:?}");
    }
    assert!(logged(&cluster, "w1", "registered").iter().any(|line| line["node"] == "w1"));

    // Without a majority nobody is ready, and everybody alive.
    let left = names.iter().find(|name| name.starts_with('s') && **name != leader).unwrap().clone();
    for name in cluster.server_names() {
        if name != left {
            cluster.kill_server(&name);
        }
    }
    eventually("a server without a majority is not ready", Duration::from_secs(60), || {
        let (code, reason) = scrape::get(&addresses[&left], "/readyz");
        (code == 503).then_some(reason)
    });
    assert_eq!(scrape::get(&addresses[&left], "/healthz").0, 200);
    eventually("an agent without a lease is not ready", Duration::from_secs(120), || {
        (scrape::get(&addresses["w1"], "/readyz").0 == 503).then_some(())
    });
    assert_eq!(scrape::get(&addresses["w1"], "/healthz").0, 200);
}

/// Words of an expression that look like names of metrics of ours.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    words
        .filter(|word| word.starts_with("stint_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn board_and_alerts_use_described_figures_alone() {
    let folder = Path::new("../deploy/grafana");
    let described = described();
    let is_described = |name: &String| {
        described.iter().any(|(known, (kind, _))| match kind.as_str() {
            "histogram" => {
                ["_bucket", "_sum", "_count"].iter().any(|suffix| *name == format!("{known}{suffix}"))
            }
            _ => name == known,
        })
    };
    let board = std::fs::read_to_string(folder.join("stint.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&board).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let of_board: BTreeSet<String> =
        targets.flat_map(|target| metrics_in(target["expr"].as_str().unwrap())).collect();
    let alerts = std::fs::read_to_string(folder.join("alerts.yaml")).unwrap();
    let expressions = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let of_alerts: BTreeSet<String> = expressions.flat_map(metrics_in).collect();
    assert!(of_board.len() > 30 && of_alerts.len() > 10, "{} {}", of_board.len(), of_alerts.len());
    let unknown: Vec<&String> = of_board.union(&of_alerts).filter(|name| !is_described(name)).collect();
    assert!(unknown.is_empty(), "not in deploy/METRICS.md: {unknown:?}");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
}

#[test]
fn servers_and_agents_are_set_up_by_files_variables_and_flags() {
    let folder = tempfile::TempDir::with_prefix("stint-configuration-test.").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    // Pods are users of their own, and have to pass.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (listen, peer_listen) = (free(), free());
    std::fs::write(
        path("server.toml"),
        format!("name = 'of-file'\ndata-dir = 'server'\nlisten = '{listen}'\npeer-listen = '127.0.0.1:1'\nnode-lease = '7s'\nlog-format = 'json'\n"),
    )
    .unwrap();
    std::fs::write(
        path("agent.toml"),
        format!("name = 'w1'\nserver = ['{listen}']\ndata-dir = 'agent'\nmin-free-disk = 0\nmin-free-memory = 0\n[label]\ndisk = 'ssd'\n"),
    )
    .unwrap();
    let server = |words: &[&str]| {
        let mut command = Command::new(binary("stint"));
        command.args(words).args(["--config", &path("server.toml"), "--peer-listen", &peer_listen]);
        command.env("STINT_SERVER_NAME", "of-variable").env("STINT_SERVER_NMAE", "x");
        command
    };
    let agent = |words: &[&str]| {
        let mut command = Command::new(binary("stint-agent"));
        command.args(words).env("STINT_AGENT_CONFIG", path("agent.toml")).env("STINT_AGENT_MAX_PODS", "5");
        command
    };
    let shown = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let settings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        settings
            .into_iter()
            .map(|one| {
                (one["setting"].as_str().unwrap().to_owned(), (one["values"].clone(), one["origin"].clone()))
            })
            .collect::<BTreeMap<_, _>>()
    };
    let of_server = shown(server(&["config", "show", "server", "-o", "json"]));
    let file = |name: &str, line: usize| format!("{}:{line}", path(name));
    for (setting, value, origin) in [
        ("name", "of-variable", "STINT_SERVER_NAME".to_owned()),
        ("data-dir", &path("server"), file("server.toml", 2)),
        ("peer-listen", &peer_listen, "flag".to_owned()),
        ("node-lease", "7s", file("server.toml", 5)),
        ("insecure", "false", "default".to_owned()),
    ] {
        assert_eq!(of_server[setting], (serde_json::json!([value]), serde_json::json!(origin)), "{setting}");
    }
    let of_agent = shown(agent(&["config", "show", "-o", "json"]));
    for (setting, value, origin) in [
        ("label", "disk=ssd", file("agent.toml", 6)),
        ("max-pods", "5", "STINT_AGENT_MAX_PODS".to_owned()),
        ("runtime", "process", "default".to_owned()),
    ] {
        assert_eq!(of_agent[setting], (serde_json::json!([value]), serde_json::json!(origin)), "{setting}");
    }

    let mut running_server = Process::start(server(&["server"]), Path::new(&path("server.output")));
    let mut running_agent = Process::start(agent(&[]), Path::new(&path("agent.output")));
    let outputs = || {
        let read = |name| std::fs::read_to_string(path(name)).unwrap_or_default();
        format!("{}\n{}", read("server.output"), read("agent.output"))
    };
    let node = eventually("the agent has a node", Duration::from_secs(60), || {
        let got = run_stint(&listen, &["get", "nodes", "w1", "-o", "json"], "");
        serde_json::from_str::<serde_json::Value>(&got.stdout).ok().filter(|node| node["status"].is_object())
    });
    assert_eq!(node["metadata"]["labels"]["disk"], "ssd", "{node}");
    assert_eq!(node["status"]["capacity"]["pods"], "5", "{node}");
    let done = run_stint(&listen, &["run", "-f", "-"], &shell_job("hello", &[], "echo hello"));
    assert_eq!((done.code, done.stdout.as_str()), (0, "hello\n"), "{}\n{}", done.stderr, outputs());
    let status = run_stint(&listen, &["status", "-o", "json"], "").success();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["leader"], "of-variable", "{status}");
    assert!(outputs().contains("STINT_SERVER_NAME"), "the variable that is none was told: {}", outputs());
    assert!(
        running_agent.terminate(Duration::from_secs(30)).is_some_and(|ended| ended.success()),
        "{}",
        outputs()
    );
    assert!(
        running_server.terminate(Duration::from_secs(30)).is_some_and(|ended| ended.success()),
        "{}",
        outputs()
    );

    std::fs::write(path("server.toml"), "name = 'a'\n\ndata_dir = 'd'\n").unwrap();
    let refused = server(&["server"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let expected =
        format!("{}: there is no setting \"data_dir\"; did you mean data-dir?", file("server.toml", 3));
    assert!(refused.status.code() == Some(2) && said.contains(&expected), "{said}");
    std::fs::write(path("agent.toml"), "name = 'a'\nmax-pods = 'many'\n").unwrap();
    let refused = agent(&[]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let expected =
        format!("{}: max-pods: a text is not what it takes: write a whole number", file("agent.toml", 2));
    assert!(refused.status.code() == Some(2) && said.contains(&expected), "{said}");
}
