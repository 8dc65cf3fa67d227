//! What a program of the host is given, checked and made ready for `execve`.
//!
//! Owns: the argument list and the environment. Does not own: whether it may run, as whom, in which surroundings.
//!
//! Environment of a payload: the given entries, in order, a later one of the same name replacing an earlier one, each
//! value expanded against the entries before it; then, if not given, `PATH` ([`PATH_DEFAULT`]) and `HOME` (the Pod's
//! working folder), and with a terminal `TERM` ([`TERM_DEFAULT`]). Nothing of the agent's own environment, and nothing else,
//! not even `HOSTNAME`.

use crate::expand::expand_variables;
use crate::shim::confine::Confinement;
use crate::{ContainerSpec, Error, limits};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `PATH` of a payload that was given none: that of common images.
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `TERM` of a payload with a terminal that was given none, as from container engines.
pub const TERM_DEFAULT: &str = "xterm";

/// What the payload gets, ready for `execve`: no text contains a NUL byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Payload {
    pub arguments: Vec<Vec<u8>>,
    pub environment: Vec<Vec<u8>>,
    /// Where the program begins, unless `working_directory` says something else.
    pub home: Vec<u8>,
    /// Empty: `home`. A relative one is below it.
    pub working_directory: Vec<u8>,
    /// CLOCK_BOOTTIME in nanoseconds.
    pub start_before: Option<u64>,
    /// What it sees, who it is, what it may do.
    pub confinement: Confinement,
    /// What the program's own root is made of, as `oci::launch` has it; empty: it has the host's.
    pub launch: Vec<u8>,
}

impl Payload {
    /// Expands and checks; confined to nothing. `home` is where the program begins, and its `HOME`.
    pub fn new(spec: &ContainerSpec, home: &Path) -> Result<Payload, Error> {
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
            environment.push([b"HOME=", home.as_os_str().as_bytes()].concat());
        }
        if spec.streams.terminal && !known.contains_key("TERM") {
            environment.push(format!("TERM={TERM_DEFAULT}").into_bytes());
        }
        if !home.is_absolute() {
            return Err(unrepresentable(container, "the Pod's folder".to_owned(), "is not an absolute path"));
        }
        let working_directory = spec.working_directory.as_deref().unwrap_or(Path::new(""));
        let payload = Payload {
            arguments,
            environment,
            home: home.as_os_str().as_bytes().to_vec(),
            working_directory: working_directory.as_os_str().as_bytes().to_vec(),
            start_before: spec
                .start_before
                .map(|moment| u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)),
            confinement: Confinement::default(),
            launch: Vec::new(),
        };
        payload.check(container)?;
        Ok(payload)
    }

    fn check(&self, container: &str) -> Result<(), Error> {
        let parts = [
            ("command or argument", self.arguments.as_slice()),
            ("environment variable", self.environment.as_slice()),
            ("the Pod's folder", std::slice::from_ref(&self.home)),
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

fn unrepresentable(container: &str, what: String, problem: &'static str) -> Error {
    Error::Unrepresentable { container: container.to_owned(), what, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContainerId;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn spec(command: &[&str], env: &[(&str, &str)]) -> ContainerSpec {
        ContainerSpec {
            command: command.iter().map(|text| (*text).to_owned()).collect(),
            args: vec!["$(B)".to_owned()],
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..ContainerSpec::new(ContainerId::new(UID, "main", 0).unwrap())
        }
    }

    #[test]
    fn environment_expands_against_earlier_entries_only() {
        let env = [("A", "1"), ("B", "$(A)$(C)"), ("C", "$$(A)"), ("A", "2"), ("D", "$(A)")];
        let payload = Payload::new(&spec(&["echo", "$(D)"], &env), Path::new("/pods/x")).unwrap();
        assert_eq!(payload.arguments, [b"echo".to_vec(), b"2".to_vec(), b"1$(C)".to_vec()]);
        let texts: Vec<_> = payload.environment.iter().map(|text| String::from_utf8_lossy(text)).collect();
        let path = format!("PATH={PATH_DEFAULT}");
        assert_eq!(texts, ["A=2", "B=1$(C)", "C=$(A)", "D=2", &path, "HOME=/pods/x"]);
    }

    #[test]
    fn a_terminal_has_a_kind_unless_one_is_given() {
        let with_terminal = |env: &[(&str, &str)]| {
            let mut spec = spec(&["true"], env);
            spec.streams.terminal = true;
            Payload::new(&spec, Path::new("/pods/x")).unwrap().environment
        };
        assert!(with_terminal(&[]).contains(&b"TERM=xterm".to_vec()));
        assert!(
            with_terminal(&[("TERM", "vt100")]).iter().filter(|text| text.starts_with(b"TERM=")).count() == 1
        );
        assert!(
            !Payload::new(&spec(&["true"], &[]), Path::new("/p"))
                .unwrap()
                .environment
                .iter()
                .any(|text| text.starts_with(b"TERM="))
        );
    }

    #[test]
    fn given_path_and_home_stand() {
        let payload =
            Payload::new(&spec(&["true"], &[("PATH", "/x"), ("HOME", "/y")]), Path::new("/pods/x")).unwrap();
        assert_eq!(payload.environment, [b"PATH=/x".to_vec(), b"HOME=/y".to_vec()]);
    }

    #[test]
    fn what_no_program_can_be_given_is_refused() {
        let message = Payload::new(&spec(&[], &[]), Path::new("/pods/x")).unwrap_err().to_string();
        assert!(message.contains("entrypoint is in the image"), "{message}");
        assert!(Payload::new(&spec(&["a\0b"], &[]), Path::new("/pods/x")).is_err());
        assert!(Payload::new(&spec(&["a"], &[("A=B", "c")]), Path::new("/pods/x")).is_err());
        assert!(Payload::new(&spec(&["a"], &[("", "c")]), Path::new("/pods/x")).is_err());
        assert!(Payload::new(&spec(&["a"], &[("A", "\0")]), Path::new("/pods/x")).is_err());
        let big = "x".repeat(limits::SPEC_BYTES_MAX + 1);
        assert!(matches!(
            Payload::new(&spec(&[&big], &[]), Path::new("/pods/x")),
            Err(Error::SpecTooLarge { .. })
        ));
        assert!(Payload::new(&spec(&["a"], &[]), Path::new("pods")).is_err());
    }
}
