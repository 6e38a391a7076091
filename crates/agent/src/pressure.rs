//! Whether the host's disk is short of space, with a gap between *short* and *enough* so that the
//! answer does not flutter.

use rustix::fs::StatVfs;
use std::path::Path;
use types::{limits, plan::Reason};

/// The space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

/// Asks the file system of this directory. An answer that cannot be had is not a lack of space.
pub(crate) fn space(dir: &Path) -> Option<Space> {
    let StatVfs { f_bavail, f_blocks, f_frsize, .. } = rustix::fs::statvfs(dir).ok()?;
    Some(Space { free: f_bavail.saturating_mul(f_frsize), total: f_blocks.saturating_mul(f_frsize) })
}

/// What is short, given what was short before. On a small file system a twentieth is enough.
pub(crate) fn judge(before: Option<Reason>, space: Option<Space>) -> Option<Reason> {
    let space = space?;
    let bound = match before {
        None => limits::DISK_SHORT.bytes().min(space.total / 20),
        Some(_) => limits::DISK_ENOUGH.bytes().min(space.total * 3 / 40),
    };
    (space.free < bound).then_some(Reason::DiskFull)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_begins_and_ends_at_different_marks() {
        let with = |free_mib: u64| Some(Space { free: free_mib << 20, total: 100 << 30 });
        assert_eq!(judge(None, with(600)), None);
        assert_eq!(judge(None, with(500)), Some(Reason::DiskFull));
        assert_eq!(judge(Some(Reason::DiskFull), with(600)), Some(Reason::DiskFull));
        assert_eq!(judge(Some(Reason::DiskFull), with(800)), None);
        let small = Some(Space { free: 4 << 20, total: 64 << 20 });
        assert_eq!(judge(None, small), None, "a small disk is not short for being small");
        assert_eq!(judge(None, None), None);
    }
}
