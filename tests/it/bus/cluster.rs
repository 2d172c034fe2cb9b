//! Three servers of which one is disconnected: readers continue, even if that server held the state of their consumer and
//! no error reports the loss.

use std::{collections::BTreeSet, time::Duration};

use async_nats::jetstream::{consumer, stream::ClusterInfo};
use futures::TryStreamExt as _;
use rbee_nats::{Bus, CommandQueue, EventReader, Outbox};
use rbee_schema::{Event, HiveCommand, HiveEvent, HiveName};
use rbee_tests::{
    chaos::Needs,
    nats::{NatsServer, connect},
    network::Network,
    wait::eventually,
};
use tokio::time::timeout;

/// A reader notices after 10 s, and the servers may then need an election before they answer it.
const NOTICED: Duration = Duration::from_secs(25);

/// A cluster of three servers.
struct Servers {
    server: NatsServer,
    /// A connection to all three.
    bus: Bus,
    network: Network,
}

impl Servers {
    /// Starts the servers; `None` where this machine cannot create network namespaces.
    async fn start() -> Option<Self> {
        if let Some(why) = Needs::Cluster.missing() {
            eprintln!("skipped: no server can be disconnected on this machine: {why}");
            return None;
        }
        let network = Network::new(3);
        let server = NatsServer::cluster(&network).await;
        let bus = server.bus("rbee").await;
        Some(Self { server, bus, network })
    }

    /// A connection to the servers other than `victim`.
    async fn without(&self, victim: usize) -> Bus {
        let others: Vec<&str> =
            self.server.url().split(',').enumerate().filter(|(at, _)| *at != victim).map(|(_, url)| url).collect();
        connect(&others.join(","), "rbee").await.expect("two servers answer")
    }

    /// Index of the server that leads a stream.
    async fn leader(&self, stream: &str) -> usize {
        let stream = self.bus.jetstream().get_stream(stream).await.expect("it exists");
        leader(stream.cached_info().cluster.as_ref()).expect("it has a leader")
    }

    /// Names of the consumers of a stream that the server `at` leads.
    async fn consumers_led_by(&self, stream: &str, at: usize) -> BTreeSet<String> {
        let stream = self.bus.jetstream().get_stream(stream).await.expect("it exists");
        let consumers: Vec<consumer::Info> = stream.consumers().try_collect().await.expect("the servers answer");
        let here = consumers.into_iter().filter(|found| leader(found.cluster.as_ref()) == Some(at));
        here.map(|found| found.name).collect()
    }
}

/// Index of the leader: servers are named n1, n2 and n3.
fn leader(cluster: Option<&ClusterInfo>) -> Option<usize> {
    let number: usize = cluster?.leader.as_ref()?.strip_prefix('n')?.parse().ok()?;
    Some(number - 1)
}

fn hive(number: u32) -> HiveName {
    format!("h{number}").parse().expect("a name")
}

#[tokio::test]
async fn event_reader_survives_the_loss_of_its_pushing_server() {
    let Some(servers) = Servers::start().await else { return };
    let victim = (servers.leader("rbee_events").await + 1) % 3;
    let bus = servers.without(victim).await;
    let mut others = Vec::new();
    let mut events = loop {
        let before = servers.consumers_led_by("rbee_events", victim).await;
        let events = EventReader::since(&bus, &bus.namespace().all_events(), None).await.expect("subscribed");
        if !servers.consumers_led_by("rbee_events", victim).await.is_subset(&before) {
            break events;
        }
        others.push(events);
    };
    servers.network.disconnect(victim);
    let outbox = Outbox::start(&bus);
    outbox.publish(&Event::Hive(hive(0), HiveEvent::Resumed {}));
    let received =
        timeout(NOTICED, events.next()).await.expect("the event arrives in time").expect("read").expect("an event");
    assert_eq!(received.subject, "rbee.evt.hive.h0.resumed");
}

#[tokio::test]
async fn hive_gets_commands_after_the_server_of_its_pull_is_cut_off() {
    let Some(servers) = Servers::start().await else { return };
    let stays = servers.leader("rbee_commands").await;
    let (mut number, mut victim) = (0, stays);
    while victim == stays {
        number += 1;
        CommandQueue::open(&servers.bus, &hive(number)).await.expect("the consumer exists");
        let name = format!("hive-{}", hive(number));
        eventually("a server leads the consumer", NOTICED, async || {
            for at in 0..3 {
                if servers.consumers_led_by("rbee_commands", at).await.contains(&name) {
                    victim = at;
                    return true;
                }
            }
            false
        })
        .await;
    }
    let bus = servers.without(victim).await;
    let mut commands = CommandQueue::open(&bus, &hive(number)).await.expect("the consumer exists");
    let listening = async move {
        loop {
            if let Ok(Some(order)) = commands.next().await {
                return order.expect("a command").command;
            }
        }
    };
    let listening = tokio::spawn(listening);
    // The pull is sent before the server is disconnected.
    bus.round_trip().await.expect("the servers answer");
    servers.network.disconnect(victim);
    let command = HiveCommand::Resume;
    bus.command(&hive(number), &command).await.expect("stored");
    let received = timeout(NOTICED, listening).await.expect("the command arrives in time").expect("no panic");
    assert_eq!(received, command);
}
