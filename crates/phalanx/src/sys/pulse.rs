//! A word in shared memory that the kernel changes when a thread ends, however it ends.
//!
//! It is the word of a robust mutex of the C library, which the thread takes and never gives back.

use crate::prim::{AtomicU32, Ordering};

/// Bytes that a pulse takes.
pub const PULSE_BYTES: usize = size_of::<libc::pthread_mutex_t>();

/// The bits of the word that say whose it is; the kernel clears them.
const OWNER: u32 = 0x3FFF_FFFF;

/// Begins the pulse of the calling thread at `at`, and says how many bytes behind that its word lies. `None`: this C
/// library does not do it in a way that we know.
///
/// # Safety
/// `at` has room for [`PULSE_BYTES`] in memory that is mapped as long as the process lives, aligned to 8, and used for
/// nothing else until then.
pub unsafe fn begin_pulse(at: *mut u8) -> Option<usize> {
    let mutex = at.cast::<libc::pthread_mutex_t>();
    // SAFETY: as the caller promises; the attributes live as long as they are used.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        let ready = libc::pthread_mutexattr_init(&raw mut attributes) == 0
            && libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED) == 0
            && libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST) == 0
            && libc::pthread_mutex_init(mutex, &raw const attributes) == 0
            && libc::pthread_mutex_lock(mutex) == 0;
        libc::pthread_mutexattr_destroy(&raw mut attributes);
        if !ready {
            return None;
        }
        // Wherever the library keeps the owner for the kernel to see, it is this thread now.
        let me = super::os_thread_id();
        (0..PULSE_BYTES / 4)
            .map(|n| n * 4)
            .find(|&byte| (*at.add(byte).cast::<AtomicU32>()).load(Ordering::Relaxed) & OWNER == me)
            .filter(|&byte| byte < 8)
    }
}

/// Has the thread ended whose pulse has this word?
#[inline]
pub fn has_stopped(word: &AtomicU32) -> bool {
    word.load(Ordering::Acquire) & OWNER == 0
}
