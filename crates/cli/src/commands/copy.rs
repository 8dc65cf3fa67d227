//! `cp`: files and folders, by `tar` at the container's end, as kubectl does it.
//!
//! Owns: which place is meant, packing and unpacking at this end. Does not own: the command that carries it (crate `client`).
//!
//! Invariant: what comes from a container is written below the destination and nowhere else, whatever its archive says.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use stint_client::{ExecCommand, ExecOutput, PodTarget};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::io::SyncIoBridge;

use crate::arguments::Copy;
use crate::commands::Context;
use crate::commands::exec::{PIECES_AHEAD, stdin_pieces};
use crate::commands::target::{Kind, pod_target};
use crate::output;

/// Bytes between the archive and the connection.
const PIPE_BYTES: usize = 64 << 10;
/// What is shown of the complaints of a command in a container.
const COMPLAINT_BYTES_MAX: usize = 2 << 10;

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// On this machine.
    Here(PathBuf),
    /// This process's stdin or stdout.
    Stream,
    /// In a container.
    Pod(Pod, String),
}

/// Which Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pod {
    target: PodTarget,
    /// None: the one of the command line.
    namespace: Option<String>,
}

/// `stint cp`.
pub async fn run(context: &Context, copy: &Copy) -> Result<ExitCode> {
    let source = parse(&copy.source)?;
    match (source, parse(&copy.destination)?) {
        (Place::Here(from), Place::Pod(pod, to)) => {
            upload(&Remote { context, pod, container: &copy.container }, &from, &to).await?;
        }
        (Place::Stream, Place::Pod(pod, to)) => {
            let remote = Remote { context, pod, container: &copy.container };
            // The shell stays and keeps its output open: containerd ends the input of a command that has closed that.
            let command = ["sh", "-c", "cat > \"$1\"; exit $?", "sh", &to];
            remote.execute(&command, Some(stdin_pieces()), tokio::io::sink()).await?;
        }
        (Place::Pod(pod, from), Place::Here(to)) => {
            download(&Remote { context, pod, container: &copy.container }, &from, &to).await?;
        }
        (Place::Pod(pod, from), Place::Stream) => {
            let remote = Remote { context, pod, container: &copy.container };
            remote.execute(&["cat", "--", &from], None, output::stdout_stream()?).await?;
        }
        (Place::Pod(..), Place::Pod(..)) => {
            bail!("both places are in containers: copy to this machine first")
        }
        (Place::Here(_) | Place::Stream, Place::Here(_) | Place::Stream) => {
            bail!("neither place is in a container: write POD:PATH for one of them")
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(text: &str) -> Result<Place> {
    if text == "-" {
        return Ok(Place::Stream);
    }
    match text.split_once(':') {
        // Paths of this machine with a colon begin with ./ or /.
        Some((pod, path)) if !pod.is_empty() && !pod.starts_with(['.', '/']) => {
            ensure!(!path.is_empty(), "{text:?} names no path in the container: write POD:PATH");
            Ok(Place::Pod(parse_pod(pod)?, path.to_owned()))
        }
        _ => {
            ensure!(!text.is_empty(), "an empty path is no place");
            Ok(Place::Here(PathBuf::from(text)))
        }
    }
}

/// `POD`, `job/NAME`, `pod/NAME`, or `NAMESPACE/POD` as kubectl has it.
fn parse_pod(text: &str) -> Result<Pod> {
    match (pod_target(text), text.split_once('/')) {
        (Err(_), Some((namespace, name)))
            if !namespace.is_empty() && !name.is_empty() && Kind::parse(namespace).is_err() =>
        {
            Ok(Pod { target: pod_target(name)?, namespace: Some(namespace.to_owned()) })
        }
        (target, _) => Ok(Pod { target: target?, namespace: None }),
    }
}

/// A container to copy from or to.
struct Remote<'a> {
    context: &'a Context,
    pod: Pod,
    container: &'a str,
}

impl Remote<'_> {
    /// Executes a command that must succeed.
    async fn execute(
        &self,
        command: &[&str],
        stdin: Option<mpsc::Receiver<Bytes>>,
        stdout: impl AsyncWrite + Unpin,
    ) -> Result<()> {
        let (code, complaint) = self.exit_code(command, stdin, stdout).await?;
        let words = complaint.trim();
        ensure!(code == 0, "{} in the container ended with exit code {code}: {words}", command[0]);
        Ok(())
    }

    /// Executes a command; its exit code and what it complained about.
    async fn exit_code(
        &self,
        command: &[&str],
        stdin: Option<mpsc::Receiver<Bytes>>,
        mut stdout: impl AsyncWrite + Unpin,
    ) -> Result<(i32, String)> {
        let wanted = ExecCommand {
            namespace: self.pod.namespace.as_deref().unwrap_or(self.context.namespace()).to_owned(),
            target: self.pod.target.clone(),
            container: self.container.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            stdin: stdin.is_some(),
            terminal: None,
        };
        let mut call = self.context.client.exec(&wanted).await?;
        if let Some(mut stdin) = stdin {
            let input = call.input();
            tokio::spawn(async move {
                while let Some(piece) = stdin.recv().await {
                    if !input.send(piece).await {
                        return;
                    }
                }
                input.end().await;
            });
        }
        let mut complaint = Vec::new();
        loop {
            match call.next().await? {
                ExecOutput::Stdout(data) => {
                    stdout.write_all(&data).await.context("what came can't be written")?
                }
                ExecOutput::Stderr(data) => {
                    let room = COMPLAINT_BYTES_MAX - complaint.len();
                    complaint.extend_from_slice(&data[..data.len().min(room)]);
                }
                ExecOutput::Exit(code) => {
                    stdout.shutdown().await.context("what came can't be written")?;
                    return Ok((code, String::from_utf8_lossy(&complaint).into_owned()));
                }
            }
        }
    }

    async fn is_folder(&self, path: &str) -> Result<bool> {
        Ok(self.exit_code(&["test", "-d", path], None, tokio::io::sink()).await?.0 == 0)
    }

    async fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.exit_code(&["test", "-e", path], None, tokio::io::sink()).await?.0 == 0)
    }
}

/// Into a folder under the source's own name, else under the name that the destination says. Of a folder that is named with `/.`
/// at its end it is what is in it that goes there.
async fn upload(remote: &Remote<'_>, from: &Path, to: &str) -> Result<()> {
    // Looked at before anything is executed.
    let kind = std::fs::metadata(from).with_context(|| format!("{} can't be read", from.display()))?;
    let (folder, name) = match remote.is_folder(to).await? {
        true if kind.is_dir() && means_contents(from) => (to.to_owned(), PathBuf::from(".")),
        true => (to.to_owned(), own_name(from)?),
        false => {
            ensure!(!to.ends_with('/'), "{to:?} is no folder in the container");
            // tar would put the folder in the file's place.
            ensure!(
                !kind.is_dir() || !remote.exists(to).await?,
                "{to:?} is a file in the container, and {} a folder: name another place, or remove it",
                from.display()
            );
            let (folder, name) = split(to);
            (folder, PathBuf::from(name))
        }
    };
    let (pieces, packed) = mpsc::channel(PIECES_AHEAD);
    let (writer, source) = (BufWriter::with_capacity(PIPE_BYTES, Pieces(pieces)), from.to_owned());
    let packing = tokio::task::spawn_blocking(move || pack(writer, &source, &name, kind.is_dir()));
    let unpack = ["tar", "-xmf", "-", "-C", &folder];
    let outcome = remote.execute(&unpack, Some(packed), tokio::io::sink()).await;
    match packing.await? {
        // The other end has gone first, and says why.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe || outcome.is_ok() => {
            Err(error).with_context(|| format!("{} can't be packed", from.display()))
        }
        _ => outcome,
    }
}

/// A writer whose bytes come out of a channel, as far as they are read.
struct Pieces(mpsc::Sender<Bytes>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Bytes::copy_from_slice(bytes)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(writer: impl Write, source: &Path, name: &Path, is_folder: bool) -> io::Result<()> {
    let mut archive = tar::Builder::new(writer);
    // A link that was named is followed, those inside folders are copied.
    archive.follow_symlinks(false);
    match is_folder {
        true => archive.append_dir_all(name, source)?,
        false => archive.append_file(name, &mut File::open(source)?)?,
    }
    archive.into_inner()?.flush()
}

/// True for `.`, `a/.` and the like: what is in the folder, not the folder.
fn means_contents(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    text == b"." || text.ends_with(b"/.")
}

/// The last part of a path of this machine.
fn own_name(path: &Path) -> Result<PathBuf> {
    let absolute =
        std::fs::canonicalize(path).with_context(|| format!("{} can't be read", path.display()))?;
    let name = path.file_name().or_else(|| absolute.file_name());
    name.map(PathBuf::from).with_context(|| format!("{} has no name: name the destination", path.display()))
}

/// Folder and name of a path in a container.
fn split(path: &str) -> (String, String) {
    let path = match path.trim_end_matches('/') {
        "" => return ("/".to_owned(), ".".to_owned()),
        path => path,
    };
    match path.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((folder, name)) => (folder.to_owned(), name.to_owned()),
        None => (".".to_owned(), path.to_owned()),
    }
}

/// Into a folder under the source's own name, else under the name that the destination says. Of a folder that is named with `/.`
/// at its end it is what is in it that comes.
async fn download(remote: &Remote<'_>, from: &str, to: &Path) -> Result<()> {
    let (folder, name) = split(from);
    ensure!(name != "..", "{from:?} ends with ..: name the folder itself");
    let (target, is_inside) = match to.is_dir() {
        true => (to.join(&name), true),
        false => (to.to_owned(), false),
    };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(parent.is_dir(), "{} is no folder", parent.display());
    // What is no plain file stays, and is written into: a device such as /dev/null, a pipe, what a link leads to.
    let stays = !is_inside && target.symlink_metadata().is_ok_and(|known| !known.is_file());
    // Unpacked beside its place, and put there whole; into a folder that is there already, file by file.
    let beside = if stays { tempfile_in(&std::env::temp_dir())? } else { tempfile_in(parent)? };
    // What has no name of its own gets that of a folder which takes it.
    let made = beside.path().join(if name == "." { "contents" } else { &name });
    let unpack_in = match (is_inside, name.as_str()) {
        (true, _) => to.to_owned(),
        (false, ".") => {
            std::fs::create_dir(&made).with_context(|| format!("{} can't be made", target.display()))?;
            made.clone()
        }
        (false, _) => beside.path().to_owned(),
    };
    let (packed, received) = tokio::io::duplex(PIPE_BYTES);
    let (reader, own_name) = (SyncIoBridge::new(packed), name.clone());
    let unpacked_in = unpack_in.clone();
    let unpacking = tokio::task::spawn_blocking(move || unpack(reader, &own_name, &unpacked_in));
    // Not an option, whatever it is called.
    let named = format!("./{name}");
    let outcome = remote.execute(&["tar", "-cf", "-", "-C", &folder, &named], None, received).await;
    let unpacked = unpacking.await?;
    // The other end says best why nothing came.
    if unpacked.is_ok() || !outcome.as_ref().is_err_and(|error| error.root_cause().is::<io::Error>()) {
        outcome?;
    }
    unpacked.with_context(|| format!("what came can't be unpacked into {}", target.display()))?;
    let put = match (is_inside, stays) {
        (true, _) => Ok(()),
        (false, true) => write_into(&made, &target),
        (false, false) => std::fs::rename(&made, &target),
    };
    put.with_context(|| format!("{} can't be written", target.display()))
}

/// The bytes of one file into what is there already.
fn write_into(made: &Path, target: &Path) -> io::Result<()> {
    if !made.symlink_metadata()?.is_file() {
        return Err(io::Error::other("what came is no file, and this is no folder"));
    }
    let mut into = File::options().write(true).create(true).truncate(true).open(target)?;
    io::copy(&mut File::open(made)?, &mut into)?;
    into.flush()
}

fn tempfile_in(folder: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(".stint-cp-")
        .tempdir_in(folder)
        .with_context(|| format!("{} can't be written to", folder.display()))
}

/// Unpacks what is called `name`, or is below it; refuses an archive in which something else is.
fn unpack(reader: impl Read, name: &str, folder: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(reader);
    let mut is_empty = true;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut parts = path.components().filter(|part| *part != Component::CurDir);
        let is_below = name == "." || parts.next() == Some(Component::Normal(name.as_ref()));
        ensure!(
            is_below && parts.all(|part| matches!(part, Component::Normal(_))),
            "the archive holds {}, which was not asked for",
            path.display()
        );
        ensure!(entry.unpack_in(folder)?, "the archive holds {}, which leads elsewhere", path.display());
        is_empty = false;
    }
    ensure!(!is_empty, "nothing came");
    // What follows the end of an archive is padding; unread it would look like a broken connection.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("made"), "new").unwrap();
        std::fs::write(at("real"), "what was there").unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        write_into(&at("made"), &at("link")).unwrap();
        assert!(at("link").is_symlink());
        assert_eq!(std::fs::read_to_string(at("real")).unwrap(), "new");
        let full = write_into(&at("made"), Path::new("/dev/full")).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(write_into(folder.path(), &at("link")).is_err(), "a folder is no file");
    }

    #[test]
    fn places_are_told_apart() {
        let place = |target, namespace: Option<&str>, path: &str| {
            Place::Pod(Pod { target, namespace: namespace.map(str::to_owned) }, path.to_owned())
        };
        let pod = |name: &str, path: &str| place(PodTarget::Pod(name.to_owned()), None, path);
        assert_eq!(parse("a:/b").unwrap(), pod("a", "/b"));
        assert_eq!(parse("a:b:c").unwrap(), pod("a", "b:c"));
        assert_eq!(parse("job/a:b").unwrap(), place(PodTarget::Job("a".to_owned()), None, "b"));
        assert_eq!(parse("pod/a:b").unwrap(), pod("a", "b"));
        assert_eq!(parse("other/a:b").unwrap(), place(PodTarget::Pod("a".to_owned()), Some("other"), "b"));
        let of_job = place(PodTarget::Job("a".to_owned()), Some("other"), "b");
        assert_eq!(parse("other/job/a:b").unwrap(), of_job);
        assert_eq!(parse("-").unwrap(), Place::Stream);
        for here in ["a", "./a:b", "/a:b", "../a:b"] {
            assert_eq!(parse(here).unwrap(), Place::Here(PathBuf::from(here)));
        }
        for text in ["", "a:", "node/a:b", "x/:b", "x/y/a:b", "x//a:b"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_in_containers_are_split() {
        for (path, folder, name) in [
            ("/a/b", "/a", "b"),
            ("/a/b//", "/a", "b"),
            ("/a", "/", "a"),
            ("a", ".", "a"),
            ("a/b", "a", "b"),
            ("/", "/", "."),
            (".", ".", "."),
            ("/a/.", "/a", "."),
            ("a/./", "a", "."),
        ] {
            assert_eq!(split(path), (folder.to_owned(), name.to_owned()), "{path}");
        }
    }

    #[test]
    fn what_is_in_a_folder_is_told_from_the_folder() {
        let means = |text: &str| means_contents(Path::new(text));
        assert!([".", "./.", "a/.", "/."].into_iter().all(means));
        assert!(!["a", "a/", "..", "a/..", "a.", ".a", "/"].into_iter().any(means));
    }

    #[test]
    fn what_is_in_a_folder_is_packed_without_it() {
        let around = tempfile::tempdir().unwrap();
        let (from, to) = (around.path().join("from"), around.path().join("to"));
        std::fs::create_dir_all(from.join("deep")).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("deep/file"), "x").unwrap();
        let mut packed = Vec::new();
        pack(&mut packed, &from, Path::new("."), true).unwrap();
        unpack(&packed[..], ".", &to).unwrap();
        assert_eq!(std::fs::read(to.join("deep/file")).unwrap(), b"x");
        assert!(!to.join("from").exists());
    }

    /// An archive of files with these names as they are, however bad.
    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, link) in entries {
            let mut header = tar::Header::new_gnu();
            let gnu = header.as_gnu_mut().unwrap();
            gnu.name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o644);
            header.set_size(if link.is_empty() { 3 } else { 0 });
            if !link.is_empty() {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(link).unwrap();
            }
            header.set_cksum();
            builder.append(&header, if link.is_empty() { &b"bad"[..] } else { &b""[..] }).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn nothing_is_written_outside_of_the_destination() {
        let around = tempfile::tempdir().unwrap();
        let elsewhere = around.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let to_elsewhere = elsewhere.to_str().unwrap();
        for (number, entries) in [
            vec![("../evil", "")],
            vec![("/evil", "")],
            vec![("a/../../evil", "")],
            vec![("other", "")],
            vec![("a/link", to_elsewhere), ("a/link/evil", "")],
            vec![("a/link", "../../elsewhere"), ("a/link/evil", "")],
            vec![],
        ]
        .into_iter()
        .enumerate()
        {
            let folder = around.path().join(format!("to-{number}"));
            std::fs::create_dir(&folder).unwrap();
            let unpacked = unpack(&archive(&entries)[..], "a", &folder);
            assert!(unpacked.is_err(), "{entries:?}");
            assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0, "{entries:?}");
            assert!(!around.path().join("evil").exists(), "{entries:?}");
        }
        let folder = around.path().join("to-good");
        std::fs::create_dir(&folder).unwrap();
        unpack(&archive(&[("./a", "")])[..], "a", &folder).unwrap();
        assert_eq!(std::fs::read(folder.join("a")).unwrap(), b"bad");
    }

    #[test]
    fn links_and_devices_change_nothing_outside() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        use tar::EntryType;
        let around = tempfile::tempdir().unwrap();
        let elsewhere = around.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let secret = elsewhere.join("secret");
        std::fs::write(&secret, "secret").unwrap();
        std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o700)).unwrap();
        let (to_elsewhere, to_secret) = (elsewhere.to_str().unwrap(), secret.to_str().unwrap());
        for (number, entries) in [
            // A folder that is a link: whose permissions are set?
            vec![(EntryType::Symlink, "a", to_elsewhere), (EntryType::Directory, "a", "")],
            vec![(EntryType::Symlink, "a", "../elsewhere"), (EntryType::Directory, "a/", "")],
            vec![(EntryType::Symlink, "a", to_secret), (EntryType::Regular, "a", "")],
            vec![(EntryType::Link, "a", to_secret)],
            vec![(EntryType::Link, "a", "../elsewhere/secret")],
            vec![(EntryType::Char, "a", "")],
            vec![(EntryType::Block, "a", "")],
            vec![(EntryType::Fifo, "a", "")],
        ]
        .into_iter()
        .enumerate()
        {
            let mut builder = tar::Builder::new(Vec::new());
            for (kind, name, link) in &entries {
                let mut header = tar::Header::new_gnu();
                header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_entry_type(*kind);
                header.set_mode(0o6777);
                header.set_device_major(1).unwrap();
                header.set_device_minor(1).unwrap();
                header.set_size(0);
                if !link.is_empty() {
                    header.set_link_name(link).unwrap();
                }
                header.set_cksum();
                builder.append(&header, &b""[..]).unwrap();
            }
            let folder = around.path().join(format!("to-{number}"));
            std::fs::create_dir(&folder).unwrap();
            // Refused, or without harm.
            let _ = unpack(&builder.into_inner().unwrap()[..], "a", &folder);
            let mode = std::fs::metadata(&elsewhere).unwrap().permissions().mode() & 0o7777;
            assert_eq!(
                (mode, std::fs::read_to_string(&secret).unwrap().as_str()),
                (0o700, "secret"),
                "{entries:?}"
            );
            if let Ok(facts) = folder.join("a").symlink_metadata() {
                let kind = facts.file_type();
                let is_special = kind.is_char_device() || kind.is_block_device() || kind.is_fifo();
                assert!(!is_special, "{entries:?}");
                let is_set_id = kind.is_file() && facts.permissions().mode() & 0o6000 != 0;
                assert!(!is_set_id, "{entries:?}");
            }
        }
    }
}
