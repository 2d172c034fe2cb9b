//! Measures the speed of products: `cargo run --release -p rbee-kernels --example multiply_speed [TYPE or ISA ...]`.
//!
//! The first table is for matrices that together are larger than any cache, as a model is. The second is for the products of
//! a small model, where one call takes microseconds. Each figure is the best of a few runs.

use std::time::{Duration, Instant};

use half::f16;
use rbee_kernels::{InputRows, Isa, Matrix, Pool, WeightType, multiply};

const QUANTIZED: [WeightType; 10] = [
    WeightType::Q4_0,
    WeightType::Q4_1,
    WeightType::Q5_0,
    WeightType::Q5_1,
    WeightType::Q8_0,
    WeightType::Q2K,
    WeightType::Q3K,
    WeightType::Q4K,
    WeightType::Q5K,
    WeightType::Q6K,
];
const ROWS: [usize; 6] = [1, 2, 4, 8, 16, 128];
/// Bytes of weights, more than any cache holds.
const LARGE: usize = 300 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = Pool::new(threads);
    println!("{threads} threads");
    for isa in Isa::all().iter().rev() {
        if arguments.is_empty() && *isa != Isa::detect()
            || !arguments.is_empty() && !arguments.contains(&format!("{isa:?}"))
        {
            continue;
        }
        let types = [WeightType::F32, WeightType::F16, WeightType::BF16].into_iter().chain(QUANTIZED);
        let named =
            arguments.iter().any(|name| WeightType::ALL.iter().any(|weight_type| format!("{weight_type:?}") == *name));
        let types: Vec<WeightType> =
            types.filter(|weight_type| !named || arguments.contains(&format!("{weight_type:?}"))).collect();
        large(&pool, *isa, &types);
        small(&pool, *isa, &types);
    }
}

fn large(pool: &Pool, isa: Isa, types: &[WeightType]) {
    println!("\n{isa:?}, matrices of 5632 x 2048: GB/s of packed weights, G multiply-adds/s\n");
    print!("{:6} {:>6} {:>9}", "type", "bits", "pack GB/s");
    ROWS.iter().for_each(|rows| print!(" {:>15}", format!("{rows} rows")));
    println!();
    for weight_type in types {
        let (rows, columns) = (5632, 2048);
        let file = weights(*weight_type, rows, columns);
        let start = Instant::now();
        let mut matrices = vec![pack(pool, *weight_type, rows, columns, &file)];
        while matrices.len() * matrices[0].bytes() < LARGE {
            matrices.push(pack(pool, *weight_type, rows, columns, &file));
        }
        let bytes = matrices.len() * matrices[0].bytes();
        let packed = (matrices.len() * file.len()) as f64 / start.elapsed().as_secs_f64() / 1e9;
        print!(
            "{:6} {:6.3} {packed:9.2}",
            format!("{weight_type:?}"),
            8.0 * matrices[0].bytes() as f64 / (rows * columns) as f64
        );
        for count in ROWS {
            let used = if count >= 128 { &matrices[..2] } else { &matrices[..] };
            let time = pass(pool, isa, used, count).as_secs_f64();
            let bytes = (bytes / matrices.len() * used.len()) as f64;
            let products = (used.len() * rows * columns * count) as f64;
            print!(" {:>7.1} {:>7.1}", bytes / time / 1e9, products / time / 1e9);
        }
        println!();
    }
}

/// Time of one product with each matrix.
fn pass(pool: &Pool, isa: Isa, matrices: &[Matrix], count: usize) -> Duration {
    let columns = matrices[0].columns();
    let mut inputs = InputRows::new();
    inputs.set(pool, isa, &numbers(count * columns), columns);
    let mut out = vec![0.0; count * matrices[0].rows()];
    best(3, || {
        for matrix in matrices {
            multiply(pool, isa, &inputs, &mut [(matrix, &mut out)]);
        }
    })
}

/// Measures the products of SmolLM2-135M.
fn small(pool: &Pool, isa: Isa, types: &[WeightType]) {
    println!("\n{isa:?}, 30 layers of 576, 192 and 1536: ms for each pass, GB/s, G multiply-adds/s\n");
    print!("{:6}", "type");
    ROWS.iter().for_each(|rows| print!(" {:>20}", format!("{rows} rows")));
    println!();
    for weight_type in types.iter().filter(|weight_type| weight_type.block_size() < 256) {
        let pack = |rows, columns| pack(pool, *weight_type, rows, columns, &weights(*weight_type, rows, columns));
        let layers: Vec<[Matrix; 7]> = (0..30)
            .map(|_| {
                [
                    pack(576, 576),
                    pack(192, 576),
                    pack(192, 576),
                    pack(576, 576),
                    pack(1536, 576),
                    pack(1536, 576),
                    pack(576, 1536),
                ]
            })
            .collect();
        let bytes: usize = layers.iter().flatten().map(Matrix::bytes).sum();
        let weights: usize = layers.iter().flatten().map(|matrix| matrix.rows() * matrix.columns()).sum();
        print!("{:6}", format!("{weight_type:?}"));
        for count in ROWS {
            let time = small_pass(pool, isa, &layers, count).as_secs_f64();
            let products = (weights * count) as f64 / time / 1e9;
            print!(" {:>6.2} {:>5.1} {:>7.1}", time * 1e3, bytes as f64 / time / 1e9, products);
        }
        println!();
    }
}

fn small_pass(pool: &Pool, isa: Isa, layers: &[[Matrix; 7]], count: usize) -> Duration {
    let (hidden, wide) = (numbers(count * 576), numbers(count * 1536));
    let mut inputs = InputRows::new();
    let mut outs: Vec<Vec<f32>> = layers[0].iter().map(|matrix| vec![0.0; count * matrix.rows()]).collect();
    best(5, || {
        for [query, key, value, output, gate, up, down] in layers {
            let [q, k, v, o, g, u, d] = &mut outs[..] else { unreachable!() };
            inputs.set(pool, isa, &hidden, 576);
            multiply(pool, isa, &inputs, &mut [(query, q), (key, k), (value, v)]);
            inputs.set(pool, isa, &hidden, 576);
            multiply(pool, isa, &inputs, &mut [(output, o)]);
            inputs.set(pool, isa, &hidden, 576);
            multiply(pool, isa, &inputs, &mut [(gate, g), (up, u)]);
            inputs.set(pool, isa, &wide, 1536);
            multiply(pool, isa, &inputs, &mut [(down, d)]);
        }
    })
}

fn best(times: usize, mut work: impl FnMut()) -> Duration {
    let mut measure = || {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..times).map(|_| measure()).min().unwrap_or_default()
}

fn pack(pool: &Pool, weight_type: WeightType, rows: usize, columns: usize, file: &[u8]) -> Matrix {
    Matrix::pack(pool, weight_type, rows, columns, file, &mut |_| {}).expect("whole blocks")
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

/// Weights as in a file. Their scales are normal numbers, because subnormal ones could be slower.
fn weights(weight_type: WeightType, rows: usize, columns: usize) -> Vec<u8> {
    let mut file = vec![0x31; rows * columns / weight_type.block_size() * weight_type.block_bytes()];
    let scale = f16::from_f32(0.01).to_le_bytes();
    for (index, block) in file.chunks_exact_mut(weight_type.block_bytes()).enumerate() {
        let halves: &[usize] = match weight_type {
            WeightType::F32 => return numbers(rows * columns).iter().flat_map(|number| number.to_le_bytes()).collect(),
            WeightType::F16 | WeightType::BF16 | WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => &[0],
            WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => &[0, 2],
            WeightType::Q2K => &[80, 82],
            WeightType::Q3K => &[108],
            WeightType::Q6K => &[208],
        };
        for (at, byte) in block.iter_mut().enumerate() {
            *byte = (index * 7 + at * 13) as u8;
        }
        halves.iter().for_each(|at| block[*at..at + 2].copy_from_slice(&scale));
    }
    file
}
