//! What the names in a layer's archive mean, checked.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Marks of what lower layers have and this one has not.
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Of the marks' own format; what it names is never a file.
const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// Longest name of a file, and of a path: the kernel's.
const NAME_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 4095;

/// What an entry is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The root of the layer itself.
    Root,
    /// Something in a folder.
    Path(Place),
    /// Hides it in the layers below.
    Whiteout(Place),
    /// Hides everything that the layers below have in this folder.
    Opaque(PathBuf),
    /// Bookkeeping of another file system.
    Nothing,
}

/// A name in a folder, both below the root of the layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Relative; empty: the root.
    pub parent: PathBuf,
    /// One component that is a name.
    pub name: Vec<u8>,
}

/// Understands an entry's path. An absolute one counts as relative, as everywhere.
pub(super) fn target(path: &[u8]) -> Result<Target, &'static str> {
    let mut components = components(path)?;
    let Some(name) = components.pop() else { return Ok(Target::Root) };
    let parent = join(&components);
    if name == WHITEOUT_OPAQUE {
        return Ok(Target::Opaque(parent));
    }
    if name.starts_with(WHITEOUT_META_PREFIX) {
        return Ok(Target::Nothing);
    }
    if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
        return match hidden {
            b"" | b"." | b".." => Err("is a whiteout of nothing"),
            hidden => Ok(Target::Whiteout(Place { parent, name: hidden.to_vec() })),
        };
    }
    Ok(Target::Path(Place { parent, name: name.to_vec() }))
}

/// Understands the target of a hard link, which is a path of the same layer.
pub(super) fn link_target(path: &[u8]) -> Result<PathBuf, &'static str> {
    match components(path)? {
        components if components.is_empty() => Err("is a link to the root"),
        components => Ok(join(&components)),
    }
}

fn components(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if path.len() > PATH_BYTES_MAX {
        return Err("has a path of more than 4095 bytes");
    }
    if path.contains(&0) {
        return Err("has a NUL byte in its path");
    }
    let components: Vec<_> =
        path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if components.contains(&b"..".as_slice()) {
        return Err("has .. in its path");
    }
    if components.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return Err("has a name of more than 255 bytes");
    }
    Ok(components)
}

fn join(components: &[&[u8]]) -> PathBuf {
    components.iter().map(|name| Path::new(OsStr::from_bytes(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(parent: &str, name: &str) -> Place {
        Place { parent: parent.into(), name: name.into() }
    }

    #[test]
    fn names_mean_what_the_image_format_says() {
        for (path, meaning) in [
            ("", Target::Root),
            ("./", Target::Root),
            ("/", Target::Root),
            ("etc/passwd", Target::Path(place("etc", "passwd"))),
            ("/etc//./passwd/", Target::Path(place("etc", "passwd"))),
            ("a", Target::Path(place("", "a"))),
            ("etc/.wh.passwd", Target::Whiteout(place("etc", "passwd"))),
            (".wh..x", Target::Whiteout(place("", ".x"))),
            ("etc/.wh..wh..opq", Target::Opaque("etc".into())),
            (".wh..wh.plnk/1.2", Target::Path(place(".wh..wh.plnk", "1.2"))),
            (".wh..wh.aufs", Target::Nothing),
        ] {
            assert_eq!(target(path.as_bytes()), Ok(meaning), "{path:?}");
        }
    }

    #[test]
    fn paths_that_lead_out_or_are_none_are_refused() {
        let long = "x".repeat(256);
        let deep = "x/".repeat(3000);
        for path in
            ["..", "../etc", "a/../../b", "a/..", "/..", ".wh.", ".wh...", "a/.wh..", "a\0b", &long, &deep]
        {
            assert!(target(path.as_bytes()).is_err(), "{path:?}");
        }
        assert!(link_target(b"../../etc/shadow").is_err());
        assert!(link_target(b"/").is_err());
        assert_eq!(link_target(b"/bin/sh"), Ok("bin/sh".into()));
    }
}
