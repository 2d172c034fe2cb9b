//! Keys and values of tokens, in pages that sequences share where they begin alike.
//!
//! A page that is full is known by its tokens and by the page before it. A sequence that begins with known pages uses
//! them instead of computing them again; what it would compute has the same bits. Pages that nobody uses stay until their
//! memory is needed, the longest unused first.

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
    known: HashMap<Key, Page>,
    /// Known pages without users, by when that began.
    idle: BTreeMap<u64, Page>,
    /// Counts what is numbered: keys and moments.
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

/// The tokens of a page, and which page stands before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    before: Option<u64>,
    tokens: [u32; PAGE],
}

struct Slot {
    numbers: Numbers,
    users: u32,
    /// The key by which it is known, and its own number.
    key: Option<(Key, u64)>,
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

    /// The pages that are known to hold the beginning of `tokens`; the caller is a user of them from now on. The last token
    /// is never among theirs, as its logits are yet to be computed.
    pub fn begin(&mut self, tokens: &[u32]) -> Vec<Page> {
        let mut pages = Vec::new();
        let mut before = None;
        for part in tokens[..tokens.len().saturating_sub(1)].as_chunks::<PAGE>().0 {
            let Some(&page) = self.known.get(&Key { before, tokens: *part }) else { break };
            before = self.number(page);
            self.take(page);
            pages.push(page);
        }
        self.stats.asked_tokens += tokens.len() as u64;
        self.stats.found_tokens += (pages.len() * PAGE) as u64;
        pages
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

    /// Makes the last of a sequence's `pages`, which holds `tokens`, known; all before it are known. Where one of the same
    /// content is known already, the sequence gets that one instead.
    pub fn keep(&mut self, pages: &mut [Page], tokens: &[u32; PAGE]) {
        let Some((last, before)) = pages.split_last_mut() else { return };
        let key = Key { before: before.last().and_then(|page| self.number(*page)), tokens: *tokens };
        if let Some(&same) = self.known.get(&key) {
            self.take(same);
            self.release(&[*last]);
            *last = same;
            return;
        }
        self.count += 1;
        let number = self.count;
        self.slot(*last).key = Some((key.clone(), number));
        self.known.insert(key, *last);
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
            if slot.key.is_some() {
                slot.idle_since = now;
                self.idle.insert(now, *page);
            } else {
                self.free.push(*page);
            }
        }
    }

    /// Counts tokens and forgotten pages from 0 again.
    pub fn count_anew(&mut self) {
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
        self.pages[page.0 as usize].key.as_ref().map(|(_, number)| *number)
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
        self.pages.push(Slot { numbers, users: 0, key: None, idle_since: 0 });
        Some(Page(self.pages.len() as u32 - 1))
    }

    fn forget_oldest(&mut self) -> Option<Page> {
        let (_, page) = self.idle.pop_first()?;
        if let Some((key, _)) = self.slot(page).key.take() {
            self.known.remove(&key);
            self.stats.forgotten += 1;
        }
        Some(page)
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
        let mut pages = cache.begin(tokens);
        for part in &tokens.as_chunks::<PAGE>().0[pages.len()..] {
            pages.push(cache.page().expect("there is room"));
            cache.keep(&mut pages, part);
        }
        pages
    }

    #[test]
    fn what_begins_alike_shares_its_pages_and_never_the_last_token() {
        let mut cache = Cache::new(8, 10);
        let first = filled(&mut cache, &tokens(3));
        let mut other = tokens(3);
        other[2 * PAGE] = 999;
        assert_eq!(cache.begin(&other), first[..2]);
        assert_eq!(cache.begin(&tokens(3)), first[..2], "its last token is the last of the third page");
        assert_eq!(cache.begin(&[&tokens(3)[..], &[5]].concat()), first);
        assert!(cache.begin(&tokens(3)[1..]).is_empty(), "the same tokens at other places");
        assert_eq!(cache.stats().used, 3);
        assert_eq!(cache.stats().found_tokens as usize, (2 + 2 + 3) * PAGE);
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
        assert_eq!(cache.begin(&[&tokens(2)[..], &[1]].concat()), old[..1]);
        assert_eq!(cache.page(), Some(new[1]), "the beginning of the old one is in use again");
        assert_eq!(cache.page(), Some(new[0]));
        assert_eq!(cache.page(), None);
        assert!(cache.begin(&other).is_empty());
        assert_eq!(cache.stats().forgotten, 3);
    }
}
