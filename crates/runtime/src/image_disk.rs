//! How much of its disk the images of a node may fill.
//!
//! Owns: the two marks, and measuring against them. Does not own: what is removed, which each runtime knows of its own images.

use crate::limits;
use std::io;
use std::path::Path;
use std::str::FromStr;

/// When images that nobody uses are removed: from above `high_percent` of the file system's use down to `low_percent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageDisk {
    /// Nothing is removed below this, 0–100.
    pub high_percent: u8,
    /// What is removed is enough to get here, if there is so much.
    pub low_percent: u8,
}

impl Default for ImageDisk {
    fn default() -> ImageDisk {
        let (high_percent, low_percent) = limits::IMAGE_DISK_PERCENT_DEFAULT;
        ImageDisk { high_percent, low_percent }
    }
}

impl FromStr for ImageDisk {
    type Err = String;

    /// Reads `HIGH:LOW`, in percent.
    fn from_str(text: &str) -> Result<ImageDisk, String> {
        let number = |text: &str| text.parse::<u8>().ok().filter(|percent| *percent <= 100);
        let marks = text.split_once(':').and_then(|(high, low)| Some((number(high)?, number(low)?)));
        match marks {
            Some((high_percent, low_percent)) if low_percent <= high_percent => {
                Ok(ImageDisk { high_percent, low_percent })
            }
            _ => {
                Err("write HIGH:LOW, two percentages, of which the second is not above the first".to_owned())
            }
        }
    }
}

impl ImageDisk {
    /// Bytes that are too many on the file system of a path; none below the high mark. Blocks.
    pub(crate) fn excess(&self, path: &Path) -> io::Result<u64> {
        let (total, used) = use_of(path)?;
        Ok(self.excess_of(total, used))
    }

    /// Whether the file system of a path is filled above the low mark. Blocks.
    #[cfg(feature = "cri")]
    pub(crate) fn is_above_low(&self, path: &Path) -> io::Result<bool> {
        let (total, used) = use_of(path)?;
        Ok(used > share(total, self.low_percent))
    }

    fn excess_of(&self, total: u64, used: u64) -> u64 {
        if used > share(total, self.high_percent) {
            used.saturating_sub(share(total, self.low_percent))
        } else {
            0
        }
    }
}

fn share(total: u64, percent: u8) -> u64 {
    (u128::from(total) * u128::from(percent) / 100) as u64
}

/// Bytes that the file system of a path has, and that are used.
fn use_of(path: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    let total = stat.f_blocks.saturating_mul(stat.f_frsize);
    // What is reserved for root counts as used: others fail without it.
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    Ok((total, total.saturating_sub(available)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_below_the_high_mark_and_above_it_down_to_the_low_one() {
        let disk = ImageDisk { high_percent: 85, low_percent: 80 };
        for (used, excess) in [(0, 0), (850, 0), (851, 51), (1000, 200)] {
            assert_eq!(disk.excess_of(1000, used), excess, "{used}");
        }
    }

    #[test]
    fn marks_are_two_percentages_in_order() {
        assert_eq!("85:80".parse(), Ok(ImageDisk::default()));
        assert_eq!("0:0".parse(), Ok(ImageDisk { high_percent: 0, low_percent: 0 }));
        for text in ["", "85", "80:85", "101:80", "85:-1", "85:80:1", "a:b"] {
            assert!(text.parse::<ImageDisk>().is_err(), "{text:?}");
        }
    }
}
