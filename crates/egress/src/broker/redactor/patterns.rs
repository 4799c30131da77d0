//! The forms in which a secret comes back: what an answer may not have in it.
//!
//! Forms are: as it is; percent-encoded as the common encoders do it; base64, standard and URL-safe,
//! wherever in the encoded text it begins; escaped as in JSON and HTML; hexadecimal; and base64
//! escaped once more. A form of the inside of a base64 text has only the characters that no
//! neighbour changes: up to five bits of the first and of the last byte may remain.
//!
//! What cannot be found is a value in a form of the upstream's own making.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::{Zeroize, Zeroizing};

/// Shortest value in bytes that is looked for as it is: of shorter ones every answer is full.
const PLAIN_MIN: usize = 4;

/// Shortest encoded form in bytes that is looked for: a shorter one would be found by chance.
const ENCODED_MIN: usize = 8;

/// A form of a value.
pub(super) type Pattern = Zeroizing<Vec<u8>>;

/// All forms of the values, each once, in ascending order.
pub(super) fn patterns(values: &[Zeroizing<Vec<u8>>]) -> Vec<Pattern> {
    let mut forms = Forms::default();
    for value in values {
        if value.len() >= PLAIN_MIN {
            forms.0.push(value.clone());
        }
        forms.add_percent(value);
        forms.add_base64(value);
        forms.add_hexadecimal(value);
        if let Ok(text) = std::str::from_utf8(value) {
            forms.add_json(text);
            forms.add_html(text);
        }
    }
    let Forms(mut forms) = forms;
    forms.sort_unstable_by(|a, b| a.as_slice().cmp(b));
    forms.dedup();
    forms
}

#[derive(Default)]
struct Forms(Vec<Pattern>);

/// How the digits of an escape are written.
#[derive(Clone, Copy)]
enum Digits {
    Lower,
    Upper,
}

impl Digits {
    const BOTH: [Self; 2] = [Self::Lower, Self::Upper];

    /// Appends the number with so many digits.
    fn write(self, text: &mut String, number: u16, width: usize) {
        // Writing to a string does not fail.
        let _infallible = match self {
            Self::Lower => write!(text, "{number:0width$x}"),
            Self::Upper => write!(text, "{number:0width$X}"),
        };
    }
}

/// Characters that percent-encoders leave, beside letters and digits; `None` encodes those too.
const LEFT: [Option<&[u8]>; 8] = [
    // RFC 3986's unreserved characters; with the slash, as for a path.
    Some(b"-._~"),
    Some(b"-._~/"),
    // The same as encoders did it that follow RFC 2396 no more and RFC 3986 not yet.
    Some(b"-._/"),
    // JavaScript's encodeURIComponent and encodeURI.
    Some(b"-._~!'()*"),
    Some(b"-._~!'()*;,/?:@&=+$#"),
    // Forms (the URL standard).
    Some(b"*-._"),
    Some(b""),
    None,
];

impl Forms {
    fn insert(&mut self, form: String) {
        let form = Zeroizing::new(form.into_bytes());
        if form.len() >= ENCODED_MIN {
            self.0.push(form);
        }
    }

    fn add_percent(&mut self, value: &[u8]) {
        for left in LEFT {
            for digits in Digits::BOTH {
                for plus in [false, true] {
                    self.insert(percent(value, left, digits, plus));
                }
            }
        }
    }

    fn add_base64(&mut self, value: &[u8]) {
        for before in 0..3 {
            let mut padded = Zeroizing::new(vec![0; before]);
            padded.extend_from_slice(value);
            for mut text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
                // 6 bits per character: those that only the value's own bits make.
                let first = before.saturating_mul(8).div_ceil(6);
                let inside = padded.len().saturating_mul(8) / 6;
                // The last character is the value's own as well where the text ends with it.
                for last in [inside, text.len()] {
                    if let Some(own) = text.get(first..last) {
                        self.insert_base64(own);
                    }
                }
                text.zeroize();
            }
        }
    }

    fn insert_base64(&mut self, text: &str) {
        self.insert(text.to_owned());
        self.insert(text.replace('/', "\\/"));
        for digits in Digits::BOTH {
            self.insert(percent(text.as_bytes(), Some(b"-._~"), digits, false));
        }
    }

    fn add_hexadecimal(&mut self, value: &[u8]) {
        for digits in Digits::BOTH {
            let mut text = String::new();
            value.iter().for_each(|byte| digits.write(&mut text, u16::from(*byte), 2));
            self.insert(text);
        }
    }

    fn add_json(&mut self, text: &str) {
        for digits in Digits::BOTH {
            for slash in [false, true] {
                for escaped in [Escaped::Least, Escaped::Html, Escaped::NotAscii, Escaped::All] {
                    self.insert(json(text, digits, slash, escaped));
                }
            }
        }
    }

    fn add_html(&mut self, text: &str) {
        for quote in ["&#39;", "&#x27;", "&apos;", "'"] {
            for double in ["&quot;", "&#34;", "\""] {
                let mut escaped = String::new();
                text.chars().for_each(|c| match c {
                    '&' => escaped.push_str("&amp;"),
                    '<' => escaped.push_str("&lt;"),
                    '>' => escaped.push_str("&gt;"),
                    '"' => escaped.push_str(double),
                    '\'' => escaped.push_str(quote),
                    other => escaped.push(other),
                });
                self.insert(escaped);
            }
        }
    }
}

fn percent(value: &[u8], left: Option<&[u8]>, digits: Digits, plus: bool) -> String {
    let mut text = String::new();
    for byte in value {
        let stays = left.is_some_and(|left| byte.is_ascii_alphanumeric() || left.contains(byte));
        if stays {
            text.push(char::from(*byte));
        } else if plus && *byte == b' ' {
            text.push('+');
        } else {
            text.push('%');
            digits.write(&mut text, u16::from(*byte), 2);
        }
    }
    text
}

/// Which characters a JSON writer escapes beyond those that it must.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escaped {
    /// None.
    Least,
    /// Those that HTML takes for its own.
    Html,
    /// Whatever is not ASCII.
    NotAscii,
    /// Every one.
    All,
}

fn json(text: &str, digits: Digits, slash: bool, escaped: Escaped) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let all = match escaped {
            Escaped::Least => false,
            Escaped::Html => matches!(c, '<' | '>' | '&' | '\''),
            Escaped::NotAscii => !c.is_ascii(),
            Escaped::All => true,
        };
        match c {
            _ if all => units(&mut out, c, digits),
            '"' | '\\' => out.extend(['\\', c]),
            '/' if slash => out.push_str("\\/"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => units(&mut out, c, digits),
            c => out.push(c),
        }
    }
    out
}

/// Appends `\uXXXX`, twice for what is beyond 16 bits.
fn units(text: &mut String, c: char, digits: Digits) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        text.push_str("\\u");
        digits.write(text, *unit, 4);
    }
}
