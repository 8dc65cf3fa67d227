//! The agent's memory across restarts (A1): one append-only file of checksummed records.
//!
//! Owns: the file's format, what is replayed from it, its compaction. Does not own: when something is written.
//!
//! Invariants: a record is durable once [`Journal::sync`] has returned; a torn tail (a crash while writing) is cut off
//! and nothing before it is lost; damage anywhere else refuses to open, because forgetting a started Pod could let it
//! run twice.

use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use stint_api::{ClusterId, Incarnation, NodeUid, PodUid};
use stint_proto::v1;

use crate::error::Error;
use crate::limits;

/// First bytes of the file: what it is and which format.
const MAGIC: &[u8; 8] = b"STINTJ\x00\x01";
/// Before each record: its length, the length's checksum, its checksum. The length has one of its own so that a flipped
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
    /// Pods that were started and not forgotten, finished ones included.
    pub started: BTreeSet<PodUid>,
    /// Terminal reports that were not acknowledged.
    pub unacknowledged: BTreeMap<PodUid, v1::PodReport>,
    /// Pods that have ended and whose logs are kept.
    pub ended: BTreeSet<PodUid>,
}

/// One change of [`Memory`].
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    /// What changed.
    #[prost(oneof = "Change", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
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
    /// A Pod is about to be started; its uid, 16 bytes.
    #[prost(bytes = "vec", tag = "4")]
    Started(Vec<u8>),
    /// A Pod has ended, and this has to be reported.
    #[prost(message, tag = "5")]
    Ended(v1::PodReport),
    /// Its report was acknowledged; its uid, 16 bytes.
    #[prost(bytes = "vec", tag = "6")]
    Acknowledged(Vec<u8>),
    /// The Pod is gone with its logs; its uid, 16 bytes.
    #[prost(bytes = "vec", tag = "7")]
    Forgotten(Vec<u8>),
    /// Another cluster: everything but the node's uid is forgotten.
    #[prost(bool, tag = "8")]
    Reset(bool),
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
            match read_record(&bytes[offset..]) {
                Found::Record(record, length) => {
                    record.change.iter().for_each(|change| memory.apply(change));
                    offset += length;
                }
                Found::Torn => break,
                Found::Damaged(what) => {
                    return Err(Error::JournalDamaged { path, offset: offset as u64, what });
                }
            }
        }
        file.set_len(offset as u64).map_err(failed)?;
        file.seek(SeekFrom::Start(offset as u64)).map_err(failed)?;
        let mut journal = Journal { path, file, length: offset as u64, pending: Vec::new(), memory };
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
        let record = Record { change: Some(change) };
        write_record(&mut self.pending, &record);
    }

    /// Makes everything appended durable: one write and one fsync for all of it.
    ///
    /// # Errors
    /// If the file can't be written. The agent must stop then: after a failed fsync nobody knows what is on disk.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let failed = |source| Error::Journal { path: self.path.clone(), source };
        self.file.write_all(&self.pending).map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        self.length += self.pending.len() as u64;
        self.pending.clear();
        if self.length > limits::JOURNAL_COMPACT_BYTES
            && self.length > 4 * self.memory.compact_bytes_estimate()
        {
            self.compact()?;
        }
        Ok(())
    }

    /// Writes what is remembered into a new file and puts it in the old one's place.
    fn compact(&mut self) -> Result<(), Error> {
        let temporary = self.path.with_extension("new");
        let failed = |source| Error::Journal { path: temporary.clone(), source };
        let mut bytes = MAGIC.to_vec();
        for change in self.memory.changes() {
            write_record(&mut bytes, &Record { change: Some(change) });
        }
        let mut file = File::create(&temporary).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&temporary, &self.path).map_err(failed)?;
        sync_folder_of(&self.path).map_err(failed)?;
        self.file = file;
        self.length = bytes.len() as u64;
        Ok(())
    }

    fn begin(path: PathBuf, mut file: File) -> Result<Journal, Error> {
        let failed = |source| Error::Journal { path: path.clone(), source };
        file.set_len(0).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.write_all(MAGIC).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        sync_folder_of(&path).map_err(failed)?;
        Ok(Journal { path, file, length: MAGIC.len() as u64, pending: Vec::new(), memory: Memory::default() })
    }
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
            Change::Started(uid) => {
                self.started.insert(PodUid(number_of(uid)));
            }
            Change::Ended(report) => {
                let uid = PodUid(number_of(&report.pod_uid));
                self.ended.insert(uid);
                self.unacknowledged.insert(uid, report.clone());
            }
            Change::Acknowledged(uid) => {
                self.unacknowledged.remove(&PodUid(number_of(uid)));
            }
            Change::Forgotten(uid) => {
                let uid = PodUid(number_of(uid));
                self.started.remove(&uid);
                self.ended.remove(&uid);
                self.unacknowledged.remove(&uid);
            }
            Change::Reset(_) => {
                *self = Memory {
                    node_uid: self.node_uid,
                    registration_number: self.registration_number,
                    ..Memory::default()
                };
            }
        }
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
        changes.extend(self.started.iter().map(|uid| Change::Started(bytes_of(uid.0))));
        for uid in &self.ended {
            let report = self.unacknowledged.get(uid);
            let uid = bytes_of(uid.0);
            let report = report.cloned().unwrap_or(v1::PodReport { pod_uid: uid.clone().into(), kind: None });
            changes.push(Change::Ended(report));
            if !self.unacknowledged.contains_key(&PodUid(number_of(&uid))) {
                changes.push(Change::Acknowledged(uid));
            }
        }
        changes
    }

    fn compact_bytes_estimate(&self) -> u64 {
        const BYTES_PER_POD: u64 = 64;
        BYTES_PER_POD * (4 + self.started.len() + 4 * self.ended.len()) as u64
    }
}

/// What stands at a place of the file.
enum Found {
    Record(Record, usize),
    /// The file ends within the record: a crash while it was written.
    Torn,
    Damaged(String),
}

fn read_record(bytes: &[u8]) -> Found {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Found::Torn };
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (length, length_checksum, checksum) = (number(0) as usize, number(4), number(8));
    if crc32fast::hash(&header[..4]) != length_checksum {
        return Found::Damaged("a wrong checksum of a length".to_owned());
    }
    let Some(payload) = bytes.get(HEADER_BYTES..HEADER_BYTES + length) else { return Found::Torn };
    let is_last = bytes.len() == HEADER_BYTES + length;
    if crc32fast::hash(payload) != checksum {
        return if is_last { Found::Torn } else { Found::Damaged("a wrong checksum".to_owned()) };
    }
    match Record::decode(payload) {
        Ok(record) => Found::Record(record, HEADER_BYTES + length),
        Err(error) => Found::Damaged(format!("a record that can't be read: {error}")),
    }
}

fn write_record(bytes: &mut Vec<u8>, record: &Record) {
    let payload = record.encode_to_vec();
    let length = (payload.len() as u32).to_le_bytes();
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&crc32fast::hash(&length).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
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

    fn ended(uid: u128) -> Change {
        Change::Ended(v1::PodReport {
            pod_uid: bytes_of(uid).into(),
            kind: Some(v1::pod_report::Kind::NotStarted(v1::NotStarted {})),
        })
    }

    fn filled(folder: &Path) -> Journal {
        let mut journal = Journal::open(folder).unwrap();
        journal.append(Change::Registration(Registration {
            number: 3,
            nonce: 9,
            boot_id: "boot".to_owned(),
        }));
        journal.append(Change::Granted(Granted { incarnation: 17, cluster_id: bytes_of(5) }));
        for uid in 1..=4 {
            journal.append(Change::Started(bytes_of(uid)));
        }
        journal.append(ended(1));
        journal.append(ended(2));
        journal.append(Change::Acknowledged(bytes_of(1)));
        journal.append(Change::Forgotten(bytes_of(3)));
        journal.sync().unwrap();
        journal
    }

    #[test]
    fn a1_everything_synced_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let before = filled(folder.path()).memory().clone();
        let after = Journal::open(folder.path()).unwrap();
        assert_eq!(*after.memory(), before);
        assert_eq!(after.memory().registration_number, 3);
        assert_eq!(after.memory().incarnation, Incarnation(17));
        assert_eq!(after.memory().started, [1, 2, 4].map(PodUid).into());
        assert_eq!(after.memory().unacknowledged.keys().copied().collect::<Vec<_>>(), [PodUid(2)]);
        assert_eq!(after.memory().ended, [1, 2].map(PodUid).into());
    }

    #[test]
    fn a_torn_tail_loses_only_itself_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = filled(folder.path());
        let whole = journal.length;
        let before = journal.memory().clone();
        journal.append(Change::Started(bytes_of(99)));
        journal.sync().unwrap();
        drop(journal);
        let path = folder.path().join("journal");
        let bytes = std::fs::read(&path).unwrap();
        for cut in whole as usize..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let journal = Journal::open(folder.path()).unwrap();
            assert_eq!(*journal.memory(), before, "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_before_the_tail_refuses_to_open() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        let path = folder.path().join("journal");
        let bytes = std::fs::read(&path).unwrap();
        for position in 0..bytes.len() - HEADER_BYTES - 2 * 18 {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            let opened = Journal::open(folder.path());
            assert!(
                matches!(opened, Err(Error::JournalDamaged { .. })),
                "byte {position} of {}",
                bytes.len()
            );
        }
    }

    #[test]
    fn compaction_keeps_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = filled(folder.path());
        let before = journal.memory().clone();
        let long = journal.length;
        journal.compact().unwrap();
        assert!(journal.length <= long);
        journal.append(Change::Started(bytes_of(7)));
        journal.sync().unwrap();
        drop(journal);
        let mut after = Journal::open(folder.path()).unwrap().memory().clone();
        assert!(after.started.remove(&PodUid(7)));
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
    }
}
