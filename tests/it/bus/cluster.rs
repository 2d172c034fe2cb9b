//! Three servers of which one is cut off: whoever reads goes on, also where only that one knew where it had stopped, and
//! nobody says so.

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

/// A reader notices after 10 s, and the servers may have to elect somebody who answers it.
const NOTICED: Duration = Duration::from_secs(25);

/// Three servers.
struct Servers {
    server: NatsServer,
    /// A connection to all of them.
    bus: Bus,
    network: Network,
}

impl Servers {
    /// `None` where this machine has no networks to cut.
    async fn start() -> Option<Self> {
        if let Some(why) = Needs::Cluster.missing() {
            eprintln!("no server can be cut off on this machine: {why}");
            return None;
        }
        let network = Network::new(3);
        let server = NatsServer::cluster(&network).await;
        let bus = server.bus("rbee").await;
        Some(Self { server, bus, network })
    }

    /// A connection to those that are not the one.
    async fn without(&self, victim: usize) -> Bus {
        let others: Vec<&str> =
            self.server.url().split(',').enumerate().filter(|(at, _)| *at != victim).map(|(_, url)| url).collect();
        connect(&others.join(","), "rbee").await.expect("two servers are there")
    }

    /// Which server leads a stream.
    async fn leader(&self, stream: &str) -> usize {
        let stream = self.bus.jetstream().get_stream(stream).await.expect("it is there");
        leader(stream.cached_info().cluster.as_ref()).expect("it has a leader")
    }

    /// The consumers of a stream that are led by a server.
    async fn places(&self, stream: &str, at: usize) -> BTreeSet<String> {
        let stream = self.bus.jetstream().get_stream(stream).await.expect("it is there");
        let consumers: Vec<consumer::Info> = stream.consumers().try_collect().await.expect("the servers answer");
        let here = consumers.into_iter().filter(|found| leader(found.cluster.as_ref()) == Some(at));
        here.map(|found| found.name).collect()
    }
}

/// Servers are named n1, n2 and n3.
fn leader(cluster: Option<&ClusterInfo>) -> Option<usize> {
    let number: usize = cluster?.leader.as_ref()?.strip_prefix('n')?.parse().ok()?;
    Some(number - 1)
}

fn hive(number: u32) -> HiveName {
    format!("h{number}").parse().expect("a name")
}

#[tokio::test]
async fn a_reader_of_events_notices_that_the_server_which_pushed_them_is_cut_off() {
    let Some(servers) = Servers::start().await else { return };
    let victim = (servers.leader("rbee_events").await + 1) % 3;
    let bus = servers.without(victim).await;
    let mut others = Vec::new();
    let mut events = loop {
        let before = servers.places("rbee_events", victim).await;
        let events = EventReader::since(&bus, &bus.namespace().all_events(), None).await.expect("followed");
        if !servers.places("rbee_events", victim).await.is_subset(&before) {
            break events;
        }
        others.push(events);
    };
    servers.network.disconnect(victim);
    let outbox = Outbox::start(&bus);
    outbox.publish(&Event::Hive(hive(0), HiveEvent::Resumed {}));
    let heard = timeout(NOTICED, events.next()).await.expect("it is heard in time").expect("read").expect("an event");
    assert_eq!(heard.subject, "rbee.evt.hive.h0.resumed");
}

#[tokio::test]
async fn a_hive_hears_commands_when_the_server_that_held_its_question_is_cut_off() {
    let Some(servers) = Servers::start().await else { return };
    let stays = servers.leader("rbee_commands").await;
    let (mut number, mut victim) = (0, stays);
    while victim == stays {
        number += 1;
        CommandQueue::open(&servers.bus, &hive(number)).await.expect("it listens");
        let name = format!("hive-{}", hive(number));
        eventually("somebody leads the consumer", NOTICED, async || {
            for at in 0..3 {
                if servers.places("rbee_commands", at).await.contains(&name) {
                    victim = at;
                    return true;
                }
            }
            false
        })
        .await;
    }
    let bus = servers.without(victim).await;
    let mut commands = CommandQueue::open(&bus, &hive(number)).await.expect("it listens");
    let listening = async move {
        loop {
            if let Ok(Some(order)) = commands.next().await {
                return order.expect("a command").command;
            }
        }
    };
    let listening = tokio::spawn(listening);
    // It asks before the other one is gone.
    bus.round_trip().await.expect("the servers answer");
    servers.network.disconnect(victim);
    let command = HiveCommand::Resume;
    bus.command(&hive(number), &command).await.expect("stored");
    let heard = timeout(NOTICED, listening).await.expect("it is heard in time").expect("no panic");
    assert_eq!(heard, command);
}
