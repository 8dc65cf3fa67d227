//! The retry table without servers, by the wire examples that every client is tested with.

use base64::Engine as _;
use serde_json::Value;

use super::*;

const EXAMPLES: &str = include_str!("../../../sdk/wire/statuses.json");
const TIMEOUT: Duration = Duration::from_secs(15);

fn code_of(word: &str) -> Code {
    let codes = (0..17).map(Code::from_i32);
    let words = |code: &Code| format!("{code:?}").to_uppercase() == word.replace('_', "");
    codes.into_iter().find(words).unwrap_or_else(|| panic!("{word} is no code"))
}

fn status_of(example: &Value) -> Status {
    let details = example["details"]
        .as_str()
        .map(|text| base64::engine::general_purpose::STANDARD.decode(text).unwrap());
    let message = example["message"].as_str().unwrap();
    Status::with_details(
        code_of(example["code"].as_str().unwrap()),
        message,
        details.unwrap_or_default().into(),
    )
}

#[test]
fn decision_10_the_end_of_an_attempt_means_what_the_wire_examples_say() {
    let examples: Vec<Value> = serde_json::from_str(EXAMPLES).unwrap();
    assert!(examples.len() >= 40);
    for example in examples {
        let (name, expected) = (&example["name"], &example["meaning"]);
        let found = match Meaning::of(&status_of(&example)) {
            Meaning::NotDone { pause, leader, answered, .. } => {
                assert!(answered, "{name}");
                assert_eq!(
                    pause.map(|pause| pause.as_millis() as u64),
                    expected["pause_ms"].as_u64(),
                    "{name}"
                );
                assert_eq!(leader.as_deref(), expected["leader"].as_str(), "{name}");
                "not done"
            }
            Meaning::MaybeDone { .. } => "maybe done",
            Meaning::Final(Error::Refused { word, code, field_violations, .. }) => {
                assert_eq!(word.as_deref(), expected["reason"].as_str(), "{name}");
                assert_eq!(code, code_of(example["code"].as_str().unwrap()), "{name}");
                if let Some(fields) = expected.get("fields") {
                    let found: Vec<&str> = field_violations.iter().map(|(path, _)| &**path).collect();
                    assert_eq!(&serde_json::json!(found), fields, "{name}");
                }
                "final"
            }
            Meaning::Final(other) => panic!("{name}: {other:?}"),
        };
        assert_eq!(found, expected["kind"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn every_reason_of_this_version_is_among_the_wire_examples_or_final() {
    for reason in ErrorReason::ALL {
        let pause = StatusDetails::new(*reason, "x").with_retry_after(Duration::from_millis(10));
        let expected = match reason {
            ErrorReason::OutcomeUnknown => "MaybeDone",
            ErrorReason::NoLeader
            | ErrorReason::NotLeader
            | ErrorReason::ShuttingDown
            | ErrorReason::NodeUnreachable
            | ErrorReason::Timeout
            | ErrorReason::TooManyRequests
            | ErrorReason::LimitExceeded => "NotDone",
            _ => "Final",
        };
        let meaning = format!("{:?}", Meaning::of(&pause.into_status()));
        assert!(meaning.starts_with(expected), "{reason:?}: {meaning}");
    }
}

fn servers(count: usize) -> Servers {
    Servers::new(&(0..count).map(|number| format!("s{number}:1")).collect::<Vec<_>>())
}

fn not_connected() -> Meaning {
    Meaning::NotDone { message: "refused".to_owned(), pause: None, leader: None, answered: false }
}

fn asked_for(pause: Duration) -> Meaning {
    Meaning::NotDone { message: "busy".to_owned(), pause: Some(pause), leader: None, answered: true }
}

fn names(leader: &str) -> Meaning {
    let leader = Some(leader.to_owned());
    Meaning::NotDone { message: "not me".to_owned(), pause: None, leader, answered: true }
}

#[test]
fn each_server_is_asked_before_the_first_pause_which_is_doubled_and_left_to_chance() {
    for (chance, part) in [(0.0, 0.5), (0.999_999, 1.0)] {
        let (servers, now) = (servers(3), Instant::now());
        let mut attempts = Attempts::new(Effect::Read, Duration::from_secs(3600), now);
        for round in 0..8 {
            for server in 0..3 {
                assert_eq!(&*attempts.next(&servers, now).0, format!("s{server}:1"));
                let wait = attempts.failed(&servers, not_connected(), now, chance).unwrap();
                let longest = (limits::RETRY_PAUSE_FIRST * 2_u32.pow(round)).min(limits::RETRY_PAUSE_MAX);
                let expected = if server == 2 { longest.mul_f64(part) } else { Duration::ZERO };
                assert!(wait.abs_diff(expected) < Duration::from_millis(1), "{round} {server}: {wait:?}");
            }
        }
    }
}

#[test]
fn a_pause_that_a_server_asks_for_is_kept_and_lengthened_by_at_most_a_quarter() {
    let (servers, now) = (servers(2), Instant::now());
    let mut attempts = Attempts::new(Effect::Write, TIMEOUT, now);
    for (chance, expected_ms) in [(0.0, 200), (1.0, 250)] {
        attempts.next(&servers, now);
        let wait = attempts.failed(&servers, asked_for(Duration::from_millis(200)), now, chance).unwrap();
        assert_eq!(wait.as_millis(), expected_ms);
    }
}

#[test]
fn the_named_leader_is_asked_at_once_and_a_hint_behind_a_hint_is_not_followed() {
    let (servers, now) = (servers(2), Instant::now());
    let mut attempts = Attempts::new(Effect::Read, TIMEOUT, now);
    assert_eq!(&*attempts.next(&servers, now).0, "s0:1");
    assert_eq!(attempts.failed(&servers, names("10.0.0.9:7440"), now, 0.5).unwrap(), Duration::ZERO);
    assert_eq!(&*attempts.next(&servers, now).0, "10.0.0.9:7440");
    attempts.failed(&servers, names("10.0.0.8:7440"), now, 0.5).unwrap();
    assert_eq!(&*attempts.next(&servers, now).0, "s1:1", "not another hint, and not who named it");
    // One of the list is asked first by other calls too.
    attempts.failed(&servers, names("s0:1"), now, 0.5).unwrap();
    assert_eq!(&*Attempts::new(Effect::Read, TIMEOUT, now).next(&servers, now).0, "s0:1");
    for nonsense in ["", "nowhere", "a b:1", "evil:1/x"] {
        let mut attempts = Attempts::new(Effect::Read, TIMEOUT, now);
        attempts.next(&servers, now);
        attempts.failed(&servers, names(nonsense), now, 0.5).unwrap();
        assert!(attempts.next(&servers, now).0.starts_with('s'), "{nonsense:?}");
    }
}

#[test]
fn a_leader_that_does_not_answer_is_asked_once_each_time_that_it_is_named() {
    let (servers, now) = (servers(3), Instant::now());
    let mut attempts = Attempts::new(Effect::Read, Duration::from_secs(3600), now);
    let mut asked = Vec::new();
    // s1 is stopped, and the others do not know yet.
    for _ in 0..8 {
        let address = attempts.next(&servers, now).0;
        let meaning =
            if &*address == "s1:1" { Meaning::no_answer(limits::ATTEMPT_TIMEOUT) } else { names("s1:1") };
        attempts.failed(&servers, meaning, now, 0.5).unwrap();
        asked.push(address);
    }
    let expected = ["s0:1", "s1:1", "s2:1", "s1:1", "s2:1", "s1:1", "s2:1", "s1:1"];
    assert_eq!(asked.iter().map(|address| &**address).collect::<Vec<_>>(), expected);
}

#[test]
fn addresses_that_servers_name_are_bounded() {
    let servers = servers(1);
    for number in 1..=limits::ADDRESSES_MAX {
        assert!(servers.hinted(&format!("h{number}:1")).is_some());
    }
    assert_eq!(servers.hinted("one-more:1"), None);
    assert!(servers.hinted("h1:1").is_some(), "known");
}

#[test]
fn an_attempt_leaves_time_to_others_if_it_may_be_repeated() {
    let now = Instant::now();
    let patience = |effect, n_servers| Attempts::new(effect, TIMEOUT, now).next(&servers(n_servers), now).1;
    assert_eq!(patience(Effect::Read, 3), limits::ATTEMPT_TIMEOUT);
    assert_eq!(patience(Effect::RepeatableWrite, 2), limits::ATTEMPT_TIMEOUT);
    assert_eq!(patience(Effect::Read, 1), TIMEOUT);
    assert_eq!(patience(Effect::Write, 3), TIMEOUT);
    let mut attempts = Attempts::new(Effect::Read, TIMEOUT, now);
    assert_eq!(attempts.next(&servers(3), now + TIMEOUT - Duration::from_secs(1)).1, Duration::from_secs(1));
}

#[test]
fn what_is_said_in_the_end_is_what_is_known() {
    let begun = Instant::now();
    let late = begun + TIMEOUT;
    let last = |effect, meanings: Vec<Meaning>| {
        let (servers, mut attempts) = (servers(1), Attempts::new(effect, TIMEOUT, begun));
        let n_meanings = meanings.len();
        for (number, meaning) in meanings.into_iter().enumerate() {
            attempts.next(&servers, begun);
            let now = if number + 1 == n_meanings { late } else { begun };
            if let Err(error) = attempts.failed(&servers, meaning, now, 0.0) {
                return error;
            }
        }
        panic!("it goes on");
    };
    let busy = || asked_for(Duration::ZERO);
    let lost = || Meaning::no_answer(Duration::from_secs(1));
    use Effect::{Read, RepeatableWrite, Write};
    assert!(matches!(last(Read, vec![busy()]), Error::Unavailable { .. }));
    assert!(matches!(last(Read, vec![not_connected()]), Error::Unreachable { .. }));
    assert!(matches!(last(Read, vec![lost()]), Error::Unreachable { .. }));
    assert!(matches!(last(Read, vec![busy(), lost()]), Error::Unavailable { .. }), "the last was cut short");
    assert!(matches!(last(RepeatableWrite, vec![not_connected()]), Error::Unreachable { .. }));
    assert!(matches!(last(RepeatableWrite, vec![lost(), busy()]), Error::OutcomeUnknown { .. }));
    assert!(matches!(last(RepeatableWrite, vec![lost(), not_connected()]), Error::OutcomeUnknown { .. }));
    assert!(matches!(last(Write, vec![busy(), not_connected()]), Error::Unreachable { .. }));
    assert!(matches!(last(Write, vec![lost()]), Error::OutcomeUnknown { .. }));
}

#[test]
fn a_stream_that_worked_begins_a_new_count() {
    let (servers, begun) = (servers(1), Instant::now());
    let mut stream = StreamAttempts::new(TIMEOUT);
    stream.next(&servers, begun);
    assert!(stream.ended(&servers, not_connected(), begun, 0.0).is_ok());
    // Long after, without a message and open for a moment only: the time is over.
    let late = begun + TIMEOUT;
    stream.next(&servers, late);
    stream.opened(late);
    assert!(stream.ended(&servers, Meaning::stream_ended(), late, 0.0).unwrap_err().is_outage());
    // Whoever goes on has the whole time again; a message, or a second, begins it anew.
    stream.next(&servers, late);
    assert!(stream.ended(&servers, not_connected(), late, 0.0).is_ok());
    let later = late + TIMEOUT;
    stream.next(&servers, later);
    stream.opened(later - limits::STREAM_HEALTHY_AFTER);
    assert!(stream.ended(&servers, Meaning::stream_ended(), later, 0.0).is_ok());
    let latest = later + TIMEOUT;
    stream.next(&servers, latest);
    stream.opened(latest);
    stream.worked();
    assert!(stream.ended(&servers, Meaning::stream_ended(), latest, 0.0).is_ok());
}

#[test]
fn a_server_that_keeps_less_is_passed_over() {
    let (servers, now) = (servers(3), Instant::now());
    let mut stream = StreamAttempts::new(TIMEOUT);
    for expected in ["s0:1", "s1:1", "s2:1", "s0:1"] {
        assert_eq!(&*stream.next(&servers, now).0, expected);
        stream.opened(now);
        let expired = Meaning::Final(Error::refused(ErrorReason::Expired, "x"));
        assert!(stream.ended(&servers, expired, now, 0.0).unwrap_err().is_expired());
    }
}

#[test]
fn the_texts_of_unknown_outcomes_are_not_nested() {
    let said = Error::outcome_unknown("no quorum").to_string();
    assert_eq!(Error::outcome_unknown(&said).to_string(), said);
}
