//! One layer of an image, file by file.

use flate2::write::GzEncoder;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tar::{Builder, EntryType, Header};

/// How a layer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// The bytes, and their media type.
    pub(super) fn apply(self, archive: Vec<u8>) -> (Vec<u8>, &'static str) {
        match self {
            Compression::None => (archive, "application/vnd.oci.image.layer.v1.tar"),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&archive).unwrap();
                (encoder.finish().unwrap(), "application/vnd.docker.image.rootfs.diff.tar.gzip")
            }
            Compression::Zstd => {
                let level = ruzstd::encoding::CompressionLevel::Fastest;
                let bytes = ruzstd::encoding::compress_to_vec(archive.as_slice(), level);
                (bytes, "application/vnd.oci.image.layer.v1.tar+zstd")
            }
        }
    }
}

/// Of packages, what no program of the tests reads.
const NOT_NEEDED: [&str; 6] =
    ["/share/doc", "/share/man", "/share/lintian", "/share/i18n", "/gconv", "/audit/"];

/// An archive that is being made.
pub struct Layer {
    builder: Builder<Vec<u8>>,
}

impl Default for Layer {
    fn default() -> Layer {
        Layer { builder: Builder::new(Vec::new()) }
    }
}

impl Layer {
    /// Every command of busybox, `/etc/passwd` with `root` and `app`, `/tmp`.
    pub fn busybox() -> Layer {
        let program = std::fs::read(super::BUSYBOX)
            .unwrap_or_else(|error| panic!("{}: {error}; install busybox-static", super::BUSYBOX));
        let list = Command::new(super::BUSYBOX).arg("--list").output().unwrap();
        let mut layer = Layer::default();
        for folder in ["bin", "dev", "etc", "proc", "root", "sys", "home"] {
            layer = layer.folder(folder, 0o755);
        }
        layer = layer.folder("tmp", 0o1777).folder_of("home/app", 0o755, (1000, 50));
        layer = layer.executable("bin/busybox", &program);
        for name in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
            layer = layer.hard_link(&format!("bin/{name}"), "bin/busybox");
        }
        layer
            .file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:50:app:/home/app:/bin/sh\n")
            .file("etc/group", "root:x:0:\nstaff:x:50:\nextra:x:60:app\n")
    }

    pub fn file(self, path: &str, content: &str) -> Layer {
        self.inode(path, EntryType::Regular, 0o644, (0, 0), content.as_bytes())
    }

    pub fn executable(self, path: &str, content: &[u8]) -> Layer {
        self.inode(path, EntryType::Regular, 0o755, (0, 0), content)
    }

    pub fn folder(self, path: &str, mode: u32) -> Layer {
        self.folder_of(path, mode, (0, 0))
    }

    pub fn folder_of(self, path: &str, mode: u32, owner: (u64, u64)) -> Layer {
        self.inode(&format!("{path}/"), EntryType::Directory, mode, owner, b"")
    }

    /// Hides a file of the layers below.
    pub fn whiteout(self, path: &str) -> Layer {
        let path = Path::new(path);
        let name = format!(".wh.{}", path.file_name().unwrap().to_str().unwrap());
        let path = path.parent().unwrap().join(name);
        self.file(path.to_str().unwrap(), "")
    }

    /// Hides all that the layers below have in a folder.
    pub fn opaque(self, folder: &str) -> Layer {
        self.folder(folder, 0o755).file(&format!("{folder}/.wh..wh..opq"), "")
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Layer {
        let mut header = header(EntryType::Symlink, 0o777, (0, 0), 0);
        self.builder.append_link(&mut header, path, target).unwrap();
        self
    }

    pub fn hard_link(mut self, path: &str, target: &str) -> Layer {
        let mut header = header(EntryType::Link, 0o755, (0, 0), 0);
        self.builder.append_link(&mut header, path, target).unwrap();
        self
    }

    /// Everything below a folder of the host, such as one that debootstrap made.
    pub fn tree(mut self, root: &Path) -> Layer {
        self.builder.follow_symlinks(false);
        self.builder.append_dir_all(".", root).unwrap();
        self
    }

    /// The files of packages that are installed on this host, but for what only people read. Patterns as `dpkg-query` has them.
    pub fn of_packages(mut self, patterns: &[&str]) -> Layer {
        let ask = |arguments: &[&str]| {
            let output = Command::new("dpkg-query").args(arguments).output().unwrap();
            assert!(output.status.success(), "dpkg-query {arguments:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let packages =
            ask(&[&["-W", "-f", "${db:Status-Status} ${binary:Package}\n"][..], patterns].concat());
        let packages: Vec<_> = packages.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
        let listed = ask(&[&["-L"][..], &packages].concat());
        // Where they really are: many are listed below /lib, which is a link.
        let paths: BTreeSet<_> = listed
            .lines()
            .filter(|path| !NOT_NEEDED.iter().any(|of| path.contains(of)))
            .filter_map(|path| {
                let path = Path::new(path);
                Some(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
            })
            .filter(|path| path.symlink_metadata().is_ok())
            .collect();
        self.builder.follow_symlinks(false);
        for path in paths {
            self.builder.append_path_with_name(&path, path.strip_prefix("/").unwrap()).unwrap();
        }
        self
    }

    pub(super) fn archive(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }

    fn inode(mut self, path: &str, kind: EntryType, mode: u32, owner: (u64, u64), content: &[u8]) -> Layer {
        let mut header = header(kind, mode, owner, content.len() as u64);
        self.builder.append_data(&mut header, path, content).unwrap();
        self
    }
}

fn header(kind: EntryType, mode: u32, owner: (u64, u64), size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_mtime(1_600_000_000);
    header.set_size(size);
    header
}
