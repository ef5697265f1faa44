//! What a server makes of a disk that is nearly full, from one life to the next.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tracing::{error, info};
use zabra_core::server::DiskRoom;

use crate::store::Room;

/// How long a server whose disk is nearly full stays away when it has given up leading.
pub(super) const RESIGNED: Duration = Duration::from_secs(2);

/// A server with a full disk does not give up leading again for so long: whoever leads instead may
/// have no room either.
const RESIGN_AGAIN: Duration = Duration::from_secs(600);

/// What is remembered of a disk that is nearly full.
#[derive(Debug, Default)]
pub(super) struct Full {
    may_resign: AtomicBool,
    resigned: Mutex<Option<Instant>>,
}

impl Full {
    /// What the machine is told.
    pub(super) fn room(&self, is_low: bool) -> DiskRoom {
        let resigned = *self.resigned.lock().unwrap_or_else(PoisonError::into_inner);
        let resign = is_low && resigned.is_none_or(|at| at.elapsed() >= RESIGN_AGAIN);
        self.may_resign.store(resign, Ordering::Relaxed);
        DiskRoom {
            low: is_low,
            resign,
        }
    }

    /// Whether a life that ended may have ended for this, which then is not tried again soon.
    pub(super) fn let_others_lead(&self) -> bool {
        let resigned = self.may_resign.swap(false, Ordering::Relaxed);
        if resigned {
            let now = Some(Instant::now());
            *self.resigned.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
        resigned
    }
}

/// Says that a disk is nearly full, or that all have room again, to whoever reads the log.
pub(super) fn tell_room(room: &Room) {
    let (directory, free, min) = (room.directory.display(), room.free, room.free_min);
    if room.is_low {
        error!(
            %directory, free_bytes = free, free_bytes_min = min,
            "the disk is nearly full: writes are refused with QuotaExceeded until there is room \
             (zabra.diskFreeMin); remove what is not needed, or give it more"
        );
    } else {
        info!(
            %directory, free_bytes = free, free_bytes_min = min,
            "there is room on the disk again: writes are taken"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_is_given_up_once_however_often_room_runs_low() {
        let full = Full::default();
        assert!(
            !full.let_others_lead(),
            "a life that ends for another reason"
        );
        let room = |low, resign| DiskRoom { low, resign };
        assert_eq!(full.room(true), room(true, true));
        assert!(full.let_others_lead());
        assert!(!full.let_others_lead());
        assert_eq!(full.room(true), room(true, false), "not again so soon");
        assert_eq!(full.room(false), room(false, false));
        assert_eq!(full.room(true), room(true, false));
    }
}
