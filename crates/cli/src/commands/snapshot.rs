//! `snapshot`.
//!
//! Owns: the file on the operator's machine: it is there as a whole or not at all. Does not own: what it holds, restoring
//! (`stint_server::saved_snapshot`).

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stint_api::time::format_seconds;
use stint_client::Client;
use stint_server::{
    StorageLocation,
    saved_snapshot::{self, SavedSnapshotHeader},
};

use crate::arguments::{Snapshot, SnapshotInspect, SnapshotRestore, SnapshotSave, TextFormat};
use crate::ending_signals::EndingSignals;
use crate::output;
use crate::sheet::Sheet;

/// What needs no cluster. The others are given back.
pub fn run_offline(snapshot: Snapshot) -> Result<Option<SnapshotSave>> {
    match snapshot {
        Snapshot::Save(save) => return Ok(Some(save)),
        Snapshot::Inspect(arguments) => inspect(&arguments)?,
        Snapshot::Restore(arguments) => restore(&arguments)?,
    }
    Ok(None)
}

/// `stint snapshot save`.
pub async fn save(client: &Client, arguments: &SnapshotSave) -> Result<ExitCode> {
    let SnapshotSave { file: path, force, stale } = arguments;
    if !force && path.symlink_metadata().is_ok() {
        bail!("{} is there already: choose another name, or replace it with --force", path.display());
    }
    if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
        bail!("{} is no file: --force replaces files only, name another one", path.display());
    }
    let failed = |what: &str| format!("{what} {}", path.display());
    let folder = folder_of(path);
    // By themselves they would end the process at once, and leave what it has written so far.
    let mut signals = EndingSignals::listen()?;
    // Beside it, for it to be renamed, and readable by its owner alone: specs of Jobs may have secrets.
    let mut partial = tempfile::Builder::new()
        .prefix(".stint-snapshot.")
        .tempfile_in(&folder)
        .with_context(|| failed("can't write beside"))?;
    let received = async {
        let mut pieces = client.save_snapshot(*stale).await?;
        while let Some(piece) = pieces.next().await? {
            partial.write_all(&piece).with_context(|| failed("can't write"))?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        received = received => received?,
        code = signals.received() => {
            output::note(&format!("interrupted: {} was not saved", path.display()));
            return Ok(code);
        }
    }
    let written = partial.reopen().with_context(|| failed("can't read what was written of"))?;
    // As it is on this disk.
    let header =
        saved_snapshot::verify(written).context("what has arrived is not what was saved: try again")?;
    partial.as_file().sync_all().with_context(|| failed("can't sync"))?;
    if *force {
        partial.persist(path).map_err(|error| error.error).with_context(|| failed("can't replace"))?;
    } else {
        partial.persist_noclobber(path).map_err(|error| error.error).with_context(|| failed("can't make"))?;
    }
    File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| failed("can't sync the folder of"))?;
    let counts = header.counts;
    output::line(&format!(
        "snapshot {} saved by {}: revision {}, {} jobs ({} unfinished), {} pods",
        path.display(),
        header.saved_by,
        header.revision,
        counts.jobs,
        counts.unfinished_jobs,
        counts.pods
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn open(path: &Path) -> Result<File> {
    let file = File::open(path).with_context(|| format!("{} can't be read", path.display()))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        bail!("{} is a folder, not a snapshot", path.display());
    }
    Ok(file)
}

fn inspect(arguments: &SnapshotInspect) -> Result<()> {
    let path = &arguments.file;
    let header = saved_snapshot::check(open(path)?).with_context(|| path.display().to_string())?;
    match arguments.output {
        TextFormat::Text => output::line(&sheet(&header)),
        TextFormat::Json => output::line(&serde_json::to_string_pretty(&json_of(&header))?),
    }
}

fn sheet(header: &SavedSnapshotHeader) -> String {
    let mut sheet = Sheet::default();
    let counts = header.counts;
    sheet.field("Cluster", header.cluster_id.to_string());
    sheet.field("Saved", format!("{} by {}", format_seconds(header.saved_at), header.saved_by));
    sheet.field("Version", format!("stint {}", header.server_version));
    sheet.field(
        "Format",
        format!("data format {}, machine version {}", header.data_format, header.machine_version),
    );
    sheet.field("Cluster time", format_seconds(header.time));
    sheet.field("Revision", header.revision.to_string());
    sheet.field("Log index", format!("{} of term {}", header.log_index, header.term));
    sheet.field("Jobs", format!("{}, {} unfinished", counts.jobs, counts.unfinished_jobs));
    sheet.field("Pods", format!("{}, {} unfinished", counts.pods, counts.unfinished_pods));
    sheet.field("Nodes", counts.nodes.to_string());
    sheet.field("ConfigMaps", counts.config_maps.to_string());
    sheet.field("Rows", format!("{}, {} bytes", counts.rows, counts.row_bytes));
    sheet.field("Checksums", "right");
    sheet.finish()
}

fn json_of(header: &SavedSnapshotHeader) -> serde_json::Value {
    let counts = header.counts;
    json!({
        "clusterId": header.cluster_id.to_string(),
        "savedAt": format_seconds(header.saved_at),
        "savedBy": header.saved_by,
        "serverVersion": header.server_version,
        "dataFormat": header.data_format,
        "machineVersion": header.machine_version,
        "time": format_seconds(header.time),
        "revision": header.revision.to_string(),
        "logIndex": header.log_index,
        "term": header.term,
        "jobs": counts.jobs,
        "unfinishedJobs": counts.unfinished_jobs,
        "pods": counts.pods,
        "unfinishedPods": counts.unfinished_pods,
        "nodes": counts.nodes,
        "configMaps": counts.config_maps,
        "rows": counts.rows,
        "rowBytes": counts.row_bytes,
    })
}

fn restore(arguments: &SnapshotRestore) -> Result<()> {
    let SnapshotRestore { file: path, data_dir, name, raise } = arguments;
    stint_server::check_server_name(name)?;
    let location = StorageLocation::Folder(data_dir.clone());
    let restored = saved_snapshot::restore(open(path)?, &location, name, *raise)
        .with_context(|| path.display().to_string())?;
    output::line(&format!(
        "cluster {} restored in {}: revision {}, {} jobs ({} unfinished)",
        restored.cluster_id,
        data_dir.display(),
        restored.revision,
        restored.header.counts.jobs,
        restored.header.counts.unfinished_jobs
    ))?;
    output::note(&format!(
        "start it by `stint server --name {name} --data-dir {}` with addresses of its own; it is the only server of the new cluster until \
         others are let in by `stint member add`",
        data_dir.display()
    ));
    Ok(())
}
