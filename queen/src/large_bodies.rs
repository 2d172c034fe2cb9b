//! Memory for bodies that are larger than a message: a queen holds a few at a time, however many clients send one.

use std::sync::Arc;

use rbee_schema::{Failure, FailureCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Number of such bodies that are held at a time. With the default limit of 64 MiB they take 512 MiB at most.
const HELD: usize = 8;

/// Places for bodies that are larger than a message. Cheap to clone; all clones share the places.
#[derive(Debug, Clone)]
pub(crate) struct LargeBodies(Arc<Semaphore>);

/// A place for one body, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Default for LargeBodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HELD)))
    }
}

impl LargeBodies {
    /// Waits for a place. The caller limits the time.
    ///
    /// # Errors
    /// Never: nobody closes the places.
    pub(crate) async fn place(&self) -> Result<Place, Failure> {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let closed = |_| Failure::new(FailureCode::ShuttingDown, "this process takes no more large bodies");
        permit.map(|permit| Place { _permit: permit }).map_err(closed)
    }
}
