//! What the headers of a download ask for: which encoding, which range, and whether anything at
//! all. Source: RFC 9110, sections 12 to 14.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, header};

/// How the body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As it is.
    Identity,
    /// Compressed.
    Gzip,
    /// The request allows neither.
    Neither,
}

/// The encoding to answer with. `gzip` is taken only when it is the one encoding asked for: HTTP
/// libraries name whatever they know in every request (`gzip, deflate, br`), and compressing costs
/// more than the short way to the client saves. A range or a condition is answered as it is.
pub(crate) fn encoding(headers: &HeaderMap) -> Encoding {
    const ABOUT_BYTES: [HeaderName; 6] = [
        header::RANGE,
        header::IF_RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ];
    let (mut gzip, mut identity, mut any, mut others) = (None, None, None, false);
    let accepted = headers.get_all(header::ACCEPT_ENCODING);
    for item in accepted.iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')) {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.parse::<f32>().ok());
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = weight,
            "identity" => identity = weight,
            "*" => any = weight,
            "" => {}
            _ => others = true,
        }
    }
    let is_refused = |weight: Option<f32>| weight.is_some_and(|weight| weight <= 0.0);
    let allows_gzip = gzip.or(any).is_some_and(|weight| weight > 0.0);
    let allows_identity = !is_refused(identity.or(any.filter(|_| identity.is_none())));
    let wants_gzip = gzip.is_some_and(|gzip| gzip > 0.0 && gzip >= identity.unwrap_or(0.0));
    let is_about_bytes = ABOUT_BYTES.iter().any(|name| headers.contains_key(name));
    match (allows_identity, allows_gzip) {
        (true, _) if wants_gzip && !others && !is_about_bytes => Encoding::Gzip,
        (true, _) => Encoding::Identity,
        (false, true) => Encoding::Gzip,
        (false, false) => Encoding::Neither,
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validators {
    /// A strong entity tag, quoted.
    pub(crate) etag: String,
    /// When its content changed last.
    pub(crate) modified: SystemTime,
}

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All of it: 200.
    Whole,
    /// The bytes from `start` to before `end`: 206.
    Part {
        /// First byte.
        start: u64,
        /// First byte that is not sent.
        end: u64,
    },
    /// The client's copy is good: 304.
    NotModified,
    /// It is not the state that the client means: 412.
    PreconditionFailed,
    /// There is no such byte: 416.
    Unsatisfiable,
}

/// What to answer to the conditions and the range in `headers`, for a file of `size` bytes.
pub(crate) fn answer(headers: &HeaderMap, validators: &Validators, size: u64) -> Answer {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let unchanged_since = |date: &str| {
        let since = httpdate::parse_http_date(date).ok()?;
        Some(whole_seconds(validators.modified) <= whole_seconds(since))
    };
    let holds = match text(header::IF_MATCH) {
        Some(tags) => matches_strongly(tags, &validators.etag),
        None => text(header::IF_UNMODIFIED_SINCE).and_then(unchanged_since).unwrap_or(true),
    };
    if !holds {
        return Answer::PreconditionFailed;
    }
    let is_known = match text(header::IF_NONE_MATCH) {
        Some(tags) => matches_weakly(tags, &validators.etag),
        None => text(header::IF_MODIFIED_SINCE).and_then(unchanged_since).unwrap_or(false),
    };
    if is_known {
        return Answer::NotModified;
    }
    let is_same = text(header::IF_RANGE).is_none_or(|value| {
        value == validators.etag
            || httpdate::parse_http_date(value)
                .is_ok_and(|date| whole_seconds(date) == whole_seconds(validators.modified))
    });
    match text(header::RANGE) {
        Some(range) if is_same => range_of(range, size),
        _ => Answer::Whole,
    }
}

/// The answer to a `Range`. More than one range, another unit, and what is malformed are answered
/// with everything, as the standard allows; so is any range of an empty file.
pub(crate) fn range_of(range: &str, size: u64) -> Answer {
    let Some((first, last)) = range.trim().strip_prefix("bytes=").and_then(|r| r.split_once('-'))
    else {
        return Answer::Whole;
    };
    if size == 0 || last.contains(',') {
        return Answer::Whole;
    }
    let number = |text: &str| match text.trim() {
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            // A number beyond u64 is beyond every file too.
            Some(digits.parse::<u64>().unwrap_or(u64::MAX))
        }
        _ => None,
    };
    match (number(first), number(last), first.trim(), last.trim()) {
        (None, Some(length), "", _) => match length {
            0 => Answer::Unsatisfiable,
            _ => Answer::Part { start: size.saturating_sub(length), end: size },
        },
        (Some(start), Some(last), ..) if last < start => Answer::Whole,
        (Some(start), Some(_), ..) | (Some(start), None, _, "") if start >= size => {
            Answer::Unsatisfiable
        }
        (Some(start), Some(last), ..) => {
            Answer::Part { start, end: last.saturating_add(1).min(size) }
        }
        (Some(start), None, _, "") => Answer::Part { start, end: size },
        _ => Answer::Whole,
    }
}

fn matches_strongly(tags: &str, etag: &str) -> bool {
    tags.trim() == "*" || tags.split(',').any(|tag| tag.trim() == etag)
}

fn matches_weakly(tags: &str, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    tags.trim() == "*" || tags.split(',').any(|tag| bare(tag) == etag)
}

/// Seconds since the epoch: dates in headers have no fraction.
fn whole_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[track_caller]
    fn assert_encoding(accepted: &str, expected: Encoding) {
        let headers = headers(&[(header::ACCEPT_ENCODING, accepted)]);
        assert_eq!(encoding(&headers), expected, "{accepted}");
    }

    #[test]
    fn gzip_is_sent_when_it_is_what_was_asked_for() {
        assert_encoding("gzip", Encoding::Gzip);
        assert_encoding("gzip;q=1.0, identity; q=0.5", Encoding::Gzip);
        assert_encoding("gzip, *;q=0", Encoding::Gzip);
        assert_encoding("gzip, identity;q=0", Encoding::Gzip);
        assert_encoding("gzip, deflate, br", Encoding::Identity);
        assert_encoding("gzip;q=0", Encoding::Identity);
        assert_encoding("identity", Encoding::Identity);
        assert_encoding("*", Encoding::Identity);
        assert_encoding("br, identity;q=0", Encoding::Neither);
        assert_encoding("*;q=0", Encoding::Neither);
        assert_eq!(encoding(&HeaderMap::new()), Encoding::Identity);
    }

    #[test]
    fn a_range_or_a_condition_is_answered_as_it_is() {
        for name in [header::RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
            let headers = headers(&[(header::ACCEPT_ENCODING, "gzip"), (name, "x")]);
            assert_eq!(encoding(&headers), Encoding::Identity);
        }
    }

    #[test]
    fn ranges_are_cut_to_the_file_and_odd_ones_give_everything() {
        let part = |start, end| Answer::Part { start, end };
        for (range, expected) in [
            ("bytes=0-4", part(0, 5)),
            ("bytes=5-", part(5, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-30", part(0, 10)),
            ("bytes=9-99999999999999999999999", part(9, 10)),
            ("bytes=10-", Answer::Unsatisfiable),
            ("bytes=10-12", Answer::Unsatisfiable),
            ("bytes=-0", Answer::Unsatisfiable),
            ("bytes=5-4", Answer::Whole),
            ("bytes=0-1,3-4", Answer::Whole),
            ("bytes=a-b", Answer::Whole),
            ("bytes=-", Answer::Whole),
            ("bytes=1-x", Answer::Whole),
            ("lines=0-1", Answer::Whole),
        ] {
            assert_eq!(range_of(range, 10), expected, "{range}");
        }
        assert_eq!(range_of("bytes=0-", 0), Answer::Whole);
    }

    #[test]
    fn conditions_go_before_ranges() {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_500);
        let validators = Validators { etag: "\"a\"".to_owned(), modified };
        let date = &httpdate::fmt_http_date(modified);
        let earlier = &httpdate::fmt_http_date(modified - Duration::from_secs(9));
        let ask = |pairs: &[(HeaderName, &str)]| answer(&headers(pairs), &validators, 10);
        assert_eq!(ask(&[(header::IF_NONE_MATCH, "\"b\", W/\"a\"")]), Answer::NotModified);
        assert_eq!(ask(&[(header::IF_NONE_MATCH, "\"b\"")]), Answer::Whole);
        assert_eq!(ask(&[(header::IF_MODIFIED_SINCE, date)]), Answer::NotModified);
        assert_eq!(ask(&[(header::IF_MODIFIED_SINCE, earlier)]), Answer::Whole);
        assert_eq!(ask(&[(header::IF_MATCH, "\"b\"")]), Answer::PreconditionFailed);
        assert_eq!(ask(&[(header::IF_UNMODIFIED_SINCE, earlier)]), Answer::PreconditionFailed);
        let range = (header::RANGE, "bytes=1-2");
        let part = Answer::Part { start: 1, end: 3 };
        assert_eq!(ask(std::slice::from_ref(&range)), part);
        assert_eq!(ask(&[range.clone(), (header::IF_RANGE, "\"a\"")]), part);
        assert_eq!(ask(&[range.clone(), (header::IF_RANGE, date)]), part);
        assert_eq!(ask(&[range.clone(), (header::IF_RANGE, "\"old\"")]), Answer::Whole);
        assert_eq!(ask(&[range, (header::IF_NONE_MATCH, "*")]), Answer::NotModified);
    }
}
