//! Measures the speed of decoder models: `cargo run --release -p rbee-transformer --example decoder_speed [MODEL ...]`.
//!
//! The models have the shapes and weight types of known ones, with arbitrary weights. Each figure is the best of a few runs.
//! Columns: milliseconds to load, then tokens per second of prompts of 128 and 512 tokens and of 1 to 16 answers at a time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rbee_kernels::{Heads, PAGE_TOKENS};
use rbee_transformer::{
    Decoder, DecoderDescription, DecoderWeights, GateActivation, Isa, KvCache, Layer, PageId, Pool, Rope, RopePairing,
    RopeScaling, SequenceChunk, Tensor, TensorSource, WeightType,
};

/// Tokens of the prompt before the measured answers.
const PROMPT: usize = 128;
/// Tokens of a prompt per step.
const ROWS: usize = 256;
/// Tokens of each measured answer.
const STEPS: usize = 32;
/// Number of runs, of which the best counts.
const RUNS: usize = 3;

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{:?}, {threads} threads; tokens per second", Isa::detect());
    println!(
        "{:10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "load ms", "pre 128", "pre 512", "x1", "x2", "x4", "x8", "x16"
    );
    for (name, model) in [("smollm2", smollm2()), ("gemma", gemma()), ("llama-1b", llama())] {
        if names.is_empty() || names.iter().any(|requested| requested == name) {
            measure(name, &model, threads);
        }
    }
}

fn measure(name: &str, model: &Model, threads: usize) {
    let (pool, isa) = (Pool::new(threads), Isa::detect());
    let file = File::of(model);
    let mut load = Duration::MAX;
    let mut weights = None;
    for _ in 0..RUNS {
        drop(weights.take());
        let begun = Instant::now();
        weights =
            Some(DecoderWeights::load(&pool, &model.description, &file, &mut |_| {}).expect("all tensors are there"));
        load = load.min(begun.elapsed());
    }
    let weights = weights.expect("loaded");
    drop(file);
    let description = model.description.clone();
    let mut run = Run {
        cache: KvCache::new(description.page_bytes() / 2, 1000),
        decoder: Decoder::new(description, weights, pool, isa),
    };
    print!("{name:10} {:8.0}", load.as_secs_f64() * 1e3);
    for tokens in [128, 512] {
        print!(" {:8.1}", best(|| run.prefill(tokens), tokens));
    }
    for count in [1, 2, 4, 8, 16] {
        print!(" {:8.1}", best(|| run.answers(count), count * STEPS));
    }
    println!();
}

fn best(mut work: impl FnMut() -> Duration, tokens: usize) -> f64 {
    let time = (0..RUNS).map(|_| work()).min().unwrap_or_default();
    tokens as f64 / time.as_secs_f64()
}

struct Run {
    decoder: Decoder,
    cache: KvCache,
}

impl Run {
    fn pages(&mut self, tokens: usize) -> Vec<PageId> {
        (0..tokens.div_ceil(PAGE_TOKENS)).filter_map(|_| self.cache.allocate()).collect()
    }

    fn read(&mut self, pages: &[PageId], tokens: usize) {
        let tokens: Vec<u32> = (0..tokens as u32).map(|index| index * 37 % 4001).collect();
        for start in (0..tokens.len()).step_by(ROWS) {
            let chunk = &tokens[start..tokens.len().min(start + ROWS)];
            let logit_rows = usize::from(start + chunk.len() == tokens.len());
            self.decoder.forward(&mut self.cache, &[SequenceChunk { tokens: chunk, start, pages, logit_rows }]);
        }
    }

    fn prefill(&mut self, tokens: usize) -> Duration {
        let pages = self.pages(tokens);
        let begun = Instant::now();
        self.read(&pages, tokens);
        let time = begun.elapsed();
        self.cache.release(&pages);
        time
    }

    /// Time of [`STEPS`] tokens of each of `count` answers.
    fn answers(&mut self, count: usize) -> Duration {
        let pages: Vec<Vec<PageId>> = (0..count).map(|_| self.pages(PROMPT + STEPS)).collect();
        pages.iter().for_each(|pages| self.read(pages, PROMPT));
        let begun = Instant::now();
        for step in 0..STEPS {
            let chunk = |pages| SequenceChunk { tokens: &[7], start: PROMPT + step, pages, logit_rows: 1 };
            let chunks: Vec<SequenceChunk<'_>> = pages.iter().map(|pages| chunk(&pages[..])).collect();
            self.decoder.forward(&mut self.cache, &chunks);
        }
        let time = begun.elapsed();
        pages.iter().for_each(|pages| self.cache.release(pages));
        time
    }
}

/// A description, and the storage format of the matrix of a name in a layer.
struct Model {
    description: DecoderDescription,
    weight_type: fn(&str, usize) -> WeightType,
}

fn smollm2() -> Model {
    let heads = Heads { queries: 9, key_values: 3, size: 64 };
    let weight_type = |name: &str, _| if name == "token_embd" { WeightType::Q8_0 } else { WeightType::Q4_1 };
    Model { description: plain(49_152, 576, 1536, heads, 30), weight_type }
}

fn llama() -> Model {
    let heads = Heads { queries: 32, key_values: 4, size: 64 };
    let weight_type = |name: &str, layer| match name {
        "token_embd" => WeightType::Q6K,
        "attn_v" | "ffn_down" if layer % 2 == 0 => WeightType::Q6K,
        _ => WeightType::Q4K,
    };
    Model { description: plain(49_152, 2048, 5632, heads, 22), weight_type }
}

fn gemma() -> Model {
    let heads = Heads { queries: 4, key_values: 1, size: 256 };
    let weight_type = |name: &str, layer| match name {
        "token_embd" => WeightType::Q8_0,
        "attn_v" if layer % 2 == 0 => WeightType::Q8_0,
        "ffn_down" if layer % 2 == 0 => WeightType::Q6K,
        "ffn_down" | "attn_output" => WeightType::Q4K,
        _ => WeightType::Q5_0,
    };
    let layer = |index| Layer { rope: Some(0), window: (index % 6 != 5).then_some(512) };
    let description = DecoderDescription {
        activation: GateActivation::GeluTanh,
        has_head_norms: true,
        has_post_norms: true,
        layers: (0..18).map(layer).collect(),
        ..plain(262_144, 640, 2048, heads, 18)
    };
    Model { description, weight_type }
}

fn plain(vocabulary: usize, width: usize, inner: usize, heads: Heads, layers: usize) -> DecoderDescription {
    DecoderDescription {
        context: 2048,
        vocabulary,
        width,
        inner,
        heads,
        layers: vec![Layer { rope: Some(0), window: None }; layers],
        ropes: vec![Rope {
            dimensions: heads.size,
            base: 1e5,
            pairing: RopePairing::Halves,
            scaling: RopeScaling::None,
        }],
        epsilon: 1e-5,
        activation: GateActivation::Silu,
        embedding_scale: 1.0,
        attention_scale: (heads.size as f32).sqrt().recip(),
        attention_cap: None,
        logit_cap: None,
        has_attention_bias: false,
        has_head_norms: false,
        has_post_norms: false,
        is_fused: false,
    }
}

/// Tensors of a model in memory.
struct File(HashMap<String, (WeightType, Vec<usize>, Vec<u8>)>);

impl File {
    fn of(model: &Model) -> Self {
        let DecoderDescription { vocabulary, width, inner, heads, .. } = model.description;
        let (queries, keys) = (model.description.query_width(), model.description.key_width());
        let mut tensors = HashMap::new();
        let mut put = |name: String, weight_type: WeightType, shape: &[usize]| {
            let bytes = numbers(weight_type, shape.iter().product());
            tensors.insert(format!("{name}.weight"), (weight_type, shape.to_vec(), bytes));
        };
        put("token_embd".into(), (model.weight_type)("token_embd", 0), &[vocabulary, width]);
        put("output_norm".into(), WeightType::F32, &[width]);
        for index in 0..model.description.layers.len() {
            for (name, rows, columns) in [
                ("attn_q", queries, width),
                ("attn_k", keys, width),
                ("attn_v", keys, width),
                ("attn_output", width, queries),
                ("ffn_gate", inner, width),
                ("ffn_up", inner, width),
                ("ffn_down", width, inner),
            ] {
                put(format!("blk.{index}.{name}"), (model.weight_type)(name, index), &[rows, columns]);
            }
            for name in ["attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"] {
                put(format!("blk.{index}.{name}"), WeightType::F32, &[width]);
            }
            for name in ["attn_q_norm", "attn_k_norm"] {
                put(format!("blk.{index}.{name}"), WeightType::F32, &[heads.size]);
            }
        }
        Self(tensors)
    }
}

impl TensorSource for File {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let (weight_type, shape, bytes) = self.0.get(name)?;
        Some(Tensor { weight_type: *weight_type, shape, bytes })
    }

    fn release(&self, _: &[u8]) {}
}

/// Arbitrary weights with scales that are normal numbers, because subnormal ones could be slower.
fn numbers(weight_type: WeightType, count: usize) -> Vec<u8> {
    if weight_type == WeightType::F32 {
        return (0..count).flat_map(|index| (0.5 + (index % 7) as f32 / 8.0).to_le_bytes()).collect();
    }
    // 0.001 as a 16-bit float.
    let scale = 0x1419u16.to_le_bytes();
    let scales: &[usize] = match weight_type {
        WeightType::Q4_1 | WeightType::Q4K => &[0, 2],
        WeightType::Q6K => &[208],
        _ => &[0],
    };
    let mut bytes: Vec<u8> = (0..count / weight_type.block_size() * weight_type.block_bytes())
        .map(|index| ((index * 131) >> 3) as u8)
        .collect();
    for block in bytes.chunks_exact_mut(weight_type.block_bytes()) {
        scales.iter().for_each(|at| block[*at..at + 2].copy_from_slice(&scale));
    }
    bytes
}
