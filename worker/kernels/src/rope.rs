//! Rotary position embedding (Su and others: RoFormer, 2021).

use crate::{Isa, Pool, multiversion::multiversioned, rows::for_rows};

/// Numbers of a head that are rotated together as a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// Neighbors: 0 and 1, 2 and 3 and so on (RoFormer, GPT-J).
    Interleaved,
    /// Number `i` of the first half and number `i` of the second half of the rotated numbers (GPT-NeoX).
    Halves,
}

/// Rotates pairs of numbers by the angles of their row's position, in place.
///
/// `data` has rows of `width` numbers, which are heads of `head` numbers. `rotations` has for each row the cosines of all
/// pairs and then their sines; its length per row is the number of rotated numbers at the start of a head. The numbers
/// after them stay.
pub fn apply_rope(
    pool: &Pool,
    isa: Isa,
    data: &mut [f32],
    width: usize,
    head: usize,
    rotations: &[f32],
    pairing: RopePairing,
) {
    let per_row = rotations.len() / (data.len() / width).max(1);
    for_rows(pool, data, width, |first, data| {
        rotate_rows(isa, data, width, head, &rotations[first * per_row..], per_row, pairing);
    });
}

multiversioned! {
    fn rotate_rows(
        data: &mut [f32], width: usize, head: usize, rotations: &[f32], per_row: usize, pairing: RopePairing,
    ) {
        for (row, rotations) in data.chunks_exact_mut(width).zip(rotations.chunks_exact(per_row)) {
            let (cosines, sines) = rotations.split_at(per_row / 2);
            for head in row.chunks_exact_mut(head) {
                rotate_head(&mut head[..per_row], cosines, sines, pairing);
            }
        }
    }
}

#[inline(always)]
fn rotate_head(head: &mut [f32], cosines: &[f32], sines: &[f32], pairing: RopePairing) {
    match pairing {
        RopePairing::Interleaved => {
            for ((pair, cosine), sine) in head.as_chunks_mut::<2>().0.iter_mut().zip(cosines).zip(sines) {
                *pair = rotate_pair(*pair, *cosine, *sine);
            }
        }
        RopePairing::Halves => {
            let (first, second) = head.split_at_mut(cosines.len());
            for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                [*a, *b] = rotate_pair([*a, *b], *cosine, *sine);
            }
        }
    }
}

#[inline(always)]
fn rotate_pair([a, b]: [f32; 2], cosine: f32, sine: f32) -> [f32; 2] {
    [a.mul_add(cosine, -(b * sine)), a.mul_add(sine, b * cosine)]
}
