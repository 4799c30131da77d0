//! A kernel's bundle of representations, as the wire has it: one field for each known MIME type.

use serde_json::{Map, Value};

/// MIME type to field. Any other type goes under `extra`, by its own name.
const FIELDS: &[(&str, &str)] = &[
    ("text/plain", "text"),
    ("text/html", "html"),
    ("text/markdown", "markdown"),
    ("image/svg+xml", "svg"),
    ("image/png", "png"),
    ("image/jpeg", "jpeg"),
    ("application/pdf", "pdf"),
    ("text/latex", "latex"),
    ("application/json", "json"),
    ("application/javascript", "javascript"),
    ("e2b/data", "data"),
    ("e2b/chart", "chart"),
];

/// Fields that are structured; the others are text, whatever a kernel says.
const STRUCTURED: &[&str] = &["json", "data", "chart"];

/// Turns a bundle into the fields of a result.
pub(crate) fn fields(bundle: Map<String, Value>) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut extra = Map::new();
    for (mime, value) in bundle {
        if value.is_null() {
            continue;
        }
        match FIELDS.iter().find(|(known, _)| *known == mime) {
            Some((_, field)) if STRUCTURED.contains(field) => {
                fields.insert((*field).to_owned(), value);
            }
            Some((_, field)) => {
                let text = text(value);
                let text = if *field == "text" { unquoted(&text).to_owned() } else { text };
                fields.insert((*field).to_owned(), text.into());
            }
            None => {
                extra.insert(mime, value);
            }
        }
    }
    if !extra.is_empty() {
        fields.insert("extra".to_owned(), extra.into());
    }
    fields
}

/// A kernel may send text as one string or as its lines; base64 may end with a line's end.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text.strip_suffix('\n').map(str::to_owned).unwrap_or(text),
        Value::Array(lines) if lines.iter().all(Value::is_string) => {
            lines.iter().filter_map(Value::as_str).collect()
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => other.to_string(),
    }
}

/// The text without one pair of quotes around it, as a string's representation has them.
fn unquoted(text: &str) -> &str {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> Value {
        let Value::Object(bundle) = value else { panic!("a bundle is an object") };
        fields(bundle).into()
    }

    #[test]
    fn known_types_get_their_field_and_others_are_extra() {
        let bundle = json!({"text/plain": "'x'", "image/png": "aGk=\n", "application/json": [1],
            "application/vnd.plotly.v1+json": {"a": 1}, "text/html": null});
        let expected = json!({"text": "x", "png": "aGk=", "json": [1],
            "extra": {"application/vnd.plotly.v1+json": {"a": 1}}});
        assert_eq!(of(bundle), expected);
    }

    #[test]
    fn one_pair_of_quotes_is_stripped_and_never_half_of_one() {
        for (raw, stripped) in
            [("'a'", "a"), ("\"a\"", "a"), ("''a''", "'a'"), ("'", "'"), ("'a\"", "'a\"")]
        {
            assert_eq!(of(json!({"text/plain": raw})), json!({"text": stripped}));
        }
    }

    #[test]
    fn text_is_text_whatever_a_kernel_sends() {
        assert_eq!(of(json!({"text/html": ["<b>", "</b>"]})), json!({"html": "<b></b>"}));
        assert_eq!(of(json!({"text/html": {"a": 1}})), json!({"html": "{\"a\":1}"}));
    }
}
