//! Whether a container's probes and hooks can be accepted.
//!
//! Owns: their numbers and commands, which containers may have them. Does not own: how they are run (`agent`).

use super::pod::Role;
use super::{check_no_nul, check_not_negative};
use crate::container::{Container, ExecAction, LifecycleHandler, Probe, signal_number};
use crate::field_error::FieldError;
use crate::limits;

pub(super) fn validate(
    path: &str,
    container: &Container,
    role: Role,
    grace_seconds: i64,
    errors: &mut Vec<FieldError>,
) {
    if let Some(lifecycle) = &container.lifecycle {
        let path = format!("{path}.lifecycle");
        if role == Role::Init {
            errors.push(not_for_init(&path));
        }
        for (field, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            match handler {
                Some(LifecycleHandler::Exec(exec)) => {
                    validate_exec(&format!("{path}.{field}.exec"), exec, errors);
                }
                Some(LifecycleHandler::Sleep(sleep))
                    if !(0..=grace_seconds.max(0)).contains(&sleep.seconds) =>
                {
                    let field = format!("{path}.{field}.sleep");
                    let detail = format!(
                        "must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})"
                    );
                    errors.push(FieldError::invalid(field, sleep.seconds, detail));
                }
                Some(LifecycleHandler::Sleep(_)) | None => {}
            }
        }
        if let Some(signal) = &lifecycle.stop_signal
            && signal_number(signal).is_none()
        {
            let detail = "must be the name of a signal, such as SIGTERM or SIGRTMIN+3";
            errors.push(FieldError::invalid_text(format!("{path}.stopSignal"), signal, detail));
        }
    }
    for (field, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(probe) = probe else { continue };
        let path = format!("{path}.{field}");
        if role == Role::Init {
            errors.push(not_for_init(&path));
        }
        validate_probe(&path, probe, field == "readinessProbe", errors);
    }
}

fn not_for_init(field: &str) -> FieldError {
    FieldError::forbidden(field, "may not be set for init containers without restartPolicy=Always")
}

fn validate_probe(path: &str, probe: &Probe, is_readiness: bool, errors: &mut Vec<FieldError>) {
    validate_exec(&format!("{path}.exec"), &probe.exec, errors);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        check_not_negative(format!("{path}.{field}"), i64::from(value), errors);
    }
    if !is_readiness && probe.success_threshold != 1 {
        let field = format!("{path}.successThreshold");
        errors.push(FieldError::invalid(field, probe.success_threshold, "must be 1"));
    }
    if let Some(grace) = probe.termination_grace_period_seconds {
        let field = format!("{path}.terminationGracePeriodSeconds");
        if is_readiness {
            errors.push(FieldError::invalid(field, grace, "must not be set for readinessProbes"));
        } else if grace <= 0 {
            errors.push(FieldError::invalid(field, grace, "must be greater than 0"));
        } else if grace > limits::GRACE_PERIOD_SECONDS_MAX {
            let detail = format!("must be less than or equal to {}", limits::GRACE_PERIOD_SECONDS_MAX);
            errors.push(FieldError::invalid(field, grace, detail));
        }
    }
}

fn validate_exec(path: &str, exec: &ExecAction, errors: &mut Vec<FieldError>) {
    if exec.command.is_empty() {
        errors.push(FieldError::required(format!("{path}.command"), ""));
    }
    for (position, text) in exec.command.iter().enumerate() {
        check_no_nul(format!("{path}.command[{position}]"), text, errors);
    }
}
