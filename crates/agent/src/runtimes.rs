//! The runtimes of this node.
//!
//! Owns: which there are, and how they are set up. Does not own: which one a Pod is run by (its template, the servers).

use std::sync::Arc;

use stint_api::NodeUid;
use stint_runtime::{LogStore, PodUids, ProcessRuntime, ProcessRuntimeOptions, Runtime};

use crate::config::{AgentConfig, RuntimeKind};
use crate::error::Error;

/// Starts the runtimes that the node shall have, in the order given: the first is the one of Pods that name none. Processes get
/// users of `pod_uids`.
///
/// # Errors
/// If one of them can't be used on this host. A container engine that is down just now is waited for in the background.
pub async fn start(
    config: &AgentConfig,
    logs: &LogStore,
    node_uid: NodeUid,
    pod_uids: PodUids,
) -> Result<Vec<Arc<dyn Runtime>>, Error> {
    let kinds = if config.runtimes.is_empty() { vec![RuntimeKind::Process] } else { config.runtimes.clone() };
    let mut runtimes: Vec<Arc<dyn Runtime>> = Vec::with_capacity(kinds.len());
    for kind in kinds {
        runtimes.push(match kind {
            RuntimeKind::Process => {
                let options = ProcessRuntimeOptions {
                    policy: config.policy.clone(),
                    pod_uids,
                    node_uid: Some(node_uid.to_string()),
                    owner: Some(format!("process/{node_uid}")),
                    ..ProcessRuntimeOptions::new(logs.clone(), config.data_dir.clone())
                };
                Arc::new(ProcessRuntime::new(options).await?)
            }
            #[cfg(feature = "cri")]
            RuntimeKind::Cri => {
                use stint_runtime::{CriNetwork, CriRuntime, CriRuntimeOptions};
                let folder = config.data_dir.join("cri");
                let node_uid = node_uid.to_string();
                let mut options = CriRuntimeOptions::new(&config.cri_socket, &node_uid, folder, logs.clone());
                options.network = if config.cri_pod_network { CriNetwork::Pod } else { CriNetwork::Host };
                options.credentials.clone_from(&config.registry_credentials);
                options.mirrors.clone_from(&config.registry_mirrors);
                options.policy.clone_from(&config.policy);
                options.image_disk = config.image_disk;
                options.owners = Some(crate::claim::is_claimed);
                Arc::new(CriRuntime::new(options).await?)
            }
            #[cfg(feature = "oci")]
            RuntimeKind::Oci => {
                use stint_runtime::oci::{ImageStoreOptions, OciRuntime, OciRuntimeOptions};
                let folder = config.data_dir.join("oci");
                let images = ImageStoreOptions {
                    mirrors: config.registry_mirrors.clone(),
                    credentials: config.registry_credentials.clone(),
                    disk: config.image_disk,
                    ..ImageStoreOptions::new(folder.join("images"))
                };
                let shims = folder.join("shims");
                let options = OciRuntimeOptions {
                    logs: logs.clone(),
                    shims,
                    shim_program: None,
                    owner: Some(format!("oci/{node_uid}")),
                    images,
                    policy: config.policy.clone(),
                };
                Arc::new(OciRuntime::new(options).await?)
            }
        });
    }
    Ok(runtimes)
}
