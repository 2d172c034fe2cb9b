//! Measures the speed of paged attention: `cargo run --release -p rbee-kernels --example attention_speed`.

use std::time::Instant;

use rbee_kernels::{AttentionParams, Heads, Isa, KvView, PAGE_TOKENS, Pool, attend_paged};

fn main() {
    let pool = Pool::new(2);
    for (name, heads) in [
        ("9 heads of 64, 3 key-value heads", Heads { queries: 9, key_values: 3, size: 64 }),
        ("32 heads of 64, 4 key-value heads", Heads { queries: 32, key_values: 4, size: 64 }),
        ("4 heads of 256, 1 key-value head", Heads { queries: 4, key_values: 1, size: 256 }),
    ] {
        for (tokens, rows) in [(512, 256), (512, 1), (4096, 1)] {
            let pages = vec![vec![0x3800u16; heads.page_layer_len()]; tokens / PAGE_TOKENS];
            let queries = vec![0.1f32; rows * heads.queries * heads.size];
            let mut out = vec![0.0; queries.len()];
            let params = AttentionParams { scale: 0.125, soft_cap: None, window: None };
            let mut times: Vec<f64> = (0..9)
                .map(|_| {
                    let pages = pages.iter().map(Vec::as_slice).collect();
                    let view = KvView { pages, start: tokens - rows, rows: 0..rows };
                    let started = Instant::now();
                    attend_paged(&pool, Isa::detect(), &heads, &params, &queries, &[view], &mut out);
                    started.elapsed().as_secs_f64()
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let products: usize = (tokens - rows + 1..=tokens).map(|seen| 2 * seen * heads.queries * heads.size).sum();
            let (time, speed) = (times[4] * 1e6, products as f64 / times[4] / 1e9);
            println!("{name}, {rows} of {tokens} tokens: {time:.0} us, {speed:.1} G multiply-adds/s");
        }
    }
}
