//! A [`Confinement`] as bytes, on its way to the shim.
//!
//! Owns: the order of its fields. Does not own: how texts are written (`wire`).

use super::{Confinement, ControlGroup, Folder, Identity, Place, Profile, Propagation, User, View};
use crate::shim::wire::{push_number, push_text, take_number, take_text};

impl Confinement {
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        push_list(bytes, &self.control_groups, |bytes, group| {
            push_text(bytes, &group.folder);
            push_list(bytes, &group.settings, |bytes, (file, value)| {
                push_text(bytes, file);
                push_text(bytes, value);
            });
        });
        push_list(bytes, &self.folders, |bytes, folder| {
            push_text(bytes, &folder.path);
            push_number(bytes, folder.mode);
            push_option(bytes, folder.owner.as_ref(), |bytes, (user, group)| {
                push_number(bytes, *user);
                push_number(bytes, *group);
            });
        });
        push_option(bytes, self.view.as_ref(), push_view);
        push_option(bytes, self.identity.as_ref(), push_identity);
        push_option(bytes, self.profile.as_ref(), |bytes, profile| {
            push_flag(bytes, *profile == Profile::NoTracing);
        });
    }

    /// `None` if it is not one.
    pub(crate) fn decode(rest: &mut &[u8]) -> Option<Confinement> {
        Some(Confinement {
            control_groups: take_list(rest, |rest| {
                let folder = take_text(rest)?;
                let settings = take_list(rest, |rest| Some((take_text(rest)?, take_text(rest)?)))?;
                Some(ControlGroup { folder, settings })
            })?,
            folders: take_list(rest, |rest| {
                let (path, mode) = (take_text(rest)?, take_number(rest)?);
                let owner = take_option(rest, |rest| Some((take_number(rest)?, take_number(rest)?)))?;
                Some(Folder { path, mode, owner })
            })?,
            view: take_option(rest, take_view)?,
            identity: take_option(rest, take_identity)?,
            profile: take_option(rest, |rest| {
                Some(if take_flag(rest)? { Profile::NoTracing } else { Profile::Usual })
            })?,
        })
    }
}

fn push_view(bytes: &mut Vec<u8>, view: &View) {
    for text in [&view.hidden, &view.hostname, &view.ipc_namespace, &view.shared_memory] {
        push_text(bytes, text);
    }
    for flag in [view.read_only_temporary, view.privileged, view.host_devices, view.root, view.host_ipc] {
        push_flag(bytes, flag);
    }
    push_list(bytes, &view.temporary, |bytes, path| push_text(bytes, path));
    push_list(bytes, &view.places, |bytes, place| {
        push_text(bytes, &place.source);
        push_text(bytes, &place.target);
        push_flag(bytes, place.read_only);
        push_flag(bytes, place.propagation == Propagation::HostToContainer);
    });
}

fn take_view(rest: &mut &[u8]) -> Option<View> {
    Some(View {
        hidden: take_text(rest)?,
        hostname: take_text(rest)?,
        ipc_namespace: take_text(rest)?,
        shared_memory: take_text(rest)?,
        read_only_temporary: take_flag(rest)?,
        privileged: take_flag(rest)?,
        host_devices: take_flag(rest)?,
        root: take_flag(rest)?,
        host_ipc: take_flag(rest)?,
        temporary: take_list(rest, take_text)?,
        places: take_list(rest, |rest| {
            Some(Place {
                source: take_text(rest)?,
                target: take_text(rest)?,
                read_only: take_flag(rest)?,
                propagation: if take_flag(rest)? {
                    Propagation::HostToContainer
                } else {
                    Propagation::Private
                },
            })
        })?,
    })
}

fn push_identity(bytes: &mut Vec<u8>, identity: &Identity) {
    push_option(bytes, identity.user.as_ref(), |bytes, user| {
        push_number(bytes, user.uid);
        push_number(bytes, user.gid);
        push_list(bytes, &user.groups, |bytes, group| push_number(bytes, *group));
    });
    push_option(bytes, identity.capabilities.as_ref(), |bytes, names| {
        push_list(bytes, names, |bytes, name| push_text(bytes, name.as_bytes()));
    });
    push_flag(bytes, identity.no_new_privileges);
}

fn take_identity(rest: &mut &[u8]) -> Option<Identity> {
    Some(Identity {
        user: take_option(rest, |rest| {
            let (uid, gid) = (take_number(rest)?, take_number(rest)?);
            Some(User { uid, gid, groups: take_list(rest, take_number)? })
        })?,
        capabilities: take_option(rest, |rest| {
            take_list(rest, |rest| String::from_utf8(take_text(rest)?).ok())
        })?,
        no_new_privileges: take_flag(rest)?,
    })
}

fn push_flag(bytes: &mut Vec<u8>, flag: bool) {
    bytes.push(u8::from(flag));
}

fn take_flag(rest: &mut &[u8]) -> Option<bool> {
    let (flag, tail) = rest.split_first()?;
    *rest = tail;
    match flag {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn push_option<T>(bytes: &mut Vec<u8>, value: Option<&T>, push: impl FnOnce(&mut Vec<u8>, &T)) {
    push_flag(bytes, value.is_some());
    if let Some(value) = value {
        push(bytes, value);
    }
}

/// `None` if the bytes are wrong; `Some(None)` if there is no value.
#[expect(clippy::option_option, reason = "wrong bytes are not the same as no value")]
fn take_option<T>(rest: &mut &[u8], take: impl FnOnce(&mut &[u8]) -> Option<T>) -> Option<Option<T>> {
    if take_flag(rest)? { take(rest).map(Some) } else { Some(None) }
}

fn push_list<T>(bytes: &mut Vec<u8>, list: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    push_number(bytes, list.len() as u32);
    list.iter().for_each(|item| push(bytes, item));
}

fn take_list<T>(rest: &mut &[u8], take: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let length = take_number(rest)?;
    (0..length).map(|_| take(rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confinements_come_back_and_cut_ones_do_not() {
        let full = Confinement {
            control_groups: vec![ControlGroup {
                folder: b"/sys/fs/cgroup/a".to_vec(),
                settings: vec![(b"pids.max".to_vec(), b"7".to_vec())],
            }],
            folders: vec![
                Folder { path: b"/data/pods/x".to_vec(), mode: 0o711, owner: None },
                Folder { path: vec![0xff], mode: 0o1777, owner: Some((2_000_000_000, 7)) },
            ],
            view: Some(View {
                hidden: b"/data".to_vec(),
                temporary: vec![b"/data/pods/x/tmp.main.0".to_vec(), b"/data/pods/x/var-tmp.main.0".to_vec()],
                read_only_temporary: true,
                places: vec![Place {
                    source: b"/a".to_vec(),
                    target: b"/b".to_vec(),
                    read_only: true,
                    propagation: Propagation::HostToContainer,
                }],
                hostname: b"pod".to_vec(),
                privileged: false,
                host_devices: true,
                root: false,
                host_ipc: true,
                ipc_namespace: b"/data/pods/x/ipc".to_vec(),
                shared_memory: b"/data/pods/x/shm".to_vec(),
            }),
            identity: Some(Identity {
                user: Some(User { uid: 1, gid: 2, groups: vec![3, 4] }),
                capabilities: Some(vec!["CAP_NET_ADMIN".to_owned()]),
                no_new_privileges: true,
            }),
            profile: Some(Profile::NoTracing),
        };
        for confinement in [Confinement::default(), full] {
            let mut bytes = Vec::new();
            confinement.encode(&mut bytes);
            let mut rest = bytes.as_slice();
            assert_eq!(Confinement::decode(&mut rest), Some(confinement));
            assert!(rest.is_empty());
            for cut in 0..bytes.len() {
                assert_eq!(Confinement::decode(&mut &bytes[..cut]), None, "cut at {cut}");
            }
        }
        assert_eq!(Confinement::decode(&mut [0xff; 64].as_slice()), None);
    }
}
