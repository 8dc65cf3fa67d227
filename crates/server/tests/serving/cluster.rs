//! Servers for tests: started on ports of their own, reached by plain gRPC clients.
//!
//! Owns: starting and restarting, clients, objects to send. Does not own: what is asserted.

use std::net::TcpListener;
use std::time::Duration;

use stint_proto::v1;
use stint_server::{
    ClusterToken, Error, GivenSettings, InitialMember, Listen, MemoryEngine, RunningServer, Server,
    ServerConfig, StorageLocation,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// How long anything may take before a test gives up; far above what it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One server and what a restart of it needs.
pub struct TestServer {
    pub name: String,
    pub address: String,
    pub server: Option<RunningServer>,
    pub engine: MemoryEngine,
    folder: TempDir,
}

/// What differs from one cluster to another.
#[derive(Clone, Default)]
pub struct Options {
    pub token: Option<String>,
    /// 5 s if not given.
    pub node_lease: Option<Duration>,
}

impl TestServer {
    pub fn channel(&self) -> Channel {
        channel(&self.address)
    }

    pub fn jobs(&self) -> v1::jobs_client::JobsClient<Channel> {
        v1::jobs_client::JobsClient::new(self.channel())
    }

    pub fn pods(&self) -> v1::pods_client::PodsClient<Channel> {
        v1::pods_client::PodsClient::new(self.channel())
    }

    pub fn config_maps(&self) -> v1::config_maps_client::ConfigMapsClient<Channel> {
        v1::config_maps_client::ConfigMapsClient::new(self.channel())
    }

    pub fn nodes(&self) -> v1::nodes_client::NodesClient<Channel> {
        v1::nodes_client::NodesClient::new(self.channel())
    }

    pub fn events(&self) -> v1::events_client::EventsClient<Channel> {
        v1::events_client::EventsClient::new(self.channel())
    }

    pub fn cluster(&self) -> v1::cluster_client::ClusterClient<Channel> {
        v1::cluster_client::ClusterClient::new(self.channel())
    }

    pub fn running(&self) -> &RunningServer {
        self.server.as_ref().expect("it runs")
    }

    pub async fn stop(&mut self) {
        self.server.take().expect("it runs").shutdown().await;
    }

    /// The revision that this server has applied.
    pub async fn revision(&self) -> u64 {
        let status = self.cluster().status(v1::ClusterStatusRequest {}).await.expect("a status");
        status.into_inner().revision
    }
}

/// A channel to HOST:PORT; connects when used.
pub fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
}

/// One server by itself.
pub async fn one() -> TestServer {
    start(1, Options::default()).await.remove(0)
}

/// So many servers, with a leader.
pub async fn start(n_servers: usize, options: Options) -> Vec<TestServer> {
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ports: Vec<_> = (0..n_servers).map(|_| (listener(), listener())).collect();
    let initial_cluster: Vec<InitialMember> = ports
        .iter()
        .enumerate()
        .map(|(position, (_, peers))| InitialMember {
            name: format!("s{}", position + 1),
            peer_address: peers.local_addr().expect("bound").to_string(),
        })
        .collect();
    let mut starting = Vec::new();
    for (member, (clients, peers)) in initial_cluster.iter().zip(ports) {
        let (engine, folder) = (MemoryEngine::new(), TempDir::new().expect("a folder"));
        let address = clients.local_addr().expect("bound").to_string();
        let config = config(&member.name, &engine, &folder, clients, peers, &initial_cluster, &options);
        let name = member.name.clone();
        starting.push(tokio::spawn(async move {
            let server = Server::start(config).await.expect("a server");
            server.wait_for_leader().await;
            TestServer { name, address, server: Some(server), engine, folder }
        }));
    }
    let mut servers = Vec::new();
    for starting in starting {
        servers.push(tokio::time::timeout(PATIENCE, starting).await.expect("in time").expect("started"));
    }
    if options.token.is_none() {
        initialized(&servers[0]).await;
    }
    servers
}

/// Starts a single server again with what it had stored.
pub async fn restart(mut stopped: TestServer) -> TestServer {
    restart_with(&mut stopped, GivenSettings::default()).await.expect("a server");
    stopped
}

/// Starts a single server again with what it had stored, and with other settings on its command line.
pub async fn restart_with(stopped: &mut TestServer, settings: GivenSettings) -> Result<(), Error> {
    assert!(stopped.server.is_none(), "stop it first");
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (clients, peers) = (listener(), listener());
    stopped.address = clients.local_addr().expect("bound").to_string();
    let options = Options::default();
    let config = config(&stopped.name, &stopped.engine, &stopped.folder, clients, peers, &[], &options);
    let config = ServerConfig { settings, ..config };
    let server = tokio::time::timeout(PATIENCE, Server::start(config)).await.expect("in time")?;
    tokio::time::timeout(PATIENCE, server.wait_for_leader()).await.expect("a leader");
    stopped.server = Some(server);
    Ok(())
}

/// Waits until the cluster has its settings: before that agents are told to come again.
async fn initialized(server: &TestServer) {
    eventually("the cluster has its settings", || async {
        let status = server.cluster().status(v1::ClusterStatusRequest {}).await.ok()?;
        (status.into_inner().node_lease_ms > 0).then_some(())
    })
    .await;
}

fn config(
    name: &str,
    engine: &MemoryEngine,
    folder: &TempDir,
    clients: TcpListener,
    peers: TcpListener,
    initial_cluster: &[InitialMember],
    options: &Options,
) -> ServerConfig {
    ServerConfig {
        storage: StorageLocation::Memory { engine: engine.clone(), snapshots: folder.path().to_owned() },
        initial_cluster: initial_cluster.to_vec(),
        token: options.token.as_deref().map(ClusterToken::new),
        name: name.to_owned(),
        listen: Listen::Bound(clients),
        peer_listen: Listen::Bound(peers),
        advertise: None,
        advertise_peer: None,
        settings: GivenSettings {
            node_lease: Some(options.node_lease.unwrap_or(Duration::from_secs(5))),
            ..GivenSettings::default()
        },
        insecure: false,
        snapshot_log_entries: None,
        log_entries_kept: None,
        log_archive: None,
    }
}

/// Position of the leader among servers.
pub fn leader_of(servers: &[TestServer]) -> usize {
    let leads = |server: &TestServer| server.server.as_ref().is_some_and(RunningServer::is_leader);
    servers.iter().position(leads).expect("a leader")
}

/// Position of a server that does not lead.
pub fn follower_of(servers: &[TestServer]) -> usize {
    let follows = |server: &TestServer| server.server.as_ref().is_some_and(|server| !server.is_leader());
    servers.iter().position(follows).expect("a follower")
}

/// A Job that runs `true` once.
pub fn job(name: &str) -> v1::Job {
    let container = v1::Container {
        name: "main".to_owned(),
        image: "none".to_owned(),
        command: vec!["true".to_owned()],
        ..v1::Container::default()
    };
    let pod = v1::PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        ..v1::PodSpec::default()
    };
    v1::Job {
        metadata: Some(v1::ObjectMeta { name: name.to_owned(), ..v1::ObjectMeta::default() }),
        spec: Some(v1::JobSpec {
            template: Some(v1::PodTemplateSpec { spec: Some(pod), ..v1::PodTemplateSpec::default() }),
            ..v1::JobSpec::default()
        }),
        status: None,
    }
}

/// The same, suspended: it makes no Pods.
pub fn suspended_job(name: &str) -> v1::Job {
    let mut job = job(name);
    job.spec.as_mut().expect("a spec").suspend = Some(true);
    job
}

/// A request to create it.
pub fn create(job: v1::Job) -> v1::CreateJobRequest {
    v1::CreateJobRequest { job: Some(job), request_id: String::new() }
}

/// The name of an object.
pub fn name_of(metadata: &Option<v1::ObjectMeta>) -> &str {
    metadata.as_ref().map_or("", |metadata| &metadata.name)
}

/// Tries again until something is true.
pub async fn eventually<T, F>(what: &str, attempt: impl Fn() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let tries = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, tries).await.unwrap_or_else(|_| panic!("{what} did not come true"))
}
