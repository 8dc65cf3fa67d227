//! `/etc/hosts` of a Pod.
//!
//! Owns: what it says, its file in the Pod's folder. Does not own: showing it, which any runtime with mounts does.
//!
//! As a kubelet writes it, so that a program that looks up its own host's name finds it: what the host says, for a Pod on the
//! host's network, or else the few names that every host has; then the Pod's own name and its `hostAliases`. All containers of a Pod have the one
//! file, and keep what one of them writes to it. The host's file stays as it is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use stint_api::HostAlias;
use stint_runtime::{Mount, MountPropagation};

use super::specs::Addresses;
use super::template::PodTemplate;
use crate::limits;

/// The host's, and where containers see their Pod's.
const PATH: &str = "/etc/hosts";

/// What a host without a file of its own would say, and a Pod with a network of its own says.
const LOOPBACK: &str = "127.0.0.1\tlocalhost\n\
                        ::1\tlocalhost ip6-localhost ip6-loopback\n\
                        fe00::0\tip6-localnet\n\
                        fe00::0\tip6-mcastprefix\n\
                        fe00::1\tip6-allnodes\n\
                        fe00::2\tip6-allrouters\n";

/// Where a container sees it, unless it has something else there.
pub fn mount(template: &PodTemplate, others: &[Mount]) -> Option<Mount> {
    let is_taken = others.iter().any(|mount| mount.target == Path::new(PATH));
    (!is_taken).then(|| Mount {
        source: file(template.folder()),
        target: PathBuf::from(PATH),
        read_only: false,
        propagation: MountPropagation::Private,
    })
}

/// Makes the file in the Pod's folder, which exists, if it is not there. Blocks.
///
/// # Errors
/// What can't be, for people.
pub fn make_file(template: &PodTemplate, addresses: &Addresses) -> Result<(), String> {
    let path = file(template.folder());
    if path.exists() {
        return Ok(());
    }
    // A Pod without a network of its own has the host's addresses.
    let of_host = (addresses.pod == addresses.host).then(|| read(Path::new(PATH)));
    let aliases = &template.spec().host_aliases;
    let text = text(template.hostname(), aliases, addresses, of_host.and_then(Result::ok).as_deref());
    let written = write(&path, text.as_bytes());
    written.map_err(|error| format!("the pod's {PATH} can't be made: {error}"))
}

fn file(folder: &Path) -> PathBuf {
    folder.join("etc-hosts")
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limits::HOSTS_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whole or not at all: a Pod that is started twice finds it as it was.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    file.write_all(text)?;
    // Whatever umask says: everybody reads it.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    std::fs::rename(&new, path)
}

fn text(hostname: &str, aliases: &[HostAlias], addresses: &Addresses, of_host: Option<&str>) -> String {
    let mut text = of_host.filter(|text| !text.trim().is_empty()).unwrap_or(LOOPBACK).to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str("# Of this Pod.\n");
    // Where no address is known, its own loopback, as distributions do it for hosts.
    let unknown = [IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1))];
    let own = if addresses.pod.is_empty() { &unknown[..] } else { &addresses.pod };
    let own = own.iter().filter(|_| !hostname.is_empty()).map(|address| format!("{address}\t{hostname}\n"));
    let others = aliases.iter().filter(|alias| !alias.hostnames.is_empty());
    text.extend(own.chain(others.map(|alias| format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_proto::v1;

    fn addresses(pod: &[&str], host: &[&str]) -> Addresses {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Addresses { pod: all(pod), host: all(host) }
    }

    fn alias(names: &[&str]) -> HostAlias {
        HostAlias {
            ip: "192.0.2.2".to_owned(),
            hostnames: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_pods_own_name_is_there_beside_what_the_host_knows() {
        let on_host = addresses(&["10.0.0.7"], &["10.0.0.7"]);
        let said = text("pi-0", &[], &on_host, Some("127.0.0.1 localhost\n10.0.0.9 database"));
        assert_eq!(said, "127.0.0.1 localhost\n10.0.0.9 database\n# Of this Pod.\n10.0.0.7\tpi-0\n");
        let own = addresses(&["10.1.0.3", "fd00::3"], &["10.0.0.7"]);
        let said = text("pi-0", &[alias(&["other", "b.example"]), alias(&[])], &own, None);
        assert!(said.starts_with("127.0.0.1\tlocalhost\n"), "{said}");
        assert!(said.ends_with("\n10.1.0.3\tpi-0\nfd00::3\tpi-0\n192.0.2.2\tother\tb.example\n"), "{said}");
        let unknown = text("pi-0", &[], &Addresses::default(), Some(""));
        assert!(unknown.starts_with(LOOPBACK) && unknown.ends_with("\n127.0.1.1\tpi-0\n"), "{unknown}");
        assert_eq!(text("", &[], &own, Some("x")), "x\n# Of this Pod.\n");
    }

    #[test]
    fn what_a_container_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let to_run = v1::PodToRun { name: "pi-0".to_owned(), ..v1::PodToRun::default() };
        let template = PodTemplate::new(to_run, folder.path().to_owned());
        let own = addresses(&["10.1.0.3"], &["10.0.0.7"]);
        make_file(&template, &own).unwrap();
        let path = folder.path().join("etc-hosts");
        let first = std::fs::read_to_string(&path).unwrap();
        let name = template.hostname();
        assert!(!name.is_empty() && first.contains(&format!("10.1.0.3\t{name}\n")), "{first}");
        std::fs::write(&path, "changed").unwrap();
        make_file(&template, &own).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "changed");
        // Who mounts something there has that.
        let mount = mount(&template, &[]).unwrap();
        assert_eq!((&mount.source, mount.target.as_path()), (&path, Path::new("/etc/hosts")));
        assert_eq!(super::mount(&template, &[mount]), None);
    }
}
