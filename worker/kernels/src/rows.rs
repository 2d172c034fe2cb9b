//! Additions of rows, and how row-wise work is divided between threads.

use crate::{Isa, Pool, multiversion::multiversioned};

/// Numbers per task of row-wise work: below it, handing a task to another thread costs more than the work.
const TASK_LEN: usize = 4096;

/// Adds `other` to `data`, element by element.
///
/// # Panics
/// If they differ in length.
pub fn add(pool: &Pool, isa: Isa, data: &mut [f32], other: &[f32]) {
    assert_eq!(data.len(), other.len(), "two slices of one length");
    for_rows(pool, data, 1, |first, data| add_each(isa, data, &other[first..][..data.len()]));
}

/// Adds `row` to each row of `data`, whose rows are as long.
pub fn add_to_rows(pool: &Pool, isa: Isa, data: &mut [f32], row: &[f32]) {
    for_rows(pool, data, row.len(), |_, data| {
        data.chunks_exact_mut(row.len()).for_each(|data| add_each(isa, data, row));
    });
}

multiversioned! {
    fn add_each(data: &mut [f32], other: &[f32]) {
        for (number, other) in data.iter_mut().zip(other) {
            *number += other;
        }
    }
}

/// Calls `work` with groups of whole rows of `data` and the index of each group's first row, from several threads if there
/// are more than [`TASK_LEN`] numbers.
pub(crate) fn for_rows(pool: &Pool, data: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (TASK_LEN / width).max(1);
    pool.run_chunks(data, rows * width, |index, chunk| work(index * rows, chunk));
}
