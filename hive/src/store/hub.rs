//! Client of the hub: the files of a repository, and the bytes of a file from an offset on.
//!
//! Addresses, the token and the HTTP client are those of hf-hub. The client follows redirects and sends the token only to
//! the hub itself: reqwest drops it where a redirect leads to another host or port. A file is requested by its commit, so
//! that a branch that moves meanwhile does not mix two versions of the file.

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
    fetch::{Refusal, Setback, interpret},
    listing::Listing,
};

/// A client of one hub.
#[derive(Debug)]
pub(super) struct Hub {
    api: Api,
    has_token: bool,
    idle_timeout: Duration,
    largest_listing: ByteSize,
}

/// Failure of a request.
#[derive(Debug)]
pub(super) enum HubError {
    /// It may succeed when it is repeated.
    Setback(Setback),
    /// It will not succeed.
    Failure(Failure),
}

/// Bytes of a file.
pub(super) struct Body {
    /// Offset of the first byte: the requested one, or 0.
    pub(super) offset: u64,
    /// Size of the whole file, where the response states it.
    pub(super) total: Option<u64>,
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, hub_http::Error>> + Send>>,
    idle_timeout: Duration,
}

impl Hub {
    pub(super) fn new(
        folder: &Path,
        endpoint: &str,
        token: Option<String>,
        idle_timeout: Duration,
        largest_listing: ByteSize,
    ) -> io::Result<Self> {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            let message = format!("the address of the hub is `{endpoint}`: expected http://... or https://...");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let has_token = token.is_some();
        let api = ApiBuilder::from_cache(Cache::new(folder.to_owned()))
            .with_endpoint(endpoint.trim_end_matches('/').to_owned())
            .with_token(token)
            .with_progress(false)
            .with_user_agent("rbee", env!("CARGO_PKG_VERSION"))
            .build();
        let api = api.map_err(|error| io::Error::other(format!("failed to create the client of the hub: {error}")))?;
        Ok(Self { api, has_token, idle_timeout, largest_listing })
    }

    /// Contents of the repository at the requested revision.
    pub(super) async fn listing(&self, file: &HubFile) -> Result<Listing, HubError> {
        let request = self.api.repo(repo(file)).info_request().query(&[("blobs", "true")]);
        let mut body = self.send(file, request).await?.body(self.idle_timeout)?;
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
            Setback::new(format!("the hub's answer is no description of a repository: {wrong}")).into()
        })
    }

    /// Bytes of the file at `path` of a commit, from `offset` on.
    pub(super) async fn open(&self, file: &HubFile, commit: &str, path: &str, offset: u64) -> Result<Body, HubError> {
        let mut request = self.api.client().get(self.address(file, commit, path));
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        let body = self.send(file, request).await?.body(self.idle_timeout)?;
        // A server without support for ranges sends the whole file.
        if body.offset != offset && body.offset != 0 {
            let message =
                format!("bytes from {offset} on were requested and the hub sends those from {} on", body.offset);
            return Err(Setback::new(message).into());
        }
        Ok(body)
    }

    /// Size of a file, for a listing that leaves it out.
    pub(super) async fn size(&self, file: &HubFile, commit: &str, path: &str) -> Result<u64, HubError> {
        let request = self.api.client().get(self.address(file, commit, path)).header(RANGE, "bytes=0-0");
        let body = self.send(file, request).await?.body(self.idle_timeout)?;
        body.total.ok_or_else(|| Setback::new(format!("the hub does not state the size of {path}")).into())
    }

    fn address(&self, file: &HubFile, commit: &str, path: &str) -> String {
        let repo = Repo::with_revision(file.repository.clone(), RepoType::Model, commit.to_owned());
        self.api.repo(repo).url(path)
    }

    async fn send(&self, file: &HubFile, request: RequestBuilder) -> Result<Answer, HubError> {
        // Timer: a hub that sends no response counts as lost.
        let response = match timeout(self.idle_timeout, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Setback::new(describe(error)).into()),
            Err(_) => return Err(Setback::new(format!("the hub sent nothing for {:?}", self.idle_timeout)).into()),
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
        Err(match interpret(file, &refusal, self.has_token) {
            Ok(setback) => setback.into(),
            Err(failure) => HubError::Failure(failure),
        })
    }
}

/// A successful response.
struct Answer(Response);

impl Answer {
    fn body(self, idle_timeout: Duration) -> Result<Body, HubError> {
        let Self(response) = self;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (offset, total) = match response.status() {
            StatusCode::PARTIAL_CONTENT => header(CONTENT_RANGE)
                .and_then(range)
                .ok_or_else(|| Setback::new("the hub sends a part of the file and does not state its range"))?,
            _ => (0, header(CONTENT_LENGTH).and_then(|text| text.parse().ok())),
        };
        Ok(Body { offset, total, bytes: response.bytes_stream().boxed(), idle_timeout })
    }
}

impl Body {
    /// Next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Setback> {
        // Timer: a connection without a byte counts as lost.
        match timeout(self.idle_timeout, self.bytes.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(Some(Err(error))) => Err(Setback::new(format!("the connection was lost: {}", describe(error)))),
            Err(_) => Err(Setback::new(format!("the hub sent nothing for {:?}", self.idle_timeout))),
        }
    }
}

impl From<Setback> for HubError {
    fn from(setback: Setback) -> Self {
        Self::Setback(setback)
    }
}

/// The repository at the requested revision, as hf-hub names it.
pub(super) fn repo(file: &HubFile) -> Repo {
    let revision = file.revision.clone().unwrap_or_else(|| "main".to_owned());
    Repo::with_revision(file.repository.clone(), RepoType::Model, revision)
}

/// Reads a header like `bytes 5-9/10`: the offset, and the size of the whole file.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (offset, _) = span.split_once('-')?;
    Some((offset.parse().ok()?, total.parse().ok()))
}

/// An error with its causes. The address is left out: that of a redirect may contain a signature.
fn describe(error: hub_http::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range_has_an_offset_and_a_size() {
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        for wrong in ["", "bytes */10", "5-9/10", "bytes x-9/10"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }
}
