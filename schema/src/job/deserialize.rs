//! Deserialization of fields that clients of the OpenAI API write in more than one way.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

/// Reads `null` as the default: some clients write `null` for a field that they leave out.
pub(super) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads numbers by token id. The ids are keys of a JSON object, and therefore texts.
pub(super) fn by_token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u32, f32>, D::Error> {
    let numbers: BTreeMap<String, f32> = null_is_default(deserializer)?;
    let of_token = |(key, number): (String, f32)| match key.parse() {
        Ok(token) => Ok((token, number)),
        Err(_) => Err(de::Error::custom(format!("`{key}` is not a token id: expected a whole number"))),
    };
    numbers.into_iter().map(of_token).collect()
}

/// Reads a text or a list of texts.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }
        fn visit_str<E: de::Error>(self, one: &str) -> Result<Self::Value, E> {
            Ok(vec![one.to_owned()])
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = many.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

/// Reads a text or a list of text parts, which are joined.
pub(super) fn text_or_parts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct TextOrParts;

    #[derive(Deserialize)]
    struct Part {
        r#type: String,
        #[serde(default)]
        text: String,
    }

    impl<'de> Visitor<'de> for TextOrParts {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of parts such as {\"type\":\"text\",\"text\":\"...\"}")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
            let mut text = String::new();
            while let Some(part) = parts.next_element::<Part>()? {
                if part.r#type != "text" {
                    return Err(de::Error::custom(format!(
                        "a part of type `{}` is not supported: only `text` is",
                        part.r#type
                    )));
                }
                text.push_str(&part.text);
            }
            Ok(Some(text))
        }
    }

    deserializer.deserialize_any(TextOrParts)
}

pub(super) fn one_or_many_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "description": "Texts that end the answer and are not part of it. At most 4, none empty.",
        "oneOf": [
            { "type": "string", "minLength": 1 },
            { "type": "array", "items": { "type": "string", "minLength": 1 }, "maxItems": 4 },
        ],
    })
}

pub(super) fn text_or_parts_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "description": "Content: a text, or a list of parts of type `text`, which are joined. Optional for an assistant that calls \
            tools.",
        "oneOf": [
            { "type": ["string", "null"] },
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": { "type": { "const": "text" }, "text": { "type": "string" } },
                    "required": ["type", "text"],
                },
            },
        ],
    })
}
