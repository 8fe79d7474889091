//! A time limit becomes a point on the monotonic clock once, at the start of the wait.

use crate::sys;
use std::time::Duration;

/// Until when to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<u64>);

impl Deadline {
    /// No limit.
    pub const NEVER: Self = Self(None);

    /// `time` from now. A time too long for the clock is no limit.
    pub fn after(time: Duration) -> Self {
        Self(
            u64::try_from(time.as_nanos())
                .ok()
                .and_then(|ns| sys::now().checked_add(ns)),
        )
    }

    /// The point itself, in nanoseconds of [`sys::now`].
    #[inline]
    pub fn at(self) -> Option<u64> {
        self.0
    }

    /// Is there no limit?
    #[inline]
    pub fn is_never(self) -> bool {
        self.0.is_none()
    }

    /// Has it passed?
    #[inline]
    pub fn has_passed(self) -> bool {
        self.0.is_some_and(|at| sys::now() >= at)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_time_has_passed_at_once() {
        let deadline = Deadline::after(Duration::ZERO);
        assert!(deadline.has_passed() && !deadline.is_never());
    }

    #[test]
    fn a_long_time_has_not_passed() {
        let before = sys::now();
        let deadline = Deadline::after(Duration::from_secs(3_600));
        assert!(!deadline.has_passed());
        assert!(deadline.at().is_some_and(|at| at >= before + 3_600_000_000_000));
    }

    #[test]
    fn too_long_for_the_clock_is_never() {
        for time in [Duration::MAX, Duration::from_nanos(u64::MAX)] {
            let deadline = Deadline::after(time);
            assert!(deadline.is_never() && !deadline.has_passed(), "{time:?}");
        }
        assert!(!Deadline::NEVER.has_passed());
    }
}
