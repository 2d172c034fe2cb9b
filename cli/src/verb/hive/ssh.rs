//! The user's own `ssh`: a script runs on another machine, with words in its environment and perhaps a file as its input.
//!
//! Keys, agent, `~/.ssh/config` and jump hosts are ssh's business. It is told to ask nobody anything, and every script has
//! a deadline.

use std::{ffi::OsStr, fs::File, io, path::PathBuf, process::Stdio, time::Duration};

use clap::Args;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::timeout,
};

use crate::error::CliError;

/// Which machine, and how it is reached.
#[derive(Debug, Clone, Args)]
pub(super) struct Machine {
    /// The machine, as ssh takes it: USER@HOST, HOST, or a name of ~/.ssh/config.
    #[arg(value_parser = host, value_name = "USER@HOST")]
    host: String,
    /// The ssh command, such as `ssh -p 2222 -i key`; words are split as a shell does.
    #[arg(long, env = "RBEE_SSH", default_value = "ssh", value_name = "COMMAND")]
    ssh: String,
}

/// Reads a host; one that begins with `-` would be an option of ssh.
fn host(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && !text.starts_with('-') && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no machine: expected USER@HOST as ssh takes it, such as pi@attic"))
    }
}

/// A script that runs on the other machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script {
    /// What it does; reads after "failed to".
    pub(super) doing: &'static str,
    /// How long it may take.
    pub(super) limit: Duration,
    /// It, for a POSIX shell. Without single quotes and backslashes, which shells other than that one take differently.
    pub(super) text: &'static str,
}

/// Words for a script, each under its name.
pub(super) type Words = Vec<(&'static str, String)>;

/// What a script reads.
#[derive(Debug)]
pub(super) enum Input {
    /// Nothing.
    Nothing,
    /// This text. It is seen by nobody on the way, unlike the words.
    Text(String),
    /// A file of this machine.
    File(PathBuf),
}

/// A way to another machine.
#[derive(Debug, Clone)]
pub(super) struct Ssh {
    host: String,
    program: String,
    options: Vec<String>,
}

/// A script that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum SshError {
    /// There is no such program.
    #[error(
        "failed to start `{program}`: {cause}; install an SSH client (Debian: apt install openssh-client), or name one with --ssh"
    )]
    NotStarted { program: String, cause: io::Error },
    /// ssh itself failed (exit code 255).
    #[error("{host} cannot be reached: {said}; {remedy}")]
    Unreachable { host: String, said: String, remedy: &'static str },
    /// The script failed.
    #[error("failed to {doing} on {host}: {said}")]
    Failed { host: String, doing: &'static str, said: String },
    /// It took too long.
    #[error("failed to {doing} on {host} within {} s: the connection is slow, or something hangs there; try again", .limit.as_secs())]
    Late { host: String, doing: &'static str, limit: Duration },
    /// A file of this machine cannot be read.
    #[error("failed to read {}: {cause}", .file.display())]
    Unreadable { file: PathBuf, cause: io::Error },
}

impl From<SshError> for CliError {
    fn from(error: SshError) -> Self {
        Self::failed(error)
    }
}

impl Ssh {
    /// The way to a machine.
    pub(super) fn to(machine: &Machine) -> Result<Self, CliError> {
        let mut words = shlex::split(&machine.ssh).unwrap_or_default().into_iter();
        let Some(program) = words.next() else {
            return Err(CliError::usage(format!(
                "`{}` is no command: expected a program with its options as a shell takes them, such as `ssh -p 2222`",
                machine.ssh
            )));
        };
        Ok(Self { host: machine.host.clone(), program, options: words.collect() })
    }

    /// The machine, as the user calls it.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Runs a script to its end, and returns what it wrote.
    pub(super) async fn run(&self, script: &Script, words: &Words, input: Input) -> Result<String, SshError> {
        let ended = timeout(script.limit, self.run_without_limit(script, words, input)).await;
        ended.unwrap_or_else(|_| {
            Err(SshError::Late { host: self.host.clone(), doing: script.doing, limit: script.limit })
        })
    }

    async fn run_without_limit(&self, script: &Script, words: &Words, input: Input) -> Result<String, SshError> {
        let mut command = self.command(script, words);
        let text = match input {
            Input::Nothing => None,
            Input::Text(text) => Some(text),
            Input::File(file) => {
                command.stdin(File::open(&file).map_err(|cause| SshError::Unreadable { file, cause })?);
                None
            }
        };
        if text.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = self.spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        if let (Some(text), Some(mut stdin)) = (text, child.stdin.take()) {
            // Where it ended before it read all, its exit says why.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(|cause| self.not_started(cause))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let host = self.host.clone();
        Err(match output.status.code() {
            Some(255) => SshError::Unreachable { host, remedy: remedy(&said), said },
            code => {
                SshError::Failed { host, doing: script.doing, said: if said.is_empty() { ended(code) } else { said } }
            }
        })
    }

    /// Starts a script whose output goes where ours goes, and whose input ends with us.
    pub(super) fn show(&self, script: &Script, words: &Words) -> Result<Child, SshError> {
        self.spawn(self.command(script, words).stdin(Stdio::piped()))
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, SshError> {
        command.kill_on_drop(true).spawn().map_err(|cause| self.not_started(cause))
    }

    fn not_started(&self, cause: io::Error) -> SshError {
        SshError::NotStarted { program: self.program.clone(), cause }
    }

    fn command(&self, script: &Script, words: &Words) -> Command {
        let mut command = Command::new(&self.program);
        // ssh takes the first value of an option: what the user gives comes before ours.
        command.args(&self.options).args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
        // A dead link ends it within twenty seconds.
        command.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "--"]);
        command.args([OsStr::new(&self.host), OsStr::new(&remote(script, words))]).stdin(Stdio::null());
        command
    }
}

/// What the user's shell there is given.
fn remote(script: &Script, words: &Words) -> String {
    let words = words.iter().map(|(name, word)| format!("{name}={}", quote(word)));
    let words: Vec<String> = words.collect();
    format!("env {} sh -c '{}'", words.join(" "), script.text)
}

/// Without a zero byte, which no argument of ours can hold, everything can be quoted.
fn quote(word: &str) -> String {
    shlex::try_quote(word).map(|quoted| quoted.into_owned()).unwrap_or_default()
}

fn ended(code: Option<i32>) -> String {
    code.map_or_else(|| "a signal ended it".to_owned(), |code| format!("it ended with code {code}"))
}

/// What to do about what ssh says.
fn remedy(said: &str) -> &'static str {
    const REMEDIES: [(&str, &str); 6] = [
        (
            "Permission denied",
            "it takes no password here: give it your key with `ssh-copy-id`, or name a key with --ssh 'ssh -i FILE'",
        ),
        ("Host key verification failed", "connect once by hand with ssh and look at its key"),
        ("Connection refused", "see whether sshd runs there, and on which port: --ssh 'ssh -p PORT'"),
        ("Could not resolve", "see whether its name is right"),
        ("timed out", "see whether it is on, and whether its address is right"),
        ("No route to host", "see whether it is on, and whether its address is right"),
    ];
    let found = REMEDIES.iter().find(|(words, _)| said.contains(words));
    found.map_or("see whether ssh by hand reaches it", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::{super::script, *};

    #[test]
    fn a_machine_is_no_option_of_ssh() {
        for good in ["attic", "pi@attic", "pi@192.168.1.4", "pi@fe80::1%eth0"] {
            assert_eq!(host(good).as_deref(), Ok(good));
        }
        for wrong in ["", "-oProxyCommand=x", "a b", "a\nb"] {
            assert!(host(wrong).is_err_and(|error| error.contains("pi@attic")), "{wrong}");
        }
    }

    #[test]
    fn the_ssh_command_is_split_as_a_shell_does() {
        let to = |ssh: &str| Ssh::to(&Machine { host: "h".to_owned(), ssh: ssh.to_owned() });
        let ssh = to("ssh -p 2222 -i 'my key'").expect("a command");
        assert_eq!((ssh.program.as_str(), ssh.options.join("|").as_str()), ("ssh", "-p|2222|-i|my key"));
        for wrong in ["", " ", "ssh 'open"] {
            assert!(to(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn scripts_are_the_same_for_every_shell_that_a_user_may_have() {
        for script in script::ALL {
            assert!(!script.text.contains(['\'', '\\']), "to {}", script.doing);
        }
    }

    #[test]
    fn words_reach_a_script_as_they_are() {
        let script = Script { doing: "say", limit: Duration::from_secs(1), text: "printf %s \"$word\"" };
        for word in ["", "a b", "it's", "$HOME `id` \"x\" \\ *", "ä\nb"] {
            let command = remote(&script, &vec![("word", word.to_owned())]);
            let output = std::process::Command::new("sh").args(["-c", &command]).output().expect("a shell is there");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{command}");
        }
    }

    #[test]
    fn what_ssh_says_has_a_remedy() {
        for (said, words) in [
            ("pi@attic: Permission denied (publickey).", "ssh-copy-id"),
            ("ssh: connect to host attic port 22: Connection refused", "-p PORT"),
            ("ssh: Could not resolve hostname atic: Name or service not known", "name is right"),
            ("Host key verification failed.", "once by hand"),
            ("kex_exchange_identification: banner", "by hand"),
        ] {
            assert!(remedy(said).contains(words), "{said}");
        }
    }
}
