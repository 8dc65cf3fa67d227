//! Manifests of `testdata`: the good ones are read, the bad ones are refused with the errors that stand at their end.
//!
//! `UPDATE=1` rewrites those errors; read the difference before it is committed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use stint_api::{
    CompletionMode, Job, KEPT_CONTAINER_FIELDS, KEPT_POD_FIELDS, PodReplacementPolicy, RestartPolicy,
    Revision,
};
use stint_kube::{
    ManifestObject, config_map_to_json, job_from_json, job_to_json, limits, list_to_json, read_manifest,
    read_objects, to_yaml,
};

/// Begins the lines of a bad manifest that say what is wrong with it.
const EXPECTED: &str = "#! ";

fn testdata(folder: &str) -> Vec<PathBuf> {
    // Below the package, where Cargo runs tests: not compiled in, as clones may share a target folder.
    let folder = Path::new("testdata").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn good(name: &str) -> Vec<Job> {
    let file = testdata("good").into_iter().find(|file| file.file_stem().unwrap() == name).unwrap();
    read_manifest(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn bad_manifests_are_refused_with_path_and_position() {
    let files = testdata("bad");
    assert!(files.len() >= 40, "the bad manifests are gone");
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (comments, manifest): (Vec<&str>, Vec<&str>) =
            text.split_inclusive('\n').partition(|line| line.starts_with(EXPECTED));
        let manifest = manifest.concat();
        let errors = match read_manifest(&manifest) {
            Ok(_) => "accepted".to_owned(),
            Err(errors) => errors.iter().map(|error| format!("{EXPECTED}{error}\n")).collect(),
        };
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, format!("{manifest}{errors}")).unwrap();
        } else if errors != comments.concat() {
            wrong.push(format!("{}:\nexpected\n{}found\n{errors}", file.display(), comments.concat()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn good_manifests_are_read_and_survive_json_and_yaml() {
    for file in testdata("good") {
        let jobs = read_manifest(&fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|errors| panic!("{}: {errors:?}", file.display()));
        for job in &jobs {
            assert_eq!(job_from_json(&job_to_json(job)).as_ref(), Ok(job), "{}", file.display());
            assert_eq!(read_manifest(&to_yaml(&job_to_json(job))).as_ref(), Ok(&vec![job.clone()]));
        }
        let list = list_to_json(jobs.iter().map(job_to_json).collect(), 7);
        assert_eq!(read_manifest(&to_yaml(&list)), Ok(jobs));
    }
}

#[test]
fn the_example_of_the_repository_is_what_it_says() {
    let jobs = read_manifest(include_str!("../../../deploy/examples/pi-calculator.yaml")).unwrap();
    let [job] = &jobs[..] else { panic!("one Job, not {}", jobs.len()) };
    assert_eq!(job.metadata.name, "pi-calculator");
    assert_eq!(job.spec.backoff_limit, Some(4));
    let pod = &job.spec.template.spec;
    assert_eq!(pod.restart_policy, Some(RestartPolicy::Never));
    assert_eq!(pod.containers[0].name, "pi");
    assert_eq!(pod.containers[0].image, "perl:5.34");
    assert_eq!(pod.containers[0].command, ["perl", "-Mbignum=bpi", "-wle", "print bpi(2000)"]);
    let mut job = job.clone();
    stint_api::set_defaults(&mut job);
    assert_eq!(stint_api::validate_create(&job), []);
}

#[test]
fn every_honoured_field_is_read() {
    let [job] = &good("full")[..] else { panic!("one Job") };
    let meta = &job.metadata;
    assert_eq!((meta.name.as_str(), meta.namespace.as_str()), ("everything", "jobs"));
    assert_eq!(meta.uid, "01234567-89ab-cdef-0011-223344556677", "a precondition");
    assert_eq!(meta.resource_version, Revision(42), "a precondition");
    assert_eq!((meta.generation, meta.creation_timestamp), (0, None), "M1: the server's own");
    assert_eq!(meta.labels["1"], "one");
    assert_eq!(meta.owner_references[0].name, "nightly");
    assert!(meta.owner_references[0].controller && meta.owner_references[0].block_owner_deletion);
    assert_eq!(job.status, stint_api::JobStatus::default(), "M1");
    let spec = &job.spec;
    assert_eq!((spec.parallelism, spec.completions), (Some(2), Some(4)));
    assert_eq!((spec.active_deadline_seconds, spec.backoff_limit), (Some(100), Some(0)));
    assert_eq!((spec.manual_selector, spec.suspend), (Some(false), Some(true)));
    assert_eq!(spec.ttl_seconds_after_finished, Some(60));
    assert_eq!(spec.completion_mode, Some(CompletionMode::Indexed));
    assert_eq!(spec.pod_replacement_policy, Some(PodReplacementPolicy::TerminatingOrFailed));
    assert_eq!(spec.managed_by.as_deref(), Some("kubernetes.io/job-controller"));
    assert_eq!(spec.template.labels["tier"], "batch");
    assert_eq!(spec.template.annotations["note"], "hello");
    let pod = &spec.template.spec;
    assert_eq!(pod.restart_policy, Some(RestartPolicy::OnFailure));
    assert_eq!((pod.termination_grace_period_seconds, pod.priority), (Some(5), Some(7)));
    assert_eq!(pod.node_selector["disk"], "ssd");
    let kept: Vec<&str> = pod.kept_fields.keys().map(String::as_str).collect();
    assert_eq!(kept, KEPT_POD_FIELDS);
    assert_eq!(
        (pod.host_aliases[0].ip.as_str(), &pod.host_aliases[0].hostnames[..]),
        ("192.0.2.2", &["other".to_owned()][..])
    );
    assert_eq!(pod.kept_fields["imagePullSecrets"], r#"[{"name":"registry"}]"#);
    assert_eq!(pod.kept_fields["automountServiceAccountToken"], "false");
    let container = &pod.containers[0];
    assert_eq!((container.command.len(), container.args[0].as_str()), (2, "echo $(WHO)"));
    assert_eq!(container.working_dir, "/tmp");
    assert_eq!((container.env[0].value.as_str(), container.env[1].value.as_str()), ("world", ""));
    assert_eq!(container.requests["cpu"].millis(), 500);
    assert_eq!(container.requests["memory"].units(), 64 << 20);
    assert_eq!(container.limits["cpu"].millis(), 1000);
    let kept: Vec<&str> = container.kept_fields.keys().map(String::as_str).collect();
    assert_eq!(kept, KEPT_CONTAINER_FIELDS);
    let mut job = job.clone();
    stint_api::set_defaults(&mut job);
    assert_eq!(stint_api::validate_create(&job), []);
    assert_eq!(job.spec.backoff_base_ms, Some(250), "D4");
}

#[test]
fn the_whole_pod_is_read() {
    let [job] = &good("whole-pod")[..] else { panic!("one Job") };
    let pod = &job.spec.template.spec;
    assert_eq!(pod.runtime_class_name.as_deref(), Some("oci"));
    assert_eq!((pod.hostname.as_deref(), pod.subdomain.as_deref()), (Some("worker"), Some("team")));
    assert_eq!((pod.host_network, pod.host_pid, pod.host_ipc), (true, false, true));
    assert_eq!(pod.share_process_namespace, Some(true));
    let security = pod.security_context.as_ref().unwrap();
    assert_eq!((security.run_as_user, security.fs_group), (Some(1000), Some(4000)));
    assert_eq!(security.supplemental_groups, [2000, 3000]);
    let names: Vec<&str> = pod.init_containers.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["setup", "proxy"]);
    assert_eq!(pod.init_containers[1].restart_policy, Some(RestartPolicy::Always), "P7");
    assert_eq!(pod.volumes.len(), 6);
    assert_eq!(pod.volumes[0].source, stint_api::VolumeSource::default(), "an empty folder");
    let stint_api::VolumeSource::ConfigMap(map) = &pod.volumes[3].source else { panic!("a ConfigMap") };
    assert_eq!((map.default_mode, map.items[0].mode), (Some(0o400), Some(0o400)), "0400 is octal");
    let main = &pod.containers[0];
    assert_eq!(main.image_pull_policy, Some(stint_api::ImagePullPolicy::Never));
    assert_eq!((main.env_from.len(), main.env.len(), main.volume_mounts.len()), (1, 3, 3));
    assert!(main.volume_mounts[1].read_only);
    assert_eq!(main.restart_policy_rules.len(), 2, "P10");
    let lifecycle = main.lifecycle.as_ref().unwrap();
    assert_eq!(lifecycle.stop_signal.as_deref(), Some("SIGINT"), "P6");
    assert_eq!(main.liveness_probe.as_ref().unwrap().timeout_seconds, 2);
    assert_eq!(main.termination_message_path, "/scratch/message", "P12");
    let mut job = job.clone();
    stint_api::set_defaults(&mut job);
    assert_eq!(stint_api::validate_create(&job), []);
    let again = job_from_json(&job_to_json(&job)).unwrap();
    assert_eq!(again.spec.template, job.spec.template, "what is shown can be applied");
}

#[test]
fn config_maps_and_jobs_are_read_in_order() {
    let text = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, uid: abc, creationTimestamp: null}
immutable: true
data: {level: debug, a.conf: \"x = 1\\n\"}
binaryData: {logo: AAH/}
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: other}}
  - {apiVersion: batch/v1, kind: Job, metadata: {name: x}}
";
    let objects = read_objects(text).unwrap();
    let [ManifestObject::ConfigMap(map), ManifestObject::ConfigMap(other), ManifestObject::Job(job)] =
        &objects[..]
    else {
        panic!("two ConfigMaps and a Job, not {objects:?}")
    };
    assert_eq!((map.metadata.name.as_str(), map.metadata.uid.as_str()), ("settings", "abc"));
    assert_eq!((map.data["level"].as_str(), map.data["a.conf"].as_str()), ("debug", "x = 1\n"));
    assert_eq!((map.binary_data["logo"].as_slice(), map.immutable), (&[0, 1, 255][..], Some(true)));
    assert_eq!((other.metadata.name.as_str(), job.metadata.name.as_str()), ("other", "x"));
    let again = read_objects(&to_yaml(&config_map_to_json(map))).unwrap();
    assert_eq!(again, [ManifestObject::ConfigMap(map.clone())], "what is shown can be applied");
    for (text, expected) in [
        ("apiVersion: v1\nkind: ConfigMap\ndata: {a: 1}\n", "line 3, column 11: data[a]: expected text"),
        (
            "apiVersion: v1\nkind: ConfigMap\ndat: {}\n",
            "line 3, column 1: unknown field \"dat\" (did you mean \"data\"?)",
        ),
        ("apiVersion: v1\nkind: ConfigMap\nbinaryData: {a: \"*\"}\n", "line 3, column 17: binaryData[a]:"),
        (
            "apiVersion: v2\nkind: ConfigMap\n",
            "apiVersion: Unsupported value: \"v2\": supported values: \"v1\"",
        ),
        (
            "apiVersion: v1\nkind: Secret\n",
            "kind: Unsupported value: \"Secret\": supported values: \"Job\", \"ConfigMap\", \"List\"",
        ),
    ] {
        let errors = read_objects(text).unwrap_err();
        assert!(errors[0].to_string().contains(expected), "{expected}: {}", errors[0]);
    }
    assert!(read_manifest(text).unwrap_err()[0].to_string().contains("Unsupported value: \"ConfigMap\""));
}

#[test]
fn documents_and_lists_give_their_jobs_in_order() {
    let names = |name: &str| -> Vec<String> { good(name).into_iter().map(|job| job.metadata.name).collect() };
    assert_eq!(names("several-documents"), ["x", "z"]);
    assert_eq!(names("list"), ["a", "b"]);
    assert_eq!(names("empty"), [""; 0]);
    assert_eq!(good("json")[0].metadata.annotations["face"], "\u{1f600}");
    assert_eq!(good("anchors")[0].spec.template.labels["app"], "demo");
}

#[test]
fn what_is_too_much_is_refused_by_the_name_of_its_limit() {
    let job = "---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec: {template: {spec: {containers: []}}}\n";
    assert_eq!(read_manifest(&job.repeat(limits::DOCUMENTS_MAX)).unwrap().len(), limits::DOCUMENTS_MAX);
    let item = "{apiVersion: batch/v1, kind: Job},";
    let list = |items: usize| format!("apiVersion: v1\nkind: List\nitems: [{}]\n", item.repeat(items));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{},", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    for (text, expected) in [
        (job.repeat(20_000), "more than 1000 documents"),
        ("---\n".repeat(20_000), "more than 1000 documents"),
        (list(limits::MANIFEST_OBJECTS_MAX + 1), "more than 10000 Jobs"),
        (bomb, "more than 100000 values behind aliases"),
        ("- ".repeat(50), "more than 24 lists and mappings within each other"),
        (format!("[{}]", "a,".repeat(limits::NODES_MAX)), "more than 1000000 values"),
        (" ".repeat(limits::MANIFEST_BYTES_MAX + 1), "may have 16777216"),
    ] {
        let errors = read_manifest(&text).unwrap_err();
        assert_eq!(errors.len(), 1, "{expected}");
        assert!(errors[0].to_string().contains(expected), "{expected}: {}", errors[0]);
    }
}

#[test]
fn what_is_no_text_at_all_is_refused() {
    let bytes: Vec<u8> = (0..4096_u32).map(|number| (number * 7919 % 256) as u8).collect();
    let junk = String::from_utf8_lossy(&bytes);
    let errors = read_manifest(&junk).unwrap_err();
    assert!(errors[0].to_string().contains("can't be read"), "{}", errors[0]);
    assert!(errors[0].position.is_some());
    assert!(
        errors[0].to_string().chars().all(|one| !one.is_control()),
        "what is printed does not harm a terminal"
    );
    assert!(read_manifest("\0").is_err());
}

#[test]
fn fields_that_are_not_supported_may_be_null_or_say_their_default() {
    let nothing =
        "  podFailurePolicy: null\n  successPolicy: ~\n  scheduling: null\n  backoffLimitPerIndex:\n";
    let text = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: x, creationTimestamp: null}}\nspec:\n{nothing}  template:
    metadata: {{name: x, creationTimestamp: null}}
    spec: {{containers: [], securityContext: {{}}, hostNetwork: false, volumes: [], hostUsers: true}}\n"
    );
    assert_eq!(read_manifest(&text).map(|jobs| jobs.len()), Ok(1));
}

#[test]
fn nothing_makes_the_reader_panic() {
    // Every prefix of a manifest with every construct in it, and every single damaged byte.
    let file = testdata("good").into_iter().find(|file| file.file_stem().unwrap() == "full").unwrap();
    let text = fs::read_to_string(file).unwrap();
    for end in (0..text.len()).step_by(29) {
        let _ = read_manifest(&text[..end]);
    }
    for position in (0..text.len()).step_by(97) {
        for damage in ["{", "]", "\"", ":", "\t", "&a ", "*a", "\0", "- ", "\u{85}"] {
            let _ = read_manifest(&format!("{}{damage}{}", &text[..position], &text[position + 1..]));
        }
    }
}

/// A Job of which only the name and the part in question matter.
fn job_with(part: &str) -> String {
    format!("apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: x\nspec:\n  template:\n    spec:\n{part}")
}

#[test]
fn what_editors_and_tools_put_around_a_manifest_does_not_matter() {
    let job = job_with("      containers: []\n");
    for (what, text) in [
        ("a byte order mark", format!("\u{feff}{job}")),
        ("line ends of Windows", job.replace('\n', "\r\n")),
        ("a directive and an end", format!("%YAML 1.2\n---\n{job}...\n")),
        ("empty documents", format!("---\n# nothing\n---\n\n---\n{job}---\n")),
        ("no line end", job.trim_end().to_owned()),
        ("a byte order mark before JSON", "\u{feff}{\"apiVersion\":\"batch/v1\",\"kind\":\"Job\",\"metadata\":{\"name\":\"x\"},\"spec\":{\"template\":{\"spec\":{\"containers\":[]}}}}".to_owned()),
        ("tabs in JSON", "{\t\"apiVersion\":\t\"batch/v1\",\n\t\"kind\": \"Job\", \"metadata\": {\"name\": \"x\"}}\n".to_owned()),
    ] {
        let jobs = read_manifest(&text).unwrap_or_else(|errors| panic!("{what}: {errors:?}"));
        let names: Vec<&str> = jobs.iter().map(|job| job.metadata.name.as_str()).collect();
        assert_eq!(names, ["x"], "{what}");
    }
}

#[test]
fn merge_keys_are_merged() {
    let text = job_with("      containers: []\n")
        .replace("  name: x\n", "  name: x\n  labels: &labels {app: demo, tier: one}\n")
        .replace(
            "  template:\n",
            "  template:\n    metadata:\n      labels:\n        <<: *labels\n        tier: two\n",
        );
    let jobs = read_manifest(&text).unwrap();
    let labels = &jobs[0].spec.template.labels;
    assert_eq!((labels["app"].as_str(), labels["tier"].as_str(), labels.len()), ("demo", "two", 2));
}

#[test]
fn quantities_are_read_as_kubernetes_reads_them() {
    let read = |value: &str| {
        let container = format!("      - {{name: a, resources: {{requests: {{cpu: {value}}}}}}}\n");
        read_manifest(&job_with(&format!("      containers:\n{container}")))
    };
    for (text, millis) in [
        ("1", 1000),
        ("\"1\"", 1000),
        ("0.5", 500),
        ("500m", 500),
        ("\"0.1\"", 100),
        ("1e3", 1_000_000),
        ("1k", 1_000_000),
        ("1Ki", 1_024_000),
        ("2.5", 2500),
        ("0", 0),
        ("+1", 1000),
        (".5", 500),
    ] {
        let jobs = read(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        assert_eq!(jobs[0].spec.template.spec.containers[0].requests["cpu"].millis(), millis, "{text}");
    }
    for text in ["lots", "\"1 Gi\"", "1Gib", "\"\"", "true", "[1]", "{a: 1}", "1,5", "0x10m"] {
        let errors = read(text)
            .map(|jobs| format!("{:?}", jobs[0].spec.template.spec.containers[0].requests))
            .unwrap_err();
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].position.is_some_and(|position| position.line == 9), "{text}: {}", errors[0]);
        assert!(errors[0].to_string().contains("resources.requests"), "{text}: {}", errors[0]);
    }
}

#[test]
fn values_of_labels_annotations_and_variables_are_texts() {
    let read = |value: &str| {
        let text = job_with("      containers: []\n");
        read_manifest(&text.replace("  name: x\n", &format!("  name: x\n  annotations: {{a: {value}}}\n")))
    };
    for (value, expected) in [
        ("\"yes\"", "yes"),
        ("\"1\"", "1"),
        ("''", ""),
        ("!!str 1", "1"),
        ("2026-01-31", "2026-01-31"),
        ("1.2.3", "1.2.3"),
    ] {
        let jobs = read(value).unwrap_or_else(|errors| panic!("{value}: {errors:?}"));
        assert_eq!(jobs[0].metadata.annotations["a"], expected, "{value}");
    }
    for value in ["1", "1.5", "true", "yes", "off", "[a]", "{b: c}"] {
        let errors = read(value).unwrap_err();
        assert!(
            errors[0].to_string().starts_with("line 5, column 20: metadata.annotations[a]: expected text"),
            "{value}: {}",
            errors[0]
        );
    }
}

#[test]
fn every_place_of_a_manifest_is_strict() {
    // A misspelt name in each kind of place, and the line that it must be reported at.
    for (part, path) in [
        ("      contaners: []\n", "spec.template.spec.contaners"),
        (
            "      containers:\n      - name: a\n        comand: [x]\n",
            "spec.template.spec.containers[0].comand",
        ),
        (
            "      containers:\n      - name: a\n        env:\n        - name: A\n          valeu: x\n",
            "spec.template.spec.containers[0].env[0].valeu",
        ),
        (
            "      containers:\n      - name: a\n        resources:\n          request: {cpu: 1}\n",
            "spec.template.spec.containers[0].resources.request",
        ),
        (
            "      containers: []\n      dnsConfig:\n        nameserver: [x]\n",
            "spec.template.spec.dnsConfig.nameserver",
        ),
        (
            "      containers: []\n      initContainers:\n      - nane: x\n",
            "spec.template.spec.initContainers[0].nane",
        ),
        ("      containers: []\n    metadat: {}\n", "spec.template.metadat"),
        ("      containers: []\n  podFailurePolicy:\n    rule: []\n", "spec.podFailurePolicy.rule"),
        ("      containers: []\nspek: {}\n", "spek"),
    ] {
        let text = job_with(part);
        let word = path.rsplit('.').next().unwrap();
        let line = 1 + text.lines().position(|line| line.contains(&format!("{word}:"))).unwrap() as u64;
        let errors = read_manifest(&text).unwrap_err();
        let found =
            errors.iter().find(|error| error.to_string().contains(&format!("unknown field {path:?}")));
        let found = found.unwrap_or_else(|| panic!("{path}: {errors:?}"));
        assert_eq!(found.position.map(|position| position.line), Some(line), "{found}");
    }
}
