//! Finds out what became of a submit whose outcome is unknown.

use std::time::Duration;

use stint_client::{Client, Error, JobBuilder};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_environment()?;
    let job = JobBuilder::new(["true"]).build()?;
    let handle = match client.submit(&job).await {
        Err(Error::OutcomeUnknown { request_id: Some(id), .. }) => {
            client.with_timeout(Duration::from_secs(60)).submit_again(&job, &id).await?
        }
        submitted => submitted?,
    };
    handle.wait_at_most(Duration::from_secs(120)).await?;
    Ok(())
}
