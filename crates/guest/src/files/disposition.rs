//! Header values with parameters, as `multipart/form-data` has them: `Content-Type` with its
//! boundary, `Content-Disposition` with names.

use courier_protocol::percent;

/// Splits `value; name=text; name="quoted text"`. Backslashes escape a quote or a backslash within
/// quotes. Names come in lower case; none when the value is malformed.
pub(crate) fn parse(header: &str) -> Option<(String, Vec<(String, String)>)> {
    let (essence, mut rest) = match header.find(';') {
        Some(at) => header.split_at(at),
        None => (header, ""),
    };
    let mut parameters = Vec::new();
    while let Some(after) = rest.trim_start().strip_prefix(';') {
        let after = after.trim_start();
        if after.is_empty() {
            rest = after;
            continue;
        }
        let (name, after) = after.split_once('=')?;
        let (value, after) = take_value(after.trim_start())?;
        parameters.push((name.trim().to_ascii_lowercase(), value));
        rest = after;
    }
    rest.trim().is_empty().then(|| (essence.trim().to_ascii_lowercase(), parameters))
}

fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return Some((value.trim_end().to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            // Some clients escape backslashes, others do not: before anything else it is itself.
            '\\' => match chars.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    None
}

/// What `Content-Disposition` says about a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Disposition {
    /// Name of the form's field.
    pub(crate) name: Option<String>,
    /// Name of the file with all its directories.
    pub(crate) filename: Option<String>,
}

/// Reads `Content-Disposition: form-data; name="…"; filename="…"`; none when it is malformed.
/// `filename*` (RFC 8187) goes before `filename`.
pub(crate) fn parse_disposition(header: &str) -> Option<Disposition> {
    let (_kind, parameters) = parse(header)?;
    let mut disposition = Disposition::default();
    let mut extended = None;
    for (name, value) in parameters {
        match name.as_str() {
            "name" => disposition.name = Some(unescape(&value)),
            "filename" => disposition.filename = Some(unescape(&value)),
            "filename*" => {
                let (charset, encoded) = value.split_once('\'')?;
                let (_language, encoded) = encoded.split_once('\'')?;
                if !charset.eq_ignore_ascii_case("utf-8") {
                    return None;
                }
                extended = Some(String::from_utf8(percent::decode(encoded)?).ok()?);
            }
            _ => {}
        }
    }
    disposition.filename = extended.or(disposition.filename);
    Some(disposition)
}

/// Undoes the three escapes of the Fetch standard's "multipart/form-data encoding".
fn unescape(text: &str) -> String {
    text.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn filename(header: &str) -> Option<String> {
        parse_disposition(header).and_then(|disposition| disposition.filename)
    }

    #[test]
    fn a_filename_keeps_its_directories_and_every_odd_character() {
        let of = |name: &str| filename(&format!(r#"form-data; name="file"; filename="{name}""#));
        assert_eq!(of("/a/b;c=d.txt").as_deref(), Some("/a/b;c=d.txt"));
        assert_eq!(of(r"a\\b\x").as_deref(), Some(r"a\b\x"));
        assert_eq!(of(r#"a\"b%22c"#).as_deref(), Some(r#"a"b"c"#));
        assert_eq!(of("ü 100%.txt").as_deref(), Some("ü 100%.txt"));
    }

    #[test]
    fn tokens_and_extended_names_are_read_too() {
        assert_eq!(filename("form-data; name=file; filename=a.txt").as_deref(), Some("a.txt"));
        let header = "form-data; name=\"f\"; filename=\"x\"; filename*=UTF-8''%e2%82%ac.txt";
        assert_eq!(filename(header).as_deref(), Some("€.txt"));
        let (kind, parameters) = parse("Multipart/Form-Data; Boundary=abc ; ").unwrap();
        assert_eq!(kind, "multipart/form-data");
        assert_eq!(parameters, [("boundary".to_owned(), "abc".to_owned())]);
    }

    #[test]
    fn malformed_values_are_none() {
        for header in
            ["a; b", "a; b=\"c", "a; b=\"c\" d", "f; filename*=latin1''a", "f; filename*=x"]
        {
            assert_eq!(parse_disposition(header), None, "{header}");
        }
    }
}
