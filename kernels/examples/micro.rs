use rbee_kernels::{Inputs, Isa, Kind, Matrix, Pool, multiply};
use std::time::Instant;
fn main() {
    let pool = Pool::new(1);
    let isa = Isa::detect();
    for kind in [Kind::Q4_1, Kind::Q8_0, Kind::Q5_0, Kind::Q6K] {
        for (rows, columns) in [(1024, 768), (1024, 2048), (64, 2048), (64, 256)] {
            let mut file = vec![0x31; rows * columns / kind.block() * kind.block_bytes()];
            for (i, b) in file.iter_mut().enumerate() {
                *b = if i % kind.block_bytes() < 4 { 0x31 } else { (i * 7) as u8 };
            }
            let m = Matrix::pack(&pool, isa, kind, rows, columns, &file).unwrap();
            for count in [1, 4, 8, 16, 32, 64, 128] {
                let mut inputs = Inputs::new();
                let x: Vec<f32> = (0..count * columns).map(|i| (i % 17) as f32).collect();
                inputs.set(&pool, isa, &x, columns);
                let mut out = vec![0.0; count * rows];
                let mut best = f64::MAX;
                let reps = 2_000_000_000 / 10 / (rows * columns * count) + 1;
                for _ in 0..3 {
                    let s = Instant::now();
                    for _ in 0..reps {
                        multiply(&pool, isa, &inputs, &mut [(&m, &mut out)]);
                    }
                    best = best.min(s.elapsed().as_secs_f64());
                }
                let mut sbest = f64::MAX;
                for _ in 0..10 {
                    let s = Instant::now();
                    inputs.set(&pool, isa, &x, columns);
                    sbest = sbest.min(s.elapsed().as_secs_f64());
                }
                print!(
                    " {count}: {:.0} (set {:.0})",
                    (reps * rows * columns * count) as f64 / best / 1e9,
                    sbest * 1e9 / (count as f64)
                );
            }
            println!("  {kind:?} {rows}x{columns} GMAC/s one thread (set ns per row)");
        }
    }
}
