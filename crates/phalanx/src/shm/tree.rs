//! The processes of the tree: who enters, who lives, who is buried.

use super::arena::{Arena, Refused, arena, arena_or_make};
use super::layout::{KNOWN, NUMBERS, Process, SEATS, THREAD_BITS};
use super::point::{Point, reach};
use super::{handle, heap};
use crate::prim::{AtomicBool, AtomicU32, Guarded, Ordering};
use crate::sys::{self, Vital};
use std::cell::Cell;

pub(super) const FREE: u32 = 0;
pub(super) const UNBORN: u32 = 1;
pub(super) const ALIVE: u32 = 2;
/// With the number of the undertaker above [`TAKER`]; 0 there: nobody has begun.
pub(super) const DYING: u32 = 3;
pub(super) const DEAD: u32 = 4;
const TAKER: u32 = 16;

/// Between two patrols, in nanoseconds.
pub const PATROL: u64 = 100_000_000;
/// A child that nobody has seen this long after the fork was never born.
const PREGNANCY: u64 = 10_000_000_000;
/// In place of the time: the child is expected as long as its parent lives.
const EXPECTED: u64 = 0;
/// Threads of one process that can have an identity at one time.
const THREADS: u32 = (1 << THREAD_BITS) - 1;

/// The number of this process; 0 before it has entered and in a child that has not yet.
static NUMBER: AtomicU32 = AtomicU32::new(0);
static HANDLERS: AtomicBool = AtomicBool::new(false);
static THREAD_NUMBERS: Guarded<Threads> = Guarded::new(Threads {
    used: [0; (THREADS as usize).div_ceil(64)],
    last: 0,
});

struct Threads {
    used: [u64; (THREADS as usize).div_ceil(64)],
    last: u32,
}

impl Threads {
    /// A number from 1 that no live thread has, not the one given back last.
    fn take(&mut self) -> u32 {
        for _ in 0..THREADS {
            self.last = self.last % (THREADS - 1) + 1;
            let (at, bit) = (self.last as usize / 64, 1 << (self.last % 64));
            if self.used[at] & bit == 0 {
                self.used[at] |= bit;
                return self.last;
            }
        }
        // More threads at one time than numbers: the last one is shared. Owner words of two threads may agree then.
        THREADS
    }

    fn give_back(&mut self, thread: u32) {
        self.used[thread as usize / 64] &= !(1 << (thread % 64));
    }
}

thread_local! {
    static ME: Cell<u32> = const { Cell::new(0) };
    /// The number that waits for the child that this thread is about to fork, or that was told to this new process.
    static CONCEIVED: Cell<u32> = const { Cell::new(0) };
    /// The number of the child that this thread forked last.
    static DELIVERED: Cell<u32> = const { Cell::new(0) };
    static LEAVE: Leave = const { Leave };
}

struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        let me = ME.replace(0);
        if me != 0 && number_of(me) == NUMBER.load(Ordering::Relaxed) {
            THREAD_NUMBERS.with(|threads| threads.give_back(me & THREADS));
        }
    }
}

/// The identity of the calling thread in the tree: 30 bits, never 0. There must be an arena.
#[inline]
pub fn me() -> u32 {
    let me = ME.get();
    if me >> THREAD_BITS == NUMBER.load(Ordering::Relaxed) && me != 0 {
        me
    } else {
        begin()
    }
}

#[cold]
fn begin() -> u32 {
    let number = number();
    let _ = LEAVE.try_with(|_| ());
    let me = number << THREAD_BITS | THREAD_NUMBERS.with(Threads::take);
    ME.set(me);
    me
}

/// The number of this process in the tree. There must be an arena.
#[inline]
pub fn number() -> u32 {
    match NUMBER.load(Ordering::Relaxed) {
        0 => enter(),
        number => number,
    }
}

/// The process of a thread's identity.
#[inline]
pub fn number_of(thread: u32) -> u32 {
    thread >> THREAD_BITS
}

/// An identity that stands for process `number` as a whole.
#[inline]
pub fn thread_of(number: u32) -> u32 {
    number << THREAD_BITS
}

/// Makes sure that there is an arena and that this process is known in it.
///
/// # Errors
/// See [`arena_or_make`].
pub fn join_tree() -> Result<(), Refused> {
    arena_or_make()?;
    number();
    Ok(())
}

#[cold]
fn enter() -> u32 {
    install_fork_handlers();
    let arena = arena().expect("a process enters an arena that it has");
    ENTERING.with(|()| {
        let known = NUMBER.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let conceived = CONCEIVED.replace(0);
        let number = if conceived != 0 && claim(arena, conceived) {
            conceived
        } else {
            loop {
                let number = allot(arena, 0, sys::now());
                handle::hold_all(arena, arena.process(number).seat.load(Ordering::Relaxed));
                if number == 1 {
                    name_entry(arena.process(number), "MainProcess");
                }
                // Not if we were stopped for so long that somebody has given us up.
                if claim(arena, number) {
                    break number;
                }
            }
        };
        NUMBER.store(number, Ordering::Relaxed);
        number
    })
}

static ENTERING: Guarded<()> = Guarded::new(());

fn note_birth(entry: &Process) {
    let pid = sys::pid();
    entry.pid.store(pid, Ordering::Relaxed);
    // Its start time is noted by whoever looks first: reading it here would cost each child of a fork its time.
    entry.started.store(0, Ordering::Relaxed);
    entry.image.store(sys::image(), Ordering::Relaxed);
}

/// From here on the entry is this process, unless it was given up meanwhile.
fn claim(arena: &Arena, number: u32) -> bool {
    let entry = arena.process(number);
    note_birth(entry);
    entry
        .state
        .compare_exchange(UNBORN, ALIVE, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
}

/// A free entry with a free seat, UNBORN until the caller says otherwise.
fn allot(arena: &Arena, parent: u32, since: u64) -> u32 {
    let header = arena.header();
    for _ in 0..NUMBERS {
        let number = header.last_number.fetch_add(1, Ordering::Relaxed).wrapping_add(1) % NUMBERS as u32;
        let entry = arena.process(number);
        let state = entry.state.load(Ordering::Acquire);
        let usable = number != 0 && matches!(state, FREE | DEAD);
        if !usable
            || entry
                .state
                .compare_exchange(state, UNBORN, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
        {
            continue;
        }
        entry.since.store(since, Ordering::Relaxed);
        entry.pid.store(0, Ordering::Relaxed);
        entry.started.store(0, Ordering::Relaxed);
        entry.image.store(0, Ordering::Relaxed);
        entry.parent.store(parent, Ordering::Relaxed);
        entry.status.store(0, Ordering::Relaxed);
        entry.activity.store(1, Ordering::Relaxed);
        entry.quiet.store(0, Ordering::Relaxed);
        entry
            .name
            .iter()
            .for_each(|word| word.store(0, Ordering::Relaxed));
        let seat = header.seats.iter().position(|seat| {
            seat.load(Ordering::Relaxed) == 0
                && seat
                    .compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        });
        // Without a seat it lives all the same: it holds nothing, as far as the others can see.
        entry
            .seat
            .store(seat.map_or(SEATS as u32, |seat| seat as u32), Ordering::Release);
        return number;
    }
    0
}

/// The child that this thread forked last is the process `pid`: its death is seen from now on, entered or not. 0: there
/// was no fork after all.
pub fn forked(pid: u32) {
    match (DELIVERED.replace(0), pid) {
        (0, _) => {}
        (number, 0) => miscarried(number),
        (number, pid) => started(number, pid),
    }
}

/// A number for a child that does not begin as a copy of this process: until it has a pid, it is expected as long as this
/// process lives. One of [`started`] and [`miscarried`] must follow. There must be an arena.
pub fn expect() -> u32 {
    let arena = arena().expect("whoever expects a child has an arena");
    allot(arena, number(), EXPECTED)
}

/// The child that has `number` is the process `pid`.
pub fn started(number: u32, pid: u32) {
    if let Some(arena) = arena().filter(|_| number != 0) {
        let word = &arena.process(number).pid;
        let _ = word.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// The child that was to have `number` does not come. A no-op if it has a pid: then it comes, or is seen to die.
pub fn miscarried(number: u32) {
    if let Some(arena) = arena()
        && number != 0
        && arena.process(number).pid.load(Ordering::Acquire) == 0
    {
        bury(arena, number, UNBORN);
    }
}

/// This process is the one that its parent has given `number` by [`expect`]. `false`: it was given up before; the process
/// is known under another number then. There must be an arena.
pub fn enter_as(number: u32) -> bool {
    let arena = arena().expect("a process enters an arena that it has");
    let before = NUMBER.load(Ordering::Relaxed);
    if before == 0 {
        CONCEIVED.set(number);
        return self::number() == number;
    }
    // A child of a fork server, which has been born as that one's. It has both numbers for a moment.
    if before == number || !claim(arena, number) {
        return before == number;
    }
    handle::hold_all(arena, arena.process(number).seat.load(Ordering::Relaxed));
    NUMBER.store(number, Ordering::Relaxed);
    bury(arena, before, ALIVE);
    true
}

/// Names this process for reports; 48 bytes of UTF-8 at the most are kept.
pub fn set_name(name: &str) {
    if let Some(arena) = arena() {
        name_entry(arena.process(number()), name);
    }
}

fn name_entry(entry: &Process, name: &str) {
    let mut bytes = [0; 48];
    let mut end = name.len().min(bytes.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
    for (word, chunk) in entry.name.iter().zip(bytes.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        word.store(u64::from_le_bytes(eight), Ordering::Relaxed);
    }
}

/// What is known of a process, alive or dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Its number in the tree.
    pub number: u32,
    /// Its number in the system.
    pub pid: u32,
    /// What it calls itself, empty if it has not said.
    pub name: String,
    /// Is it dead?
    pub dead: bool,
    /// Its wait status, once it is dead and somebody has seen it.
    pub status: Option<u32>,
}

/// The life of process `number`.
pub fn life(number: u32) -> Life {
    let Some(arena) = arena() else {
        return Life {
            number,
            pid: 0,
            name: String::new(),
            dead: true,
            status: None,
        };
    };
    let entry = arena.process(number);
    let bytes: Vec<u8> = entry
        .name
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
        .take_while(|&byte| byte != 0)
        .collect();
    let status = entry.status.load(Ordering::Acquire);
    Life {
        number,
        pid: entry.pid.load(Ordering::Relaxed),
        name: String::from_utf8_lossy(&bytes).into_owned(),
        dead: is_dead_state(entry.state.load(Ordering::Acquire)),
        status: (status & KNOWN != 0).then_some(status & !KNOWN),
    }
}

/// Is process `number` dead? Asks the kernel, and buries it if so.
pub fn is_dead(number: u32) -> bool {
    let Some(arena) = arena() else { return false };
    if number == NUMBER.load(Ordering::Relaxed) {
        return false;
    }
    look_after(arena, number)
}

/// Is process `number` dead, as far as somebody has noticed? Two loads.
#[inline]
pub fn is_known_dead(number: u32) -> bool {
    arena().is_some_and(|arena| is_dead_state(arena.process(number).state.load(Ordering::Acquire)))
}

#[inline]
fn is_dead_state(state: u32) -> bool {
    !matches!(state, UNBORN | ALIVE)
}

fn look_after(arena: &Arena, number: u32) -> bool {
    let entry = arena.process(number);
    match entry.state.load(Ordering::Acquire) {
        FREE | DEAD => true,
        UNBORN if entry.pid.load(Ordering::Acquire) == 0 => {
            let given_up = match entry.since.load(Ordering::Relaxed) {
                EXPECTED => is_gone(arena, entry.parent.load(Ordering::Relaxed)),
                since => sys::now().saturating_sub(since) > PREGNANCY,
            };
            given_up && bury(arena, number, UNBORN)
        }
        state @ (UNBORN | ALIVE) => {
            let (pid, started) = (
                entry.pid.load(Ordering::Relaxed),
                entry.started.load(Ordering::Relaxed),
            );
            if started == 0
                && let Some(now) = sys::start_time(pid)
            {
                let _ = entry
                    .started
                    .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            }
            match sys::vital(pid, started, entry.image.load(Ordering::Relaxed)) {
                Vital::Alive => false,
                Vital::Zombie(status) => {
                    note_status(entry, status);
                    bury(arena, number, state)
                }
                Vital::Gone => bury(arena, number, state),
            }
        }
        dying => {
            // Somebody buries it. If that one died over it, we do.
            let undertaker = dying >> TAKER;
            if undertaker == 0 || is_gone(arena, undertaker) {
                bury(arena, number, dying);
            }
            true
        }
    }
}

/// As [`is_dead`], without burying.
fn is_gone(arena: &Arena, number: u32) -> bool {
    let entry = arena.process(number);
    number != NUMBER.load(Ordering::Relaxed)
        && match entry.state.load(Ordering::Acquire) {
            ALIVE => {
                sys::vital(
                    entry.pid.load(Ordering::Relaxed),
                    entry.started.load(Ordering::Relaxed),
                    entry.image.load(Ordering::Relaxed),
                ) != Vital::Alive
            }
            UNBORN => false,
            _ => true,
        }
}

fn note_status(entry: &Process, status: Option<u32>) {
    if let Some(status) = status {
        let _ = entry
            .status
            .compare_exchange(0, status | KNOWN, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// This process has reaped its child `pid`, which ended with the wait status `status`.
pub fn reaped(pid: u32, status: u32) {
    let Some(arena) = arena() else { return };
    for seat in &arena.header().seats {
        let number = seat.load(Ordering::Relaxed);
        let entry = arena.process(number);
        let state = entry.state.load(Ordering::Acquire);
        if number != 0
            && entry.pid.load(Ordering::Relaxed) == pid
            && matches!(state, UNBORN | ALIVE)
            && (entry.started.load(Ordering::Relaxed) == 0
                || sys::vital(pid, entry.started.load(Ordering::Relaxed), 0) != Vital::Alive)
        {
            note_status(entry, Some(status));
            bury(arena, number, state);
        }
    }
}

/// Called for each process that is buried, before its things are taken back: the door takes its waits away.
static MOURNER: std::sync::OnceLock<fn(u32)> = std::sync::OnceLock::new();

/// Plugs in what the level above has to take back from a dead process.
pub fn set_mourner(mourner: fn(u32)) {
    let _ = MOURNER.set(mourner);
}

/// Takes back what process `number` had, alone: nobody else buries it while we live. `false` if it lives after all.
fn bury(arena: &Arena, number: u32, from: u32) -> bool {
    let entry = arena.process(number);
    // Without a mourner only the death is noted; the next who has one goes on.
    let undertaker = MOURNER.get().map_or(0, |_| self::number());
    if entry
        .state
        .compare_exchange(
            from,
            DYING | undertaker << TAKER,
            Ordering::AcqRel,
            Ordering::Relaxed,
        )
        .is_err()
    {
        return is_dead_state(entry.state.load(Ordering::Acquire));
    }
    let Some(mourner) = MOURNER.get().filter(|_| undertaker != 0) else {
        return true;
    };
    reach(Point::Bury);
    mourner(number);
    reach(Point::Bury);
    heap::take_back(arena, number);
    reach(Point::Bury);
    // By the seats, not by the entry: an undertaker before us may have got as far as giving the seat to another one, and
    // whoever conceived the dead may have died before it wrote the seat down.
    let seats = &arena.header().seats;
    if let Some(seat) = seats
        .iter()
        .position(|seat| seat.load(Ordering::Acquire) == number)
    {
        handle::release_seat(arena, seat as u32);
        seats[seat].store(0, Ordering::Release);
    }
    reach(Point::Bury);
    entry.state.store(DEAD, Ordering::Release);
    true
}

/// Looks after everybody, unless somebody else has just done so.
pub fn patrol() {
    let Some(arena) = arena() else { return };
    let clock = &arena.header().patrol;
    let (last, now) = (clock.load(Ordering::Relaxed), sys::now());
    if now.saturating_sub(last) < PATROL - PATROL / 5
        || clock
            .compare_exchange(last, now, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
    {
        return;
    }
    everybody(arena).for_each(|number| {
        if number != NUMBER.load(Ordering::Relaxed) {
            look_after(arena, number);
        }
    });
}

/// The processes of the tree, by their numbers; some may have died since.
pub fn everybody(arena: &Arena) -> impl Iterator<Item = u32> {
    let seats = arena.header().seats.iter();
    seats
        .map(|seat| seat.load(Ordering::Acquire))
        .filter(|&number| number != 0)
}

/// Numbers of all processes that live, as far as is known.
pub fn living() -> Vec<u32> {
    arena().map_or_else(Vec::new, |arena| everybody(arena).collect())
}

/// Says that a thread of this process falls asleep at something shared, or wakes.
#[inline]
pub fn stir() {
    if let Some(arena) = arena() {
        arena.process(number()).activity.fetch_add(1, Ordering::AcqRel);
    }
}

/// The activity of process `number`, and whether all its threads were asleep for good at that activity.
pub fn rest(number: u32) -> (u64, bool) {
    let Some(arena) = arena() else { return (0, false) };
    let entry = arena.process(number);
    let quiet = entry.quiet.load(Ordering::Acquire);
    let activity = entry.activity.load(Ordering::Acquire);
    (
        activity,
        quiet == activity && entry.state.load(Ordering::Acquire) == ALIVE,
    )
}

/// The activity of this process, to be handed to [`certify`].
pub fn activity() -> u64 {
    rest(number()).0
}

/// Says that all threads of this process slept for good while its activity was `activity`.
pub fn certify(activity: u64) {
    if let Some(arena) = arena() {
        arena.process(number()).quiet.store(activity, Ordering::Release);
    }
}

fn install_fork_handlers() {
    extern "C" fn before() {
        if let Some(arena) = arena() {
            // The child will hold what this process holds.
            let conceived = allot(arena, number(), sys::now());
            CONCEIVED.set(conceived);
            handle::hold_all(arena, arena.process(conceived).seat.load(Ordering::Relaxed));
        }
        ENTERING.hold();
        THREAD_NUMBERS.hold();
        handle::hold_table();
    }
    extern "C" fn parent() {
        handle::let_go_table();
        THREAD_NUMBERS.let_go();
        ENTERING.let_go();
        DELIVERED.set(CONCEIVED.replace(0));
    }
    extern "C" fn child() {
        crate::prim::forget_parent();
        handle::let_go_table();
        THREAD_NUMBERS.let_go();
        ENTERING.let_go();
        THREAD_NUMBERS.with(|threads| threads.used.fill(0));
        NUMBER.store(0, Ordering::Relaxed);
        sys::loosen();
        // At once: until then only the parent may know of us.
        number();
    }
    if !HANDLERS.swap(true, Ordering::AcqRel) {
        sys::at_fork(before, parent, child);
    }
}

/// The number of the live process `pid`.
pub fn find(pid: u32) -> Option<u32> {
    let arena = arena()?;
    everybody(arena).find(|&number| arena.process(number).pid.load(Ordering::Relaxed) == pid)
}
