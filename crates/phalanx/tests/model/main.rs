//! The protocols under loom: every interleaving of a few threads, up to a number of preemptions.
//!
//! Run by `RUSTFLAGS='--cfg loom' cargo test --release -p phalanx --test model`; empty in every other build.
//!
//! How far a model looks: the smallest take every interleaving, the others those with at most so many forced switches:
//! five between two threads, [`BOUND`] between three, which is where the errors of such protocols are. A number in
//! `LOOM_MAX_PREEMPTIONS` lowers that.
//!
//! What a model cannot show: there is no clock, so a wait with a time limit looks once and is over; a signal comes as
//! soon as its thread would sleep; a spin is left out; the detector's reading of other threads' waits and `fork` are
//! left to `tests/deadlock.rs`.
#![cfg(loom)]

mod barrier;
mod condvar;
mod event;
mod latch;
mod mutex;
mod queue;
mod ring;
mod rmutex;
mod semaphore;
mod shared;
mod wait;

use loom::sync::Arc;
use loom::thread::JoinHandle;
use phalanx::wait::{Deadline, How, Interrupt};
use std::time::Duration;

/// Forced switches in a model too large for all of them.
const BOUND: usize = 3;

/// Runs `model` in every interleaving.
fn every(model: impl Fn() + Sync + Send + 'static) {
    loom::model::Builder::new().check(model);
}

/// Runs `model` in every interleaving of at most [`BOUND`] forced switches.
fn bounded(model: impl Fn() + Sync + Send + 'static) {
    bounded_by(BOUND, model);
}

fn bounded_by(bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.map_or(bound, |most| most.min(bound)));
    builder.check(model);
}

/// Runs `run` on `shared` in a thread of its own.
fn spawn<S: Send + Sync + 'static, R: 'static>(
    shared: &Arc<S>,
    run: impl FnOnce(&S) -> R + Send + 'static,
) -> JoinHandle<R> {
    let shared = shared.clone();
    loom::thread::spawn(move || run(&shared))
}

fn forever() -> How<'static> {
    How::forever()
}

/// A wait with a time limit.
fn briefly() -> How<'static> {
    How {
        deadline: Deadline::after(Duration::from_secs(1)),
        ..How::forever()
    }
}

/// A signal that ends the wait.
struct Signal;

impl Interrupt for Signal {
    fn check(&self) -> bool {
        true
    }

    fn ticks(&self) -> bool {
        true
    }
}

/// A wait that a signal ends.
fn interrupted() -> How<'static> {
    How {
        interrupt: &Signal,
        ..How::forever()
    }
}

/// A signal whose handler does not raise: the wait goes on.
struct Handled;

impl Interrupt for Handled {
    fn check(&self) -> bool {
        false
    }

    fn ticks(&self) -> bool {
        true
    }
}

/// A wait that a signal does not end.
fn handling() -> How<'static> {
    How {
        interrupt: &Handled,
        ..How::forever()
    }
}

/// Data that loom watches: two threads inside at one time fail the model.
struct Cell(loom::cell::UnsafeCell<usize>);

// SAFETY: loom itself checks every access.
unsafe impl Sync for Cell {}

impl Cell {
    fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(0))
    }

    fn add(&self) {
        // SAFETY: loom fails the model if another access runs at the same time.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    fn get(&self) -> usize {
        // SAFETY: as in add.
        self.0.with(|value| unsafe { *value })
    }
}
