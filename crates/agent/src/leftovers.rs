//! What Pods leave behind on the disk, and its removal.
//!
//! Owns: one task that removes folders and logs, one after the other. Does not own: when a Pod's folder or log is needed no
//! more (`worker`), the layout of logs (crate `runtime`).
//!
//! Invariant: what is to be removed is named when nothing of that name can be in use; nothing else is removed.

use std::path::{Path, PathBuf};
use stint_api::PodUid;
use stint_runtime::LogStore;
use tokio::sync::mpsc;

use crate::limits;

/// Removes things in the background. Ends, with its task, when it is dropped and everything is done.
#[derive(Debug)]
pub struct Leftovers {
    pods: PathBuf,
    logs: PathBuf,
    removals: mpsc::UnboundedSender<Removal>,
}

#[derive(Debug)]
enum Removal {
    Folder(PodUid),
    FolderAndLogs(PodUid),
}

impl Leftovers {
    /// For a data folder. Needs a tokio runtime.
    pub fn start(data_dir: &Path, store: LogStore) -> Leftovers {
        let (removals, requested) = mpsc::unbounded_channel();
        let pods = data_dir.join("pods");
        tokio::spawn(remove_all(pods.clone(), store, requested));
        Leftovers { pods, logs: data_dir.join("logs"), removals }
    }

    /// The Pod's own folder.
    pub fn pod_folder(&self, pod: PodUid) -> PathBuf {
        self.pods.join(pod.to_string())
    }

    /// The Pod has ended: its working folder goes, its log stays.
    pub fn pod_ended(&self, pod: PodUid) {
        self.remove(Removal::Folder(pod));
    }

    /// The Pod was deleted: nothing of it stays.
    pub fn pod_deleted(&self, pod: PodUid) {
        self.remove(Removal::FolderAndLogs(pod));
    }

    /// No folder is needed but those of Pods that are `wanted`, and no log but those that are `kept`. Blocks for two listings.
    pub fn keep_only(&self, wanted: impl Fn(PodUid) -> bool, kept: impl Fn(PodUid) -> bool) {
        uids_in(&self.pods).filter(|pod| !wanted(*pod)).for_each(|pod| self.pod_ended(pod));
        uids_in(&self.logs).filter(|pod| !wanted(*pod) && !kept(*pod)).for_each(|pod| self.pod_deleted(pod));
    }

    fn remove(&self, removal: Removal) {
        // The task ends after us.
        drop(self.removals.send(removal));
    }
}

/// Entries of a folder that are named as Pods are; others are none of ours.
fn uids_in(folder: &Path) -> impl Iterator<Item = PodUid> + use<> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse::<PodUid>().ok())
}

async fn remove_all(pods: PathBuf, store: LogStore, mut requested: mpsc::UnboundedReceiver<Removal>) {
    let mut removals = Vec::new();
    while requested.recv_many(&mut removals, limits::REMOVALS_TOGETHER_MAX).await > 0 {
        let mut folders = Vec::with_capacity(removals.len());
        for removal in removals.drain(..) {
            let (Removal::Folder(pod) | Removal::FolderAndLogs(pod)) = removal;
            if matches!(removal, Removal::FolderAndLogs(_))
                && let Err(error) = store.delete_pod(&pod.to_string()).await
            {
                tracing::warn!(pod.uid = %pod, %error, "the log of a deleted pod can't be removed");
            }
            folders.push(pods.join(pod.to_string()));
        }
        let removed = tokio::task::spawn_blocking(move || {
            for (folder, outcome) in crate::pod::remove_trees(folders.iter().map(PathBuf::as_path)) {
                if let Err(error) = outcome {
                    let folder = folder.display();
                    tracing::warn!(%folder, %error, "the folder of a pod that has ended can't be removed");
                }
            }
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "removing the folders of pods that have ended has come to no end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_named_as_a_pod_and_not_kept_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two, three) = (PodUid(1), PodUid(2), PodUid(3));
        let path = |parts: &[&str]| parts.iter().fold(folder.path().to_owned(), |path, part| path.join(part));
        for pod in [one, two, three] {
            std::fs::create_dir_all(path(&["pods", &pod.to_string(), "deep"])).unwrap();
            std::fs::create_dir_all(path(&["logs", &pod.to_string()])).unwrap();
        }
        std::fs::create_dir_all(path(&["pods", "lost+found"])).unwrap();
        let store = LogStore::open(&path(&["logs"])).unwrap();
        let (removals, requested) = mpsc::unbounded_channel();
        let leftovers = Leftovers { pods: path(&["pods"]), logs: path(&["logs"]), removals };
        leftovers.keep_only(|pod| pod == three, |pod| pod == two);
        drop(leftovers);
        remove_all(path(&["pods"]), store, requested).await;
        let exists = |parts: &[&str]| path(parts).exists();
        assert!(!exists(&["pods", &one.to_string()]) && !exists(&["logs", &one.to_string()]));
        assert!(!exists(&["pods", &two.to_string()]) && exists(&["logs", &two.to_string()]));
        assert!(exists(&["pods", &three.to_string()]) && exists(&["logs", &three.to_string()]));
        assert!(exists(&["pods", "lost+found"]));
    }
}
