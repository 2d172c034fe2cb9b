//! One of the two sides: a process of its own, so that its memory is its own, which is asked in lines of JSON.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use rbee_bench::usage::Usage;
use rbee_tests::tools::repository;
use serde::de::DeserializeOwned;

use crate::wire::{Question, Reply};

/// The longest answer is one of 16 sequences by a slow engine: a minute, on a busy machine some.
const PATIENCE: Duration = Duration::from_secs(600);

/// The option with which this program is our side.
pub(crate) const SERVE: &str = "--serve";

/// A process that answers.
pub(crate) struct Side {
    name: &'static str,
    process: Child,
    /// `None` once it is to end.
    questions: Option<ChildStdin>,
    replies: Receiver<String>,
}

impl Side {
    /// Our engine, on `threads` processors.
    pub(crate) fn ours(threads: usize) -> Self {
        let program = env::current_exe().expect("a program knows its file");
        let mut command = confined(&program.to_string_lossy(), threads);
        command.arg(SERVE);
        Self::start("rbee", command)
    }

    /// llama.cpp, on `threads` processors.
    pub(crate) fn theirs(threads: usize) -> Self {
        let mut command = confined("python3", threads);
        command.arg(repository().join("bench/llama/serve.py"));
        command.env("PYTHONPATH", repository().join(".tools/llama"));
        Self::start("llama.cpp", command)
    }

    fn start(name: &'static str, mut command: Command) -> Self {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.unwrap_or_else(|cause| panic!("{command:?} cannot be started: {cause}"));
        let questions = process.stdin.take();
        let output = process.stdout.take().expect("it is piped");
        let (sender, replies) = channel();
        thread::spawn(move || {
            // Ends with the process, or with the one who reads.
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { name, process, questions, replies }
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// What the side says if it cannot.
    ///
    /// # Panics
    /// If it has ended, or says nothing for ten minutes.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, question: &Question) -> Result<T, String> {
        self.tell(question);
        self.reply(PATIENCE).unwrap_or_else(|| panic!("{} has not answered {question:?}", self.name))
    }

    /// Asks.
    pub(crate) fn tell(&mut self, question: &Question) {
        let line = serde_json::to_string(question).expect("a question is JSON");
        let questions = self.questions.as_mut().expect("it is not to end yet");
        writeln!(questions, "{line}").unwrap_or_else(|cause| panic!("{} has ended: {cause}", self.name));
    }

    /// What it says to a question, within some time.
    pub(crate) fn reply<T: DeserializeOwned>(&mut self, patience: Duration) -> Option<Result<T, String>> {
        let line = match self.replies.recv_timeout(patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => panic!("{} has ended; what it said stands above", self.name),
        };
        let reply = serde_json::from_str(&line);
        Some(match reply.unwrap_or_else(|cause| panic!("{} says {line}: {cause}", self.name)) {
            Reply::Ok(value) => Ok(value),
            Reply::Failed(why) => Err(why),
        })
    }

    /// What the process uses.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.process.id())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // The end of its input is the end of its work.
        self.questions = None;
        if thread::panicking() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// A command on the first `threads` of the processors that this process may use.
fn confined(program: &str, threads: usize) -> Command {
    if thread::available_parallelism().is_ok_and(|all| all.get() <= threads) {
        return Command::new(program);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("0");
    let list: Vec<String> = processors(allowed.trim()).take(threads).map(|number| number.to_string()).collect();
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(list.join(",")).arg(program);
    command
}

/// Numbers of processors, from a list as Linux writes it: `0-3,8`.
fn processors(list: &str) -> impl Iterator<Item = usize> {
    list.split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse().unwrap_or_default();
        number(first)..=number(last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_processors_has_numbers_and_ranges() {
        assert_eq!(processors("0-2,5,8-9").collect::<Vec<_>>(), [0, 1, 2, 5, 8, 9]);
        assert_eq!(processors("3").collect::<Vec<_>>(), [3]);
    }
}
