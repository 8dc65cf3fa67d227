//! The agent's memory across restarts (A1): one append-only file of records in checksummed groups.
//!
//! Owns: the file's format, what is replayed from it, its compaction. Does not own: when something is written.
//!
//! A group is what one fsync makes durable, and no group is begun before the one before it is durable. So a crash can tear
//! the last one only, in whatever way the disk wrote its pages; damage with a whole group behind it is damage.
//!
//! Invariants: a record is durable once [`Journal::sync`] has returned; a torn tail (a crash while writing) is cut off
//! and nothing before it is lost; damage anywhere else refuses to open, because forgetting a started Pod could let it
//! run twice.

use prost::Message;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use stint_api::{ClusterId, Incarnation, NodeUid, PodUid};
use stint_proto::v1;

use crate::error::Error;
use crate::limits;

/// First bytes of the file: what it is and which format.
const MAGIC: &[u8; 8] = b"STINTJ\x00\x03";
/// Before each group: its length, the length's checksum, its checksum. The length has one of its own so that a flipped
/// bit in it can't be taken for a torn tail.
const HEADER_BYTES: usize = 12;

/// What the journal remembers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// Drawn once per folder.
    pub node_uid: NodeUid,
    /// Number of the last registration that may have been sent.
    pub registration_number: u64,
    /// Its nonce.
    pub registration_nonce: u64,
    /// The last incarnation that was granted; 0: none.
    pub incarnation: Incarnation,
    /// The cluster that granted it.
    pub cluster_id: Option<ClusterId>,
    /// Id of the host's boot when the last record of a start was written.
    pub boot_id: String,
    /// Pods of which something was started and that are not forgotten, finished ones included.
    pub started: BTreeMap<PodUid, StartedPod>,
    /// Terminal reports that were not acknowledged, by numbers that grow.
    pub unacknowledged: BTreeMap<u64, v1::PodReport>,
    /// Number of the last of them.
    pub last_report: u64,
}

/// What is known of a Pod of which something was started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartedPod {
    /// The last run of each container that was begun.
    pub runs: BTreeMap<String, JournaledRun>,
    /// The servers do not want it any more: only its logs are kept.
    pub is_closed: bool,
}

/// A run that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournaledRun {
    /// Which one.
    pub restart_count: u32,
    /// Nothing of it is left, and what there is to say about that is among the reports.
    pub has_ended: bool,
}

/// One change of [`Memory`].
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    /// What changed.
    #[prost(oneof = "Change", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub change: Option<Change>,
}

/// See [`Record`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Change {
    /// The folder is new: its uid, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    NodeUid(Vec<u8>),
    /// A registration is about to be sent.
    #[prost(message, tag = "2")]
    Registration(Registration),
    /// A registration was granted.
    #[prost(message, tag = "3")]
    Granted(Granted),
    /// A run of a container is about to be started.
    #[prost(message, tag = "4")]
    Started(RunOfContainer),
    /// Nothing of that run is left.
    #[prost(message, tag = "5")]
    Ended(RunOfContainer),
    /// This has to be reported until it was acknowledged.
    #[prost(message, tag = "6")]
    Report(NumberedReport),
    /// The report of this number was acknowledged.
    #[prost(uint64, tag = "7")]
    Acknowledged(u64),
    /// The servers do not want the Pod any more; its uid, 16 bytes.
    #[prost(bytes = "vec", tag = "8")]
    Closed(Vec<u8>),
    /// The Pod is gone with its logs; its uid, 16 bytes.
    #[prost(bytes = "vec", tag = "9")]
    Forgotten(Vec<u8>),
    /// Another cluster: everything but the node's uid is forgotten.
    #[prost(bool, tag = "10")]
    Reset(bool),
}

impl Change {
    /// A run is about to be started.
    pub fn started(pod: PodUid, container: &str, restart_count: u32) -> Change {
        Change::Started(RunOfContainer::new(pod, container, restart_count))
    }

    /// Nothing of a run is left.
    pub fn ended(pod: PodUid, container: &str, restart_count: u32) -> Change {
        Change::Ended(RunOfContainer::new(pod, container, restart_count))
    }
}

/// See [`Change::Started`].
#[derive(Clone, PartialEq, Message)]
pub struct RunOfContainer {
    /// Uid of the Pod, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub pod_uid: Vec<u8>,
    /// Name of the container.
    #[prost(string, tag = "2")]
    pub container: String,
    /// Which run.
    #[prost(uint32, tag = "3")]
    pub restart_count: u32,
}

impl RunOfContainer {
    fn new(pod: PodUid, container: &str, restart_count: u32) -> RunOfContainer {
        RunOfContainer { pod_uid: bytes_of(pod.0), container: container.to_owned(), restart_count }
    }
}

/// See [`Change::Report`].
#[derive(Clone, PartialEq, Message)]
pub struct NumberedReport {
    /// Larger than those before.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// What has to be reported.
    #[prost(message, optional, tag = "2")]
    pub report: Option<v1::PodReport>,
}

/// See [`Change::Registration`].
#[derive(Clone, PartialEq, Message)]
pub struct Registration {
    /// Increasing.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Random.
    #[prost(fixed64, tag = "2")]
    pub nonce: u64,
    /// Id of the host's boot.
    #[prost(string, tag = "3")]
    pub boot_id: String,
}

/// See [`Change::Granted`].
#[derive(Clone, PartialEq, Message)]
pub struct Granted {
    /// The incarnation.
    #[prost(uint64, tag = "1")]
    pub incarnation: u64,
    /// Id of the cluster, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub cluster_id: Vec<u8>,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of the file.
    length: u64,
    /// Bytes of the file when it was written anew last.
    compact_length: u64,
    /// Records appended and not yet written.
    pending: Vec<u8>,
    memory: Memory,
}

impl Journal {
    /// Opens the journal of a data folder, which must be locked by the caller, or makes a new one.
    ///
    /// # Errors
    /// If the file can't be read or written, is not a journal, or is damaged before its tail.
    pub fn open(folder: &Path) -> Result<Journal, Error> {
        let path = folder.join("journal");
        let failed = |source| Error::Journal { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() < MAGIC.len() && MAGIC.starts_with(&bytes) {
            // New, or a crash while it was made: nothing was promised yet.
            let mut node_uid = [0_u8; 16];
            getrandom::fill(&mut node_uid).map_err(|error| failed(std::io::Error::other(error)))?;
            let mut journal = Journal::begin(path, file)?;
            journal.append(Change::NodeUid(node_uid.to_vec()));
            journal.sync()?;
            return Ok(journal);
        }
        if is_older_format(&bytes) {
            return Err(Error::JournalFormat { path, format: bytes[MAGIC.len() - 1] });
        }
        if !bytes.starts_with(MAGIC) {
            return Err(Error::JournalDamaged {
                path,
                offset: 0,
                what: "it does not begin as a journal does".to_owned(),
            });
        }
        let mut memory = Memory::default();
        let mut offset = MAGIC.len();
        while offset < bytes.len() {
            match read_group(&bytes[offset..]) {
                Ok((records, length)) => {
                    records.iter().flat_map(|record| &record.change).for_each(|change| memory.apply(change));
                    offset += length;
                }
                Err(what) if has_group(&bytes[offset + 1..]) => {
                    return Err(Error::JournalDamaged { path, offset: offset as u64, what });
                }
                Err(what) => {
                    let cut_bytes = bytes.len() - offset;
                    tracing::warn!(path = %path.display(), cut_bytes, what, "the journal has a torn end, which is cut off");
                    break;
                }
            }
        }
        file.set_len(offset as u64).map_err(failed)?;
        let length = offset as u64;
        let mut journal = Journal { path, file, length, compact_length: 0, pending: Vec::new(), memory };
        if journal.memory.node_uid == NodeUid::default() {
            // A crash right after the file was made.
            let mut node_uid = [0_u8; 16];
            getrandom::fill(&mut node_uid).map_err(|error| Error::Journal {
                path: journal.path.clone(),
                source: std::io::Error::other(error),
            })?;
            journal.append(Change::NodeUid(node_uid.to_vec()));
            journal.sync()?;
        }
        Ok(journal)
    }

    /// What it remembers, changes not yet durable included.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Adds a change; durable only after [`Journal::sync`].
    pub fn append(&mut self, change: Change) {
        self.memory.apply(&change);
        push_record(&mut self.pending, Some(change));
    }

    /// Makes everything appended durable: one write and one fsync for all of it.
    ///
    /// # Errors
    /// If the file can't be written. The agent must stop then: after a failed fsync nobody knows what is on disk. But
    /// [`Error::JournalFull`] has changed nothing and is worth another try.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let failed = |source| Error::Journal { path: self.path.clone(), source };
        let mut group = Vec::with_capacity(HEADER_BYTES + self.pending.len());
        push_group(&mut group, &self.pending);
        if let Err(source) = self.file.write_all_at(&group, self.length) {
            if !is_full(&source) {
                return Err(failed(source));
            }
            // What was written of it must not stand before the next group.
            self.file.set_len(self.length).map_err(failed)?;
            return Err(Error::JournalFull { path: self.path.clone() });
        }
        self.file.sync_data().map_err(failed)?;
        self.length += group.len() as u64;
        self.pending.clear();
        if self.length > limits::JOURNAL_COMPACT_BYTES.max(4 * self.compact_length) {
            self.compact()?;
        }
        Ok(())
    }

    /// Writes what is remembered into a new file and puts it in the old one's place.
    fn compact(&mut self) -> Result<(), Error> {
        let temporary = self.path.with_extension("new");
        let failed = |source| Error::Journal { path: temporary.clone(), source };
        let mut bytes = MAGIC.to_vec();
        for changes in self.memory.changes().chunks(RECORDS_PER_COMPACT_GROUP) {
            let mut records = Vec::new();
            changes.iter().for_each(|change| push_record(&mut records, Some(change.clone())));
            push_group(&mut bytes, &records);
        }
        // This file is durable before it is used, so nothing of it can be torn: with a group of nothing at its end,
        // damage to what is remembered is not taken for that.
        let mut nothing = Vec::new();
        push_record(&mut nothing, None);
        push_group(&mut bytes, &nothing);
        let write = || {
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            Ok(file)
        };
        let file = match write() {
            Ok(file) => file,
            Err(source) if is_full(&source) => {
                // The old file goes on; tried again once it has grown by a quarter.
                drop(std::fs::remove_file(&temporary));
                self.compact_length = self.length.div_ceil(4) + self.length.div_ceil(16);
                return Ok(());
            }
            Err(source) => return Err(failed(source)),
        };
        std::fs::rename(&temporary, &self.path).map_err(failed)?;
        sync_folder_of(&self.path).map_err(failed)?;
        self.file = file;
        self.length = bytes.len() as u64;
        self.compact_length = self.length;
        Ok(())
    }

    fn begin(path: PathBuf, file: File) -> Result<Journal, Error> {
        let failed = |source| Error::Journal { path: path.clone(), source };
        file.set_len(0).map_err(failed)?;
        file.write_all_at(MAGIC, 0).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        sync_folder_of(&path).map_err(failed)?;
        let length = MAGIC.len() as u64;
        let memory = Memory::default();
        Ok(Journal { path, file, length, compact_length: 0, pending: Vec::new(), memory })
    }
}

fn is_older_format(bytes: &[u8]) -> bool {
    let (name, format) = MAGIC.split_at(MAGIC.len() - 1);
    bytes.strip_prefix(name).and_then(<[u8]>::first).is_some_and(|older| *older > 0 && *older < format[0])
}

/// Records in one group of a file that is written anew.
const RECORDS_PER_COMPACT_GROUP: usize = 1_000;

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl Memory {
    /// Makes one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::NodeUid(uid) => self.node_uid = NodeUid(number_of(uid)),
            Change::Registration(registration) => {
                self.registration_number = registration.number;
                self.registration_nonce = registration.nonce;
                self.boot_id.clone_from(&registration.boot_id);
            }
            Change::Granted(granted) => {
                self.incarnation = Incarnation(granted.incarnation);
                self.cluster_id = Some(ClusterId(number_of(&granted.cluster_id)));
            }
            Change::Started(begun) => {
                let pod = self.started.entry(PodUid(number_of(&begun.pod_uid))).or_default();
                pod.is_closed = false;
                let run = JournaledRun { restart_count: begun.restart_count, has_ended: false };
                pod.runs.insert(begun.container.clone(), run);
            }
            Change::Ended(ended) => {
                if let Some(pod) = self.started.get_mut(&PodUid(number_of(&ended.pod_uid)))
                    && let Some(run) = pod.runs.get_mut(&ended.container)
                    && run.restart_count == ended.restart_count
                {
                    run.has_ended = true;
                }
            }
            Change::Report(NumberedReport { number, report }) => {
                self.last_report = self.last_report.max(*number);
                self.unacknowledged.extend(report.clone().map(|report| (*number, report)));
            }
            Change::Acknowledged(number) => {
                self.unacknowledged.remove(number);
            }
            Change::Closed(uid) => {
                if let Some(pod) = self.started.get_mut(&PodUid(number_of(uid))) {
                    pod.is_closed = true;
                }
            }
            Change::Forgotten(uid) => {
                self.started.remove(&PodUid(number_of(uid)));
            }
            Change::Reset(_) => {
                *self = Memory {
                    node_uid: self.node_uid,
                    registration_number: self.registration_number,
                    last_report: self.last_report,
                    ..Memory::default()
                };
            }
        }
    }

    /// Pods that the servers may think to be running (A2).
    pub fn open_pods(&self) -> impl Iterator<Item = (PodUid, &StartedPod)> {
        self.started.iter().filter(|(_, started)| !started.is_closed).map(|(pod, started)| (*pod, started))
    }

    /// The last run of the container that was begun.
    pub fn run(&self, pod: PodUid, container: &str) -> Option<JournaledRun> {
        self.started.get(&pod)?.runs.get(container).copied()
    }

    /// The fewest changes that make this memory.
    fn changes(&self) -> Vec<Change> {
        let mut changes = vec![
            Change::NodeUid(bytes_of(self.node_uid.0)),
            Change::Registration(Registration {
                number: self.registration_number,
                nonce: self.registration_nonce,
                boot_id: self.boot_id.clone(),
            }),
        ];
        if let Some(cluster_id) = self.cluster_id {
            changes.push(Change::Granted(Granted {
                incarnation: self.incarnation.0,
                cluster_id: bytes_of(cluster_id.0),
            }));
        }
        for (uid, pod) in &self.started {
            for (container, run) in &pod.runs {
                changes.push(Change::started(*uid, container, run.restart_count));
                if run.has_ended {
                    changes.push(Change::ended(*uid, container, run.restart_count));
                }
            }
            if pod.is_closed {
                changes.push(Change::Closed(bytes_of(uid.0)));
            }
        }
        // Numbers go on, also if nothing is left of them.
        changes.push(Change::Report(NumberedReport { number: self.last_report, report: None }));
        for (number, report) in &self.unacknowledged {
            let report = Some(report.clone());
            changes.push(Change::Report(NumberedReport { number: *number, report }));
        }
        changes
    }
}

/// The group at a place of the file, and its length with the header; else what is wrong with it.
fn read_group(bytes: &[u8]) -> Result<(Vec<Record>, usize), String> {
    let payload = payload_of_group(bytes)?;
    let mut rest = payload;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let record = Record::decode_length_delimited(&mut rest);
        records.push(record.map_err(|error| format!("a record that can't be read: {error}"))?);
    }
    Ok((records, HEADER_BYTES + payload.len()))
}

fn payload_of_group(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Err("the end of a file") };
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (length, length_checksum, checksum) = (number(0) as usize, number(4), number(8));
    if crc32fast::hash(&header[..4]) != length_checksum {
        return Err("a wrong checksum of a length");
    }
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + length).ok_or("the end of a file")?;
    if crc32fast::hash(payload) != checksum {
        return Err("a wrong checksum");
    }
    Ok(payload)
}

/// True if a whole group stands anywhere in there.
fn has_group(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| payload_of_group(&bytes[at..]).is_ok())
}

fn push_record(records: &mut Vec<u8>, change: Option<Change>) {
    records.extend_from_slice(&Record { change }.encode_length_delimited_to_vec());
}

fn push_group(bytes: &mut Vec<u8>, records: &[u8]) {
    // Fits: what is remembered of all Pods of a node is some MiB.
    let length = (records.len() as u32).to_le_bytes();
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&crc32fast::hash(&length).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(records).to_le_bytes());
    bytes.extend_from_slice(records);
}

fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// 16 bytes, big-endian, as a number; 0 for anything else.
pub fn number_of(bytes: &[u8]) -> u128 {
    <[u8; 16]>::try_from(bytes).map(u128::from_be_bytes).unwrap_or_default()
}

/// A number as 16 bytes, big-endian.
pub fn bytes_of(number: u128) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(uid: u128) -> Change {
        Change::started(PodUid(uid), "main", 2)
    }

    fn ended(uid: u128) -> Change {
        Change::ended(PodUid(uid), "main", 2)
    }

    fn report(number: u64, uid: u128) -> Change {
        let report = v1::PodReport {
            pod_uid: bytes_of(uid).into(),
            kind: Some(v1::pod_report::Kind::NotStarted(v1::NotStarted::default())),
        };
        Change::Report(NumberedReport { number, report: Some(report) })
    }

    fn filled(folder: &Path) -> Journal {
        let mut journal = Journal::open(folder).unwrap();
        journal.append(Change::Registration(Registration {
            number: 3,
            nonce: 9,
            boot_id: "boot".to_owned(),
        }));
        journal.append(Change::Granted(Granted { incarnation: 17, cluster_id: bytes_of(5) }));
        (1..=4).for_each(|uid| journal.append(started(uid)));
        journal.append(Change::started(PodUid(1), "other", 0));
        journal.append(ended(1));
        journal.append(report(1, 1));
        journal.append(ended(2));
        journal.append(report(2, 2));
        journal.append(report(3, 2));
        journal.append(Change::Acknowledged(1));
        journal.append(Change::Acknowledged(3));
        journal.append(Change::Forgotten(bytes_of(3)));
        journal.append(Change::Closed(bytes_of(4)));
        journal.sync().unwrap();
        journal
    }

    #[test]
    fn a1_everything_synced_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let before = filled(folder.path()).memory().clone();
        let after = Journal::open(folder.path()).unwrap();
        let memory = after.memory();
        assert_eq!(*memory, before);
        assert_eq!((memory.registration_number, memory.incarnation), (3, Incarnation(17)));
        assert_eq!(memory.started.keys().copied().collect::<Vec<_>>(), [1, 2, 4].map(PodUid));
        assert_eq!(memory.unacknowledged.keys().copied().collect::<Vec<_>>(), [2]);
        assert_eq!(memory.last_report, 3);
        let has_ended = |uid, container| memory.run(PodUid(uid), container).unwrap().has_ended;
        assert!(
            has_ended(1, "main") && !has_ended(1, "other") && has_ended(2, "main") && !has_ended(4, "main")
        );
        assert_eq!(memory.open_pods().map(|(pod, _)| pod.0).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a14_only_the_last_run_of_a_container_counts() {
        let mut memory = Memory::default();
        memory.apply(&started(1));
        memory.apply(&ended(1));
        memory.apply(&Change::started(PodUid(1), "main", 3));
        memory.apply(&ended(1));
        let run = JournaledRun { restart_count: 3, has_ended: false };
        assert_eq!(memory.run(PodUid(1), "main"), Some(run), "an end of the run before");
    }

    #[test]
    fn a_torn_tail_loses_only_itself_however_it_was_torn() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = filled(folder.path());
        let whole = journal.length as usize;
        let before = journal.memory().clone();
        (90..99).for_each(|uid| journal.append(started(uid)));
        journal.sync().unwrap();
        drop(journal);
        let path = folder.path().join("journal");
        let bytes = std::fs::read(&path).unwrap();
        let check = |torn: &[u8], how: &str| {
            std::fs::write(&path, torn).unwrap();
            let mut journal = Journal::open(folder.path()).unwrap_or_else(|error| panic!("{how}: {error}"));
            assert_eq!(*journal.memory(), before, "{how}");
            // It goes on behind what was whole.
            journal.append(started(77));
            journal.sync().unwrap();
            drop(journal);
            assert!(
                Journal::open(folder.path()).unwrap().memory().started.contains_key(&PodUid(77)),
                "{how}"
            );
        };
        for cut in whole..bytes.len() {
            check(&bytes[..cut], &format!("cut at {cut}"));
            // A file system that made the file longer before it wrote the data.
            let zeros = vec![0; bytes.len() - cut];
            check(&[&bytes[..cut], &zeros[..]].concat(), &format!("zeros from {cut}"));
            // A disk that wrote later pages first.
            let mut hole = bytes.clone();
            hole[whole..=cut].fill(0);
            if hole != bytes {
                check(&hole, &format!("zeros up to {cut}"));
            }
        }
    }

    #[test]
    fn a_flipped_bit_before_the_tail_refuses_to_open() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = filled(folder.path());
        let whole = journal.length as usize;
        journal.append(started(99));
        journal.sync().unwrap();
        let refuses_all = |whole: usize| {
            let path = folder.path().join("journal");
            let bytes = std::fs::read(&path).unwrap();
            for position in 0..whole {
                let mut damaged = bytes.clone();
                damaged[position] ^= 0x10;
                std::fs::write(&path, &damaged).unwrap();
                let opened = Journal::open(folder.path());
                let what = format!("byte {position} of {}", bytes.len());
                assert!(matches!(opened, Err(Error::JournalDamaged { .. })), "{what}");
                assert_eq!(std::fs::read(&path).unwrap(), damaged, "{what}: the evidence is left as it was");
            }
            std::fs::write(&path, &bytes).unwrap();
        };
        refuses_all(whole);
        // Of a file that was written anew nothing can be torn.
        journal.compact().unwrap();
        let marker = HEADER_BYTES + 1;
        refuses_all(journal.length as usize - marker);
    }

    #[test]
    fn a1_the_file_does_not_grow_with_history() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = filled(folder.path());
        let before = journal.memory().clone();
        for uid in 1_000..31_000 {
            journal.append(started(uid));
            journal.append(ended(uid));
            journal.append(report(uid as u64, uid));
            journal.append(Change::Acknowledged(uid as u64));
            journal.append(Change::Closed(bytes_of(uid)));
            journal.append(Change::Forgotten(bytes_of(uid)));
            if uid % 500 == 0 {
                journal.sync().unwrap();
            }
        }
        journal.sync().unwrap();
        assert_eq!(*journal.memory(), Memory { last_report: 30_999, ..before });
        let length = std::fs::metadata(folder.path().join("journal")).unwrap().len();
        assert!(length < 2 * limits::JOURNAL_COMPACT_BYTES, "{length} bytes");
        assert_eq!(length, journal.length);
    }

    #[test]
    fn a_full_disk_changes_nothing_and_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = filled(folder.path());
        let length = journal.length;
        // Every write to it answers ENOSPC.
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let file = std::mem::replace(&mut journal.file, full);
        journal.append(started(50));
        assert!(matches!(journal.sync(), Err(Error::JournalFull { .. } | Error::Journal { .. })));
        journal.file = file;
        journal.append(started(51));
        journal.sync().unwrap();
        assert!(journal.length > length);
        drop(journal);
        let started = Journal::open(folder.path()).unwrap().memory().started.clone();
        assert!(started.contains_key(&PodUid(50)) && started.contains_key(&PodUid(51)));
    }

    #[test]
    fn compaction_keeps_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = filled(folder.path());
        let before = journal.memory().clone();
        let long = journal.length;
        journal.compact().unwrap();
        assert!(journal.length <= long);
        assert_eq!(journal.length, std::fs::metadata(folder.path().join("journal")).unwrap().len());
        journal.append(started(7));
        journal.sync().unwrap();
        drop(journal);
        let mut after = Journal::open(folder.path()).unwrap().memory().clone();
        assert!(after.started.remove(&PodUid(7)).is_some());
        assert_eq!(after, before);
    }

    #[test]
    fn a2_another_cluster_forgets_all_but_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = filled(folder.path());
        let node_uid = journal.memory().node_uid;
        journal.append(Change::Reset(true));
        assert_eq!(journal.memory().node_uid, node_uid);
        assert_eq!(journal.memory().registration_number, 3, "numbers never go back");
        assert!(journal.memory().started.is_empty() && journal.memory().unacknowledged.is_empty());
        assert_eq!(journal.memory().incarnation, Incarnation(0));
    }

    #[test]
    fn a_file_that_is_no_journal_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("journal"), "something else entirely").unwrap();
        assert!(matches!(Journal::open(folder.path()), Err(Error::JournalDamaged { .. })));
        std::fs::write(folder.path().join("journal"), b"STINTJ\x00\x02and more").unwrap();
        assert!(matches!(Journal::open(folder.path()), Err(Error::JournalFormat { format: 2, .. })));
    }
}
