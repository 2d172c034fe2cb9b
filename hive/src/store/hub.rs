//! The hub as this store uses it: what a repository holds, and the bytes of a file from some place on.
//!
//! Addresses, the token and the HTTP client are hf-hub's. Its client follows redirects and tells the token only to the
//! hub itself: reqwest drops it where a redirect leads to another host or port. A file is asked for by its commit, so
//! that a branch which moves on meanwhile does not give half of each.

use std::{error::Error, fmt::Write as _, io, path::Path, pin::Pin, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use hf_hub::{
    Cache, Repo, RepoType,
    api::tokio::{Api, ApiBuilder},
};
use hub_http::{
    RequestBuilder, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE, RETRY_AFTER},
};
use rbee_schema::{ByteSize, Failure, HubFile};
use tokio::time::timeout;

use crate::decide::{
    fetch::{Refusal, Setback, meaning},
    listing::Listing,
};

/// A client of one hub.
#[derive(Debug)]
pub(super) struct Hub {
    api: Api,
    has_token: bool,
    silence: Duration,
    largest_listing: ByteSize,
}

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// It may when it is made again.
    Setback(Setback),
    /// It will not.
    Failure(Failure),
}

/// The bytes of a file.
pub(super) struct Body {
    /// Where in the file they begin: where they were asked for, or at its beginning.
    pub(super) from: u64,
    /// The size of the whole file, where the answer says it.
    pub(super) total: Option<u64>,
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, hub_http::Error>> + Send>>,
    silence: Duration,
}

impl Hub {
    pub(super) fn new(
        folder: &Path,
        endpoint: &str,
        token: Option<String>,
        silence: Duration,
        largest_listing: ByteSize,
    ) -> io::Result<Self> {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            let message = format!("the hub's address is `{endpoint}`: expected http://... or https://...");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let has_token = token.is_some();
        let api = ApiBuilder::from_cache(Cache::new(folder.to_owned()))
            .with_endpoint(endpoint.trim_end_matches('/').to_owned())
            .with_token(token)
            .with_progress(false)
            .with_user_agent("rbee", env!("CARGO_PKG_VERSION"))
            .build();
        let api = api.map_err(|error| io::Error::other(format!("the client of the hub cannot be made: {error}")))?;
        Ok(Self { api, has_token, silence, largest_listing })
    }

    /// What the repository holds at the wanted revision.
    pub(super) async fn listing(&self, wanted: &HubFile) -> Result<Listing, Unanswered> {
        let request = self.api.repo(repo(wanted)).info_request().query(&[("blobs", "true")]);
        let mut body = self.send(wanted, request).await?.body(self.silence)?;
        let mut text = Vec::new();
        while let Some(bytes) = body.next().await? {
            text.extend_from_slice(&bytes);
            if text.len() as u64 > self.largest_listing.bytes() {
                let most = self.largest_listing;
                let message = format!("the hub's description of the repository is larger than {most} (hub_listing)");
                return Err(Setback::new(message).into());
            }
        }
        Listing::read(&text).map_err(|wrong| {
            Setback::new(format!("what the hub answers is no description of a repository: {wrong}")).into()
        })
    }

    /// The file at `path` of a commit, from byte `from` on.
    pub(super) async fn open(&self, wanted: &HubFile, commit: &str, path: &str, from: u64) -> Result<Body, Unanswered> {
        let mut request = self.api.client().get(self.address(wanted, commit, path));
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let body = self.send(wanted, request).await?.body(self.silence)?;
        // A server that does not know ranges sends the whole file.
        if body.from != from && body.from != 0 {
            let message =
                format!("the hub was asked for what follows byte {from} and sends what follows {}", body.from);
            return Err(Setback::new(message).into());
        }
        Ok(body)
    }

    /// The size of a file that the listing leaves out.
    pub(super) async fn size(&self, wanted: &HubFile, commit: &str, path: &str) -> Result<u64, Unanswered> {
        let request = self.api.client().get(self.address(wanted, commit, path)).header(RANGE, "bytes=0-0");
        let body = self.send(wanted, request).await?.body(self.silence)?;
        body.total.ok_or_else(|| Setback::new(format!("the hub does not say how large {path} is")).into())
    }

    fn address(&self, wanted: &HubFile, commit: &str, path: &str) -> String {
        let repo = Repo::with_revision(wanted.repository.clone(), RepoType::Model, commit.to_owned());
        self.api.repo(repo).url(path)
    }

    async fn send(&self, wanted: &HubFile, request: RequestBuilder) -> Result<Answer, Unanswered> {
        let response = match timeout(self.silence, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Setback::new(words(error)).into()),
            Err(_) => return Err(Setback::new(format!("the hub was silent for {:?}", self.silence)).into()),
        };
        if response.status().is_success() {
            return Ok(Answer(response));
        }
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let refusal = Refusal {
            status: response.status().as_u16(),
            code: header("x-error-code").map(str::to_owned),
            wait: header(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()).map(Duration::from_secs),
        };
        Err(match meaning(wanted, &refusal, self.has_token) {
            Ok(setback) => setback.into(),
            Err(failure) => Unanswered::Failure(failure),
        })
    }
}

/// An answer that is no refusal.
struct Answer(Response);

impl Answer {
    fn body(self, silence: Duration) -> Result<Body, Unanswered> {
        let Self(response) = self;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (from, total) = match response.status() {
            StatusCode::PARTIAL_CONTENT => header(CONTENT_RANGE)
                .and_then(range)
                .ok_or_else(|| Setback::new("the hub sends a part of the file and does not say which"))?,
            _ => (0, header(CONTENT_LENGTH).and_then(|text| text.parse().ok())),
        };
        Ok(Body { from, total, bytes: response.bytes_stream().boxed(), silence })
    }
}

impl Body {
    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Setback> {
        match timeout(self.silence, self.bytes.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(Some(Err(error))) => Err(Setback::new(format!("the connection was cut: {}", words(error)))),
            Err(_) => Err(Setback::new(format!("the hub was silent for {:?}", self.silence))),
        }
    }
}

impl From<Setback> for Unanswered {
    fn from(setback: Setback) -> Self {
        Self::Setback(setback)
    }
}

/// The repository at the wanted revision, as hf-hub names it.
pub(super) fn repo(wanted: &HubFile) -> Repo {
    let revision = wanted.revision.clone().unwrap_or_else(|| "main".to_owned());
    Repo::with_revision(wanted.repository.clone(), RepoType::Model, revision)
}

/// Reads `bytes 5-9/10`: where it begins, and the size of the whole.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = span.split_once('-')?;
    Some((from.parse().ok()?, total.parse().ok()))
}

/// An error with its causes. Without the address: that of a redirect may hold a signature.
fn words(error: hub_http::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(words, ": {cause}");
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_file_says_where_it_begins() {
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        for wrong in ["", "bytes */10", "5-9/10", "bytes x-9/10"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }
}
