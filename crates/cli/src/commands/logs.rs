//! `logs`.

use anyhow::{Result, bail};
use stint_client::{Client, LogTarget, LogsRequest};

use crate::arguments::Logs;
use crate::commands::get::{Kind, kind_and_name};
use crate::output;

/// `stint logs`.
pub async fn run(client: &Client, logs: &Logs) -> Result<()> {
    let target = match logs.target.contains('/').then(|| kind_and_name(&logs.target)).transpose()? {
        None => LogTarget::Pod(logs.target.clone()),
        Some((Kind::Pods, Some(name))) => LogTarget::Pod(name.to_owned()),
        Some((Kind::Jobs, Some(name))) => LogTarget::Job(name.to_owned()),
        Some(_) => bail!("{:?} has no log: give the name of a pod, or job/NAME", logs.target),
    };
    let mut request = LogsRequest::new(&logs.namespace, target);
    request.container.clone_from(&logs.container);
    request.previous = logs.previous;
    request.follow = logs.follow;
    request.tail_lines = logs.tail;
    request.since = logs.since;
    request.timestamps = logs.timestamps;
    let mut stream = client.logs(&request).await?;
    while let Some(piece) = stream.next().await? {
        output::data(&piece)?;
    }
    Ok(())
}
