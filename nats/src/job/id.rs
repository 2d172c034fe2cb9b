//! Identity of a job: its tenant and its id, from the subject and the headers of its message.
//!
//! The id is the header `Nats-Msg-Id`. The server remembers message ids per stream, so a client puts the tenant and a dot in
//! front of its id: `acme.42` is the id `42` of the tenant `acme`. A plain id is valid too.

use rbee_schema::{Chunk, Failure, FailureCode, JobClass, JobId, ModelName, Tenant};

use crate::{
    Bus, BusError, Namespace, Subject,
    bus::json,
    trace::{TraceContext, trace_of_job},
};

/// Header that holds the id of a job.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Message id with which rbee submits a job. It differs for equal ids of different tenants.
pub(super) fn message_id(tenant: &Tenant, job: &JobId) -> String {
    format!("{tenant}.{job}")
}

/// Names of a stored job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobNames {
    pub(super) model: Option<ModelName>,
    pub(super) class: Option<JobClass>,
    pub(crate) tenant: Tenant,
    pub(crate) job: JobId,
    pub(super) misnamed: Option<Misnamed>,
}

/// Reason why a stored message is no valid job: its subject or its message id has an invalid name. The job is refused, as the
/// nearest valid tenant and under its sequence as id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misnamed {
    /// Failure that answers the job.
    pub failure: Failure,
    /// Subject on which the client of the job may wait for its output: with the names as they were given.
    awaited_on: Option<String>,
}

impl JobNames {
    /// Reads the names from the subject and the message id of a message in the stream `jobs`.
    pub(crate) fn read(namespace: &Namespace, subject: &str, message_id: Option<&str>, sequence: u64) -> Self {
        let tail = subject.strip_prefix(&format!("{namespace}.")).unwrap_or(subject);
        let tokens: Vec<&str> = tail.split('.').skip(1).collect();
        let given_tenant = tokens.get(2).copied().unwrap_or(Tenant::DEFAULT);
        let tenant = given_tenant.parse().unwrap_or_else(|_| Tenant::from_lossy(given_tenant));
        let model = tokens.first().and_then(|model| model.parse().ok());
        let class = tokens.get(1).and_then(|class| class.parse().ok());
        let given_id = message_id.map(|id| without_tenant(id, given_tenant));
        let id = given_id.map_or_else(|| Ok(JobId::from_sequence(sequence)), str::parse);
        let mistake = match (Subject::parse(namespace, subject), &id) {
            (Some(Subject::Job(..)), Ok(_)) => None,
            (Some(Subject::Job(..)), Err(_)) => Some(wrong_id(message_id.unwrap_or_default(), given_tenant)),
            _ => Some(wrong_subject(subject, &tokens)),
        };
        let job = id.unwrap_or_else(|_| JobId::from_sequence(sequence));
        let misnamed = mistake.map(|mistake| {
            let awaited_id = given_id.map_or_else(|| job.to_string(), ToOwned::to_owned);
            let awaited_on = format!("{namespace}.out.{given_tenant}.{awaited_id}");
            Misnamed {
                failure: Failure::new(FailureCode::InvalidRequest, mistake),
                awaited_on: is_publishable(&awaited_on).then_some(awaited_on),
            }
        });
        Self { model, class, tenant, job, misnamed }
    }
}

/// Job id in a message id that a client of this tenant chose.
///
/// # Errors
/// The id is invalid.
pub(crate) fn chosen_id(message_id: &str, tenant: &Tenant) -> Result<JobId, Failure> {
    let id = without_tenant(message_id, tenant.as_str());
    id.parse().map_err(|_| Failure::new(FailureCode::InvalidRequest, wrong_id(message_id, tenant.as_str())))
}

/// A message id without the tenant and the dot in front of it.
fn without_tenant<'a>(id: &'a str, tenant: &str) -> &'a str {
    id.strip_prefix(tenant).and_then(|rest| rest.strip_prefix('.')).unwrap_or(id)
}

fn wrong_id(given: &str, tenant: &str) -> String {
    format!(
        "the header {MESSAGE_ID} `{given}` is not an id of a job: expected 1 to 64 characters of A-Z a-z 0-9 _ -, alone or \
         behind the tenant and a dot (`{tenant}.ID`); submit the job again with such an id"
    )
}

fn wrong_subject(subject: &str, tokens: &[&str]) -> String {
    let mistake = match tokens {
        [model] => model.parse::<ModelName>().err(),
        [model, class, tenant] => {
            let class = class.parse::<JobClass>().err();
            model.parse::<ModelName>().err().or(class).or(tenant.parse::<Tenant>().err())
        }
        _ => None,
    };
    let mistake = mistake.map(|mistake| format!(": {mistake}")).unwrap_or_default();
    format!(
        "{subject} is not a subject of jobs{mistake}; submit the job on job.MODEL.interactive.TENANT or job.MODEL.batch.TENANT"
    )
}

/// True if a message can be published on this subject.
fn is_publishable(subject: &str) -> bool {
    let is_token =
        |token: &str| !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c == '*' || c == '>');
    subject.split('.').all(is_token)
}

impl Bus {
    /// Trace of a job that was published without one. It is derived from the job's id, so that every role gets the same.
    pub fn trace_of(&self, tenant: &Tenant, job: &JobId) -> TraceContext {
        trace_of_job(self.namespace(), tenant, job)
    }

    /// Publishes the failure of a misnamed job to the client that waits for its output under the names that it gave. Its
    /// output is stored under other names, which the client does not know.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn report_misnamed(&self, misnamed: &Misnamed) -> Result<(), BusError> {
        let Some(subject) = &misnamed.awaited_on else { return Ok(()) };
        let chunk = Chunk::Error { error: misnamed.failure.clone() };
        let published = self.client().publish(subject.clone(), json(&chunk)).await;
        published.map_err(|error| BusError::new(format!("publish to {subject}"), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(subject: &str, message_id: Option<&str>) -> JobNames {
        JobNames::read(&Namespace::default(), subject, message_id, 7)
    }

    #[test]
    fn id_of_a_job_may_have_its_tenant_in_front() {
        for (message_id, id) in [(None, "7"), (Some("a"), "a"), (Some("acme.a"), "a"), (Some("acme"), "acme")] {
            let JobNames { tenant, job, misnamed, .. } = read("rbee.job.m.batch.acme", message_id);
            assert_eq!((tenant.as_str(), job.as_str(), misnamed), ("acme", id, None), "{message_id:?}");
        }
    }

    #[test]
    fn invalid_names_are_refused_by_name() {
        for (subject, message_id, words, awaited_on) in [
            ("rbee.job.m.batch.acme", Some("a.b"), "`a.b`", Some("rbee.out.acme.a.b")),
            ("rbee.job.m.batch.acme", Some("other.a"), "`other.a`", Some("rbee.out.acme.other.a")),
            ("rbee.job.m.batch.acme", Some("a b"), "`a b`", None),
            ("rbee.job.m.batch.té", Some("a"), "tenant `té`", Some("rbee.out.té.a")),
            ("rbee.job.modèle.batch.acme", None, "model `modèle`", Some("rbee.out.acme.7")),
            ("rbee.job.m.urgent.default", None, "`urgent`", Some("rbee.out.default.7")),
            ("rbee.job.m", None, "rbee.job.m is not a subject of jobs", Some("rbee.out.default.7")),
            ("rbee.job.m.batch.a.b", None, "rbee.job.m.batch.a.b is not", Some("rbee.out.a.7")),
        ] {
            let found = read(subject, message_id).misnamed.expect(subject);
            assert!(found.failure.message.contains(words), "{}", found.failure);
            assert_eq!(found.awaited_on.as_deref(), awaited_on, "{subject}");
        }
    }

    #[test]
    fn misnamed_job_is_answered_under_its_sequence() {
        let JobNames { tenant, job, .. } = read("rbee.job.m.batch.té", Some("a.b"));
        assert_eq!((tenant.as_str(), job.as_str()), ("t-", "7"));
    }
}
