//! The choice between containers and child processes, which a test process makes once.

use std::env;

use tokio::sync::OnceCell;

use super::{container::ContainerServer, store::Store};

/// Environment variable that forces one kind of server.
const VARIABLE: &str = "RBEE_TEST_NATS";

/// The way in which this process runs its servers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Child,
    Container,
}

static KIND: OnceCell<Kind> = OnceCell::const_new();

/// The kind of server that this process uses. To find out, the first call may start a container on this port: it returns
/// that container as well.
pub(super) async fn kind(port: u16, store: Store) -> (Kind, Option<ContainerServer>) {
    let mut first = None;
    let kind = *KIND.get_or_init(async || choose(port, store, &mut first).await).await;
    (kind, first)
}

async fn choose(port: u16, store: Store, first: &mut Option<ContainerServer>) -> Kind {
    let forced = env::var(VARIABLE).ok();
    let (kind, why) = match forced.as_deref() {
        Some("child") => (Kind::Child, format!("{VARIABLE}=child")),
        Some("container") => match ContainerServer::start(port, store).await {
            Ok(container) => {
                *first = Some(container);
                (Kind::Container, format!("{VARIABLE}=container"))
            }
            Err(why) => panic!(
                "{VARIABLE}=container, but no container can be started: {why}. Start a Docker engine that this user may \
                 use, or set {VARIABLE}=child"
            ),
        },
        Some(other) => panic!("{VARIABLE} is `{other}`: expected `container` or `child`"),
        None => match ContainerServer::start(port, store).await {
            Ok(container) => {
                *first = Some(container);
                (Kind::Container, "a Docker engine answers".to_owned())
            }
            Err(why) => (Kind::Child, format!("no container can be started: {why}")),
        },
    };
    let servers = match kind {
        Kind::Child => "child processes",
        Kind::Container => "containers",
    };
    eprintln!("these tests run nats-server in {servers}: {why}");
    kind
}
