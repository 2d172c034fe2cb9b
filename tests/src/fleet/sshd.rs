//! A machine that is reached over SSH: a real sshd on this machine, whose sessions have a home folder of their own.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::{instance::Fleet, processes::MARK};
use crate::{
    port::Port,
    tools,
    wait::{PATIENCE, eventually},
};

/// An sshd with its own keys. It ends when it is dropped; processes that its sessions started end with the fleet.
#[derive(Debug)]
pub struct Sshd {
    process: Child,
    folder: TempDir,
    user: String,
    port: Port,
}

impl Fleet {
    /// Starts an sshd as the user who runs the test, and waits until it answers.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn sshd(&self) -> Sshd {
        let mut sshd = Sshd::start(&self.mark);
        let address = ("127.0.0.1", sshd.port.number());
        eventually("sshd answers", PATIENCE, async || {
            if let Ok(Some(status)) = sshd.process.try_wait() {
                let log = fs::read_to_string(sshd.folder.path().join("log")).unwrap_or_default();
                panic!("sshd ended with {status}; `make setup` installs what it needs:\n{log}");
            }
            let Ok(mut stream) = TcpStream::connect(address).await else { return false };
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).await.is_ok() && &greeting == b"SSH-"
        })
        .await;
        sshd
    }
}

impl Sshd {
    fn start(mark: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for sshd");
        let at = |name: &str| folder.path().join(name);
        let user = output_of(Command::new("id").arg("-un"));
        let port = Port::take();
        for folder in ["home", "bin"] {
            fs::create_dir(at(folder)).expect("a folder");
        }
        for key in ["host", "user", "stranger"] {
            output_of(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]).arg(at(key)));
        }
        let host_key = fs::read_to_string(at("host.pub")).expect("a key");
        let known = format!("[127.0.0.1]:{} {host_key}", port.number());
        fs::write(at("known_hosts"), known).expect("written");
        fs::copy(at("user.pub"), at("authorized_keys")).expect("written");
        fs::write(at("config"), configuration(folder.path(), port.number(), mark)).expect("written");
        // An sshd that root starts needs this folder, which the system creates when it starts its own sshd.
        if user == "root" {
            fs::create_dir_all("/run/sshd").expect("root may make it");
        }
        let program = tools::sshd();
        let log = File::create(at("log")).expect("a log can be made");
        let mut command = Command::new(&program);
        command.args(["-D", "-e", "-f"]).arg(at("config"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap_or_else(|cause| panic!("failed to start {}: {cause}", program.display()));
        Self { process, folder, user, port }
    }

    /// The target of ssh: `user@address`.
    pub fn target(&self) -> String {
        format!("{}@127.0.0.1", self.user)
    }

    /// The ssh command of a user whose key is authorized.
    pub fn ssh(&self) -> String {
        self.ssh_with("user", self.port.number())
    }

    /// The ssh command with a key that is not authorized.
    pub fn ssh_with_unknown_key(&self) -> String {
        self.ssh_with("stranger", self.port.number())
    }

    /// The ssh command to another port.
    pub fn ssh_to(&self, port: &Port) -> String {
        self.ssh_with("user", port.number())
    }

    fn ssh_with(&self, key: &str, port: u16) -> String {
        let folder = self.folder.path().display();
        format!(
            "ssh -F none -p {port} -i {folder}/{key} -o IdentitiesOnly=yes -o IdentityAgent=none -o \
             'UserKnownHostsFile {folder}/known_hosts' -o StrictHostKeyChecking=yes"
        )
    }

    /// The home folder of its sessions.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Adds a simulated systemd that executes what an installation requests, and a user who is not root.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn with_systemd(&self) {
        let bin = self.folder.path().join("bin");
        for (name, text) in [
            ("systemctl", include_str!("systemctl.sh")),
            ("journalctl", "#!/bin/sh\ntail -n 5 \"$HOME/.unit.log\"\n"),
            ("loginctl", "#!/bin/sh\necho yes\n"),
            ("id", "#!/bin/sh\ncase $1 in -u) echo 1000 ;; *) echo bee ;; esac\n"),
        ] {
            let program = bin.join(name);
            fs::write(&program, text).expect("written");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it may be started");
        }
    }

    /// Runs `rbee hive VERB` against this machine to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn hive(&self, fleet: &Fleet, verb: &str, arguments: &[&str]) -> Output {
        let (target, ssh) = (self.target(), self.ssh());
        fleet.rbee(&[&["hive", verb, &target, "--ssh", &ssh], arguments].concat()).await
    }

    /// The files below the home folder, as relative paths.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect(&self.home(), &mut files);
        let mut names: Vec<String> =
            files.iter().filter_map(|file| Some(file.strip_prefix(self.home()).ok()?.display().to_string())).collect();
        names.sort();
        names
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(folder: &Path, port: u16, mark: &str) -> String {
    let folder = folder.display();
    // Every process of a session has the mark of the fleet. Only the first SetEnv counts.
    let path = std::env::var("PATH").unwrap_or_default();
    format!(
        "ListenAddress 127.0.0.1\n\
         Port {port}\n\
         HostKey {folder}/host\n\
         AuthorizedKeysFile {folder}/authorized_keys\n\
         PidFile none\n\
         StrictModes no\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PermitRootLogin yes\n\
         PrintMotd no\n\
         MaxStartups 100\n\
         SetEnv HOME={folder}/home {MARK}={mark} PATH={folder}/bin:{path}\n"
    )
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of this test").flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder { collect(&entry.path(), found) } else { found.push(entry.path()) }
    }
}

/// Runs a command that must succeed, and returns its output.
fn output_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|cause| {
        panic!("failed to start {command:?}: {cause}; install the SSH client (Debian: apt install openssh-client)")
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
