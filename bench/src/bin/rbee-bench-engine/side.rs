//! One of the two sides: a separate process, so that its memory can be measured, which answers lines of JSON.

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

/// Time limit of an answer. The longest one, 16 sequences on a slow engine, takes a minute, and more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// Option with which this program runs as our side.
pub(crate) const SERVE: &str = "--serve";

/// A process that answers questions.
pub(crate) struct Side {
    name: &'static str,
    process: Child,
    /// Standard input of the process; `None` when the process is asked to exit.
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
            // The thread ends with the process, or with the receiver.
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { name, process, questions, replies }
    }

    /// Sends a question and waits for the reply.
    ///
    /// # Errors
    /// The error that the side replies.
    ///
    /// # Panics
    /// When the process has exited, or does not reply for 10 min.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, question: &Question) -> Result<T, String> {
        self.send(question);
        self.reply(PATIENCE).unwrap_or_else(|| panic!("{} has not answered {question:?}", self.name))
    }

    /// Sends a question.
    pub(crate) fn send(&mut self, question: &Question) {
        let line = serde_json::to_string(question).expect("a question is JSON");
        let questions = self.questions.as_mut().expect("the process is still in use");
        writeln!(questions, "{line}").unwrap_or_else(|cause| panic!("{} has exited: {cause}", self.name));
    }

    /// Waits for the reply to a question; `None` after `patience`.
    pub(crate) fn reply<T: DeserializeOwned>(&mut self, patience: Duration) -> Option<Result<T, String>> {
        let line = match self.replies.recv_timeout(patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => panic!("{} has exited; see its output above", self.name),
        };
        let reply = serde_json::from_str(&line);
        Some(match reply.unwrap_or_else(|cause| panic!("{} replied {line}: {cause}", self.name)) {
            Reply::Ok(value) => Ok(value),
            Reply::Failed(why) => Err(why),
        })
    }

    /// Resource use of the process.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.process.id())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // The process exits when its standard input is closed.
        self.questions = None;
        if thread::panicking() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// A command that runs on the first `threads` processors of those that this process may use.
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

/// Processor numbers of a list in the form of Linux: `0-3,8`.
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
    fn processor_list_has_numbers_and_ranges() {
        assert_eq!(processors("0-2,5,8-9").collect::<Vec<_>>(), [0, 1, 2, 5, 8, 9]);
        assert_eq!(processors("3").collect::<Vec<_>>(), [3]);
    }
}
