//! A line on standard error that says where a job waits, while it has no output: for the bus, a queen, a load, the limit
//! of its tenant, or a slot.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use futures::StreamExt as _;
use rbee_nats::{Bus, Message, Registry, Subject, Subscriber};
use rbee_schema::{
    FailureCode, ModelName, Tenant, TenantThrottle, WorkerEvent,
    api::{Model, ModelRequest},
};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Interval at which the line is brought up to date. A person does not notice a shorter one.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time for a queen to answer. It takes milliseconds; the line is not worth a longer wait.
const ANSWER: Duration = Duration::from_secs(1);

/// Line that is shown while a job has no output.
#[derive(Default)]
pub(crate) struct Waiting {
    report: Option<Report>,
    running: Option<AbortOnDropHandle<()>>,
}

/// Task that keeps the line up to date.
#[derive(Clone)]
struct Report {
    bus: Bus,
    model: ModelName,
    tenant: Tenant,
    is_terminal: bool,
}

impl Waiting {
    /// Line about jobs of `model` and `tenant`: on a terminal, where it replaces itself, and elsewhere only if it is wanted.
    pub(crate) fn new(bus: &Bus, model: &ModelName, tenant: &Tenant, is_wanted: bool) -> Self {
        let is_terminal = stderr().is_terminal();
        let report = Report { bus: bus.clone(), model: model.clone(), tenant: tenant.clone(), is_terminal };
        Self { report: (is_terminal || is_wanted).then_some(report), running: None }
    }

    /// Shows the line from now on.
    pub(crate) fn begin(&mut self) {
        if let (Some(report), None) = (&self.report, &self.running) {
            self.running = Some(AbortOnDropHandle::new(tokio::spawn(report.clone().keep())));
        }
    }

    /// Removes the line, because output follows.
    pub(crate) async fn end(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.abort();
        let _ = running.await;
        self.clear();
    }

    fn clear(&self) {
        if self.report.as_ref().is_some_and(|report| report.is_terminal) {
            eprint!("\r\x1b[K");
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.running.take().is_some() {
            self.clear();
        }
    }
}

impl Report {
    async fn keep(self) {
        let mut events = self.bus.subscribe(self.bus.namespace().all_worker_events()).await.ok();
        let (mut shown, mut progress) = (String::new(), None);
        loop {
            let text = self.describe(progress.as_ref()).await;
            if text != shown {
                if self.is_terminal {
                    eprint!("\r\x1b[K{text}");
                } else {
                    eprintln!("{text}");
                }
                shown = text;
            }
            let _ = timeout(INTERVAL, self.follow(events.as_mut(), &mut progress)).await;
        }
    }

    /// Takes the progress of loads of the model into account, without end.
    async fn follow(&self, events: Option<&mut Subscriber>, progress: &mut Option<String>) {
        let Some(events) = events else { return std::future::pending().await };
        while let Some(message) = events.next().await {
            if let Some(found) = self.progress(&message) {
                *progress = Some(found);
            }
        }
        std::future::pending::<()>().await;
    }

    /// Hive and percentage of a load of the model.
    fn progress(&self, message: &Message) -> Option<String> {
        let Some(Subject::WorkerEvent(hive, worker, _)) = self.bus.parse(&message.subject) else { return None };
        let WorkerEvent::Loading { percent, .. } = serde_json::from_slice(&message.payload).ok()? else { return None };
        worker.as_str().starts_with(&format!("{}-", self.model)).then(|| format!("{hive}: {percent} %"))
    }

    async fn describe(&self, progress: Option<&String>) -> String {
        if !*self.bus.online().borrow() {
            return "waiting for the bus: the connection is lost".to_owned();
        }
        let request = ModelRequest { model: self.model.clone() };
        match timeout(ANSWER, self.bus.request::<_, Model>("model", &request)).await {
            Ok(Ok(model)) => describe(&model, progress, self.throttle().await.map(|throttle| (&self.tenant, throttle))),
            Ok(Err(failure)) if failure.code != FailureCode::TimedOut => failure.message,
            Ok(Err(_)) | Err(_) => "waiting for a queen: none answers; the job is in the queue".to_owned(),
        }
    }
}

impl Report {
    /// Record that the tenant has used its tokens per minute, if it has.
    async fn throttle(&self) -> Option<TenantThrottle> {
        timeout(ANSWER, Registry::throttles(&self.bus).get(self.tenant.as_str())).await.ok()?.ok()?
    }
}

/// Sentence about a model whose job waits, and about its tenant, if that has used its tokens per minute.
fn describe(model: &Model, progress: Option<&String>, throttle: Option<(&Tenant, TenantThrottle)>) -> String {
    let name = &model.name;
    if let Some((tenant, TenantThrottle { tokens, tokens_per_minute, .. })) = throttle {
        return format!(
            "waiting for tokens of tenant {tenant}: it has used {tokens} within a minute and may use {tokens_per_minute}; \
             `rbee tenant ls` says until when"
        );
    }
    match (model.ready, model.starting, progress) {
        (0, 0, _) => format!("waiting for a worker of {name}: none runs; `rbee explain {name}` says where one could"),
        (0, _, Some(progress)) => format!("{name} is loading on {progress}"),
        (0, _, None) => format!("a worker of {name} is starting"),
        (_, _, _) => {
            format!("waiting for a slot of {name}: {} jobs run, {} wait", model.jobs_running, model.jobs_queued)
        }
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::{ModelReference, ModelSpec};

    use super::*;

    #[test]
    fn the_line_says_where_a_job_waits() {
        let model = |ready, starting| Model {
            name: "m".parse().expect("a name"),
            spec: ModelSpec::new(ModelReference::Mock(String::new())),
            ready,
            starting,
            jobs_running: 2,
            jobs_queued: 3,
            slots: 2,
            answer_ms: None,
            failure: None,
        };
        let progress = "attic: 45 %".to_owned();
        for (ready, starting, progress, part) in [
            (0, 0, None, "waiting for a worker of m"),
            (0, 1, None, "a worker of m is starting"),
            (0, 1, Some(&progress), "m is loading on attic: 45 %"),
            (1, 1, Some(&progress), "waiting for a slot of m: 2 jobs run, 3 wait"),
        ] {
            let text = describe(&model(ready, starting), progress, None);
            assert!(text.starts_with(part), "{text}");
        }
        let throttle = TenantThrottle { for_ms: 1, tokens: 70, tokens_per_minute: 60 };
        let text = describe(&model(1, 0), None, Some((&Tenant::default(), throttle)));
        assert!(text.starts_with("waiting for tokens of tenant default: it has used 70 within a minute"), "{text}");
    }
}
