//! Two threads and two events: how long does a message there and back take?

use phalanx::sync::Event;
use phalanx::sys;
use phalanx::wait::How;

const ROUNDS: u64 = 10_000;

fn main() {
    let (ping, pong) = (Event::new(), Event::new());
    let begun = sys::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                ping.wait(&How::forever()).expect("nobody stops this wait");
                ping.clear();
                pong.set();
            }
        });
        for _ in 0..ROUNDS {
            ping.set();
            pong.wait(&How::forever()).expect("nobody stops this wait");
            pong.clear();
        }
    });
    println!("{ROUNDS} rounds, {} ns each", (sys::now() - begun) / ROUNDS);
}
