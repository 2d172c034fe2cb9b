//! Labels of hives, and the labels that a model requires.

use std::collections::BTreeMap;

/// Labels by name, such as `zone = "attic"`. A hive carries labels; a model runs only on hives that have all of the
/// model's labels.
pub type Labels = BTreeMap<String, String>;

/// Maximum number of labels of a hive or a model.
const MAX_LABELS: usize = 32;

/// Maximum length of a label's name or value, in bytes.
const MAX_LABEL_BYTES: usize = 64;

/// Checks the labels of a hive or a model.
///
/// # Errors
/// A message that names the invalid label, or says that there are too many.
pub fn check_labels(labels: &Labels) -> Result<(), String> {
    let is_valid = |text: &str| {
        (1..=MAX_LABEL_BYTES).contains(&text.len())
            && !text.contains(|c: char| c.is_control() || matches!(c, '=' | ','))
    };
    match labels.iter().find(|(name, value)| !is_valid(name) || !is_valid(value)) {
        Some((name, value)) => Err(format!(
            "label `{name}={value}` is invalid: expected NAME=VALUE, each of 1 to {MAX_LABEL_BYTES} bytes without `=` \
             and `,`"
        )),
        None if labels.len() > MAX_LABELS => Err(format!("{} labels are too many: at most {MAX_LABELS}", labels.len())),
        None => Ok(()),
    }
}

/// Parses a label, such as `zone=attic`.
///
/// # Errors
/// The text has no `=`.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not a label: expected NAME=VALUE, such as zone=attic"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_labels_are_refused_with_the_reason() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Labels>();
        assert_eq!(check_labels(&labels(&[("zone", "attic"), ("gpu", "4090")])), Ok(()));
        let long = "x".repeat(MAX_LABEL_BYTES + 1);
        for wrong in [("", "a"), ("a", ""), ("a=b", "c"), ("a", "b,c"), ("a", "b\n"), (long.as_str(), "a")] {
            let error = check_labels(&labels(&[wrong])).expect_err(wrong.0);
            assert!(error.contains("expected NAME=VALUE"), "{error}");
        }
        let many = (0..=MAX_LABELS).map(|n| (n.to_string(), "x".to_owned())).collect();
        assert_eq!(check_labels(&many), Err("33 labels are too many: at most 32".to_owned()));
    }

    #[test]
    fn a_label_is_a_name_and_a_value() {
        assert_eq!(parse_label("zone = attic"), Ok(("zone".to_owned(), "attic".to_owned())));
        assert!(parse_label("zone").is_err_and(|error| error.contains("such as zone=attic")));
    }
}
