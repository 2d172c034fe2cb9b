//! The body of an HTTP request. One that is larger than a message of the bus is read while few others are, and in a limited time.

use axum::{body::Body, extract::Request, http::header::CONTENT_LENGTH};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use rbee_nats::BusError;
use rbee_schema::{Failure, FailureCode, MAX_BODY_BYTES};
use tokio::{task::spawn_blocking, time::timeout};

use super::service::Service;
use crate::large_bodies::Place;

/// Body of a request. Keep it until its job is submitted: a large one occupies a place.
pub(super) struct RequestBody {
    pub(super) bytes: Bytes,
    _place: Option<Place>,
}

impl RequestBody {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// `body-too-large`, or `invalid-request` if the client does not send all of it in time.
    pub(super) async fn read(service: &Service, request: Request) -> Result<Self, Failure> {
        let declared = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let mut reader = Reader { body: request.into_body(), read: BytesMut::new() };
        if !reader.is_larger_than(MAX_BODY_BYTES).await? {
            return Ok(Self { bytes: reader.read.freeze(), _place: None });
        }
        let limit = service.bus.body_limit().await;
        let limit = limit.map_err(|error: BusError| Failure::new(FailureCode::TimedOut, error.to_string()))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let rest = async {
            if declared.is_some_and(|declared: usize| declared > limit) {
                reader.skip(limit).await;
                return Err(too_large(limit));
            }
            let place = service.large.place().await?;
            if reader.is_larger_than(limit).await? {
                reader.skip(limit).await;
                return Err(too_large(limit));
            }
            Ok(Self { bytes: reader.read.freeze(), _place: Some(place) })
        };
        // Timer: the time that a client has to send a large body.
        timeout(service.upload, rest).await.unwrap_or_else(|_| Err(late(service)))
    }

    /// Parses the body with `parse`. A large one is parsed on a thread that may block.
    ///
    /// # Errors
    /// The mistake in the body.
    pub(super) async fn parse<T: Send + 'static>(
        &self,
        parse: impl FnOnce(&Bytes) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if self.bytes.len() <= MAX_BODY_BYTES {
            return parse(&self.bytes);
        }
        let bytes = self.bytes.clone();
        let panicked = |_| Failure::new(FailureCode::Internal, "the body could not be parsed");
        spawn_blocking(move || parse(&bytes)).await.map_err(panicked)?
    }
}

struct Reader {
    body: Body,
    read: BytesMut,
}

impl Reader {
    /// Reads until the body has ended, or is known to be larger than `limit`.
    async fn is_larger_than(&mut self, limit: usize) -> Result<bool, Failure> {
        let mut pieces = std::mem::take(&mut self.body).into_data_stream();
        while self.read.len() <= limit {
            match pieces.next().await {
                Some(Ok(piece)) => self.read.extend_from_slice(&piece),
                Some(Err(error)) => {
                    let message = format!("the body of the request could not be read: {error}; send it again");
                    return Err(Failure::new(FailureCode::InvalidRequest, message));
                }
                None => return Ok(false),
            }
        }
        self.body = Body::from_stream(pieces);
        Ok(true)
    }

    /// Reads at most `most` bytes and drops them. A client that is still sending would not read the reply.
    async fn skip(&mut self, most: usize) {
        let (mut pieces, mut skipped) = (std::mem::take(&mut self.body).into_data_stream(), 0);
        while skipped < most
            && let Some(Ok(piece)) = pieces.next().await
        {
            skipped += piece.len();
        }
    }
}

fn too_large(limit: usize) -> Failure {
    let message = format!("the body is larger than {limit} bytes: send a shorter chat or fewer texts");
    Failure::new(FailureCode::BodyTooLarge, message)
}

fn late(service: &Service) -> Failure {
    let message = format!(
        "the body did not arrive within {:?}: send it faster, or later, when fewer clients send a large body",
        service.upload
    );
    Failure::new(FailureCode::InvalidRequest, message)
}
