//! What the command line says: to `stint-agent`, and, about how Pods are run, to `stint dev` too.
//!
//! Owns: those arguments and their help. Does not own: what each of them means ([`AgentConfig`]), where they come from
//! (`command_line`).

use clap::{ArgAction, Args, Parser};
use std::path::PathBuf;
use stint_daemon::ProcessArguments;

use crate::config::{AgentConfig, CRI_SOCKET_DEFAULT, POD_DISK_DEFAULT, PODS_MAX_DEFAULT};
use crate::error::Error;

/// Runs the Pods of a stint cluster on this host.
#[derive(Debug, Clone, Parser)]
#[command(name = "stint-agent", version, after_help = SOURCES)]
pub struct AgentArguments {
    /// Name of this node, unique in the cluster; needed
    #[arg(long)]
    name: String,
    /// Addresses of some or all servers, as HOST:PORT, separated by commas; needed
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', required = true)]
    server: Vec<String>,
    /// Folder of all its data; needed
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Label of the node; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Cores that the node offers, such as 4 or 500m; all it has by default
    #[arg(long, value_name = "QUANTITY", allow_hyphen_values = true)]
    cpu: Option<String>,
    /// Memory that the node offers, such as 8Gi; all it has by default
    #[arg(long, value_name = "QUANTITY", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Pods that the node takes at once
    #[arg(long, value_name = "NUMBER", default_value_t = PODS_MAX_DEFAULT)]
    max_pods: u32,
    /// End all Pods when the agent is told to end by SIGTERM, as it does for SIGINT; else they go on until the next agent takes
    /// them over or their lease runs out
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub stop_pods_on_exit: bool,
    #[command(flatten)]
    pods: PodArguments,
    /// File that holds the cluster's token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What is about the process.
    #[command(flatten)]
    pub process: ProcessArguments,
}

/// Shown at the end of the help.
const SOURCES: &str = "\
Each flag is also a variable, such as STINT_AGENT_DATA_DIR for --data-dir, and a key of the file that --config or
STINT_AGENT_CONFIG names, such as data-dir. A flag goes before its variable, that before the file. STINT_SERVER,
STINT_TOKEN_FILE and STINT_LOG count for --server, --token-file and --log-level if their own variables are not set.
`stint-agent config show` prints what comes of it.";

/// How Pods are run.
#[derive(Debug, Clone, Args)]
pub struct PodArguments {
    /// How Pods are run: process, cri, oci, as far as they are built in. May be given several times: the first is for Pods that
    /// name no runtimeClassName
    #[arg(long, value_name = "NAME", default_value = "process")]
    runtime: Vec<String>,
    /// Container engine of the runtime cri: containerd's or CRI-O's socket
    #[arg(long, value_name = "ADDRESS", default_value = CRI_SOCKET_DEFAULT)]
    cri_socket: String,
    /// Network of Pods on the runtime cri: the host's, or that of the engine's network plug-in
    #[arg(long, value_name = "host|pod", value_parser = ["host", "pod"], default_value = "host")]
    cri_network: String,
    /// Another place to fetch the images of a registry from, as REGISTRY=ADDRESS[/PREFIX]; may be given several times
    #[arg(long, value_name = "REGISTRY=ADDRESS")]
    registry_mirror: Vec<String>,
    /// Credentials of registries, a file as docker login writes it
    #[arg(long, value_name = "FILE")]
    registry_credentials: Option<PathBuf>,
    /// Images that no container uses are removed when their disk is more than HIGH percent full, until it is LOW percent full;
    /// 85:80 by default
    #[arg(long, value_name = "HIGH:LOW")]
    image_disk: Option<String>,
    /// What Pods may ask for beyond themselves, such as root, user=1000-1999, host-path=/data:rw, writable=/scratch,
    /// host-network, host-pid, host-ipc, capability=NET_ADMIN, unconfined, privileged; nothing by default; may be given
    /// several times
    #[arg(long, value_name = "WHAT")]
    allow: Vec<String>,
    /// Users and groups that Pods get if they name none and the agent is root, as FIRST:COUNT; by default 65536 from 2000000000 on
    /// that no other agent of the host has
    #[arg(long, value_name = "RANGE")]
    pod_uids: Option<String>,
    /// Bytes of the disk that one Pod may take, its logs not included, such as 500Mi; one that takes more is evicted; 0 for no
    /// bound
    #[arg(long, value_name = "QUANTITY", allow_hyphen_values = true, default_value = POD_DISK_DEFAULT)]
    pod_disk: String,
    /// Less of the data's or the images' disk is free: no new Pod comes here (DiskPressure). Percent such as 5% or a size such as
    /// 20Gi; by default 10%, but never more than 10Gi, and 1% for stint dev; 0 for no bound
    #[arg(long, value_name = "QUANTITY", allow_hyphen_values = true)]
    min_free_disk: Option<String>,
    /// Less memory is available: no new Pod comes here that requests neither cpu nor memory (MemoryPressure); 100Mi by
    /// default; 0 for no bound
    #[arg(long, value_name = "QUANTITY", allow_hyphen_values = true)]
    min_free_memory: Option<String>,
}

impl AgentArguments {
    /// Name of the node.
    pub fn node_name(&self) -> &str {
        &self.name
    }

    /// What they say, as far as it is about the agent and not about its process.
    ///
    /// # Errors
    /// The first that can't be understood, that this build has not, or whose file can't be read.
    pub fn config(self) -> Result<AgentConfig, Error> {
        let mut config = AgentConfig::new(&self.name, &self.server.join(","), self.data_dir);
        self.label.iter().try_for_each(|label| config.add_label(label))?;
        if let Some(cpu) = &self.cpu {
            config.set_cpu(cpu)?;
        }
        if let Some(memory) = &self.memory {
            config.set_memory(memory)?;
        }
        config.capacity.pods = self.max_pods;
        self.pods.apply(&mut config)?;
        if let Some(path) = &self.token_file {
            let token = stint_proto::read_token_file(path).map_err(|error| Error::Argument {
                argument: "--token-file",
                value: path.display().to_string(),
                problem: format!("can't be read ({error}): give the file that the servers have too"),
            })?;
            config.token = Some(token);
        }
        config.check()?;
        Ok(config)
    }
}

impl PodArguments {
    /// Takes them over.
    ///
    /// # Errors
    /// The first that can't be understood, or that this build has not.
    pub fn apply(self, config: &mut AgentConfig) -> Result<(), Error> {
        self.allow.iter().try_for_each(|allowed| config.allow(allowed))?;
        if let Some(range) = &self.pod_uids {
            config.set_pod_uids(range)?;
        }
        config.set_pod_disk(&self.pod_disk)?;
        if let Some(percent) = &self.min_free_disk {
            config.set_min_free_disk(percent)?;
        }
        if let Some(amount) = &self.min_free_memory {
            config.set_min_free_memory(amount)?;
        }
        self.runtime.iter().try_for_each(|name| config.add_runtime(name))?;
        self.registry_mirror.iter().try_for_each(|mirror| config.add_registry_mirror(mirror))?;
        config.cri_socket = self.cri_socket;
        config.cri_pod_network = self.cri_network == "pod";
        config.registry_credentials = self.registry_credentials;
        if let Some(marks) = &self.image_disk {
            config.set_image_disk(marks)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RuntimeKind;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        pods: PodArguments,
    }

    fn config(arguments: &[&str]) -> Result<AgentConfig, Error> {
        let line = CommandLine::parse_from([&["agent"], arguments].concat());
        let mut config = AgentConfig::new("w1", "127.0.0.1:7440", PathBuf::from("/nowhere"));
        line.pods.apply(&mut config).map(|()| config)
    }

    #[test]
    fn what_is_said_is_what_is_set() {
        let config_of_none = config(&[]).unwrap();
        assert_eq!(config_of_none.runtimes, [RuntimeKind::Process]);
        let arguments = [
            "--allow",
            "root",
            "--registry-mirror",
            "docker.io=127.0.0.1:5000",
            "--registry-credentials",
            "/c",
        ];
        let all = config(&arguments).unwrap();
        assert!(all.policy.allowed.root && all.registry_mirrors.len() == 1);
        assert_eq!(all.registry_credentials, Some(PathBuf::from("/c")));
        for bad in [["--runtime", "docker"], ["--allow", "everything"], ["--pod-uids", "1"]] {
            assert!(config(&bad).is_err(), "{bad:?}");
        }
    }
}
