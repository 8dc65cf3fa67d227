//! Changes of the membership (decision 13), made by the leader.
//!
//! Owns: admitting, promoting, adding, removing and replacing members, their addresses, handing leadership over. Does not
//! own: how a server finds its cluster (module `bootstrap`).
//!
//! Invariants: an id is never used twice; a server is promoted only when its log has caught up; the old id of a name
//! goes in the same joint change that promotes the new one, and only if it does not answer; no change is made that
//! would leave the voters that answer and follow without a majority; a name that several members have removes none of
//! them while one answers. All of it is level-triggered: a new leader goes on where the old one stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::errors::{ClientWriteError, RaftError};
use stint_api::MemberId;
use stint_core::{Command, Reply};
use tokio::time::Instant;

use crate::limits::{
    HEARTBEAT_INTERVAL_MS, MEMBER_REACHABLE_MS, MEMBERSHIP_CHANGE_TIMEOUT_MS, PROMOTION_LAG_ENTRIES_MAX,
    TRANSFER_TIMEOUT_MS,
};
use crate::running::{Metrics, ProposeError, Running};
use crate::status::{LeaderInfo, Member};
use crate::types::{MemberInfo, TypeConfig};

/// Why a membership was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Certainly not changed: ask the leader.
    #[error("this server is not the leader; ask {}", leader_name(.leader.as_ref()))]
    NotLeader {
        /// None: none is known.
        leader: Option<LeaderInfo>,
    },
    /// Certainly not changed: the request cannot be carried out as things are.
    #[error("{0}")]
    Refused(String),
    /// May have been changed, or may be later: look at the status.
    #[error("the outcome is unknown: {0}; look at the status")]
    Unknown(String),
}

/// Which member is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberSelector<'a> {
    /// Whoever has this name: several, while one takes the place of another.
    Name(&'a str),
    /// The one with this id.
    Id(MemberId),
}

/// What becomes of a server that asks to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is a learner under this id.
    Admitted(MemberId),
    /// Not as things are.
    Refused(String),
    /// Not now, or not here: ask again.
    Later,
}

type Change = ChangeMembers<u64, MemberInfo>;

impl Running {
    /// A server with an empty folder asks for a place. It gets a new id as a learner if its name is that of a member that
    /// does not answer.
    pub(crate) async fn admit(&self, info: MemberInfo) -> Admission {
        let _one_at_a_time = self.changes.lock().await;
        let metrics = self.metrics();
        if !self.leadership().established || !self.can_judge_reachability() {
            return Admission::Later;
        }
        let namesakes: Vec<Member> =
            self.members().into_iter().filter(|member| member.info.name == info.name).collect();
        if namesakes.is_empty() {
            return Admission::Refused(format!(
                "{:?} is not a member of cluster {}: run `stint member add {}={}` first",
                info.name, self.cluster_id, info.name, info.peer_address
            ));
        }
        if let Some(alive) = namesakes.iter().find(|member| reachable(&metrics, member.id)) {
            return Admission::Refused(format!(
                "{:?} is member {} of cluster {} and alive: two servers cannot have one name. If the new one shall take \
                 its place, run `stint member replace {}`",
                info.name, alive.id, self.cluster_id, info.name
            ));
        }
        let admitted = async {
            let id = self.reserve_member_id().await?;
            tracing::info!(name = info.name, member = id.0, "admits a server as a learner");
            self.change(ChangeMembers::AddNodes(BTreeMap::from([(id.0, info)])), true).await?;
            Ok::<_, MembershipError>(id)
        };
        match admitted.await {
            Ok(id) => Admission::Admitted(id),
            Err(MembershipError::Refused(message)) => Admission::Refused(message),
            Err(error) => {
                tracing::warn!(%error, "could not admit a server");
                Admission::Later
            }
        }
    }

    /// Makes a place for a new server: a learner under a reserved id that waits for a server of this name to join.
    pub(crate) async fn add_member(&self, info: MemberInfo) -> Result<MemberId, MembershipError> {
        let _one_at_a_time = self.changes.lock().await;
        self.must_lead()?;
        if let Some(member) = self.members().iter().find(|member| member.info.name == info.name) {
            return Err(MembershipError::Refused(format!(
                "{:?} is already member {}: choose another name, or replace it",
                info.name, member.id
            )));
        }
        self.must_be_free_address(&info, &[])?;
        let id = self.reserve_member_id().await?;
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id.0, info)])), true).await?;
        Ok(id)
    }

    /// Removes an id, or all ids of a name.
    pub(crate) async fn remove_member(&self, which: MemberSelector<'_>) -> Result<(), MembershipError> {
        let _one_at_a_time = self.changes.lock().await;
        let gone = self.removable(which).await?;
        let changes = removing(&gone.iter().collect::<Vec<_>>());
        self.change(ChangeMembers::Batch(changes), false).await
    }

    /// Removes an id, or all ids of a name, and makes a place for `info` instead, in one change.
    pub(crate) async fn replace_member(
        &self,
        which: MemberSelector<'_>,
        info: MemberInfo,
    ) -> Result<MemberId, MembershipError> {
        let _one_at_a_time = self.changes.lock().await;
        let gone = self.removable(which).await?;
        self.must_be_free_name(which, &info.name, &gone).await?;
        self.must_be_free_address(&info, &gone)?;
        let mut changes = removing(&gone.iter().collect::<Vec<_>>());
        let id = self.reserve_member_id().await?;
        changes.push(ChangeMembers::AddNodes(BTreeMap::from([(id.0, info)])));
        self.change(ChangeMembers::Batch(changes), false).await?;
        Ok(id)
    }

    /// Notes where a member is reached now.
    pub(crate) async fn set_addresses(
        &self,
        id: MemberId,
        peer_address: String,
        client_address: String,
    ) -> Result<(), MembershipError> {
        let _one_at_a_time = self.changes.lock().await;
        self.must_lead()?;
        let member = self.members().into_iter().find(|member| member.id == id).ok_or_else(|| {
            MembershipError::Refused(format!("member {id} is not in cluster {}", self.cluster_id))
        })?;
        let info = MemberInfo { name: member.info.name.clone(), peer_address, client_address };
        if info == member.info {
            return Ok(());
        }
        tracing::info!(member = id.0, ?info, "a member has moved");
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id.0, info)])), true).await
    }

    /// Hands leadership to this voter, or to the one whose log is longest, and waits until it has taken it. There is nothing to do
    /// if that is this server.
    pub(crate) async fn transfer_leadership(
        &self,
        to: Option<MemberSelector<'_>>,
    ) -> Result<(), MembershipError> {
        self.must_lead()?;
        let named = self.members().into_iter().filter(|member| to.is_some_and(|to| to.means(member)));
        let named: Vec<Member> = named.collect();
        if named.iter().any(|member| member.id == self.own) {
            return Ok(());
        }
        let metrics = self.metrics();
        let matched = metrics.replication.clone().unwrap_or_default();
        let candidates = self.members().into_iter().filter(|member| {
            member.voter
                && member.id != self.own
                && to.is_none_or(|to| to.means(member))
                && reachable(&metrics, member.id)
        });
        let target = candidates.max_by_key(|member| matched.get(&member.id.0).cloned().flatten());
        let Some(target) = target else {
            return Err(MembershipError::Refused(match to {
                Some(to) if named.is_empty() => format!("{to} is not in cluster {}", self.cluster_id),
                Some(to) if named.iter().all(|member| !member.voter) => format!("{to} is no voter yet"),
                Some(to) => format!("{to} does not answer"),
                None => "there is no other voter that answers".to_owned(),
            }));
        };
        tracing::info!(to = target.info.name, member = target.id.0, "hands leadership over");
        self.raft
            .trigger()
            .transfer_leader(target.id.0)
            .await
            .map_err(|error| MembershipError::Unknown(error.to_string()))?;
        let mut leadership = self.watch_leadership();
        let taken = leadership.wait_for(|now| !now.is_leader && now.leader.is_some());
        match tokio::time::timeout(Duration::from_millis(TRANSFER_TIMEOUT_MS), taken).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(MembershipError::Unknown(format!("{:?} has not taken over in time", target.info.name))),
        }
    }

    /// Finishes what is half done and promotes learners that have caught up. Called again and again on the leader.
    pub(crate) async fn tend_membership(&self) -> Result<(), MembershipError> {
        let Ok(_one_at_a_time) = self.changes.try_lock() else { return Ok(()) };
        let metrics = self.metrics();
        if !self.leadership().established || !self.can_judge_reachability() {
            return Ok(());
        }
        if metrics.membership_config != metrics.committed_membership_config {
            return Ok(());
        }
        let membership = metrics.membership_config.membership();
        if let [.., last] = membership.get_joint_config().as_slice()
            && membership.get_joint_config().len() > 1
        {
            tracing::info!("finishes a membership change of an earlier leader");
            return self.change(ChangeMembers::ReplaceAllVoters(last.clone()), false).await;
        }
        let members = self.members();
        for learner in members.iter().filter(|member| !member.voter && has_caught_up(&metrics, member.id)) {
            let namesakes: Vec<&Member> = members
                .iter()
                .filter(|member| member.info.name == learner.info.name && member.id != learner.id)
                .collect();
            if let Some(alive) = namesakes.iter().find(|member| reachable(&metrics, member.id)) {
                self.context.warn_once(format!(
                    "{:?} is held by members {} and {}, and both answer: stop one of them, then remove it by its id \
                     (`stint member remove --id ID`)",
                    learner.info.name, alive.id, learner.id
                ));
                continue;
            }
            tracing::info!(
                name = learner.info.name,
                member = learner.id.0,
                replaced = ?namesakes.iter().map(|member| member.id.0).collect::<Vec<_>>(),
                "promotes a learner"
            );
            let mut changes = vec![ChangeMembers::AddVoterIds(BTreeSet::from([learner.id.0]))];
            changes.extend(removing(&namesakes));
            return self.change(ChangeMembers::Batch(changes), false).await;
        }
        Ok(())
    }

    /// A new server could never take a place whose name another member has: one that stays and answers, or any of another name
    /// than those that go, `gone`.
    async fn must_be_free_name(
        &self,
        which: MemberSelector<'_>,
        name: &str,
        gone: &[Member],
    ) -> Result<(), MembershipError> {
        let members = self.members();
        let stays = |member: &&Member| member.info.name == name && gone.iter().all(|one| one.id != member.id);
        let namesakes: Vec<&Member> = members.iter().filter(stays).collect();
        let Some(first) = namesakes.first() else { return Ok(()) };
        if gone.iter().all(|member| member.info.name != name) {
            return Err(MembershipError::Refused(format!(
                "{name:?} is already member {}: choose another name",
                first.id
            )));
        }
        let silent = self.silent_of(&namesakes, 0).await?;
        match namesakes.iter().find(|member| silent.iter().all(|one| one.id != member.id)) {
            None => Ok(()),
            Some(alive) => Err(MembershipError::Refused(format!(
                "{name:?} is the name of member {} too, which answers: no other server could come in the place of {which}. \
                 Remove {which}, or stop member {} first",
                alive.id, alive.id
            ))),
        }
    }

    /// Two members at one address: one of them would never be reached. It does not matter for those that go, `leaving`, nor for
    /// those whose name the new one has.
    fn must_be_free_address(&self, info: &MemberInfo, leaving: &[Member]) -> Result<(), MembershipError> {
        let members = self.members();
        let taken = members.iter().find(|member| {
            member.info.peer_address == info.peer_address
                && member.info.name != info.name
                && leaving.iter().all(|one| one.id != member.id)
        });
        match taken {
            None => Ok(()),
            Some(member) => Err(MembershipError::Refused(format!(
                "{} is already the peer address of member {} ({:?}): give the new server an address of its own",
                info.peer_address, member.id, member.info.name
            ))),
        }
    }

    /// The members that are meant, if they may be removed.
    async fn removable(&self, which: MemberSelector<'_>) -> Result<Vec<Member>, MembershipError> {
        self.must_lead()?;
        let (gone, others): (Vec<Member>, Vec<Member>) =
            self.members().into_iter().partition(|member| which.means(member));
        if gone.is_empty() {
            return Err(MembershipError::Refused(format!("{which} is not in cluster {}", self.cluster_id)));
        }
        if gone.len() > 1 {
            self.must_be_silent(which, &gone.iter().collect::<Vec<_>>()).await?;
        }
        if gone.iter().any(|member| member.voter) {
            let left: Vec<&Member> = others.iter().filter(|member| member.voter).collect();
            self.must_go_on(which, &left).await?;
        }
        Ok(gone)
    }

    /// Who names several members of which one answers means another: that one may be at work.
    async fn must_be_silent(
        &self,
        which: MemberSelector<'_>,
        namesakes: &[&Member],
    ) -> Result<(), MembershipError> {
        let silent = self.silent_of(namesakes, 0).await?;
        if silent.len() == namesakes.len() {
            return Ok(());
        }
        let each = namesakes.iter().map(|member| {
            let role = if member.voter { "voter" } else { "learner" };
            let is_silent = silent.iter().any(|one| one.id == member.id);
            format!("{} ({role}, {})", member.id, if is_silent { "silent" } else { "answering" })
        });
        Err(MembershipError::Refused(format!(
            "{which} is the name of several members: {}. Say which one is meant by `--id ID` instead of the name",
            each.collect::<Vec<_>>().join(", ")
        )))
    }

    /// A change that the voters which are left can't commit could not be taken back either: nothing could be written until those
    /// that are silent are back, and those that are behind have caught up. So they are asked anew, as one of them may have
    /// died since it last answered.
    async fn must_go_on(&self, which: MemberSelector<'_>, left: &[&Member]) -> Result<(), MembershipError> {
        if left.is_empty() {
            return Err(MembershipError::Refused(format!("{which} is the last voter")));
        }
        let minority = left.len().div_ceil(2) - 1;
        let silent = self.silent_of(left, minority).await?;
        if silent.len() > minority {
            let names: Vec<String> = silent.iter().map(|member| format!("{:?}", member.info.name)).collect();
            return Err(MembershipError::Refused(format!(
                "without {which} only {} of {} voters would answer, which is no majority: {} did not within {} s; bring \
                 them back, or remove them first",
                left.len() - silent.len(),
                left.len(),
                names.join(", "),
                MEMBER_REACHABLE_MS / 1_000
            )));
        }
        let behind =
            self.lacking(left, minority, |metrics, member, _| has_caught_up(metrics, member)).await?;
        if behind.len() > minority {
            let metrics = self.metrics();
            let each: Vec<String> = behind.iter().map(|member| how_far(&metrics, member)).collect();
            return Err(MembershipError::Refused(format!(
                "without {which} only {} of {} voters would have the log, which is no majority, and every write would wait \
                 for the others: {}; wait until they follow (`stint member list`, LAG)",
                left.len() - behind.len(),
                left.len(),
                each.join(", ")
            )));
        }
        Ok(())
    }

    /// Those of `members` that have not answered since this was called; returns as soon as no more than `tolerated` are left.
    async fn silent_of<'m>(
        &self,
        members: &[&'m Member],
        tolerated: usize,
    ) -> Result<Vec<&'m Member>, MembershipError> {
        self.lacking(members, tolerated, answered_within).await
    }

    /// Those of `members` that are not well yet; returns as soon as no more than `tolerated` are left, or after the time in which a
    /// member must have answered: under load one may be some entries behind for a moment. `is_well` is given how long this
    /// lasts already.
    async fn lacking<'m>(
        &self,
        members: &[&'m Member],
        tolerated: usize,
        is_well: fn(&Metrics, MemberId, Duration) -> bool,
    ) -> Result<Vec<&'m Member>, MembershipError> {
        let asked_at = Instant::now();
        loop {
            self.must_lead()?;
            let (metrics, since) = (self.metrics(), asked_at.elapsed());
            let lacking = members.iter().copied().filter(|member| !is_well(&metrics, member.id, since));
            let lacking: Vec<&Member> = lacking.collect();
            if lacking.len() <= tolerated || since >= Duration::from_millis(MEMBER_REACHABLE_MS) {
                return Ok(lacking);
            }
            tokio::time::sleep(Duration::from_millis(HEARTBEAT_INTERVAL_MS / 4)).await;
        }
    }

    async fn reserve_member_id(&self) -> Result<MemberId, MembershipError> {
        let response = self.propose(vec![Command::ReserveMemberId]).await?;
        match response.replies.into_iter().next() {
            Some(Reply::MemberIdReserved { member_id }) => Ok(member_id),
            Some(Reply::Rejected(rejection)) => Err(MembershipError::Refused(rejection.message)),
            other => Err(MembershipError::Unknown(format!("unexpected reply to ReserveMemberId: {other:?}"))),
        }
    }

    async fn change(&self, change: Change, retain: bool) -> Result<(), MembershipError> {
        let changing = self.raft.change_membership(change, retain);
        let limit = Duration::from_millis(MEMBERSHIP_CHANGE_TIMEOUT_MS);
        match tokio::time::timeout(limit, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.map_change_error(error)),
            Err(_) => Err(MembershipError::Unknown("no majority answered in time".to_owned())),
        }
    }

    fn map_change_error(
        &self,
        error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
    ) -> MembershipError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
                MembershipError::NotLeader { leader: self.other_leader() }
            }
            RaftError::APIError(
                error
                @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
            ) => MembershipError::Refused(error.to_string()),
            error => MembershipError::Unknown(error.to_string()),
        }
    }

    fn must_lead(&self) -> Result<(), MembershipError> {
        match self.leadership().established {
            true => Ok(()),
            false => Err(MembershipError::NotLeader { leader: self.other_leader() }),
        }
    }

    /// A new leader has heard of nobody yet; only after a while does silence mean something.
    fn can_judge_reachability(&self) -> bool {
        self.leading_since().is_some_and(|since| {
            Instant::now().duration_since(since) >= Duration::from_millis(MEMBER_REACHABLE_MS)
        })
    }
}

/// On the leader: the member has answered lately.
pub(crate) fn reachable(metrics: &Metrics, member: MemberId) -> bool {
    answered_within(metrics, member, Duration::from_millis(MEMBER_REACHABLE_MS))
}

fn answered_within(metrics: &Metrics, member: MemberId, limit: Duration) -> bool {
    use openraft::Instant as _;
    member.0 == metrics.id
        || metrics
            .heartbeat
            .as_ref()
            .and_then(|heartbeats| heartbeats.get(&member.0).copied().flatten())
            .is_some_and(|at| at.elapsed() < limit)
}

fn has_caught_up(metrics: &Metrics, member: MemberId) -> bool {
    reachable(metrics, member) && lag(metrics, member).is_some_and(|lag| lag <= PROMOTION_LAG_ENTRIES_MAX)
}

/// On the leader: the entries that a member does not have yet; none: it has not said what it has.
fn lag(metrics: &Metrics, member: MemberId) -> Option<u64> {
    if member.0 == metrics.id {
        return Some(0);
    }
    let matched = metrics.replication.as_ref()?.get(&member.0)?.as_ref()?.index();
    Some(metrics.last_log_index.unwrap_or(0).saturating_sub(matched))
}

/// Why a member is not up to date, in words.
fn how_far(metrics: &Metrics, member: &Member) -> String {
    let name = &member.info.name;
    if !reachable(metrics, member.id) {
        return format!("{name:?} does not answer");
    }
    match lag(metrics, member.id) {
        Some(lag) => format!("{name:?} is {lag} entries behind"),
        None => format!("{name:?} has only begun to follow"),
    }
}

fn removing(members: &[&Member]) -> Vec<Change> {
    let ids = |voters: bool| -> BTreeSet<u64> {
        members.iter().filter(|member| member.voter == voters).map(|member| member.id.0).collect()
    };
    let mut changes = Vec::new();
    if !ids(true).is_empty() {
        changes.push(ChangeMembers::RemoveVoters(ids(true)));
    }
    if !ids(false).is_empty() {
        changes.push(ChangeMembers::RemoveNodes(ids(false)));
    }
    changes
}

fn leader_name(leader: Option<&LeaderInfo>) -> String {
    leader.map_or_else(|| "again when there is a leader".to_owned(), |leader| format!("{:?}", leader.name))
}

impl MemberSelector<'_> {
    /// Whether it means the member with this id and this name.
    pub fn selects(self, id: MemberId, name: &str) -> bool {
        match self {
            MemberSelector::Name(meant) => meant == name,
            MemberSelector::Id(meant) => meant == id,
        }
    }

    fn means(self, member: &Member) -> bool {
        self.selects(member.id, &member.info.name)
    }
}

impl fmt::Display for MemberSelector<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberSelector::Name(name) => write!(formatter, "{name:?}"),
            MemberSelector::Id(id) => write!(formatter, "member {id}"),
        }
    }
}

impl From<ProposeError> for MembershipError {
    fn from(error: ProposeError) -> MembershipError {
        match error {
            ProposeError::NotLeader { leader } => MembershipError::NotLeader { leader },
            error => MembershipError::Unknown(error.to_string()),
        }
    }
}
