//! Executes the steps of a plan over ssh, and rolls back when a step fails.

use std::time::Duration;

use rbee_nats::{Bus, Entry, EventReader, Registry, Subject};
use rbee_schema::{HiveEvent, HiveName, HiveRecord};
use tokio::time::timeout;

use super::{
    layout::Layout,
    plan::Step,
    programs::{Programs, digest},
    script,
    ssh::{Input, Script, Ssh, SshError, Variables},
};
use crate::{Context, error::CliError, output};

/// Default time for a hive to join after its start. Recovering its workers takes a few seconds, and a request to the bus
/// five at most.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// The execution of a plan on one machine.
pub(super) struct Execution<'a> {
    pub(super) context: &'a Context,
    pub(super) ssh: &'a Ssh,
    pub(super) layout: &'a Layout,
    pub(super) hive: &'a HiveName,
    /// Programs to copy; `None` when removing.
    pub(super) programs: Option<&'a Programs>,
    /// Id of the programs that were active before.
    pub(super) before: Option<&'a str>,
    pub(super) files: FilesToWrite,
    /// The bus, if the hive has to join; `epoch` is the epoch of the hive's previous run.
    pub(super) bus: Option<&'a Bus>,
    pub(super) epoch: u64,
    pub(super) purge: bool,
}

/// File modes. The options may contain credentials for the bus and the hub, so only their owner may read them.
const SETTINGS_MODE: &str = "600";
const UNIT_MODE: &str = "644";
const RECORD_MODE: &str = "644";

/// The previous content of a file that was overwritten.
struct SavedFile {
    path: String,
    mode: &'static str,
    text: String,
}

/// State that later steps and a rollback need.
#[derive(Default)]
struct Progress {
    before: Vec<SavedFile>,
    events: Option<EventReader>,
    joined: Option<HiveRecord>,
}

/// Files to write on the machine.
#[derive(Default)]
pub(super) struct FilesToWrite {
    /// The options; `None` keeps the existing ones.
    pub(super) settings: Option<String>,
    /// Digest of the options.
    pub(super) settings_digest: String,
    /// The unit, if systemd manages the hive.
    pub(super) unit: Option<String>,
}

impl FilesToWrite {
    /// Digest of the unit; empty without a unit.
    pub(super) fn unit_digest(&self) -> String {
        self.unit.as_deref().map(digest).unwrap_or_default()
    }
}

impl Execution<'_> {
    /// Executes the steps. Returns the registry record of the hive if it joined.
    ///
    /// # Errors
    /// A step failed. The error says what the rollback achieved.
    pub(super) async fn execute(&self, steps: &[Step]) -> Result<Option<HiveRecord>, CliError> {
        let mut progress = Progress::default();
        for step in steps {
            if let Err(outcome) = self.execute_step(*step, &mut progress).await {
                return Err(self.roll_back(steps, *step, &progress.before, outcome).await);
            }
        }
        Ok(progress.joined)
    }

    async fn execute_step(&self, step: Step, progress: &mut Progress) -> Result<(), CliError> {
        match step {
            Step::Begin => self.write_record("", "").await?,
            Step::Copy => self.copy().await?,
            Step::Write => {
                progress.before = self.read().await?;
                self.write().await?;
            }
            Step::Switch => self.switch(&self.programs()?.id).await?,
            Step::Start => {
                // Subscribed before the start, so that no event is missed.
                progress.events = Some(self.listen().await?);
                self.start().await?;
            }
            Step::Join => {
                let events = progress
                    .events
                    .take()
                    .ok_or_else(|| CliError::failed("the plan waits for a hive that it did not start"))?;
                progress.joined = Some(self.join(events, self.epoch).await?);
            }
            Step::Prune => drop(self.run(&script::PRUNE, &[("id", self.programs()?.id.clone())]).await?),
            Step::Stop => {
                self.report("stopping the hive after its workers have finished their jobs");
                self.stop().await?;
            }
            Step::Erase => self.erase().await?,
        }
        Ok(())
    }

    fn programs(&self) -> Result<&Programs, CliError> {
        self.programs.ok_or_else(|| CliError::failed("there are no programs to copy"))
    }

    async fn copy(&self) -> Result<(), CliError> {
        let programs = self.programs()?;
        self.report(format_args!("copying rbee and rbee-worker: {}", output::bytes(programs.bytes)));
        for program in &programs.files {
            let path = format!("{}.part/{}", self.layout.version(&programs.id), program.name);
            self.put(&path, "755", &program.sha256, Input::File(program.file.clone())).await?;
        }
        let version = self.run(&script::TRY, &[("id", programs.id.clone())]).await?;
        self.report(format_args!("{} runs there", version.trim()));
        Ok(())
    }

    async fn stop(&self) -> Result<(), CliError> {
        let patience = self.context.patience(script::STOP_PATIENCE);
        self.run(&script::stop(patience), &[("patience", patience.as_secs().to_string())]).await?;
        Ok(())
    }

    /// Reads the files that [`write`](Self::write) will overwrite.
    async fn read(&self) -> Result<Vec<SavedFile>, CliError> {
        let record = Some((self.layout.record(), RECORD_MODE));
        let settings = self.files.settings.as_ref().map(|_| (self.layout.settings(), SETTINGS_MODE));
        let unit = self.layout.unit().map(|path| (path.to_owned(), UNIT_MODE));
        let mut before = Vec::new();
        for (path, mode) in [settings, unit, record].into_iter().flatten() {
            let output = self.run(&script::READ, &[("path", path.clone())]).await?;
            before.extend(output.strip_prefix("there\n").map(|text| SavedFile { path, mode, text: text.to_owned() }));
        }
        Ok(before)
    }

    async fn write(&self) -> Result<(), CliError> {
        let FilesToWrite { settings, unit, settings_digest } = &self.files;
        if let Some(settings) = settings {
            self.put_text(&self.layout.settings(), SETTINGS_MODE, settings).await?;
        }
        if let (Some(path), Some(unit)) = (self.layout.unit(), unit) {
            self.put_text(path, UNIT_MODE, unit).await?;
        }
        self.write_record(settings_digest, &self.files.unit_digest()).await
    }

    /// Writes the installation record in a form that the scripts can source.
    async fn write_record(&self, settings: &str, unit: &str) -> Result<(), CliError> {
        let Layout { manager, prefix, data, .. } = self.layout;
        let text = format!(
            "# FilesToWrite by `rbee hive install`, and read by `rbee hive upgrade`, `logs` and `remove`.\n\
             manager='{}'\nprefix='{prefix}'\ndata='{data}'\nhive='{}'\nsettings_digest='{settings}'\nunit_digest='{unit}'\n",
            manager.as_str(),
            self.hive
        );
        self.put_text(&self.layout.record(), RECORD_MODE, &text).await
    }

    async fn put_text(&self, path: &str, mode: &str, text: &str) -> Result<(), CliError> {
        self.put(path, mode, &digest(text), Input::Text(text.to_owned())).await
    }

    async fn put(&self, path: &str, mode: &str, sha256: &str, content: Input) -> Result<(), CliError> {
        let more = [("path", path.to_owned()), ("mode", mode.to_owned()), ("sha256", sha256.to_owned())];
        self.ssh.run(&script::PUT, &self.variables(&more), content).await?;
        Ok(())
    }

    async fn switch(&self, id: &str) -> Result<(), CliError> {
        self.run(&script::SWITCH, &[("id", id.to_owned())]).await?;
        Ok(())
    }

    async fn start(&self) -> Result<(), CliError> {
        let output = self.run(&script::START, &[]).await?;
        for line in output.lines() {
            self.report(format_args!("note: {line}"));
        }
        Ok(())
    }

    async fn listen(&self) -> Result<EventReader, CliError> {
        let bus = self.bus()?;
        Ok(EventReader::since(bus, &bus.subject(&Subject::HiveEvent(self.hive.clone(), "joined".to_owned())), None)
            .await?)
    }

    /// Waits until a run of the hive with an epoch above `epoch` joins, its process exits, or the time is over.
    async fn join(&self, events: EventReader, epoch: u64) -> Result<HiveRecord, CliError> {
        self.report(format_args!("waiting for hive {} to join", self.hive));
        let variables = self.variables(&[]);
        let patience = self.context.patience(JOIN_LIMIT);
        let joined = timeout(patience, self.joined(events, epoch));
        let lives = self.ssh.run(&script::WATCH, &variables, Input::Nothing);
        tokio::select! {
            joined = joined => joined.unwrap_or_else(|_| Err(CliError::failed(format!(
                "hive {} did not join within {patience:?} (--patience): `rbee hive logs {}` shows its log; check that --nats here and \
                 --hive-nats there lead to the same bus",
                self.hive, self.ssh.host()
            )))),
            ended = lives => Err(match ended {
                Err(SshError::Failed { output, .. }) => {
                    CliError::failed(format!("hive {} exited before it joined; its last output was:\n{output}", self.hive))
                }
                Err(error) => error.into(),
                Ok(_) => CliError::failed(format!("hive {} exited before it joined", self.hive)),
            }),
        }
    }

    async fn joined(&self, mut events: EventReader, after: u64) -> Result<HiveRecord, CliError> {
        let epoch = loop {
            let Some(record) = events.next().await? else { return Err(CliError::unavailable("the bus was closed")) };
            // An event that cannot be parsed comes from another version and is not ours.
            if let Ok(HiveEvent::Joined { epoch, .. }) = serde_json::from_slice(&record.body)
                && epoch > after
            {
                break epoch;
            }
        };
        // The event announces the hive; the registry entry, written right after it, describes the hive.
        let mut registry = Registry::hives(self.bus()?).watch(self.hive.as_str()).await?;
        loop {
            if let Entry::Set { document, .. } = registry.next().await?
                && document.epoch >= epoch
            {
                return Ok(document);
            }
        }
    }

    async fn erase(&self) -> Result<(), CliError> {
        let purge = if self.purge { "yes" } else { "no" };
        let more = [("purge", purge.to_owned()), ("hive", self.hive.to_string())];
        self.run(&script::ERASE, &more).await?;
        Ok(())
    }

    /// Restores the previous state after a failed step, as far as possible, and adds the result to the error.
    async fn roll_back(&self, steps: &[Step], failed: Step, before: &[SavedFile], why: CliError) -> CliError {
        if steps.first() == Some(&Step::Begin) {
            return match self.uninstall().await {
                Ok(()) => why.and("nothing was left on the machine"),
                Err(error) => why.and(format!(
                    "the copied files could not be removed ({}); run `rbee hive remove {}`",
                    error.message(),
                    self.ssh.host()
                )),
            };
        }
        if !before.is_empty() {
            self.report("restoring the previous options and unit");
            if let Err(error) = self.restore_files(before).await {
                return why
                    .and(format!("and the previous options and unit could not be restored: {}", error.message()));
            }
        }
        if !matches!(failed, Step::Start | Step::Join) {
            return why;
        }
        let programs = self.before.filter(|_| steps.contains(&Step::Switch));
        if programs.is_none() && before.is_empty() {
            return why;
        }
        match self.restore(programs).await {
            Ok(record) => {
                why.and(format!("the previous version {} is running again, with its workers", record.version))
            }
            Err(error) => why.and(format!("and the previous version does not run either: {}", error.message())),
        }
    }

    async fn restore_files(&self, before: &[SavedFile]) -> Result<(), CliError> {
        for SavedFile { path, mode, text } in before {
            self.put_text(path, mode, text).await?;
        }
        Ok(())
    }

    async fn uninstall(&self) -> Result<(), CliError> {
        self.stop().await?;
        self.erase().await
    }

    /// Starts the previous version; `programs` is its id if the active programs were switched.
    async fn restore(&self, programs: Option<&str>) -> Result<HiveRecord, CliError> {
        if let Some(programs) = programs {
            self.report("switching back to the previous programs");
            self.switch(programs).await?;
        }
        // The failed run may have used an epoch of its own.
        let last = Registry::hives(self.bus()?).get(self.hive.as_str()).await?.map_or(0, |record| record.epoch);
        let events = self.listen().await?;
        self.start().await?;
        self.join(events, last.max(self.epoch)).await
    }

    async fn run(&self, script: &Script, more: &[(&'static str, String)]) -> Result<String, SshError> {
        self.ssh.run(script, &self.variables(more), Input::Nothing).await
    }

    fn variables(&self, more: &[(&'static str, String)]) -> Variables {
        let mut variables = self.layout.variables();
        variables.extend(more.iter().cloned());
        variables
    }

    fn bus(&self) -> Result<&Bus, CliError> {
        self.bus.ok_or_else(|| CliError::failed("the plan waits for a hive without a connection to the bus"))
    }

    fn report(&self, line: impl std::fmt::Display) {
        if !self.context.json {
            output::print_line(format_args!("{}: {line}", self.ssh.host()));
        }
    }
}
