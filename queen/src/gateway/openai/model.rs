//! The list of models.

use serde::Serialize;

/// Declared models.
#[derive(Debug, Serialize)]
pub(crate) struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Debug, Serialize)]
struct Model {
    id: String,
    object: &'static str,
    /// Always 0: the bus does not record when a model was declared first.
    created: u64,
    owned_by: &'static str,
}

impl ModelList {
    pub(crate) fn new(names: impl Iterator<Item = String>) -> Self {
        let model = |id| Model { id, object: "model", created: 0, owned_by: "rbee" };
        Self { object: "list", data: names.map(model).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_models_has_the_fields_of_the_api() {
        assert_eq!(
            serde_json::to_string(&ModelList::new(["m".to_owned()].into_iter())).expect("JSON"),
            r#"{"object":"list","data":[{"id":"m","object":"model","created":0,"owned_by":"rbee"}]}"#
        );
    }
}
