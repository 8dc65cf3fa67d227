//! Why an image can't be had: [`Failure`], which every waiter of one pull gets a copy of.

use crate::{Error, ImageReason};
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::sync::Arc;

/// A problem with an image, without the image's name.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub reason: ImageReason,
    pub message: Arc<str>,
}

impl Failure {
    pub fn pull(message: impl Into<String>) -> Failure {
        Failure { reason: ImageReason::ErrImagePull, message: message.into().into() }
    }

    /// What was tried, and every reason below the error.
    pub fn because(what: &str, error: &(dyn StdError + 'static)) -> Failure {
        Failure::pull(format!("{what}: {}", chain(error)))
    }

    pub fn into_error(self, reference: &str) -> Error {
        Error::Image {
            reference: reference.to_owned(),
            reason: self.reason,
            message: self.message.as_ref().to_owned(),
        }
    }
}

/// The error and what caused it, most of which say nothing by themselves.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some repeat their cause already.
        if !text.contains(&next) {
            // Writing to a String does not fail.
            let _ = write!(text, ": {next}");
        }
        cause = error.source();
    }
    text
}
