//! `cluster`: settings of the whole cluster.
//!
//! Owns: their names and how their values are written. Does not own: which values there may be (the servers).

use anyhow::{Context, Result, bail};
use stint_api::duration;
use stint_client::{Client, v1};

use crate::arguments::Cluster;
use crate::output;
use crate::table::Lines;

/// `stint cluster`.
pub async fn run(client: &Client, cluster: Cluster) -> Result<()> {
    let settings = match cluster {
        Cluster::Show => {
            let status = client.cluster_status().await?;
            status.settings.context("the cluster has no settings yet: it is not initialized")?
        }
        Cluster::Set { settings } => client.change_settings(change(&settings)?).await?,
    };
    output::line(&Lines::default().of(&["SETTING", "VALUE"], rows(&settings)))
}

/// In the form in which they are set.
fn rows(settings: &v1::ClusterSettings) -> Vec<Vec<String>> {
    let placement = match settings.placement_policy() {
        v1::PlacementPolicy::Pack => "pack",
        v1::PlacementPolicy::Spread | v1::PlacementPolicy::Unspecified => "spread",
    };
    [
        ("default-runtime", settings.default_runtime.clone()),
        ("ended-pods-max", settings.ended_pods_max.to_string()),
        ("event-retention", duration::format_ms(settings.event_retention_ms)),
        ("node-lease", duration::format_ms(settings.node_lease_ms)),
        ("placement", placement.to_owned()),
    ]
    .map(|(key, value)| vec![key.to_owned(), value])
    .into()
}

fn change(settings: &[String]) -> Result<v1::ChangeSettingsRequest> {
    let mut request = v1::ChangeSettingsRequest::default();
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            bail!("{setting:?} is not a setting: write KEY=VALUE");
        };
        match key {
            "default-runtime" => request.default_runtime = Some(value.to_owned()),
            "placement" => {
                let policy = match value {
                    "spread" => v1::PlacementPolicy::Spread,
                    "pack" => v1::PlacementPolicy::Pack,
                    _ => bail!("placement can't be {value:?}: write spread or pack"),
                };
                request.placement_policy = Some(policy.into());
            }
            "ended-pods-max" => {
                let max = value
                    .parse()
                    .with_context(|| format!("ended-pods-max can't be {value:?}: write a number"))?;
                request.ended_pods_max = Some(max);
            }
            "event-retention" => {
                let kept = duration::parse(value)?;
                request.event_retention_ms = Some(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX));
            }
            "node-lease" => bail!("node-lease can't be changed once the cluster is initialized"),
            _ => bail!(
                "there is no setting {key:?}: default-runtime, placement, ended-pods-max and event-retention are there"
            ),
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<v1::ChangeSettingsRequest> {
        change(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_what_is_named_changes() {
        let request = read(&["default-runtime=oci", "event-retention=2h"]).unwrap();
        let expected = v1::ChangeSettingsRequest {
            default_runtime: Some("oci".to_owned()),
            event_retention_ms: Some(7_200_000),
            ..v1::ChangeSettingsRequest::default()
        };
        assert_eq!(request, expected);
        assert_eq!(read(&["default-runtime="]).unwrap().default_runtime.as_deref(), Some(""));
        for (words, expected) in [
            ("placement", "KEY=VALUE"),
            ("placement=best", "spread or pack"),
            ("ended-pods-max=-1", "a number"),
            ("event-retention=long", "long"),
            ("node-lease=5s", "can't be changed"),
            ("color=blue", "default-runtime"),
        ] {
            let error = format!("{:#}", read(&[words]).unwrap_err());
            assert!(error.contains(expected), "{words}: {error}");
        }
    }

    #[test]
    fn settings_are_shown_as_they_are_set() {
        let settings = v1::ClusterSettings {
            node_lease_ms: 10_000,
            placement_policy: v1::PlacementPolicy::Pack.into(),
            event_retention_ms: 3_600_000,
            default_runtime: "oci".to_owned(),
            ended_pods_max: 5,
        };
        let shown: Vec<String> = rows(&settings).iter().map(|row| row.join("=")).collect();
        let expected = [
            "default-runtime=oci",
            "ended-pods-max=5",
            "event-retention=1h0m0s",
            "node-lease=10s",
            "placement=pack",
        ];
        assert_eq!(shown, expected);
        let settable: Vec<&str> = expected.into_iter().filter(|one| !one.starts_with("node-lease")).collect();
        assert!(read(&settable).is_ok(), "what is shown can be set");
    }
}
