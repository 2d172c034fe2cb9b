//! A plain subscriber to all output. It may miss chunks while the server is away, and must never receive one twice.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use rbee_nats::{Bus, Subject};
use rbee_schema::Chunk;
use tokio::task::JoinHandle;

/// Collects violations until it is asked for them.
pub(super) struct Observer {
    bus: Bus,
    task: JoinHandle<Vec<String>>,
}

/// Subject of the message that ends the observation.
const END: &str = "rbee.out.default.end-of-observation";

impl Observer {
    pub(super) async fn start(bus: &Bus) -> Self {
        let mut published = bus.subscribe(bus.namespace().all_published()).await.expect("subscribed");
        let observing = bus.clone();
        let task = tokio::spawn(async move {
            let mut next: BTreeMap<String, u32> = BTreeMap::new();
            let mut violations = Vec::new();
            while let Some(message) = published.next().await {
                if message.subject.as_str() == END {
                    break;
                }
                let (Some(Subject::Published(..)), Ok(chunk)) =
                    (observing.parse(&message.subject), serde_json::from_slice::<Chunk>(&message.payload))
                else {
                    violations.push(format!("{} has a message that is no chunk", message.subject));
                    continue;
                };
                let Some(index) = chunk.index().filter(|_| chunk.count() > 0) else { continue };
                let expected = next.entry(message.subject.to_string()).or_default();
                if index < *expected {
                    violations.push(format!("{} repeats index {index} of {expected}", message.subject));
                }
                *expected = index + chunk.count();
            }
            violations
        });
        Self { bus: bus.clone(), task }
    }

    /// # Panics
    /// When a chunk was received twice.
    pub(super) async fn check(self) {
        self.bus.client().publish(END, "".into()).await.expect("the connection is open");
        let violations = self.task.await.expect("the observer does not panic");
        assert!(violations.is_empty(), "a subscriber received chunks twice:\n- {}", violations.join("\n- "));
    }
}
