//! Spans of time as people write them: `30s`, `5m`, `1h30m`, `250ms`; a bare number is seconds.

use std::time::Duration;

/// Longest span that is understood: a month. The server's own bound may be lower.
const MAX: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// Why a text is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a span of time from 1ms to 31d: write it as 30s, 5m, 1h30m or 250ms")]
pub(crate) struct DurationError {
    text: String,
}

/// Reads a span of time.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    spans(text)
        .filter(|total| *total > Duration::ZERO && *total <= MAX)
        .ok_or_else(|| DurationError { text: text.chars().take(40).collect() })
}

fn spans(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let number: u32 = number.parse().ok()?;
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(60 * 60),
            "d" => Duration::from_secs(24 * 60 * 60),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(number)?)?;
        rest = next;
    }
    Some(total)
}

/// A span as people read it, whole seconds where it has any.
pub(crate) fn show(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) if millis > 0 => format!("{millis}ms"),
        (0, 0, s) if millis > 0 => format!("{s}.{:01}s", millis / 100),
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h{m}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, millis) in
            [("30s", 30_000), ("5m", 300_000), ("1h30m", 5_400_000), ("250ms", 250), ("7", 7_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_or_out_of_bounds_is_refused() {
        for text in ["", "0", "0s", "-1s", "s", "1x", "1.5s", "99999d", "1 s", "4294967296"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_is_shown_as_it_would_be_written() {
        for text in ["30s", "5m", "1h30m", "250ms", "2m5s"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
    }
}
