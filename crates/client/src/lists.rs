//! Lists, page by page.
//!
//! Owns: reading all pages of one revision. Does not own: requests.

use std::fmt::Display;
use std::future::Future;

use stint_proto::v1;
use tonic::{Response, Status};

use crate::connection::{AuthenticatedChannel, Client};
use crate::error::Error;
use crate::limits;
use crate::retry::Effect;

/// Objects of a list, and the revision that it shows: a watch from there misses nothing.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The objects.
    pub items: Vec<T>,
    /// Revision of the list.
    pub revision: u64,
}

impl<T> IntoIterator for Listed<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl Client {
    /// Reads page after page, until there are so many objects; begins anew if a page expired meanwhile. `request` makes the
    /// request for the page of a token, `parts` takes an answer apart.
    pub(crate) async fn list<T, Q, A, W, F, Attempt>(
        &self,
        items_max: usize,
        request: impl Fn(String) -> Q,
        send: F,
        parts: impl Fn(A) -> (Vec<W>, Option<v1::ListMeta>),
    ) -> Result<Listed<T>, Error>
    where
        Q: prost::Message + Clone,
        W: TryInto<T, Error: Display>,
        F: Fn(AuthenticatedChannel, Q) -> Attempt,
        Attempt: Future<Output = Result<Response<A>, Status>>,
    {
        let mut restarts = 0;
        'anew: loop {
            let mut items = Vec::new();
            let mut token = String::new();
            loop {
                let asked = token.clone();
                let answer = match self.unary(Effect::Read, request(token), &send).await {
                    Ok(answer) => answer,
                    Err(error) if error.is_expired() && restarts < limits::LIST_RESTARTS_MAX => {
                        restarts += 1;
                        continue 'anew;
                    }
                    Err(error) => return Err(error),
                };
                let (page, metadata) = parts(answer);
                for object in page {
                    items.push(object.try_into().map_err(Error::answer)?);
                }
                let metadata = metadata.unwrap_or_default();
                if metadata.continue_token.is_empty() || items.len() >= items_max {
                    return Ok(Listed { items, revision: metadata.resource_version });
                }
                if metadata.continue_token == asked {
                    return Err(Error::answer("a page that leads to itself"));
                }
                token = metadata.continue_token;
            }
        }
    }
}
