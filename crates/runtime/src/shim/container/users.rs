//! Who a container's processes are: names are the image's.

use crate::limits;
use crate::oci::launch::LaunchUser;
use pathrs::Root;
use pathrs::flags::OpenFlags;
use std::collections::BTreeSet;
use std::io::Read;

/// Numbers, and where it is at home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Finds the user that the Pod or the image asks for.
pub(super) fn find(root: &Root, wanted: &LaunchUser) -> Result<User, String> {
    resolve(&read(root, "/etc/passwd"), &read(root, "/etc/group"), wanted)
}

fn resolve(passwd: &str, group: &str, wanted: &LaunchUser) -> Result<User, String> {
    let (image_user, image_group) = wanted.image.split_once(':').unwrap_or((&wanted.image, ""));
    // A user that the Pod names makes the image's user and group meaningless.
    let (user_text, group_text) = match wanted.uid {
        Some(uid) => (uid.to_string(), ""),
        None if image_user.is_empty() => ("0".to_owned(), image_group),
        None => (image_user.to_owned(), image_group),
    };
    let number = user_text.parse::<u32>().ok();
    // uid and name may be mixed up in the file: names come first, as engines have it.
    let entry = entries(passwd).find(|fields| {
        fields.len() >= 6
            && (fields[0] == user_text || number.is_some_and(|uid| fields[2].parse() == Ok(uid)))
    });
    let uid = match (&entry, number) {
        (_, Some(uid)) => uid,
        (Some(fields), None) => parse(fields[2], "user", &user_text)?,
        (None, None) => return Err(format!("the image has no user {user_text:?}")),
    };
    if wanted.is_root_refused && uid == 0 {
        return Err("the container would run as user 0, and runAsNonRoot is set".to_owned());
    }
    let gid = match (wanted.gid, group_text) {
        (Some(gid), _) => gid,
        (None, "") => match &entry {
            Some(fields) => parse(fields[3], "group", fields[3])?,
            None => 0,
        },
        (None, text) => match text.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let found = entries(group).find(|fields| fields.len() >= 3 && fields[0] == text);
                let fields = found.ok_or_else(|| format!("the image has no group {text:?}"))?;
                parse(fields[2], "group", text)?
            }
        },
    };
    let mut groups: BTreeSet<u32> = wanted.groups.iter().copied().collect();
    if let Some(name) = entry.as_ref().map(|fields| fields[0]) {
        let of_image = entries(group)
            .filter(|fields| fields.len() >= 4 && fields[3].split(',').any(|member| member == name));
        groups.extend(
            of_image.filter_map(|fields| fields[2].parse::<u32>().ok()).take(limits::IMAGE_GROUPS_MAX),
        );
    }
    let home = entry.map(|fields| fields[5]).filter(|home| home.starts_with('/')).unwrap_or("/");
    Ok(User { uid, gid, groups: groups.into_iter().collect(), home: home.to_owned() })
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn parse(text: &str, what: &str, name: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{what} {name:?} of the image has no number"))
}

/// Empty if there is none, or if it is nothing that can be read at once.
fn read(root: &Root, path: &str) -> String {
    let mut bytes = Vec::new();
    // An image may have a pipe there, on which nobody writes.
    if let Ok(file) =
        root.open_subpath(path, OpenFlags::O_RDONLY | OpenFlags::O_NONBLOCK | OpenFlags::O_NOCTTY)
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        let _ = file.take(limits::IMAGE_ACCOUNTS_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:50:app:/srv/app:/bin/sh\nbad:x:y:z::/:\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:\nextra:x:60:app,other\nmore:x:70:other\n";

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> User {
        User { uid, gid, groups: groups.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn the_image_names_a_user_and_the_pod_may_name_another() {
        for (image, uid, gid, groups, found) in [
            ("", None, None, vec![], user(0, 0, &[], "/root")),
            ("app", None, None, vec![], user(1000, 50, &[60], "/srv/app")),
            ("1000", None, None, vec![], user(1000, 50, &[60], "/srv/app")),
            ("app:root", None, None, vec![], user(1000, 0, &[60], "/srv/app")),
            ("app:77", None, None, vec![], user(1000, 77, &[60], "/srv/app")),
            ("5", None, None, vec![], user(5, 0, &[], "/")),
            ("app", Some(0), None, vec![9], user(0, 0, &[9], "/root")),
            ("app:staff", Some(7), Some(8), vec![8, 9], user(7, 8, &[8, 9], "/")),
            ("app", None, Some(8), vec![60], user(1000, 8, &[60], "/srv/app")),
        ] {
            let wanted = LaunchUser { uid, gid, groups, image: image.to_owned(), is_root_refused: false };
            assert_eq!(resolve(PASSWD, GROUP, &wanted), Ok(found), "{wanted:?}");
        }
    }

    #[test]
    fn names_that_the_image_lacks_and_an_unwanted_root_are_refused() {
        for (image, is_root_refused, word) in [
            ("nobody", false, "no user"),
            ("app:nobody", false, "no group"),
            ("bad", false, "no number"),
            ("", true, "runAsNonRoot"),
            ("root", true, "runAsNonRoot"),
        ] {
            let wanted = LaunchUser { image: image.to_owned(), is_root_refused, ..Default::default() };
            let problem = resolve(PASSWD, GROUP, &wanted).unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
    }
}
