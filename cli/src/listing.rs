//! Everything that the queen knows of a kind, page after page.

use rbee_nats::Bus;
use rbee_schema::{
    Failure,
    api::{Hives, Models, PageRequest, Workers},
};
use serde::de::DeserializeOwned;

/// A reply that is a page of a list.
pub(crate) trait Paged: DeserializeOwned {
    /// The operation that replies with it.
    const OPERATION: &'static str;

    /// Where the next page begins.
    fn next(&mut self) -> Option<String>;

    /// Takes in the page that follows.
    fn extend(&mut self, page: Self);
}

/// Asks for all pages.
pub(crate) async fn all<P: Paged>(bus: &Bus) -> Result<P, Failure> {
    let mut all: P = bus.request(P::OPERATION, &PageRequest::default()).await?;
    let mut next = all.next();
    while let Some(after) = next {
        let mut page: P = bus.request(P::OPERATION, &PageRequest { after: Some(after) }).await?;
        next = page.next();
        all.extend(page);
    }
    Ok(all)
}

impl Paged for Hives {
    const OPERATION: &'static str = "hives";

    fn next(&mut self) -> Option<String> {
        self.next.take()
    }

    fn extend(&mut self, page: Self) {
        self.hives.extend(page.hives);
    }
}

impl Paged for Models {
    const OPERATION: &'static str = "models";

    fn next(&mut self) -> Option<String> {
        self.next.take()
    }

    fn extend(&mut self, page: Self) {
        self.models.extend(page.models);
    }
}

impl Paged for Workers {
    const OPERATION: &'static str = "workers";

    fn next(&mut self) -> Option<String> {
        self.next.take()
    }

    fn extend(&mut self, page: Self) {
        self.workers.extend(page.workers);
    }
}
