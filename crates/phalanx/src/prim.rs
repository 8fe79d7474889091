//! Level 0. Atomics, thread-locals and a short lock, from `std` or from loom.
//!
//! What the model cannot do: loom has no constant constructors, so statics are made lazily there, and it
//! has no clock, so every deadline in a model may pass at any time.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the module the ban points to"
)]

#[cfg(loom)]
pub use loom::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(not(loom))]
pub use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// A full fence for a thread that has done nothing since an exchange. On x86 that was one: then this is only for the compiler.
#[inline]
pub fn fence_after_exchange() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    fence(Ordering::SeqCst);
}

#[cfg(loom)]
pub use loom::{hint::spin_loop, thread::yield_now};
#[cfg(not(loom))]
pub use std::{hint::spin_loop, thread::yield_now};

/// Data behind a short lock that spins, then yields.
///
/// For sections of a few dozen instructions that neither sleep nor call out. It is not a primitive for users:
/// it knows no owner and the detector does not see it.
#[derive(Debug, Default)]
pub struct Guarded<T> {
    #[cfg(loom)]
    inner: loom::sync::Mutex<T>,
    #[cfg(not(loom))]
    inner: spin::Spin<T>,
}

impl<T> Guarded<T> {
    /// Puts `value` behind a lock.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self {
            inner: spin::Spin::new(value),
        }
    }

    /// Puts `value` behind a lock.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self {
            inner: loom::sync::Mutex::new(value),
        }
    }

    /// Locks, runs `f` on the data, unlocks.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(loom)]
        return f(&mut self.inner.lock().unwrap());
        #[cfg(not(loom))]
        self.inner.with(f)
    }

    /// Locks and stays locked, for the moment just before a `fork`.
    #[cfg(not(loom))]
    pub fn hold(&self) {
        self.inner.raw_lock();
    }

    /// Ends what [`Guarded::hold`] began, in the parent and in the child.
    #[cfg(not(loom))]
    pub fn let_go(&self) {
        self.inner.raw_unlock();
    }
}

#[cfg(not(loom))]
pub(crate) use spin::forget_parent;

#[cfg(not(loom))]
mod spin {
    use super::{AtomicU32, Ordering};
    use std::cell::UnsafeCell;

    /// Which process this is in a line of forks; never 0.
    static EPOCH: AtomicU32 = AtomicU32::new(1);

    /// In a child of `fork`: a lock that another thread held in the parent counts as free from now on.
    pub(crate) fn forget_parent() {
        EPOCH.fetch_add(1, Ordering::Relaxed);
    }

    /// | `taken` | meaning |
    /// | --- | --- |
    /// | 0 | free |
    /// | the epoch | one thread is inside |
    /// | another epoch | a thread was inside that did not survive a `fork`: free |
    ///
    /// Whoever changes more than plain numbers under such a lock must keep forks away meanwhile, as the door's fork
    /// handlers and the interpreter lock do.
    #[derive(Debug, Default)]
    pub(super) struct Spin<T> {
        taken: AtomicU32,
        data: UnsafeCell<T>,
    }

    // SAFETY: `data` is reached only between raw_lock and raw_unlock, by one thread at a time.
    unsafe impl<T: Send> Sync for Spin<T> {}
    // SAFETY: it owns its data.
    unsafe impl<T: Send> Send for Spin<T> {}

    /// Unlocks when the section ends, also by a panic.
    struct Unlock<'a>(&'a AtomicU32);

    impl Drop for Unlock<'_> {
        fn drop(&mut self) {
            // SYNC(spin): pairs with the Acquire exchange in raw_lock.
            self.0.store(0, Ordering::Release);
        }
    }

    impl<T> Spin<T> {
        pub(super) const fn new(value: T) -> Self {
            Self {
                taken: AtomicU32::new(0),
                data: UnsafeCell::new(value),
            }
        }

        #[inline]
        fn raw_try_lock(&self) -> bool {
            self.raw_take_from(0)
        }

        #[inline]
        fn raw_take_from(&self, seen: u32) -> bool {
            let epoch = EPOCH.load(Ordering::Relaxed);
            // SYNC(spin): pairs with the Release store in raw_unlock.
            self.taken
                .compare_exchange(seen, epoch, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        }

        #[inline]
        pub(super) fn raw_lock(&self) {
            if !self.raw_try_lock() {
                self.raw_lock_slow();
            }
        }

        #[cold]
        fn raw_lock_slow(&self) {
            let mut tries = 0u32;
            loop {
                let seen = self.taken.load(Ordering::Relaxed);
                let free = seen == 0 || seen != EPOCH.load(Ordering::Relaxed);
                if free && self.raw_take_from(seen) {
                    return;
                }
                tries += 1;
                if tries < 64 {
                    std::hint::spin_loop();
                } else {
                    std::thread::yield_now();
                }
            }
        }

        pub(super) fn raw_unlock(&self) {
            // SYNC(spin): pairs with the Acquire exchange in raw_lock.
            self.taken.store(0, Ordering::Release);
        }

        #[inline]
        pub(super) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
            self.raw_lock();
            let _unlock = Unlock(&self.taken);
            // SAFETY: the lock is ours until `_unlock` drops.
            f(unsafe { &mut *self.data.get() })
        }
    }
}
