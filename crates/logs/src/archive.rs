//! Whole logs in an object store.
//!
//! Owns: names of objects, what is in them, the connection to the store. Does not own: when a log is uploaded (agents), who may
//! read it (servers).
//!
//! Layout, below the path of the archive's URL: `<pod uid>/<container>.<restart>.<first>-<end>[.end].log.zst`, where `first` and
//! `end` are offsets of 20 digits: where the object's first entry stands, and what comes after its last one. Each object is a
//! part of the log of one run: whole entries in the format of CRI logs, compressed with zstd, so that `zstdcat` of a run's
//! objects in the order of their names gives all that its node had kept of it. The last one has `.end` in its name: without it,
//! uploading was cut short.
//!
//! Invariant: a part has the same name and content whoever uploads it, and however often.

use crate::error::Error;
use crate::excerpt::Excerpt;
use crate::limits::{ARCHIVE_PART_BYTES_MAX, ARCHIVE_PARTS_MAX};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, parse_url_opts};
use std::sync::Arc;
use url::Url;

/// Where logs are archived. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

/// A run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Uid of the Pod, as text.
    pub pod_uid: String,
    /// Name of the container.
    pub container: String,
    /// Which run of it.
    pub restart_count: u32,
}

/// A part of the log of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Offset of its first entry.
    pub first_offset: u64,
    /// Offset after its last entry.
    pub end_offset: u64,
    /// Nothing comes after it.
    pub is_end: bool,
}

/// Refuses what is no URL of an archive, as far as that can be told from the URL alone.
///
/// # Errors
/// If it is no URL, or holds credentials, which the error does not repeat.
pub fn check_url(url: &str) -> Result<Url, Error> {
    let parsed = Url::parse(url).map_err(|error| unusable(url, error.to_string()))?;
    // Azure's have the name of a container there.
    let may_have_name = matches!(parsed.scheme(), "az" | "abfs" | "abfss");
    if parsed.password().is_some() || !(parsed.username().is_empty() || may_have_name) {
        let problem = "it holds credentials, which would be shown with the settings and told to agents: give them in the variables of the store, such as AWS_SECRET_ACCESS_KEY";
        return Err(unusable(url, problem.to_owned()));
    }
    Ok(parsed)
}

/// What stands before an `@` may be credentials, also in what is no URL: it is not repeated.
fn unusable(url: &str, problem: String) -> Error {
    let url = match url.rsplit_once('@') {
        Some(_) => format!("{}://…", url.split(':').next().unwrap_or_default()),
        None => url.to_owned(),
    };
    Error::ArchiveUrl { url, problem }
}

/// What the names of these begin with is told to the object store: credentials, endpoints.
const ENVIRONMENT: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

impl Archive {
    /// Opens the archive at a URL: `file:///PATH`, `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, `az://CONTAINER/PATH` and what
    /// else crate `object_store` understands. Credentials, regions and endpoints are taken from the environment, as that crate
    /// names them: `AWS_ACCESS_KEY_ID`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME` … Nothing is connected to yet.
    ///
    /// # Errors
    /// If it is no such URL, or the environment lacks something.
    pub fn open(url: &str) -> Result<Archive, Error> {
        Archive::open_with(url, std::env::vars())
    }

    /// The same with another environment.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn open_with(
        url: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Archive, Error> {
        let parsed = check_url(url)?;
        // Of several TLS implementations in one program, ours. Another may be installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let options = environment
            .into_iter()
            .filter(|(name, _)| ENVIRONMENT.iter().any(|prefix| name.starts_with(prefix)))
            .map(|(name, value)| (name.to_ascii_lowercase(), value));
        let opened = parse_url_opts(&parsed, options);
        let (store, root) = opened.map_err(|error| unusable(url, error.to_string()))?;
        Ok(Archive { store: store.into(), root })
    }

    /// Uploads a part.
    ///
    /// # Errors
    /// Those of the store. Try again.
    pub async fn put(&self, run: &Run, excerpt: &Excerpt, is_end: bool) -> Result<(), Error> {
        let Excerpt { first_offset, .. } = *excerpt;
        let object = self.object(run, Part { first_offset, end_offset: excerpt.end_offset(), is_end });
        let content = PutPayload::from(excerpt.compressed());
        let put = self.store.put(&object, content).await;
        put.map(|_| ()).map_err(|error| failed("upload", &object, &error))
    }

    /// The parts of the log of a run, in order; none of one that was not archived.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn parts(&self, run: &Run) -> Result<Vec<Part>, Error> {
        let folder = self.folder(run);
        let mut names = self.store.list(Some(&folder));
        let mut parts = Vec::new();
        while let Some(found) = names.try_next().await.map_err(|error| failed("list", &folder, &error))? {
            parts.extend(found.location.filename().and_then(|name| part_of(run, name)));
            // More than any log has; whoever put them there can't make us hold them all.
            if parts.len() >= ARCHIVE_PARTS_MAX {
                break;
            }
        }
        parts.sort_unstable();
        // Parts of another cut can only be there if an agent has begun to upload a log that had not ended. Each entry comes once.
        let mut end_offset = 0;
        parts.retain(|part| {
            part.first_offset >= end_offset && {
                end_offset = part.end_offset;
                true
            }
        });
        Ok(parts)
    }

    /// Reads a part.
    ///
    /// # Errors
    /// Those of the store, or if what is there is not what was uploaded.
    pub async fn get(&self, run: &Run, part: Part) -> Result<Excerpt, Error> {
        let object = self.object(run, part);
        let failed = |error: object_store::Error| failed("read", &object, &error);
        let found = self.store.get(&object).await.map_err(failed)?;
        // Compressed it is no longer than what it holds, give or take.
        if found.meta.size > 2 * ARCHIVE_PART_BYTES_MAX as u64 {
            return Err(Error::Damaged {
                max: ARCHIVE_PART_BYTES_MAX,
                problem: format!("object {object} has {} bytes", found.meta.size),
            });
        }
        let content = found.bytes().await.map_err(failed)?;
        let excerpt = Excerpt::decompress(part.first_offset, &content, ARCHIVE_PART_BYTES_MAX)?;
        if excerpt.end_offset() != part.end_offset {
            let problem = format!("object {object} has other entries than its name says");
            return Err(Error::Damaged { max: ARCHIVE_PART_BYTES_MAX, problem });
        }
        Ok(excerpt)
    }

    fn folder(&self, run: &Run) -> Path {
        self.root.clone().join(run.pod_uid.as_str())
    }

    fn object(&self, run: &Run, part: Part) -> Path {
        let Run { container, restart_count, .. } = run;
        let end = if part.is_end { ".end" } else { "" };
        let Part { first_offset, end_offset, .. } = part;
        let name = format!("{container}.{restart_count}.{first_offset:020}-{end_offset:020}{end}.log.zst");
        self.folder(run).join(name)
    }
}

/// The part that an object of this name is, if it is one of the run.
fn part_of(run: &Run, name: &str) -> Option<Part> {
    let name = name.strip_suffix(".log.zst")?;
    let rest = name.strip_prefix(run.container.as_str())?.strip_prefix('.')?;
    let rest = rest.strip_prefix(&run.restart_count.to_string())?.strip_prefix('.')?;
    let (offsets, is_end) = match rest.strip_suffix(".end") {
        Some(offsets) => (offsets, true),
        None => (rest, false),
    };
    let (first, end) = offsets.split_once('-').filter(|(first, end)| first.len() == 20 && end.len() == 20)?;
    let (first_offset, end_offset) = (first.parse().ok()?, end.parse().ok()?);
    (first_offset < end_offset).then_some(Part { first_offset, end_offset, is_end })
}

fn failed(action: &'static str, object: &Path, error: &object_store::Error) -> Error {
    Error::Archive { action, object: object.to_string(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(container: &str, restart_count: u32) -> Run {
        let pod_uid = "01234567-89ab-cdef-0123-456789abcdef".to_owned();
        Run { pod_uid, container: container.to_owned(), restart_count }
    }

    #[test]
    fn objects_of_other_runs_are_none() {
        let digits = "00000000000000000012-00000000000000000345";
        let part = Some(Part { first_offset: 12, end_offset: 345, is_end: true });
        assert_eq!(part_of(&run("a", 1), &format!("a.1.{digits}.end.log.zst")), part);
        for name in [
            format!("a.1.{digits}.log"),
            format!("a.11.{digits}.log.zst"),
            format!("ab.1.{digits}.log.zst"),
            format!("a.1.1.{digits}.log.zst"),
            "a.1.12-345.log.zst".to_owned(),
            "a.1.00000000000000000012-00000000000000000012.log.zst".to_owned(),
        ] {
            assert_eq!(part_of(&run("a", 1), &name), None, "{name}");
        }
    }
}
