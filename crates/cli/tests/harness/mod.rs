//! A real `stint dev`, commands against it, and terminals to run them in.

#![allow(dead_code, unused_imports, reason = "each test crate uses a part of it")]

mod terminal;

pub use terminal::Terminal;

use serde_json::Value;
use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const SOON: Duration = Duration::from_secs(60);

/// A running `stint dev`, ended when dropped.
pub struct Dev {
    pub folder: TempDir,
    pub child: Child,
    pub address: String,
}

impl Dev {
    pub fn start() -> Dev {
        let folder = TempDir::with_prefix("stint-command-line-test.").unwrap();
        let address_file = folder.path().join("address");
        let errors = std::fs::File::create(folder.path().join("dev.stderr")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stint"))
            .args(["dev", "--listen", "127.0.0.1:0", "--node-lease", "20s"])
            // Relative, as people write it.
            .args(["--data-dir", "data", "--address-file", "address"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        let mut dev = Dev { folder, child, address: String::new() };
        let text = until("stint dev is ready", || std::fs::read_to_string(&address_file).ok());
        dev.address = text.trim().to_owned();
        dev
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_stint"), arguments)
    }

    /// A program in whose environment is how this is reached.
    pub fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("STINT_SERVER", &self.address).env("TERM", "xterm");
        // Whoever runs the tests may have contexts.
        command.env("STINT_CONFIG", self.folder.path().join("config.toml"));
        for name in ["STINT_TOKEN_FILE", "STINT_NAMESPACE", "STINT_CONTEXT", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
    }

    pub fn stint(&self, arguments: &[&str]) -> Outcome {
        self.stint_with(arguments, "")
    }

    pub fn stint_with(&self, arguments: &[&str], input: &str) -> Outcome {
        Running::start(self.command(arguments), input).end()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.stint(arguments).success()).unwrap()
    }

    /// The name of a Pod of a Job in this phase.
    pub fn pod_of(&self, job: &str, phase: &str) -> Option<String> {
        let list = self.json(&["get", "pods", "-l", &format!("job-name={job}"), "-o", "json"]);
        let pod = list["items"].as_array()?.iter().find(|pod| pod["status"]["phase"] == phase)?;
        Some(pod["metadata"]["name"].as_str()?.to_owned())
    }

    pub fn job_names(&self) -> String {
        self.stint(&["get", "jobs", "-A", "-o", "name"]).success().replace("job.batch/", "")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A command that runs.
pub struct Running {
    pub child: Child,
}

impl Running {
    pub fn start(mut command: Command, input: &str) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The inputs of these tests fit into a pipe; a command that reads nothing closes it.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        Running { child }
    }

    /// Runs a command without input that may be run again.
    pub fn start_again(command: &mut Command) -> Outcome {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: command.spawn().unwrap() }.end()
    }

    pub fn interrupt(&self) {
        signal(self.child.id(), "-INT");
    }

    pub fn end(self) -> Outcome {
        let output = self.child.wait_with_output().unwrap();
        Outcome {
            code: code(output.status),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Sends a signal to a process.
pub fn signal(process: u32, signal: &str) {
    let status = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(status.success());
}

#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// It failed in order, said this on stderr, and printed no data.
    pub fn failure(self, code: i32, expected: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(expected), "expected {expected:?}: {self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0))
}

pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

pub fn job(name: &str, spec: &str, script: &str) -> String {
    format!(
        "---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  {spec}\n  \
         template:\n    spec:\n      restartPolicy: Never\n      terminationGracePeriodSeconds: 1\n      containers:\n      \
         - {{name: main, image: none, command: [sh, -c, '{script}']}}\n"
    )
}
