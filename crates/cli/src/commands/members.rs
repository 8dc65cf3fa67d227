//! `status` and `member`.

use anyhow::{Result, bail};
use serde_json::json;
use stint_client::v1::member_reference;
use stint_client::{Client, v1};

use crate::arguments::{Member, NamedMember, StatusFormat};
use crate::output;
use crate::table::Lines;

/// `stint status` and `stint member list`.
pub async fn status(client: &Client, format: StatusFormat) -> Result<()> {
    let status = client.cluster_status().await?;
    if format == StatusFormat::Json {
        let members: Vec<_> = status
            .members
            .iter()
            .map(|member| {
                json!({
                    "name": member.name,
                    "id": member.id,
                    "role": role(member),
                    "address": member.address,
                    "peerAddress": member.peer_address,
                    "lastLogIndex": member.last_log_index,
                    "appliedIndex": member.applied_index,
                    "lag": member.lag,
                })
            })
            .collect();
        let alarms: Vec<_> = status
            .alarms
            .iter()
            .map(|alarm| json!({ "name": alarm.name, "member": alarm.member, "message": alarm.message }))
            .collect();
        let value = json!({
            "clusterId": status.cluster_id,
            "leader": status.leader,
            "term": status.term,
            "members": members,
            "alarms": alarms,
        });
        output::line(&serde_json::to_string_pretty(&value)?)?;
    } else {
        output::line(&format!("cluster {}  term {}", status.cluster_id, status.term))?;
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let rows = status.members.iter().map(|member| {
            vec![
                member.name.clone(),
                member.id.to_string(),
                role(member).to_owned(),
                member.address.clone(),
                member.peer_address.clone(),
                number(member.last_log_index),
                number(member.applied_index),
                number(member.lag),
            ]
        });
        let titles = ["NAME", "ID", "ROLE", "ADDRESS", "PEER ADDRESS", "LAST LOG", "APPLIED", "LAG"];
        output::line(&Lines::default().of(&titles, rows.collect()))?;
    }
    if status.leader.is_none() {
        output::note("no leader: a majority of the servers must run and reach each other");
    }
    for alarm in &status.alarms {
        output::note(&format!("alarm {} on {}: {}", alarm.name, alarm.member, alarm.message));
    }
    Ok(())
}

/// `stint member`.
pub async fn run(client: &Client, member: Member) -> Result<()> {
    match member {
        Member::List(format) => status(client, format.output).await?,
        Member::Add { member } => {
            let Some((name, peer_address)) = member.split_once('=') else {
                bail!("{member:?} is not a member: write NAME=HOST:PORT");
            };
            if peer_address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                bail!("{peer_address:?} is not a peer address: write NAME=HOST:PORT");
            }
            let request = v1::AddMemberRequest {
                name: name.to_owned(),
                peer_address: peer_address.to_owned(),
                address: String::new(),
            };
            let added = client.add_member(request).await?;
            output::line(&format!("member {name} added with id {}", added.map_or(0, |member| member.id)))?;
        }
        Member::Remove(member) => {
            let (named, words) = named(member)?;
            client.remove_member(named).await?;
            output::line(&format!("member {words} removed"))?;
        }
        Member::Replace(replace) => {
            let (named, words) = named(replace.lost)?;
            let replaced = client.replace_member(named, &replace.peer_address).await?;
            let id = replaced.map_or(0, |member| member.id);
            output::line(&format!("member {words} replaced by id {id}"))?;
        }
        Member::Transfer { name } => {
            let leader = client.transfer_leadership(name.as_deref()).await?;
            output::line(&format!("member {leader} leads"))?;
        }
    }
    Ok(())
}

/// Which member is meant, on the wire and in words.
fn named(member: NamedMember) -> Result<(member_reference::Member, String)> {
    match (member.name, member.id) {
        (Some(name), None) => Ok((member_reference::Member::Name(name.clone()), name)),
        (None, Some(id)) => Ok((member_reference::Member::Id(id), format!("with id {id}"))),
        // Not what clap lets through.
        _ => bail!("give the name of the server, or its --id"),
    }
}

fn role(member: &v1::Member) -> &'static str {
    match member.role() {
        v1::MemberRole::Leader => "leader",
        v1::MemberRole::Follower => "follower",
        v1::MemberRole::Learner => "learner",
        v1::MemberRole::Unspecified => "unknown",
    }
}
