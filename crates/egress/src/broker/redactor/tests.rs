//! No form of a value gets out, and nothing else is touched.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::patterns::Pattern;
use super::*;

fn redactor(values: &[&[u8]]) -> Redactor {
    let values: Vec<_> = values.iter().map(|value| Zeroizing::new(value.to_vec())).collect();
    Redactor::new(values, &Searches::default()).unwrap()
}

fn run(redactor: Redactor, chunks: &[&[u8]]) -> String {
    String::from_utf8(run_bytes(redactor, chunks)).unwrap()
}

fn run_bytes(mut redactor: Redactor, chunks: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(redactor.push(chunk));
    }
    out.extend(redactor.finish());
    out
}

fn redacted(value: &str, text: &str) -> String {
    run(redactor(&[value.as_bytes()]), &[text.as_bytes()])
}

/// A value with characters that every encoding changes.
const KEY: &str = "s3cr+t/\"key\" <é> & 'more'\\";

/// The value in one form, by an encoder that is not ours where there is one.
fn forms(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let percent = |left: &str, upper: bool| -> String {
        let one = |byte: &u8| {
            let c = char::from(*byte);
            match (c.is_ascii_alphanumeric() || left.contains(c), upper) {
                (true, _) => c.to_string(),
                (false, true) => format!("%{byte:02X}"),
                (false, false) => format!("%{byte:02x}"),
            }
        };
        bytes.iter().map(one).collect()
    };
    let json = serde_json::to_string(value).unwrap();
    let json = json[1..json.len() - 1].to_owned();
    let ascii: String = json
        .chars()
        .map(|c| match c {
            c if c.is_ascii() => c.to_string(),
            c => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        })
        .collect();
    let html = json.replace('<', "\\u003c").replace('>', "\\u003E").replace('&', "\\u0026");
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let all: String = value.chars().map(|c| format!("\\u{:04X}", u32::from(c))).collect();
    let mut forms = vec![
        value.to_owned(),
        percent("-._~", true),
        percent("-._~", false),
        percent("-._~!'()*", true),
        percent("-._~", true).replace("%20", "+"),
        bytes.iter().map(|byte| format!("%{byte:02X}")).collect(),
        json.replace('/', "\\/"),
        ascii,
        hexadecimal.to_uppercase(),
        hexadecimal,
        STANDARD.encode(bytes).replace('/', "\\/"),
        json,
    ];
    if value.chars().all(|c| u32::from(c) < 0x1_0000) {
        forms.push(all);
    }
    if !value.contains('\'') && value.is_ascii() {
        forms.push(html.replace("\\u003E", "\\u003e"));
    }
    for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
        forms.push(engine.encode(bytes));
    }
    forms
}

#[test]
fn every_form_of_a_value_is_found() {
    for form in forms(KEY) {
        let text = redacted(KEY, &format!("[{form}]"));
        // A padded base64 text leaves its padding.
        assert!(
            ["[[redacted]]", "[[redacted]=]", "[[redacted]==]"].contains(&text.as_str()),
            "{form}: {text}"
        );
    }
}

#[test]
fn a_value_inside_a_base64_text_is_found_wherever_it_begins() {
    for before in ["", "x", "xy", "user:", "user:p", "{\"token\":\""] {
        for after in ["", "z", "\n\"}"] {
            let text = format!("{before}{KEY}{after}");
            for engine in [STANDARD, URL_SAFE_NO_PAD] {
                let encoded = engine.encode(&text);
                let out = redacted(KEY, &encoded);
                let (left, right) = out.split_once("[redacted]").unwrap();
                // What is left decodes to nothing of the value but shared bits of its ends.
                let neighbours = (before.len() + after.len()) * 4 / 3 + 6;
                assert!(left.len() + right.len() <= neighbours, "{encoded}: {out}");
            }
        }
    }
}

#[test]
fn what_is_short_is_left_where_chance_would_find_it() {
    assert_eq!(redacted("abc", "abcabc"), "abcabc");
    assert_eq!(redacted("abcd", "xabcdx"), "x[redacted]x");
    // Four bytes make six characters of base64, which any text may have.
    let encoded = STANDARD.encode("abcd");
    assert_eq!(redacted("abcd", &encoded), encoded);
    assert_eq!(redacted("", "text"), "text");
}

#[test]
fn values_that_overlap_or_touch_become_one_mark() {
    let values: &[&[u8]] = &[b"12345678abcd", b"abcd12345678"];
    let out = run(redactor(values), &[b"-12345678abcd12345678-12345678abcdabcd12345678-"]);
    assert_eq!(out, "-[redacted]-[redacted]-");
}

#[test]
fn only_what_could_be_a_beginning_is_held_back() {
    let mut redactor = redactor(&[b"sk-0123456789"]);
    assert_eq!(redactor.push(b"data: {\"x\":1}\n\n"), b"data: {\"x\":1}\n\n");
    assert_eq!(redactor.push(b"data: sk-01"), b"data: ");
    assert_eq!(redactor.push(b"2345678"), b"");
    assert_eq!(redactor.push(b"9\n\n"), b"[redacted]\n\n");
    assert_eq!(redactor.push(b"sk-012"), b"");
    assert_eq!(redactor.push(b"3x"), b"sk-0123x");
    assert_eq!(redactor.push(b"sk-0"), b"");
    assert_eq!(redactor.finish(), b"sk-0");
}

#[test]
fn lengths_stay_where_they_must() {
    let redactor = redactor(&[b"sk-0123456789"]).keeping_lengths();
    let out = run(redactor, &[b"a sk-01234", b"56789sk-0123456789 b"]);
    assert_eq!(out, format!("a {} b", "*".repeat(26)));
}

#[test]
fn headers_keep_everything_but_the_value() {
    let redactor = redactor(&[b"sk-0123456789"]);
    let mut headers = HeaderMap::new();
    headers.append("a", HeaderValue::from_static("x sk-0123456789 y"));
    headers.append("a", HeaderValue::from_static("x"));
    headers.append("b", HeaderValue::from_bytes(b"\xff sk-0123456789").unwrap());
    redactor.headers(&mut headers);
    let values: Vec<_> = headers.values().map(HeaderValue::as_bytes).collect();
    assert_eq!(values, [&b"x [redacted] y"[..], b"x", b"\xff [redacted]"]);
}

#[test]
fn a_redactor_is_printed_without_what_it_looks_for() {
    assert!(!format!("{:?}", redactor(&[b"sk-0123456789"])).contains("sk-"));
}

/// Removes every occurrence of every form, the slow way: a byte is dropped when it is part of one.
fn naive(forms: &[Pattern], text: &[u8]) -> Vec<u8> {
    let mut covered = vec![false; text.len()];
    for form in forms {
        for start in 0..text.len() {
            if text[start..].starts_with(form) {
                covered[start..start + form.len()].fill(true);
            }
        }
    }
    let mut out = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        match covered[at] {
            false => out.push(*byte),
            true if at == 0 || !covered[at - 1] => out.extend_from_slice(MARK),
            true => {}
        }
    }
    out
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_-]{8,24}",
        "[ -~]{8,16}",
        "(ab|aab|ba){4,6}",
        "[a-f0-9éß/+ \"\\\\]{8,16}",
    ]
}

proptest! {
    #[test]
    fn no_form_gets_out_however_the_answer_is_cut(
        value in values(),
        form in any::<prop::sample::Index>(),
        around in ("[ -~]{0,20}", "[ -~]{0,20}"),
        cuts in vec(1_usize..12, 1..40),
    ) {
        let forms = forms(&value);
        let form = &forms[form.index(forms.len())];
        let text = format!("{}{form}{}", around.0, around.1);
        let mut chunks = Vec::new();
        let (mut rest, mut cuts) = (text.as_bytes(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        let whole = redactor(&[value.as_bytes()]);
        let expected = naive(&whole.search.patterns, text.as_bytes());
        prop_assert_eq!(&run_bytes(whole, &[text.as_bytes()]), &expected);
        let out = run_bytes(redactor(&[value.as_bytes()]), &chunks);
        prop_assert_eq!(&out, &expected);
        let out = String::from_utf8_lossy(&out);
        prop_assert!(!out.contains(form.trim_end_matches('=')), "{} in {}", form, out);
    }

    #[test]
    fn the_same_bytes_are_dropped_however_they_are_cut(
        values in vec(select(vec!["abcabcab", "bcabcabc", "aaaa", "aaaaaaaa"]), 1..3),
        text in vec(select(vec!["abcabcab", "abc", "a", "aaaa", "-", "61626361"]), 0..20),
        cut in 1_usize..9,
    ) {
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        let text = text.concat();
        let whole = redactor(&values);
        let expected = naive(&whole.search.patterns, text.as_bytes());
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
        prop_assert_eq!(run_bytes(whole, &chunks), expected);
        let kept = run(redactor(&values).keeping_lengths(), &chunks);
        prop_assert_eq!(kept.len(), text.len());
    }
}

#[test]
fn answers_with_the_same_values_share_a_search_and_others_have_a_bound() {
    let searches = Searches::default();
    let value = |n: u8| vec![Zeroizing::new(vec![n; 8 * 1024])];
    let redactor = |n| Redactor::new(value(n), &searches);
    let (first, again) = (redactor(1).unwrap(), redactor(1).unwrap());
    assert!(Arc::ptr_eq(&first.search, &again.search));
    let mut others = Vec::new();
    let refused = (2..=255).find_map(|n| match redactor(n) {
        Ok(other) => {
            others.push(other);
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(refused, Some(RedactorError::TooMany)), "{refused:?}");
    assert!(redactor(1).is_ok(), "what is in use costs nothing more");
    others.clear();
    assert!(redactor(255).is_ok(), "what is gone costs nothing");
}
