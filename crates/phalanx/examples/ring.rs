//! What a message costs: a put and a get in one process, one way between two, there and back between two.
//!
//! `cargo run --release -p phalanx --example ring`

#[cfg(all(target_os = "linux", not(phalanx_sys = "portable")))]
fn main() {
    measure::all();
}

#[cfg(not(all(target_os = "linux", not(phalanx_sys = "portable"))))]
fn main() {
    println!("channels between processes exist on Linux only");
}

#[cfg(all(target_os = "linux", not(phalanx_sys = "portable")))]
mod measure {
    use phalanx::channel::{INLINE, Item, Limits, Payload, Record, Ring};
    use phalanx::shm::{Handle, heap, tree};
    use phalanx::sys;
    use phalanx::wait::How;

    const TRIES: u32 = 5;

    fn ring(maxsize: u32) -> Handle {
        Ring::make(Limits {
            maxsize,
            ceiling: u64::MAX,
        })
        .expect("memory for a ring")
    }

    /// The best of several tries, in nanoseconds for each of `rounds`.
    fn best(name: &str, rounds: u64, mut run: impl FnMut(u64)) {
        let time = |_| {
            let begun = sys::now();
            run(rounds);
            (sys::now() - begun) as f64 / rounds as f64
        };
        let best = (0..TRIES).map(time).fold(f64::INFINITY, f64::min);
        println!("{name:<44} {best:>10.1} ns");
    }

    fn put(ring: &Ring, bytes: &[u8]) {
        ring.put(Record::Small(1, bytes), &How::forever(), None, -1)
            .expect("room in the ring");
    }

    fn get(ring: &Ring, buffer: &mut [u8; INLINE]) {
        // SAFETY: the buffer has INLINE bytes.
        match unsafe { ring.get(buffer.as_mut_ptr(), &How::forever(), None, false, -1) } {
            Ok(Item::Small(..)) => {}
            Ok(Item::Large(_, payload)) => heap::free(payload.offset),
            Err(ended) => panic!("{ended:?}"),
        }
    }

    fn put_large(ring: &Ring, len: usize) {
        let offset = heap::allocate(heap::HEAD + len).expect("memory for a payload");
        let payload = Payload {
            offset,
            len: len as u64,
        };
        ring.put(Record::Large(1, payload), &How::forever(), None, -1)
            .expect("room in the ring");
    }

    /// Runs `other` in a child while `mine` runs here.
    fn beside(other: impl FnOnce(), mine: impl FnOnce()) {
        // SAFETY: this program has one thread, and the child ends by `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            other();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        mine();
        let mut status = 0;
        // SAFETY: a plain system call.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(status, 0, "the child has failed");
        tree::reaped(pid as u32, 0);
    }

    pub fn all() {
        tree::join_tree().expect("a shared segment");
        phalanx::wait::shared::attend();
        let mut buffer = [0; INLINE];
        let data = [7; INLINE];
        for len in [8, 64, 1_000, INLINE] {
            let handle = ring(0);
            let ring = Ring::of(&handle);
            best(
                &format!("put and get, one process, {len} bytes"),
                2_000_000 / (1 + len as u64 / 64),
                |rounds| {
                    for _ in 0..rounds {
                        put(ring, &data[..len]);
                        get(ring, &mut buffer);
                    }
                },
            );
        }
        let handle = ring(0);
        best("put and get, one process, a 20 kB block", 200_000, |rounds| {
            let ring = Ring::of(&handle);
            for _ in 0..rounds {
                put_large(ring, 20_000);
                get(ring, &mut buffer);
            }
        });
        for (len, maxsize) in [(8, 0), (8, 100), (1_000, 100)] {
            let handle = ring(maxsize);
            let ring = Ring::of(&handle);
            best(
                &format!("one way, two processes, {len} bytes, maxsize {maxsize}"),
                400_000,
                |rounds| {
                    beside(
                        || (0..rounds).for_each(|_| put(ring, &data[..len])),
                        || (0..rounds).for_each(|_| get(ring, &mut buffer)),
                    );
                },
            );
        }
        let (there, back) = (ring(0), ring(0));
        best("there and back, two processes, 8 bytes", 20_000, |rounds| {
            let (there, back) = (Ring::of(&there), Ring::of(&back));
            beside(
                || {
                    let mut buffer = [0; INLINE];
                    for _ in 0..rounds {
                        get(there, &mut buffer);
                        put(back, &data[..8]);
                    }
                },
                || {
                    for _ in 0..rounds {
                        put(there, &data[..8]);
                        get(back, &mut buffer);
                    }
                },
            );
        });
    }
}
