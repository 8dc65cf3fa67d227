//! Calls about the cluster itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use stint_proto::v1;
use stint_proto::v1::cluster_client::ClusterClient;
use stint_proto::v1::member_reference;
use tonic::Streaming;

use crate::connection::{Client, Effect, refused};
use crate::error::Error;

impl Client {
    /// What a server knows of the cluster; also answered when there is no leader. If the server that is asked knows of no
    /// leader, as one that is cut off does, the others are asked too.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// let status = client.cluster_status().await?;
    /// println!("{} leads {} servers", status.leader.unwrap_or_default(), status.members.len());
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// Those of every call.
    pub async fn cluster_status(&self) -> Result<v1::ClusterStatus, Error> {
        let begun = Instant::now();
        let mut first: Option<v1::ClusterStatus> = None;
        for _ in 0..self.servers().count() {
            let left = self.with_timeout(self.timeout().saturating_sub(begun.elapsed()));
            let asked =
                left.unary(Effect::Read, v1::ClusterStatusRequest {}, |channel, request| async move {
                    ClusterClient::new(channel).status(request).await
                });
            match (asked.await, first.take()) {
                (Ok(answer), None) if answer.leader.is_none() => first = Some(answer),
                (Ok(answer), _) if answer.leader.is_some() => return Ok(answer),
                (_, Some(earlier)) => first = Some(earlier),
                (Ok(answer), None) => return Ok(answer),
                (Err(error), None) => return Err(error),
            }
            self.servers().ask_another();
        }
        first.ok_or_else(|| Error::answer("no status"))
    }

    /// Lets a new server in.
    ///
    /// # Errors
    /// `AlreadyExists`, `FailedPrecondition`, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn add_member(&self, request: v1::AddMemberRequest) -> Result<Option<v1::Member>, Error> {
        let answer = self
            .unary(Effect::Write, request, |channel, request| async move {
                ClusterClient::new(channel).add_member(request).await
            })
            .await?;
        Ok(answer.member)
    }

    /// Takes a server out: by its name or, where two have one name for a while, by its id.
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition`, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn remove_member(&self, member: member_reference::Member) -> Result<Vec<v1::Member>, Error> {
        let member = Some(v1::MemberReference { member: Some(member) });
        let request = v1::RemoveMemberRequest { member };
        let answer = self
            .unary(Effect::Write, request, |channel, request| async move {
                ClusterClient::new(channel).remove_member(request).await
            })
            .await?;
        Ok(answer.members)
    }

    /// Puts a server with an empty folder in the place of a lost one of the same name, which is named as in
    /// [`Client::remove_member`].
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition`, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn replace_member(
        &self,
        member: member_reference::Member,
        peer_address: &str,
    ) -> Result<Option<v1::Member>, Error> {
        let request = v1::ReplaceMemberRequest {
            member: Some(v1::MemberReference { member: Some(member) }),
            peer_address: peer_address.to_owned(),
            address: String::new(),
        };
        let answer = self
            .unary(Effect::Write, request, |channel, request| async move {
                ClusterClient::new(channel).replace_member(request).await
            })
            .await?;
        Ok(answer.member)
    }

    /// Hands leadership over, to the named server or to the one that is furthest ahead.
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition`, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn transfer_leadership(&self, target: Option<&str>) -> Result<String, Error> {
        let request = v1::TransferLeadershipRequest { target: target.map(by_name) };
        let answer = self
            .unary(Effect::Write, request, |channel, request| async move {
                ClusterClient::new(channel).transfer_leadership(request).await
            })
            .await?;
        Ok(answer.leader)
    }

    /// Saves a snapshot of everything. Unless `stale`, it has all that was acknowledged before; if so, it is what the server that
    /// is asked has, which may be without a leader. Don't use a file before `stint snapshot inspect` finds it whole.
    ///
    /// # Errors
    /// `FailedPrecondition`, and those of every call.
    pub async fn save_snapshot(&self, stale: bool) -> Result<SnapshotPieces, Error> {
        let request = v1::SaveSnapshotRequest { stale };
        let opened = self.call(Effect::Read, |channel| async move {
            ClusterClient::new(channel).save_snapshot(request).await
        });
        Ok(SnapshotPieces { stream: opened.await?.into_inner(), patience: self.timeout() })
    }

    /// Changes settings of the cluster; all of them after the change.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::v1::ChangeSettingsRequest;
    ///
    /// let request = ChangeSettingsRequest { event_retention_ms: Some(3_600_000), ..Default::default() };
    /// let settings = client.change_settings(request).await?;
    /// println!("a lease lasts {} ms", settings.node_lease_ms);
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `BadRequest`, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn change_settings(
        &self,
        request: v1::ChangeSettingsRequest,
    ) -> Result<v1::ClusterSettings, Error> {
        let answer = self
            .unary(Effect::Write, request, |channel, request| async move {
                ClusterClient::new(channel).change_settings(request).await
            })
            .await?;
        answer.settings.ok_or_else(|| Error::answer("an answer without settings"))
    }
}

/// A snapshot that is being saved.
#[derive(Debug)]
pub struct SnapshotPieces {
    stream: Streaming<v1::SaveSnapshotResponse>,
    patience: Duration,
}

impl SnapshotPieces {
    /// The next bytes of the file; none after the last ones.
    ///
    /// # Errors
    /// If the server broke off, or nothing came for as long as a call may take. What came is no snapshot then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match tokio::time::timeout(self.patience, self.stream.message()).await {
            Ok(Ok(Some(piece))) => Ok(Some(piece.data)),
            Ok(Ok(None)) => Ok(None),
            Ok(Err(status)) => Err(refused(&status)),
            Err(_) => Err(Error::Unavailable {
                timeout: self.patience,
                last: "the server has sent nothing more of the snapshot".to_owned(),
            }),
        }
    }
}

fn by_name(name: &str) -> v1::MemberReference {
    v1::MemberReference { member: Some(member_reference::Member::Name(name.to_owned())) }
}
