//! Reading the manifests of `apply`, `create`, `run` and `delete -f`, and checking all of it before anything is sent.
//!
//! Owns: files, folders and stdin; what several objects must not have in common. Does not own: the form of a manifest (crate
//! `kube`), what is valid (crate `api`).

use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use stint_api::{
    ConfigMap, FieldError, Job, JobUid, ObjectMeta, generate_labels, invalid_message, set_defaults,
    validate_config_map, validate_create,
};
use stint_kube::ManifestObject;
use stint_kube::limits::MANIFEST_BYTES_MAX;

use crate::commands::Context;
use crate::output;

/// What files of a folder are manifests.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
const STDIN: &str = "-";
/// Stands for the uid that the servers will draw for a new Job.
const FUTURE_UID: JobUid = JobUid(0);
/// Decision 10: what of `generateName` is kept, and what stands for the characters that the servers append to it.
const NAME_PREFIX_CHARACTERS_MAX: usize = 58;
const FUTURE_SUFFIX: &str = "xxxxx";

/// An object and the file that it stands in.
#[derive(Debug, Clone)]
pub struct Document {
    /// As the user named it, or `stdin`.
    pub file: String,
    pub object: ManifestObject,
}

impl Document {
    /// Name and namespace, labels, versions.
    pub fn metadata(&self) -> &ObjectMeta {
        match &self.object {
            ManifestObject::Job(job) => &job.metadata,
            ManifestObject::ConfigMap(map) => &map.metadata,
        }
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.object {
            ManifestObject::Job(job) => &mut job.metadata,
            ManifestObject::ConfigMap(map) => &mut map.metadata,
        }
    }

    /// As people call it.
    pub fn kind(&self) -> &'static str {
        match &self.object {
            ManifestObject::Job(_) => "job",
            ManifestObject::ConfigMap(_) => "configmap",
        }
    }
}

/// Reads all objects of all manifests, in order.
pub fn read(context: &Context, filenames: &[String]) -> Result<Vec<Document>> {
    let stdins = filenames.iter().filter(|filename| *filename == STDIN).count();
    ensure!(stdins <= 1, "-f - is given {stdins} times: stdin can be read once");
    let mut documents: Vec<Document> = Vec::new();
    let mut problems = Vec::new();
    for filename in filenames {
        for file in files_of(filename)? {
            let text = read_text(&file)?;
            let file = shown_name(&file).to_owned();
            match stint_kube::read_objects(&text) {
                Ok(objects) if objects.is_empty() => {
                    problems.push(format!("{file}: there is no object in it: give a manifest of kind Job"));
                }
                Ok(objects) => {
                    documents
                        .extend(objects.into_iter().map(|object| Document { file: file.clone(), object }));
                }
                Err(errors) => problems.extend(errors.iter().map(|error| format!("{file}: {error}"))),
            }
        }
    }
    refuse_if_any(&problems)?;
    for document in &mut documents {
        let meta = document.metadata();
        match &context.namespace {
            Some(wanted) if !meta.namespace.is_empty() && meta.namespace != *wanted => bail!(
                "{}: {} {:?} is of namespace {:?}, and --namespace is {wanted:?}: they must be the same",
                document.file,
                document.kind(),
                meta.name,
                meta.namespace
            ),
            _ if meta.namespace.is_empty() => {
                context.namespace().clone_into(&mut document.metadata_mut().namespace);
            }
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    for document in &documents {
        let (kind, meta) = (document.kind(), document.metadata());
        if !meta.name.is_empty() && !names.insert((kind, &meta.namespace, &meta.name)) {
            bail!(
                "{}: {kind} {:?} of namespace {:?} is given twice: leave one out",
                document.file,
                meta.name,
                meta.namespace
            );
        }
    }
    Ok(documents)
}

/// Checks objects as the servers check new ones, so that a wrong one is found before the first is sent.
pub fn check_new(documents: &[Document]) -> Result<()> {
    let mut problems = Vec::new();
    for Document { file, object } in documents {
        problems.extend(match object {
            ManifestObject::Job(job) => problem_of_new(file, job),
            ManifestObject::ConfigMap(map) => problem_of_map(file, map, &validate_config_map(map)),
        });
    }
    refuse_if_any(&problems)
}

/// What is wrong with one ConfigMap, in Kubernetes' words.
pub fn problem_of_map(file: &str, map: &ConfigMap, errors: &[FieldError]) -> Option<String> {
    let name = &map.metadata.name;
    if name.is_empty() {
        return Some(format!("{file}: metadata.name: Required value: a ConfigMap needs a name"));
    }
    (!errors.is_empty()).then(|| format!("{file}: {}", invalid_message("ConfigMap", name, errors)))
}

/// What the servers would refuse a new Job for, as they will store it: with its generated name and labels.
pub fn problem_of_new(file: &str, given: &Job) -> Option<String> {
    let mut errors = errors_of_new(given.clone());
    let prefix = &given.metadata.generate_name;
    if errors.is_empty() && given.metadata.name.is_empty() {
        let mut named = given.clone();
        named.metadata.name = prefix.chars().take(NAME_PREFIX_CHARACTERS_MAX).collect();
        named.metadata.name.push_str(FUTURE_SUFFIX);
        errors = errors_of_new(named);
    }
    let problem = problem_of(file, given, &errors)?;
    // Nobody can write a uid that is not drawn yet.
    Some(problem.replace(&format!("must be \"{FUTURE_UID}\""), "is given by the servers: leave it out"))
}

fn errors_of_new(mut job: Job) -> Vec<FieldError> {
    set_defaults(&mut job);
    job.metadata.uid = FUTURE_UID.to_string();
    generate_labels(&mut job, FUTURE_UID);
    validate_create(&job)
}

/// What is wrong with one Job, in Kubernetes' words.
pub fn problem_of(file: &str, job: &Job, errors: &[FieldError]) -> Option<String> {
    let name = if job.metadata.name.is_empty() { &job.metadata.generate_name } else { &job.metadata.name };
    (!errors.is_empty()).then(|| format!("{file}: {}", invalid_message("Job.batch", name, errors)))
}

/// An error of all these problems.
pub fn refuse_if_any(problems: &[String]) -> Result<()> {
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// Tells the user what was accepted without effect.
pub fn warn(warning: &str) {
    output::warning(warning);
}

/// The file itself, or the manifests in a folder, in the order of their names.
fn files_of(filename: &str) -> Result<Vec<String>> {
    ensure!(!filename.is_empty(), "-f is empty: give a file, a folder, or - for stdin");
    let path = Path::new(filename);
    if filename == STDIN || !path.is_dir() {
        return Ok(vec![filename.to_owned()]);
    }
    let failed = || format!("the folder {filename} can't be read");
    let mut files = Vec::new();
    for entry in path.read_dir().with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_file() && EXTENSIONS.contains(&extension) {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "the folder {filename} holds no manifest: none ends in .yaml, .yml or .json");
    Ok(files)
}

/// What a manifest is called in messages.
fn shown_name(filename: &str) -> &str {
    if filename == STDIN { "stdin" } else { filename }
}

fn read_text(filename: &str) -> Result<String> {
    let mut bytes = Vec::new();
    // One byte more than may be: then it is refused by the name of its limit, however long it is.
    let limit = MANIFEST_BYTES_MAX as u64 + 1;
    if filename == STDIN {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).context("stdin can't be read")?;
    } else {
        File::open(filename)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .with_context(|| format!("{filename} can't be read"))?;
    }
    let filename = shown_name(filename);
    if bytes.len() > MANIFEST_BYTES_MAX {
        bail!("{filename} has more than {MANIFEST_BYTES_MAX} bytes, the limit of a manifest: split it");
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        bail!("{filename} is UTF-16: save it as UTF-8");
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        anyhow::anyhow!("{filename} is not text, see line {line}: manifests are UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_client::{Client, ClientOptions};

    fn context(namespace: Option<&str>) -> Context {
        let client = Client::new(ClientOptions::new("127.0.0.1:1")).unwrap();
        let namespace = namespace.map(str::to_owned);
        Context { client, namespace, default_namespace: "default".to_owned(), withheld: None }
    }

    fn folder() -> std::path::PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("stint-manifest-test.{}.{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn job(name: &str) -> String {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{template: {{spec: \
             {{restartPolicy: Never, containers: [{{name: main, image: none, command: [\"true\"]}}]}}}}}}\n---\n"
        )
    }

    fn read_files(namespace: Option<&str>, files: &[(&str, &[u8])]) -> Result<Vec<Document>> {
        let folder = folder();
        for (name, bytes) in files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        // Within a runtime: the client's channels need one.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let read = read(&context(namespace), &[folder.to_str().unwrap().to_owned()]);
        std::fs::remove_dir_all(&folder).unwrap();
        read
    }

    #[test]
    fn a_folder_gives_its_manifests_in_order() {
        let (b, a) = (job("b"), job("a") + &job("c"));
        let files: &[(&str, &[u8])] =
            &[("2.yml", b.as_bytes()), ("1.yaml", a.as_bytes()), ("notes.txt", b"not: [a manifest")];
        let documents = read_files(Some("team"), files).unwrap();
        let names: Vec<&str> = documents.iter().map(|one| one.metadata().name.as_str()).collect();
        assert_eq!(names, ["a", "c", "b"]);
        assert!(documents.iter().all(|one| one.metadata().namespace == "team"));
        assert!(documents[2].file.ends_with("2.yml"));
        check_new(&documents).unwrap();
    }

    #[test]
    fn what_is_wrong_with_one_object_is_found_before_any_is_sent() {
        let good = job("good");
        let invalid = job("invalid").replace("Never", "Always");
        let negative = job("negative").replace("template", "completions: -1, template");
        let documents =
            read_files(None, &[("x.yaml", format!("{good}{invalid}{negative}").as_bytes())]).unwrap();
        let error = check_new(&documents).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 2, "{error}");
        assert!(
            lines[0].contains("x.yaml: Job.batch \"invalid\" is invalid: spec.template.spec.restartPolicy")
        );
        assert!(lines[1].contains("\"negative\" is invalid: spec.completions: Invalid value: -1"));
    }

    #[test]
    fn m2_what_would_be_wrong_with_generated_labels_is_found_before_any_is_sent() {
        let long = job(&"n".repeat(64));
        let old_labels = "template: {metadata: {labels: {batch.kubernetes.io/controller-uid: old}}, ";
        let copied = job("copied").replace("template: {", old_labels);
        let prefix = "p".repeat(70);
        let generated = job("x").replace("name: x}", &format!("generateName: {prefix}}}"));
        let indexed =
            generated.replace("spec: {template", "spec: {completionMode: Indexed, completions: 1, template");
        let text = [job("good"), long, copied, generated, indexed].concat();
        let documents = read_files(None, &[("x.yaml", text.as_bytes())]).unwrap();
        let error = check_new(&documents).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        assert!(lines[0].contains("x.yaml: Job.batch \"nnn") && lines[0].contains("63"), "{error}");
        assert!(
            lines[1].contains("\"copied\" is invalid") && lines[1].contains("the servers: leave it out"),
            "{error}"
        );
        assert!(!error.contains(&FUTURE_UID.to_string()), "{error}");
        assert!(lines[2].contains("will not able to create pod with invalid DNS label"), "{error}");
        assert!(lines[2].contains(&format!("Job.batch {prefix:?} is invalid")), "{error}");
    }

    #[test]
    fn what_can_be_no_manifest_is_refused() {
        let long = vec![b' '; MANIFEST_BYTES_MAX + 1];
        let twice = job("a") + &job("a");
        let foreign = job("a").replace("name: a}", "name: a, namespace: other}");
        for (file, bytes, expected) in [
            ("a.yaml", &b""[..], "a.yaml: there is no object in it"),
            ("a.yaml", b"# nothing\n---\n", "a.yaml: there is no object in it"),
            ("a.yaml", b"\xff\xfek\0i\0n\0d\0", "a.yaml is UTF-16: save it as UTF-8"),
            ("a.yaml", b"kind: Job\nname: \xe4\n", "a.yaml is not text, see line 2"),
            ("a.yaml", &long, "more than 16777216 bytes"),
            ("a.yaml", twice.as_bytes(), "job \"a\" of namespace \"team\" is given twice"),
            ("a.yaml", foreign.as_bytes(), "--namespace is \"team\""),
            ("a.txt", b"", "holds no manifest"),
        ] {
            let error = read_files(Some("team"), &[(file, bytes)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
