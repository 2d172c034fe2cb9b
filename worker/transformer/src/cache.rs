//! Keys and values of tokens, in pages that sequences share where they begin alike.
//!
//! A page is known by its tokens and by the page before it, and may be known before it is full. A sequence that begins with
//! known pages uses them instead of computing them again, and a copy of the one that begins as it goes on: what it would
//! compute has the same bits. Pages that nobody uses stay until their memory is needed, the longest unused first.

use std::collections::{BTreeMap, HashMap};

use rbee_kernels::{Numbers, PAGE};

/// A page of a [`Cache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page(u32);

/// Pages, at most as many as fit a budget; memory is taken as they are first used.
pub struct Cache {
    /// 16-bit numbers in a page.
    size: usize,
    most: usize,
    pages: Vec<Slot>,
    /// Pages without users and without a key.
    free: Vec<Page>,
    /// Known pages, by the number of the one before.
    known: HashMap<Option<u64>, Vec<Page>>,
    /// Known pages without users, by when that began.
    idle: BTreeMap<u64, Page>,
    /// Counts what is numbered: known pages and moments.
    count: u64,
    stats: CacheStats,
}

/// Figures of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Pages that there may be.
    pub pages: usize,
    /// Pages that sequences use.
    pub used: usize,
    /// Known pages that nobody uses now.
    pub idle: usize,
    /// Tokens with which sequences began.
    pub asked_tokens: u64,
    /// How many of them were known.
    pub found_tokens: u64,
    /// Known pages that were given to others because there was no other room.
    pub forgotten: u64,
}

/// What a known page holds: at most [`PAGE`] tokens, behind another page.
struct Known {
    before: Option<u64>,
    tokens: Vec<u32>,
    /// Its own number.
    number: u64,
}

struct Slot {
    numbers: Numbers,
    users: u32,
    known: Option<Known>,
    idle_since: u64,
}

impl Cache {
    /// A cache of at most `most` pages of `size` 16-bit numbers.
    #[must_use]
    pub fn new(size: usize, most: usize) -> Self {
        let stats = CacheStats { pages: most, ..CacheStats::default() };
        let (pages, free) = (Vec::new(), Vec::new());
        Self { size, most, pages, free, known: HashMap::new(), idle: BTreeMap::new(), count: 0, stats }
    }

    /// The pages that hold the beginning of `tokens`, and how many of these; the caller is a user of them from now on. The
    /// last token is never among them, as its logits are yet to be computed. A page that is not full is the caller's alone.
    pub fn begin(&mut self, tokens: &[u32]) -> (Vec<Page>, usize) {
        let (mut pages, mut before, mut held) = (Vec::new(), None, 0);
        let most = tokens.len().saturating_sub(1);
        while let Some((page, alike)) = self.likest(before, &tokens[held..most]) {
            if alike < PAGE {
                if let Some(copy) = self.copy(page) {
                    pages.push(copy);
                    held += alike;
                }
                break;
            }
            before = self.number(page);
            self.take(page);
            pages.push(page);
            held += PAGE;
        }
        self.stats.asked_tokens += tokens.len() as u64;
        self.stats.found_tokens += held as u64;
        (pages, held)
    }

    /// An empty page for the caller; `None` when all are in use.
    pub fn page(&mut self) -> Option<Page> {
        let page = self.free.pop().or_else(|| self.grow()).or_else(|| self.forget_oldest())?;
        self.slot(page).users = 1;
        Some(page)
    }

    /// How many pages [`Cache::page`] would give.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len() + self.most - self.pages.len()
    }

    /// Makes the last of a sequence's `pages`, which holds `tokens`, known; all before it are known. Where one that holds them
    /// is known already, the sequence gets that one instead, and one that holds but the beginning of them is given up. A page
    /// that is not full must not be written any more.
    pub fn keep(&mut self, pages: &mut [Page], tokens: &[u32]) {
        let Some((last, before)) = pages.split_last_mut() else { return };
        let before = before.last().and_then(|page| self.number(*page));
        if let Some((same, alike)) = self.likest(before, tokens)
            && alike == tokens.len()
        {
            self.take(same);
            self.release(&[*last]);
            *last = same;
            return;
        }
        self.give_up_beginnings(before, tokens);
        self.count += 1;
        let known = Known { before, tokens: tokens.to_vec(), number: self.count };
        self.slot(*last).known = Some(known);
        self.known.entry(before).or_default().push(*last);
    }

    /// Says that a sequence does not use its pages any more.
    pub fn release(&mut self, pages: &[Page]) {
        // The end of a sequence is forgotten before its beginning, which others may share.
        for page in pages.iter().rev() {
            self.count += 1;
            let now = self.count;
            let slot = self.slot(*page);
            slot.users -= 1;
            if slot.users > 0 {
                continue;
            }
            if slot.known.is_some() {
                slot.idle_since = now;
                self.idle.insert(now, *page);
            } else {
                self.free.push(*page);
            }
        }
    }

    /// Forgets all pages without users, and counts from 0 again.
    pub fn clear(&mut self) {
        while let Some(page) = self.forget_oldest() {
            self.free.push(page);
        }
        self.stats = CacheStats { pages: self.most, ..CacheStats::default() };
    }

    /// What it holds and has held.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let used = self.pages.len() - self.free.len() - self.idle.len();
        CacheStats { used, idle: self.idle.len(), ..self.stats }
    }

    /// The numbers of a page.
    pub(crate) fn numbers(&self, page: Page) -> &[u16] {
        &self.pages[page.0 as usize].numbers
    }

    /// The numbers of a page, to be written by its user.
    pub(crate) fn numbers_mut(&mut self, page: Page) -> &mut [u16] {
        &mut self.slot(page).numbers
    }

    fn slot(&mut self, page: Page) -> &mut Slot {
        &mut self.pages[page.0 as usize]
    }

    fn number(&self, page: Page) -> Option<u64> {
        self.pages[page.0 as usize].known.as_ref().map(|known| known.number)
    }

    /// The known page behind `before` that begins with the most of `tokens`, and how many these are; `None` if it is none.
    fn likest(&self, before: Option<u64>, tokens: &[u32]) -> Option<(Page, usize)> {
        let alike = |page: &Page| {
            let known = self.pages[page.0 as usize].known.as_ref();
            let held = known.map_or(&[][..], |known| &known.tokens);
            (*page, held.iter().zip(tokens).take_while(|(held, token)| held == token).count())
        };
        let found = self.known.get(&before)?.iter().map(alike).max_by_key(|(_, alike)| *alike);
        found.filter(|(_, alike)| *alike > 0)
    }

    /// A page of the caller's with the numbers of another; `None` when all are in use.
    fn copy(&mut self, page: Page) -> Option<Page> {
        self.take(page);
        let copy = self.page();
        if let Some(copy) = copy
            && let Ok([from, to]) = self.pages.get_disjoint_mut([page.0 as usize, copy.0 as usize])
        {
            to.numbers.copy_from_slice(&from.numbers);
        }
        self.release(&[page]);
        copy
    }

    fn take(&mut self, page: Page) {
        let slot = &mut self.pages[page.0 as usize];
        if slot.users == 0 {
            self.idle.remove(&slot.idle_since);
        }
        slot.users += 1;
    }

    fn grow(&mut self) -> Option<Page> {
        if self.pages.len() == self.most {
            return None;
        }
        let numbers = Numbers::zeroed(self.size);
        self.pages.push(Slot { numbers, users: 0, known: None, idle_since: 0 });
        Some(Page(self.pages.len() as u32 - 1))
    }

    /// Frees the pages behind `before` that nobody uses and that hold the beginning of `tokens` and nothing else.
    fn give_up_beginnings(&mut self, before: Option<u64>, tokens: &[u32]) {
        let is_beginning = |page: &Page| {
            let slot = &self.pages[page.0 as usize];
            slot.users == 0 && slot.known.as_ref().is_some_and(|known| tokens.starts_with(&known.tokens))
        };
        let pages = self.known.get(&before).into_iter().flatten().copied();
        for page in pages.filter(is_beginning).collect::<Vec<_>>() {
            self.idle.remove(&self.pages[page.0 as usize].idle_since);
            self.forget(page);
            self.free.push(page);
        }
    }

    fn forget_oldest(&mut self) -> Option<Page> {
        let (_, page) = self.idle.pop_first()?;
        self.forget(page);
        self.stats.forgotten += 1;
        Some(page)
    }

    /// Makes a page unknown.
    fn forget(&mut self, page: Page) {
        let Some(Known { before, .. }) = self.slot(page).known.take() else { return };
        let others = self.known.entry(before).or_default();
        others.retain(|other| *other != page);
        if others.is_empty() {
            self.known.remove(&before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pages: usize) -> Vec<u32> {
        (0..(pages * PAGE) as u32).collect()
    }

    /// A sequence that has filled pages with `tokens`.
    fn filled(cache: &mut Cache, tokens: &[u32]) -> Vec<Page> {
        let (mut pages, _) = cache.begin(tokens);
        for part in &tokens.as_chunks::<PAGE>().0[pages.len()..] {
            pages.push(cache.page().expect("there is room"));
            cache.keep(&mut pages, part);
        }
        pages
    }

    #[test]
    fn what_begins_alike_shares_its_full_pages_and_never_the_last_token() {
        let mut cache = Cache::new(8, 10);
        let first = filled(&mut cache, &tokens(3));
        let mut other = tokens(3);
        other[2 * PAGE] = 999;
        assert_eq!(cache.begin(&other), (first[..2].to_vec(), 2 * PAGE));
        assert_eq!(cache.begin(&[&tokens(3)[..], &[5]].concat()), (first.clone(), 3 * PAGE));
        assert_eq!(cache.begin(&tokens(3)[1..]), (vec![], 0), "the same tokens at other places");
        assert_eq!(cache.stats().used, 3);
        assert_eq!(cache.stats().found_tokens as usize, (2 + 3) * PAGE);
        let (pages, held) = cache.begin(&tokens(3));
        assert_eq!((&pages[..2], held), (&first[..2], 3 * PAGE - 1), "its last token is the last of the third page");
        assert_ne!(pages[2], first[2], "what is not full is its own");
    }

    #[test]
    fn a_page_that_begins_as_a_sequence_goes_on_is_copied() {
        let mut cache = Cache::new(8, 10);
        let mut first = filled(&mut cache, &tokens(1));
        first.push(cache.page().expect("there is room"));
        cache.numbers_mut(first[1]).fill(7);
        let end = [500, 501, 502];
        cache.keep(&mut first, &end);
        cache.release(&first);
        for (goes_on, alike) in [(&[500, 501, 502, 503][..], 3), (&[500, 501, 502], 2), (&[500, 9, 9], 1), (&[9, 9], 0)]
        {
            let asked = [&tokens(1)[..], goes_on].concat();
            let (pages, held) = cache.begin(&asked);
            assert_eq!((pages[0], held), (first[0], PAGE + alike), "{goes_on:?}");
            if alike > 0 {
                assert!(pages[1] != first[1] && cache.numbers(pages[1]).iter().all(|number| *number == 7));
            }
            cache.release(&pages);
        }
        assert_eq!((cache.stats().idle, cache.available()), (2, 10), "copies are nobody's");
    }

    #[test]
    fn an_end_that_is_known_already_is_not_kept_twice() {
        let mut cache = Cache::new(8, 10);
        let longer = [1, 2, 3, 9, 9];
        for (end, idle) in
            [(&[1, 2, 3][..], 1), (&[1, 2], 1), (&[1, 2, 3], 1), (&[1, 2, 4], 2), (&longer, 2), (&[1, 2, 3], 2)]
        {
            let mut pages = vec![cache.page().expect("there is room")];
            cache.keep(&mut pages, end);
            cache.release(&pages);
            assert_eq!((cache.stats().idle, cache.available()), (idle, 10), "{end:?}");
        }
        assert_eq!(
            cache.begin(&[&longer[..], &[1]].concat()).1,
            longer.len(),
            "the longer one took the shorter one's place"
        );
        assert_eq!(cache.stats().forgotten, 0, "and nothing was forgotten");
    }

    #[test]
    fn a_copy_never_takes_the_page_that_it_is_made_of() {
        let mut cache = Cache::new(8, 1);
        let mut only = vec![cache.page().expect("there is room")];
        cache.keep(&mut only, &[1, 2]);
        cache.release(&only);
        assert_eq!(cache.begin(&[1, 2, 3]), (vec![], 0));
        assert_eq!((cache.stats().idle, cache.available()), (1, 1));
    }

    #[test]
    fn two_that_compute_the_same_end_with_one_page() {
        let mut cache = Cache::new(8, 10);
        let part = *tokens(1).first_chunk::<PAGE>().expect("a page");
        let mut first = vec![cache.page().expect("room")];
        let mut second = vec![cache.page().expect("room")];
        cache.keep(&mut first, &part);
        cache.keep(&mut second, &part);
        assert_eq!(first, second);
        assert_eq!((cache.stats().used, cache.available()), (1, 9));
        cache.release(&first);
        assert_eq!(cache.stats().used, 1, "the other still uses it");
        cache.release(&second);
        assert_eq!((cache.stats().used, cache.stats().idle, cache.available()), (0, 1, 10));
    }

    #[test]
    fn the_longest_unused_is_forgotten_first_and_its_end_before_its_beginning() {
        let mut cache = Cache::new(8, 4);
        let old = filled(&mut cache, &tokens(2));
        let other: Vec<u32> = tokens(2).iter().map(|token| token + 1000).collect();
        let new = filled(&mut cache, &other);
        cache.release(&old);
        cache.release(&new);
        assert_eq!(cache.page(), Some(old[1]));
        assert_eq!(cache.begin(&[&tokens(2)[..], &[1]].concat()).0, old[..1]);
        assert_eq!(cache.page(), Some(new[1]), "the beginning of the old one is in use again");
        assert_eq!(cache.page(), Some(new[0]));
        assert_eq!(cache.page(), None);
        assert_eq!(cache.begin(&other), (vec![], 0));
        assert_eq!(cache.stats().forgotten, 3);
    }
}
