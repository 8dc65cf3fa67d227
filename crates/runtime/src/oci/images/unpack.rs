//! From a layer's archive to a folder that overlayfs can use.
//!
//! Every entry is made by name in a folder that was opened below the layer's root, and that opening can't leave the root,
//! whatever links the archive has made before (`openat2`, or its emulation).

use super::archive::{self, Place, Target};
use super::decompress::decompress;
use super::digest::Digest;
use super::failure::Failure;
use super::layer::{Layer, Metadata};
use crate::limits;
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tar::{Archive, Entry, EntryType};

/// Beginnings of extended attributes that an image may set. Not those of overlayfs, which would let an image say what lies
/// below it, nor those of security modules, which are the host's.
const ATTRIBUTES_ALLOWED: [&str; 2] = ["user.", "security.capability"];
const ATTRIBUTES_REFUSED: [&str; 1] = ["user.overlay."];
const PAX_ATTRIBUTE: &str = "SCHILY.xattr.";

/// What a layer became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Digest of the archive before compression.
    pub diff_id: Digest,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Unpacks a blob into `destination`, an empty folder that nobody else can reach.
///
/// `owners`: files get the owners that the archive names, which only root can give. Blocks; stops soon with an error when
/// `is_cancelled` becomes true.
pub(super) fn unpack(
    blob: impl Read + Send + 'static,
    destination: &Path,
    owners: bool,
    is_cancelled: Arc<AtomicBool>,
) -> Result<Unpacked, Failure> {
    let in_layer = |error: io::Error| Failure::because("the layer can't be unpacked", &error);
    let budget = Rc::new(Cell::new(0));
    let source = decompress(blob).map_err(in_layer)?;
    let source = Watched { source, hasher: Sha256::new(), budget: budget.clone(), is_cancelled };
    let mut layer = Layer::open(destination, owners).map_err(in_layer)?;
    let mut archive = Archive::new(source);
    let mut bytes: u64 = 0;
    {
        let mut entries = archive.entries().map_err(in_layer)?;
        let mut count: u64 = 0;
        loop {
            // Names and attributes of an entry are held in memory: only so much may be read for them.
            budget.set(limits::LAYER_ENTRY_HEADER_BYTES_MAX);
            let Some(entry) = entries.next() else { break };
            let mut entry = entry.map_err(in_layer)?;
            count += 1;
            if count > limits::LAYER_ENTRIES_MAX {
                let limit = limits::LAYER_ENTRIES_MAX;
                return Err(Failure::pull(format!("a layer has more than {limit} files")));
            }
            let left = limits::LAYER_BYTES_MAX.saturating_sub(bytes);
            budget.set(left.saturating_add(limits::LAYER_ENTRY_HEADER_BYTES_MAX));
            let path = entry.path_bytes().into_owned();
            bytes += add(&mut layer, &mut entry, &path, left).map_err(|problem| {
                let shown: String = String::from_utf8_lossy(&path).chars().take(256).collect();
                Failure::pull(format!("layer entry {shown:?} {problem}"))
            })?;
        }
    }
    layer.finish().map_err(in_layer)?;
    let mut source = archive.into_inner();
    budget.set(limits::LAYER_PADDING_BYTES_MAX);
    io::copy(&mut source, &mut io::sink()).map_err(in_layer)?;
    Ok(Unpacked { diff_id: Digest::of_hasher(source.hasher), bytes })
}

/// Carries out one entry; answers the bytes that it took of `left`.
fn add(layer: &mut Layer, entry: &mut Entry<'_, impl Read>, path: &[u8], left: u64) -> Result<u64, Problem> {
    let kind = entry.header().entry_type();
    let target = match kind {
        EntryType::XGlobalHeader => Target::Nothing,
        _ => archive::target(path)?,
    };
    let metadata = metadata(entry)?;
    let written = match target {
        Target::Nothing => 0,
        Target::Root => {
            if kind == EntryType::Directory {
                layer.root(&metadata)?;
            }
            0
        }
        Target::Opaque(folder) => {
            layer.opaque(&folder)?;
            0
        }
        Target::Whiteout(place) => {
            layer.whiteout(&place)?;
            0
        }
        // Archives of the oldest kind mark folders by their name only.
        Target::Path(place) if kind == EntryType::Regular && path.ends_with(b"/") => {
            layer.folder(&place, &metadata)?;
            0
        }
        Target::Path(place) => add_inode(layer, entry, kind, &place, &metadata, left)?,
    };
    // What is left of it must not count as the next one's header.
    io::copy(entry, &mut io::sink())?;
    Ok(written)
}

fn add_inode(
    layer: &mut Layer,
    entry: &mut Entry<'_, impl Read>,
    kind: EntryType,
    place: &Place,
    metadata: &Metadata,
    left: u64,
) -> Result<u64, Problem> {
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            if entry.size() > left {
                return Err(Problem::Text("makes the layer larger than is allowed"));
            }
            return Ok(layer.file(place, metadata, entry)?);
        }
        EntryType::Directory => layer.folder(place, metadata)?,
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or(Problem::Text("is a link without a target"))?;
            if target.is_empty() || target.contains(&0) {
                return Err(Problem::Text("is a link without a usable target"));
            }
            layer.symlink(place, metadata, OsStr::from_bytes(&target))?;
        }
        EntryType::Link => {
            let target = entry.link_name_bytes().ok_or(Problem::Text("is a link without a target"))?;
            layer.hard_link(place, &archive::link_target(&target)?)?;
        }
        EntryType::Fifo => layer.fifo(place, metadata)?,
        EntryType::Char | EntryType::Block => {
            let header = entry.header();
            let (major, minor) = (header.device_major()?, header.device_minor()?);
            let (major, minor) = (major.unwrap_or(0), minor.unwrap_or(0));
            if kind == EntryType::Char && (major, minor) == (0, 0) {
                return Err(Problem::Text("is a device that only overlayfs may make"));
            }
            layer.device(place, metadata, kind == EntryType::Block, (major, minor))?;
        }
        _ => return Err(Problem::Text("is of a kind that is not known")),
    }
    Ok(0)
}

fn metadata(entry: &mut Entry<'_, impl Read>) -> Result<Metadata, Problem> {
    let mut attributes = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(PAX_ATTRIBUTE)) else {
                continue;
            };
            let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
            if begins(&ATTRIBUTES_ALLOWED) && !begins(&ATTRIBUTES_REFUSED) && !name.contains('\0') {
                attributes.push((name.to_owned(), extension.value_bytes().to_vec()));
            }
        }
    }
    let header = entry.header();
    // u32::MAX means "leave it" to the kernel.
    let id = |id: io::Result<u64>| match u32::try_from(id?) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(Problem::Text("has an owner that is no user id")),
    };
    Ok(Metadata {
        user: id(header.uid())?,
        group: id(header.gid())?,
        mode: header.mode()? & 0o7777,
        modified: i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0).min(limits::LAYER_TIME_SECONDS_MAX),
        attributes,
    })
}

/// What is wrong with an entry.
enum Problem {
    Text(&'static str),
    Io(io::Error),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Text(text) => formatter.write_str(text),
            Problem::Io(error) => write!(formatter, "can't be made: {error}"),
        }
    }
}

impl From<&'static str> for Problem {
    fn from(text: &'static str) -> Problem {
        Problem::Text(text)
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem::Io(error)
    }
}

/// Counts, hashes, and stops.
struct Watched<R> {
    source: R,
    hasher: Sha256,
    /// Bytes that may be read before the next is set.
    budget: Rc<Cell<u64>>,
    is_cancelled: Arc<AtomicBool>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            // Not Interrupted, which everybody retries.
            return Err(io::Error::other("the pull was given up"));
        }
        let n = self.source.read(buffer)?;
        let budget = self.budget.get();
        if n as u64 > budget {
            return Err(io::Error::other("it is larger than is allowed, or its headers are"));
        }
        self.budget.set(budget - n as u64);
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
