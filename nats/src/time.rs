//! Times as documents write them.

use std::time::SystemTime;

/// A time of the server as text (RFC 3339, UTC, milliseconds).
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
