//! Volumes of a Pod: folders of the host, and where containers see them.
//!
//! Owns: making them below the Pod's folder, their contents, subPath. Does not own: which host paths a node shows (policy),
//! mounting them into a container (the runtime), looking up what is in them (the servers).
//!
//! Invariants: no path that a Pod chose leads out of its volume, whatever a container has put there: nothing is followed that
//! is a link; a volume's content is there as a whole or not at all.

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use std::collections::HashMap;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use stint_api::{Container, EmptyDirVolume, HostPathType, HostPathVolume, VolumeSource};
use stint_proto::v1;
use stint_runtime::{Mount, MountPropagation};

use super::judgement::Rules;
use super::specs::{memory_limit, units_of};
use super::template::PodTemplate;

/// Everybody may write there; what keeps others out is the Pod's folder.
const SHARED_MODE: u32 = 0o777;
/// And whatever is made there belongs to the folder's group.
const SHARED_WITH_GROUP_MODE: u32 = 0o2_777;
/// Of folders whose content is given.
const GIVEN_MODE: u32 = 0o755;

/// Where the volumes of a Pod are.
pub fn volumes_folder(folder: &Path) -> PathBuf {
    folder.join("volumes")
}

/// Makes the Pod's folder, and those of its volumes that are empty at first, as far as they are not there. Blocks.
///
/// # Errors
/// What can't be made, for people.
pub fn make(template: &PodTemplate) -> Result<(), String> {
    let folder = template.folder();
    let failed = |error: io::Error| format!("the pod's folder {} can't be made: {error}", folder.display());
    let make = |path: &Path, mode| DirBuilder::new().recursive(true).mode(mode).create(path);
    make(folder, 0o700).map_err(failed)?;
    if !template.spec().volumes.is_empty() {
        make(&volumes_folder(folder), 0o700).map_err(failed)?;
    }
    for volume in &template.spec().volumes {
        if let VolumeSource::EmptyDir(empty) = &volume.source {
            let path = volumes_folder(folder).join(&volume.name);
            make_empty(&path, empty, group_of(template), memory_limit(template))
                .map_err(|error| format!("volume {:?} can't be made: {error}", volume.name))?;
        }
    }
    template.keep().map_err(failed)
}

/// Makes those of its volumes whose content is given, as far as they are not there and their content is known. They belong to
/// `owner`, a user and its group, if there is one. Blocks.
///
/// # Errors
/// What can't be made, for people.
pub fn make_given(template: &PodTemplate, owner: Option<(u32, u32)>) -> Result<(), String> {
    let owner = Owner {
        user: owner.map(|(user, _)| user),
        user_group: owner.map(|(_, group)| group),
        fs_group: group_of(template),
    };
    for files in &template.to_run().volume_files {
        // By the names of the spec, which are no paths.
        let Some(volume) = template.spec().volumes.iter().find(|volume| volume.name == files.volume) else {
            continue;
        };
        if matches!(volume.source, VolumeSource::EmptyDir(_) | VolumeSource::HostPath(_)) {
            continue;
        }
        fill(&volumes_folder(template.folder()).join(&volume.name), &files.files, &owner)
            .map_err(|error| format!("volume {:?} can't be made: {error}", volume.name))?;
    }
    Ok(())
}

/// Whose what is given is.
struct Owner {
    /// None: the agent's.
    user: Option<u32>,
    user_group: Option<u32>,
    /// The group that owns all volumes of the Pod.
    fs_group: Option<u32>,
}

fn group_of(template: &PodTemplate) -> Option<u32> {
    let security = template.spec().security_context.as_ref()?;
    security.fs_group.and_then(|group| u32::try_from(group).ok())
}

/// `memory` is what the Pod's containers may use of it.
fn make_empty(
    path: &Path,
    volume: &EmptyDirVolume,
    group: Option<u32>,
    memory: Option<u64>,
) -> io::Result<()> {
    if path.is_dir() {
        // An earlier try has got this far.
        return Ok(());
    }
    let temporary = new_folder_beside(path)?;
    share(&temporary, group)?;
    move_into_place(&temporary, path)?;
    if volume.medium == "Memory" {
        // What is mounted can't be moved.
        mount_memory(path, memory_size(volume, memory))
            .and_then(|()| share(path, group))
            .inspect_err(|_| drop(remove_tree(path)))?;
    }
    Ok(())
}

/// As in Kubernetes: a volume in memory is no larger than what the Pod may use of memory. Without any limit the kernel takes
/// half of what the host has.
fn memory_size(volume: &EmptyDirVolume, memory: Option<u64>) -> Option<u64> {
    let own = volume.size_limit.as_ref().and_then(units_of);
    own.into_iter().chain(memory).min()
}

/// Memory instead of a disk, if this process may mount it.
fn mount_memory(path: &Path, bytes_max: Option<u64>) -> io::Result<()> {
    use nix::mount::{MsFlags, mount};
    let options = bytes_max.map(|bytes| format!("size={bytes}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match mount(Some("tmpfs"), path, Some("tmpfs"), flags, options.as_deref()) {
        Err(Errno::EPERM) => {
            tracing::info!(path = %path.display(), "a volume that asks for memory is on the disk: only root may mount memory");
            Ok(())
        }
        mounted => Ok(mounted?),
    }
}

fn share(path: &Path, group: Option<u32>) -> io::Result<()> {
    let mode = if group.is_some() { SHARED_WITH_GROUP_MODE } else { SHARED_MODE };
    give_to(path, group)?;
    // Not subject to the umask.
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

fn give_to(path: &Path, group: Option<u32>) -> io::Result<()> {
    if group.is_some() {
        std::os::unix::fs::lchown(path, None, group)?;
    }
    Ok(())
}

fn fill(path: &Path, files: &[v1::VolumeFile], owner: &Owner) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let temporary = new_folder_beside(path)?;
    for file in files {
        let relative = inner_path(&file.path).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("the path {:?} leads out of it", file.path))
        })?;
        let target = temporary.join(&relative);
        for folder in relative.ancestors().skip(1).filter(|part| !part.as_os_str().is_empty()) {
            let folder = temporary.join(folder);
            DirBuilder::new().recursive(true).create(&folder)?;
            // Not subject to the umask.
            std::fs::set_permissions(&folder, Permissions::from_mode(GIVEN_MODE))?;
        }
        let mut created = File::options().write(true).create_new(true).mode(0o600).open(&target)?;
        created.write_all(&file.data)?;
        // A mode such as 0400 is for the Pod's own user.
        std::os::unix::fs::lchown(&target, owner.user, owner.fs_group.or(owner.user_group))?;
        // Whom it was given to can read it, as in Kubernetes.
        let readable = if owner.fs_group.is_some() { 0o440 } else { 0 };
        created.set_permissions(Permissions::from_mode((file.mode & 0o777) | readable))?;
    }
    give_to(&temporary, owner.fs_group)?;
    std::fs::set_permissions(&temporary, Permissions::from_mode(GIVEN_MODE))?;
    move_into_place(&temporary, path)
}

fn new_folder_beside(path: &Path) -> io::Result<PathBuf> {
    // No volume has such a name.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!("{name}.new"));
    remove_tree(&temporary)?;
    DirBuilder::new().mode(0o700).create(&temporary)?;
    Ok(temporary)
}

fn move_into_place(temporary: &Path, path: &Path) -> io::Result<()> {
    std::fs::rename(temporary, path)
}

/// Removes a folder with what is in it, and what is mounted in it first. Nothing if there is none. Blocks.
///
/// # Errors
/// What could not be removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    remove_with_mounts(path, &mount_points())
}

/// The same for many, each with its outcome. Where the host has mounts is looked up once for all. Blocks.
pub fn remove_trees<'a>(
    paths: impl IntoIterator<Item = &'a Path>,
) -> impl Iterator<Item = (&'a Path, io::Result<()>)> {
    let mounts = mount_points();
    paths.into_iter().map(move |path| (path, remove_with_mounts(path, &mounts)))
}

fn remove_with_mounts(path: &Path, mounts: &[PathBuf]) -> io::Result<()> {
    use nix::mount::{MntFlags, umount2};
    let mut below: Vec<_> = mounts.iter().filter(|point| point.starts_with(path)).collect();
    // The deepest first.
    below.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for mounted in below {
        umount2(mounted, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    stint_runtime::remove_tree(path)
}

/// All that this process sees.
fn mount_points() -> Vec<PathBuf> {
    let Ok(text) = std::fs::read_to_string("/proc/self/mountinfo") else { return Vec::new() };
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect()
}

/// `mountinfo` has white space and `\` in octal.
fn unescaped(text: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(escapes.iter().fold(text.to_owned(), |text, (octal, plain)| text.replace(octal, plain)))
}

/// A relative path without `..`; none if it is anything else.
fn inner_path(text: &str) -> Option<PathBuf> {
    let parts = Path::new(text).components();
    let parts = parts.filter(|part| !matches!(part, Component::CurDir));
    let inner: Option<PathBuf> =
        parts.map(|part| matches!(part, Component::Normal(_)).then_some(part)).collect();
    inner.filter(|path| !path.as_os_str().is_empty())
}

/// Where a container sees the Pod's volumes. Folders that a subPath names and that are not there are made. Blocks.
///
/// # Errors
/// What can't be, for people.
pub fn mounts(
    template: &PodTemplate,
    container: &Container,
    env: &[(String, String)],
    rules: &Rules,
) -> Result<Vec<Mount>, String> {
    container
        .volume_mounts
        .iter()
        .map(|wanted| {
            let failed =
                |problem: String| format!("volume {:?} at {}: {problem}", wanted.name, wanted.mount_path);
            let volume = template.spec().volumes.iter().find(|volume| volume.name == wanted.name);
            let volume = volume.ok_or_else(|| failed("the pod has no such volume".to_owned()))?;
            let is_given = !matches!(volume.source, VolumeSource::EmptyDir(_) | VolumeSource::HostPath(_));
            let mut source = match &volume.source {
                VolumeSource::HostPath(host) => host_path(host, wanted.read_only, rules).map_err(failed)?,
                _ => volumes_folder(template.folder()).join(&volume.name),
            };
            let sub_path = match wanted.sub_path_expr.as_str() {
                "" => wanted.sub_path.clone(),
                expression => stint_runtime::expand_variables(expression, &expanded(env)),
            };
            if !sub_path.is_empty() {
                let inner = inner_path(&sub_path)
                    .ok_or_else(|| failed(format!("subPath {sub_path:?} is no path within a volume")))?;
                if !is_given {
                    make_inner(&source, &inner)
                        .map_err(|errno| failed(format!("subPath {sub_path:?}: {}", errno.desc())))?;
                }
                source.push(inner);
            }
            Ok(Mount {
                source,
                target: PathBuf::from(&wanted.mount_path),
                // What is given belongs to the servers.
                read_only: wanted.read_only || is_given,
                propagation: match wanted.mount_propagation {
                    Some(stint_api::MountPropagation::HostToContainer) => MountPropagation::HostToContainer,
                    Some(stint_api::MountPropagation::Bidirectional) => MountPropagation::Bidirectional,
                    _ => MountPropagation::Private,
                },
            })
        })
        .collect()
}

/// Where a path of the host really is, if the node shows it and it is what the Pod says it is. It is made if the Pod asks for
/// that; what is made is judged before and after, so that no link leads it to another place.
fn host_path(volume: &HostPathVolume, read_only: bool, rules: &Rules) -> Result<PathBuf, String> {
    use std::os::unix::fs::FileTypeExt;
    let path = Path::new(&volume.path);
    let judged = || {
        // What is not there yet is judged where it would be made.
        let (there, missing) = path
            .ancestors()
            .map(|there| (there, path.strip_prefix(there).unwrap_or(path)))
            .find(|(there, _)| there.symlink_metadata().is_ok())
            .ok_or_else(|| format!("{} is no absolute path", path.display()))?;
        let real = there.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
        let real = if missing.as_os_str().is_empty() { real } else { real.join(missing) };
        rules
            .policy
            .host_path(path, read_only, &rules.data_dir)
            .map_err(|violation| violation.to_string())?;
        let shown = rules.policy.host_path(&real, read_only, &rules.data_dir);
        shown.map_err(|violation| violation.to_string())
    };
    let real = judged()?;
    let wanted = volume.path_type.as_ref().unwrap_or(&HostPathType::Unset);
    let made = match wanted {
        HostPathType::DirectoryOrCreate if !real.exists() => {
            DirBuilder::new().recursive(true).mode(GIVEN_MODE).create(&real)
        }
        HostPathType::FileOrCreate if !real.exists() => {
            File::options().write(true).create_new(true).mode(0o644).open(&real).map(drop)
        }
        _ => Ok(()),
    };
    made.map_err(|error| format!("{} can't be made: {error}", path.display()))?;
    let real = judged()?;
    let kind = std::fs::metadata(&real).map_err(|error| format!("{}: {error}", path.display()))?.file_type();
    let fits = match wanted {
        HostPathType::Unset | HostPathType::Other(_) => true,
        HostPathType::Directory | HostPathType::DirectoryOrCreate => kind.is_dir(),
        HostPathType::File | HostPathType::FileOrCreate => kind.is_file(),
        HostPathType::Socket => kind.is_socket(),
        HostPathType::CharDevice => kind.is_char_device(),
        HostPathType::BlockDevice => kind.is_block_device(),
    };
    if fits { Ok(real) } else { Err(format!("{} is no {}", path.display(), wanted.as_str())) }
}

fn expanded(env: &[(String, String)]) -> HashMap<String, String> {
    let mut known = HashMap::with_capacity(env.len());
    for (name, value) in env {
        let value = stint_runtime::expand_variables(value, &known);
        known.insert(name.clone(), value);
    }
    known
}

/// Makes the folders of an inner path. Each step begins at the folder that the one before has opened, and follows no link: a
/// container that changes its volume meanwhile can't lead it elsewhere. What is there already, also a file, is left as it is.
fn make_inner(volume: &Path, inner: &Path) -> Result<(), Errno> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at: OwnedFd = nix::fcntl::open(volume, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let parts: Vec<Component<'_>> = inner.components().collect();
    for (number, part) in parts.iter().enumerate() {
        let name = Path::new(part);
        match mkdirat(at.as_fd(), name, Mode::from_bits_truncate(SHARED_MODE)) {
            Ok(()) => {
                let made = openat(at.as_fd(), name, flags, Mode::empty())?;
                nix::sys::stat::fchmod(&made, Mode::from_bits_truncate(SHARED_MODE))?;
                at = made;
            }
            Err(Errno::EEXIST) => match openat(at.as_fd(), name, flags, Mode::empty()) {
                Ok(next) => at = next,
                // A file, which may be shown as well; not a link.
                Err(Errno::ENOTDIR) if number + 1 == parts.len() => {
                    let file = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    let opened = File::from(openat(at.as_fd(), name, file, Mode::empty())?);
                    let is_link = opened.metadata().is_ok_and(|facts| facts.is_symlink());
                    return if is_link { Err(Errno::ELOOP) } else { Ok(()) };
                }
                Err(errno) => return Err(errno),
            },
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::print_stdout, reason = "tells what could not be shown")]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use stint_api::{ConfigMapVolume, PodSpec, Volume, VolumeMount};
    use stint_runtime::NodePolicy;

    fn volume(name: &str, source: VolumeSource) -> Volume {
        Volume { name: name.to_owned(), source }
    }

    fn template(folder: &Path, files: Vec<v1::VolumeFile>) -> PodTemplate {
        let volumes = vec![
            volume("scratch", VolumeSource::default()),
            volume("config", VolumeSource::ConfigMap(ConfigMapVolume::default())),
        ];
        let spec = PodSpec { volumes, ..PodSpec::default() };
        let to_run = v1::PodToRun {
            uid: vec![7; 16].into(),
            spec: Some(spec.into()),
            volume_files: vec![v1::VolumeFiles { volume: "config".to_owned(), files }],
            ..v1::PodToRun::default()
        };
        PodTemplate::new(to_run, folder.join("pod"))
    }

    fn rules(allowed: &str) -> Rules {
        let mut policy = NodePolicy::default();
        policy.allow(allowed).unwrap();
        Rules { policy, data_dir: PathBuf::from("/nowhere/at/all") }
    }

    fn file(path: &str, mode: u32) -> v1::VolumeFile {
        v1::VolumeFile { path: path.to_owned(), data: b"data".to_vec().into(), mode }
    }

    fn mode_of(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn volumes_are_made_once_with_their_content_and_modes() {
        let folder = tempfile::tempdir().unwrap();
        let template = template(folder.path(), vec![file("a/b", 0o640), file("c", 0o444)]);
        make(&template).unwrap();
        make_given(&template, None).unwrap();
        let volumes = volumes_folder(template.folder());
        assert_eq!(mode_of(&volumes.join("scratch")), 0o777);
        assert_eq!(mode_of(&volumes.join("config/a")), 0o755);
        assert_eq!(mode_of(&volumes.join("config/a/b")), 0o640);
        assert_eq!(mode_of(&volumes.join("config/c")), 0o444);
        assert_eq!(std::fs::read(volumes.join("config/a/b")).unwrap(), b"data");
        assert_eq!(mode_of(&volumes), 0o700);
        std::fs::write(volumes.join("scratch/kept"), "").unwrap();
        make(&template).unwrap();
        make_given(&template, None).unwrap();
        assert!(volumes.join("scratch/kept").exists());
        remove_tree(template.folder()).unwrap();
        remove_tree(template.folder()).unwrap();
        assert!(!template.folder().exists());
    }

    #[test]
    fn content_that_is_not_known_yet_is_made_once_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut template = template(folder.path(), Vec::new());
        let mut to_run =
            v1::PodToRun { spec: Some(template.spec().clone().into()), ..template.to_run().clone() };
        let files = std::mem::take(&mut to_run.volume_files);
        template = PodTemplate::new(to_run.clone(), template.folder().to_owned());
        make(&template).unwrap();
        make_given(&template, None).unwrap();
        let config = volumes_folder(template.folder()).join("config");
        assert!(!config.exists());
        to_run.volume_files = files;
        to_run.volume_files[0].files.push(file("late", 0o644));
        let other = v1::VolumeFiles { volume: "../out".to_owned(), files: vec![file("x", 0o644)] };
        to_run.volume_files.push(other);
        make_given(&PodTemplate::new(to_run, template.folder().to_owned()), None).unwrap();
        assert_eq!(std::fs::read(config.join("late")).unwrap(), b"data");
        assert!(!template.folder().join("out").exists(), "the pod has no such volume");
    }

    #[test]
    fn volumes_belong_to_the_pods_user_and_group() {
        let folder = tempfile::tempdir().unwrap();
        let template = template(folder.path(), vec![file("a/b", 0o400), file("c", 0o440)]);
        if !nix::unistd::geteuid().is_root() {
            println!("not shown: only root can give files away");
            return;
        }
        let owner = |path: &Path| {
            let facts = path.symlink_metadata().unwrap();
            (facts.uid(), facts.gid(), facts.mode() & 0o7777)
        };
        let config = volumes_folder(template.folder()).join("config");
        make(&template).unwrap();
        make_given(&template, Some((1234, 1235))).unwrap();
        assert_eq!(owner(&config.join("a/b")), (1234, 1235, 0o400));
        assert_eq!(owner(&config.join("c")), (1234, 1235, 0o440));
        remove_tree(template.folder()).unwrap();
        let mut spec = template.spec().clone();
        let security = stint_api::PodSecurityContext { fs_group: Some(77), ..Default::default() };
        spec.security_context = Some(security);
        let to_run = v1::PodToRun { spec: Some(spec.into()), ..template.to_run().clone() };
        let template = PodTemplate::new(to_run, template.folder().to_owned());
        make(&template).unwrap();
        make_given(&template, Some((1234, 1235))).unwrap();
        assert_eq!(owner(&config.join("a/b")), (1234, 77, 0o440), "the group can read it");
        let scratch = volumes_folder(template.folder()).join("scratch");
        assert_eq!(owner(&scratch), (0, 77, 0o2777));
    }

    #[test]
    fn content_that_leads_out_of_its_volume_is_refused_and_leaves_none() {
        for path in ["../x", "/etc/x", "a/../../x", "", "."] {
            let folder = tempfile::tempdir().unwrap();
            let template = template(folder.path(), vec![file("fine", 0o644), file(path, 0o644)]);
            make(&template).unwrap();
            assert!(make_given(&template, None).unwrap_err().contains("leads out"), "{path}");
            assert!(!volumes_folder(template.folder()).join("config").exists());
            assert!(!folder.path().join("x").exists());
        }
    }

    #[test]
    fn a_sub_path_is_made_and_follows_no_link_that_a_container_left() {
        let folder = tempfile::tempdir().unwrap();
        let template = template(folder.path(), vec![file("a/b", 0o644)]);
        make(&template).unwrap();
        make_given(&template, None).unwrap();
        let mount = |name: &str, sub_path: &str, sub_path_expr: &str| {
            let mount = VolumeMount {
                name: name.to_owned(),
                mount_path: "/seen".to_owned(),
                sub_path: sub_path.to_owned(),
                sub_path_expr: sub_path_expr.to_owned(),
                ..VolumeMount::default()
            };
            let container = Container { volume_mounts: vec![mount], ..Container::default() };
            let env = [("A", "x"), ("B", "$(A)y")].map(|(name, value)| (name.to_owned(), value.to_owned()));
            mounts(&template, &container, &env, &rules("")).map(|mounts| mounts[0].clone())
        };
        let scratch = volumes_folder(template.folder()).join("scratch");
        assert_eq!(mount("scratch", "one/two", "").unwrap().source, scratch.join("one/two"));
        assert_eq!(mode_of(&scratch.join("one/two")), 0o777);
        assert_eq!(mount("scratch", "", "$(B)/z").unwrap().source, scratch.join("xy/z"));
        std::fs::write(scratch.join("file"), "").unwrap();
        assert_eq!(mount("scratch", "file", "").unwrap().source, scratch.join("file"));
        for (name, target) in [("out", "/"), ("file-out", "/etc/passwd"), ("dangling", "/nowhere")] {
            std::os::unix::fs::symlink(target, scratch.join(name)).unwrap();
        }
        for sub_path in ["out", "out/made", "one/../../x", "/etc", "file-out", "dangling", "file/below"] {
            assert!(mount("scratch", sub_path, "").is_err(), "{sub_path}");
        }
        assert!(!Path::new("/made").exists());
        let given = mount("config", "a/b", "").unwrap();
        assert!(given.read_only && given.source.ends_with("volumes/config/a/b"));
        assert!(mount("other", "", "").unwrap_err().contains("no such volume"));
    }

    #[test]
    fn a_path_of_the_host_is_what_it_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let rules = rules(&format!("host-path={}:rw", folder.path().display()));
        let shown = |name: &str, path_type: HostPathType| {
            let volume = HostPathVolume { path: at(name), path_type: Some(path_type) };
            host_path(&volume, false, &rules)
        };
        std::fs::write(at("file"), "").unwrap();
        let real = folder.path().canonicalize().unwrap();
        assert_eq!(shown("file", HostPathType::File), Ok(real.join("file")));
        assert!(shown("file", HostPathType::Directory).unwrap_err().contains("is no Directory"));
        assert!(shown("missing", HostPathType::Unset).is_err());
        assert_eq!(shown("a/b", HostPathType::DirectoryOrCreate), Ok(real.join("a/b")));
        assert_eq!(shown("new", HostPathType::FileOrCreate), Ok(real.join("new")));
        std::os::unix::fs::symlink("/etc", at("out")).unwrap();
        assert!(shown("out", HostPathType::Directory).unwrap_err().contains("not allowed"));
        assert!(
            shown("out/made", HostPathType::DirectoryOrCreate).is_err() && !Path::new("/etc/made").exists()
        );
    }

    #[test]
    fn memory_is_no_larger_than_the_least_of_its_limits() {
        let volume = |limit: Option<&str>| EmptyDirVolume {
            medium: "Memory".to_owned(),
            size_limit: limit.map(|text| stint_api::Quantity::parse(text).unwrap()),
        };
        assert_eq!(memory_size(&volume(Some("1Ki")), Some(2048)), Some(1024));
        assert_eq!(memory_size(&volume(Some("4Ki")), Some(2048)), Some(2048));
        assert_eq!(memory_size(&volume(None), Some(2048)), Some(2048));
        assert_eq!(memory_size(&volume(None), None), None);
    }

    #[test]
    fn memory_is_mounted_where_that_is_allowed_and_goes_with_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b");
        let memory = EmptyDirVolume { medium: "Memory".to_owned(), ..EmptyDirVolume::default() };
        make_empty(&path, &memory, None, Some(1 << 20)).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
        let mounts_below = |path: &Path| -> Vec<PathBuf> {
            mount_points().into_iter().filter(|point| point.starts_with(path)).collect()
        };
        if mounts_below(folder.path()).is_empty() {
            println!("not shown: this user may not mount");
        } else {
            // No larger than what the Pod may use.
            assert!(std::fs::write(path.join("file"), vec![1; 2 << 20]).is_err());
            assert_eq!(mounts_below(folder.path()), [path.canonicalize().unwrap()]);
        }
        remove_tree(&path).unwrap();
        assert!(!path.exists() && mounts_below(folder.path()).is_empty());
    }
}
