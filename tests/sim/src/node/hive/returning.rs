//! The return of a worker's jobs to the queue, as `hive/src/supervisor/returning.rs` and `nats/src/job/blame.rs` do it.

use std::time::{Duration, Instant};

use rbee_hive::decide::worker::{Blame, ProcessEnd, Returns};
use rbee_schema::{ExitClass, HiveName, JobBlame, JobInFlight, WorkerName};

use crate::{
    broker::{AckKind, Answer, Headers, Op},
    network::{Away, Connection},
    node::site::Site,
    words::{Body, blame_subject, output_subject},
};

/// Pause between two looks at the connection.
const LOOK: Duration = Duration::from_millis(50);

/// Pause before the second nak of a hive with that flaw.
const SECOND_NAK: Duration = Duration::from_millis(500);

/// Returns the jobs of one worker.
pub(super) struct Returning {
    pub(super) site: Site,
    pub(super) connection: Connection,
    pub(super) worker: WorkerName,
}

impl Returning {
    pub(super) async fn carry_out(&self, hive: &HiveName, returns: Returns) {
        let Returns { jobs, blame, until, .. } = returns;
        let until = until.filter(|_| !self.site.settings.flaws.late_naks);
        if !self.is_in_time(until).await {
            return self.connection.process().log(|| format!("leaves {} jobs to their redelivery timeout", jobs.len()));
        }
        let blame = blame.or_else(|| self.flawed_blame(&jobs));
        let (blamed, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| blame.is_some() && !job.waits);
        self.nak(&others).await;
        let Some(blame) = blame else { return };
        for job in blamed {
            let (returning, hive) = (self.again(), hive.clone());
            self.connection.process().spawn(async move {
                let limit = returning.site.settings.hive.timers.blame;
                let process = returning.connection.process().clone();
                let _ = process.within(limit, returning.blame(&hive, &job, blame)).await;
                returning.nak(&[job]).await;
            });
        }
    }

    fn again(&self) -> Self {
        Self { site: self.site.clone(), connection: self.connection.clone(), worker: self.worker.clone() }
    }

    fn flawed_blame(&self, jobs: &[JobInFlight]) -> Option<Blame> {
        let end = ProcessEnd { class: ExitClass::Other, code: Some(1), signal: None };
        self.site.settings.flaws.blames_always.then(|| Blame::of(end, jobs)).flatten()
    }

    /// Waits until the bus is reachable. False if a nak would come too late then.
    async fn is_in_time(&self, until: Option<Instant>) -> bool {
        let process = self.connection.process();
        loop {
            if until.is_some_and(|until| process.now() >= until) {
                return false;
            }
            if self.connection.is_online() {
                return true;
            }
            process.sleep(LOOK).await;
        }
    }

    async fn blame(&self, hive: &HiveName, delivery: &JobInFlight, blame: Blame) -> Result<(), Away> {
        let key = (delivery.tenant.clone(), delivery.job.clone());
        let before = match self.last("events", blame_subject(&key)).await? {
            Some((_, Body::Blame(before))) => Some(before),
            _ => None,
        };
        let last_chunk = self.last("output", output_subject(&key)).await?.map_or(0, |(sequence, _)| sequence);
        let Blame { end: ProcessEnd { class, code, signal }, running } = blame;
        let (alone, together) = before.map_or((0, 0), |before| (before.alone, before.together));
        let company = running.saturating_sub(1);
        let is_alone = company == 0;
        let blame = JobBlame {
            hive: hive.clone(),
            worker: self.worker.clone(),
            class,
            code,
            signal,
            company,
            alone: alone + u32::from(is_alone),
            together: together + u32::from(!is_alone),
            last_chunk,
            stderr_tail: Vec::new(),
        };
        let id = Some(format!("blame-{}", delivery.ack).into());
        let (subject, body) = (blame_subject(&key), Some(Body::Blame(blame.into())));
        let headers = Headers { id, ..Headers::default() };
        let op = |request| Op::Publish { subject, body, size: 0, headers, request: Some(request) };
        self.connection.request(op).await.map(drop)
    }

    async fn last(&self, stream: &str, subject: std::rc::Rc<str>) -> Result<Option<(u64, Body)>, Away> {
        let stream = stream.into();
        match self.connection.request(|request| Op::Last { stream, subject, request }).await? {
            Answer::Last(found) => Ok(found.and_then(|found| Some((found.sequence, found.body?)))),
            _ => Err(Away),
        }
    }

    async fn nak(&self, jobs: &[JobInFlight]) {
        let send = |job: &JobInFlight| {
            let (reply, kind) = (job.ack.as_str().into(), AckKind::Nak(Duration::ZERO));
            self.connection.send(Op::Acknowledge { reply, kind, request: None });
        };
        jobs.iter().for_each(send);
        if self.site.settings.flaws.naks_twice {
            self.connection.process().sleep(SECOND_NAK).await;
            jobs.iter().for_each(send);
        }
    }
}
