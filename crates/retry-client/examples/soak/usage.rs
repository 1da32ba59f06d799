//! The memory and descriptors of this process, on Linux.

use std::{fmt, fs, io};

/// The unit of `statm`. With larger pages, growth is underestimated.
const PAGE_KIB: u64 = 4;

#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) resident_kib: u64,
    pub(crate) descriptors: u64,
}

impl Usage {
    pub(crate) fn now() -> io::Result<Self> {
        let pages = fs::read_to_string("/proc/self/statm")?;
        let resident = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
        let resident = resident.ok_or_else(|| io::Error::other("/proc/self/statm: no number of resident pages"))?;
        // Listing the directory takes a descriptor as well.
        let descriptors = (fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1);
        Ok(Self { resident_kib: resident * PAGE_KIB, descriptors })
    }

    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            resident_kib: self.resident_kib.max(other.resident_kib),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB, {} descriptors", self.resident_kib as f64 / 1024.0, self.descriptors)
    }
}
