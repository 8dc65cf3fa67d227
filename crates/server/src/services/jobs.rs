//! Service Jobs.
//!
//! Owns: its methods; names made from a prefix. Does not own: defaulting and validation (`stint-api`), what Jobs do
//! (`stint-core`).

use prost::Message;
use sha2::{Digest, Sha256};
use stint_api::{
    FieldError, Job, JobUid, Revision, generate_labels, invalid_message, set_defaults, validate_create,
    validate_update, warnings,
};
use stint_core::{
    Command, CreateJob, CreateOutcome, DeleteJob, DeletePropagation, RejectionReason, Reply, State, UpdateJob,
};
use stint_proto::limits::REQUEST_ID_BYTES_MAX;
use stint_proto::{ErrorReason, StatusDetails, v1};
use tonic::{Request, Response, Status};
use tracing::{Span, field};

use crate::error;
use crate::limits::{DELETE_TRIES_MAX, GENERATED_NAMES_MAX, NODES_COMPARED_MAX};
use crate::listing::{PageRequest, list};
use crate::objects::{DEFAULT_NAMESPACE, JobQuery, namespace_of, selector_of};
use crate::services::{Context, optional_namespace, rejection, required_name, uid_of, wrong_reply};
use crate::watching::WatchStream;

/// See `proto/stint/v1/jobs.proto`.
#[derive(Clone)]
pub struct JobsService(pub Context);

#[tonic::async_trait]
impl v1::jobs_server::Jobs for JobsService {
    async fn create(
        &self,
        request: Request<v1::CreateJobRequest>,
    ) -> Result<Response<v1::CreateJobResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        if request.request_id.len() > REQUEST_ID_BYTES_MAX {
            let message = format!("is longer than {REQUEST_ID_BYTES_MAX} bytes: use a UUID");
            return Err(error::bad_request("requestId", message));
        }
        if !request.request_id.is_empty() {
            Span::current().record("request.id", request.request_id.as_str());
        }
        let given = job_of(request.job)?;
        let names = names_of(&given, &request.request_id)?;
        for (position, name) in names.iter().enumerate() {
            let uid = JobUid(random_uid()?);
            let mut job = given.clone();
            job.metadata.name.clone_from(name);
            prepare(&mut job, uid)?;
            let warnings = self.warnings(&job);
            let namespace = job.metadata.namespace.clone();
            let other_names = names.iter().filter(|other| *other != name).cloned().collect();
            let command = CreateJob { job, uid, request_id: request.request_id.clone(), other_names };
            let reply = self.0.proposer.propose(Command::CreateJob(Box::new(command)), bytes).await;
            match reply.map_err(|failed| error::not_proposed(&failed, &self.0.raft))? {
                Reply::JobCreated { name, uid, revision, outcome } => {
                    Span::current().record("job.uid", field::display(uid));
                    let job = self.written(&namespace, &name, uid).await?;
                    return Ok(Response::new(v1::CreateJobResponse {
                        job: Some(job),
                        warnings,
                        outcome: wire_outcome(outcome).into(),
                        revision: revision.0,
                    }));
                }
                reply => {
                    let Some(rejection) = rejection(&reply) else { return Err(wrong_reply(&reply)) };
                    let is_taken = rejection.reason == RejectionReason::AlreadyExists;
                    if !is_taken || position + 1 == names.len() {
                        return Err(error::rejected(rejection));
                    }
                }
            }
        }
        Err(error::internal("making a name", &"no attempt was made"))
    }

    async fn get(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let request = request.into_inner();
        required_name(&request.name)?;
        let namespace = namespace_or_default(request.namespace);
        let name = request.name.clone();
        let job = self.0.reads.rows(request.stale, move |rows| rows.job_by_name(&namespace, &name)).await?;
        let job = job.ok_or_else(|| error::not_found("jobs.batch", &request.name))?;
        Ok(Response::new(job.into()))
    }

    async fn list(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let request = request.into_inner();
        let query = JobQuery {
            namespace: namespace_of(request.namespace, request.all_namespaces),
            name: String::new(),
            selector: selector_of(&request.label_selector)?,
        };
        let page = PageRequest {
            limit: request.limit,
            continue_token: request.continue_token,
            stale: request.stale,
        };
        let context = &self.0;
        let page = list(query, page, &context.reads, &context.lists).await?;
        Ok(Response::new(v1::ListJobsResponse { metadata: Some(page.metadata), items: page.items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateJobRequest>,
    ) -> Result<Response<v1::UpdateJobResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let mut job = job_of(request.job)?;
        required_name(&job.metadata.name)?;
        let expected = uid_of::<JobUid>("metadata.uid", &job.metadata.uid)?;
        let resource_version = Some(job.metadata.resource_version).filter(|revision| *revision > Revision(0));
        let (namespace, name) = (job.metadata.namespace.clone(), job.metadata.name.clone());
        let wanted = (namespace.clone(), name.clone());
        // Linearizable: what is refused here is refused because of it.
        let old = self.0.reads.rows(false, move |rows| rows.job_by_name(&wanted.0, &wanted.1)).await?;
        let old = old.ok_or_else(|| error::not_found("jobs.batch", &name))?;
        let uid: JobUid =
            old.metadata.uid.parse().map_err(|failed| error::internal("reading a Job's uid", &failed))?;
        if expected.is_some_and(|expected| expected != uid) {
            let message = format!("job {name:?} has uid {uid}, not the one that was given: read it again");
            return Err(error::refused(ErrorReason::Conflict, message));
        }
        Span::current().record("job.uid", field::display(uid));
        prepare_update(&old, &mut job, uid)?;
        let warnings = self.warnings(&job);
        let command = UpdateJob { job, uid: Some(uid), resource_version };
        let reply = self.0.propose(Command::UpdateJob(Box::new(command)), bytes).await?;
        let Reply::Done { revision } = reply else { return Err(wrong_reply(&reply)) };
        let job = self.written(&namespace, &name, uid).await?;
        Ok(Response::new(v1::UpdateJobResponse { job: Some(job), warnings, revision: revision.0 }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<v1::DeleteJobResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        required_name(&request.name)?;
        optional_namespace(&request.namespace)?;
        let propagation = propagation_of(request.propagation_policy)?;
        let namespace = namespace_or_default(request.namespace);
        let expected = uid_of::<JobUid>("uid", &request.uid)?;
        let resource_version =
            Some(Revision(request.resource_version)).filter(|revision| *revision > Revision(0));
        for attempt in 0.. {
            // Decision 10: by uid, also if the caller gave a name only.
            let uid = match expected {
                Some(uid) => uid,
                None => self.present_uid(&namespace, &request.name).await?,
            };
            Span::current().record("job.uid", field::display(uid));
            let command = DeleteJob {
                namespace: namespace.clone(),
                name: request.name.clone(),
                uid: Some(uid),
                resource_version,
                propagation,
            };
            let reply = self.0.proposer.propose(Command::DeleteJob(command), bytes).await;
            match reply.map_err(|failed| error::not_proposed(&failed, &self.0.raft))? {
                Reply::Done { revision } => {
                    let uid = uid.to_string();
                    return Ok(Response::new(v1::DeleteJobResponse { uid, revision: revision.0 }));
                }
                reply => {
                    let Some(rejection) = rejection(&reply) else { return Err(wrong_reply(&reply)) };
                    // The name has come to another Job since we looked, and the caller did not say which is meant.
                    let again = rejection.reason == RejectionReason::Conflict
                        && expected.is_none()
                        && resource_version.is_none()
                        && attempt < DELETE_TRIES_MAX;
                    if !again {
                        return Err(error::rejected(rejection));
                    }
                }
            }
        }
        Err(error::internal("deleting a job", &"no attempt was made"))
    }

    type WatchStream = WatchStream<v1::JobWatchEvent>;

    async fn watch(
        &self,
        request: Request<v1::WatchJobsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let query = JobQuery {
            namespace: namespace_of(request.namespace, request.all_namespaces),
            name: request.name,
            selector: selector_of(&request.label_selector)?,
        };
        Ok(Response::new(self.0.watches.watch(query, request.from_revision).await?))
    }
}

impl JobsService {
    /// The uid of the Job of a name; that there is none is said only after a quorum round.
    async fn present_uid(&self, namespace: &str, name: &str) -> Result<JobUid, Status> {
        let look = || self.0.raft.with_state(|state| state.job_uid_by_name(namespace, name));
        if let Some(uid) = look() {
            return Ok(uid);
        }
        self.0.reads.confirm().await?;
        look().ok_or_else(|| error::not_found("jobs.batch", name))
    }

    /// The Job as stored; if it is gone again, or another has its name by now, only who it was.
    async fn written(&self, namespace: &str, name: &str, uid: JobUid) -> Result<v1::Job, Status> {
        let wanted = (namespace.to_owned(), name.to_owned());
        let stored = self.0.reads.rows(true, move |rows| rows.job_by_name(&wanted.0, &wanted.1)).await;
        let stored = stored.map_err(error::not_read_back)?;
        if let Some(job) = stored.filter(|job| job.metadata.uid == uid.to_string()) {
            return Ok(job.into());
        }
        let metadata = v1::ObjectMeta {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            uid: uid.to_string(),
            ..v1::ObjectMeta::default()
        };
        Ok(v1::Job { metadata: Some(metadata), ..v1::Job::default() })
    }
}

impl JobsService {
    /// What its author may want to know of an accepted Job.
    fn warnings(&self, job: &Job) -> Vec<String> {
        let default_runtime = match job.spec.template.spec.runtime_class_name {
            None => self.0.raft.with_state(default_runtime),
            Some(_) => None,
        };
        warnings(job, default_runtime.as_deref())
    }
}

/// What runs Pods that name no runtime: the cluster's setting, or what the first nodes have in common.
fn default_runtime(state: &State) -> Option<String> {
    let setting = state.settings().map(|settings| settings.default_runtime.clone());
    if let Some(setting) = setting.filter(|setting| !setting.is_empty()) {
        return Some(setting);
    }
    let mut firsts = state.nodes().filter(|node| node.live).map(|node| node.runtimes.first());
    let first = firsts.next()??;
    firsts.take(NODES_COMPARED_MAX).all(|other| other == Some(first)).then(|| first.clone())
}

fn job_of(job: Option<v1::Job>) -> Result<Job, Status> {
    let job = job.ok_or_else(|| error::bad_request("job", "Required value"))?;
    // What the server sets is ignored, also if it cannot be read.
    let mut job = Job::try_from(v1::Job { status: None, ..job })?;
    if job.metadata.namespace.is_empty() {
        job.metadata.namespace = DEFAULT_NAMESPACE.to_owned();
    }
    Ok(job)
}

/// Defaults and validates a new Job, with its generated labels (M2): those that came with it must be the same (V23).
fn prepare(job: &mut Job, uid: JobUid) -> Result<(), Status> {
    set_defaults(job);
    job.metadata.uid = uid.to_string();
    generate_labels(job, uid);
    let errors = validate_create(job);
    if errors.is_empty() { Ok(()) } else { Err(invalid_job(&job.metadata.name, &errors)) }
}

/// The same for a changed Job. What may not change is decided against the Job as it is, and again when it is applied.
fn prepare_update(old: &Job, job: &mut Job, uid: JobUid) -> Result<(), Status> {
    set_defaults(job);
    // The generated labels (M2) carry the uid, and are in no manifest.
    generate_labels(job, uid);
    let errors = validate_update(old, job);
    if errors.is_empty() { Ok(()) } else { Err(invalid_job(&job.metadata.name, &errors)) }
}

fn invalid_job(name: &str, errors: &[FieldError]) -> Status {
    let message = invalid_message("Job.batch", name, errors);
    let mut details = StatusDetails::new(ErrorReason::Invalid, message);
    for failed in errors {
        details = details.with_field_violation(failed.field.clone(), failed.detail());
    }
    details.into_status()
}

fn namespace_or_default(namespace: String) -> String {
    if namespace.is_empty() { DEFAULT_NAMESPACE.to_owned() } else { namespace }
}

fn propagation_of(policy: i32) -> Result<DeletePropagation, Status> {
    match v1::PropagationPolicy::try_from(policy) {
        Ok(v1::PropagationPolicy::Unspecified | v1::PropagationPolicy::Background) => {
            Ok(DeletePropagation::Background)
        }
        Ok(v1::PropagationPolicy::Orphan) => Ok(DeletePropagation::Orphan),
        Ok(v1::PropagationPolicy::Foreground) => Ok(DeletePropagation::Foreground),
        Err(_) => Err(error::bad_request(
            "propagationPolicy",
            format!("{policy} is none: use Background, Orphan or Foreground"),
        )),
    }
}

fn wire_outcome(outcome: CreateOutcome) -> v1::CreateOutcome {
    match outcome {
        CreateOutcome::Created => v1::CreateOutcome::Created,
        CreateOutcome::AlreadyExisted => v1::CreateOutcome::AlreadyExisted,
        CreateOutcome::AlreadyDeleted => v1::CreateOutcome::AlreadyDeleted,
    }
}

/// A random UUID, version 4.
pub(super) fn random_uid() -> Result<u128, Status> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|failed| error::internal("drawing a uid", &failed))?;
    Ok(uuid_v4(bytes))
}

fn uuid_v4(bytes: [u8; 16]) -> u128 {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    (u128::from_be_bytes(bytes) & !VERSION & !VARIANT) | (4 << 76) | (0b10 << 62)
}

/// Characters of a made name's end: Kubernetes' own, none of which spell words.
const SUFFIX_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// Longest prefix of a made name, so that the whole is a DNS label.
const PREFIX_BYTES_MAX: usize = 58;

/// Names for a Job, of which the first that is free becomes its own: the given one, or those that a server makes.
fn names_of(job: &Job, request_id: &str) -> Result<Vec<String>, Status> {
    if !job.metadata.name.is_empty() || job.metadata.generate_name.is_empty() {
        return Ok(vec![job.metadata.name.clone()]);
    }
    let mut names = Vec::with_capacity(GENERATED_NAMES_MAX);
    for number in 0..GENERATED_NAMES_MAX {
        let name = generated_name(job, request_id, number)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Decision 10: names made from a prefix derive from the request's id, so that the repeated request means the same Job.
/// `number` tells the names of one request apart.
fn generated_name(job: &Job, request_id: &str, number: usize) -> Result<String, Status> {
    let digest: [u8; 32] = if request_id.is_empty() {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|failed| error::internal("drawing a name", &failed))?;
        random
    } else {
        let parts = [job.metadata.namespace.as_str(), &job.metadata.generate_name, request_id];
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.update((number as u64).to_be_bytes());
        hash.finalize().into()
    };
    let mut prefix = job.metadata.generate_name.clone();
    let mut end = prefix.len().min(PREFIX_BYTES_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    prefix.truncate(end);
    let mut number = u64::from_be_bytes(std::array::from_fn(|position| digest[position]));
    for _ in 0..SUFFIX_LENGTH {
        let n_characters = SUFFIX_CHARACTERS.len() as u64;
        prefix.push(SUFFIX_CHARACTERS[(number % n_characters) as usize] as char);
        number /= n_characters;
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(prefix: &str) -> Job {
        let mut job = Job::default();
        job.metadata.namespace = "default".to_owned();
        job.metadata.generate_name = prefix.to_owned();
        job
    }

    #[test]
    fn decision_10_a_made_name_derives_from_the_request() {
        let name = generated_name(&job("pi-"), "r1", 0).expect("a name");
        assert_eq!(generated_name(&job("pi-"), "r1", 0).expect("a name"), name);
        assert_ne!(generated_name(&job("pi-"), "r1", 1).expect("a name"), name);
        assert_ne!(generated_name(&job("pi-"), "r2", 0).expect("a name"), name);
        assert_ne!(generated_name(&job("po-"), "r1", 0).expect("a name"), name);
        assert_eq!((&name[..3], name.len()), ("pi-", 8));
        assert_eq!(generated_name(&job(&"x".repeat(300)), "r1", 0).expect("a name").len(), 63);
        assert!(generated_name(&job(&"ü".repeat(300)), "", 0).is_ok());
        let names = names_of(&job("pi-"), "r1").expect("names");
        assert_eq!((names.len(), &names[0]), (GENERATED_NAMES_MAX, &name));
        assert_eq!(names_of(&job("pi-"), "r1").expect("names"), names);
        assert_ne!(names_of(&job("pi-"), "").expect("names"), names_of(&job("pi-"), "").expect("names"));
        let mut named = job("pi-");
        named.metadata.name = "mine".to_owned();
        assert_eq!(names_of(&named, "r1").expect("names"), ["mine"]);
    }

    #[test]
    fn uids_are_uuids_of_version_4() {
        let text = JobUid(uuid_v4([0xff; 16])).to_string();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
