//! What an earlier process left.
//!
//! Owns: finding its shims, taking over those that can be understood, ending the others. Does not own: what is made of them.

use super::Host;
use super::connection::Connection;
use super::container::{ContainerParts, ProcessContainer};
use super::record;
use super::sandbox::ProcessSandbox;
use super::strays;
use crate::shim::SHIM_NAME;
use crate::shim::messages::{Fact, Hello, Order, Read, Recorded, WIRE_VERSION_OLDEST};
use crate::shim::sys;
use crate::shim::wire::MessageReader;
use crate::{Error, PodSandbox, RecoveredPod, RunningContainer, limits};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Takes over every shim of the folder, Pod by Pod.
pub(super) async fn recover(host: &Arc<Host>) -> Result<Vec<RecoveredPod>, Error> {
    let pods = adopt_all(host).await?;
    if let Some(groups) = &host.confiner.groups {
        groups.sweep(pods.values().flat_map(|(_, containers)| containers).map(RunningContainer::id));
    }
    pods.into_iter()
        .map(|(pod_uid, (recorded, containers))| pod(host, pod_uid, &recorded, containers))
        .collect()
}

/// The containers of every shim of the folder, with what one of each Pod has on record. Nothing of others of this node is left.
pub(crate) async fn adopt_all(
    host: &Arc<Host>,
) -> Result<BTreeMap<String, (Recorded, Vec<ProcessContainer>)>, Error> {
    let gate = Arc::new(Semaphore::new(limits::ADOPTIONS_CONCURRENT_MAX));
    let mut adoptions = JoinSet::new();
    for name in host.folder.names()? {
        let (host, gate) = (host.clone(), gate.clone());
        adoptions.spawn(async move {
            // Never closed.
            let _permit = gate.acquire().await;
            take_over(&host, name).await
        });
    }
    let mut pods: BTreeMap<String, (Recorded, Vec<ProcessContainer>)> = BTreeMap::new();
    let mut shims = BTreeSet::new();
    while let Some(adopted) = adoptions.join_next().await {
        let Ok(Some(container)) = adopted else { continue };
        let recorded = container.shared().recorded.clone();
        shims.insert(container.shared().shim_pid());
        let pod = pods.entry(recorded.id.pod_uid().to_owned());
        pod.or_insert_with(|| (recorded, Vec::new())).1.push(container);
    }
    // 0: of one it is not known which process it is (Linux before 5.3), so that it might be taken for a stray.
    if let Some(owner) = host.options.owner.clone().filter(|_| !shims.contains(&0)) {
        let path = host.options.shims.clone();
        let failed = |source| Error::ShimFolder { path, action: "end what is not reached by it", source };
        strays::end(owner, shims).await.map_err(failed)?;
    }
    Ok(pods)
}

fn pod(
    host: &Arc<Host>,
    pod_uid: String,
    recorded: &Recorded,
    mut containers: Vec<ProcessContainer>,
) -> Result<RecoveredPod, Error> {
    containers.sort_by(|one, other| one.shared().recorded.id.cmp(&other.shared().recorded.id));
    let home = Path::new(OsStr::from_bytes(&recorded.home));
    let spec = record::read(&pod_uid, home.parent().unwrap_or(home).to_owned());
    let sandbox = ProcessSandbox::of(host.clone(), host.pod_as_it_is(spec)?);
    containers.iter().for_each(|container| sandbox.keep(container.shared().clone()));
    Ok(RecoveredPod {
        pod_uid,
        sandbox: Arc::new(sandbox) as Arc<dyn PodSandbox>,
        containers: containers
            .into_iter()
            .map(|container| Arc::new(container) as Arc<dyn RunningContainer>)
            .collect(),
    })
}

/// One shim; `None` if it is gone, or was ended.
async fn take_over(host: &Arc<Host>, name: String) -> Option<ProcessContainer> {
    let connection = match host.folder.connect(&name) {
        Ok(connection) => connection,
        Err(error) => {
            if error.kind() != io::ErrorKind::ConnectionRefused {
                tracing::warn!(socket = %name, %error, "what is in the folder of shims is none, and is removed");
            }
            host.folder.remove(&name);
            return None;
        }
    };
    let mut reader = MessageReader::default();
    let patience = Duration::from_millis(limits::ADOPTION_MS);
    let introduction = tokio::time::timeout(patience, introduction(&connection, &mut reader)).await;
    let problem = match introduction {
        Ok(Ok(Introduction { hello, recorded, pidfd, facts })) => {
            if let Ok(log) = host.options.logs.begin(&recorded.id)
                && connection.send(&Order::Cell, &[host.cell.as_fd()]).await.is_ok()
            {
                return Some(ProcessContainer::attend(ContainerParts {
                    recorded,
                    isolation: hello.isolation,
                    confiner: host.confiner.clone(),
                    work: host.work.clone(),
                    pod: None,
                    connection,
                    folder: host.folder.clone(),
                    name,
                    log,
                    pidfd,
                    facts,
                    reader,
                    version: hello.version,
                }));
            }
            Problem { what: "it can't be taken over".to_owned(), pidfd }
        }
        Ok(Err(problem)) => problem,
        Err(_) => Problem { what: "it does not answer in time".to_owned(), pidfd: None },
    };
    end(host, name, &connection, problem).await;
    None
}

struct Introduction {
    hello: Hello,
    recorded: Recorded,
    pidfd: Option<OwnedFd>,
    facts: Vec<Fact>,
}

/// Why a shim can't be taken over.
struct Problem {
    what: String,
    pidfd: Option<OwnedFd>,
}

/// What a shim says of itself and its container. May be cancelled.
async fn introduction(connection: &Connection, reader: &mut MessageReader) -> Result<Introduction, Problem> {
    let silent = || Problem { what: "it says nothing".to_owned(), pidfd: None };
    let mut first = connection.receive(reader).await.ok_or_else(silent)?;
    let pidfd = first.descriptors.pop();
    let hello = match Fact::decode(&first.body) {
        Read::Known(Fact::Hello(hello)) => hello,
        _ => {
            let what = match Fact::version_of_hello(&first.body) {
                Some(version) if version < WIRE_VERSION_OLDEST => format!(
                    "it speaks version {version} of the shims' wire and this agent version {WIRE_VERSION_OLDEST} or \
                     later: let the containers of an agent end before it is replaced by one that far apart"
                ),
                _ => "it says what no shim says".to_owned(),
            };
            return Err(Problem { what, pidfd });
        }
    };
    let Some(recorded) = hello.container.clone() else {
        return Err(Problem { what: "it does not say what it runs".to_owned(), pidfd });
    };
    let mut facts = Vec::new();
    for _ in 0..hello.known {
        let message = connection.receive(reader).await;
        match message.map_or(Read::Wrong, |message| Fact::decode(&message.body)) {
            Read::Known(fact) => facts.push(fact),
            // A later version's.
            Read::Unknown => {}
            Read::Wrong => {
                return Err(Problem { what: "it ends in the midst of what it says".to_owned(), pidfd });
            }
        }
    }
    Ok(Introduction { hello, recorded, pidfd, facts })
}

/// Kills a shim, and with it its namespace, and waits until it is gone.
async fn end(host: &Arc<Host>, name: String, connection: &Connection, problem: Problem) {
    let pidfd = problem.pidfd.or_else(|| pidfd_of_peer(connection));
    match &pidfd {
        Some(pidfd) => {
            tracing::error!(socket = %name, problem = %problem.what, "a shim can't be taken over, and is killed");
            let _ = sys::pidfd_kill(pidfd.as_fd());
        }
        // Its process ended after we had connected.
        None => tracing::warn!(socket = %name, problem = %problem.what, "a shim has ended without a word"),
    }
    if let Some(Ok(pidfd)) = pidfd.map(|pidfd| sys::watch(pidfd, Interest::READABLE)) {
        let patience = Duration::from_millis(limits::KILL_CONFIRM_MS);
        if tokio::time::timeout(patience, pidfd.readable()).await.is_err() {
            tracing::error!(socket = %name, "a shim that was killed does not end");
        }
    }
    host.folder.remove(&name);
}

/// A pidfd of whoever listens at the other end, if that is a shim.
fn pidfd_of_peer(connection: &Connection) -> Option<OwnedFd> {
    let pid = connection.peer()?;
    let pidfd = sys::pidfd_open(pid).ok()?;
    // Looked at after the pidfd was made: what it names can't be another process then.
    let name = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    name.starts_with(SHIM_NAME.as_bytes()).then_some(pidfd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::wire;
    use std::os::unix::net::UnixStream;

    /// The first word of a shim of this version, as it was recorded, and more if that version says more.
    fn hello(version: u32, known: u32, more: &[u8]) -> Vec<u8> {
        let mut bytes = b"shim".to_vec();
        for number in [version, 0, known] {
            bytes.extend(number.to_le_bytes());
        }
        for text in ["01234567-89ab-cdef-0123-456789abcdef", "main"] {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(3_u32.to_le_bytes());
        for text in ["sh", "/pod/work", ""] {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(more);
        bytes
    }

    async fn introduced(said: &[&[u8]]) -> Result<Introduction, Problem> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let connection = Connection::new(ours.into()).unwrap();
        for said in said {
            wire::send(theirs.as_fd(), &wire::framed(said), &[]).unwrap();
        }
        drop(theirs);
        introduction(&connection, &mut MessageReader::default()).await
    }

    /// A13: an upgrade, or the way back, ends nothing.
    #[tokio::test]
    async fn a13_shims_of_other_versions_are_understood() {
        let started = [&[2][..], &7_u64.to_le_bytes()].concat();
        // Of one that is written later: fields and a fact that nobody here knows.
        let (longer, strange) = ([&started[..], b"since"].concat(), [&[200][..], b"something"].concat());
        let versions = [
            (2, vec![hello(2, 1, b""), started.clone()]),
            (3, vec![hello(3, 1, b""), started]),
            (9, vec![hello(9, 2, b"more of it"), strange, longer]),
        ];
        for (version, said) in versions {
            let said: Vec<&[u8]> = said.iter().map(Vec::as_slice).collect();
            let found = introduced(&said).await.map_err(|problem| problem.what).unwrap();
            assert_eq!((found.hello.version, found.recorded.id.restart_count()), (version, 3));
            assert_eq!(
                (found.recorded.program.as_str(), found.recorded.home.as_slice()),
                ("sh", &b"/pod/work"[..])
            );
            assert_eq!(found.facts, [Fact::Started { at: 7 }]);
        }
    }

    #[tokio::test]
    async fn what_is_said_of_a_shim_that_is_not_understood_says_why() {
        for (said, expected) in [
            (hello(1, 0, b""), "speaks version 1"),
            (b"hello".to_vec(), "no shim says"),
            (Vec::new(), "says nothing"),
        ] {
            let said: Vec<&[u8]> = if said.is_empty() { Vec::new() } else { vec![&said] };
            let problem = introduced(&said).await.err().unwrap();
            assert!(problem.what.contains(expected), "{}", problem.what);
        }
    }
}
