//! `fork`, but the child is a child of our parent: what a template process makes for the process that it serves.

use crate::prim::Guarded;
use rustix::io::Errno;
use std::ptr;

type Handlers = (extern "C" fn(), extern "C" fn(), extern "C" fn());

/// What was registered by `at_fork`: glibc runs it round its own `fork` only.
static HANDLERS: Guarded<Vec<Handlers>> = Guarded::new(Vec::new());

pub(super) fn remember(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    HANDLERS.with(|handlers| handlers.push((before, parent, child)));
}

/// Makes a copy of this process whose parent is ours. Returns its pid, 0 in the copy.
///
/// # Errors
/// What the kernel says; `ENOSYS` if it does not tell where the C library keeps the thread's number.
///
/// # Safety
/// This process has one thread, and nothing but [`super::at_fork`] has registered fork handlers that matter.
pub unsafe fn clone_sibling() -> Result<u32, Errno> {
    let handlers = HANDLERS.with(|handlers| handlers.clone());
    // SAFETY: plain system calls. The C library keeps the number of the thread where the kernel clears it at its end; the
    // kernel writes the new one there. The list of robust locks begins at the same address in the copy.
    unsafe {
        let mut tid: *mut i32 = ptr::null_mut();
        if libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut tid) != 0 || tid.is_null() {
            return Err(Errno::NOSYS);
        }
        let (mut robust, mut robust_len) = (ptr::null_mut::<libc::c_void>(), 0usize);
        libc::syscall(libc::SYS_get_robust_list, 0, &raw mut robust, &raw mut robust_len);
        handlers.iter().rev().for_each(|(before, ..)| before());
        let flags =
            libc::CLONE_PARENT | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
        let null = ptr::null_mut::<libc::c_void>();
        #[cfg(target_arch = "x86_64")]
        let made = libc::syscall(libc::SYS_clone, i64::from(flags), null, null, tid, null);
        // Everywhere else the last two change places.
        #[cfg(not(target_arch = "x86_64"))]
        let made = libc::syscall(libc::SYS_clone, i64::from(flags), null, null, null, tid);
        if made == 0 {
            libc::syscall(libc::SYS_set_robust_list, robust, robust_len);
            handlers.iter().for_each(|(.., child)| child());
            return Ok(0);
        }
        let errno = *libc::__errno_location();
        handlers.iter().for_each(|(_, parent, _)| parent());
        if made > 0 {
            Ok(made as u32)
        } else {
            Err(Errno::from_raw_os_error(errno))
        }
    }
}
