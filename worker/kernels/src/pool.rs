//! Threads that share one computation at a time.
//!
//! A model computes a few hundred products for each token, some of them in microseconds, so work is handed out without
//! the kernel's help: a thread without work looks for some for a short time before it sleeps. Work is cut into pieces
//! that threads take one by one, and nobody waits for a thread that has not come: on a machine that is busy with
//! something else the others do its share.

use std::{
    any::Any,
    cell::UnsafeCell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

/// How often a thread looks for work before it sleeps: some 50 microseconds, the longest pause between the products of
/// one token. Longer would take a core from others for nothing.
const LOOKS: u32 = 2_000;

/// Set in [`Shared::state`] while threads may take part. Below it their number, above it the count of computations.
const OPEN: u64 = 1 << 31;
const ROUND: u64 = 1 << 32;

/// Threads for computations; the thread that asks for one is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    /// Held by who computes: one at a time.
    turn: Mutex<()>,
    threads: Vec<JoinHandle<()>>,
}

type Work = dyn Fn(usize) + Sync;

struct Shared {
    /// The count of computations, [`OPEN`], and how many threads are at this one.
    state: AtomicU64,
    work: UnsafeCell<Option<(*const Work, usize)>>,
    /// The next piece that nobody has taken.
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: AtomicUsize,
    /// Held by threads on their way to sleep.
    bed: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `work` is written only while no thread is at a computation (`state` is closed and counts none), and read only
// by threads that `state` counts.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `work` is used only while the thread that owns what it points to waits in `Pool::run`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, the asking one included; at least one.
    ///
    /// # Panics
    /// If the operating system gives no more threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
        });
        let threads = (1..threads)
            .map(|index| {
                let shared = Arc::clone(&shared);
                let builder = thread::Builder::new().name(format!("kernels-{index}"));
                builder.spawn(move || shared.serve()).expect("the operating system gives a thread")
            })
            .collect();
        Self { shared, turn: Mutex::new(()), threads }
    }

    /// How many threads compute.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `work` once with each number below `pieces`, from several threads, and returns when all calls have.
    ///
    /// # Panics
    /// If one of the calls panics, with what it panicked with.
    pub fn run(&self, pieces: usize, work: impl Fn(usize) + Sync) {
        if pieces <= 1 || self.threads.is_empty() {
            return (0..pieces).for_each(work);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.publish(&work, pieces);
        self.shared.take_part(&work, pieces);
        self.shared.finish();
    }

    /// Cuts `data` into chunks of `size` items, the last one maybe shorter, and calls `work` with each and its number.
    ///
    /// # Panics
    /// As [`Pool::run`].
    pub fn run_chunks<T: Send>(&self, data: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        let length = data.len();
        let start = Pieces(data.as_mut_ptr());
        self.run(length.div_ceil(size.max(1)), |index| {
            let first = index * size;
            // SAFETY: each index comes once, so the chunks do not overlap, and they lie within `data`.
            let chunk = unsafe { std::slice::from_raw_parts_mut(start.at(first), size.min(length - first)) };
            work(index, chunk);
        });
    }
}

/// The start of an array whose pieces several threads write.
#[derive(Clone, Copy)]
pub(crate) struct Pieces<T>(pub(crate) *mut T);

// SAFETY: who takes a piece says at that place why nobody else has it.
unsafe impl<T: Send> Sync for Pieces<T> {}

impl<T> Pieces<T> {
    /// Where the item `index` is.
    ///
    /// # Safety
    /// `index` is within the array, or one behind it.
    pub(crate) unsafe fn at(&self, index: usize) -> *mut T {
        // SAFETY: promised by the caller.
        unsafe { self.0.add(index) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // No work and no pieces: threads that find this end.
        self.shared.open(None);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn publish<'a>(&self, work: &'a (dyn Fn(usize) + Sync + 'a), pieces: usize) {
        // SAFETY: only the lifetime changes. `finish` returns after the last thread has left, so that nobody uses the
        // work after its end.
        let work: *const Work = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'a), *const Work>(work) };
        self.open(Some((work, pieces)));
    }

    fn open(&self, work: Option<(*const Work, usize)>) {
        // SAFETY: closed and nobody counted, and `turn` (or `drop`) keeps others from publishing.
        unsafe { *self.work.get() = work };
        self.next.store(0, Ordering::Relaxed);
        let round = self.state.load(Ordering::Relaxed) / ROUND + 1;
        self.state.store(round * ROUND + OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.bed.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// Closes the computation and waits for those who are at it. Theirs is the last piece each.
    fn finish(&self) {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while self.state.load(Ordering::Acquire) & (OPEN - 1) > 0 {
            looks += 1;
            // Who is at the last piece may wait for this very core.
            if looks < LOOKS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn take_part(&self, work: &(dyn Fn(usize) + Sync + '_), pieces: usize) {
        let done = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let piece = self.next.fetch_add(1, Ordering::Relaxed);
                if piece >= pieces {
                    return;
                }
                work(piece);
            }
        }));
        if let Err(panic) = done {
            self.next.store(pieces, Ordering::Relaxed);
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }

    /// The life of a thread of the pool.
    fn serve(&self) {
        let mut last = 0;
        loop {
            let round = self.join(last);
            // SAFETY: this thread is counted in `state`, so that the work stays.
            let work = unsafe { (*self.work.get()).map(|(work, pieces)| (&*work, pieces)) };
            if let Some((work, pieces)) = work {
                self.take_part(work, pieces);
            }
            self.state.fetch_sub(1, Ordering::Release);
            if work.is_none() {
                return;
            }
            last = round;
        }
    }

    /// Waits for an open computation after `last` and is counted as part of it.
    fn join(&self, last: u64) -> u64 {
        let mut looks = 0;
        loop {
            let state = self.state.load(Ordering::SeqCst);
            let round = state / ROUND;
            if round != last && state & OPEN != 0 {
                let joined = self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
                if joined.is_ok() {
                    return round;
                }
                continue;
            }
            looks += 1;
            if looks < LOOKS {
                std::hint::spin_loop();
            } else {
                self.sleep(state);
                looks = 0;
            }
        }
    }

    /// Sleeps until there is something new after `seen`.
    fn sleep(&self, seen: u64) {
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // Whoever opens after this look sees the sleeper and takes the lock, which is free once this thread waits.
        while self.state.load(Ordering::SeqCst) / ROUND == seen / ROUND {
            bed = self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_is_computed_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for pieces in (0..200).chain([10_000]) {
                let mut counts = vec![0u8; pieces];
                pool.run_chunks(&mut counts, 3, |_, chunk| chunk.iter_mut().for_each(|count| *count += 1));
                assert!(counts.iter().all(|count| *count == 1), "{threads} threads, {pieces} pieces");
            }
        }
    }

    #[test]
    fn chunks_come_with_their_number() {
        let pool = Pool::new(3);
        let mut data = vec![0; 1_000];
        pool.run_chunks(&mut data, 7, |index, chunk| chunk.fill(index));
        assert!(data.iter().enumerate().all(|(at, index)| at / 7 == *index));
    }

    #[test]
    fn threads_that_slept_come_back() {
        let pool = Pool::new(3);
        for _ in 0..3 {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while pool.shared.sleepers.load(Ordering::SeqCst) < 2 {
                assert!(std::time::Instant::now() < deadline, "threads without work go to sleep");
                thread::yield_now();
            }
            let met = std::sync::Barrier::new(3);
            pool.run(3, |_| {
                met.wait();
            });
        }
    }

    #[test]
    fn a_panic_reaches_who_asked_and_the_pool_lives_on() {
        let pool = Pool::new(4);
        for _ in 0..50 {
            let failed =
                catch_unwind(AssertUnwindSafe(|| pool.run(100, |piece| assert!(piece != 77, "piece {piece}"))));
            assert!(failed.is_err());
            let count = AtomicUsize::new(0);
            pool.run(100, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 100);
        }
    }
}
