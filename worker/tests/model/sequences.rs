//! Sequences of the decoder engine: concurrent, resumed, released, and with a full context.

use std::collections::BTreeMap;

use rbee_schema::{Failure, FailureCode, ModelReference, Sampling};
use rbee_worker::{
    contract::{LoadOptions, Loaded, Sequence, SequenceId},
    load::load,
};
use tempfile::TempDir;

use crate::{GREEDY, load_path, tiny::Tiny};

fn random() -> Sampling {
    Sampling {
        temperature: 1.0,
        top_p: 0.9,
        top_k: 40,
        min_p: 0.01,
        repetition_penalty: 1.1,
        presence_penalty: 0.2,
        seed: 7,
        ..GREEDY
    }
}

fn loaded(context: u32, slots: u32) -> Loaded {
    let folder = TempDir::new().expect("a folder");
    load_path(Tiny::new().write(&folder), Some(context), slots).expect("loads")
}

fn sequence(prompt: usize, emitted: &[u32], sampling: Sampling) -> Sequence {
    let prompt = (0..prompt as u32).map(|id| id * 7 % 256).collect();
    Sequence { emitted: emitted.to_vec(), ..Sequence::new(prompt, sampling) }
}

/// Steps until each of these sequences has made `count` tokens.
fn tokens(loaded: &mut Loaded, ids: &[u64], count: usize) -> BTreeMap<u64, Vec<u32>> {
    let mut made: BTreeMap<u64, Vec<u32>> = ids.iter().map(|&id| (id, Vec::new())).collect();
    while ids.iter().any(|id| made[id].len() < count) {
        for (id, token) in loaded.engine.step() {
            made.entry(id.0).or_default().push(token.expect("no failure").id);
        }
    }
    made.values_mut().for_each(|tokens| tokens.truncate(count));
    made
}

fn alone(prompt: usize, emitted: &[u32], sampling: Sampling, count: usize) -> Vec<u32> {
    let mut loaded = loaded(256, 1);
    loaded.engine.admit(SequenceId(0), sequence(prompt, emitted, sampling)).expect("admitted");
    tokens(&mut loaded, &[0], count).remove(&0).expect("made")
}

#[test]
fn concurrent_sequences_do_not_influence_each_other() {
    let mut loaded = loaded(256, 3);
    loaded.engine.admit(SequenceId(1), sequence(5, &[], random())).expect("admitted");
    loaded.engine.step();
    loaded.engine.admit(SequenceId(2), sequence(100, &[], GREEDY)).expect("admitted");
    loaded.engine.admit(SequenceId(3), sequence(5, &[], Sampling { seed: 8, ..random() })).expect("admitted");
    let made = tokens(&mut loaded, &[2, 3], 20);
    assert_eq!(made[&2], alone(100, &[], GREEDY, 20));
    assert_eq!(made[&3], alone(5, &[], Sampling { seed: 8, ..random() }, 20));
}

#[test]
fn resumed_sequence_continues_identically() {
    for sampling in [GREEDY, random()] {
        let whole = alone(70, &[], sampling.clone(), 30);
        for done in [1, 2, 15, 29] {
            assert_eq!(alone(70, &whole[..done], sampling.clone(), 30 - done), whole[done..], "after {done}");
        }
    }
}

#[test]
fn long_prompt_does_not_block_other_sequences() {
    let mut loaded = loaded(256, 2);
    loaded.engine.admit(SequenceId(1), sequence(3, &[], GREEDY)).expect("admitted");
    loaded.engine.step();
    loaded.engine.admit(SequenceId(2), sequence(200, &[], GREEDY)).expect("admitted");
    let mut steps = 0;
    loop {
        let made = loaded.engine.step();
        assert!(made.iter().any(|(id, _)| id.0 == 1), "the other sequence makes a token in every step");
        if made.iter().any(|(id, _)| id.0 == 2) {
            break;
        }
        steps += 1;
        assert!(steps < 50, "the prompt is computed eventually");
    }
    assert!(steps > 2, "the prompt is computed in parts");
    let stats = loaded.engine.stats();
    assert_eq!((stats.sequences, stats.prompt_tokens), (2, 203));
}

#[test]
fn cached_prompt_is_not_computed_again() {
    let mut loaded = loaded(256, 2);
    loaded.engine.admit(SequenceId(1), sequence(100, &[], random())).expect("admitted");
    let first = tokens(&mut loaded, &[1], 20).remove(&1).expect("made");
    loaded.engine.admit(SequenceId(2), sequence(100, &[], random())).expect("admitted");
    let second = tokens(&mut loaded, &[2], 20).remove(&2).expect("made");
    assert_eq!(second, first);
    // The next turn: prompt, answer and a few more tokens.
    loaded.engine.release(SequenceId(1));
    loaded.engine.admit(SequenceId(3), sequence(100, &first, random())).expect("admitted");
    tokens(&mut loaded, &[3], 1);
    let stats = loaded.engine.stats();
    assert_eq!(stats.hit_tokens, 96 + 119, "three pages of 32 tokens, and all but the last token");
}

#[test]
fn shared_prefix_does_not_change_the_answer() {
    let mut loaded = loaded(256, 8);
    loaded.engine.admit(SequenceId(0), sequence(100, &[], random())).expect("admitted");
    tokens(&mut loaded, &[0], 20);
    loaded.engine.release(SequenceId(0));
    let mut found = loaded.engine.stats().hit_tokens;
    for alike in [1, 31, 32, 33, 63, 90, 99, 110] {
        let mut own = sequence(120, &[], random()).prompt;
        own[alike..].iter_mut().for_each(|token| *token ^= 1);
        let other = |prompt: &[u32]| Sequence::new(prompt.to_vec(), random());
        loaded.engine.admit(SequenceId(1), other(&own)).expect("admitted");
        let made = tokens(&mut loaded, &[1], 10);
        loaded.engine.release(SequenceId(1));
        let mut fresh = self::loaded(256, 8);
        fresh.engine.admit(SequenceId(1), other(&own)).expect("admitted");
        assert_eq!(made, tokens(&mut fresh, &[1], 10), "{alike} tokens alike");
        let now = loaded.engine.stats().hit_tokens;
        assert!(now - found >= alike.min(100) as u64, "{alike} tokens alike, {} found", now - found);
        found = now;
    }
}

#[test]
fn preempted_sequence_continues_identically() {
    let (context, slots, count) = (200, 6, 60);
    let folder = TempDir::new().expect("a folder");
    let path = Tiny::new().write(&folder);
    // Keys and values of two heads of 16 numbers, 2 bytes each, one layer: room for a context and a page.
    let cache_bytes = Some(2 * 2 * 16 * 2 * 8 * 32);
    let options = LoadOptions { context: Some(context), slots, cache_bytes, ..LoadOptions::default() };
    let mut loaded = load(&ModelReference::File(path), &options, &mut |_| {}).expect("loads");
    let of = |id: u64| (20 + 9 * id as usize, Sampling { seed: id, ..random() });
    for id in 0..u64::from(slots) {
        let (prompt, sampling) = of(id);
        loaded.engine.admit(SequenceId(id), sequence(prompt, &[], sampling)).expect("admitted");
    }
    let mut made: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    while loaded.engine.stats().sequences > 0 {
        for (id, token) in loaded.engine.step() {
            let made = made.entry(id.0).or_default();
            made.push(token.expect("no failure").id);
            if made.len() >= count {
                loaded.engine.release(id);
            }
        }
    }
    assert!(loaded.engine.stats().preempted > 0, "the cache has no room for all sequences");
    for (id, made) in made {
        let (prompt, sampling) = of(id);
        assert_eq!(made[..count], alone(prompt, &[], sampling, count), "sequence {id}");
    }
}

#[test]
fn cache_smaller_than_a_context_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let path = Tiny::new().write(&folder);
    let options = LoadOptions { cache_bytes: Some(1000), slots: 1, ..LoadOptions::default() };
    let failure = load(&ModelReference::File(path), &options, &mut |_| {}).err().expect("refused");
    assert_eq!(failure.code, FailureCode::InvalidRequest);
    assert!(failure.message.contains("256 tokens"), "{failure}");
}

#[test]
fn sequence_that_fills_its_context_fails_once() {
    let mut loaded = loaded(20, 1);
    loaded.engine.admit(SequenceId(1), sequence(17, &[], GREEDY)).expect("admitted");
    let made: Vec<_> = (0..5).flat_map(|_| loaded.engine.step()).map(|(_, token)| token.map_err(|f| f.code)).collect();
    assert_eq!(made.len(), 4);
    assert!(made[..3].iter().all(Result::is_ok));
    assert_eq!(made[3], Err(FailureCode::ContextExceeded));
    assert_eq!(loaded.engine.stats().sequences, 0);
}

#[test]
fn released_sequence_frees_its_slot() {
    let mut loaded = loaded(256, 1);
    let admit = |loaded: &mut Loaded, id| loaded.engine.admit(SequenceId(id), sequence(5, &[], GREEDY));
    assert_eq!(admit(&mut loaded, 1), Ok(()));
    assert_eq!(admit(&mut loaded, 2).map_err(|failure| failure.code), Err(FailureCode::QueueFull));
    loaded.engine.release(SequenceId(1));
    loaded.engine.release(SequenceId(1));
    assert_eq!(loaded.engine.step(), []);
    assert_eq!(admit(&mut loaded, 2), Ok(()));
}

#[test]
fn invalid_sequences_are_refused() {
    let mut loaded = loaded(20, 2);
    let mut code = |sequence| loaded.engine.admit(SequenceId(1), sequence).map_err(|failure: Failure| failure.code);
    assert_eq!(code(sequence(0, &[], GREEDY)), Err(FailureCode::InvalidRequest));
    assert_eq!(code(sequence(20, &[], GREEDY)), Err(FailureCode::ContextExceeded));
    assert_eq!(code(sequence(15, &[1; 5], GREEDY)), Err(FailureCode::ContextExceeded));
    assert_eq!(code(sequence(5, &[258], GREEDY)), Err(FailureCode::Internal), "an id that the model does not have");
    assert_eq!(code(sequence(5, &[257], GREEDY)), Ok(()));
    assert_eq!(code(sequence(5, &[], GREEDY)), Err(FailureCode::Internal), "admitted already");
}

#[test]
fn scores_match_greedy_tokens_and_need_free_pages() {
    let (context, folder) = (100, TempDir::new().expect("a folder"));
    let path = Tiny::new().write(&folder);
    // Room for one sequence of the whole context.
    let cache_bytes = Some(2 * 2 * 16 * 2 * 5 * 32);
    let options = LoadOptions { context: Some(context), slots: 1, cache_bytes, ..LoadOptions::default() };
    let mut loaded = load(&ModelReference::File(path), &options, &mut |_| {}).expect("loads");
    let sequence = sequence(70, &[], GREEDY);
    let prompt = sequence.prompt.clone();
    loaded.engine.admit(SequenceId(1), sequence).expect("admitted");
    let made = tokens(&mut loaded, &[1], 20).remove(&1).expect("made");
    let text = [prompt, made].concat();
    let busy = loaded.engine.score(&text).expect_err("the sequence holds the pages");
    assert_eq!(busy.code, FailureCode::QueueFull);
    loaded.engine.release(SequenceId(1));
    for _ in 0..3 {
        let scores = loaded.engine.score(&text).expect("the pages are free again after each call");
        // The most probable of 258 tokens has a probability of at least 1/258.
        assert!(scores.len() == 89 && scores[69..].iter().all(|score| *score >= -(258f32.ln())), "{scores:?}");
        assert!(scores.iter().all(|score| *score <= 0.0));
    }
    for text in [&[1][..], &[1; 101]] {
        let failure = loaded.engine.score(text).expect_err("too short or too long");
        assert_eq!(failure.code, FailureCode::InvalidRequest, "{} tokens: {failure}", text.len());
    }
}
