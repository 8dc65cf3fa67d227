//! What holds of every value: texts that are read as they were written, rules that no input breaks.

use std::time::Duration;

use proptest::prelude::*;
use stint_api::{
    Container, Job, JobUid, LabelOperator, LabelRequirement, LabelSelector, Quantity, StringMap, Timestamp,
    duration, generate_labels, selector, set_defaults, time, validate_create, validate_update, warnings,
};

fn label() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["app", "tier", "example.com/x", "a", "in", "notin", "b-1_c.d"])
        .prop_map(str::to_owned)
}

fn requirement() -> impl Strategy<Value = LabelRequirement> {
    let operators =
        vec![LabelOperator::In, LabelOperator::NotIn, LabelOperator::Exists, LabelOperator::DoesNotExist];
    (label(), prop::sample::select(operators), prop::collection::vec("[a-z0-9]{0,3}", 1..3)).prop_map(
        |(key, operator, mut values)| {
            if matches!(operator, LabelOperator::Exists | LabelOperator::DoesNotExist) {
                values.clear();
            }
            LabelRequirement { key, operator, values }
        },
    )
}

/// Jobs with anything in them: only few are valid.
fn job() -> impl Strategy<Value = Job> {
    let numbers = (any::<Option<i32>>(), any::<Option<i32>>(), any::<Option<i64>>(), any::<Option<i32>>());
    let texts = prop::collection::vec("[a-zA-Z0-9./ -]{0,12}", 8);
    let flags = (any::<Option<bool>>(), any::<Option<bool>>(), any::<bool>());
    (numbers, texts, flags, any::<Option<u64>>(), any::<Option<u64>>()).prop_map(
        |(numbers, texts, flags, base, cap)| {
            let mut job = Job::default();
            job.metadata.name.clone_from(&texts[0]);
            job.metadata.namespace.clone_from(&texts[1]);
            job.metadata.annotations.insert("stint.dev/backoff-base".to_owned(), texts[2].clone());
            job.metadata.labels.insert(texts[3].clone(), texts[4].clone());
            let spec = &mut job.spec;
            (spec.parallelism, spec.completions, spec.active_deadline_seconds, spec.backoff_limit) = numbers;
            (spec.suspend, spec.manual_selector) = (flags.0, flags.1);
            (spec.backoff_base_ms, spec.backoff_cap_ms) = (base, cap);
            spec.completion_mode = flags.2.then(|| "Indexed".into());
            spec.managed_by = flags.2.then(|| texts[5].clone());
            spec.template.spec.restart_policy = Some(texts[6].as_str().into());
            spec.template.spec.containers.push(Container { name: texts[7].clone(), ..Container::default() });
            job
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn durations_are_read_as_they_were_written(milliseconds in 0..18_446_744_073_709_u64) {
        prop_assert_eq!(duration::parse(&duration::format_ms(milliseconds)), Ok(Duration::from_millis(milliseconds)));
    }

    #[test]
    fn times_are_read_as_they_were_written(milliseconds in -60_000_000_000_000_i64..250_000_000_000_000) {
        let at = Timestamp(milliseconds);
        prop_assert_eq!(time::parse(&time::format_micros(at)), Ok(at));
        let second = Timestamp(milliseconds.div_euclid(1000) * 1000);
        prop_assert_eq!(time::parse(&time::format_seconds(second)), Ok(second));
    }

    #[test]
    fn quantities_keep_their_text_and_order(left in 0..10_i64.pow(12), right in 0..10_i64.pow(12)) {
        for suffix in ["", "m", "k", "Ki", "M", "Mi", "e2"] {
            let parse = |number: i64| Quantity::parse(&format!("{number}{suffix}"));
            if let (Ok(smaller), Ok(larger)) = (parse(left.min(right)), parse(left.max(right))) {
                prop_assert!(smaller.millis() <= larger.millis());
                prop_assert_eq!(Quantity::parse(smaller.as_str()), Ok(smaller));
            } else {
                prop_assert!(false, "{left}{suffix} or {right}{suffix} is not read");
            }
        }
    }

    #[test]
    fn selectors_are_read_as_they_were_written(requirements in prop::collection::vec(requirement(), 0..5)) {
        let written = LabelSelector { match_labels: StringMap::new(), match_expressions: requirements };
        let text = written.to_string();
        let read = selector::parse(&text);
        prop_assert_eq!(read, Ok(written), "{}", text);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>()) {
        let _ = (duration::parse(&text), time::parse(&text), Quantity::parse(&text), selector::parse(&text));
        let _ = text.parse::<JobUid>();
    }

    #[test]
    fn defaulting_is_stable_and_validation_total(job in job(), uid in any::<u128>()) {
        let uid = JobUid(uid);
        let mut once = job;
        set_defaults(&mut once);
        generate_labels(&mut once, uid);
        once.metadata.uid = uid.to_string();
        let mut twice = once.clone();
        set_defaults(&mut twice);
        generate_labels(&mut twice, uid);
        prop_assert_eq!(&twice, &once, "a manifest that is applied again compares equal");
        // An update to itself is wrong in nothing but what the Job was wrong in already.
        prop_assert_eq!(validate_update(&once, &once), validate_create(&once));
        let _ = warnings(&once, None);
    }
}
