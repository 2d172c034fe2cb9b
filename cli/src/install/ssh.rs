//! Runs scripts on another machine with the user's own `ssh`: variables in the environment, and optionally a file as input.
//!
//! Keys, agent, `~/.ssh/config` and jump hosts are handled by ssh. ssh runs in batch mode and never prompts, and every script
//! has a deadline.

use std::{ffi::OsStr, fs::File, io, path::PathBuf, process::Stdio, time::Duration};

use clap::Args;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::timeout,
};

use crate::error::CliError;

/// The remote machine and the ssh command that reaches it.
#[derive(Debug, Clone, Args)]
pub(super) struct Machine {
    /// Machine to connect to: USER@HOST, HOST, or a host alias of ~/.ssh/config.
    #[arg(value_parser = host, value_name = "USER@HOST")]
    host: String,
    /// ssh command, such as `ssh -p 2222 -i key`. Words are split as a shell does.
    #[arg(long, env = "RBEE_SSH", hide_env_values = true, default_value = "ssh", value_name = "COMMAND")]
    ssh: String,
}

/// Parses a host. A text that starts with `-` is refused, because ssh would read it as an option.
fn host(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && !text.starts_with('-') && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a machine: expected USER@HOST as ssh accepts it, such as pi@attic"))
    }
}

/// A script that runs on the remote machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script {
    /// The script's purpose, as a phrase that follows "failed to".
    pub(super) doing: &'static str,
    /// Deadline of one run.
    pub(super) limit: Duration,
    /// Source for a POSIX shell. It contains no single quotes and no backslashes, which non-POSIX shells interpret differently.
    pub(super) text: &'static str,
}

/// Environment variables of a script, as name and value.
pub(super) type Variables = Vec<(&'static str, String)>;

/// Standard input of a script.
#[derive(Debug)]
pub(super) enum Input {
    /// Nothing.
    Nothing,
    /// A text. Unlike variables, it is not visible in the process list of either machine.
    Text(String),
    /// A file on this machine.
    File(PathBuf),
}

/// The ssh command line for one machine.
#[derive(Debug, Clone)]
pub(super) struct Ssh {
    host: String,
    program: String,
    options: Vec<String>,
}

/// A failed script.
#[derive(Debug, thiserror::Error)]
pub(super) enum SshError {
    /// The ssh program does not exist.
    #[error(
        "failed to start `{program}`: {cause}; install an SSH client (Debian: apt install openssh-client), or name one with --ssh"
    )]
    NotStarted { program: String, cause: io::Error },
    /// ssh itself failed (exit code 255).
    #[error("{host} cannot be reached: {output}; {remedy}")]
    Unreachable { host: String, output: String, remedy: &'static str },
    /// The script failed.
    #[error("failed to {doing} on {host}: {output}")]
    Failed { host: String, doing: &'static str, output: String },
    /// The script exceeded its deadline.
    #[error("failed to {doing} on {host} within {} s: the connection is slow, or a program hangs there; try again", .limit.as_secs())]
    Late { host: String, doing: &'static str, limit: Duration },
    /// A file on this machine cannot be read.
    #[error("failed to read {}: {cause}", .file.display())]
    Unreadable { file: PathBuf, cause: io::Error },
}

impl From<SshError> for CliError {
    fn from(error: SshError) -> Self {
        Self::failed(error)
    }
}

impl Ssh {
    /// Parses the ssh command for a machine.
    ///
    /// # Errors
    /// The command is empty or has unbalanced quotes.
    pub(super) fn to(machine: &Machine) -> Result<Self, CliError> {
        let mut words = shlex::split(&machine.ssh).unwrap_or_default().into_iter();
        let Some(program) = words.next() else {
            return Err(CliError::usage(format!(
                "`{}` is not a command: expected a program with options as in a shell, such as `ssh -p 2222`",
                machine.ssh
            )));
        };
        Ok(Self { host: machine.host.clone(), program, options: words.collect() })
    }

    /// The machine, as the user named it.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Runs a script and returns its standard output.
    pub(super) async fn run(&self, script: &Script, variables: &Variables, input: Input) -> Result<String, SshError> {
        let ended = timeout(script.limit, self.run_without_limit(script, variables, input)).await;
        ended.unwrap_or_else(|_| {
            Err(SshError::Late { host: self.host.clone(), doing: script.doing, limit: script.limit })
        })
    }

    async fn run_without_limit(
        &self,
        script: &Script,
        variables: &Variables,
        input: Input,
    ) -> Result<String, SshError> {
        let mut command = self.command(script, variables);
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
            // If the script exits before it has read everything, its exit status explains why.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(|cause| self.not_started(cause))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let status = output.status;
        let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let host = self.host.clone();
        Err(match status.code() {
            Some(255) => SshError::Unreachable { host, remedy: remedy(&output), output },
            code => SshError::Failed {
                host,
                doing: script.doing,
                output: if output.is_empty() { ended(code) } else { output },
            },
        })
    }

    /// Starts a script that shares our output. Its input closes when this process exits.
    pub(super) fn show(&self, script: &Script, variables: &Variables) -> Result<Child, SshError> {
        self.spawn(self.command(script, variables).stdin(Stdio::piped()))
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, SshError> {
        command.kill_on_drop(true).spawn().map_err(|cause| self.not_started(cause))
    }

    fn not_started(&self, cause: io::Error) -> SshError {
        SshError::NotStarted { program: self.program.clone(), cause }
    }

    fn command(&self, script: &Script, variables: &Variables) -> Command {
        let mut command = Command::new(&self.program);
        // ssh uses the first value of an option, so the user's options precede ours.
        command.args(&self.options).args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
        // With these values a dead connection is detected within twenty seconds.
        command.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "--"]);
        command.args([OsStr::new(&self.host), OsStr::new(&remote(script, variables))]).stdin(Stdio::null());
        command
    }
}

/// Command line for the user's login shell on the remote machine.
fn remote(script: &Script, variables: &Variables) -> String {
    let variables = variables.iter().map(|(name, word)| format!("{name}={}", quote(word)));
    let variables: Vec<String> = variables.collect();
    format!("env {} sh -c '{}'", variables.join(" "), script.text)
}

/// Quotes a word for a shell. Only zero bytes cannot be quoted, and no argument can contain one.
fn quote(word: &str) -> String {
    shlex::try_quote(word).map(|quoted| quoted.into_owned()).unwrap_or_default()
}

fn ended(code: Option<i32>) -> String {
    code.map_or_else(|| "killed by a signal".to_owned(), |code| format!("exit code {code}"))
}

/// A remedy for an error message of ssh.
fn remedy(output: &str) -> &'static str {
    const REMEDIES: [(&str, &str); 6] = [
        (
            "Permission denied",
            "passwords are not supported: install your key with `ssh-copy-id`, or name a key with --ssh 'ssh -i FILE'",
        ),
        ("Host key verification failed", "connect once by hand with ssh and verify the host key"),
        ("Connection refused", "check that sshd runs there, and on which port: --ssh 'ssh -p PORT'"),
        ("Could not resolve", "check the host name"),
        ("timed out", "check that the machine is on and that its address is right"),
        ("No route to host", "check that the machine is on and that its address is right"),
    ];
    let found = REMEDIES.iter().find(|(pattern, _)| output.contains(pattern));
    found.map_or("check that ssh reaches it by hand", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::{super::script, *};

    #[test]
    fn a_host_that_looks_like_an_option_is_refused() {
        for good in ["attic", "pi@attic", "pi@192.168.1.4", "pi@fe80::1%eth0"] {
            assert_eq!(host(good).as_deref(), Ok(good));
        }
        for wrong in ["", "-oProxyCommand=x", "a b", "a\nb"] {
            assert!(host(wrong).is_err_and(|error| error.contains("pi@attic")), "{wrong}");
        }
    }

    #[test]
    fn ssh_command_is_split_like_a_shell() {
        let to = |ssh: &str| Ssh::to(&Machine { host: "h".to_owned(), ssh: ssh.to_owned() });
        let ssh = to("ssh -p 2222 -i 'my key'").expect("a command");
        assert_eq!((ssh.program.as_str(), ssh.options.join("|").as_str()), ("ssh", "-p|2222|-i|my key"));
        for wrong in ["", " ", "ssh 'open"] {
            assert!(to(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn scripts_have_no_quotes_or_backslashes() {
        for script in script::ALL {
            assert!(!script.text.contains(['\'', '\\']), "to {}", script.doing);
        }
    }

    #[test]
    fn variables_reach_a_script_unchanged() {
        let script = Script { doing: "say", limit: Duration::from_secs(1), text: "printf %s \"$word\"" };
        for word in ["", "a b", "it's", "$HOME `id` \"x\" \\ *", "ä\nb"] {
            let command = remote(&script, &vec![("word", word.to_owned())]);
            let output = std::process::Command::new("sh").args(["-c", &command]).output().expect("a shell is there");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{command}");
        }
    }

    #[test]
    fn ssh_errors_have_a_remedy() {
        for (output, words) in [
            ("pi@attic: Permission denied (publickey).", "ssh-copy-id"),
            ("ssh: connect to host attic port 22: Connection refused", "-p PORT"),
            ("ssh: Could not resolve hostname atic: Name or service not known", "host name"),
            ("Host key verification failed.", "once by hand"),
            ("kex_exchange_identification: banner", "by hand"),
        ] {
            assert!(remedy(output).contains(words), "{output}");
        }
    }
}
