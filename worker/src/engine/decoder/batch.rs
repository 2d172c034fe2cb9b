//! The admitted sequences and their pages: plans which tokens the next step computes.

use rbee_kernels::PAGE_TOKENS;
use rbee_transformer::{KvCache, KvCacheStats};

use super::sequence::{BatchEntry, RunningSequence};
use crate::{
    contract::SequenceId,
    decide::batch::{Demand, divide_rows},
};

/// Largest number of answering rows, drafted ones included, in a step with drafts. With more rows a step is no longer bound by
/// reading the weights, and drafts would make it slower.
pub(super) const MAX_DRAFTING_ROWS: usize = 8;

/// The admitted sequences, and the KV cache that holds their pages.
pub(super) struct Batch {
    pub(super) cache: KvCache,
    /// In the order of admission.
    pub(super) sequences: Vec<RunningSequence>,
    /// Context length in tokens.
    pub(super) context: usize,
    /// Number of times that a sequence lost its pages to an older one.
    pub(super) preempted: u64,
}

impl Batch {
    pub(super) fn new(cache: KvCache, context: usize) -> Self {
        Self { cache, sequences: Vec::new(), context, preempted: 0 }
    }

    /// Plans the next step: an entry per sequence, which is empty if the sequence gets no rows or finds no free page. Allocates
    /// the pages for it. Younger sequences lose their pages to older ones if none are free.
    pub(super) fn plan(&mut self) -> Vec<BatchEntry> {
        let mut entries = Vec::new();
        for (index, rows) in divide_rows(&self.demands()).into_iter().enumerate() {
            if self.sequences[index].cached() == 0 && rows > 0 {
                self.sequences[index].match_prefix(&mut self.cache);
            }
            let entry = self.sequences[index].entry(rows);
            let has_room = self.make_room(index, entry.tokens.len());
            entries.push(if has_room { entry } else { BatchEntry::default() });
        }
        entries
    }

    /// Removes a sequence and releases its pages. Does nothing if it is not admitted.
    pub(super) fn remove(&mut self, id: SequenceId) {
        if let Some(index) = self.sequences.iter().position(|sequence| sequence.id == id) {
            self.sequences.remove(index).release_pages(&mut self.cache);
        }
    }

    /// Removes the sequences that have filled their context, and returns their ids.
    pub(super) fn remove_full(&mut self) -> Vec<SequenceId> {
        let is_full = |sequence: &&RunningSequence| sequence.tokens().len() >= self.context;
        let full: Vec<SequenceId> = self.sequences.iter().filter(is_full).map(|sequence| sequence.id).collect();
        full.iter().for_each(|id| self.remove(*id));
        full
    }

    /// Evicts all cached pages and resets the counters.
    pub(super) fn clear(&mut self) {
        self.cache.clear();
        self.preempted = 0;
    }

    pub(super) fn cache_stats(&self) -> KvCacheStats {
        self.cache.stats()
    }

    /// Tokens that each sequence could compute next.
    fn demands(&self) -> Vec<Demand> {
        let answering = self.sequences.iter().filter(|sequence| sequence.is_answering()).count();
        let limit = MAX_DRAFTING_ROWS.checked_div(answering).map_or(0, |rows| rows.saturating_sub(1));
        let limit = limit.min(self.cache.available() * PAGE_TOKENS);
        let demand = |sequence: &RunningSequence| match sequence.is_answering() {
            true => Demand::Decode(sequence.draft_len(limit, self.context)),
            false => Demand::Prefill(sequence.pending()),
        };
        self.sequences.iter().map(demand).collect()
    }

    /// Allocates the pages of a sequence for `rows` more tokens, from younger sequences if none are free. Returns false if
    /// there are not enough.
    fn make_room(&mut self, index: usize, rows: usize) -> bool {
        while self.sequences[index].missing_pages(rows) > 0 {
            if let Some(page) = self.cache.allocate() {
                self.sequences[index].add_page(page);
                continue;
            }
            let has_pages = |at: &usize| !self.sequences[*at].pages().is_empty();
            let Some(youngest) = (index + 1..self.sequences.len()).rev().find(has_pages) else { return false };
            self.preempted += 1;
            self.sequences[youngest].release_pages(&mut self.cache);
        }
        true
    }
}
