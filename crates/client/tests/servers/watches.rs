//! Watches that go on where they broke off.

use std::sync::Mutex;
use std::time::Duration;

use stint_api::Job;
use stint_client::{Scope, TroubleKind, WatchStep, v1};
use stint_proto::status::ErrorReason;
use tonic::Status;

use crate::fake::{Fake, SHORT, SOON, client, job, refusal};

fn change(kind: v1::WatchEventType, name: &str, revision: u64) -> Result<v1::JobWatchEvent, Status> {
    let job = (kind != v1::WatchEventType::Bookmark).then(|| job(name));
    Ok(v1::JobWatchEvent { r#type: kind.into(), job, revision })
}

async fn seen(watch: &mut stint_client::Watch<Job>, count: usize) -> Vec<(String, u64)> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let event = watch.next().await.unwrap();
        seen.push((event.object.metadata.name, event.revision));
    }
    seen
}

#[tokio::test]
async fn a_watch_goes_on_without_gap_or_repetition_where_its_server_was_lost() {
    use v1::WatchEventType::{Added, Bookmark, Deleted, Modified};
    let watches = [
        vec![change(Added, "a", 5), change(Modified, "a", 7), Err(refusal(ErrorReason::ShuttingDown))],
        vec![change(Modified, "a", 7), change(Modified, "b", 9), change(Bookmark, "", 12)],
        vec![Err(Status::unavailable("gone"))],
        vec![change(Deleted, "b", 13)],
    ];
    let (address, fake) = Fake { watches: Mutex::new(watches.into()), ..Fake::default() }.start().await;
    let mut watch = client(&[&address], SOON).watch_jobs(&Scope::default(), 4);
    assert_eq!(seen(&mut watch, 2).await, [("a".to_owned(), 5), ("a".to_owned(), 7)]);
    assert_eq!(seen(&mut watch, 2).await, [("b".to_owned(), 9), ("b".to_owned(), 13)]);
    assert_eq!(fake.asked(), ["watch 4", "watch 7", "watch 12", "watch 12"]);
}

#[tokio::test]
async fn a_watch_from_the_beginning_gives_every_object_that_there_is() {
    use v1::WatchEventType::{Added, Bookmark, Modified};
    let watches = [
        vec![
            change(Added, "a", 10),
            change(Added, "b", 10),
            change(Bookmark, "", 10),
            change(Modified, "a", 10),
            change(Modified, "a", 11),
        ],
        // A new connection goes on from the last revision.
        vec![change(Modified, "b", 12)],
    ];
    let (address, fake) = Fake { watches: Mutex::new(watches.into()), ..Fake::default() }.start().await;
    let mut watch = client(&[&address], SOON).watch_jobs(&Scope::default(), 0);
    let expected = [("a", 10), ("b", 10), ("a", 11), ("b", 12)];
    let seen = seen(&mut watch, 4).await;
    assert_eq!(seen.iter().map(|(name, revision)| (name.as_str(), *revision)).collect::<Vec<_>>(), expected);
    assert_eq!(fake.asked(), ["watch 0", "watch 11"]);
}

#[tokio::test]
async fn a_watch_whose_beginning_breaks_off_gives_nothing_twice() {
    use v1::WatchEventType::{Added, Bookmark};
    let watches = [
        vec![change(Added, "a", 10), Err(Status::unavailable("gone"))],
        vec![change(Added, "a", 11), change(Added, "b", 11), change(Bookmark, "", 11)],
    ];
    let (address, fake) = Fake { watches: Mutex::new(watches.into()), ..Fake::default() }.start().await;
    let mut watch = client(&[&address], SOON).watch_jobs(&Scope::default(), 0);
    assert_eq!(seen(&mut watch, 2).await, [("a".to_owned(), 11), ("b".to_owned(), 11)]);
    assert_eq!(fake.asked(), ["watch 0", "watch 0"]);
}

fn expired() -> Result<v1::JobWatchEvent, Status> {
    Err(refusal(ErrorReason::Expired))
}

#[tokio::test]
async fn a_revision_that_one_server_does_not_keep_is_asked_of_the_others() {
    use v1::WatchEventType::{Added, Bookmark, Modified};
    let first = Fake { watches: Mutex::new([vec![expired()], vec![expired()]].into()), ..Fake::default() };
    let (first, first_asked) = first.start().await;
    let watches = [
        vec![change(Modified, "a", 6), expired()],
        // By now no server keeps it.
        vec![change(Added, "a", 20), change(Added, "b", 20), change(Bookmark, "", 20)],
    ];
    let second = Fake { watches: Mutex::new(watches.into()), ..Fake::default() };
    let (second, second_asked) = second.start().await;
    let mut watch = client(&[&first, &second], SOON).watch_jobs(&Scope::default(), 5);
    assert_eq!(seen(&mut watch, 1).await, [("a".to_owned(), 6)]);
    let error = watch.next().await.unwrap_err();
    assert!(error.is_expired(), "all refused: {error:?}");
    assert!(watch.next().await.unwrap_err().is_expired(), "it stays so for whoever lists by itself");
    assert_eq!(first_asked.asked(), ["watch 5", "watch 6"]);
    assert_eq!(second_asked.asked(), ["watch 5"]);
    // The other way to be told: everything at once.
    match watch.next_step().await.unwrap() {
        WatchStep::Relisted(jobs) => {
            let names: Vec<String> = jobs.items.into_iter().map(|job| job.metadata.name).collect();
            assert_eq!((names, jobs.revision), (vec!["a".to_owned(), "b".to_owned()], 20));
        }
        WatchStep::Change(event) => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn a_watch_whose_revisions_always_expire_ends() {
    let watches = (0..20).map(|_| vec![expired()]);
    let (address, fake) = Fake { watches: Mutex::new(watches.collect()), ..Fake::default() }.start().await;
    let mut watch = client(&[&address], SOON).watch_jobs(&Scope::default(), 5);
    assert!(watch.next_step().await.unwrap_err().is_expired());
    assert_eq!(fake.asked(), ["watch 5", "watch 0", "watch 0", "watch 0"]);
}

#[tokio::test]
async fn a_watch_that_gets_no_further_is_given_up_in_time() {
    use v1::WatchEventType::{Added, Bookmark, Modified};
    // What there is, never whole; what was given before; an old bookmark.
    for (from_revision, message) in
        [(0, change(Added, "a", 10)), (7, change(Modified, "a", 7)), (7, change(Bookmark, "", 6))]
    {
        let watches = (0..1_000).map(|_| vec![message.clone(), Err(Status::unavailable("gone"))]).collect();
        let (address, fake) = Fake { watches: Mutex::new(watches), ..Fake::default() }.start().await;
        let mut watch = client(&[&address], SHORT).watch_jobs(&Scope::default(), from_revision);
        assert!(watch.next_step().await.unwrap_err().is_outage());
        let n_asked = fake.asked().len();
        assert!((2..100).contains(&n_asked), "asked {n_asked} times within {SHORT:?}");
    }
}

#[tokio::test]
async fn a_watch_that_a_server_does_not_begin_is_asked_of_another() {
    use v1::WatchEventType::Added;
    let silent = Fake { watch_delay: Duration::from_secs(600), ..Fake::default() }.start().await.0;
    let watches = Mutex::new([vec![change(Added, "a", 5)]].into());
    let other = Fake { watches, ..Fake::default() }.start().await.0;
    let mut watch = client(&[&silent, &other], Duration::from_secs(30)).watch_jobs(&Scope::default(), 4);
    assert_eq!(seen(&mut watch, 1).await, [("a".to_owned(), 5)]);
}

#[tokio::test]
async fn a_watch_that_is_waited_for_in_small_steps_opens_one_connection() {
    use v1::WatchEventType::Added;
    let watches = [vec![change(Added, "a", 5)]];
    let watch_delay = Duration::from_millis(300);
    let fake = Fake { watches: Mutex::new(watches.into()), watch_delay, ..Fake::default() };
    let (address, fake) = fake.start().await;
    let mut watch = client(&[&address], SOON).watch_jobs(&Scope::default(), 4);
    let mut steps = 0;
    let event = loop {
        steps += 1;
        if let Ok(event) = tokio::time::timeout(Duration::from_millis(20), watch.next()).await {
            break event.unwrap();
        }
    };
    assert!(steps > 3, "several waits were given up");
    assert_eq!((event.revision, fake.asked().len()), (5, 1));
}

#[tokio::test]
async fn a_watch_goes_on_after_an_outage_longer_than_a_call() {
    let client = client(&["127.0.0.1:1"], SHORT);
    let mut watch = client.watch_jobs(&Scope::default(), 4);
    for _ in 0..2 {
        assert!(watch.next().await.unwrap_err().is_outage());
    }
}

#[tokio::test]
async fn what_keeps_a_watch_from_going_on_is_told_while_it_does() {
    let moment = Duration::from_millis(100);
    let nobody = client(&["127.0.0.1:1"], SOON);
    let mut watch = nobody.watch_jobs(&Scope::default(), 4);
    while nobody.trouble().is_none() {
        assert!(tokio::time::timeout(moment, watch.next()).await.is_err(), "it goes on trying");
    }
    assert_eq!(nobody.trouble().unwrap().kind, TroubleKind::NoAnswer);

    // A server that has no leader for a while, and then opens a stream that is silent.
    let watches = (0..5).map(|_| vec![Err(refusal(ErrorReason::NoLeader))]).collect();
    let (address, fake) = Fake { watches: Mutex::new(watches), ..Fake::default() }.start().await;
    let client = client(&[&address], SOON);
    let mut watch = client.watch_jobs(&Scope::default(), 4);
    while fake.asked().len() < 6 || client.trouble().is_some() {
        assert!(tokio::time::timeout(moment, watch.next()).await.is_err(), "nothing changes");
    }
}

#[tokio::test]
async fn more_watches_than_fit_on_a_connection_do_not_keep_calls_from_being_sent() {
    const N_WATCHES: usize = 1_100;
    let fake = Fake { gets: Mutex::new([Ok(job("x"))].into()), ..Fake::default() };
    let (address, fake) = fake.start().await;
    let client = client(&[&address], Duration::from_secs(60));
    let watching: Vec<_> = (0..N_WATCHES)
        .map(|_| {
            let mut watch = client.watch_jobs(&Scope::default(), 4);
            tokio::spawn(async move { watch.next().await.map(|_| ()) })
        })
        .collect();
    while fake.asked().len() < N_WATCHES {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(watching.iter().all(|watch| !watch.is_finished()), "they wait");
    }
    client.get_job("default", "x").await.unwrap();
    watching.iter().for_each(tokio::task::JoinHandle::abort);
}
