use rbee_kernels::{Inputs, Isa, Kind, Matrix, Pool, multiply};
use std::time::Instant;
fn main() {
    let isa = Isa::Avx512;
    for threads in [1, 2] {
        let pool = Pool::new(threads);
        print!("{threads} threads:");
        for kind in [Kind::Q4_1, Kind::Q4K, Kind::Q5_0, Kind::Q6K, Kind::Q8_0] {
            let (rows, columns) = (5632, 2048);
            let mut file = vec![0x31; rows * columns / kind.block() * kind.block_bytes()];
            for (i, b) in file.iter_mut().enumerate() {
                *b = if i % kind.block_bytes() < 4 || i % kind.block_bytes() > 207 { 0x31 } else { (i * 7) as u8 };
            }
            let m: Vec<Matrix> =
                (0..30).map(|_| Matrix::pack(&pool, isa, kind, rows, columns, &file).unwrap()).collect();
            for count in [1, 4] {
                let mut inputs = Inputs::new();
                let x: Vec<f32> = (0..count * columns).map(|i| (i % 17) as f32).collect();
                inputs.set(&pool, isa, &x, columns);
                let mut out = vec![0.0; count * rows];
                let mut best = f64::MAX;
                for _ in 0..6 {
                    let s = Instant::now();
                    for m in &m {
                        multiply(&pool, isa, &inputs, &mut [(m, &mut out)]);
                    }
                    best = best.min(s.elapsed().as_secs_f64());
                }
                print!("  {kind:?} m={count} {:.1}", 30.0 * m[0].bytes() as f64 / best / 1e9);
            }
        }
        println!();
    }
}
