//! R13: whole logs are uploaded once their runs have ended, whatever the archive and the agent go through.

use crate::agent_process::{AgentProcess, new_pod, to_run};
use crate::fake_leader::FakeLeader;
use std::time::{Duration, Instant};
use stint_api::PodUid;
use stint_logs::archive::{Archive, Run};
use stint_logs::{Renderer, Selection};

/// The text that is archived of a Pod, once all of it is.
async fn archived(archive: &Archive, pod: PodUid) -> Option<String> {
    let run = Run { pod_uid: pod.to_string(), container: "main".to_owned(), restart_count: 0 };
    let parts = archive.parts(&run).await.ok()?;
    parts.last().filter(|part| part.is_end)?;
    let (mut text, mut renderer) = (Vec::new(), Renderer::new(&Selection::default()));
    for part in parts {
        let excerpt = archive.get(&run, part).await.unwrap();
        text.extend(excerpt.pieces(0, &mut renderer).flat_map(|piece| piece.bytes));
    }
    Some(String::from_utf8(text).unwrap())
}

async fn until_archived(archive: &Archive, pod: PodUid) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(text) = archived(archive, pod).await {
            return text;
        }
        assert!(Instant::now() < deadline, "not archived");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn r13_whole_logs_are_archived_also_after_the_archive_and_the_agent_were_away() {
    let leader = FakeLeader::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    let url = format!("file://{}", path.display());
    let archive = Archive::open(&url).unwrap();
    let (first, second, third, quiet) = (new_pod(), new_pod(), new_pod(), new_pod());
    let numbers: String = (1..=400_000).map(|number| format!("{number}\n")).collect();

    // Without an archive nothing goes anywhere.
    let mut agent = AgentProcess::registered(&leader).await;
    leader.order(to_run(first, 1, "seq 1 400000"));
    assert_eq!(leader.exit_code(first, 0).await, 0);
    // There is one, but it can't be written to: a file stands in its place.
    std::fs::write(&path, "").unwrap();
    leader.state().log_archive = url;
    leader.break_off();
    leader.until("another session", |state| (!state.resumes.is_empty()).then_some(())).await;
    leader.order(to_run(second, 2, "echo second"));
    assert_eq!(leader.exit_code(second, 0).await, 0);
    leader.until("a failed upload", |_| agent.output().contains("can't be archived yet").then_some(())).await;
    std::fs::remove_file(&path).unwrap();
    // What had ended before the agent knew of the archive is uploaded too, in parts.
    assert!(until_archived(&archive, first).await == numbers);
    assert_eq!(until_archived(&archive, second).await, "second\n");

    // The agent is killed while something waits: the next one uploads it, and nothing that has arrived already.
    let [_, logs] = agent.folders_of(first);
    leader.until("a mark", |_| logs.join("main.0.archived").exists().then_some(())).await;
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    std::fs::write(&path, "").unwrap();
    leader.order(to_run(quiet, 3, "true"));
    leader.order(to_run(third, 4, "echo third"));
    assert_eq!(leader.exit_code(third, 0).await, 0);
    agent.kill();
    std::fs::remove_file(&path).unwrap();
    agent.start();
    assert_eq!(until_archived(&archive, third).await, "third\n");
    assert_eq!(archived(&archive, first).await, None);
    assert_eq!(archived(&archive, quiet).await, None);
}
