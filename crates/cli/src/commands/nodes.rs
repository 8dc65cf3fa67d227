//! `cordon`, `uncordon`, `drain`.

use anyhow::Result;
use stint_client::Client;

use crate::output;

/// `stint cordon`.
pub async fn cordon(client: &Client, name: &str) -> Result<()> {
    client.cordon_node(name).await?;
    output::line(&format!("node/{name} cordoned"))?;
    Ok(())
}

/// `stint uncordon`.
pub async fn uncordon(client: &Client, name: &str) -> Result<()> {
    client.uncordon_node(name).await?;
    output::line(&format!("node/{name} uncordoned"))?;
    Ok(())
}

/// `stint drain`.
pub async fn drain(client: &Client, name: &str) -> Result<()> {
    client.drain_node(name).await?;
    output::line(&format!("node/{name} drained"))?;
    Ok(())
}
