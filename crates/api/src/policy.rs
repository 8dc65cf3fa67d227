//! What Pods ask of a node beyond their own containers, and what a node grants.
//!
//! Owns: the one judgement that the scheduler places Pods by and agents refuse them by, what is judged of a template, and the
//! words in which a node's side of it is given on a command line and told to the servers. Does not own: which Pod goes where
//! (crate `core`); where a path of the host really leads, carrying anything out (crate `runtime`).
//!
//! Safe by default: nothing is allowed that reaches beyond the Pod. In a container that has a root of its own, user 0 and the
//! users of the image are no more than the container's; for processes of the host they are the host's, and must be allowed.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use crate::container::Container;
use crate::limits::{NODE_FEATURE_BYTES_MAX, NODE_FEATURES_MAX};
use crate::pod::PodSpec;
use crate::security::{CAPABILITIES, SeccompProfileType, SecurityContext, capability_name};
use crate::volume::VolumeSource;

/// The runtime whose containers are processes among the host's own files.
pub const PROCESS_RUNTIME: &str = "process";
/// The runtime that needs no engine.
pub const OCI_RUNTIME: &str = "oci";

/// Word of a node's list: the list has all that is allowed. Agents that don't say it tell only of [`OLD_WORDS`].
const WHOLE: &str = "whole-policy";
/// Word of a node's list: processes have no volumes, and can't be kept from writing to what they see.
const NO_MOUNTS: &str = "no-mounts";
/// Word of a node's list: containers get standard input and terminals. Agents that don't say it know of neither.
const STREAMS: &str = "streams";
/// Word of a node's list, with `=UID:GID`: all processes are this user and this group, whatever is allowed.
const ONLY_USER: &str = "only-user";
/// Of these every agent tells; one that allows paths of the host says `host-path`, if not which.
const OLD_WORDS: [&str; 6] = ["root", "host-network", "host-pid", "host-ipc", "host-path", "privileged"];
/// Words that are in a node's list besides those of its policy.
const OTHER_WORDS_MAX: usize = 16;

/// What containers are made of, as far as a policy is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootfs {
    /// The host's own files.
    Host,
    /// Those of an image.
    Image,
}

impl Rootfs {
    /// Of the containers of a runtime.
    pub fn of_runtime(runtime: &str) -> Rootfs {
        if runtime == PROCESS_RUNTIME { Rootfs::Host } else { Rootfs::Image }
    }
}

/// One thing that a Pod asks for and that not every node grants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// `hostNetwork`.
    HostNetwork,
    /// `hostPID`.
    HostPid,
    /// `hostIPC`.
    HostIpc,
    /// `shareProcessNamespace`.
    SharedProcesses,
    /// To be this user.
    User(u32),
    /// To be of this group.
    Group(u32),
    /// To be of this group too (`supplementalGroups`).
    FurtherGroup(u32),
    /// To be of this group too, which is also that of the volumes.
    FsGroup(u32),
    /// `privileged`.
    Privileged,
    /// A capability, without `CAP_`; `ALL`: all of them.
    Capability(String),
    /// `allowPrivilegeEscalation: true`.
    PrivilegeEscalation,
    /// `seccompProfile: Unconfined`.
    Unconfined,
    /// A seccomp profile out of a file of the node.
    LocalhostProfile,
    /// Mounts that come out of the container (`mountPropagation: Bidirectional`).
    Bidirectional,
    /// Volumes, or a root file system that is only read.
    Mounts,
    /// Standard input that stays open, or a terminal.
    Streams,
    /// To see a path of the host.
    HostPath {
        /// As it is written.
        path: String,
        /// Also to write to it.
        writable: bool,
    },
}

impl fmt::Display for Ask {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::HostNetwork => out.write_str("hostNetwork: true"),
            Ask::HostPid => out.write_str("hostPID: true"),
            Ask::HostIpc => out.write_str("hostIPC: true"),
            Ask::SharedProcesses => out.write_str("shareProcessNamespace: true"),
            Ask::User(user) => write!(out, "runAsUser: {user}"),
            Ask::Group(group) | Ask::FurtherGroup(group) => write!(out, "group {group}"),
            Ask::FsGroup(group) => write!(out, "fsGroup: {group}"),
            Ask::Privileged => out.write_str("privileged: true"),
            Ask::Capability(name) if name == "ALL" => out.write_str("all capabilities"),
            Ask::Capability(name) => write!(out, "capability {name}"),
            Ask::PrivilegeEscalation => out.write_str("allowPrivilegeEscalation: true"),
            Ask::Unconfined => out.write_str("seccompProfile: Unconfined"),
            Ask::LocalhostProfile => out.write_str("seccompProfile: Localhost"),
            Ask::Bidirectional => out.write_str("mountPropagation: Bidirectional"),
            Ask::Mounts => out.write_str("volumes or readOnlyRootFilesystem"),
            Ask::Streams => out.write_str("stdin or tty"),
            Ask::HostPath { path, writable: false } => write!(out, "hostPath {path}"),
            Ask::HostPath { path, writable: true } => write!(out, "hostPath {path}, to be written to,"),
        }
    }
}

/// An [`Ask`], and which container of the Pod has it; none: all of them.
pub type AskOf<'a> = (Option<&'a str>, Ask);

/// All that a Pod asks for, the Pod's own asks first. The same may come several times.
pub fn asks_of(spec: &PodSpec) -> Vec<AskOf<'_>> {
    let mut asks = Vec::new();
    let flags = [
        (spec.host_network, Ask::HostNetwork),
        (spec.host_pid, Ask::HostPid),
        (spec.host_ipc, Ask::HostIpc),
        (spec.share_process_namespace == Some(true), Ask::SharedProcesses),
    ];
    asks.extend(flags.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, ask)| (None, ask)));
    let context = spec.security_context.as_ref();
    if let Some(context) = context {
        asks.extend(id_of(context.run_as_user).map(|user| (None, Ask::User(user))));
        asks.extend(id_of(context.run_as_group).map(|group| (None, Ask::Group(group))));
        let further = context.supplemental_groups.iter().filter_map(|group| id_of(Some(*group)));
        asks.extend(further.map(|group| (None, Ask::FurtherGroup(group))));
        asks.extend(id_of(context.fs_group).map(|group| (None, Ask::FsGroup(group))));
    }
    let profile = context.and_then(|context| context.seccomp_profile.as_ref());
    for container in spec.init_containers.iter().chain(&spec.containers) {
        let name = Some(container.name.as_str());
        let own = container.security_context.as_ref();
        let profile = own.and_then(|own| own.seccomp_profile.as_ref()).or(profile);
        let asked = match profile.map(|profile| &profile.profile_type) {
            Some(SeccompProfileType::Unconfined) => Some(Ask::Unconfined),
            Some(SeccompProfileType::Localhost) => Some(Ask::LocalhostProfile),
            _ => None,
        };
        asks.extend(own.map(rights).unwrap_or_default().into_iter().chain(asked).map(|ask| (name, ask)));
        asks.extend(mounts(spec, container).into_iter().map(|ask| (name, ask)));
        asks.extend((container.stdin || container.tty).then_some((name, Ask::Streams)));
    }
    asks
}

fn rights(context: &SecurityContext) -> Vec<Ask> {
    let mut asks = Vec::new();
    asks.extend(id_of(context.run_as_user).map(Ask::User));
    asks.extend(id_of(context.run_as_group).map(Ask::Group));
    if context.privileged == Some(true) {
        asks.push(Ask::Privileged);
    }
    if context.allow_privilege_escalation == Some(true) {
        asks.push(Ask::PrivilegeEscalation);
    }
    if context.read_only_root_filesystem == Some(true) {
        asks.push(Ask::Mounts);
    }
    let added = context.capabilities.iter().flat_map(|capabilities| &capabilities.add);
    asks.extend(added.map(|name| Ask::capability(name)));
    asks
}

fn mounts(spec: &PodSpec, container: &Container) -> Vec<Ask> {
    let mut asks = Vec::new();
    for mount in &container.volume_mounts {
        asks.push(Ask::Mounts);
        if mount.mount_propagation == Some(crate::MountPropagation::Bidirectional) {
            asks.push(Ask::Bidirectional);
        }
        let volume = spec.volumes.iter().find(|volume| volume.name == mount.name);
        if let Some(VolumeSource::HostPath(host)) = volume.map(|volume| &volume.source) {
            asks.push(Ask::HostPath { path: host.path.clone(), writable: !mount.read_only });
        }
    }
    asks
}

/// User and group ids are below 2^31 (validation).
fn id_of(number: Option<i64>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

impl Ask {
    /// That of a capability, however it is written.
    pub fn capability(name: &str) -> Ask {
        let name = name.to_ascii_uppercase();
        Ask::Capability(capability_name(&name).map_or(name.clone(), str::to_owned))
    }
}

/// A folder of the host that volumes may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath {
    /// It and everything below it; absolute, without `..`.
    pub prefix: String,
    /// Also to be written to.
    pub writable: bool,
}

/// What the Pods of a node may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    /// Processes may be user 0, without capabilities.
    pub root: bool,
    /// Users and groups of the host that processes may be.
    pub users: Vec<RangeInclusive<u32>>,
    /// Folders of the host that volumes may show, with all that is below them.
    pub host_paths: Vec<HostPath>,
    /// `hostNetwork`.
    pub host_network: bool,
    /// `hostPID`.
    pub host_pid: bool,
    /// `hostIPC`.
    pub host_ipc: bool,
    /// `seccompProfile: Unconfined`: all system calls.
    pub unconfined: bool,
    /// `privileged`, which is all of the above.
    pub privileged: bool,
    /// Capabilities that containers may add, without `CAP_`.
    pub capabilities: BTreeSet<String>,
}

impl Allowed {
    /// Adds what one value of `--allow` names. False: it names something else.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn allow(&mut self, value: &str) -> Result<bool, &'static str> {
        const TOO_MANY: &str =
            "is more than a node can tell the servers of: allow ranges of users, and folders above";
        let (name, of) = match value.split_once('=') {
            Some((name, of)) => (name, Some(of)),
            None => (value, None),
        };
        match (name, of) {
            ("root", None) => self.root = true,
            ("host-network", None) => self.host_network = true,
            ("host-pid", None) => self.host_pid = true,
            ("host-ipc", None) => self.host_ipc = true,
            ("unconfined", None) => self.unconfined = true,
            ("privileged", None) => self.privileged = true,
            ("user" | "host-path", Some(_)) if !self.has_room() => return Err(TOO_MANY),
            ("user", Some(range)) => self.users.push(users(range)?),
            ("host-path", Some(path)) => self.host_paths.push(HostPath::parse(path)?),
            ("capability", Some(capability)) => {
                let name = capability_name(&capability.to_ascii_uppercase()).filter(|name| *name != "ALL");
                self.capabilities.insert(name.ok_or("is no capability")?.to_owned());
            }
            ("user" | "host-path" | "capability", None) => return Err("needs a value after ="),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether one more user or path can be told; of all else there can't be too much.
    fn has_room(&self) -> bool {
        self.users.len() + self.host_paths.len() < NODE_FEATURES_MAX - OTHER_WORDS_MAX - CAPABILITIES.len()
    }

    /// In the words that [`allow`](Self::allow) takes; bounded in number and length.
    pub fn words(&self) -> Vec<String> {
        let flags = [
            ("root", self.root),
            ("host-network", self.host_network),
            ("host-pid", self.host_pid),
            ("host-ipc", self.host_ipc),
            ("host-path", !self.host_paths.is_empty()),
            ("privileged", self.privileged),
        ];
        let flags = flags.into_iter().filter(|(_, allowed)| *allowed || self.privileged);
        let mut words: Vec<String> = flags.map(|(word, _)| word.to_owned()).collect();
        if self.unconfined {
            words.push("unconfined".to_owned());
        }
        words.extend(self.users.iter().map(|users| match (users.start(), users.end()) {
            (first, last) if first == last => format!("user={first}"),
            (first, last) => format!("user={first}-{last}"),
        }));
        words.extend(self.host_paths.iter().map(|path| {
            let mode = if path.writable { ":rw" } else { ":ro" };
            format!("host-path={}{mode}", path.prefix)
        }));
        words.extend(self.capabilities.iter().map(|name| format!("capability={name}")));
        words
    }

    /// The value of `--allow` that would grant what is asked for and is not granted.
    pub fn missing(&self, rootfs: Rootfs, ask: &Ask) -> Option<String> {
        if self.privileged {
            return None;
        }
        let unless = |allowed: bool, value: &str| (!allowed).then(|| value.to_owned());
        let of_host = rootfs == Rootfs::Host;
        match ask {
            // Processes have the host's network in any case.
            Ask::HostNetwork if of_host => None,
            Ask::HostNetwork => unless(self.host_network, "host-network"),
            Ask::HostPid => unless(self.host_pid, "host-pid"),
            Ask::HostIpc => unless(self.host_ipc, "host-ipc"),
            // Groups open files of the host just as users do, and are judged by the same numbers. Not so in a container that
            // has a root of its own: of the host it sees what its volumes show, and that it may do as its user 0 anyway.
            Ask::User(0) | Ask::Group(0) | Ask::FurtherGroup(0) | Ask::FsGroup(0) if of_host => {
                unless(self.root, "root")
            }
            Ask::User(id) | Ask::Group(id) | Ask::FurtherGroup(id) | Ask::FsGroup(id) if of_host => {
                unless(self.users.iter().any(|range| range.contains(id)), &format!("user={id}"))
            }
            Ask::PrivilegeEscalation if of_host => unless(self.root, "root"),
            Ask::Privileged | Ask::Bidirectional => unless(false, "privileged"),
            Ask::Capability(name) if name == "ALL" => unless(false, "privileged"),
            Ask::Capability(name) => unless(self.capabilities.contains(name), &format!("capability={name}")),
            Ask::Unconfined => unless(self.unconfined, "unconfined"),
            Ask::HostPath { path, writable } => {
                let allowed = self.host_paths.iter().any(|allowed| allowed.covers(path, *writable));
                unless(allowed, &format!("host-path={path}{}", if *writable { ":rw" } else { "" }))
            }
            Ask::User(_)
            | Ask::Group(_)
            | Ask::FurtherGroup(_)
            | Ask::FsGroup(_)
            | Ask::PrivilegeEscalation
            | Ask::SharedProcesses
            | Ask::LocalhostProfile
            | Ask::Mounts
            | Ask::Streams => None,
        }
    }
}

fn users(range: &str) -> Result<RangeInclusive<u32>, &'static str> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u32>().map_err(|_| "is no user id, or range of such");
    let (first, last) = (number(first)?, number(last)?);
    if first == 0 {
        return Err("includes user 0, which is allowed by root");
    }
    if first > last || last == u32::MAX {
        return Err("is no range of user ids");
    }
    Ok(first..=last)
}

impl HostPath {
    fn parse(text: &str) -> Result<HostPath, &'static str> {
        let (path, writable) = match text.strip_suffix(":rw") {
            Some(path) => (path, true),
            None => (text.strip_suffix(":ro").unwrap_or(text), false),
        };
        let parts = parts_of(path).ok_or("needs an absolute path without ..")?;
        let prefix = format!("/{}", parts.join("/"));
        if prefix.len() + "host-path=:rw".len() > NODE_FEATURE_BYTES_MAX {
            return Err("is longer than a node can tell the servers: allow a folder above");
        }
        Ok(HostPath { prefix, writable })
    }

    /// By what is written: where links lead is not known here.
    fn covers(&self, path: &str, writable: bool) -> bool {
        let (Some(prefix), Some(path)) = (parts_of(&self.prefix), parts_of(path)) else { return false };
        path.starts_with(&prefix) && (self.writable || !writable)
    }
}

/// The names in an absolute path, if it is plain.
fn parts_of(path: &str) -> Option<Vec<&str>> {
    let names = path.strip_prefix('/')?.split('/').filter(|name| !name.is_empty() && *name != ".");
    let names: Vec<&str> = names.collect();
    (!names.contains(&"..")).then_some(names)
}

/// What a node tells of itself that decides which Pods it takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeOffer {
    /// What its Pods may ask for.
    pub allowed: Allowed,
    /// All processes are this user and this group, as its agent can't change them; none: whatever is allowed.
    pub only_user: Option<(u32, u32)>,
    /// Processes have no volumes, and can't be kept from writing to what they see.
    pub without_mounts: bool,
    /// Containers get standard input and terminals.
    pub streams: bool,
    /// What its agent, an older one, does not tell: it judges that only once it has the Pod.
    pub untold: bool,
    /// It allows paths of the host, and does not tell which.
    pub some_host_paths: bool,
}

impl NodeOffer {
    /// As it is registered; bounded in number and length.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![WHOLE.to_owned()];
        words.extend(self.allowed.words());
        words.extend(self.only_user.map(|(user, group)| format!("{ONLY_USER}={user}:{group}")));
        words.extend(self.without_mounts.then(|| NO_MOUNTS.to_owned()));
        words.extend(self.streams.then(|| STREAMS.to_owned()));
        words
    }

    /// As it was registered. Words that are not known grant nothing.
    pub fn of_words(words: &[String]) -> NodeOffer {
        let mut offer = NodeOffer { untold: true, ..NodeOffer::default() };
        for word in words {
            match word.as_str() {
                WHOLE => offer.untold = false,
                NO_MOUNTS => offer.without_mounts = true,
                STREAMS => offer.streams = true,
                "host-path" => offer.some_host_paths = true,
                word => match word.strip_prefix(ONLY_USER).and_then(|of| of.strip_prefix('=')) {
                    Some(ids) => {
                        let ids = ids.split_once(':');
                        offer.only_user = ids.and_then(|(user, group)| {
                            Some((user.parse::<u32>().ok()?, group.parse::<u32>().ok()?))
                        });
                    }
                    // What is wrong with it is the agent's business.
                    None => {
                        let _ = offer.allowed.allow(word);
                    }
                },
            }
        }
        offer
    }

    /// Whether a word of a node's list is of interest to people.
    pub fn is_for_people(word: &str) -> bool {
        ![WHOLE, STREAMS].contains(&word)
    }

    /// Why a Pod that asks for this can't be run by this runtime on this node, to be said after "node(s)".
    pub fn refusal(&self, runtime: &str, ask: &Ask) -> Option<String> {
        let rootfs = Rootfs::of_runtime(runtime);
        if let Some(missing) = self.allowed.missing(rootfs, ask) {
            let word = missing.split('=').next().unwrap_or_default();
            let granted = match (self.untold, ask) {
                (true, Ask::HostPath { .. }) => self.some_host_paths,
                (true, _) => !OLD_WORDS.contains(&word),
                (false, _) => false,
            };
            if !granted {
                return Some(format!("didn't allow {missing}"));
            }
        }
        let no_process_ids = matches!(ask, Ask::HostPid | Ask::SharedProcesses | Ask::LocalhostProfile);
        if no_process_ids && [PROCESS_RUNTIME, OCI_RUNTIME].contains(&runtime) {
            return Some(format!("didn't offer {ask} with runtime {runtime}"));
        }
        if *ask == Ask::Streams && !self.streams {
            return Some(format!("didn't offer {ask}"));
        }
        if rootfs == Rootfs::Image {
            return None;
        }
        let other_user = self.only_user.is_some_and(|(user, group)| match ask {
            Ask::User(asked) => *asked != user,
            Ask::Group(asked) => *asked != group,
            Ask::FurtherGroup(_) | Ask::FsGroup(_) => true,
            _ => false,
        });
        if other_user || (self.without_mounts && *ask == Ask::Mounts) {
            return Some(format!("couldn't give processes {ask}"));
        }
        // Of processes no mount comes out, whatever is allowed.
        (*ask == Ask::Bidirectional).then(|| format!("didn't offer {ask} with runtime {runtime}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Capabilities, HostPathVolume, PodSecurityContext, SeccompProfile, Volume, VolumeMount};

    fn allowed(words: &str) -> Allowed {
        let mut allowed = Allowed::default();
        for word in words.split_whitespace() {
            assert_eq!(allowed.allow(word), Ok(true), "{word}");
        }
        allowed
    }

    fn offer(words: &str) -> NodeOffer {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        NodeOffer::of_words(&words)
    }

    fn host_path(path: &str, writable: bool) -> Ask {
        Ask::HostPath { path: path.to_owned(), writable }
    }

    #[test]
    fn every_ask_names_the_word_that_grants_it() {
        let none = Allowed::default();
        let cases = [
            (Ask::HostNetwork, None, Some("host-network")),
            (Ask::HostPid, Some("host-pid"), Some("host-pid")),
            (Ask::HostIpc, Some("host-ipc"), Some("host-ipc")),
            (Ask::SharedProcesses, None, None),
            (Ask::User(0), Some("root"), None),
            (Ask::User(7), Some("user=7"), None),
            (Ask::Group(0), Some("root"), None),
            (Ask::FurtherGroup(0), Some("root"), None),
            (Ask::FurtherGroup(42), Some("user=42"), None),
            (Ask::FsGroup(0), Some("root"), None),
            (Ask::FsGroup(42), Some("user=42"), None),
            (Ask::Privileged, Some("privileged"), Some("privileged")),
            (Ask::capability("CAP_NET_ADMIN"), Some("capability=NET_ADMIN"), Some("capability=NET_ADMIN")),
            (Ask::capability("ALL"), Some("privileged"), Some("privileged")),
            (Ask::PrivilegeEscalation, Some("root"), None),
            (Ask::Unconfined, Some("unconfined"), Some("unconfined")),
            (Ask::Bidirectional, Some("privileged"), Some("privileged")),
            (Ask::Mounts, None, None),
            (host_path("/data/in", false), Some("host-path=/data/in"), Some("host-path=/data/in")),
            (host_path("/data/in", true), Some("host-path=/data/in:rw"), Some("host-path=/data/in:rw")),
        ];
        for (ask, of_process, of_image) in cases {
            for (rootfs, expected) in [(Rootfs::Host, of_process), (Rootfs::Image, of_image)] {
                assert_eq!(none.missing(rootfs, &ask).as_deref(), expected, "{ask}, {rootfs:?}");
                if let Some(word) = expected {
                    assert_eq!(allowed(word).missing(rootfs, &ask), None, "{word} grants {ask}");
                    assert_eq!(allowed("privileged").missing(rootfs, &ask), None, "{ask}");
                }
            }
        }
    }

    #[test]
    fn paths_are_covered_by_whole_names() {
        let allowed = allowed("host-path=/data:rw host-path=/usr//share/:ro");
        for (path, writable, granted) in [
            ("/data", true, true),
            ("/data/", true, true),
            ("/data/in", false, true),
            ("/data2", false, false),
            ("/data/../etc", false, false),
            ("data", false, false),
            ("/", false, false),
            ("/usr/share/x", false, true),
            ("/usr/share/x", true, false),
        ] {
            let missing = allowed.missing(Rootfs::Image, &host_path(path, writable));
            assert_eq!(missing.is_none(), granted, "{path}");
        }
    }

    #[test]
    fn a_node_tells_all_that_it_grants_and_in_bounds() {
        let words =
            "root user=7 user=1000-1999 unconfined host-path=/data:rw host-path=/ro capability=SYS_TIME";
        let said = NodeOffer {
            allowed: allowed(words),
            only_user: Some((1000, 100)),
            without_mounts: true,
            streams: true,
            ..NodeOffer::default()
        };
        let told = NodeOffer::of_words(&said.words());
        assert_eq!(told, NodeOffer { some_host_paths: true, ..said.clone() });
        let mut many = Allowed::default();
        let refused = (1..10_000).find(|user| many.allow(&format!("user={user}")).is_err());
        assert!(refused.is_some_and(|user| user > 50), "{refused:?}");
        for capability in CAPABILITIES {
            assert_eq!(many.allow(&format!("capability={capability}")), Ok(true));
        }
        assert_eq!(many.allow("privileged"), Ok(true));
        assert_eq!(many.allow("unconfined"), Ok(true));
        let everything = NodeOffer { allowed: many, ..said.clone() };
        let all = everything.words();
        assert!(all.len() < NODE_FEATURES_MAX, "{} words", all.len());
        let told = NodeOffer::of_words(&all).allowed;
        assert_eq!(
            (told.users, told.capabilities),
            (everything.allowed.users, everything.allowed.capabilities)
        );
        let long = format!("host-path=/{}", "x".repeat(NODE_FEATURE_BYTES_MAX));
        assert!(Allowed::default().allow(&long).is_err());
    }

    #[test]
    fn what_older_agents_do_not_tell_of_is_theirs_to_judge() {
        let old = offer("images host-path");
        for granted in [Ask::User(7), Ask::Unconfined, Ask::capability("SYS_TIME"), host_path("/x", true)] {
            assert_eq!(old.refusal("process", &granted), None, "{granted}");
        }
        for refused in [Ask::User(0), Ask::Privileged, Ask::HostIpc] {
            assert!(old.refusal("process", &refused).is_some(), "{refused}");
        }
        assert_eq!(offer("").refusal("cri", &host_path("/x", false)).unwrap(), "didn't allow host-path=/x");
        let new = offer("whole-policy host-path host-path=/data:ro");
        assert_eq!(new.refusal("process", &host_path("/data/x", false)), None);
        assert_eq!(new.refusal("process", &host_path("/x", false)).unwrap(), "didn't allow host-path=/x");
        assert_eq!(new.refusal("process", &Ask::User(7)).unwrap(), "didn't allow user=7");
        assert_eq!(new.refusal("cri", &Ask::User(7)), None);
    }

    #[test]
    fn input_and_terminals_are_had_from_agents_that_know_of_them() {
        for runtime in ["process", "oci", "cri"] {
            assert_eq!(offer("whole-policy streams").refusal(runtime, &Ask::Streams), None);
            let refusal = offer("whole-policy privileged").refusal(runtime, &Ask::Streams);
            assert_eq!(refusal.as_deref(), Some("didn't offer stdin or tty"));
        }
        let mut spec = PodSpec::default();
        for (stdin, tty, is_asked) in [(false, false, false), (true, false, true), (false, true, true)] {
            spec.containers = vec![Container { stdin, tty, ..Container::default() }];
            assert_eq!(asks_of(&spec).iter().any(|(_, ask)| *ask == Ask::Streams), is_asked);
        }
    }

    #[test]
    fn what_can_not_be_had_is_refused_whatever_is_allowed() {
        let all = offer("whole-policy privileged only-user=1000:100 no-mounts");
        for (ask, by_process, by_oci, by_cri) in [
            (Ask::HostPid, true, true, false),
            (Ask::SharedProcesses, true, true, false),
            (Ask::User(0), true, false, false),
            (Ask::User(1000), false, false, false),
            (Ask::Group(100), false, false, false),
            (Ask::FurtherGroup(100), true, false, false),
            (Ask::FsGroup(100), true, false, false),
            (Ask::Mounts, true, false, false),
            (Ask::Bidirectional, true, false, false),
            (Ask::HostNetwork, false, false, false),
        ] {
            let refuses = |runtime| all.refusal(runtime, &ask).is_some();
            let found = (refuses("process"), refuses("oci"), refuses("cri"));
            assert_eq!(found, (by_process, by_oci, by_cri), "{ask}");
        }
    }

    #[test]
    fn all_that_a_pod_asks_for_is_found() {
        let mount = |name: &str, read_only| VolumeMount {
            name: name.to_owned(),
            read_only,
            ..VolumeMount::default()
        };
        let context = SecurityContext {
            run_as_user: Some(7),
            privileged: Some(true),
            capabilities: Some(Capabilities { add: vec!["CAP_SYS_TIME".to_owned()], drop: Vec::new() }),
            ..SecurityContext::default()
        };
        let init = Container {
            name: "init".to_owned(),
            security_context: Some(context),
            volume_mounts: vec![mount("host", true)],
            ..Container::default()
        };
        let main = Container {
            name: "main".to_owned(),
            volume_mounts: vec![mount("host", false), mount("work", false)],
            ..Container::default()
        };
        let profile =
            SeccompProfile { profile_type: SeccompProfileType::Unconfined, localhost_profile: None };
        let source = VolumeSource::HostPath(HostPathVolume { path: "/data".to_owned(), path_type: None });
        let spec = PodSpec {
            host_ipc: true,
            security_context: Some(PodSecurityContext {
                run_as_group: Some(8),
                supplemental_groups: vec![9],
                fs_group: Some(10),
                seccomp_profile: Some(profile),
                ..PodSecurityContext::default()
            }),
            init_containers: vec![init],
            containers: vec![main],
            volumes: vec![
                Volume { name: "host".to_owned(), source },
                Volume { name: "work".to_owned(), source: VolumeSource::default() },
            ],
            ..PodSpec::default()
        };
        let (init, main) = (Some("init"), Some("main"));
        let expected = vec![
            (None, Ask::HostIpc),
            (None, Ask::Group(8)),
            (None, Ask::FurtherGroup(9)),
            (None, Ask::FsGroup(10)),
            (init, Ask::User(7)),
            (init, Ask::Privileged),
            (init, Ask::Capability("SYS_TIME".to_owned())),
            (init, Ask::Unconfined),
            (init, Ask::Mounts),
            (init, host_path("/data", false)),
            (main, Ask::Unconfined),
            (main, Ask::Mounts),
            (main, host_path("/data", true)),
            (main, Ask::Mounts),
        ];
        assert_eq!(asks_of(&spec), expected);
    }
}
