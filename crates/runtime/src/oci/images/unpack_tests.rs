use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use tar::{Builder, Header};

/// An archive made entry by entry, with names that no honest tool would write.
#[derive(Default)]
struct Made {
    builder: Option<Builder<Vec<u8>>>,
}

impl Made {
    fn entry(mut self, kind: EntryType, path: &str, link: &str, content: &[u8]) -> Made {
        let mut header = Header::new_gnu();
        header.set_mode(0o4751);
        header.set_uid(1234);
        header.set_gid(4321);
        header.set_mtime(1_000_000_000);
        self.add(&mut header, kind, path, link, content);
        self
    }

    fn add(&mut self, header: &mut Header, kind: EntryType, path: &str, link: &str, content: &[u8]) {
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        // Around the checks of the library that makes archives.
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.builder.get_or_insert_with(|| Builder::new(Vec::new())).append(header, content).unwrap();
    }

    fn file(self, path: &str, content: &str) -> Made {
        self.entry(EntryType::Regular, path, "", content.as_bytes())
    }

    fn folder(self, path: &str) -> Made {
        self.entry(EntryType::Directory, path, "", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Made {
        self.entry(EntryType::Symlink, path, target, b"")
    }

    fn link(self, path: &str, target: &str) -> Made {
        self.entry(EntryType::Link, path, target, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.builder.unwrap().into_inner().unwrap()
    }
}

struct Outcome {
    folder: tempfile::TempDir,
    result: Result<Unpacked, Failure>,
}

impl Outcome {
    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("layer")
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    /// Nothing was made beside the layer's folder.
    fn assert_contained(&self) {
        let names: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(fs::read_to_string(self.folder.path().join("outside")).unwrap(), "untouched");
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn unpacked(bytes: Vec<u8>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("layer");
    fs::create_dir(&root).unwrap();
    fs::write(folder.path().join("outside"), "untouched").unwrap();
    let result = unpack(Cursor::new(bytes), &root, is_root(), Arc::default());
    Outcome { folder, result }
}

#[test]
fn files_folders_and_links_become_what_the_archive_says() {
    let bytes = Made::default()
        .folder("./")
        .folder("bin/")
        .file("bin/program", "content")
        .symlink("sh", "bin/program")
        .link("hard", "/bin/program")
        .symlink("dangling", "/nowhere/at/all")
        .entry(EntryType::Fifo, "fifo", "", b"")
        .file("deep/in/folders", "unnamed folders")
        .file("old-style/", "")
        .bytes();
    let digest = Digest::of(&bytes);
    let outcome = unpacked(bytes);
    let Unpacked { diff_id, bytes } = outcome.result.clone().unwrap();
    assert_eq!((diff_id, bytes), (digest, 22));
    assert_eq!(outcome.read("bin/program"), "content");
    assert_eq!(outcome.read("sh"), "content");
    assert_eq!(fs::read_link(outcome.root().join("dangling")).unwrap(), Path::new("/nowhere/at/all"));
    assert!(outcome.root().join("old-style").is_dir());
    let stat = |path: &str| fs::symlink_metadata(outcome.root().join(path)).unwrap();
    assert_eq!(stat("hard").ino(), stat("bin/program").ino());
    assert!(stat("fifo").file_type().is_fifo());
    // Set-user-id survives the change of owner.
    for path in ["bin/program", "bin", "fifo", "."] {
        assert_eq!(stat(path).mode() & 0o7777, 0o4751, "{path}");
        assert_eq!(stat(path).mtime(), 1_000_000_000, "{path}");
    }
    assert_eq!(stat("deep/in").mode() & 0o7777, 0o755);
    if is_root() {
        for path in ["bin/program", "sh", "dangling", "fifo", "bin"] {
            assert_eq!((stat(path).uid(), stat(path).gid()), (1234, 4321), "{path}");
        }
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    let outcome = unpacked(
        Made::default()
            .file("a", "old")
            .file("a", "new")
            .file("b/c", "in a folder")
            .file("b", "no folder any more")
            .symlink("d", "a")
            .file("d", "not through the link")
            .folder("e")
            .symlink("f", "e")
            .folder("f")
            .file("f/g", "in its own folder")
            .file("h", "x")
            .link("h", "h")
            .bytes(),
    );
    outcome.result.clone().unwrap();
    assert_eq!(outcome.read("a"), "new");
    assert_eq!(outcome.read("b"), "no folder any more");
    assert_eq!(outcome.read("d"), "not through the link");
    assert_eq!(outcome.read("f/g"), "in its own folder");
    assert!(!outcome.root().join("e/g").exists());
    assert_eq!(outcome.read("h"), "x");
}

#[test]
fn no_name_and_no_link_leads_out_of_the_layer() {
    for archive in [
        Made::default().file("../escaped", "x"),
        Made::default().file("a/../../escaped", "x"),
        Made::default().link("stolen", "../outside"),
        Made::default().folder("../escaped"),
        Made::default().symlink("../escaped", "x"),
        Made::default().entry(EntryType::Fifo, "../escaped", "", b""),
        Made::default().file("..", "x"),
        Made::default().file(".wh..", "x"),
    ] {
        let outcome = unpacked(archive.bytes());
        assert!(outcome.result.is_err());
        outcome.assert_contained();
    }
    // Links are followed, but only within the layer.
    for target in ["/", "../../../../../..", "..", "/proc/self/root", "/proc/self/cwd"] {
        let outcome = unpacked(
            Made::default()
                .symlink("way", target)
                .file("way/outside", "overwritten")
                .file("way/tmp/new", "x")
                .link("stolen", "way/outside")
                .bytes(),
        );
        outcome.assert_contained();
        if outcome.result.is_ok() {
            assert_eq!(outcome.read("outside"), "overwritten", "{target}");
            assert_eq!(outcome.read("stolen"), "overwritten", "{target}");
        }
    }
    // A link in the place of a file is replaced, not written through.
    let outcome = unpacked(Made::default().symlink("file", "../outside").file("file", "x").bytes());
    outcome.assert_contained();
    assert_eq!(outcome.read("file"), "x");
    // What a link names is not deleted through it.
    let outcome = unpacked(Made::default().symlink("way", "..").file("way", "x").bytes());
    outcome.assert_contained();
}

#[test]
fn an_absolute_name_is_one_of_the_layer() {
    let outcome = unpacked(Made::default().file("/etc/stint-test", "x").bytes());
    outcome.result.clone().unwrap();
    assert_eq!(outcome.read("etc/stint-test"), "x");
    assert!(!Path::new("/etc/stint-test").exists());
}

#[test]
fn marks_hide_what_lies_below_and_nothing_of_the_layer_itself() {
    let attribute = if is_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
    let outcome = unpacked(
        Made::default()
            .file("etc/.wh.gone", "")
            .file("usr/.wh..wh..opq", "")
            .file("usr/kept", "x")
            .file("own", "x")
            .file(".wh.own", "")
            .folder("folder")
            .file(".wh.folder", "")
            .file(".wh.back", "")
            .folder("back")
            .file(".wh..wh.aufs", "")
            .bytes(),
    );
    outcome.result.clone().unwrap();
    let stat = |path: &str| fs::symlink_metadata(outcome.root().join(path)).unwrap();
    assert!(stat("etc/gone").file_type().is_char_device() && stat("etc/gone").rdev() == 0);
    assert_eq!(outcome.read("usr/kept"), "x");
    assert_eq!(outcome.read("own"), "x");
    let is_opaque = |path: &str| {
        let mut value = [0; 8];
        let path = outcome.root().join(path);
        rustix::fs::getxattr(path, attribute, &mut value).is_ok_and(|length| &value[..length] == b"y")
    };
    assert!(is_opaque("usr") && is_opaque("folder") && is_opaque("back"));
    assert!(!is_opaque("etc"));
    let mut names: Vec<_> =
        fs::read_dir(outcome.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["back", "etc", "folder", "own", "usr"]);
}

#[test]
fn devices_are_for_root_and_never_marks_of_overlayfs() {
    let mut header = Header::new_gnu();
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    let mut made = Made::default();
    made.add(&mut header, EntryType::Char, "null", "", b"");
    let outcome = unpacked(made.bytes());
    outcome.result.clone().unwrap();
    let found = fs::symlink_metadata(outcome.root().join("null"));
    match is_root() {
        true => assert_eq!(found.unwrap().rdev(), rustix::fs::makedev(1, 3)),
        false => assert!(found.is_err()),
    }
    header.set_device_minor(0).unwrap();
    header.set_device_major(0).unwrap();
    let mut made = Made::default();
    made.add(&mut header, EntryType::Char, "mark", "", b"");
    let failure = unpacked(made.bytes()).result.unwrap_err();
    assert!(failure.message.contains("overlayfs"), "{}", failure.message);
}

#[test]
fn attributes_are_set_but_not_those_that_mean_something_to_the_host() {
    let value = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let mut records = BTreeMap::new();
    records.insert("SCHILY.xattr.user.kept", b"value".to_vec());
    records.insert("SCHILY.xattr.trusted.overlay.redirect", b"/etc".to_vec());
    records.insert("SCHILY.xattr.user.overlay.redirect", b"/etc".to_vec());
    records.insert("SCHILY.xattr.security.selinux", b"x".to_vec());
    if is_root() {
        records.insert("SCHILY.xattr.security.capability", value.to_vec());
    }
    records.insert("uid", b"77777777".to_vec());
    let mut extensions = Vec::new();
    for (key, value) in &records {
        // The length counts its own digits.
        let rest = 1 + key.len() + 1 + value.len() + 1;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        extensions.extend([format!("{length} {key}=").as_bytes(), value, b"\n"].concat());
    }
    let outcome = unpacked(
        Made::default().entry(EntryType::XHeader, "x", "", &extensions).file("file", "content").bytes(),
    );
    outcome.result.clone().unwrap();
    let path = outcome.root().join("file");
    let mut list = [0; 1024];
    let length = rustix::fs::listxattr(&path, &mut list).unwrap();
    let names = String::from_utf8_lossy(&list[..length]).into_owned();
    assert!(names.contains("user.kept"), "{names}");
    assert!(!names.contains("overlay"), "{names}");
    if is_root() {
        let mut found = [0; 64];
        let length = rustix::fs::getxattr(&path, "security.capability", &mut found).unwrap();
        assert_eq!(&found[..length], value);
        assert_eq!(fs::metadata(&path).unwrap().uid(), 77_777_777);
    }
}

#[test]
fn what_would_eat_the_memory_is_refused() {
    // A name of many megabytes, in few bytes of a compressed blob.
    let long = vec![b'x'; 8 << 20];
    let archive = Made::default().entry(EntryType::GNULongName, "x", "", &long).file("short", "").bytes();
    let failure = unpacked(archive).result.unwrap_err();
    assert!(failure.message.contains("headers"), "{}", failure.message);
    let archive = Made::default().entry(EntryType::XHeader, "x", "", &long).file("short", "").bytes();
    assert!(unpacked(archive).result.is_err());
    // A file that says to be larger than all that may be.
    let mut header = Header::new_gnu();
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(EntryType::Regular);
    header.set_path("bomb").unwrap();
    header.set_size(limits::LAYER_BYTES_MAX + 1);
    header.set_cksum();
    let failure = unpacked(header.as_bytes().to_vec()).result.unwrap_err();
    assert!(failure.message.contains("larger than is allowed"), "{}", failure.message);
}

#[test]
fn what_was_cut_or_is_no_archive_is_an_error() {
    let bytes = Made::default().file("a", &"content".repeat(1000)).bytes();
    for length in [100, 600, 5000] {
        assert!(unpacked(bytes[..length].to_vec()).result.is_err(), "{length}");
    }
    assert!(unpacked(vec![b'x'; 4096]).result.is_err());
}

#[test]
fn the_digest_is_that_of_the_whole_archive_with_what_comes_after_its_end() {
    let mut bytes = Made::default().file("a", "x").bytes();
    bytes.extend([0; 10_240]);
    let digest = Digest::of(&bytes);
    assert_eq!(unpacked(bytes).result.unwrap().diff_id, digest);
}

#[test]
fn a_pull_that_is_given_up_stops_unpacking() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Made::default().file("a", "x").bytes();
    let failure =
        unpack(Cursor::new(bytes), folder.path(), false, Arc::new(AtomicBool::new(true))).unwrap_err();
    assert!(failure.message.contains("given up"), "{}", failure.message);
}
