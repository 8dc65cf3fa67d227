//! What a Pod takes of the node's disk, held to what it may take.
//!
//! Owns: which folders are looked at and how often, the bounds, the words for a Pod that takes more. Does not own: measuring
//! (crate `runtime`), ending the Pod (`machine`).
//!
//! Looking again and again is enough to keep one Pod from filling a disk over minutes, not over a second. A project quota of
//! the file system would be exact, but needs a mount option that few hosts have; an image file with a file system of its own
//! would take its whole size from the beginning; a limit on the size of files (RLIMIT_FSIZE) would hold on paths of the host
//! as well, for which no bound was promised. Files that are deleted and still held are looked for at the Pod's
//! processes, where the runtime knows them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stint_api::{Quantity, VolumeSource};
use stint_runtime::{PodSandbox, deleted_files, disk_usage};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::specs::units_of;
use super::template::PodTemplate;
use super::volumes::volumes_folder;
use crate::limits;

/// Why a Pod ends that takes more of its node's disk than it may (P4).
pub const EVICTED: &str = "Evicted";

/// What one Pod may take.
#[derive(Debug, Clone)]
pub struct DiskBounds {
    folder: PathBuf,
    /// Everything together.
    whole: Option<Bound>,
    /// Volumes of kind emptyDir, by name.
    volumes: Vec<(String, Bound)>,
}

#[derive(Debug, Clone)]
struct Bound {
    bytes: u64,
    /// As it was written.
    text: String,
}

impl Bound {
    fn of(quantity: &Quantity) -> Option<Bound> {
        Some(Bound { bytes: units_of(quantity)?, text: quantity.to_string() })
    }
}

impl DiskBounds {
    /// Of a Pod, on a node where one may take `whole`.
    pub fn new(template: &PodTemplate, whole: Option<&Quantity>) -> DiskBounds {
        let volumes = template.spec().volumes.iter().filter_map(|volume| match &volume.source {
            VolumeSource::EmptyDir(empty) => {
                // A limit of nothing is none, as in Kubernetes.
                Some((volume.name.clone(), empty.size_limit.as_ref().and_then(Bound::of)?))
            }
            _ => None,
        });
        DiskBounds {
            folder: template.folder().to_owned(),
            whole: whole.and_then(Bound::of),
            volumes: volumes.collect(),
        }
    }

    /// Resolves when the Pod has taken more than it may: what, in Kubernetes' words. `gate` lets one Pod be looked at at a
    /// time.
    pub async fn exceeded(self, sandbox: Arc<dyn PodSandbox>, gate: Arc<Semaphore>) -> String {
        if self.whole.is_none() && self.volumes.is_empty() {
            return std::future::pending().await;
        }
        let mut pause = limits::DISK_LOOK_PAUSE_MIN;
        loop {
            sleep(pause).await;
            // What an engine has of the Pod. One that does not answer holds up no other Pods.
            let elsewhere = sandbox.disk_bytes_elsewhere().await;
            // Never closed.
            let permit = gate.acquire().await;
            let began = Instant::now();
            let (bounds, ancestors) = (self.clone(), sandbox.ancestors());
            let found = tokio::task::spawn_blocking(move || bounds.look(&ancestors, elsewhere)).await;
            if let Ok(Some(message)) = found {
                return message;
            }
            let took = began.elapsed();
            // Of all Pods together.
            sleep(took * limits::DISK_LOOKS_SHARE).await;
            drop(permit);
            pause = next_pause(took);
        }
    }

    /// What is exceeded now, by a Pod whose processes descend from these and that takes so many bytes elsewhere. Blocks.
    fn look(&self, ancestors: &[i32], elsewhere: u64) -> Option<String> {
        let held = deleted_files(&self.folder, ancestors);
        let held_below = |folder: &Path| -> u64 {
            let below = held.files.iter().filter(|file| file.place.starts_with(folder));
            below.map(|file| file.bytes).sum()
        };
        let is_above = |folder: &Path, bytes_max| is_above(folder, held_below(folder), bytes_max);
        for (name, bound) in &self.volumes {
            let folder = volumes_folder(&self.folder).join(name);
            if !is_mounted(&folder) && is_above(&folder, bound.bytes) {
                return Some(format!(
                    "Usage of EmptyDir volume {name:?} exceeds the limit {:?}. ",
                    bound.text
                ));
            }
        }
        let whole = self.whole.as_ref()?;
        let is_above_all = |bytes_max| {
            self::is_above(&self.folder, held_below(&self.folder).saturating_add(elsewhere), bytes_max)
        };
        (held.is_partial || is_above_all(whole.bytes)).then(|| {
            let limit = &whole.text;
            format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. ")
        })
    }
}

/// The more there was to look at, the later the next look.
fn next_pause(took: Duration) -> Duration {
    let pause = took.saturating_mul(limits::DISK_LOOK_SHARE);
    pause.clamp(limits::DISK_LOOK_PAUSE_MIN, limits::DISK_LOOK_PAUSE_MAX)
}

/// More entries than a look takes in count as too much: what can't be measured can't be bounded. `held` bytes are taken by
/// files that have no name in it any more.
fn is_above(folder: &Path, held: u64, bytes_max: u64) -> bool {
    let Some(bytes_max) = bytes_max.checked_sub(held) else { return true };
    // A folder that is not there takes nothing.
    disk_usage(folder, bytes_max).is_ok_and(|found| found.bytes > bytes_max || found.is_partial)
}

/// Memory, which has its own bound.
fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| path.symlink_metadata().ok().map(|facts| facts.dev());
    device(folder) != folder.parent().and_then(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use stint_api::{EmptyDirVolume, PodSpec, Volume};
    use stint_proto::v1;

    fn bounds(folder: &Path, size_limit: Option<&str>, whole: Option<&str>) -> DiskBounds {
        let quantity = |text: &str| Quantity::parse(text).unwrap();
        let empty = EmptyDirVolume { size_limit: size_limit.map(quantity), ..EmptyDirVolume::default() };
        let volume = Volume { name: "data".to_owned(), source: VolumeSource::EmptyDir(empty) };
        let spec = PodSpec { volumes: vec![volume], ..PodSpec::default() };
        let to_run = v1::PodToRun { spec: Some(spec.into()), ..v1::PodToRun::default() };
        let template = PodTemplate::new(to_run, folder.to_owned());
        DiskBounds::new(&template, whole.map(quantity).as_ref())
    }

    #[test]
    fn volumes_and_the_whole_are_held_to_their_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("volumes/data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("file"), vec![1; 2 << 20]).unwrap();
        let look = |size_limit, whole| {
            bounds(folder.path(), size_limit, whole).look(&[std::process::id() as i32], 0)
        };
        assert_eq!(look(None, None), None);
        assert_eq!(look(Some("3Mi"), Some("1Gi")), None);
        assert_eq!(look(Some("0"), None), None);
        let of_volume = "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". ";
        assert_eq!(look(Some("1Mi"), Some("1Gi")).as_deref(), Some(of_volume));
        let of_all = "Pod ephemeral local storage usage exceeds the total limit of containers 1500k. ";
        assert_eq!(look(Some("3Mi"), Some("1500k")).as_deref(), Some(of_all));
        // The same without a name, as long as somebody holds it.
        let held = "exec 3>>volumes/data/file; rm volumes/data/file; echo held; exec sleep 1000";
        let mut holder = Command::new("sh");
        holder.args(["-c", held]).current_dir(folder.path()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let found = [
            look(Some("1Mi"), Some("1Gi")),
            look(Some("3Mi"), Some("1500k")),
            look(Some("3Mi"), Some("1Gi")),
        ];
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(line, "held\n");
        assert_eq!(found, [Some(of_volume.to_owned()), Some(of_all.to_owned()), None]);
        std::fs::remove_dir_all(folder.path().join("volumes")).unwrap();
        assert_eq!(look(Some("1Mi"), Some("1Mi")), None);
    }

    #[test]
    fn a_look_that_takes_long_is_rare() {
        assert_eq!(next_pause(Duration::ZERO), limits::DISK_LOOK_PAUSE_MIN);
        assert_eq!(next_pause(Duration::from_secs(1)), Duration::from_secs(1) * limits::DISK_LOOK_SHARE);
        assert_eq!(next_pause(Duration::from_secs(3600)), limits::DISK_LOOK_PAUSE_MAX);
    }
}
