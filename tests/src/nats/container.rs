//! A nats-server in a container. Its image is built here from the program in `.tools`, without any registry.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    process::Command,
};

use testcontainers::{
    ContainerAsync, GenericBuildableImage, GenericImage, ImageExt as _,
    bollard::query_parameters::KillContainerOptionsBuilder,
    core::{BuildImageOptions, IntoContainerPort as _, client::docker_client_instance},
    runners::{AsyncBuilder as _, AsyncRunner as _},
};

use super::store::Store;
use crate::tools;

const DOCKERFILE: &str = include_str!("../../../nats/Dockerfile");
const CONFIGURATION: &str = include_str!("../../../nats/server/container.conf");

/// Port of the server inside its container.
const PORT: u16 = 4222;

#[derive(Debug)]
pub(super) struct ContainerServer {
    container: ContainerAsync<GenericImage>,
}

impl ContainerServer {
    /// Starts a container.
    ///
    /// # Errors
    /// The reason, where this machine cannot run one.
    pub(super) async fn start(port: u16, store: Store) -> Result<Self, String> {
        let docker = docker_client_instance().await.map_err(|error| error.to_string())?;
        docker.ping().await.map_err(|error| format!("no Docker engine answers ({error})"))?;
        let image = image().await?;
        let image = match store {
            Store::JetStream => image,
            Store::Nothing => image.with_entrypoint("/nats-server"),
        };
        let container = image.with_mapped_port(port, PORT.tcp()).start().await.map_err(|error| error.to_string())?;
        Ok(Self { container })
    }

    /// Address at which the engine publishes ports.
    pub(super) async fn host(&self) -> String {
        let host = self.container.get_host().await.expect("the engine's address").to_string();
        // The name may also resolve to an IPv6 address, on which the engine does not listen.
        if host == "localhost" { "127.0.0.1".to_owned() } else { host }
    }

    /// Panics with the log of the server where it has exited.
    pub(super) async fn check(&mut self) {
        if self.container.is_running().await.is_ok_and(|running| !running) {
            let log = self.container.stderr_to_vec().await.unwrap_or_default();
            panic!("nats-server exited in its container:\n{}", String::from_utf8_lossy(&log));
        }
    }

    pub(super) async fn kill(&mut self) {
        let docker = docker_client_instance().await.expect("a client of the Docker engine");
        let signal = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        docker.kill_container(self.container.id(), Some(signal)).await.expect("the server runs and can be killed");
        // The engine answers when the signal is sent. The port is free when the container has ended.
        let ended = self.container.stop_with_timeout(Some(0)).await;
        ended.expect("the killed server ends");
    }

    pub(super) async fn restart(&mut self) {
        self.container.start().await.expect("the container starts again");
    }
}

/// The image, built unless it exists. Its tag has the server's version and a hash of what it is built from.
async fn image() -> Result<GenericImage, String> {
    let program = tools::nats_server();
    let output = Command::new(&program).arg("--version").output();
    let output = output.map_err(|cause| format!("{} cannot be run: {cause}", program.display()))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().rsplit('v').next().unwrap_or_default().to_owned();
    let mut hasher = DefaultHasher::new();
    (DOCKERFILE, CONFIGURATION).hash(&mut hasher);
    let tag = format!("{version}-{:08x}", hasher.finish() as u32);
    GenericBuildableImage::new("rbee-nats", tag)
        .with_dockerfile_string(DOCKERFILE)
        .with_data(CONFIGURATION, "nats/server/container.conf")
        // A symbolic link would be packed as a link.
        .with_file(program.canonicalize().unwrap_or(program), ".tools/bin/nats-server")
        .build_image_with(BuildImageOptions::new().with_skip_if_exists(true))
        .await
        .map_err(|error| error.to_string())
}
