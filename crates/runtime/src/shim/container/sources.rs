//! What of the host is bound into the container.
//!
//! A container that has a volume may put a link where the volume's next mount is to come from, at any moment: what was looked at
//! by its path would be another thing when it is mounted by its path. So each source is opened once, following no link, and
//! mounted in the launcher's own namespace, where nobody else can change it; libcontainer is given that place.

use super::super::confine::open_source;
use super::super::messages::NotExecuted;
use super::{failed, make_folder};
use crate::oci::launch::Launch;
use serde_json::{Value, json};
use std::path::Path;

/// Replaces the sources in the container's config.
pub(super) fn hold(launch: &Launch, config: &mut Value) -> Result<(), NotExecuted> {
    let folder = launch.directory.join("sources");
    make_folder(&folder)?;
    let Some(mounts) = config["mounts"].as_array_mut() else { return Ok(()) };
    for (number, mount) in mounts.iter_mut().filter(|mount| mount["type"] == "bind").enumerate() {
        let Some(source) = mount["source"].as_str() else { continue };
        let target = Path::new(mount["destination"].as_str().unwrap_or_default());
        let source = open_source(source.as_bytes(), target)?;
        let place = folder.join(number.to_string());
        if source.is_folder {
            make_folder(&place)?;
        } else {
            std::fs::write(&place, "").map_err(|error| failed("the container's folder", &error))?;
        }
        source.mount_at(&place, target)?;
        mount["source"] = json!(place);
    }
    Ok(())
}
