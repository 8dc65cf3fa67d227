//! Users of Pods.
//!
//! Owns: which user of a range belongs to which Pod. Does not own: becoming it.
//!
//! Owner and group of a Pod's working folder are the record: it survives the agent.

use crate::{Error, limits};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Numbers of users and groups that nothing else on the host uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodUids {
    first: u32,
    count: u32,
}

impl Default for PodUids {
    fn default() -> PodUids {
        PodUids { first: limits::POD_UIDS_FIRST, count: limits::POD_UIDS_COUNT }
    }
}

/// As [`PodUids::parse`] takes it.
impl fmt::Display for PodUids {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.first, self.count)
    }
}

impl PodUids {
    /// Parses `FIRST:COUNT`.
    ///
    /// # Errors
    /// A text for people, if it is not a range of numbers between 1 and 4294967294.
    pub fn parse(text: &str) -> Result<PodUids, String> {
        let parts =
            text.split_once(':').and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
        let (first, count): (u32, u32) = parts.ok_or("write FIRST:COUNT, such as 2000000000:65536")?;
        // The highest number means "leave it".
        if first == 0 || count == 0 || first.checked_add(count).is_none_or(|end| end == u32::MAX) {
            return Err(
                "user 0 and 4294967295 can't be among them, and there must be at least one".to_owned()
            );
        }
        Ok(PodUids { first, count })
    }

    /// The ranges that agents take which are given none, best first: the default one, and those that follow it.
    pub fn usual() -> impl Iterator<Item = PodUids> {
        let count = limits::POD_UIDS_COUNT;
        (0..limits::POD_UIDS_RANGES_MAX)
            .map(move |number| PodUids { first: limits::POD_UIDS_FIRST + number * count, count })
    }

    /// Whether a user is one of them.
    pub fn contains(self, uid: u32) -> bool {
        uid >= self.first && uid - self.first < self.count
    }

    /// Whether some user is in both.
    pub fn overlaps(self, other: PodUids) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }
}

/// Gives users to Pods.
#[derive(Debug)]
pub(super) struct UidPool {
    range: PodUids,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// How many hold it: a Pod may be opened more than once.
    by_uid: BTreeMap<u32, (String, usize)>,
    /// Where to look next, so that a user that was just given back is not the next one given out. It begins anywhere: agents
    /// of one host, and the next agent of the same folder, give their first Pods users that others have not just had. What a
    /// Pod left in a folder of the host would be its successor's otherwise, and what the kernel counts by users would be shared.
    next: u32,
}

/// A user that belongs to a Pod for as long as this exists.
#[derive(Debug)]
pub(super) struct UidLease {
    pool: Arc<UidPool>,
    uid: u32,
}

impl UidPool {
    pub fn new(range: PodUids) -> UidPool {
        // Different in every process.
        UidPool::starting_at(range, RandomState::new().hash_one(range.first) as u32)
    }

    fn starting_at(range: PodUids, step: u32) -> UidPool {
        let taken = Taken { next: step % range.count, ..Taken::default() };
        UidPool { range, taken: Mutex::new(taken) }
    }

    /// The user of a Pod: the one that it has already, or the owner or group of its working folder, or a new one.
    pub fn lease(self: &Arc<UidPool>, pod_uid: &str, work: &Path) -> Result<UidLease, Error> {
        let owners = std::fs::symlink_metadata(work).ok().map(|facts| [facts.uid(), facts.gid()]);
        let mut taken = self.lock();
        let own = taken.by_uid.iter().find(|(_, (pod, _))| pod == pod_uid).map(|(uid, _)| *uid);
        let is_free = |uid: &u32| self.range.contains(*uid) && !taken.by_uid.contains_key(uid);
        let left = owners.into_iter().flatten().find(is_free);
        let uid = match own.or(left) {
            Some(uid) => uid,
            None => {
                let all = (0..self.range.count).map(|step| {
                    self.range.first
                        + ((u64::from(taken.next) + u64::from(step)) % u64::from(self.range.count)) as u32
                });
                let free =
                    all.into_iter().find(|uid| !taken.by_uid.contains_key(uid)).ok_or(Error::NoPodUid)?;
                taken.next = (free - self.range.first + 1) % self.range.count;
                free
            }
        };
        taken.by_uid.entry(uid).or_insert_with(|| (pod_uid.to_owned(), 0)).1 += 1;
        Ok(UidLease { pool: self.clone(), uid })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Whole after any panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UidLease {
    pub fn uid(&self) -> u32 {
        self.uid
    }
}

impl Drop for UidLease {
    fn drop(&mut self) {
        let mut taken = self.pool.lock();
        if let Some((_, holders)) = taken.by_uid.get_mut(&self.uid) {
            *holders -= 1;
            if *holders == 0 {
                taken.by_uid.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_are_understood() {
        assert_eq!(PodUids::parse("5:3"), Ok(PodUids { first: 5, count: 3 }));
        for wrong in ["", "5", "5:", "0:9", "5:0", "4294967294:1", "4294967295:1", "x:1", "-1:5"] {
            assert!(PodUids::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn usual_ranges_are_apart() {
        let usual: Vec<PodUids> = PodUids::usual().collect();
        assert_eq!(usual.first(), Some(&PodUids::default()));
        for (number, range) in usual.iter().enumerate() {
            assert_eq!(PodUids::parse(&range.to_string()), Ok(*range));
            assert!(i32::try_from(range.first + range.count).is_ok(), "{range}");
            assert!(usual[number + 1..].iter().all(|other| !range.overlaps(*other)), "{range}");
        }
        let range = |first, count| PodUids { first, count };
        assert!(range(5, 3).overlaps(range(7, 1)) && range(7, 1).overlaps(range(5, 3)));
        assert!(!range(5, 3).overlaps(range(8, 9)) && !range(8, 9).overlaps(range(5, 3)));
    }

    #[test]
    fn every_pod_has_a_user_of_its_own_until_it_is_gone() {
        let pool = Arc::new(UidPool::starting_at(PodUids { first: 100, count: 2 }, 0));
        let nowhere = Path::new("/nonexistent");
        let first = pool.lease("a", nowhere).unwrap();
        let again = pool.lease("a", nowhere).unwrap();
        let second = pool.lease("b", nowhere).unwrap();
        assert_eq!((first.uid(), again.uid(), second.uid()), (100, 100, 101));
        assert!(matches!(pool.lease("c", nowhere), Err(Error::NoPodUid)));
        drop(first);
        assert!(pool.lease("c", nowhere).is_err());
        drop(again);
        assert_eq!(pool.lease("c", nowhere).unwrap().uid(), 100);
    }

    #[test]
    fn two_agents_do_not_begin_with_the_same_user() {
        let range = PodUids::default();
        let first = |pool: UidPool| Arc::new(pool).lease("a", Path::new("/nonexistent")).unwrap().uid();
        let users: BTreeSet<u32> = (0..8).map(|_| first(UidPool::new(range))).collect();
        // That all are the same happens once in 2^112 runs.
        assert!(users.len() > 1 && users.iter().all(|uid| range.contains(*uid)), "{users:?}");
        assert_eq!(first(UidPool::starting_at(range, u32::MAX)), range.first + u32::MAX % range.count);
    }

    #[test]
    fn the_owner_of_the_folder_is_the_record() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::fs::metadata(folder.path()).unwrap().uid().max(1);
        let pool = Arc::new(UidPool::starting_at(PodUids { first: own, count: 10 }, 0));
        let elsewhere = pool.lease("a", Path::new("/nonexistent")).unwrap();
        assert_eq!(elsewhere.uid(), own);
        // Likewise its group, where its user is one that the Pod names.
        let group = std::fs::metadata(folder.path()).unwrap().gid();
        if group > 1 {
            let pool = Arc::new(UidPool::starting_at(PodUids { first: group, count: 1 }, 0));
            assert_eq!(pool.lease("a", folder.path()).unwrap().uid(), group);
        }
        // Taken by another already.
        assert_eq!(pool.lease("b", folder.path()).unwrap().uid(), own + 1);
    }
}
