//! A thread pool that runs one computation at a time.
//!
//! A model computes a few hundred products per token, some of them within microseconds. So work is handed out without
//! system calls: a thread without work spins for a short time before it sleeps. Work is cut into tasks that the threads
//! take one by one. A computation does not wait for a thread that has not joined it: on a machine that is busy with
//! something else, the other threads do its share.
//!
//! All state of a computation is in one atomic number, `state`:
//!
//! ```text
//! bits 32..64   generation: number of computations so far
//! bit  31       open: threads may join this computation
//! bits 0..31    number of threads that have joined and not left
//! ```

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

/// Spins before a thread without work sleeps: about 50 microseconds, the longest pause between the products of one token. A
/// longer wait would take a core from other processes for nothing.
const SPINS: u32 = 2_000;

/// Bit of [`Shared::state`] that is set while threads may join.
const OPEN: u64 = 1 << 31;
/// One generation in [`Shared::state`].
const GENERATION: u64 = 1 << 32;

/// Threads for computations. The calling thread takes part in its computation.
pub struct Pool {
    shared: Arc<Shared>,
    /// Held during a computation, so that there is one at a time.
    running: Mutex<()>,
    threads: Vec<JoinHandle<()>>,
}

type Work = dyn Fn(usize) + Sync;

struct Shared {
    /// Generation, [`OPEN`], and number of threads in the computation.
    state: AtomicU64,
    /// Function and number of tasks; `None` tells the threads to end.
    work: UnsafeCell<Option<(*const Work, usize)>>,
    /// The next task that no thread has taken.
    next: AtomicUsize,
    /// The panic of a task, for the calling thread.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Number of threads that sleep or are about to.
    sleepers: AtomicUsize,
    /// Held by a thread from its last check for work until it waits on `wake`.
    sleep_lock: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `work` is written only while `state` is closed and counts no thread, and read only by threads that `state` counts.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `work` is used only while the thread that owns the function is in `Pool::run`.
unsafe impl Send for Shared {}

impl Pool {
    /// Creates a pool of `threads` threads, the calling one included; at least one.
    ///
    /// # Panics
    /// If the operating system refuses a thread.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            sleep_lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let threads = (1..threads)
            .map(|index| {
                let shared = Arc::clone(&shared);
                let builder = thread::Builder::new().name(format!("kernels-{index}"));
                builder.spawn(move || shared.serve()).expect("the operating system creates a thread")
            })
            .collect();
        Self { shared, running: Mutex::new(()), threads }
    }

    /// Number of threads, the calling one included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `work` once with each index below `tasks`, from several threads, and returns when all calls have returned.
    ///
    /// # Panics
    /// If one of the calls panics, with the same payload. Remaining tasks are skipped.
    pub fn run(&self, tasks: usize, work: impl Fn(usize) + Sync) {
        if tasks <= 1 || self.threads.is_empty() {
            return (0..tasks).for_each(work);
        }
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.publish(&work, tasks);
        self.shared.run_tasks(&work, tasks);
        self.shared.finish();
    }

    /// Cuts `data` into chunks of `size` items, of which the last may be shorter, and calls `work` with the index of each chunk
    /// and the chunk.
    ///
    /// # Panics
    /// As [`Pool::run`].
    pub fn run_chunks<T: Send>(&self, data: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        let length = data.len();
        let start = DisjointMut(data.as_mut_ptr());
        self.run(length.div_ceil(size.max(1)), |index| {
            let first = index * size;
            // SAFETY: each index occurs once, so the chunks do not overlap, and they lie within `data`.
            let chunk = unsafe { std::slice::from_raw_parts_mut(start.at(first), size.min(length - first)) };
            work(index, chunk);
        });
    }
}

/// Start of an array of which several threads write disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct DisjointMut<T>(pub(crate) *mut T);

// SAFETY: code that takes a part states there why no other thread has it.
unsafe impl<T: Send> Sync for DisjointMut<T> {}

impl<T> DisjointMut<T> {
    /// Pointer to item `index`.
    ///
    /// # Safety
    /// `index` must be at most the length of the array.
    pub(crate) unsafe fn at(&self, index: usize) -> *mut T {
        // SAFETY: guaranteed by the caller.
        unsafe { self.0.add(index) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A computation without work ends the threads.
        self.shared.open(None);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Opens a computation of `tasks` tasks.
    fn publish<'a>(&self, work: &'a (dyn Fn(usize) + Sync + 'a), tasks: usize) {
        // SAFETY: only the lifetime changes. `finish` returns after the last thread has left, so no thread uses the work
        // after that.
        let work: *const Work = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'a), *const Work>(work) };
        self.open(Some((work, tasks)));
    }

    fn open(&self, work: Option<(*const Work, usize)>) {
        // SAFETY: `state` is closed and counts no thread; the lock `running`, or exclusive access in `drop`, excludes others.
        unsafe { *self.work.get() = work };
        self.next.store(0, Ordering::Relaxed);
        let generation = self.state.load(Ordering::Relaxed) / GENERATION + 1;
        self.state.store(generation * GENERATION + OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.sleep_lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// Closes the computation and waits for the threads in it to finish their last task each.
    fn finish(&self) {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while self.state.load(Ordering::Acquire) & (OPEN - 1) > 0 {
            spins += 1;
            // A thread with the last task may be waiting for this core.
            if spins < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn run_tasks(&self, work: &(dyn Fn(usize) + Sync + '_), tasks: usize) {
        let done = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    return;
                }
                work(task);
            }
        }));
        if let Err(panic) = done {
            self.next.store(tasks, Ordering::Relaxed);
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }

    /// Main loop of a thread of the pool.
    fn serve(&self) {
        let mut last = 0;
        loop {
            let generation = self.join(last);
            // SAFETY: `state` counts this thread, so the work stays valid.
            let work = unsafe { (*self.work.get()).map(|(work, tasks)| (&*work, tasks)) };
            if let Some((work, tasks)) = work {
                self.run_tasks(work, tasks);
            }
            self.state.fetch_sub(1, Ordering::Release);
            if work.is_none() {
                return;
            }
            last = generation;
        }
    }

    /// Waits for an open computation after generation `last`, joins it and returns its generation.
    fn join(&self, last: u64) -> u64 {
        let mut spins = 0;
        loop {
            let state = self.state.load(Ordering::SeqCst);
            let generation = state / GENERATION;
            if generation != last && state & OPEN != 0 {
                let joined = self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
                if joined.is_ok() {
                    return generation;
                }
                continue;
            }
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                self.sleep(state);
                spins = 0;
            }
        }
    }

    /// Sleeps until the generation differs from that of `seen`.
    fn sleep(&self, seen: u64) {
        let mut lock = self.sleep_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // A thread that opens a computation after this check sees the sleeper and takes the lock. It gets the lock only
        // when this thread waits, so the notification is not lost.
        while self.state.load(Ordering::SeqCst) / GENERATION == seen / GENERATION {
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_runs_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for tasks in (0..200).chain([10_000]) {
                let mut counts = vec![0u8; tasks];
                pool.run_chunks(&mut counts, 3, |_, chunk| chunk.iter_mut().for_each(|count| *count += 1));
                assert!(counts.iter().all(|count| *count == 1), "{threads} threads, {tasks} tasks");
            }
        }
    }

    #[test]
    fn chunks_come_with_their_index() {
        let pool = Pool::new(3);
        let mut data = vec![0; 1_000];
        pool.run_chunks(&mut data, 7, |index, chunk| chunk.fill(index));
        assert!(data.iter().enumerate().all(|(at, index)| at / 7 == *index));
    }

    #[test]
    fn sleeping_threads_wake_up_for_work() {
        let pool = Pool::new(3);
        for _ in 0..3 {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while pool.shared.sleepers.load(Ordering::SeqCst) < 2 {
                assert!(std::time::Instant::now() < deadline, "threads without work fall asleep");
                thread::yield_now();
            }
            let met = std::sync::Barrier::new(3);
            pool.run(3, |_| {
                met.wait();
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(4);
        for _ in 0..50 {
            let failed = catch_unwind(AssertUnwindSafe(|| pool.run(100, |task| assert!(task != 77, "task {task}"))));
            assert!(failed.is_err());
            let count = AtomicUsize::new(0);
            pool.run(100, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 100);
        }
    }
}
