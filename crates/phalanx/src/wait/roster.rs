//! Who is there: one record a thread, from its first step through the door until its end.

use super::lot::door;
use super::ticket::Node;
use super::{OWNER, Reason};
use crate::prim::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::sys;
use std::ptr;

/// What the door knows of one thread. Records are used again, never freed, so a stale reference reads another
/// thread's facts at worst; `id` and `seq` tell.
pub(crate) struct Record {
    /// Never used twice (before 2^30 threads have come and gone).
    pub(super) id: AtomicU32,
    pub(super) ident: AtomicU64,
    pub(super) os_id: AtomicU32,
    pub(super) daemon: AtomicBool,
    /// The innermost wait of this thread, null while it is awake.
    pub(super) waiting: AtomicPtr<Node>,
    /// Grows at the begin and at the end of each wait and after a signal, so equal values mean one unbroken sleep.
    pub(super) seq: AtomicU64,
    /// How long spinning has paid off lately, in nanoseconds. Only its own thread uses it.
    pub(super) patience: AtomicU32,
    /// The same for waits for something shared.
    #[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
    pub(super) shared_patience: AtomicU32,
    /// How many waits have come to spin. Only its own thread uses it.
    pub(super) tries: AtomicU32,
    /// The sleep, by its `seq`, that has been reported already.
    pub(super) told: AtomicU64,
}

pub(super) struct Roster {
    live: Vec<&'static Record>,
    free: Vec<&'static Record>,
    last_id: u32,
}

impl Roster {
    pub(super) const fn new() -> Self {
        Self {
            live: Vec::new(),
            free: Vec::new(),
            last_id: 0,
        }
    }

    #[cfg(not(loom))]
    pub(super) fn find(&self, thread: u32) -> Option<&'static Record> {
        self.live
            .iter()
            .find(|record| record.id.load(Ordering::Relaxed) == thread)
            .copied()
    }
}

/// A sleeping thread, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sleeper {
    /// The number of the thread.
    pub thread: u32,
    /// Its identity in Python.
    pub ident: u64,
    /// Its number in the kernel.
    pub os_id: u32,
    /// Does the program end without waiting for it?
    pub daemon: bool,
    /// What kind of wait.
    pub reason: &'static Reason,
    /// The caller's name for the thing waited for.
    pub subject: usize,
    /// The key of the wait.
    pub key: usize,
    /// The thread that owns it, if one is known, and whether only that one may give it back.
    pub owner: Option<Owner>,
    /// Has it a time limit?
    pub timed: bool,
    /// One unbroken sleep has one number.
    pub seq: u64,
}

/// The owner of a thing waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The number of the thread.
    pub thread: u32,
    /// Only this thread may give it back.
    pub scoped: bool,
}

/// The facts about one live thread, awake or asleep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The number of the thread.
    pub thread: u32,
    /// Its identity in Python.
    pub ident: u64,
    /// Its number in the kernel.
    pub os_id: u32,
    /// Its wait, `None` while it is awake.
    pub asleep: Option<Sleeper>,
}

#[cfg(not(loom))]
thread_local! {
    static ME: std::cell::Cell<Option<&'static Record>> = const { std::cell::Cell::new(None) };
    static LEAVE: Leave = const { Leave };
}
#[cfg(loom)]
loom::thread_local! {
    static ME: std::cell::Cell<Option<&'static Record>> = std::cell::Cell::new(None);
}

/// Ends the record when the thread ends.
#[cfg(not(loom))]
struct Leave;

#[cfg(not(loom))]
impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(me) = ME.with(|cell| cell.take()) {
            door().roster.with(|roster| {
                roster.live.retain(|other| !ptr::eq(*other, me));
                me.id.store(0, Ordering::Relaxed);
                roster.free.push(me);
            });
        }
    }
}

#[inline]
pub(crate) fn me() -> &'static Record {
    match ME.with(|cell| cell.get()) {
        Some(me) => me,
        None => enter(),
    }
}

/// The number of the calling thread, never 0.
#[inline]
pub fn current() -> u32 {
    me().id.load(Ordering::Relaxed)
}

/// Makes the calling thread known before it first waits.
pub fn register(daemon: bool) -> u32 {
    set_daemon(daemon);
    current()
}

/// Says that the program does not wait for the calling thread at its end.
pub fn set_daemon(daemon: bool) {
    me().daemon.store(daemon, Ordering::Relaxed);
}

#[cold]
fn enter() -> &'static Record {
    #[cfg(not(loom))]
    install_fork_handlers();
    // During the last moments of a thread its end can no longer be noticed. It stays listed as awake for ever then:
    // a deadlock overlooked, and no false one.
    #[cfg(not(loom))]
    let _ = LEAVE.try_with(|_| ());
    let me = door().roster.with(|roster| {
        let me = roster.free.pop().unwrap_or_else(|| {
            Box::leak(Box::new(Record {
                id: AtomicU32::new(0),
                ident: AtomicU64::new(0),
                os_id: AtomicU32::new(0),
                daemon: AtomicBool::new(false),
                waiting: AtomicPtr::new(ptr::null_mut()),
                seq: AtomicU64::new(0),
                patience: AtomicU32::new(0),
                #[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
                shared_patience: AtomicU32::new(0),
                tries: AtomicU32::new(0),
                told: AtomicU64::new(0),
            }))
        });
        roster.last_id = roster.last_id % (OWNER - 1) + 1;
        me.id.store(roster.last_id, Ordering::Relaxed);
        me.ident.store(sys::thread_ident(), Ordering::Relaxed);
        me.os_id.store(sys::os_thread_id(), Ordering::Relaxed);
        me.daemon.store(false, Ordering::Relaxed);
        me.waiting.store(ptr::null_mut(), Ordering::Relaxed);
        roster.live.push(me);
        me
    });
    ME.with(|cell| cell.set(Some(me)));
    me
}

/// The identity in Python of thread `id`, if it lives. It has ended otherwise, or did not survive `fork`.
pub fn facts(id: u32) -> Option<Facts> {
    live_threads().into_iter().find(|facts| facts.thread == id)
}

/// All live threads that ever came through the door.
pub fn live_threads() -> Vec<Facts> {
    let live = door().roster.with(|roster| roster.live.clone());
    live.into_iter()
        .map(look_at)
        .filter(|facts| facts.thread != 0)
        .collect()
}

fn look_at(record: &'static Record) -> Facts {
    let thread = record.id.load(Ordering::Relaxed);
    Facts {
        thread,
        ident: record.ident.load(Ordering::Relaxed),
        os_id: record.os_id.load(Ordering::Relaxed),
        asleep: Node::describe(record, thread),
    }
}

/// Did thread `id` exist in the parent but not survive the `fork` that made this process?
pub fn lost_in_fork(id: u32) -> bool {
    id <= door().forked_at.load(Ordering::Relaxed) && facts(id).is_none()
}

/// Wakes one thread that sleeps without looking for deadlocks, so that it looks.
pub(super) fn poke_one() {
    door().roster.with(|roster| {
        let mut nodes = roster.live.iter().filter_map(|record| Node::of(record));
        nodes.any(Node::poke);
    });
}

#[cfg(not(loom))]
fn install_fork_handlers() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    extern "C" fn before() {
        door().hold();
    }
    extern "C" fn parent() {
        door().let_go();
    }
    extern "C" fn child() {
        crate::prim::forget_parent();
        door().let_go();
        let me = ME.with(|cell| cell.get());
        let last_id = door().roster.with(|roster| roster.last_id);
        door().forked_at.store(last_id, Ordering::Relaxed);
        door().roster.with(|roster| {
            roster
                .live
                .retain(|other| me.is_some_and(|me| ptr::eq(*other, me)))
        });
        if let Some(me) = me {
            me.os_id.store(sys::os_thread_id(), Ordering::Relaxed);
        }
        door().keep_only(me.map_or(0, |me| me.id.load(Ordering::Relaxed)));
        if let Some(me) = me {
            Node::finish_orphans(me);
        }
        door().sentinel.store(0, Ordering::Relaxed);
        door().spinners.store(0, Ordering::Relaxed);
    }
    ONCE.call_once(|| sys::at_fork(before, parent, child));
}
