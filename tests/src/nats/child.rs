//! A nats-server as a child process, with its data in a folder of its own.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::store::Store;
use crate::tools;

#[derive(Debug)]
pub(super) struct ChildServer {
    process: Child,
    folder: TempDir,
    address: String,
    port: u16,
    store: Store,
}

impl ChildServer {
    pub(super) fn start(address: &str, port: u16, store: Store) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server's data");
        let process = spawn(&folder, address, port, store);
        Self { process, folder, address: address.to_owned(), port, store }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn kill(&mut self) {
        self.process.kill().expect("the server runs and can be killed");
        self.process.wait().expect("the killed server ends");
    }

    pub(super) fn restart(&mut self) {
        self.process = spawn(&self.folder, &self.address, self.port, self.store);
    }

    /// Panics with the log of the server where it has exited.
    pub(super) fn check(&mut self) {
        if let Ok(Some(status)) = self.process.try_wait() {
            let log = fs::read_to_string(log(&self.folder)).unwrap_or_default();
            panic!("nats-server exited with {status}:\n{log}");
        }
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        // Both fail where the process was killed and reaped before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn log(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

fn spawn(folder: &TempDir, address: &str, port: u16, store: Store) -> Child {
    let program = tools::nats_server();
    let log = File::options().create(true).append(true).open(log(folder)).expect("a log can be written");
    let mut command = Command::new(&program);
    command.args(["--addr", address, "--port", &port.to_string()]);
    if store == Store::JetStream {
        command.arg("--config").arg(tools::repository().join("nats/server/dev.conf"));
        command.env("RBEE_NATS_STORE", folder.path().join("data"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|cause| panic!("failed to start {}: {cause}", program.display()))
}
