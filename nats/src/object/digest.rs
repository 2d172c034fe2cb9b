//! Digests of objects, as NATS writes them: `SHA-256=<base64>`.

use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use sha2::{Digest as _, Sha256};

/// Digest of content that is added piece by piece.
#[derive(Debug, Clone, Default)]
pub(crate) struct Digest(Sha256);

impl Digest {
    /// Adds a piece.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Digest of all pieces.
    pub(crate) fn text(self) -> String {
        format!("SHA-256={}", BASE64_URL_SAFE.encode(self.0.finalize()))
    }

    /// Digest of content as a whole.
    pub(crate) fn of(content: &[u8]) -> String {
        let mut digest = Self::default();
        digest.add(content);
        digest.text()
    }
}
