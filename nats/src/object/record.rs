//! The record of an object, as NATS defines it. Fields that rbee does not use are left out and tolerated.

use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Record of an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// Name of the object.
    pub name: String,
    /// Name of the bucket.
    #[serde(default)]
    pub bucket: String,
    /// Id of this version of the content: the last token of the subject of its pieces.
    #[serde(default)]
    pub(super) nuid: String,
    /// Size of the content in bytes.
    #[serde(default)]
    pub size: u64,
    /// Number of pieces.
    #[serde(default)]
    pub(super) chunks: u64,
    /// `SHA-256=` and the digest in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// True if the object was deleted and only its record is left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) deleted: bool,
    /// Options, among them `link`: the object is another name of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<Value>,
}

impl ObjectRecord {
    /// Record of an object without content.
    pub(super) fn new(nuid: &str, name: &str, bucket: &str) -> Self {
        Self {
            name: name.to_owned(),
            bucket: bucket.to_owned(),
            nuid: nuid.to_owned(),
            size: 0,
            chunks: 0,
            digest: None,
            deleted: false,
            options: None,
        }
    }

    /// Parses a record. `None` for one that rbee does not read: a link, or one whose id is no token of a subject. A record is
    /// written by clients, and an id with a wildcard would name the content of other objects.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(record).ok()?;
        let is_link = record.options.as_ref().is_some_and(|options| options.get("link").is_some_and(Value::is_object));
        (!is_link && (record.deleted || is_id(&record.nuid))).then_some(record)
    }
}

/// True for an id that can be a token of a subject, without wildcards.
pub(super) fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The token of a subject that stands for the name of an object.
pub(super) fn token(name: &str) -> String {
    BASE64_URL_SAFE.encode(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_of_the_nats_command_line_is_read() {
        let written =
            br#"{"name":"a/b","options":{"max_chunk_size":131072},"bucket":"rbee_bodies","nuid":"Ab0","size":3,
            "mtime":"0001-01-01T00:00:00Z","chunks":1,"digest":"SHA-256=x"}"#;
        let record = ObjectRecord::read(written).expect("a record");
        assert_eq!((record.name.as_str(), record.size, record.chunks), ("a/b", 3, 1));
        assert_eq!(token("a/b"), "YS9i");
    }

    #[test]
    fn link_and_id_with_a_wildcard_are_not_read() {
        for written in [
            r#"{"name":"a","nuid":"x","options":{"link":{"bucket":"other","name":"b"}}}"#,
            r#"{"name":"a","nuid":">"}"#,
            r#"{"name":"a","nuid":"x.y"}"#,
            r#"{"name":"a"}"#,
            "no record",
        ] {
            assert_eq!(ObjectRecord::read(written.as_bytes()), None, "{written}");
        }
        assert!(ObjectRecord::read(br#"{"name":"a","deleted":true}"#).is_some_and(|record| record.deleted));
    }
}
