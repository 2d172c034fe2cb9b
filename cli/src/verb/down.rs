//! `rbee down`: the whole fleet ends in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clap::Args;
use rbee_nats::{Bus, Entry, EventReader, Registry, RegistryWatch, Subject};
use rbee_schema::{Event, HiveCommand, HiveName, HiveRecord, QueenControl, QueenEvent, QueenName, WorkerRecord};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    Setting,
    follow::{self, Awaited, News},
    outcome::Outcome,
    show,
};

/// Options of `rbee down`.
#[derive(Debug, Args)]
#[command(after_help = "Queens end first, so that nobody replaces what ends; then all hives at once, each with its \
                        workers. A worker has 15 s to finish its jobs, then it hands them back; 30 s after the \
                        beginning what is left is killed. Jobs that wait or were handed back stay in the queue and go \
                        on when the fleet is there again. A server that `rbee up` has started ends with it; any other \
                        one stays.")]
pub struct Down {}

/// How long nothing may be heard.
const SILENCE: Duration = Duration::from_secs(60);

/// How long the last word of a hive may come after its key is gone: they are told on two ways.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How long the server may be away before it is taken for gone, and may take to say what is left.
const LAST_LOOK: Duration = Duration::from_secs(5);

const WHY: &str = "`rbee down` was given";

/// Who has yet to end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Ending {
    queens: BTreeSet<QueenName>,
    /// And in which run.
    hives: BTreeMap<HiveName, u64>,
    /// Hives whose key is gone and of whose end nothing was heard yet, and since when.
    gone: BTreeMap<HiveName, Instant>,
}

/// What is there although everything has ended.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Left {
    workers: Vec<Orphan>,
    jobs_queued: u64,
}

/// A worker whose hive is gone and did not say that it has ended.
#[derive(Debug, PartialEq, Serialize)]
struct Orphan {
    hive: String,
    worker: String,
    pid: Option<u32>,
    port: Option<u16>,
}

impl Down {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/down").await?;
        let hives = Registry::hives(&bus).all().await?.into_iter();
        let hives = hives.filter_map(|(key, record)| Some((key.parse().ok()?, record.epoch))).collect();
        let queens = bus.discover_queens(setting.connection.discovery).await?.into_iter().collect();
        let mut ending = Ending { queens, hives, gone: BTreeMap::new() };
        if ending.is_over() {
            return report(
                &setting,
                &Left::find(&bus).await?,
                "nothing runs: no queen answers, and no hive is connected",
            );
        }
        // Before anybody is told, so that no event is missed.
        let mut events = EventReader::since(&bus, &bus.namespace().all_events(), None).await?;
        let mut keys = Registry::hives(&bus).watch(">").await?;
        let hives = std::mem::take(&mut ending.hives);
        bus.publish(&Subject::QueenControl, &QueenControl::Stop { why: WHY.to_owned() }).await?;
        ending.wait(&setting, &bus, &mut events, &mut keys).await?;
        ending.hives = hives;
        for (hive, epoch) in &ending.hives {
            let shutdown = HiveCommand::Shutdown { why: WHY.to_owned(), epoch: Some(*epoch) };
            bus.command(hive, &shutdown).await?;
        }
        ending.wait(&setting, &bus, &mut events, &mut keys).await?;
        match timeout(LAST_LOOK, Left::find(&bus)).await {
            Ok(left) => report(&setting, &left?, "everything has ended"),
            Err(_) => report(&setting, &Left::default(), "everything has ended, and the server with it"),
        }
    }
}

impl Ending {
    fn is_over(&self) -> bool {
        self.queens.is_empty() && self.hives.is_empty()
    }

    /// Prints what happens until everybody has ended.
    async fn wait(
        &mut self,
        setting: &Setting,
        bus: &Bus,
        events: &mut EventReader,
        keys: &mut RegistryWatch<HiveRecord>,
    ) -> Result<(), Outcome> {
        let mut heard = Instant::now();
        let patience = setting.patience(SILENCE);
        while !self.is_over() {
            let silence = heard + patience;
            let deadline = self.gone.values().map(|since| *since + LAST_WORD).min().unwrap_or(silence).min(silence);
            tokio::select! {
                record = timeout_at(deadline, events.next()) => match record {
                    Ok(record) => {
                        let Some(record) = record? else { return Err(self.silent(patience)) };
                        if let Some(words) = follow::read(bus, &record).and_then(|event| self.hear(&event)) {
                            follow::print(setting, &record, &words);
                            heard = Instant::now();
                        }
                    }
                    Err(_) if deadline < silence => self.go_without_a_word(),
                    Err(_) => return Err(self.silent(patience)),
                },
                entry = keys.next() => if let Entry::Removed(key) = entry? {
                    let hive = self.hives.keys().find(|hive| hive.as_str() == key).cloned();
                    self.gone.extend(hive.map(|hive| (hive, Instant::now())));
                },
                () = is_gone(bus) => return self.went_with_the_server(),
            }
        }
        Ok(())
    }

    /// What an event says to whoever waits.
    fn hear(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Queen(queen, QueenEvent::Stopped {}) => {
                self.queens.remove(queen).then(|| format!("queen {queen} has ended"))
            }
            Event::Hive(hive, _) | Event::Worker(hive, ..) if self.hives.contains_key(hive) => {
                match Awaited::Stopped.hear(event) {
                    News::Nothing => None,
                    News::Progress(words) => Some(words),
                    News::Done(words) | News::Failed(words) => {
                        self.hives.remove(hive);
                        self.gone.remove(hive);
                        Some(words)
                    }
                }
            }
            _ => None,
        }
    }

    /// The hives whose last word has not come in time have ended all the same.
    fn go_without_a_word(&mut self) {
        let now = Instant::now();
        let is_late = |since: &Instant| now >= *since + LAST_WORD;
        let late: Vec<HiveName> =
            self.gone.iter().filter(|(_, since)| is_late(since)).map(|(hive, _)| hive.clone()).collect();
        for hive in late {
            eprintln!("{hive} is gone without a word");
            self.gone.remove(&hive);
            self.hives.remove(&hive);
        }
    }

    fn names(&self) -> String {
        let queens = self.queens.iter().map(|queen| format!("queen {queen}"));
        queens.chain(self.hives.keys().map(|hive| format!("hive {hive}"))).collect::<Vec<_>>().join(", ")
    }

    fn silent(&self, patience: Duration) -> Outcome {
        let names = self.names();
        Outcome::unavailable(format!(
            "nothing was heard for {patience:?} (--patience) of {names}: told to end, and perhaps gone or stuck; `rbee hives` lists the \
             hives that are there, `rbee events --since 5m` what was said"
        ))
    }

    /// A server that `rbee up` has started ends after its queen and its hive.
    fn went_with_the_server(&self) -> Result<(), Outcome> {
        let names = self.names();
        Err(Outcome::unavailable(format!("the server ended before anything was heard of the end of {names}")))
    }
}

/// Waits until the server is away and does not come back.
async fn is_gone(bus: &Bus) {
    let mut online = bus.online();
    loop {
        let _ = online.wait_for(|online| !online).await;
        if timeout(LAST_LOOK, online.wait_for(|online| *online)).await.is_err() {
            return;
        }
    }
}

impl Left {
    async fn find(bus: &Bus) -> Result<Self, Outcome> {
        let workers = Registry::workers(bus).all().await?;
        let jobs_queued = bus.queue_depths().await?.iter().map(|(_, depth)| depth).sum();
        Ok(Self { workers: workers.into_iter().map(orphan).collect(), jobs_queued })
    }
}

fn orphan((key, record): (String, WorkerRecord)) -> Orphan {
    let (hive, worker) = key.split_once('.').unwrap_or(("", &key));
    Orphan { hive: hive.to_owned(), worker: worker.to_owned(), pid: record.pid, port: record.port }
}

fn report(setting: &Setting, left: &Left, done: &str) -> Result<(), Outcome> {
    if setting.json {
        show::json(left);
    } else {
        println!("{done}");
        if left.jobs_queued > 0 {
            println!("jobs that wait in the queue and go on when the fleet is there again: {}", left.jobs_queued);
        }
    }
    if left.workers.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = left.workers.iter().map(ToString::to_string).collect();
    Err(Outcome::failed(format!(
        "of these workers nobody said that they have ended: {}. Start their hive again, and it looks after them; \
         `rbee stop` then ends it",
        names.join(", ")
    )))
}

impl std::fmt::Display for Orphan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.hive, self.worker)?;
        if let Some(pid) = self.pid {
            write!(f, " (process {pid} on its machine)")?;
        }
        Ok(())
    }
}
