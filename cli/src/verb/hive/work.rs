//! Carries out the steps of a plan over ssh, and takes back what did not come to its end.

use std::time::Duration;

use rbee_nats::{Bus, Entry, EventReader, Registry, Subject};
use rbee_schema::{HiveEvent, HiveName, HiveRecord};
use tokio::time::timeout;

use super::{
    place::Place,
    plan::Step,
    programs::{Programs, digest},
    script,
    ssh::{Input, Script, Ssh, SshError, Words},
};
use crate::{Setting, outcome::Outcome, show};

/// How long a hive may take from its start to its place on the bus: to look after its workers takes a few seconds, and a
/// request to the bus five at most.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// Everything that steps need.
pub(super) struct Work<'a> {
    pub(super) setting: &'a Setting,
    pub(super) ssh: &'a Ssh,
    pub(super) place: &'a Place,
    pub(super) hive: &'a HiveName,
    /// What is copied; removing needs nothing.
    pub(super) programs: Option<&'a Programs>,
    /// The programs that were there before.
    pub(super) before: Option<&'a str>,
    pub(super) written: Written,
    /// The bus, and the run of the hive that was on it.
    pub(super) bus: Option<&'a Bus>,
    pub(super) epoch: u64,
    pub(super) purge: bool,
}

/// Who may read what is written. The options may hold what the bus and the hub ask for: they are for their owner alone.
const SETTINGS_MODE: &str = "600";
const UNIT_MODE: &str = "644";
const RECORD_MODE: &str = "644";

/// A file as it was before it was written.
struct Before {
    path: String,
    mode: &'static str,
    text: String,
}

/// How far the steps have come.
#[derive(Default)]
struct Way {
    before: Vec<Before>,
    events: Option<EventReader>,
    joined: Option<HiveRecord>,
}

/// What is written to the machine.
#[derive(Default)]
pub(super) struct Written {
    /// The options; none where those that are there stay.
    pub(super) settings: Option<String>,
    /// The digest of the options that are there.
    pub(super) settings_digest: String,
    /// The unit, where systemd has the hive.
    pub(super) unit: Option<String>,
}

impl Written {
    /// The digest of the unit; that of nothing is empty.
    pub(super) fn unit_digest(&self) -> String {
        self.unit.as_deref().map(digest).unwrap_or_default()
    }
}

impl Work<'_> {
    /// Carries out the steps; returns the hive that has joined, where one was to.
    pub(super) async fn carry_out(&self, steps: &[Step]) -> Result<Option<HiveRecord>, Outcome> {
        let mut way = Way::default();
        for step in steps {
            if let Err(outcome) = self.carry_out_one(*step, &mut way).await {
                return Err(self.take_back(steps, *step, &way.before, outcome).await);
            }
        }
        Ok(way.joined)
    }

    async fn carry_out_one(&self, step: Step, way: &mut Way) -> Result<(), Outcome> {
        match step {
            Step::Begin => self.write_record("", "").await?,
            Step::Copy => self.copy().await?,
            Step::Write => {
                way.before = self.read().await?;
                self.write().await?;
            }
            Step::Switch => self.switch(&self.programs()?.id).await?,
            Step::Start => {
                // Before it starts, so that nothing that it says is missed.
                way.events = Some(self.listen().await?);
                self.start().await?;
            }
            Step::Join => {
                let events = way.events.take().ok_or_else(|| Outcome::failed("nobody listens for the hive"))?;
                way.joined = Some(self.join(events, self.epoch).await?);
            }
            Step::Prune => drop(self.run(&script::PRUNE, &[("id", self.programs()?.id.clone())]).await?),
            Step::Stop => {
                self.tell("the hive stops when its workers have finished their jobs");
                self.stop().await?;
            }
            Step::Erase => self.erase().await?,
        }
        Ok(())
    }

    fn programs(&self) -> Result<&Programs, Outcome> {
        self.programs.ok_or_else(|| Outcome::failed("there are no programs to copy"))
    }

    async fn copy(&self) -> Result<(), Outcome> {
        let programs = self.programs()?;
        self.tell(format_args!("copies rbee and rbee-worker: {}", show::bytes(programs.bytes)));
        for program in &programs.files {
            let path = format!("{}.part/{}", self.place.version(&programs.id), program.name);
            self.put(&path, "755", &program.sha256, Input::File(program.file.clone())).await?;
        }
        let version = self.run(&script::TRY, &[("id", programs.id.clone())]).await?;
        self.tell(format_args!("{} runs there", version.trim()));
        Ok(())
    }

    async fn stop(&self) -> Result<(), Outcome> {
        let patience = self.setting.patience(script::STOP_PATIENCE);
        self.run(&script::stop(patience), &[("patience", patience.as_secs().to_string())]).await?;
        Ok(())
    }

    /// What is there of what [`write`](Self::write) writes.
    async fn read(&self) -> Result<Vec<Before>, Outcome> {
        let record = Some((self.place.record(), RECORD_MODE));
        let settings = self.written.settings.as_ref().map(|_| (self.place.settings(), SETTINGS_MODE));
        let unit = self.place.unit().map(|path| (path.to_owned(), UNIT_MODE));
        let mut before = Vec::new();
        for (path, mode) in [settings, unit, record].into_iter().flatten() {
            let said = self.run(&script::READ, &[("path", path.clone())]).await?;
            before.extend(said.strip_prefix("there\n").map(|text| Before { path, mode, text: text.to_owned() }));
        }
        Ok(before)
    }

    async fn write(&self) -> Result<(), Outcome> {
        let Written { settings, unit, settings_digest } = &self.written;
        if let Some(settings) = settings {
            self.put_text(&self.place.settings(), SETTINGS_MODE, settings).await?;
        }
        if let (Some(path), Some(unit)) = (self.place.unit(), unit) {
            self.put_text(path, UNIT_MODE, unit).await?;
        }
        self.write_record(settings_digest, &self.written.unit_digest()).await
    }

    /// The record is read by scripts, as they read the options.
    async fn write_record(&self, settings: &str, unit: &str) -> Result<(), Outcome> {
        let Place { manager, prefix, data, .. } = self.place;
        let text = format!(
            "# Written by `rbee hive install`, and read by `rbee hive upgrade`, `logs` and `remove`.\n\
             manager='{}'\nprefix='{prefix}'\ndata='{data}'\nhive='{}'\nsettings_digest='{settings}'\nunit_digest='{unit}'\n",
            manager.as_str(),
            self.hive
        );
        self.put_text(&self.place.record(), RECORD_MODE, &text).await
    }

    async fn put_text(&self, path: &str, mode: &str, text: &str) -> Result<(), Outcome> {
        self.put(path, mode, &digest(text), Input::Text(text.to_owned())).await
    }

    async fn put(&self, path: &str, mode: &str, sha256: &str, content: Input) -> Result<(), Outcome> {
        let more = [("path", path.to_owned()), ("mode", mode.to_owned()), ("sha256", sha256.to_owned())];
        self.ssh.run(&script::PUT, &self.words(&more), content).await?;
        Ok(())
    }

    async fn switch(&self, id: &str) -> Result<(), Outcome> {
        self.run(&script::SWITCH, &[("id", id.to_owned())]).await?;
        Ok(())
    }

    async fn start(&self) -> Result<(), Outcome> {
        let said = self.run(&script::START, &[]).await?;
        for line in said.lines() {
            self.tell(format_args!("note: {line}"));
        }
        Ok(())
    }

    async fn listen(&self) -> Result<EventReader, Outcome> {
        let bus = self.bus()?;
        Ok(EventReader::since(bus, &bus.subject(&Subject::HiveEvent(self.hive.clone(), "joined".to_owned())), None)
            .await?)
    }

    /// Waits for a run of the hive after `epoch`, for as long as its process lives and the limit is not over.
    async fn join(&self, events: EventReader, epoch: u64) -> Result<HiveRecord, Outcome> {
        self.tell(format_args!("waits for hive {} to join", self.hive));
        let words = self.words(&[]);
        let patience = self.setting.patience(JOIN_LIMIT);
        let joined = timeout(patience, self.joined(events, epoch));
        let lives = self.ssh.run(&script::WATCH, &words, Input::Nothing);
        tokio::select! {
            joined = joined => joined.unwrap_or_else(|_| Err(Outcome::failed(format!(
                "hive {} did not join within {patience:?} (--patience): `rbee hive logs {}` tells what it does; does the bus that --nats names \
                 here and the one that --hive-nats names there have the same streams?",
                self.hive, self.ssh.host()
            )))),
            ended = lives => Err(match ended {
                Err(SshError::Failed { said, .. }) => {
                    Outcome::failed(format!("hive {} ended before it had joined; its last words were:\n{said}", self.hive))
                }
                Err(error) => error.into(),
                Ok(_) => Outcome::failed(format!("hive {} ended before it had joined", self.hive)),
            }),
        }
    }

    async fn joined(&self, mut events: EventReader, after: u64) -> Result<HiveRecord, Outcome> {
        let epoch = loop {
            let Some(record) = events.next().await? else { return Err(Outcome::unavailable("the bus was closed")) };
            // What cannot be read comes from another version, and is no news of ours.
            if let Ok(HiveEvent::Joined { epoch, .. }) = serde_json::from_slice(&record.body)
                && epoch > after
            {
                break epoch;
            }
        };
        // The event says that it has come, and its key, which is written next, all that it is.
        let mut registry = Registry::hives(self.bus()?).watch(self.hive.as_str()).await?;
        loop {
            if let Entry::Set { document, .. } = registry.next().await?
                && document.epoch >= epoch
            {
                return Ok(document);
            }
        }
    }

    async fn erase(&self) -> Result<(), Outcome> {
        let purge = if self.purge { "yes" } else { "no" };
        let more = [("purge", purge.to_owned()), ("hive", self.hive.to_string())];
        self.run(&script::ERASE, &more).await?;
        Ok(())
    }

    /// After a step that failed: what was there before is there again, as far as that can be.
    async fn take_back(&self, steps: &[Step], failed: Step, before: &[Before], why: Outcome) -> Outcome {
        if steps.first() == Some(&Step::Begin) {
            return match self.take_away().await {
                Ok(()) => why.and("nothing of it is left there"),
                Err(error) => why.and(format!(
                    "what was copied could not be removed ({}); `rbee hive remove {}` does that",
                    error.message(),
                    self.ssh.host()
                )),
            };
        }
        if !before.is_empty() {
            self.tell("goes back to the options and the unit that were there before");
            if let Err(error) = self.write_again(before).await {
                return why.and(format!(
                    "and the options and the unit that were there before could not be written again: {}",
                    error.message()
                ));
            }
        }
        if !matches!(failed, Step::Start | Step::Join) {
            return why;
        }
        let programs = self.before.filter(|_| steps.contains(&Step::Switch));
        if programs.is_none() && before.is_empty() {
            return why;
        }
        match self.go_back(programs).await {
            Ok(record) => why.and(format!("version {} runs there again, with its workers", record.version)),
            Err(error) => why.and(format!("and what was there before does not run either: {}", error.message())),
        }
    }

    async fn write_again(&self, before: &[Before]) -> Result<(), Outcome> {
        for Before { path, mode, text } in before {
            self.put_text(path, mode, text).await?;
        }
        Ok(())
    }

    async fn take_away(&self) -> Result<(), Outcome> {
        self.stop().await?;
        self.erase().await
    }

    /// Starts what was there before; `programs` where others have taken their place.
    async fn go_back(&self, programs: Option<&str>) -> Result<HiveRecord, Outcome> {
        if let Some(programs) = programs {
            self.tell("goes back to the programs that were there before");
            self.switch(programs).await?;
        }
        // The run that failed may have had an epoch of its own.
        let last = Registry::hives(self.bus()?).get(self.hive.as_str()).await?.map_or(0, |record| record.epoch);
        let events = self.listen().await?;
        self.start().await?;
        self.join(events, last.max(self.epoch)).await
    }

    async fn run(&self, script: &Script, more: &[(&'static str, String)]) -> Result<String, SshError> {
        self.ssh.run(script, &self.words(more), Input::Nothing).await
    }

    fn words(&self, more: &[(&'static str, String)]) -> Words {
        let mut words = self.place.words();
        words.extend(more.iter().cloned());
        words
    }

    fn bus(&self) -> Result<&Bus, Outcome> {
        self.bus.ok_or_else(|| Outcome::failed("the hive was to join, and the bus was not connected"))
    }

    fn tell(&self, line: impl std::fmt::Display) {
        if !self.setting.json {
            show::say(format_args!("{}: {line}", self.ssh.host()));
        }
    }
}
