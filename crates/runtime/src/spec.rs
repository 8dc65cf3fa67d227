//! What is to be run, checked and made ready for `execve`.
//!
//! Owns: the names that may become paths, the payload's argument list and environment. Does not own: whether it may run.
//!
//! Environment of a payload: the given entries, in order, a later one of the same name replacing an earlier one, each
//! value expanded against the entries before it; then, if not given, `PATH` ([`PATH_DEFAULT`]) and `HOME` (the Pod's
//! folder). Nothing of the agent's own environment, and nothing else, not even `HOSTNAME`.

use crate::expand::expand_variables;
use crate::{Error, LogLimits, limits};
use std::collections::HashMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `PATH` of a payload that was given none: that of common images.
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Which run of which container (A15). Its parts are checked, so it can be made a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId {
    pod_uid: String,
    container_name: String,
    restart_count: u32,
}

impl ContainerId {
    /// Checks that `pod_uid` is a UUID in lower-case hexadecimal and `container_name` a DNS label.
    pub fn new(pod_uid: &str, container_name: &str, restart_count: u32) -> Result<ContainerId, Error> {
        check_pod_uid(pod_uid)?;
        if !is_dns_label(container_name) {
            return Err(Error::ContainerName { text: container_name.to_owned() });
        }
        Ok(ContainerId {
            pod_uid: pod_uid.to_owned(),
            container_name: container_name.to_owned(),
            restart_count,
        })
    }

    /// The Pod.
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    /// The container's name in its Pod.
    pub fn container_name(&self) -> &str {
        &self.container_name
    }

    /// How often it was started before in place.
    pub fn restart_count(&self) -> u32 {
        self.restart_count
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.pod_uid, self.container_name, self.restart_count)
    }
}

/// What to run. Texts are as the user wrote them: `$(VAR)` is expanded by the runtime.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Which run of which container; also the address of its log.
    pub id: ContainerId,
    /// Program and first arguments. Without a `/` the program is looked for in the payload's own `PATH`.
    pub command: Vec<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// Working folder, which must exist; a relative one is below the Pod's. `None`: the Pod's folder.
    pub working_directory: Option<PathBuf>,
    /// The Pod's own folder, absolute. It is made with mode 0700 if missing, with its parents; removing it is the
    /// caller's business.
    pub pod_directory: PathBuf,
    /// How much output is kept.
    pub log_limits: LogLimits,
    /// By CLOCK_BOOTTIME: at or after this moment the program is not executed any more (A9). It is looked at by the process
    /// that executes it, as its very last step, so that nothing that holds up the agent can make a start too late.
    pub start_before: Option<Duration>,
}

/// What the payload gets, ready for `execve`: no text contains a NUL byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Payload {
    pub arguments: Vec<Vec<u8>>,
    pub environment: Vec<Vec<u8>>,
    pub pod_directory: Vec<u8>,
    /// Empty: the Pod's folder.
    pub working_directory: Vec<u8>,
    /// CLOCK_BOOTTIME in nanoseconds.
    pub start_before: Option<u64>,
}

impl Payload {
    /// Expands and checks.
    pub fn new(spec: &ContainerSpec) -> Result<Payload, Error> {
        let container = spec.id.container_name();
        if spec.command.is_empty() {
            return Err(Error::NoCommand { container: container.to_owned() });
        }
        let mut known: HashMap<String, String> = HashMap::with_capacity(spec.env.len());
        let mut names: Vec<&str> = Vec::with_capacity(spec.env.len() + 2);
        for (name, value) in &spec.env {
            if name.is_empty() || name.contains('=') {
                return Err(unrepresentable(
                    container,
                    format!("environment variable {name:?}"),
                    "has no usable name",
                ));
            }
            let value = expand_variables(value, &known);
            if known.insert(name.clone(), value).is_none() {
                names.push(name);
            }
        }
        let texts = spec.command.iter().chain(&spec.args);
        let arguments: Vec<_> = texts.map(|text| expand_variables(text, &known).into_bytes()).collect();
        let mut environment: Vec<_> =
            names.iter().map(|name| format!("{name}={}", known[*name]).into_bytes()).collect();
        if !known.contains_key("PATH") {
            environment.push(format!("PATH={PATH_DEFAULT}").into_bytes());
        }
        if !known.contains_key("HOME") {
            environment.push([b"HOME=", spec.pod_directory.as_os_str().as_bytes()].concat());
        }
        if !spec.pod_directory.is_absolute() {
            return Err(unrepresentable(container, "the Pod's folder".to_owned(), "is not an absolute path"));
        }
        let working_directory = spec.working_directory.as_deref().unwrap_or(Path::new(""));
        let payload = Payload {
            arguments,
            environment,
            pod_directory: spec.pod_directory.as_os_str().as_bytes().to_vec(),
            working_directory: working_directory.as_os_str().as_bytes().to_vec(),
            start_before: spec
                .start_before
                .map(|moment| u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)),
        };
        payload.check(container)?;
        Ok(payload)
    }

    fn check(&self, container: &str) -> Result<(), Error> {
        let parts = [
            ("command or argument", self.arguments.as_slice()),
            ("environment variable", self.environment.as_slice()),
            ("the Pod's folder", std::slice::from_ref(&self.pod_directory)),
            ("workingDir", std::slice::from_ref(&self.working_directory)),
        ];
        let mut bytes = 0;
        for (what, texts) in parts {
            for text in texts {
                bytes += text.len();
                if text.contains(&0) {
                    let start = String::from_utf8_lossy(&text[..text.len().min(64)]).into_owned();
                    return Err(unrepresentable(
                        container,
                        format!("{what} {start:?}"),
                        "contains a NUL byte",
                    ));
                }
            }
        }
        if bytes > limits::SPEC_BYTES_MAX {
            return Err(Error::SpecTooLarge { container: container.to_owned(), bytes });
        }
        Ok(())
    }
}

/// Checks that a text is a UUID in lower-case hexadecimal, 8-4-4-4-12.
pub(crate) fn check_pod_uid(text: &str) -> Result<(), Error> {
    let well_formed = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if well_formed { Ok(()) } else { Err(Error::PodUid { text: text.chars().take(64).collect() }) }
}

fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn unrepresentable(container: &str, what: String, problem: &'static str) -> Error {
    Error::Unrepresentable { container: container.to_owned(), what, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn spec(command: &[&str], env: &[(&str, &str)]) -> ContainerSpec {
        ContainerSpec {
            id: ContainerId::new(UID, "main", 0).unwrap(),
            command: command.iter().map(|text| (*text).to_owned()).collect(),
            args: vec!["$(B)".to_owned()],
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            working_directory: None,
            pod_directory: PathBuf::from("/pods/x"),
            log_limits: LogLimits::default(),
            start_before: None,
        }
    }

    #[test]
    fn names_that_could_escape_as_paths_are_refused() {
        for uid in
            ["", "..", "../../etc", "01234567-89AB-cdef-0123-456789abcdef", &format!("{UID}/"), &UID[1..]]
        {
            assert!(ContainerId::new(uid, "main", 0).is_err(), "uid {uid:?}");
        }
        let long = "a".repeat(64);
        for name in ["", ".", "..", "a/b", "a.b", "-a", "a-", "A", "a\0", "ä", &long] {
            assert!(ContainerId::new(UID, name, 0).is_err(), "name {name:?}");
        }
        assert!(ContainerId::new(UID, "a-1", 7).is_ok());
    }

    #[test]
    fn environment_expands_against_earlier_entries_only() {
        let env = [("A", "1"), ("B", "$(A)$(C)"), ("C", "$$(A)"), ("A", "2"), ("D", "$(A)")];
        let payload = Payload::new(&spec(&["echo", "$(D)"], &env)).unwrap();
        assert_eq!(payload.arguments, [b"echo".to_vec(), b"2".to_vec(), b"1$(C)".to_vec()]);
        let texts: Vec<_> = payload.environment.iter().map(|text| String::from_utf8_lossy(text)).collect();
        let path = format!("PATH={PATH_DEFAULT}");
        assert_eq!(texts, ["A=2", "B=1$(C)", "C=$(A)", "D=2", &path, "HOME=/pods/x"]);
    }

    #[test]
    fn given_path_and_home_stand() {
        let payload = Payload::new(&spec(&["true"], &[("PATH", "/x"), ("HOME", "/y")])).unwrap();
        assert_eq!(payload.environment, [b"PATH=/x".to_vec(), b"HOME=/y".to_vec()]);
    }

    #[test]
    fn what_no_program_can_be_given_is_refused() {
        let message = Payload::new(&spec(&[], &[])).unwrap_err().to_string();
        assert!(message.contains("entrypoint is in the image"), "{message}");
        assert!(Payload::new(&spec(&["a\0b"], &[])).is_err());
        assert!(Payload::new(&spec(&["a"], &[("A=B", "c")])).is_err());
        assert!(Payload::new(&spec(&["a"], &[("", "c")])).is_err());
        assert!(Payload::new(&spec(&["a"], &[("A", "\0")])).is_err());
        let big = "x".repeat(limits::SPEC_BYTES_MAX + 1);
        assert!(matches!(Payload::new(&spec(&[&big], &[])), Err(Error::SpecTooLarge { .. })));
        let relative = ContainerSpec { pod_directory: PathBuf::from("pods"), ..spec(&["a"], &[]) };
        assert!(Payload::new(&relative).is_err());
    }
}
