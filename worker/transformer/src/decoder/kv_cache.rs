//! Keys and values of tokens, in pages that sequences with a common prefix share.
//!
//! A registered page is found by its tokens and the page before it; it may be registered before it is full. A sequence that
//! begins with the tokens of registered pages uses them instead of computing them again. Of a page that only begins like the
//! sequence it gets a copy. Neither changes any result: computed again, the keys and values would have the same bits.
//!
//! Registered pages without users stay until their memory is needed. Then the least recently used one is evicted.
//!
//! ```text
//!            allocate                    register, release
//!   free  ──────────────▶  in use  ─────────────────────────▶  idle
//!    ▲                     ▲    │                              │  │
//!    │       release,      │    │          match_prefix        │  │
//!    └─ not registered ────┼────┘                              │  │
//!    │                     └───────────────────────────────────┘  │
//!    └────────────────────────── evict ───────────────────────────┘
//! ```

use std::collections::{BTreeMap, HashMap};

use rbee_kernels::{F16Buffer, PAGE_TOKENS};

/// Index of a page in a [`KvCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageId(u32);

/// Pages of keys and values, of a limited number. The memory of a page is allocated when it is first used.
pub struct KvCache {
    /// 16-bit numbers per page.
    page_len: usize,
    max_pages: usize,
    pages: Vec<Page>,
    /// Pages without users that are not registered.
    free: Vec<PageId>,
    /// Registered pages, by the registration number of the page before; `None` for the first page of a sequence.
    registered: HashMap<Option<u64>, Vec<PageId>>,
    /// Registered pages without users, by the count at which they lost their last user.
    idle: BTreeMap<u64, PageId>,
    /// Source of registration numbers and of the order of `idle`.
    count: u64,
    stats: KvCacheStats,
}

/// Counters of a [`KvCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KvCacheStats {
    /// Largest number of pages.
    pub pages: usize,
    /// Pages that sequences use now.
    pub used: usize,
    /// Registered pages without users now.
    pub idle: usize,
    /// Tokens that sequences looked up when they began.
    pub lookup_tokens: u64,
    /// Tokens of these lookups that were in the cache.
    pub hit_tokens: u64,
    /// Registered pages that were evicted to make room.
    pub evicted: u64,
}

struct Page {
    data: F16Buffer,
    users: u32,
    registration: Option<Registration>,
    /// Key in [`KvCache::idle`] while the page is there.
    idle_since: u64,
}

/// Contents by which a page is found.
struct Registration {
    /// Registration number of the page before.
    before: Option<u64>,
    /// At most [`PAGE_TOKENS`].
    tokens: Vec<u32>,
    number: u64,
}

impl KvCache {
    /// Creates a cache of at most `max_pages` pages of `page_len` 16-bit numbers.
    #[must_use]
    pub fn new(page_len: usize, max_pages: usize) -> Self {
        Self {
            page_len,
            max_pages,
            pages: Vec::new(),
            free: Vec::new(),
            registered: HashMap::new(),
            idle: BTreeMap::new(),
            count: 0,
            stats: KvCacheStats { pages: max_pages, ..KvCacheStats::default() },
        }
    }

    /// Finds the pages that hold the longest prefix of `tokens`, and makes the caller a user of them. Returns the pages and
    /// the number of tokens that they hold.
    ///
    /// The last token is never among them, because its logits must still be computed. The last page belongs to the caller
    /// alone if it is not full.
    pub fn match_prefix(&mut self, tokens: &[u32]) -> (Vec<PageId>, usize) {
        let (mut pages, mut before, mut held) = (Vec::new(), None, 0);
        let limit = tokens.len().saturating_sub(1);
        while let Some((page, common)) = self.longest_match(before, &tokens[held..limit]) {
            if common < PAGE_TOKENS {
                if let Some(copy) = self.copy(page) {
                    pages.push(copy);
                    held += common;
                }
                break;
            }
            before = self.registration_number(page);
            self.add_user(page);
            pages.push(page);
            held += PAGE_TOKENS;
        }
        self.stats.lookup_tokens += tokens.len() as u64;
        self.stats.hit_tokens += held as u64;
        (pages, held)
    }

    /// Returns a page for the caller alone, evicting one if necessary; `None` if all pages are in use. Its contents are
    /// unspecified.
    pub fn allocate(&mut self) -> Option<PageId> {
        let page = self.free.pop().or_else(|| self.grow()).or_else(|| self.evict_oldest())?;
        self.page_mut(page).users = 1;
        Some(page)
    }

    /// Number of pages that [`KvCache::allocate`] would return.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len() + self.max_pages - self.pages.len()
    }

    /// Registers the last of a sequence's `pages`, which holds `tokens`. All pages before it must be registered. A page that
    /// is not full must not be written any more.
    ///
    /// If another page with these tokens is registered already, it takes the place of the sequence's own. Idle pages that
    /// hold only a prefix of the tokens are freed.
    pub fn register(&mut self, pages: &mut [PageId], tokens: &[u32]) {
        let Some((last, before)) = pages.split_last_mut() else { return };
        let before = before.last().and_then(|page| self.registration_number(*page));
        if let Some((same, common)) = self.longest_match(before, tokens)
            && common == tokens.len()
        {
            self.add_user(same);
            self.release(&[*last]);
            *last = same;
            return;
        }
        self.free_prefixes(before, tokens);
        self.count += 1;
        let registration = Registration { before, tokens: tokens.to_vec(), number: self.count };
        self.page_mut(*last).registration = Some(registration);
        self.registered.entry(before).or_default().push(*last);
    }

    /// Ends the use of `pages` by one sequence.
    pub fn release(&mut self, pages: &[PageId]) {
        // From the end, so that the end of a sequence is evicted before its beginning, which others may share.
        for page in pages.iter().rev() {
            self.count += 1;
            let now = self.count;
            let slot = self.page_mut(*page);
            slot.users -= 1;
            if slot.users > 0 {
                continue;
            }
            if slot.registration.is_some() {
                slot.idle_since = now;
                self.idle.insert(now, *page);
            } else {
                self.free.push(*page);
            }
        }
    }

    /// Evicts all pages without users and sets the counters to 0.
    pub fn clear(&mut self) {
        while let Some(page) = self.evict_oldest() {
            self.free.push(page);
        }
        self.stats = KvCacheStats { pages: self.max_pages, ..KvCacheStats::default() };
    }

    /// Current counters.
    #[must_use]
    pub fn stats(&self) -> KvCacheStats {
        let used = self.pages.len() - self.free.len() - self.idle.len();
        KvCacheStats { used, idle: self.idle.len(), ..self.stats }
    }

    /// Keys and values of a page as bits of 16-bit floats, layer after layer.
    pub(crate) fn data(&self, page: PageId) -> &[u16] {
        &self.pages[page.0 as usize].data
    }

    /// Keys and values of a page, to be written by its only user.
    pub(crate) fn data_mut(&mut self, page: PageId) -> &mut [u16] {
        &mut self.page_mut(page).data
    }

    fn page_mut(&mut self, page: PageId) -> &mut Page {
        &mut self.pages[page.0 as usize]
    }

    fn registration_number(&self, page: PageId) -> Option<u64> {
        self.pages[page.0 as usize].registration.as_ref().map(|registration| registration.number)
    }

    /// Finds the registered page behind `before` that shares the longest prefix with `tokens`. Returns the page and the
    /// length of the common prefix; `None` if it is 0 for all.
    fn longest_match(&self, before: Option<u64>, tokens: &[u32]) -> Option<(PageId, usize)> {
        let common_prefix = |page: &PageId| {
            let registration = self.pages[page.0 as usize].registration.as_ref();
            let held = registration.map_or(&[][..], |registration| &registration.tokens);
            (*page, held.iter().zip(tokens).take_while(|(held, token)| held == token).count())
        };
        let found = self.registered.get(&before)?.iter().map(common_prefix).max_by_key(|(_, common)| *common);
        found.filter(|(_, common)| *common > 0)
    }

    /// Copies a page into one for the caller alone; `None` if all pages are in use.
    fn copy(&mut self, page: PageId) -> Option<PageId> {
        // The user keeps `allocate` from evicting the page that is copied.
        self.add_user(page);
        let copy = self.allocate();
        if let Some(copy) = copy
            && let Ok([from, to]) = self.pages.get_disjoint_mut([page.0 as usize, copy.0 as usize])
        {
            to.data.copy_from_slice(&from.data);
        }
        self.release(&[page]);
        copy
    }

    fn add_user(&mut self, page: PageId) {
        let slot = &mut self.pages[page.0 as usize];
        if slot.users == 0 {
            self.idle.remove(&slot.idle_since);
        }
        slot.users += 1;
    }

    fn grow(&mut self) -> Option<PageId> {
        if self.pages.len() == self.max_pages {
            return None;
        }
        let data = F16Buffer::zeroed(self.page_len);
        self.pages.push(Page { data, users: 0, registration: None, idle_since: 0 });
        Some(PageId(self.pages.len() as u32 - 1))
    }

    /// Frees the idle pages behind `before` whose tokens are a prefix of `tokens`.
    fn free_prefixes(&mut self, before: Option<u64>, tokens: &[u32]) {
        let is_prefix = |page: &PageId| {
            let slot = &self.pages[page.0 as usize];
            let registration = slot.registration.as_ref();
            slot.users == 0 && registration.is_some_and(|registration| tokens.starts_with(&registration.tokens))
        };
        let pages = self.registered.get(&before).into_iter().flatten().copied();
        for page in pages.filter(is_prefix).collect::<Vec<_>>() {
            self.idle.remove(&self.pages[page.0 as usize].idle_since);
            self.unregister(page);
            self.free.push(page);
        }
    }

    fn evict_oldest(&mut self) -> Option<PageId> {
        let (_, page) = self.idle.pop_first()?;
        self.unregister(page);
        self.stats.evicted += 1;
        Some(page)
    }

    fn unregister(&mut self, page: PageId) {
        let Some(Registration { before, .. }) = self.page_mut(page).registration.take() else { return };
        let others = self.registered.entry(before).or_default();
        others.retain(|other| *other != page);
        if others.is_empty() {
            self.registered.remove(&before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pages: usize) -> Vec<u32> {
        (0..(pages * PAGE_TOKENS) as u32).collect()
    }

    /// Pages of a sequence that has computed `tokens`.
    fn filled(cache: &mut KvCache, tokens: &[u32]) -> Vec<PageId> {
        let (mut pages, _) = cache.match_prefix(tokens);
        for part in &tokens.as_chunks::<PAGE_TOKENS>().0[pages.len()..] {
            pages.push(cache.allocate().expect("there is room"));
            cache.register(&mut pages, part);
        }
        pages
    }

    #[test]
    fn sequences_share_full_pages_but_never_the_last_token() {
        let mut cache = KvCache::new(8, 10);
        let first = filled(&mut cache, &tokens(3));
        let mut other = tokens(3);
        other[2 * PAGE_TOKENS] = 999;
        assert_eq!(cache.match_prefix(&other), (first[..2].to_vec(), 2 * PAGE_TOKENS));
        assert_eq!(cache.match_prefix(&[&tokens(3)[..], &[5]].concat()), (first.clone(), 3 * PAGE_TOKENS));
        assert_eq!(cache.match_prefix(&tokens(3)[1..]), (vec![], 0), "the same tokens at other positions do not match");
        assert_eq!(cache.stats().used, 3);
        assert_eq!(cache.stats().hit_tokens as usize, (2 + 3) * PAGE_TOKENS);
        let (pages, held) = cache.match_prefix(&tokens(3));
        assert_eq!(
            (&pages[..2], held),
            (&first[..2], 3 * PAGE_TOKENS - 1),
            "the last token of the third page is not among them"
        );
        assert_ne!(pages[2], first[2], "a page that is not full belongs to one sequence");
    }

    #[test]
    fn a_page_that_matches_in_part_is_copied() {
        let mut cache = KvCache::new(8, 10);
        let mut first = filled(&mut cache, &tokens(1));
        first.push(cache.allocate().expect("there is room"));
        cache.data_mut(first[1]).fill(7);
        let end = [500, 501, 502];
        cache.register(&mut first, &end);
        cache.release(&first);
        for (continuation, common) in
            [(&[500, 501, 502, 503][..], 3), (&[500, 501, 502], 2), (&[500, 9, 9], 1), (&[9, 9], 0)]
        {
            let sequence = [&tokens(1)[..], continuation].concat();
            let (pages, held) = cache.match_prefix(&sequence);
            assert_eq!((pages[0], held), (first[0], PAGE_TOKENS + common), "{continuation:?}");
            if common > 0 {
                assert!(pages[1] != first[1] && cache.data(pages[1]).iter().all(|number| *number == 7));
            }
            cache.release(&pages);
        }
        assert_eq!((cache.stats().idle, cache.available()), (2, 10), "copies are freed, not registered");
    }

    #[test]
    fn a_registered_end_is_not_stored_twice() {
        let mut cache = KvCache::new(8, 10);
        let longer = [1, 2, 3, 9, 9];
        for (end, idle) in
            [(&[1, 2, 3][..], 1), (&[1, 2], 1), (&[1, 2, 3], 1), (&[1, 2, 4], 2), (&longer, 2), (&[1, 2, 3], 2)]
        {
            let mut pages = vec![cache.allocate().expect("there is room")];
            cache.register(&mut pages, end);
            cache.release(&pages);
            assert_eq!((cache.stats().idle, cache.available()), (idle, 10), "{end:?}");
        }
        assert_eq!(
            cache.match_prefix(&[&longer[..], &[1]].concat()).1,
            longer.len(),
            "the longer page replaced the shorter one"
        );
        assert_eq!(cache.stats().evicted, 0, "replacing is not evicting");
    }

    #[test]
    fn a_copy_never_evicts_its_source() {
        let mut cache = KvCache::new(8, 1);
        let mut only = vec![cache.allocate().expect("there is room")];
        cache.register(&mut only, &[1, 2]);
        cache.release(&only);
        assert_eq!(cache.match_prefix(&[1, 2, 3]), (vec![], 0));
        assert_eq!((cache.stats().idle, cache.available()), (1, 1));
    }

    #[test]
    fn two_sequences_with_the_same_tokens_end_with_one_page() {
        let mut cache = KvCache::new(8, 10);
        let part = *tokens(1).first_chunk::<PAGE_TOKENS>().expect("a page");
        let mut first = vec![cache.allocate().expect("room")];
        let mut second = vec![cache.allocate().expect("room")];
        cache.register(&mut first, &part);
        cache.register(&mut second, &part);
        assert_eq!(first, second);
        assert_eq!((cache.stats().used, cache.available()), (1, 9));
        cache.release(&first);
        assert_eq!(cache.stats().used, 1, "the other sequence still uses it");
        cache.release(&second);
        assert_eq!((cache.stats().used, cache.stats().idle, cache.available()), (0, 1, 10));
    }

    #[test]
    fn the_least_recently_used_page_is_evicted_end_first() {
        let mut cache = KvCache::new(8, 4);
        let old = filled(&mut cache, &tokens(2));
        let other: Vec<u32> = tokens(2).iter().map(|token| token + 1000).collect();
        let new = filled(&mut cache, &other);
        cache.release(&old);
        cache.release(&new);
        assert_eq!(cache.allocate(), Some(old[1]));
        assert_eq!(cache.match_prefix(&[&tokens(2)[..], &[1]].concat()).0, old[..1]);
        assert_eq!(cache.allocate(), Some(new[1]), "the first page of the old sequence is in use again");
        assert_eq!(cache.allocate(), Some(new[0]));
        assert_eq!(cache.allocate(), None);
        assert_eq!(cache.match_prefix(&other), (vec![], 0));
        assert_eq!(cache.stats().evicted, 3);
    }
}
