//! Watches without servers, by the wire examples that every client is tested with.

use serde_json::Value;

use super::*;

const EXAMPLES: &str = include_str!("../../../sdk/wire/watches.json");

fn event_type(word: &Value) -> v1::WatchEventType {
    match word.as_str() {
        Some("ADDED") => v1::WatchEventType::Added,
        Some("MODIFIED") => v1::WatchEventType::Modified,
        Some("DELETED") => v1::WatchEventType::Deleted,
        Some("BOOKMARK") => v1::WatchEventType::Bookmark,
        // What the generated code makes of a number that it does not know.
        _ => v1::WatchEventType::Unspecified,
    }
}

fn given(steps: Vec<WatchStep<String>>) -> Value {
    let of = |step| match step {
        WatchStep::Change(event) => {
            let kind = format!("{:?}", event.kind).to_lowercase();
            serde_json::json!([kind, event.revision, event.object])
        }
        WatchStep::Relisted(listed) => serde_json::json!(["relisted", listed.revision, listed.items]),
    };
    steps.into_iter().map(of).collect()
}

fn expired() -> Error {
    Error::refused(ErrorReason::Expired, "the revision is no longer kept")
}

#[test]
fn a_watch_goes_on_as_the_wire_examples_say() {
    let examples: Vec<Value> = serde_json::from_str(EXAMPLES).unwrap();
    assert!(examples.len() >= 8);
    for example in examples {
        let name = &example["name"];
        let n_servers = example["servers"].as_u64().unwrap_or(1) as usize;
        let mut state = WatchState::<String>::new(example["from_revision"].as_u64().unwrap_or(0), n_servers);
        for step in example["steps"].as_array().unwrap() {
            if let Some(revision) = step.get("open") {
                assert_eq!(state.opened(), revision.as_u64().unwrap(), "{name}: {step}");
            } else if step.get("expired").is_some() {
                state.expired(expired()).unwrap();
            } else if let Some(message) = step.get("message") {
                let object = message[2].as_str().map(str::to_owned);
                let steps = state.take(event_type(&message[0]), message[1].as_u64().unwrap(), object);
                assert_eq!(given(steps.unwrap()), step["gives"], "{name}: {step}");
            } else {
                assert!(step.get("break").is_some(), "{name}: {step}");
            }
        }
    }
}

#[test]
fn relists_without_success_are_bounded() {
    let mut state = WatchState::<String>::new(5, 1);
    for _ in 0..limits::LIST_RESTARTS_MAX {
        state.expired(expired()).unwrap();
    }
    assert!(state.expired(expired()).is_err());
}

#[test]
fn a_change_without_its_object_is_an_error() {
    let error = WatchState::<String>::new(5, 1).take(v1::WatchEventType::Added, 6, None).unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error:?}");
}
