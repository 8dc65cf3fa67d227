//! `cordon` and `uncordon`.

use anyhow::{Result, bail};
use stint_client::Client;

use crate::commands::target::{Kind, kind_and_name};
use crate::output;

/// `stint cordon`.
pub async fn cordon(client: &Client, node: &str) -> Result<()> {
    let name = node_name(node)?;
    client.cordon_node(name).await?;
    output::line(&format!("node/{name} cordoned"))
}

/// `stint uncordon`.
pub async fn uncordon(client: &Client, node: &str) -> Result<()> {
    let name = node_name(node)?;
    client.uncordon_node(name).await?;
    output::line(&format!("node/{name} uncordoned"))
}

/// Of NAME or node/NAME.
pub fn node_name(text: &str) -> Result<&str> {
    match text.contains('/').then(|| kind_and_name(text)).transpose()? {
        None => Ok(text),
        Some((Kind::Nodes, Some(name))) => Ok(name),
        Some(_) => bail!("{text:?} is not a node: write its name, or node/NAME"),
    }
}
