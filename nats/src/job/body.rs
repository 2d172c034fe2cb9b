//! Bodies that are larger than a message: stored as objects in the bucket `bodies`, and named by their jobs.
//!
//! The message of such a job is empty and has the header `Rbee-Body` with the name of the object. The name begins with the
//! tenant of the job and a slash, so that no job can name the body of another tenant. An object belongs to one job and is deleted
//! with it. Our clients choose names that nobody can guess.

use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use bytes::Bytes;
use rbee_schema::{Failure, FailureCode, JobId, Tenant};
use tracing::warn;
use uuid::Uuid;

use crate::{Bus, BusError, ObjectError, PutError, bus::header, object::Digest, topology::body_size};

/// Header with the name of the object that holds the body of a job.
const BODY: &str = "Rbee-Body";

/// Header with the digest of that object. Optional: with it, an object that was replaced meanwhile is refused.
const DIGEST: &str = "Rbee-Body-Digest";

/// Longest name of such an object in bytes.
const LONGEST_NAME: usize = 256;

/// Body of a job that is stored apart from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBody {
    /// Name of the object in the bucket `bodies`.
    pub object: String,
    /// Digest of the body, if the client has named it.
    pub digest: Option<String>,
}

/// Failure to read a stored body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// There is no such body, or another one. The job fails.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The server does not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl StoredBody {
    /// Reads the headers of a job of this tenant. `None` if its body is in its message.
    ///
    /// # Errors
    /// `invalid-request` if the object is not one of the tenant, or the message has a body of its own.
    pub fn read(headers: Option<&HeaderMap>, tenant: &Tenant, payload: &[u8]) -> Result<Option<Self>, Failure> {
        let Some(object) = header(headers, BODY) else { return Ok(None) };
        let body = Self::named(object, tenant)?;
        if !payload.is_empty() {
            return Err(invalid(format!(
                "the job has a body and the header {BODY}, which names another one: leave one of the two out"
            )));
        }
        Ok(Some(Self { digest: header(headers, DIGEST).map(str::to_owned), ..body }))
    }

    /// The body in the object with this name.
    ///
    /// # Errors
    /// `invalid-request` if the object is not one of the tenant.
    pub fn named(object: &str, tenant: &Tenant) -> Result<Self, Failure> {
        if is_object_of(object, tenant) {
            return Ok(Self { object: object.to_owned(), digest: None });
        }
        let shown: String = object.chars().take(80).collect();
        Err(invalid(format!(
            "the header {BODY} names the object `{shown}`: expected {tenant}/NAME, with 1 to {LONGEST_NAME} characters of A-Z a-z \
             0-9 - _ . / = as NAME, because the job belongs to the tenant {tenant}; store the body under such a name and submit \
             the job again"
        )))
    }

    /// A new name that nobody can guess.
    fn new(tenant: &Tenant, job: &JobId, body: &[u8]) -> Self {
        let object = format!("{tenant}/{job}/{}", Uuid::new_v4().simple());
        Self { object, digest: Some(Digest::of(body)) }
    }

    /// Adds the headers to the message of a job.
    pub(super) fn write(&self, message: PublishMessage) -> PublishMessage {
        let message = message.header(BODY, self.object.as_str());
        match &self.digest {
            Some(digest) => message.header(DIGEST, digest.as_str()),
            None => message,
        }
    }
}

impl Bus {
    /// Largest size of a job's body in bytes.
    ///
    /// # Errors
    /// The server does not answer, or the bucket `bodies` does not exist.
    pub async fn body_limit(&self) -> Result<u64, BusError> {
        let bodies = self.jetstream().get_stream(self.bodies().stream_name()).await;
        let bodies = bodies.map_err(|error| BusError::new("read the largest size of a body", error))?;
        Ok(body_size(&bodies.cached_info().config).bytes())
    }

    /// Stores a body that is larger than a message.
    ///
    /// # Errors
    /// `body-too-large`, `queue-full` if the bucket is full, or `timed-out` if the server does not answer.
    pub(super) async fn store_body(&self, tenant: &Tenant, job: &JobId, body: &Bytes) -> Result<StoredBody, Failure> {
        let timed_out = |error: BusError| Failure::new(FailureCode::TimedOut, error.to_string());
        check_size(body.len() as u64, self.body_limit().await.map_err(timed_out)?)?;
        let stored = StoredBody::new(tenant, job, body);
        match self.bodies().put(&stored.object, body).await {
            Ok(_) => Ok(stored),
            Err(PutError::Full(cause)) => Err(Failure::new(
                FailureCode::QueueFull,
                format!("too many large bodies of jobs are stored ({cause}): submit the job later"),
            )),
            Err(PutError::Bus(error)) => Err(timed_out(error)),
            Err(PutError::Read(error)) => Err(Failure::new(FailureCode::Internal, error.to_string())),
        }
    }

    /// Reads a stored body. Its size is checked before it is read.
    ///
    /// # Errors
    /// `body-missing`, `body-too-large` or `body-corrupt`; or the server does not answer.
    pub async fn fetch_body(&self, body: &StoredBody) -> Result<Bytes, BodyError> {
        let StoredBody { object, digest } = body;
        let bodies = self.bodies();
        let Some(record) = bodies.find(object).await? else { return Err(missing(object).into()) };
        check_size(record.size, self.body_limit().await?)?;
        if digest.is_some() && *digest != record.digest {
            return Err(corrupt(&format!("{object}: it was replaced after the job was submitted")).into());
        }
        bodies.read(&record).await.map_err(|error| match error {
            ObjectError::Missing(what) => missing(&what).into(),
            ObjectError::Corrupt(why) => corrupt(&why).into(),
            ObjectError::Bus(error) => BodyError::Bus(error),
        })
    }

    /// Deletes the body of a job that has ended. If that fails, the leading queen sweeps it later.
    pub async fn delete_body(&self, body: &StoredBody) {
        if let Err(error) = self.bodies().delete(&body.object).await {
            warn!(object = body.object, %error, "the body of a job that has ended could not be deleted; it is swept later");
        }
    }
}

/// True for the name of an object that belongs to a tenant: the tenant, a slash, and a name.
pub fn is_object_of(object: &str, tenant: &Tenant) -> bool {
    let of_tenant = object.strip_prefix(tenant.as_str()).and_then(|rest| rest.strip_prefix('/'));
    of_tenant.is_some_and(|name| {
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=".contains(&byte);
        (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_usual)
    })
}

fn check_size(found: u64, limit: u64) -> Result<(), Failure> {
    if found <= limit {
        return Ok(());
    }
    let message = format!(
        "the body has {found} bytes: at most {limit} are allowed; send a shorter one, or raise the limit `body_size` of the bus"
    );
    Err(Failure::new(FailureCode::BodyTooLarge, message))
}

fn missing(what: &str) -> Failure {
    let message = format!(
        "the body of the job is not stored: {what} is missing in the bucket `bodies`. An object holds the body of one job and is \
         deleted with it: store the body again, and submit the job with its name"
    );
    Failure::new(FailureCode::BodyMissing, message)
}

fn corrupt(why: &str) -> Failure {
    let message = format!(
        "the stored body of the job is not what was submitted: {why}; store the body again, and submit the job with its name"
    );
    Failure::new(FailureCode::BodyCorrupt, message)
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(object: &str, payload: &[u8]) -> Result<Option<StoredBody>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(BODY, object);
        StoredBody::read(Some(&headers), &"acme".parse().expect("a name"), payload)
    }

    #[test]
    fn job_may_name_only_bodies_of_its_tenant() {
        for name in ["acme/a", "acme/job/0af3", "acme/a.b=_-"] {
            let expected = StoredBody { object: name.to_owned(), digest: None };
            assert_eq!(read(name, b""), Ok(Some(expected)), "{name}");
        }
        for name in ["other/a", "acme2/a", "acme", "acme/", "a", "", "acme/a b", "acme/>", "acme/é"] {
            let failure = read(name, b"").expect_err(name);
            assert_eq!(failure.code, FailureCode::InvalidRequest);
            assert!(failure.message.contains("expected acme/NAME"), "{failure}");
        }
        let long = format!("acme/{}", "a".repeat(LONGEST_NAME + 1));
        assert!(read(&long, b"").is_err_and(|failure| failure.message.len() < 500));
    }

    #[test]
    fn job_has_one_body() {
        assert!(read("acme/a", b"{}").is_err_and(|failure| failure.message.contains("leave one of the two out")));
        assert_eq!(StoredBody::read(None, &Tenant::default(), b"{}"), Ok(None));
    }

    #[test]
    fn written_headers_are_read_back() {
        let tenant = "acme".parse().expect("a name");
        let body = StoredBody::new(&tenant, &JobId::from_sequence(7), b"{}");
        let headers = body.write(PublishMessage::build()).outbound_message("a").headers;
        assert_eq!(StoredBody::read(headers.as_ref(), &tenant, b""), Ok(Some(body)));
    }
}
