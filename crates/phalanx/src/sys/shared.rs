//! Linux: memory that several processes map, futexes in it, and what the kernel says of another process.

use super::Slept;
use crate::prim::{AtomicU32, AtomicU64, Ordering};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::thread::futex;
use std::num::NonZero;
use std::ptr;

/// As [`super::sleep_on`], for a word that other processes map too.
pub fn sleep_on_shared(word: &AtomicU32, expected: u32, until: Option<u64>) -> Slept {
    let until = until.map(|ns| futex::Timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as _,
    });
    let every = NonZero::<u32>::MAX;
    match futex::wait_bitset(word, futex::Flags::empty(), expected, until.as_ref(), every) {
        Err(Errno::INTR) => Slept::Signal,
        Err(Errno::TIMEDOUT) => Slept::TimedOut,
        _ => Slept::Woken,
    }
}

/// Wakes one thread, of any process, that sleeps on `word`.
pub fn wake_shared(word: &AtomicU32) {
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}

/// A new memory file of `len` bytes that can grow but never shrink, without a name in the file system.
pub fn memory_file(len: usize) -> Result<OwnedFd, Errno> {
    let file = rustix::fs::memfd_create("phalanx", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    extend(file.as_fd(), len)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// May the file shrink under us?
pub fn is_sealed(file: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

/// The length of `file` in bytes.
pub fn length(file: BorrowedFd<'_>) -> Result<usize, Errno> {
    Ok(rustix::fs::fstat(file)?.st_size as usize)
}

/// The number of what is open as `file` in its file system, if anything is.
pub fn inode(file: i32) -> Option<u64> {
    if file < 0 {
        return None;
    }
    // SAFETY: not -1; a number that is not open is an error of the call.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    rustix::fs::fstat(file).ok().map(|stat| stat.st_ino)
}

/// Makes `file` at least `len` bytes long. It may be longer already: somebody may have died right after this.
pub fn extend(file: BorrowedFd<'_>, len: usize) -> Result<(), Errno> {
    if length(file)? >= len {
        return Ok(());
    }
    rustix::fs::ftruncate(file, len as u64)
}

/// Maps `len` bytes of `file`, more than it may have now: it may grow into them. Aligned for huge pages.
pub fn map(file: BorrowedFd<'_>, len: usize) -> Result<*mut u8, Errno> {
    const HUGE: usize = 2 << 20;
    // SAFETY: a new mapping at an address of the kernel's choice; then the file over the aligned part of it, and the ends
    // go back.
    unsafe {
        let room = len + HUGE;
        let room_at = rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            room,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )?
        .cast::<u8>();
        let skip = room_at.align_offset(HUGE);
        let mapped = rustix::mm::mmap(
            room_at.add(skip).cast(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED,
            file,
            0,
        );
        let base = match mapped {
            Ok(base) => base,
            Err(error) => {
                let _ = rustix::mm::munmap(room_at.cast(), room);
                return Err(error);
            }
        };
        if skip > 0 {
            let _ = rustix::mm::munmap(room_at.cast(), skip);
        }
        let end = skip + len.next_multiple_of(4096);
        if end < room {
            let _ = rustix::mm::munmap(room_at.add(end).cast(), room - end);
        }
        // A core dump of a whole arena would help nobody.
        let _ = rustix::mm::madvise(base, len, Advice::LinuxDontDump);
        Ok(base.cast())
    }
}

/// Maps `len` bytes of `file` from `offset`, a whole page, so that writes stay in this process and its children get copies.
pub fn map_private(file: BorrowedFd<'_>, offset: u64, len: usize) -> Result<*mut u8, Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        rustix::mm::mmap(
            ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
            file,
            offset,
        )?
    };
    Ok(base.cast())
}

/// Undoes [`map`] and [`map_private`].
///
/// # Safety
/// Nothing refers to the mapping any more.
pub unsafe fn unmap(base: *mut u8, len: usize) {
    // SAFETY: as the caller promises.
    let _ = unsafe { rustix::mm::munmap(base.cast(), len) };
}

/// Gives the pages of a range back to the system; they read as zeros afterwards.
///
/// # Safety
/// Whole pages of a mapping made by [`map`], whose content nobody needs.
pub unsafe fn discard(from: *mut u8, len: usize) {
    // SAFETY: as the caller promises.
    let _ = unsafe { rustix::mm::madvise(from.cast(), len, Advice::LinuxRemove) };
}

/// Huge pages are welcome in a range.
///
/// # Safety
/// Whole pages of a mapping made by [`map`].
pub unsafe fn welcome_huge_pages(from: *mut u8, len: usize) {
    // SAFETY: as the caller promises; advice changes no content.
    let _ = unsafe { rustix::mm::madvise(from.cast(), len, Advice::LinuxHugepage) };
}

/// Gives the range of `file` real pages.
pub fn allocate(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), Errno> {
    let some = |offset, len| rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, offset, len);
    match some(offset, len) {
        // Older kernels leave off at any signal, and undo what was done: little by little then.
        Err(Errno::INTR) => (0..len).step_by(1 << 20).try_for_each(|at| {
            loop {
                match some(offset + at, (len - at).min(1 << 20)) {
                    Err(Errno::INTR) => {}
                    ended => return ended,
                }
            }
        }),
        ended => ended,
    }
}

/// Maps the pages of a range for writing at once, which costs less than a fault for each.
///
/// # Safety
/// Whole pages of a mapping made by [`map`], inside the file.
pub unsafe fn populate(from: *mut u8, len: usize) {
    // SAFETY: as the caller promises; advice changes no content.
    let _ = unsafe { rustix::mm::madvise(from.cast(), len, Advice::LinuxPopulateWrite) };
}

/// Monotonic nanoseconds as of the kernel's last tick, a few milliseconds ago: cheaper than [`super::now`].
#[inline]
pub fn coarse_now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The number of this process.
pub fn pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get() as u32
}

/// How much memory the machine has, in bytes.
pub fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit)
}

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vital {
    /// Runs, sleeps or is stopped.
    Alive,
    /// Has ended and is not yet reaped; its wait status, if we may see it.
    Zombie(Option<u32>),
    /// There is no such process any more, or it has become another program.
    Gone,
}

/// The start time of process `pid` in clock ticks since boot; `None` if it cannot be learnt.
pub fn start_time(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.started)
}

/// What distinguishes the program that this process runs from one that it becomes by `exec`, which changes neither its pid
/// nor its start time: where its stack begins, which each `exec` chooses anew and a fork inherits. 0 if it cannot be
/// learnt. Read once in each program: copies of it know it already.
pub fn image() -> u64 {
    static IMAGE: AtomicU64 = AtomicU64::new(0);
    match IMAGE.load(Ordering::Relaxed) {
        0 => {
            let image = stat(pid()).map_or(0, |stat| stat.stack);
            IMAGE.store(image, Ordering::Relaxed);
            image
        }
        known => known,
    }
}

/// Looks after the process that had number `pid`, began at `started` and ran the program `image` (see [`image`]); 0 for
/// what is not known.
pub fn vital(pid: u32, started: u64, image: u64) -> Vital {
    match stat(pid) {
        // No descriptor left, or no `/proc`: a process that lives must never count as dead.
        None if exists(pid) => Vital::Alive,
        None => Vital::Gone,
        Some(stat) if started != 0 && stat.started != started => Vital::Gone,
        // A main thread that has ended before the others is a zombie too. The others may still write.
        Some(stat) if matches!(stat.state, b'Z' | b'X' | b'x') && stat.threads <= 1 => {
            Vital::Zombie(stat.status)
        }
        // It is another program now. Who may not see it, and who looks in the middle of its end or its `exec`, reads 0.
        Some(stat) if image != 0 && stat.stack != 0 && stat.stack != image => Vital::Gone,
        Some(_) => Vital::Alive,
    }
}

fn exists(pid: u32) -> bool {
    i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

struct Stat {
    state: u8,
    threads: u32,
    started: u64,
    stack: u64,
    status: Option<u32>,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too.
    let after = text.iter().rposition(|&byte| byte == b')')? + 2;
    let rest = std::str::from_utf8(text.get(after..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    // Counted from the state, which is the third: threads are the 20th, start time the 22nd, the stack the 28th, exit code the
    // 52nd.
    Some(Stat {
        state: *fields.next()?.as_bytes().first()?,
        threads: fields.nth(16)?.parse().ok()?,
        started: fields.nth(1)?.parse().ok()?,
        stack: fields.nth(5)?.parse().ok()?,
        status: fields.nth(23).and_then(|code| code.parse().ok()),
    })
}

/// Waits until one of `files` can be read, a signal, or the time `until`.
pub fn sleep_on_files(files: &[i32], until: Option<u64>) -> Slept {
    let mut polled: Vec<libc::pollfd> = files
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let left = until.map(|at| at.saturating_sub(super::now()));
    let time = left.map(|ns| libc::timespec {
        tv_sec: (ns / 1_000_000_000) as _,
        tv_nsec: (ns % 1_000_000_000) as _,
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the list and the time outlive the call.
    match unsafe { libc::ppoll(polled.as_mut_ptr(), polled.len() as _, time, ptr::null()) } {
        0 => Slept::TimedOut,
        n if n < 0 => Slept::Signal,
        _ => Slept::Woken,
    }
}

/// Ends this process at once, as a crash would: for tests.
pub fn die() -> ! {
    // SAFETY: plain system calls.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
        libc::_exit(137)
    }
}

/// Stops this process until somebody lets it go on: for tests.
pub fn stop() {
    // SAFETY: a plain system call.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

/// Puts a byte into a socket whose other end is selected on.
pub fn ring_bell(socket: i32) {
    // SAFETY: a plain system call; a closed or full socket is an error that changes nothing.
    unsafe {
        libc::send(
            socket,
            b"!".as_ptr().cast(),
            1,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        );
    }
}

/// Takes such bytes out again.
pub fn silence_bell(socket: i32) {
    let mut bytes = [0u8; 16];
    // SAFETY: as above; the buffer is that long.
    unsafe {
        libc::recv(socket, bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT);
    }
}
