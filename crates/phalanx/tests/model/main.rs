//! Models under loom.
#[cfg(loom)]
#[test]
fn smoke() {
    use phalanx::sync::{Hold, Mutex};
    use phalanx::wait::How;
    loom::model(|| {
        let mutex = loom::sync::Arc::new(Mutex::new());
        let other = mutex.clone();
        let thread = loom::thread::spawn(move || {
            assert!(other.lock(Hold::Scoped, &How::forever()).unwrap());
            other.unlock().unwrap();
        });
        assert!(mutex.lock(Hold::Scoped, &How::forever()).unwrap());
        mutex.unlock().unwrap();
        thread.join().unwrap();
    });
}
