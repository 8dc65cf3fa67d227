//! What a Pod keeps on the disk in files that have no name any more.
//!
//! Owns: finding them by the processes that hold them open or mapped. Does not own: what has a name (`disk`), what follows.
//!
//! A file that was deleted takes its room until nobody holds it. Whose it is can only be said by the mount it was opened by:
//! processes also hold files of the host, such as a library that was replaced by a newer one, which are not the Pod's doing.
//! A descriptor that is on its way through a socket is held by no process, and not seen.

use crate::limits;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedFile {
    /// Where it was, or as near to that as can be said: always below the folder that was asked for.
    pub place: PathBuf,
    /// Bytes on the disk, as blocks that are taken.
    pub bytes: u64,
}

/// What a look at processes found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeletedFiles {
    /// Each once.
    pub files: Vec<DeletedFile>,
    /// The look ended early, as there was too much to look at.
    pub is_partial: bool,
}

/// Files that were deleted below a folder and are held by descendants of some processes. At most
/// [`HELD_FILES_MAX`](limits::HELD_FILES_MAX) descriptors are looked at. Whatever changes meanwhile is found or not. To be
/// called where blocking is allowed.
pub fn deleted_files(folder: &Path, ancestors: &[i32]) -> DeletedFiles {
    // A host that says nothing of its mounts has no Pods that could be told apart by them.
    let Some(home) = Home::of(folder) else { return DeletedFiles::default() };
    let mut found = BTreeMap::new();
    let mut left = limits::HELD_FILES_MAX;
    descendants(ancestors).into_iter().for_each(|process| look_at(process, &home, &mut found, &mut left));
    DeletedFiles { files: found.into_values().collect(), is_partial: left == 0 }
}

/// The folder, by its name and in its file system.
struct Home<'a> {
    folder: &'a Path,
    /// `major:minor`, as mount tables have it.
    device: OsString,
    /// In the file system.
    inner: PathBuf,
}

impl Home<'_> {
    fn of(folder: &Path) -> Option<Home<'_>> {
        let table = fs::read("/proc/self/mountinfo").ok()?;
        let above = mounts(&table).filter(|mount| folder.starts_with(&mount.point));
        // Of those at one point the last one is seen.
        let mount = above.max_by_key(|mount| mount.point.components().count())?;
        let inner = mount.root.join(folder.strip_prefix(&mount.point).ok()?);
        Some(Home { folder, device: mount.device, inner })
    }

    /// Where something seen over a mount is below the folder; none if it is not.
    fn place_over(&self, mount: &Mounted) -> Option<PathBuf> {
        if mount.device == self.device {
            return Some(self.folder.join(mount.root.strip_prefix(&self.inner).ok()?));
        }
        // Layers of a container: what is written is in the uppermost.
        let upper = mount.upper.as_ref()?;
        upper.starts_with(self.folder).then(|| upper.clone())
    }
}

/// A line of a mount table.
struct Mounted {
    id: u64,
    device: OsString,
    /// What of its file system is seen.
    root: PathBuf,
    /// Where.
    point: PathBuf,
    /// Of layers, the folder of the uppermost, if that is said.
    upper: Option<PathBuf>,
}

fn mounts(table: &[u8]) -> impl Iterator<Item = Mounted> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = OsStr::from_bytes(fields.nth(1)?).to_owned();
        let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        let upper = line.split(|byte| [b' ', b','].contains(byte));
        let upper = upper.filter_map(|option| option.strip_prefix(b"upperdir=")).map(unescaped).next();
        Some(Mounted { id, device, root, point, upper })
    })
}

/// Mount tables have white space and `\` in octal.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| *byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*byte));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes).into()
}

/// All processes below these.
fn descendants(ancestors: &[i32]) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut parents = ancestors.to_vec();
    while let Some(parent) = parents.pop() {
        for thread in entries(Path::new(&format!("/proc/{parent}/task"))) {
            let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
            for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
                if found.len() < limits::HELD_FILES_MAX && found.insert(child) {
                    parents.push(child);
                }
            }
        }
    }
    found
}

/// What is there; nothing if it is gone or closed to us.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn look_at(process: i32, home: &Home<'_>, found: &mut BTreeMap<(u64, u64), DeletedFile>, left: &mut usize) {
    let process = PathBuf::from(format!("/proc/{process}"));
    // By their numbers. Read when the first is needed, as most processes hold nothing.
    let mut seen_mounts: Option<BTreeMap<u64, Mounted>> = None;
    let mut is_below = |link: &Path, mount: Option<u64>| -> Option<PathBuf> {
        // Where there is but one view of the files, or the mount is not told.
        if link.starts_with(home.folder) {
            return Some(link.to_owned());
        }
        let seen = seen_mounts.get_or_insert_with(|| {
            let table = fs::read(process.join("mountinfo")).unwrap_or_default();
            mounts(&table).map(|mount| (mount.id, mount)).collect()
        });
        match mount {
            Some(id) => home.place_over(seen.get(&id)?),
            // By its name in the process's view: the deepest mount above it.
            None => {
                let above = seen.values().filter(|mount| link.starts_with(&mount.point));
                home.place_over(above.max_by_key(|mount| mount.point.components().count())?)
            }
        }
    };
    for folder in ["fd", "map_files"] {
        for entry in entries(&process.join(folder)) {
            if *left == 0 {
                return;
            }
            *left -= 1;
            let Some(link) = deleted(fs::read_link(&entry)) else { continue };
            let Ok(facts) = fs::metadata(&entry) else { continue };
            if facts.nlink() > 0 || !facts.is_file() || found.contains_key(&(facts.dev(), facts.ino())) {
                continue;
            }
            let mount = (folder == "fd").then(|| mount_of(&process, &entry)).flatten();
            if let Some(place) = is_below(&link, mount) {
                let file = DeletedFile { place, bytes: facts.blocks() * 512 };
                found.insert((facts.dev(), facts.ino()), file);
            }
        }
    }
}

/// The path of what is held, if that was deleted.
fn deleted(link: io::Result<PathBuf>) -> Option<PathBuf> {
    let mut bytes = link.ok()?.into_os_string().into_vec();
    let length = bytes.strip_suffix(b" (deleted)")?.len();
    bytes.truncate(length);
    Some(OsString::from_vec(bytes).into())
}

/// Number of the mount that a descriptor was opened by.
fn mount_of(process: &Path, descriptor: &Path) -> Option<u64> {
    let text = fs::read_to_string(process.join("fdinfo").join(descriptor.file_name()?)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn what_a_process_holds_of_a_folder_is_found_once() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        for path in [&own, &other] {
            fs::create_dir(path).unwrap();
        }
        // The first is held twice, the second by a grandchild alone, the third has a name, the fourth is elsewhere.
        let script = "exec 3>own/a 4>&3 5>own/kept 6>other/b; head -c 1000000 /dev/zero >&3; \
             head -c 2000000 /dev/zero >&5; head -c 4000000 /dev/zero >&6; rm own/a other/b; \
             (exec 3>&- 4>&- 7>own/c; head -c 500000 /dev/zero >&7; rm own/c; echo held; exec sleep 1000) & wait";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        let DeletedFiles { files: found, is_partial } = deleted_files(&own, &[std::process::id() as i32]);
        assert!(!is_partial);
        let mut inner = descendants(&[shell.id() as i32]);
        inner.insert(shell.id() as i32);
        for pid in inner {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        shell.wait().unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        let bytes: u64 = found.iter().map(|file| file.bytes).sum();
        assert!((1_500_000..1_600_000).contains(&bytes), "{found:?}");
        assert!(found.iter().all(|file| file.place.starts_with(&own)), "{found:?}");
        assert_eq!(deleted_files(&own, &[std::process::id() as i32]), DeletedFiles::default());
    }

    #[test]
    fn mounts_say_whose_a_file_is() {
        let table = b"36 35 254:0 /data/pods/x/tmp.main.0 /tmp rw,nosuid - ext4 /dev/root rw\n\
                      37 35 254:0 /data/pods/y /srv/a\\040b rw - ext4 /dev/root rw\n\
                      38 35 254:0 / / ro - ext4 /dev/root rw\n\
                      39 35 0:50 / /data/z rw - overlay overlay rw,lowerdir=/l,upperdir=/data/pods/x/oci/main.0/upper,workdir=/w\n\
                      no line of that kind\n";
        let folder = Path::new("/mnt/pods/x");
        let home = Home { folder, device: "254:0".into(), inner: "/data/pods/x".into() };
        let places: Vec<_> = mounts(table).map(|mount| (mount.id, home.place_over(&mount))).collect();
        assert_eq!(places[0], (36, Some("/mnt/pods/x/tmp.main.0".into())));
        assert_eq!(places[1..3], [(37, None), (38, None)]);
        // By its name here, which is what the kernel was told.
        assert_eq!(places[3], (39, None));
        let home = Home { folder: Path::new("/data/pods/x"), ..home };
        let upper = home.place_over(&mounts(table).nth(3).unwrap());
        assert_eq!(upper, Some("/data/pods/x/oci/main.0/upper".into()));
        assert_eq!(mounts(table).nth(1).unwrap().point, Path::new("/srv/a b"));
    }
}
