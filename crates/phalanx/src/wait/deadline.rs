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
