//! Subjects of the bus. They are written and parsed here and nowhere else.

use std::{fmt, str::FromStr};

use rbee_schema::{AlertKind, HiveName, JobClass, JobId, ModelName, QueenName, Tenant, WorkerName};

/// Namespace: the first token of every subject and the prefix of every stream and bucket. Default `rbee`; different if several
/// fleets share a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

/// Text that is not a valid namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a namespace: expected 1 to 32 characters of A-Z a-z 0-9 _ -")]
pub struct InvalidNamespace(String);

impl Default for Namespace {
    fn default() -> Self {
        Self("rbee".to_owned())
    }
}

impl FromStr for Namespace {
    type Err = InvalidNamespace;

    fn from_str(text: &str) -> Result<Self, InvalidNamespace> {
        let valid =
            (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidNamespace(text.to_owned())) }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parsed subject of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `submit.<model>`: submission in the short form, of an interactive job of the default tenant.
    Submit(ModelName),
    /// `job.<model>.<class>.<tenant>`: submission of a job.
    Job(ModelName, JobClass, Tenant),
    /// `queued.<model>.<class>.<tenant>`: notice of a stored job, headers only.
    Queued(ModelName, JobClass, Tenant),
    /// `tok.<tenant>.<job>`: chunks as a worker appends them.
    Output(Tenant, JobId),
    /// `out.<tenant>.<job>`: stored chunks, republished for subscribers.
    Published(Tenant, JobId),
    /// `cancel.<tenant>.<job>`: cancellation of a job.
    Cancel(Tenant, JobId),
    /// `evt.queen.<queen>.<event>`.
    QueenEvent(QueenName, String),
    /// `evt.hive.<hive>.<event>`.
    HiveEvent(HiveName, String),
    /// `evt.worker.<hive>.<worker>.<event>`.
    WorkerEvent(HiveName, WorkerName, String),
    /// `evt.port.<hive>.<port>.<event>`.
    PortEvent(HiveName, u16, String),
    /// `evt.model.<model>.<event>`.
    ModelEvent(ModelName, String),
    /// `evt.tenant.<tenant>.<event>`.
    TenantEvent(Tenant, String),
    /// `evt.job.<tenant>.<job>.<event>`.
    JobEvent(Tenant, JobId, String),
    /// `evt.alert.<kind>.<event>`: alerts for operators.
    AlertEvent(AlertKind, String),
    /// `evt.audit.<event>`: seals of the audit trail.
    AuditEvent(String),
    /// `beat.<hive>`: heartbeat of a hive.
    HiveHeartbeat(HiveName),
    /// `beat.<hive>.<worker>`: heartbeat of a worker.
    WorkerHeartbeat(HiveName, WorkerName),
    /// `cmd.hive.<hive>`: commands to a hive.
    HiveCommand(HiveName),
    /// `ctl.worker.<hive>.<worker>`: control messages to a worker.
    WorkerControl(HiveName, WorkerName),
    /// `ctl.queen`: control messages to all queens.
    QueenControl,
    /// `dead.<model>.<tenant>.<job>`: dead letter of a job that was given up.
    Dead(ModelName, Tenant, JobId),
}

impl Subject {
    /// Text of the subject in `namespace`.
    pub fn name(&self, namespace: &Namespace) -> String {
        let tail = match self {
            Self::Submit(model) => format!("submit.{model}"),
            Self::Job(model, class, tenant) => format!("job.{model}.{class}.{tenant}"),
            Self::Queued(model, class, tenant) => format!("queued.{model}.{class}.{tenant}"),
            Self::Output(tenant, job) => format!("tok.{tenant}.{job}"),
            Self::Published(tenant, job) => format!("out.{tenant}.{job}"),
            Self::Cancel(tenant, job) => format!("cancel.{tenant}.{job}"),
            Self::QueenEvent(queen, event) => format!("evt.queen.{queen}.{event}"),
            Self::HiveEvent(hive, event) => format!("evt.hive.{hive}.{event}"),
            Self::WorkerEvent(hive, worker, event) => format!("evt.worker.{hive}.{worker}.{event}"),
            Self::PortEvent(hive, port, event) => format!("evt.port.{hive}.{port}.{event}"),
            Self::ModelEvent(model, event) => format!("evt.model.{model}.{event}"),
            Self::TenantEvent(tenant, event) => format!("evt.tenant.{tenant}.{event}"),
            Self::JobEvent(tenant, job, event) => format!("evt.job.{tenant}.{job}.{event}"),
            Self::AlertEvent(kind, event) => format!("evt.alert.{kind}.{event}"),
            Self::AuditEvent(event) => format!("evt.audit.{event}"),
            Self::HiveHeartbeat(hive) => format!("beat.{hive}"),
            Self::WorkerHeartbeat(hive, worker) => format!("beat.{hive}.{worker}"),
            Self::HiveCommand(hive) => format!("cmd.hive.{hive}"),
            Self::WorkerControl(hive, worker) => format!("ctl.worker.{hive}.{worker}"),
            Self::QueenControl => "ctl.queen".to_owned(),
            Self::Dead(model, tenant, job) => format!("dead.{model}.{tenant}.{job}"),
        };
        format!("{namespace}.{tail}")
    }

    /// Parses a subject of `namespace`. `None` for any other subject.
    pub fn parse(namespace: &Namespace, subject: &str) -> Option<Self> {
        let tail = subject.strip_prefix(&namespace.0)?.strip_prefix('.')?;
        let tokens: Vec<&str> = tail.split('.').collect();
        Some(match tokens.as_slice() {
            ["submit", model] => Self::Submit(name(model)?),
            ["job", model, class, tenant] => Self::Job(name(model)?, name(class)?, name(tenant)?),
            ["queued", model, class, tenant] => Self::Queued(name(model)?, name(class)?, name(tenant)?),
            ["tok", tenant, job] => Self::Output(name(tenant)?, name(job)?),
            ["out", tenant, job] => Self::Published(name(tenant)?, name(job)?),
            ["cancel", tenant, job] => Self::Cancel(name(tenant)?, name(job)?),
            ["evt", "queen", queen, event] => Self::QueenEvent(name(queen)?, (*event).to_owned()),
            ["evt", "hive", hive, event] => Self::HiveEvent(name(hive)?, (*event).to_owned()),
            ["evt", "worker", hive, worker, event] => {
                Self::WorkerEvent(name(hive)?, name(worker)?, (*event).to_owned())
            }
            ["evt", "port", hive, port, event] => Self::PortEvent(name(hive)?, name(port)?, (*event).to_owned()),
            ["evt", "model", model, event] => Self::ModelEvent(name(model)?, (*event).to_owned()),
            ["evt", "tenant", tenant, event] => Self::TenantEvent(name(tenant)?, (*event).to_owned()),
            ["evt", "job", tenant, job, event] => Self::JobEvent(name(tenant)?, name(job)?, (*event).to_owned()),
            ["evt", "alert", kind, event] => Self::AlertEvent(name(kind)?, (*event).to_owned()),
            ["evt", "audit", event] => Self::AuditEvent((*event).to_owned()),
            ["beat", hive] => Self::HiveHeartbeat(name(hive)?),
            ["beat", hive, worker] => Self::WorkerHeartbeat(name(hive)?, name(worker)?),
            ["cmd", "hive", hive] => Self::HiveCommand(name(hive)?),
            ["ctl", "worker", hive, worker] => Self::WorkerControl(name(hive)?, name(worker)?),
            ["ctl", "queen"] => Self::QueenControl,
            ["dead", model, tenant, job] => Self::Dead(name(model)?, name(tenant)?, name(job)?),
            _ => return None,
        })
    }
}

fn name<T: FromStr>(token: &str) -> Option<T> {
    token.parse().ok()
}

/// Filters: subjects with wildcards, and names of streams.
impl Namespace {
    /// All submissions in the short form.
    pub fn all_submissions(&self) -> String {
        format!("{self}.submit.*")
    }

    /// All jobs.
    pub fn all_jobs(&self) -> String {
        format!("{self}.job.>")
    }

    /// Subjects on which jobs are accepted. A publisher on any other subject gets no acknowledgement.
    pub fn accepted_jobs(&self) -> Vec<String> {
        JobClass::ALL.iter().map(|class| format!("{self}.job.*.{class}.*")).collect()
    }

    /// All jobs of a model and class.
    pub fn jobs_of(&self, model: &ModelName, class: JobClass) -> String {
        format!("{self}.job.{model}.{class}.*")
    }

    /// All jobs of a class.
    pub fn jobs_of_class(&self, class: JobClass) -> String {
        format!("{self}.job.*.{class}.*")
    }

    /// All jobs of a model.
    pub fn jobs_of_model(&self, model: &ModelName) -> String {
        format!("{self}.job.{model}.>")
    }

    /// Notices of the stored jobs of a model.
    pub fn queued_of_model(&self, model: &ModelName) -> String {
        format!("{self}.queued.{model}.*.*")
    }

    /// Jobs of a model and of a tenant; `None` for all.
    pub fn jobs_matching(&self, model: Option<&ModelName>, tenant: Option<&Tenant>) -> String {
        let (model, tenant) = (model.map_or("*", ModelName::as_str), tenant.map_or("*", Tenant::as_str));
        format!("{self}.job.{model}.*.{tenant}")
    }

    /// Events of the jobs of a tenant; `None` for all.
    pub fn job_events_of(&self, tenant: Option<&Tenant>) -> String {
        format!("{self}.evt.job.{}.*.*", tenant.map_or("*", Tenant::as_str))
    }

    /// Ends of all jobs: the events `finished` and `failed`.
    pub fn all_job_ends(&self) -> [String; 2] {
        ["finished", "failed"].map(|event| format!("{self}.evt.job.*.*.{event}"))
    }

    /// Changes of a bucket whose keys are single names, as they are published.
    pub(crate) fn changes_of_bucket(&self, bucket: &str) -> String {
        format!("$KV.{}.*", self.resource(bucket))
    }

    /// Events of a job.
    pub fn events_of_job(&self, tenant: &Tenant, job: &JobId) -> String {
        format!("{self}.evt.job.{tenant}.{job}.*")
    }

    /// Dead letters of a model and of a tenant; `None` for all.
    pub fn dead_matching(&self, model: Option<&ModelName>, tenant: Option<&Tenant>) -> String {
        let (model, tenant) = (model.map_or("*", ModelName::as_str), tenant.map_or("*", Tenant::as_str));
        format!("{self}.dead.{model}.{tenant}.*")
    }

    /// Dead letter of a job, of whichever model.
    pub fn dead_letter_of(&self, tenant: &Tenant, job: &JobId) -> String {
        format!("{self}.dead.*.{tenant}.{job}")
    }

    /// Notices of all stored jobs.
    pub fn all_queued(&self) -> String {
        format!("{self}.queued.>")
    }

    /// All chunks as workers append them.
    pub fn all_output(&self) -> String {
        format!("{self}.tok.>")
    }

    /// All republished chunks.
    pub fn all_published(&self) -> String {
        format!("{self}.out.>")
    }

    /// All cancellations.
    pub fn all_cancels(&self) -> String {
        format!("{self}.cancel.*.*")
    }

    /// All events.
    pub fn all_events(&self) -> String {
        format!("{self}.evt.>")
    }

    /// Events of the workers of one hive.
    pub fn worker_events_of(&self, hive: &HiveName) -> String {
        format!("{self}.evt.worker.{hive}.>")
    }

    /// Events of all hives.
    pub fn all_hive_events(&self) -> String {
        format!("{self}.evt.hive.>")
    }

    /// Events of all workers.
    pub fn all_worker_events(&self) -> String {
        format!("{self}.evt.worker.>")
    }

    /// Models that queens found unplaceable.
    pub fn all_unplaceable(&self) -> String {
        format!("{self}.evt.queen.*.unplaceable")
    }

    /// Events of one worker.
    pub fn events_of_worker(&self, hive: &HiveName, worker: &WorkerName) -> String {
        format!("{self}.evt.worker.{hive}.{worker}.*")
    }

    /// Placements of all queens.
    pub fn all_placements(&self) -> String {
        format!("{self}.evt.queen.*.placed")
    }

    /// Heartbeats of all hives and workers.
    pub fn all_heartbeats(&self) -> String {
        format!("{self}.beat.>")
    }

    /// Heartbeats of the workers of one hive.
    pub fn worker_heartbeats_of(&self, hive: &HiveName) -> String {
        format!("{self}.beat.{hive}.*")
    }

    /// All commands.
    pub fn all_commands(&self) -> String {
        format!("{self}.cmd.>")
    }

    /// All dead letters.
    pub fn all_dead(&self) -> String {
        format!("{self}.dead.*.*.*")
    }

    /// Prefix of the service's operations.
    pub fn api(&self) -> String {
        format!("{self}.api")
    }

    /// Advisories of the server about a stream: it was made, changed or deleted, or has another leader.
    pub fn advisories_about(&self, name: &str) -> String {
        format!("$JS.EVENT.ADVISORY.STREAM.*.{}", self.resource(name))
    }

    /// Name of a stream or bucket in this namespace.
    pub fn resource(&self, name: &str) -> String {
        format!("{self}_{name}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token<T: FromStr<Err: fmt::Debug> + fmt::Debug>() -> impl Strategy<Value = T> {
        "[A-Za-z0-9_-]{1,64}".prop_map(|text| text.parse().expect("a name"))
    }

    fn class() -> impl Strategy<Value = JobClass> {
        prop_oneof![Just(JobClass::Interactive), Just(JobClass::Batch)]
    }

    fn subject() -> impl Strategy<Value = Subject> {
        let event = || "[a-z-]{1,12}";
        prop_oneof![
            token().prop_map(Subject::Submit),
            (token(), class(), token()).prop_map(|(m, c, t)| Subject::Job(m, c, t)),
            (token(), class(), token()).prop_map(|(m, c, t)| Subject::Queued(m, c, t)),
            (token(), token()).prop_map(|(t, j)| Subject::Output(t, j)),
            (token(), token()).prop_map(|(t, j)| Subject::Published(t, j)),
            (token(), token()).prop_map(|(t, j)| Subject::Cancel(t, j)),
            (token(), event()).prop_map(|(q, e)| Subject::QueenEvent(q, e)),
            (token(), event()).prop_map(|(h, e)| Subject::HiveEvent(h, e)),
            (token(), token(), event()).prop_map(|(h, w, e)| Subject::WorkerEvent(h, w, e)),
            (token(), any::<u16>(), event()).prop_map(|(h, p, e)| Subject::PortEvent(h, p, e)),
            (token(), event()).prop_map(|(m, e)| Subject::ModelEvent(m, e)),
            (token(), event()).prop_map(|(t, e)| Subject::TenantEvent(t, e)),
            (token(), token(), event()).prop_map(|(t, j, e)| Subject::JobEvent(t, j, e)),
            (proptest::sample::select(&AlertKind::ALL[..]), event()).prop_map(|(k, e)| Subject::AlertEvent(k, e)),
            event().prop_map(Subject::AuditEvent),
            token().prop_map(Subject::HiveHeartbeat),
            (token(), token()).prop_map(|(h, w)| Subject::WorkerHeartbeat(h, w)),
            token().prop_map(Subject::HiveCommand),
            (token(), token()).prop_map(|(h, w)| Subject::WorkerControl(h, w)),
            Just(Subject::QueenControl),
            (token(), token(), token()).prop_map(|(m, t, j)| Subject::Dead(m, t, j)),
        ]
    }

    proptest! {
        #[test]
        fn every_subject_is_parsed_as_it_was_written(subject in subject(), namespace in "[a-z]{1,8}") {
            let namespace: Namespace = namespace.parse().expect("a namespace");
            prop_assert_eq!(Subject::parse(&namespace, &subject.name(&namespace)), Some(subject));
        }
    }

    #[test]
    fn other_subjects_are_not_parsed() {
        let namespace = Namespace::default();
        for other in ["rbee2.submit.m", "rbee.submit", "rbee.submit.a b", "rbee.job.m.urgent.t", "rbee", "_INBOX.x", ""]
        {
            assert_eq!(Subject::parse(&namespace, other), None, "{other}");
        }
    }
}
