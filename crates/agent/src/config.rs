//! What an agent is told at its start.
//!
//! Owns: checking it, detecting what the host offers. Does not own: the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use stint_api::names::{check_dns_subdomain, check_label_value, check_qualified_name};
use stint_api::{NodeCapacity, Quantity};
use stint_runtime::{NodePolicy, PodUids, RegistryMirror};

use crate::error::Error;
use crate::host;
use crate::limits;
use crate::node_conditions::{FreeDiskMin, PressureThresholds};

/// Pods of a node, by default.
pub const PODS_MAX_DEFAULT: u32 = 110;

/// What one Pod may take of its node's disk, by default.
pub const POD_DISK_DEFAULT: &str = "10Gi";

/// Where containerd listens, unless it was told otherwise.
pub const CRI_SOCKET_DEFAULT: &str = "unix:///run/containerd/containerd.sock";

/// How an agent is set up.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Name of the node.
    pub name: String,
    /// `HOST:PORT` of some or all servers.
    pub servers: Vec<String>,
    /// Folder of all its data.
    pub data_dir: PathBuf,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// What the node offers.
    pub capacity: NodeCapacity,
    /// The cluster's token.
    pub token: Option<String>,
    /// Runtimes of the node, the one of Pods that name none first. Empty: processes alone.
    pub runtimes: Vec<RuntimeKind>,
    /// Address of the container engine, for the runtime `cri`.
    pub cri_socket: String,
    /// Pods get their network from the engine's network plug-in, not from the host.
    pub cri_pod_network: bool,
    /// Other places to fetch images from.
    pub registry_mirrors: Vec<RegistryMirror>,
    /// Credentials of registries, a file as `docker login` writes it.
    pub registry_credentials: Option<PathBuf>,
    /// When images that no container uses are removed.
    #[cfg(any(feature = "cri", feature = "oci"))]
    pub image_disk: stint_runtime::ImageDisk,
    /// What Pods may ask for.
    pub policy: NodePolicy,
    /// Users that Pods get; none: a range that no other agent of the host has.
    pub pod_uids: Option<PodUids>,
    /// Bytes of the node's disk that one Pod may take, its logs not included; none: as many as there are.
    pub pod_disk: Option<Quantity>,
    /// When the node says that it is short of something.
    pub pressure: PressureThresholds,
}

/// A way of running containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Processes of the host.
    Process,
    /// Containers by the engine of the host.
    #[cfg(feature = "cri")]
    Cri,
    /// Containers without a daemon.
    #[cfg(feature = "oci")]
    Oci,
}

/// All of this build, by the names that Pods call them by.
const RUNTIME_KINDS: &[(&str, RuntimeKind)] = &[
    ("process", RuntimeKind::Process),
    #[cfg(feature = "cri")]
    ("cri", RuntimeKind::Cri),
    #[cfg(feature = "oci")]
    ("oci", RuntimeKind::Oci),
];

impl AgentConfig {
    /// With the host's cores and memory, and without a token.
    pub fn new(name: &str, servers: &str, data_dir: PathBuf) -> AgentConfig {
        let servers = servers.split(',').map(str::trim).filter(|server| !server.is_empty());
        AgentConfig {
            name: name.to_owned(),
            servers: servers.map(str::to_owned).collect(),
            data_dir,
            labels: default_labels(name),
            capacity: detect_capacity(),
            token: None,
            runtimes: Vec::new(),
            cri_socket: CRI_SOCKET_DEFAULT.to_owned(),
            cri_pod_network: false,
            registry_mirrors: Vec::new(),
            registry_credentials: None,
            #[cfg(any(feature = "cri", feature = "oci"))]
            image_disk: stint_runtime::ImageDisk::default(),
            policy: NodePolicy::default(),
            pod_uids: None,
            pod_disk: Quantity::parse(POD_DISK_DEFAULT).ok(),
            pressure: PressureThresholds::default(),
        }
    }

    /// Adds a runtime by its name, behind those that it has.
    ///
    /// # Errors
    /// If this build has none of that name, or the node has it already.
    pub fn add_runtime(&mut self, name: &str) -> Result<(), Error> {
        let bad = |problem| Error::Argument { argument: "--runtime", value: name.to_owned(), problem };
        let Some((_, kind)) = RUNTIME_KINDS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = RUNTIME_KINDS.iter().map(|(known, _)| *known).collect();
            return Err(bad(format!("is not a runtime of this build, which has: {}", known.join(", "))));
        };
        if self.runtimes.contains(kind) {
            return Err(bad("is given twice".to_owned()));
        }
        self.runtimes.push(*kind);
        Ok(())
    }

    /// Adds another place to fetch images from, as `REGISTRY=ADDRESS[/PREFIX]`.
    ///
    /// # Errors
    /// If it is not one.
    pub fn add_registry_mirror(&mut self, text: &str) -> Result<(), Error> {
        let mirror = text.parse().map_err(|problem| Error::Argument {
            argument: "--registry-mirror",
            value: text.to_owned(),
            problem,
        })?;
        self.registry_mirrors.push(mirror);
        Ok(())
    }

    /// Sets when images that no container uses are removed, as `HIGH:LOW` in percent of their disk. Nothing in a build that runs no
    /// images.
    ///
    /// # Errors
    /// If it is none.
    pub fn set_image_disk(&mut self, text: &str) -> Result<(), Error> {
        #[cfg(any(feature = "cri", feature = "oci"))]
        {
            self.image_disk = text.parse().map_err(|problem| Error::Argument {
                argument: "--image-disk",
                value: text.to_owned(),
                problem,
            })?;
        }
        #[cfg(not(any(feature = "cri", feature = "oci")))]
        let _ = text;
        Ok(())
    }

    /// Adds a label given as `KEY=VALUE`.
    ///
    /// # Errors
    /// If it is not one.
    pub fn add_label(&mut self, text: &str) -> Result<(), Error> {
        let bad = |problem: String| Error::Argument { argument: "--label", value: text.to_owned(), problem };
        let (key, value) = text.split_once('=').ok_or_else(|| bad("write KEY=VALUE".to_owned()))?;
        check_qualified_name(key).map_err(bad)?;
        check_label_value(value).map_err(bad)?;
        self.labels.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// Sets the cores that the node offers, such as `4` or `500m`.
    ///
    /// # Errors
    /// If it is no amount above zero.
    pub fn set_cpu(&mut self, text: &str) -> Result<(), Error> {
        self.capacity.cpu_millis = amount("--cpu", text, |quantity| quantity.millis())?;
        Ok(())
    }

    /// Sets the memory that the node offers, such as `8Gi`.
    ///
    /// # Errors
    /// If it is no amount above zero.
    pub fn set_memory(&mut self, text: &str) -> Result<(), Error> {
        self.capacity.memory_bytes = amount("--memory", text, |quantity| quantity.units())?;
        Ok(())
    }

    /// Sets what one Pod may take of the node's disk, such as `10Gi`; `0` for no bound.
    ///
    /// # Errors
    /// If it is no amount.
    pub fn set_pod_disk(&mut self, text: &str) -> Result<(), Error> {
        let quantity = Quantity::parse(text).ok().filter(|quantity| quantity.millis() >= 0);
        let quantity = quantity.ok_or_else(|| Error::Argument {
            argument: "--pod-disk",
            value: text.to_owned(),
            problem: "is not a size: write a number of bytes such as 500Mi or 10Gi, or 0 for no bound"
                .to_owned(),
        })?;
        self.pod_disk = Some(quantity).filter(|quantity| quantity.units() > 0);
        Ok(())
    }

    /// Sets how much of a disk must be free for new Pods: percent of it such as `10%`, or bytes such as `20Gi`; `0` for no
    /// bound.
    ///
    /// # Errors
    /// If it is neither.
    pub fn set_min_free_disk(&mut self, text: &str) -> Result<(), Error> {
        let most = limits::PRESSURE_DISK_PERCENT_MAX;
        let percent = || {
            let number = text.strip_suffix('%').unwrap_or(text).parse::<u8>().ok();
            number.filter(|percent| *percent <= most).map(FreeDiskMin::percent)
        };
        let bytes = || {
            let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
            let quantity = Quantity::parse(text).ok().filter(|_| has_unit)?;
            u64::try_from(quantity.units()).ok().filter(|bytes| *bytes > 0).map(FreeDiskMin::bytes)
        };
        self.pressure.disk = percent().or_else(bytes).ok_or_else(|| Error::Argument {
            argument: "--min-free-disk",
            value: text.to_owned(),
            problem: format!(
                "is no part of a disk: write percent from 0 to {most} such as 10%, or a size such as 20Gi"
            ),
        })?;
        Ok(())
    }

    /// Sets how much memory must be available for Pods that request none, such as `100Mi`; `0` for no bound.
    ///
    /// # Errors
    /// If it is no amount.
    pub fn set_min_free_memory(&mut self, text: &str) -> Result<(), Error> {
        let amount = Quantity::parse(text).ok().and_then(|quantity| u64::try_from(quantity.units()).ok());
        self.pressure.memory_bytes = amount.ok_or_else(|| Error::Argument {
            argument: "--min-free-memory",
            value: text.to_owned(),
            problem: "is not a size: write a number of bytes such as 100Mi, or 0 for no bound".to_owned(),
        })?;
        Ok(())
    }

    /// Allows what a value of `--allow` names; see [`NodePolicy::allow`].
    ///
    /// # Errors
    /// If it can't be understood.
    pub fn allow(&mut self, text: &str) -> Result<(), Error> {
        self.policy.allow(text).map_err(|error| Error::Argument {
            argument: "--allow",
            value: text.to_owned(),
            problem: error.to_string(),
        })
    }

    /// Sets the users that Pods get, as `FIRST:COUNT`.
    ///
    /// # Errors
    /// If it is no such range.
    pub fn set_pod_uids(&mut self, text: &str) -> Result<(), Error> {
        let range = PodUids::parse(text).map_err(|problem| Error::Argument {
            argument: "--pod-uids",
            value: text.to_owned(),
            problem,
        })?;
        self.pod_uids = Some(range);
        Ok(())
    }

    /// Checks what can be checked before anything is started.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |argument, value: &str, problem: String| Error::Argument {
            argument,
            value: value.to_owned(),
            problem,
        };
        check_dns_subdomain(&self.name).map_err(|problem| bad("--name", &self.name, problem))?;
        if self.servers.is_empty() {
            return Err(bad(
                "--server",
                "",
                "give HOST:PORT of a server, or several separated by commas".to_owned(),
            ));
        }
        for server in &self.servers {
            let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if !has_port || server.contains(char::is_whitespace) {
                return Err(bad("--server", server, "write HOST:PORT".to_owned()));
            }
        }
        if self.capacity.pods == 0 {
            return Err(bad("--max-pods", "0", "a node must take at least one pod".to_owned()));
        }
        Ok(())
    }
}

fn amount(argument: &'static str, text: &str, of: impl Fn(&Quantity) -> i128) -> Result<u64, Error> {
    let bad =
        |problem: &str| Error::Argument { argument, value: text.to_owned(), problem: problem.to_owned() };
    let quantity =
        Quantity::parse(text).map_err(|_| bad("is not a quantity: write a number such as 4, 500m or 8Gi"))?;
    match u64::try_from(of(&quantity)) {
        Ok(amount) if amount > 0 => Ok(amount),
        _ => Err(bad("must be more than zero")),
    }
}

fn default_labels(name: &str) -> BTreeMap<String, String> {
    // Names of nodes may be longer than values of labels.
    let host_name: String = name.chars().take(stint_api::limits::LABEL_PART_BYTES_MAX).collect();
    [
        ("kubernetes.io/hostname", host_name.trim_end_matches(['-', '.'])),
        ("kubernetes.io/os", std::env::consts::OS),
        ("kubernetes.io/arch", host::architecture()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn detect_capacity() -> NodeCapacity {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let memory_kib = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    // A host whose memory can't be read still runs Pods that request none.
    let memory_bytes = memory_kib.unwrap_or(0) * 1024;
    NodeCapacity { cpu_millis: cores * 1000, memory_bytes, pods: PODS_MAX_DEFAULT }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> AgentConfig {
        AgentConfig::new("w1", "127.0.0.1:7440", PathBuf::from("/nowhere"))
    }

    #[test]
    fn what_the_host_offers_is_detected() {
        let config = config();
        assert!(config.capacity.cpu_millis >= 1000 && config.capacity.memory_bytes > 0);
        assert_eq!(config.capacity.pods, 110);
        assert!(config.check().is_ok());
    }

    #[test]
    fn runtimes_keep_their_order_and_are_given_once() {
        let mut config = config();
        config.add_runtime("process").unwrap();
        #[cfg(feature = "cri")]
        {
            config.add_runtime("cri").unwrap();
            assert_eq!(config.runtimes, [RuntimeKind::Process, RuntimeKind::Cri]);
        }
        assert!(config.add_runtime("process").unwrap_err().to_string().contains("twice"));
        assert!(config.add_runtime("docker").unwrap_err().to_string().contains("process"));
        assert!(config.add_registry_mirror("docker.io=127.0.0.1:5000").is_ok());
        assert!(config.add_registry_mirror("docker.io").is_err());
    }

    #[test]
    fn bad_arguments_are_refused() {
        let mut one = config();
        for label in ["", "x", "=x", "a b=c", "a=b c"] {
            assert!(one.add_label(label).is_err(), "{label}");
        }
        for text in ["", "0", "-1", "lots", "1 core"] {
            assert!(one.set_cpu(text).is_err() && one.set_memory(text).is_err(), "{text}");
        }
        assert!(one.allow("everything").is_err() && one.set_pod_uids("1").is_err());
        one.allow("root,user=1000-1999").unwrap();
        assert!(one.policy.allowed.root);
        one.set_cpu("500m").unwrap();
        one.set_memory("8Gi").unwrap();
        assert_eq!((one.capacity.cpu_millis, one.capacity.memory_bytes), (500, 8 << 30));
        assert!(one.set_pod_disk("-1").is_err() && one.set_pod_disk("lots").is_err());
        assert_eq!(one.pod_disk.as_ref().map(Quantity::units), Some(10 << 30));
        for text in ["", "%", "76", "-1", "ten", "10.5%", "1000", "-1Gi", "0Gi"] {
            assert!(one.set_min_free_disk(text).is_err(), "{text}");
        }
        assert!(one.set_min_free_memory("-1").is_err() && one.set_min_free_memory("much").is_err());
        assert_eq!(one.pressure, PressureThresholds::default());
        one.set_min_free_disk("20Gi").unwrap();
        assert_eq!(one.pressure.disk, FreeDiskMin::bytes(20 << 30));
        one.set_min_free_disk("5%").unwrap();
        one.set_min_free_memory("0").unwrap();
        assert_eq!(one.pressure, PressureThresholds { disk: FreeDiskMin::percent(5), memory_bytes: 0 });
        one.set_pod_disk("0").unwrap();
        assert_eq!(one.pod_disk, None);
        for (name, servers) in
            [("A", "h:1"), ("", "h:1"), ("a", ""), ("a", "h"), ("a", "h:x"), ("a", "h:1,b")]
        {
            assert!(AgentConfig::new(name, servers, PathBuf::new()).check().is_err(), "{name} {servers}");
        }
    }
}
