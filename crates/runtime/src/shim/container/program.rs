//! The last step of a container's main process: its program.

use super::super::messages::{NotExecuted, Stage};
use super::super::{payload, sys};
use crate::payload::Payload;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::sys::stat::{Mode, umask};
use nix::unistd::write;
use oci_spec::runtime::Spec;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Executes the payload as any payload is executed, instead of as libcontainer would.
#[derive(Clone)]
pub(super) struct Program {
    pub payload: Arc<Payload>,
    /// Closed by the exec, so its end says that the program runs; a failure comes through it.
    pub reporter: Arc<OwnedFd>,
    /// Its streams are a terminal, which is to be the one of its session.
    pub terminal: bool,
}

impl Executor for Program {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        umask(Mode::from_bits_truncate(0o022));
        // The session is its own already.
        let controlled = if self.terminal { sys::make_controlling_terminal() } else { Ok(()) };
        let why = match controlled {
            Ok(()) => payload::execute_program(&self.payload),
            Err(errno) => {
                let text = "the program's terminal".to_owned();
                NotExecuted { stage: Stage::Container, errno, text }
            }
        };
        let _ = write(self.reporter.as_fd(), &why.encode());
        sys::exit_now(payload::exit_code(why.stage, why.errno))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// The payload has its own.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}
