//! Event names: the last token of an event's subject, kept beside the `event` field of its body.

/// Declares `NAMES` and `name()` of an event family: one name per variant, the last token of the variant's subject.
macro_rules! event_names {
    ($family:ident { $($variant:ident => $name:literal,)* }) => {
        impl $family {
            /// Names of all events of this family.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Name of this event: the last token of its subject.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)*
                }
            }
        }
    };
}

pub(super) use event_names;

#[cfg(test)]
mod tests {
    use crate::{HiveEvent, ModelEvent, QueenEvent, WorkerEvent};

    #[test]
    fn the_event_field_repeats_the_name_in_the_subject() {
        let why = String::from("idle");
        for (name, json) in [
            ("draining", serde_json::to_value(WorkerEvent::Draining { why: why.clone() })),
            ("stopped", serde_json::to_value(HiveEvent::Stopped { killed: 0 })),
            ("stopped", serde_json::to_value(QueenEvent::Stopped {})),
            ("withdrawn", serde_json::to_value(ModelEvent::Withdrawn {})),
        ] {
            assert_eq!(json.expect("serializes")["event"], name);
        }
        assert!(WorkerEvent::NAMES.contains(&WorkerEvent::Stopping { why }.name()));
    }

    #[test]
    fn unknown_fields_are_tolerated() {
        let event: WorkerEvent = serde_json::from_str(r#"{"event":"draining","why":"x","later":1}"#).expect("tolerant");
        assert_eq!(event, WorkerEvent::Draining { why: "x".into() });
    }
}
