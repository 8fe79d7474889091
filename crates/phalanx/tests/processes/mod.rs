//! Scenarios of several processes, made by a real `fork`.
//!
//! A fork wants to be alone in its process, and what the arena holds is counted, so each scenario runs in a process of its
//! own: [`alone`] starts this binary again for one test, with [`ALONE`] set, and ends it when its time is up. Children die
//! with their parent.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "deadlines round what is tested"
)]

pub mod items;
pub mod records;

use phalanx::shm::{Handle, heap, point, tree};
use phalanx::wait::{self, How, Stopped};
use std::io::Write;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ALONE: &str = "PHALANX_TEST_ALONE";
/// What should happen at once has so long to do so.
pub const SOON: Duration = Duration::from_secs(20);

/// Runs `body` in a process of its own, which has `time` for it.
pub fn alone_for(name: &str, time: Duration, body: impl FnOnce()) {
    if std::env::var(ALONE).is_ok_and(|alone| alone == name) {
        die_with_parent();
        tree::join_tree().unwrap();
        wait::shared::attend();
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    // The harness itself does nothing but wait for this one test then.
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    let mut child = command.env(ALONE, name).stdout(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + time;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("`{name}` still runs after {time:?}");
            }
        }
    };
    assert!(status.success(), "`{name}` alone: {status}");
}

/// As [`alone_for`], with a time that is enough for most.
pub fn alone(name: &str, body: impl FnOnce()) {
    alone_for(name, Duration::from_secs(60), body);
}

fn die_with_parent() {
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// A wait that is long enough for anything that will ever happen: what waits for it gives up before.
pub fn patiently() -> How<'static> {
    How::at_most(3 * SOON)
}

/// Looks again and again until `done`, at most for [`SOON`].
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}; {}", state());
        // Only to leave the processor to those waited for.
        thread::sleep(Duration::from_micros(200));
    }
}

/// What may say why something does not happen.
fn state() -> String {
    let lives: Vec<tree::Life> = tree::living().into_iter().map(tree::life).collect();
    let blocks: Vec<String> = heap::survey()
        .into_iter()
        .take(40)
        .map(|(offset, owner, size)| format!("{offset:#x} of {owner:#x}: {size}"))
        .collect();
    format!(
        "{:?} in use, {blocks:#?}, {lives:?}, {:?}",
        heap::usage(),
        wait::shared::sleepers()
    )
}

/// `len` words, zero at first, in plain memory that children share; nothing of what is tested takes part.
pub fn words(len: usize) -> &'static [AtomicU64] {
    // SAFETY: a new mapping, never undone, of which only atomics are made.
    unsafe {
        let base = libc::mmap(
            std::ptr::null_mut(),
            len * 8,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert!(base != libc::MAP_FAILED);
        std::slice::from_raw_parts(base.cast(), len)
    }
}

/// Closed until somebody opens it, in any process.
#[derive(Clone, Copy)]
pub struct Gate(&'static AtomicU64);

impl Gate {
    pub fn new() -> Self {
        Self(&words(1)[0])
    }
    pub fn open(self) {
        self.0.store(1, Ordering::Release);
    }
    pub fn is_open(self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }
    pub fn pass(self) {
        until("a gate", || self.is_open());
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Exited(i32),
    Killed(i32),
}

/// A child process.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    /// Its number in the tree.
    pub number: u32,
    ended: bool,
}

/// Forks; the child runs `body` and ends. A panic in it is told by its exit status.
pub fn fork(body: impl FnOnce()) -> Child {
    let number = words(1);
    // SAFETY: the threads that do not survive hold no lock that the child needs, and the child ends by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "no fork");
    if pid == 0 {
        die_with_parent();
        number[0].store(u64::from(tree::number()), Ordering::Release);
        let code = if catch_unwind(AssertUnwindSafe(body)).is_ok() {
            0
        } else {
            101
        };
        let _ = std::io::stderr().flush();
        // SAFETY: ends the child without running what belongs to its parent.
        unsafe { libc::_exit(code) };
    }
    until("a child enters", || number[0].load(Ordering::Acquire) != 0);
    Child {
        pid,
        number: number[0].load(Ordering::Acquire) as u32,
        ended: false,
    }
}

impl Child {
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; the child has not been reaped.
        unsafe { libc::kill(self.pid, signal) };
    }

    /// Kills it, as nothing can be caught.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Has it ended? Not yet reaped then: to all others it is a zombie.
    pub fn has_ended(&self) -> bool {
        // SAFETY: plain system calls and a struct of plain numbers.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            libc::waitid(libc::P_PID, self.pid as u32, &raw mut info, options) == 0 && info.si_pid() != 0
        }
    }

    /// Is it stopped by a signal?
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('T'))
    }

    /// Waits for its end, reaps it, and says so to the tree.
    pub fn ending(&mut self) -> Ending {
        let (pid, number) = (self.pid, self.number);
        until("a child ends", || self.has_ended());
        let mut status = 0;
        // SAFETY: a plain system call.
        let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(reaped, pid);
        self.ended = true;
        tree::reaped(pid as u32, status as u32);
        let _ = number;
        if libc::WIFSIGNALED(status) {
            Ending::Killed(libc::WTERMSIG(status))
        } else {
            Ending::Exited(libc::WEXITSTATUS(status))
        }
    }

    /// It must end well.
    pub fn join(mut self) {
        assert_eq!(self.ending(), Ending::Exited(0), "child {}", self.pid);
    }

    /// It must have been killed; it is buried then.
    pub fn perish(mut self) {
        assert_eq!(self.ending(), Ending::Killed(libc::SIGKILL));
        buried(self.number);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
        }
    }
}

/// Waits until process `number` is buried and everything it had is taken back.
pub fn buried(number: u32) {
    until("a burial", || {
        tree::is_dead(number);
        !tree::living().contains(&number)
    });
}

/// Runs `deed` in a child that is killed at the `nth` visit of `point`. `false`: it never came there.
pub fn killed_at(point: &str, nth: u32, deed: impl FnOnce()) -> bool {
    let mut child = fork(|| {
        assert!(point::arm(point, nth), "no point {point}");
        deed();
    });
    let ending = child.ending();
    buried(child.number);
    assert!(
        matches!(ending, Ending::Killed(libc::SIGKILL) | Ending::Exited(0)),
        "{point} {nth}: {ending:?}"
    );
    ending != Ending::Exited(0)
}

/// Something in the arena, made in place.
#[derive(Debug)]
pub struct Placed<T: 'static> {
    pub handle: Handle,
    there: &'static T,
}

impl<T> Placed<T> {
    pub fn new(value: T) -> Self {
        let handle = Handle::new(0x54, size_of::<T>()).unwrap();
        let at = handle.data().cast::<T>();
        assert!(at.is_aligned());
        // SAFETY: the object is ours alone, long enough and aligned; the handle beside it keeps it alive.
        let there = unsafe {
            at.write(value);
            &*at
        };
        Self { handle, there }
    }

    /// Waits until `n` threads, of any process, are in its queue.
    pub fn until_waiting(&self, n: usize) {
        until("others sleep", || {
            wait::shared::count(wait::key_of(self.there)) >= n
        });
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.there
    }
}

/// Runs all `parts` at one time in threads of this process.
pub fn in_threads(parts: &[&(dyn Fn() + Sync)]) {
    thread::scope(|scope| {
        let threads: Vec<_> = parts.iter().map(|part| scope.spawn(part)).collect();
        // One by one: the thread sanitizer sees a join, and does not see the end of a scope.
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Adds one, in a way that loses some if two do so at one time.
pub fn add(plain: &AtomicU64) {
    plain.store(plain.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Bytes in use in the arena.
pub fn used() -> u64 {
    heap::usage().0
}

/// Numbers that look random, the same in each run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    pub fn below(&mut self, end: u64) -> u64 {
        (self.word() >> 16) % end
    }
}

/// Takes the lock; if its owner has died, says that all is well. How often it did so.
pub fn lock_or_recover(lock: impl Fn() -> Result<bool, Stopped>, recover: impl Fn() -> bool) -> u32 {
    let mut recovered = 0;
    loop {
        match lock() {
            Ok(true) => return recovered,
            Err(Stopped::OwnerDied(_)) => recovered += u32::from(recover()),
            ended => panic!("{ended:?}"),
        }
    }
}
