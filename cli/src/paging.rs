//! Lists of the queen, fetched page by page.

use rbee_nats::Bus;
use rbee_schema::{
    Failure,
    api::{Batches, Hives, Models, PageRequest, Tenants, Workers},
};
use serde::de::DeserializeOwned;

/// A reply that holds one page of a list.
pub(crate) trait Paged: DeserializeOwned {
    /// Operation of the queen that replies with such a page.
    const OPERATION: &'static str;

    /// Takes the cursor of the following page; none on the last page.
    fn next(&mut self) -> Option<String>;

    /// Appends the entries of the following page.
    fn extend(&mut self, page: Self);
}

/// Fetches every page and joins them.
///
/// # Errors
/// The queen does not answer, or refuses the request.
pub(crate) async fn fetch_all<P: Paged>(bus: &Bus) -> Result<P, Failure> {
    let mut all: P = bus.request(P::OPERATION, &PageRequest::default()).await?;
    let mut next = all.next();
    while let Some(after) = next {
        let mut page: P = bus.request(P::OPERATION, &PageRequest { after: Some(after) }).await?;
        next = page.next();
        all.extend(page);
    }
    Ok(all)
}

macro_rules! paged {
    ($reply:ident, $list:ident) => {
        impl Paged for $reply {
            const OPERATION: &'static str = stringify!($list);

            fn next(&mut self) -> Option<String> {
                self.next.take()
            }

            fn extend(&mut self, page: Self) {
                self.$list.extend(page.$list);
            }
        }
    };
}

paged!(Batches, batches);
paged!(Hives, hives);
paged!(Models, models);
paged!(Tenants, tenants);
paged!(Workers, workers);
