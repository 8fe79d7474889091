//! The tree of processes: who lives, who has ended and how, and what each may hold. By real forks.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
#![allow(
    clippy::disallowed_methods,
    reason = "threads that the core does not start, and a clock round all of them"
)]

mod processes;

use phalanx::prim::Guarded;
use phalanx::shm::{self, Handle, SEATS, tree};
use processes::{Ending, Gate, alone, alone_for, buried, fork, until, used, words};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

const KIND: u32 = 77;

#[test]
fn a_parent_learns_how_its_child_ended() {
    alone("a_parent_learns_how_its_child_ended", || {
        let go = Gate::new();
        let mut child = fork(|| {
            tree::set_name("worker");
            go.pass();
            std::process::abort();
        });
        until("a name", || tree::life(child.number).name == "worker");
        assert!(!tree::is_dead(child.number) && !tree::life(child.number).dead);
        assert_eq!(tree::find(child.pid as u32), Some(child.number));
        child.signal(libc::SIGSTOP);
        assert!(!tree::is_dead(child.number), "stopped is alive");
        child.signal(libc::SIGCONT);
        go.open();
        until("its end", || child.has_ended());
        // Not reaped, and its status is known from the zombie.
        assert!(tree::is_dead(child.number));
        let life = tree::life(child.number);
        assert_eq!((life.dead, life.name.as_str()), (true, "worker"));
        assert_eq!(
            life.status.map(|status| status & 0x7F),
            Some(libc::SIGABRT as u32)
        );
        assert_eq!(child.ending(), Ending::Killed(libc::SIGABRT));
        buried(child.number);
    });
}

/// Without a single descriptor left nothing can be read of a process; it lives all the same.
#[test]
fn a_process_does_not_die_of_too_few_descriptors() {
    alone("a_process_does_not_die_of_too_few_descriptors", || {
        let go = Gate::new();
        let child = fork(|| go.pass());
        let most_descriptors = |most| {
            let limit = libc::rlimit {
                rlim_cur: most,
                rlim_max: 4096,
            };
            // SAFETY: a plain system call.
            let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
            assert_eq!(set, 0);
        };
        most_descriptors(0);
        assert!(std::fs::File::open("/proc/self/stat").is_err());
        assert!(!tree::is_dead(child.number));
        assert!(!tree::life(child.number).dead);
        let born_blind = fork(|| go.pass());
        assert!(!tree::is_dead(born_blind.number));
        most_descriptors(1024);
        assert!(!tree::is_dead(born_blind.number));
        go.open();
        let numbers = [child.number, born_blind.number];
        child.join();
        born_blind.join();
        numbers.into_iter().for_each(buried);
    });
}

/// The main thread of a process may end before the others: the kernel calls the process a zombie then.
#[test]
fn a_process_without_its_main_thread_lives() {
    alone("a_process_without_its_main_thread_lives", || {
        let (begun, go, ended) = (Gate::new(), Gate::new(), Gate::new());
        let child = fork(|| {
            // Nothing waits for it: the main thread ends alone.
            std::mem::forget(thread::spawn(move || {
                begun.open();
                go.pass();
                ended.open();
                // SAFETY: ends the process.
                unsafe { libc::_exit(0) };
            }));
            begun.pass();
            // SAFETY: the frames below own nothing that matters to anybody.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
        begun.pass();
        let stat = format!("/proc/{}/stat", child.pid);
        until("a zombie main thread", || {
            std::fs::read_to_string(&stat).unwrap().contains(") Z ")
        });
        assert!(!tree::is_dead(child.number));
        go.open();
        let number = child.number;
        child.join();
        assert!(ended.is_open());
        buried(number);
    });
}

#[test]
fn seats_and_numbers_are_used_again() {
    alone_for(
        "seats_and_numbers_are_used_again",
        Duration::from_secs(120),
        || {
            let before = used();
            let mut numbers = std::collections::BTreeSet::new();
            for _ in 0..SEATS / 4 {
                let child = fork(|| {});
                assert!(numbers.insert(child.number), "no number comes twice so soon");
                child.join();
            }
            for &number in &numbers {
                buried(number);
            }
            assert_eq!(tree::living(), [tree::number()]);
            assert_eq!(used(), before);
        },
    );
}

#[test]
fn a_fork_that_nobody_tells_of() {
    alone("a_fork_that_nobody_tells_of", || {
        let before = used();
        let handle = Handle::new(KIND, 100).unwrap();
        let seen = words(1);
        // SAFETY: one thread; the child ends by _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            seen[0].store(u64::from(tree::number()), Ordering::Release);
            let held = handle.holders().contains(&tree::number());
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!held)) };
        }
        let mut status = 0;
        // SAFETY: a plain system call.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(status, 0, "it holds what it found");
        let number = seen[0].load(Ordering::Acquire) as u32;
        assert_ne!(number, tree::number());
        tree::reaped(pid as u32, status as u32);
        buried(number);
        assert_eq!(handle.holders(), [tree::number()]);

        let child = fork(|| ());
        child.join();
        drop(handle);
        until("all to be given back", || {
            tree::patrol();
            tree::living() == [tree::number()] && used() == before
        });
    });
}

/// What each child passes before anything of ours runs in it, to die there.
static STILLBORN: Guarded<Option<Gate>> = Guarded::new(None);

/// Forks a child that waits, and dies before it enters. Returns its pid and its number.
fn stillborn() -> (u32, u32) {
    let others = tree::living();
    let go = Gate::new();
    STILLBORN.with(|gate| *gate = Some(go));
    // SAFETY: the child waits and dies in the first of the fork handlers.
    let pid = unsafe { libc::fork() };
    let mut living = tree::living().into_iter();
    let number = living.find(|number| !others.contains(number)).unwrap();
    assert!(!tree::is_dead(number), "it may come");
    go.open();
    // SAFETY: a plain system call and a struct of plain numbers; the child stays a zombie.
    let waited = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOWAIT;
        libc::waitid(libc::P_PID, pid as u32, &raw mut info, options)
    };
    assert_eq!(waited, 0);
    (pid as u32, number)
}

/// A child that dies before it has entered is not waited for, once its parent has told its pid.
#[test]
fn a_child_that_never_enters() {
    extern "C" fn child() {
        if let Some(go) = STILLBORN.with(|gate| *gate) {
            go.pass();
            phalanx::sys::die();
        }
    }
    // SAFETY: a plain function. In a child the handlers run in the order in which they came: this one is the first.
    assert_eq!(unsafe { libc::pthread_atfork(None, None, Some(child)) }, 0);
    alone("a_child_that_never_enters", || {
        let before = used();
        let handle = Handle::new(KIND, 100).unwrap();
        let name = handle.name();

        let (pid, number) = stillborn();
        assert_eq!(handle.holders(), [tree::number(), number]);
        assert!(!tree::is_dead(number), "nobody knows");
        tree::forked(pid);
        assert!(tree::is_dead(number));
        buried(number);
        assert_eq!(handle.holders(), [tree::number()]);

        let (_, number) = stillborn();
        tree::forked(0);
        assert!(tree::is_dead(number), "a fork that failed");

        // And what nobody tells is given up after ten seconds.
        let (_, number) = stillborn();
        drop(handle);
        assert!(name.is_held());
        buried(number);
        assert!(!name.is_held() && used() == before);
    });
}

/// Neither its pid nor its start time changes when a process becomes another program.
#[test]
fn a_process_that_becomes_another_program() {
    alone("a_process_that_becomes_another_program", || {
        let handle = Handle::new(KIND, 100).unwrap();
        let go = Gate::new();
        let child = fork(|| {
            go.pass();
            let arguments = [c"sleep".as_ptr(), c"600".as_ptr(), std::ptr::null()];
            // SAFETY: the strings live as long as this program.
            unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
        });
        assert!(!tree::is_dead(child.number));
        assert_eq!(handle.holders(), [tree::number(), child.number]);
        go.open();
        buried(child.number);
        assert!(!child.has_ended());
        assert_eq!(handle.holders(), [tree::number()]);
    });
}

/// What is pickled for a child is held by it before it comes, and let go if it does not.
#[test]
fn a_child_holds_what_it_was_given() {
    alone("a_child_holds_what_it_was_given", || {
        let before = used();
        let pack = |number| {
            let handle = Handle::new(KIND, 100).unwrap();
            assert_eq!(shm::pack_for(number), 0);
            let packed = handle.pack();
            assert_eq!(shm::pack_for(0), number);
            (handle.name(), packed)
        };
        let failed = tree::expect();
        let (name, _) = pack(failed);
        assert!(name.is_held() && !tree::is_dead(failed), "as long as we live");
        tree::miscarried(failed);
        assert!(!name.is_held() && used() == before);

        // The child enters under the number that its own fork was given first, as one of a fork server does.
        for ends_well in [true, false] {
            let number = tree::expect();
            let (name, (tree_id, packed)) = pack(number);
            let go = Gate::new();
            let child = fork(|| {
                go.pass();
                if !ends_well {
                    phalanx::sys::die();
                }
                let old = tree::number();
                assert!(tree::enter_as(number));
                assert_eq!((tree::number(), tree::number_of(tree::me())), (number, number));
                buried(old);
                let handle = Handle::unpack(tree_id, packed, KIND).unwrap();
                assert_eq!(handle.holders(), [number]);
                drop(handle);
                // It comes a second time, and the first one is gone by then.
                let handle = Handle::unpack(tree_id, packed, KIND).unwrap();
                shm::begin();
                assert_eq!(handle.holders(), [number]);
                drop(handle);
                assert!(!name.is_held());
            });
            tree::started(number, child.pid as u32);
            tree::miscarried(number);
            assert_eq!(shm::holders_of(name), [number], "it has a pid");
            go.open();
            if ends_well {
                child.join();
            } else {
                child.perish();
            }
            buried(number);
            until("all to be given back", || !name.is_held() && used() == before);
        }
    });
}

/// A parent that dies before it has launched the child that it expects.
#[test]
fn nobody_expects_the_child_of_the_dead() {
    alone("nobody_expects_the_child_of_the_dead", || {
        let handle = Handle::new(KIND, 100).unwrap();
        let seen = words(1);
        let parent = fork(|| {
            let number = tree::expect();
            shm::pack_for(number);
            handle.pack();
            seen[0].store(u64::from(number), Ordering::Release);
            phalanx::sys::die();
        });
        let number = loop {
            match seen[0].load(Ordering::Acquire) {
                0 => thread::yield_now(),
                number => break number as u32,
            }
        };
        parent.perish();
        buried(number);
        assert_eq!(handle.holders(), [tree::number()]);
    });
}

#[test]
fn threads_have_identities() {
    alone("threads_have_identities", || {
        let mine = tree::me();
        assert_eq!(tree::number_of(mine), tree::number());
        let mut all: Vec<u32> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let me = tree::me();
                        assert_eq!(me, tree::me());
                        me
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        all.push(mine);
        all.iter()
            .for_each(|&thread| assert!(thread != 0 && thread < 1 << 30));
        let other = words(1);
        fork(|| other[0].store(u64::from(tree::me()), Ordering::Release)).join();
        let other = other[0].load(Ordering::Acquire) as u32;
        assert_ne!(tree::number_of(other), tree::number());
        assert!(!all.contains(&other));
    });
}
