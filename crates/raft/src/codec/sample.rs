//! Random values of everything that is encoded, for tests: the macros of module `convert` make them for each struct and enum,
//! so that no field is left out.
//!
//! Owns: the source of randomness and the samples of scalars and of what the macros do not cover.

use crate::types::{EntryPayload, LogEntry, LogPayload, MemberInfo, Membership, StoredMembership, log_id};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use stint_api::{
    ClusterId, CompletionIndex, ConfigMapUid, Incarnation, JobUid, MemberId, NodeName, NodeUid, PodUid,
    Quantity, Revision, Timestamp,
};
use stint_core::{Command, ContainerRunState, LogTailKey, PodReportKind, Row, RowKey};

/// A source of random numbers: equal seeds give equal samples.
pub(crate) struct Sampler(u64);

impl Sampler {
    pub(crate) fn new(seed: u64) -> Sampler {
        Sampler(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// A random value; small and large ones alike.
pub(crate) trait Sample: Sized {
    fn sample(sampler: &mut Sampler) -> Self;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Sample for $number {
            fn sample(sampler: &mut Sampler) -> Self {
                match sampler.below(4) {
                    0 => 0,
                    1 => <$number>::MAX,
                    2 => <$number>::MIN,
                    _ => sampler.next() as $number,
                }
            }
        }
    )*};
}
numbers!(u8, u32, u64, i32, i64);

macro_rules! newtypes {
    ($($name:ident),*) => {$(
        impl Sample for $name {
            fn sample(sampler: &mut Sampler) -> Self {
                $name(Sample::sample(sampler))
            }
        }
    )*};
}
newtypes!(Revision, Incarnation, MemberId, CompletionIndex, Timestamp);

macro_rules! uids {
    ($($name:ident),*) => {$(
        impl Sample for $name {
            fn sample(sampler: &mut Sampler) -> Self {
                $name(u128::from(sampler.next()) << 64 | u128::from(sampler.next()))
            }
        }
    )*};
}
uids!(JobUid, PodUid, NodeUid, ClusterId, ConfigMapUid);

impl Sample for bool {
    fn sample(sampler: &mut Sampler) -> Self {
        sampler.below(2) == 0
    }
}

impl Sample for String {
    /// Short, of few characters, so that texts are prefixes of each other; with a zero and with some of several bytes.
    fn sample(sampler: &mut Sampler) -> Self {
        const CHARACTERS: [char; 7] = ['a', 'b', '\0', '\u{1}', '\u{ff}', 'ü', '𝄞'];
        (0..sampler.below(5)).map(|_| CHARACTERS[sampler.below(CHARACTERS.len())]).collect()
    }
}

impl Sample for NodeName {
    fn sample(sampler: &mut Sampler) -> Self {
        NodeName::new(&String::sample(sampler))
    }
}

impl Sample for Quantity {
    fn sample(sampler: &mut Sampler) -> Self {
        let suffix = ["", "m", "Gi", "e3"][sampler.below(4)];
        Quantity::parse(&format!("{}{suffix}", sampler.below(1_000_000))).expect("a number with a suffix")
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(sampler: &mut Sampler) -> Self {
        bool::sample(sampler).then(|| T::sample(sampler))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(sampler: &mut Sampler) -> Self {
        (0..sampler.below(4)).map(|_| T::sample(sampler)).collect()
    }
}

impl<T: Sample> Sample for BTreeMap<String, T> {
    fn sample(sampler: &mut Sampler) -> Self {
        (0..sampler.below(4)).map(|_| (String::sample(sampler), T::sample(sampler))).collect()
    }
}

impl<T: Sample> Sample for std::sync::Arc<T> {
    fn sample(sampler: &mut Sampler) -> Self {
        std::sync::Arc::new(T::sample(sampler))
    }
}

impl<T: Sample> Sample for Box<T> {
    fn sample(sampler: &mut Sampler) -> Self {
        Box::new(T::sample(sampler))
    }
}

impl Sample for Command {
    fn sample(sampler: &mut Sampler) -> Self {
        match sampler.below(20) {
            0 => Command::CreateJob(Sample::sample(sampler)),
            1 => Command::UpdateJob(Sample::sample(sampler)),
            2 => Command::DeleteJob(Sample::sample(sampler)),
            3 => Command::DeletePod(Sample::sample(sampler)),
            4 => Command::RegisterNode(Sample::sample(sampler)),
            5 => Command::ReportPods(Sample::sample(sampler)),
            6 => Command::ExpireNode(Sample::sample(sampler)),
            7 => {
                Command::CordonNode { node: Sample::sample(sampler), unschedulable: Sample::sample(sampler) }
            }
            8 => Command::DrainNode { node: Sample::sample(sampler) },
            9 => Command::DeleteNode { node: Sample::sample(sampler) },
            10 => Command::Tick,
            11 => Command::Continue,
            12 => Command::ReserveMemberId,
            13 => Command::CreateConfigMap(Sample::sample(sampler)),
            14 => Command::UpdateConfigMap(Sample::sample(sampler)),
            15 => Command::DeleteConfigMap(Sample::sample(sampler)),
            16 => Command::ChangeClusterSettings(Sample::sample(sampler)),
            17 => Command::StoreLogTails(Sample::sample(sampler)),
            18 => Command::ReportNodeConditions(Sample::sample(sampler)),
            _ => Command::SetClusterSettings(Sample::sample(sampler)),
        }
    }
}

impl Sample for PodReportKind {
    fn sample(sampler: &mut Sampler) -> Self {
        match sampler.below(9) {
            0 => PodReportKind::Running {
                run: Sample::sample(sampler),
                started_at: Sample::sample(sampler),
                container_id: Sample::sample(sampler),
                image_id: Sample::sample(sampler),
                pod_addresses: Sample::sample(sampler),
            },
            1 => PodReportKind::ContainerExited {
                run: Sample::sample(sampler),
                termination: Sample::sample(sampler),
            },
            2 => PodReportKind::StartFailed {
                run: Sample::sample(sampler),
                termination: Sample::sample(sampler),
            },
            3 => PodReportKind::NotStarted { run: Sample::sample(sampler) },
            4 => PodReportKind::LeaseExpired {
                run: Sample::sample(sampler),
                termination: Sample::sample(sampler),
            },
            5 => PodReportKind::Waiting {
                run: Sample::sample(sampler),
                reason: Sample::sample(sampler),
                message: Sample::sample(sampler),
            },
            6 => PodReportKind::Readiness {
                run: Sample::sample(sampler),
                started: Sample::sample(sampler),
                ready: Sample::sample(sampler),
            },
            7 => PodReportKind::Notice {
                event_type: Sample::sample(sampler),
                reason: Sample::sample(sampler),
                message: Sample::sample(sampler),
                count: Sample::sample(sampler),
            },
            _ => PodReportKind::PodFailed {
                reason: Sample::sample(sampler),
                message: Sample::sample(sampler),
                ended: (0..sampler.below(3))
                    .map(|_| (Sample::sample(sampler), Sample::sample(sampler)))
                    .collect(),
            },
        }
    }
}

impl Sample for ContainerRunState {
    fn sample(sampler: &mut Sampler) -> Self {
        match sampler.below(4) {
            0 => ContainerRunState::Blocked,
            1 => ContainerRunState::Waiting {
                reason: Sample::sample(sampler),
                message: Sample::sample(sampler),
            },
            2 => ContainerRunState::Running {
                since: Sample::sample(sampler),
                started_at: Sample::sample(sampler),
                started: Sample::sample(sampler),
                ready: Sample::sample(sampler),
            },
            _ => ContainerRunState::Ended,
        }
    }
}

impl Sample for Row {
    fn sample(sampler: &mut Sampler) -> Self {
        match sampler.below(12) {
            0 => Row::Meta(Sample::sample(sampler)),
            1 => Row::Node(Sample::sample(sampler)),
            2 => Row::Job(Sample::sample(sampler)),
            3 => Row::Template(Sample::sample(sampler)),
            4 => Row::JobName(Sample::sample(sampler)),
            5 => Row::Pod(Sample::sample(sampler)),
            6 => Row::PodName(Sample::sample(sampler)),
            7 => Row::Event(Sample::sample(sampler)),
            8 => Row::ConfigMap(Sample::sample(sampler)),
            9 => Row::LogTail(Sample::sample(sampler)),
            10 => Row::History(Sample::sample(sampler)),
            _ => Row::Tombstone(Sample::sample(sampler)),
        }
    }
}

impl Sample for LogTailKey {
    fn sample(sampler: &mut Sampler) -> Self {
        LogTailKey {
            pod: Sample::sample(sampler),
            container: Sample::sample(sampler),
            restart_count: Sample::sample(sampler),
        }
    }
}

impl Sample for RowKey {
    fn sample(sampler: &mut Sampler) -> Self {
        match sampler.below(12) {
            0 => RowKey::Meta,
            1 => RowKey::Node(Sample::sample(sampler)),
            2 => RowKey::Job(Sample::sample(sampler)),
            3 => RowKey::Template(Sample::sample(sampler)),
            4 => RowKey::JobName { namespace: Sample::sample(sampler), name: Sample::sample(sampler) },
            5 => RowKey::Pod(Sample::sample(sampler)),
            6 => RowKey::PodName { namespace: Sample::sample(sampler), name: Sample::sample(sampler) },
            8 => RowKey::ConfigMap { namespace: Sample::sample(sampler), name: Sample::sample(sampler) },
            9 => RowKey::LogTail(Sample::sample(sampler)),
            10 => RowKey::History(Sample::sample(sampler)),
            7 => RowKey::Event {
                kind: Sample::sample(sampler),
                object: Sample::sample(sampler),
                reason: Sample::sample(sampler),
            },
            _ => RowKey::Tombstone {
                namespace: Sample::sample(sampler),
                name: Sample::sample(sampler),
                request_id: Sample::sample(sampler),
            },
        }
    }
}

impl Sample for MemberInfo {
    fn sample(sampler: &mut Sampler) -> Self {
        MemberInfo {
            name: Sample::sample(sampler),
            peer_address: Sample::sample(sampler),
            client_address: Sample::sample(sampler),
        }
    }
}

impl Sample for Membership {
    fn sample(sampler: &mut Sampler) -> Self {
        let members: BTreeMap<u64, MemberInfo> =
            (0..1 + sampler.below(6)).map(|_| (sampler.next(), MemberInfo::sample(sampler))).collect();
        let ids: Vec<u64> = members.keys().copied().collect();
        let voter_sets = (0..sampler.below(3))
            .map(|_| (0..3).map(|_| ids[sampler.below(ids.len())]).collect::<BTreeSet<u64>>())
            .collect();
        Membership::new(voter_sets, members).expect("each voter is a member")
    }
}

impl Sample for StoredMembership {
    fn sample(sampler: &mut Sampler) -> Self {
        let position = bool::sample(sampler).then(|| log_id(sampler.next(), sampler.next()));
        StoredMembership::new(position, Membership::sample(sampler))
    }
}

impl Sample for LogEntry {
    fn sample(sampler: &mut Sampler) -> Self {
        let payload = match sampler.below(3) {
            0 => EntryPayload::Blank,
            1 => {
                let bytes: Vec<u8> = (0..sampler.below(40)).map(|_| sampler.next() as u8).collect();
                EntryPayload::Normal(LogPayload(Bytes::from(bytes)))
            }
            _ => EntryPayload::Membership(Membership::sample(sampler)),
        };
        LogEntry { log_id: log_id(sampler.next(), sampler.next()), payload }
    }
}
