//! Submits a Job of ten Pods, waits for its end, and reads their logs.
#![allow(clippy::print_stdout, reason = "an example prints")]

use stint_client::{Client, Error, JobBuilder, LogsRequest, PodTarget};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_environment()?;
    // Ten Pods, four at a time; each knows its index.
    let command = ["sh", "-c", "echo $((JOB_COMPLETION_INDEX * JOB_COMPLETION_INDEX))"];
    let job = JobBuilder::new(command).completions(10).parallelism(4).indexed();
    let squares = client.run(job).await?;
    let job = squares.wait().await?;
    println!("{} Pods succeeded", job.status.succeeded);
    for pod in squares.pods().await? {
        let name = pod.metadata.name.clone();
        let mut lines = client.logs(&LogsRequest::new("default", PodTarget::Pod(name))).await?.lines();
        while let Some(line) = lines.next().await? {
            println!("{} {line}", pod.metadata.name);
        }
    }

    let failing = client.run(JobBuilder::new(["sh", "-c", "exit 3"]).retries(0)).await?;
    if let Err(Error::JobFailed { reason, .. }) = failing.wait().await {
        println!("{reason}");
    }
    Ok(())
}
