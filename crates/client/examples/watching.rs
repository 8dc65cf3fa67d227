//! Watches a Job until it has ended.
#![allow(clippy::print_stdout, reason = "an example prints")]

use stint_client::{Client, Error, JobBuilder, Scope, WatchStep, is_finished};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_environment()?;
    let handle = client.run(JobBuilder::new(["sleep", "1"])).await?;
    let scope = Scope { name: handle.name().to_owned(), ..Scope::default() };
    let mut watch = client.watch_jobs(&scope, 0);
    loop {
        let job = match watch.next_step().await? {
            WatchStep::Change(event) => {
                println!("{:?} {} at revision {}", event.kind, event.object.metadata.name, event.revision);
                event.object
            }
            WatchStep::Relisted(jobs) => {
                println!("changes were missed; now there are {} jobs", jobs.items.len());
                let Some(job) = jobs.items.into_iter().next() else { break };
                job
            }
        };
        if is_finished(&job) {
            break;
        }
    }
    handle.delete().await
}
