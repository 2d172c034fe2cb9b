//! The prompt cache of a worker serves later jobs, and its use is reported.

use rbee_schema::{ModelReference, ModelSpec, PromptCacheStats, Replicas};
use rbee_tests::{
    fleet::{Fleet, chat, metric_value, whole},
    tools::model,
    wait::{PATIENCE, eventually},
};
use serde_json::json;

/// A prompt of several KV cache pages.
const PROMPT: &str = "A beekeeper writes down what the hives have done in the last week. In the first hive the queen lays well \
                      and the bees bring much pollen. In the second hive it is quiet, and there is little honey. In the third \
                      hive a swarm has left on Tuesday. Say in one word which hive needs help.";

/// Waits until the queen knows a cache use of this many prompt tokens, and returns the use.
async fn cache_use(fleet: &Fleet, tokens: u64) -> PromptCacheStats {
    let mut found = PromptCacheStats::default();
    eventually(&format!("{tokens} prompt tokens are reported"), PATIENCE, async || {
        found = fleet.workers().await.first().and_then(|worker| worker.cache).unwrap_or_default();
        found.lookup_tokens >= tokens && found.used_bytes == 0
    })
    .await;
    found
}

#[tokio::test]
async fn second_job_with_the_same_prompt_hits_the_prompt_cache() {
    let fleet = Fleet::start().await;
    let spec = ModelSpec { replicas: Replicas { min: 1, max: 1 }, ..ModelSpec::new(ModelReference::File(model())) };
    fleet.serve("smollm2", spec).await;
    let worker = fleet.ready(1).await.remove(0);
    let ask = async || {
        let mut body = chat(PROMPT);
        (body["max_tokens"], body["temperature"]) = (json!(2), json!(0));
        whole(&mut fleet.submit("smollm2", body).await.1).await;
    };
    ask().await;
    let first = cache_use(&fleet, 1).await;
    assert_eq!(first.hit_tokens, 0, "the cache was empty: {first:?}");
    assert!(first.idle_bytes > 0 && first.idle_bytes < first.limit_bytes, "{first:?}");
    ask().await;
    let second = cache_use(&fleet, 2 * first.lookup_tokens).await;
    assert_eq!(second.lookup_tokens, 2 * first.lookup_tokens, "the same prompt");
    assert!(second.hit_tokens > first.lookup_tokens / 2, "all but the last page is cached: {second:?}");
    assert_eq!((second.idle_bytes, second.evicted_bytes), (first.idle_bytes, 0), "no page is stored twice: {second:?}");

    let metrics = format!("http://127.0.0.1:{}/metrics", worker.record.port.expect("it has a port"));
    for (metric, expected) in [
        ("rbee_worker_cache_lookup_tokens_total", second.lookup_tokens),
        ("rbee_worker_cache_hit_tokens_total", second.hit_tokens),
        ("rbee_worker_cache_bytes{what=\"idle\"}", second.idle_bytes),
    ] {
        assert_eq!(metric_value(&metrics, metric).await, expected as f64, "{metric}");
    }
    let rate = second.hit_rate().expect("the prompt has tokens");
    assert_eq!(metric_value(&metrics, "rbee_worker_cache_hit_ratio").await, rate);
    let queen = format!("{}/metrics", fleet.http().await);
    eventually("the queen has the same hit ratio", PATIENCE, async || {
        metric_value(&queen, "rbee_queen_cache_hit_ratio").await == rate
    })
    .await;
    let shown = fleet.rbee(&["ps"]).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("CACHED") && text.contains(&format!("{:.0}%", 100.0 * rate)), "{text}");
}
