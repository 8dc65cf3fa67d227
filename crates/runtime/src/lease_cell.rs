//! The moment at which everything ends, in memory that outlives whoever wrote it (A13).
//!
//! Owns: its bytes. Does not own: what happens at that moment.
//!
//! A memfd holds the moment, as nanoseconds of CLOCK_BOOTTIME, and its complement: a reader never takes half of a write for a
//! moment. Writing it touches no disk and wakes nobody; who holds it looks when the moment that it knows has come.

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Bytes of a moment and its complement.
const CELL_BYTES: usize = 16;

/// Reads of a cell that is being written until it is taken for broken. One write is one call of the kernel's.
const READS_MAX: usize = 1000;

/// A shared moment. [`Duration::MAX`] is never.
#[derive(Debug)]
pub(crate) struct LeaseCell {
    file: File,
}

impl LeaseCell {
    /// A new one.
    pub fn new(moment: Duration) -> Result<LeaseCell, Errno> {
        let cell = LeaseCell { file: memfd_create(c"stint-lease", MFdFlags::MFD_CLOEXEC)?.into() };
        cell.set(moment).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        Ok(cell)
    }

    /// One that somebody else made.
    pub fn from_descriptor(descriptor: OwnedFd) -> LeaseCell {
        LeaseCell { file: descriptor.into() }
    }

    /// Names another moment.
    pub fn set(&self, moment: Duration) -> io::Result<()> {
        let nanoseconds = u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX);
        let mut bytes = [0; CELL_BYTES];
        bytes[..8].copy_from_slice(&nanoseconds.to_ne_bytes());
        bytes[8..].copy_from_slice(&(!nanoseconds).to_ne_bytes());
        self.file.write_all_at(&bytes, 0)
    }

    /// The moment; `None` if there is none to be read.
    pub fn get(&self) -> Option<Duration> {
        for _ in 0..READS_MAX {
            let mut bytes = [0; CELL_BYTES];
            self.file.read_exact_at(&mut bytes, 0).ok()?;
            let (moment, complement) = bytes.split_at(8);
            let moment = u64::from_ne_bytes(moment.try_into().ok()?);
            if moment == !u64::from_ne_bytes(complement.try_into().ok()?) {
                return Some(if moment == u64::MAX { Duration::MAX } else { Duration::from_nanos(moment) });
            }
            std::thread::yield_now();
        }
        None
    }
}

impl AsFd for LeaseCell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_descriptor_reads_what_is_written() {
        let cell = LeaseCell::new(Duration::MAX).unwrap();
        let other = LeaseCell::from_descriptor(cell.as_fd().try_clone_to_owned().unwrap());
        assert_eq!(other.get(), Some(Duration::MAX));
        cell.set(Duration::from_nanos(1_234_567_890_123)).unwrap();
        assert_eq!(other.get(), Some(Duration::from_nanos(1_234_567_890_123)));
    }

    #[test]
    fn half_a_write_is_no_moment() {
        let cell = LeaseCell::new(Duration::from_secs(1)).unwrap();
        cell.file.write_all_at(&2_u64.to_ne_bytes(), 0).unwrap();
        assert_eq!(cell.get(), None);
    }
}
