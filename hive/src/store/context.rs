//! The parts of a store that its fetches share.

use std::path::PathBuf;

use super::{catalogue::Catalogue, hub::Hub};
use crate::decide::fetch::RetryLimits;

/// Shared by all fetches of a store.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) folder: PathBuf,
    pub(super) catalogue: Catalogue,
    pub(super) hub: Hub,
    pub(super) retry: RetryLimits,
}
