//! How much room the disks have: whether a write could soon find none.

use core::time::Duration;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is spared where nobody has said how much: no write that is under way when room runs low
/// fills more (`PROPOSED_BYTES_HIGH` of the core), four times over for snapshots, the zeros ahead of
/// the log, and whoever else writes there.
const FREE_MIN: u64 = 256 << 20;

/// Of a smaller file system no more is spared than one part in so many.
const FREE_SHARE: u64 = 10;

/// There is enough again when this many quarters of what is spared are free: else writes would be
/// refused and taken by turns.
const ENOUGH_QUARTERS: u64 = 5;

/// How often is looked at most, and how often at least.
const LOOK_EVERY: Duration = Duration::from_millis(10);
pub(super) const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(500);

/// A file system's size, and what of it is free to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) free: u64,
}

/// What was found about the disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The directory whose disk has least to spare.
    pub directory: PathBuf,
    /// What is free there.
    pub free: u64,
    /// What should be.
    pub free_min: u64,
    /// Whether it is nearly full.
    pub is_low: bool,
}

/// Watches the directories that the store writes to.
#[derive(Debug)]
pub(super) struct Rooms {
    directories: Vec<PathBuf>,
    wish: Option<u64>,
    is_low: bool,
    looked: Option<Instant>,
}

/// How many bytes should be free: as many as are wished for (0 is never too few), or what is right
/// for the size.
pub(crate) fn free_min(wish: Option<u64>, space: Space) -> u64 {
    wish.unwrap_or_else(|| FREE_MIN.min(space.total / FREE_SHARE))
}

impl Rooms {
    pub(super) const fn new(directories: Vec<PathBuf>, wish: Option<u64>) -> Self {
        Self {
            directories,
            wish,
            is_low: false,
            looked: None,
        }
    }

    /// Looks, if the last look is not just over, and says what was found if that is news.
    pub(super) fn look(&mut self) -> Option<Room> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return None;
        }
        self.looked = Some(Instant::now());
        let room = self.scarcest()?;
        if room.is_low == self.is_low {
            return None;
        }
        self.is_low = room.is_low;
        Some(room)
    }

    /// The disk with the least room beyond what should be free.
    fn scarcest(&self) -> Option<Room> {
        let found = self.directories.iter().filter_map(|directory| {
            let space = space(directory)?;
            Some((directory, space.free, free_min(self.wish, space)))
        });
        // As parts of what should be free, without a division.
        let scarcest = found.min_by(|(_, free, min), (_, other_free, other_min)| {
            let one = u128::from(*free) * u128::from(*other_min);
            one.cmp(&(u128::from(*other_free) * u128::from(*min)))
        });
        let (directory, free, free_min) = scarcest?;
        let least = if self.is_low {
            (free_min / 4).saturating_mul(ENOUGH_QUARTERS).max(free_min)
        } else {
            free_min
        };
        Some(Room {
            directory: directory.clone(),
            free,
            free_min,
            is_low: free < least,
        })
    }
}

/// Whether a snapshot that goes on being written would take what is spared for the log.
pub(super) fn is_tight(directory: &Path, wish: Option<u64>) -> bool {
    space(directory).is_some_and(|space| space.free < free_min(wish, space) / 2)
}

/// What of a directory's file system is free; `None` if that cannot be known.
#[cfg(target_os = "linux")]
pub(crate) fn space(directory: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some(Space {
        total: found.f_blocks.saturating_mul(found.f_frsize),
        // Not `f_bfree`: what is reserved for the superuser may be gone by the time.
        free: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

/// See above.
#[cfg(not(target_os = "linux"))]
pub(crate) fn space(_: &Path) -> Option<Space> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_disks_spare_a_tenth_and_large_ones_a_quarter_of_a_gibibyte() {
        let of = |wish, total| free_min(wish, Space { total, free: 0 });
        assert_eq!(of(None, 100 << 20), 10 << 20);
        assert_eq!(of(None, 1 << 40), 256 << 20);
        assert_eq!(of(Some(7), 1 << 40), 7);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_low_is_said_once_and_unlimited_is_never_low() {
        let here = || vec![PathBuf::from(".")];
        let mut rooms = Rooms::new(here(), Some(u64::MAX));
        let room = rooms.look();
        assert!(room.is_some_and(|room| room.is_low && room.free_min == u64::MAX));
        rooms.looked = None;
        assert_eq!(rooms.look(), None, "it is no news");
        assert_eq!(Rooms::new(here(), Some(0)).look(), None);
        assert!(is_tight(Path::new("."), Some(u64::MAX)));
        assert!(!is_tight(Path::new("."), Some(0)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn there_is_enough_again_only_with_a_quarter_more() {
        let free = space(Path::new(".")).map_or(0, |space| space.free);
        // About nine tenths of what is free should be: enough, but not enough again.
        let mut rooms = Rooms::new(vec![".".into()], Some(free / 10 * 9));
        assert_eq!(rooms.look(), None);
        rooms.is_low = true;
        rooms.looked = None;
        assert_eq!(rooms.look(), None, "it is still low");
        rooms.wish = Some(free / 2);
        rooms.looked = None;
        assert!(rooms.look().is_some_and(|room| !room.is_low));
    }
}
