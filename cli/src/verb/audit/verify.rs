//! `rbee audit verify`: recomputes the hashes of all seals.

use std::time::UNIX_EPOCH;

use rbee_nats::{Bus, EventRecord, Subject, TrailReport, TrailVerifier, recent_events};
use serde_json::{Value, json};

use crate::{
    Context,
    error::CliError,
    output::{self, say},
};

/// Verifies every seal of the trail.
///
/// # Errors
/// An event differs from its seal, or no seal has the expected hash.
pub(super) async fn verify(context: &Context, bus: &Bus, expect: Option<&str>) -> Result<(), CliError> {
    let records = recent_events(bus, &bus.namespace().all_events(), UNIX_EPOCH).await?;
    let is_seal = |record: &EventRecord| matches!(bus.parse(&record.subject), Some(Subject::AuditEvent(_)));
    let has_expected_hash = |record: &EventRecord| {
        let body: Value = serde_json::from_slice(&record.body).unwrap_or_default();
        expect.is_none_or(|expected| body["hash"].as_str() == Some(expected))
    };
    let found_expected = expect.is_none() || records.iter().any(|record| is_seal(record) && has_expected_hash(record));
    let mut verifier = TrailVerifier::default();
    for record in records {
        let is_seal = is_seal(&record);
        verifier.check(record, is_seal);
    }
    let TrailReport { events, seals, unsealed, hash, mut breaks } = verifier.finish();
    if !found_expected {
        breaks.push(format!("no seal has the hash {}", expect.unwrap_or_default()));
    }
    if context.json {
        output::json(&json!({
            "events": events, "seals": seals, "unsealed": unsealed, "hash": hash, "breaks": breaks,
        }));
    } else {
        say!("checked {events} events under {seals} seals; not sealed yet: {unsealed}");
        if !hash.is_empty() {
            say!("hash of the last seal: {hash}");
        }
    }
    if breaks.is_empty() {
        Ok(())
    } else {
        Err(CliError::failed(format!("the audit trail is broken: {}", breaks.join("; "))))
    }
}
