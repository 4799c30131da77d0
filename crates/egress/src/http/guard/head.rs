//! The head of one HTTP/1 request, read as strictly as it can be: whatever two parsers could read
//! differently is refused. Sources: RFC 9112 (sections 2.2, 3, 5, 6 and 7), RFC 9110 (sections 5.6,
//! 7.6 and 9.3).

use super::authority::Authority;
use super::violation::Violation;

/// Longest head in bytes: what common servers take at most, and then some.
pub(crate) const HEAD_MAX: usize = 64 * 1024;
/// Most fields of a head: the bound of common servers, and of the parser behind us.
pub(crate) const HEADERS_MAX: usize = 100;
/// Longest body in bytes: what fits a signed 64-bit number, as some servers count.
pub(crate) const LENGTH_MAX: u64 = i64::MAX as u64;
/// Longest method in characters, as in policies.
const METHOD_MAX: usize = 32;

/// Fields that say where a message ends or where it goes, as some servers would read them from a
/// name with underscores.
const LOOKALIKES: [&str; 2] = ["content_length", "transfer_encoding"];

/// What the requests of a connection must be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// The port that was dialled.
    pub(crate) port: u16,
}

/// How the content of a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// There is none.
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// In chunks.
    Chunked,
    /// None, and an upgrade is asked for.
    Upgrade,
}

/// What a head says about what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The content.
    pub(crate) content: Content,
}

/// The fields that matter here.
#[derive(Default)]
struct Fields<'a> {
    host: Vec<&'a str>,
    length: Vec<&'a str>,
    coding: Vec<&'a str>,
    upgrade: Vec<&'a str>,
    /// Some `Connection` field has the option `upgrade`.
    asks_upgrade: bool,
}

/// Reads a whole head, with its last empty line.
pub(crate) fn judge(bytes: &[u8], origin: &Origin) -> Result<Head, Violation> {
    // Obsolete text (bytes from 0x80 on) may be in values only; the rest is checked to be ASCII.
    let mut lines = bytes.strip_suffix(b"\r\n\r\n").unwrap_or(bytes).split(|&b| b == b'\n');
    let line = lines.next().unwrap_or_default();
    let line = str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line))
        .ok()
        .filter(|line| line.is_ascii())
        .ok_or(Violation::RequestLine)?;
    let request = RequestLine::parse(line)?;
    let fields = read_fields(lines)?;
    check_target(&request, &fields, origin)?;
    let content = content(&request, &fields)?;
    if !matches!(content, Content::None | Content::Upgrade)
        && matches!(request.method, "GET" | "HEAD" | "TRACE")
    {
        return Err(Violation::Content);
    }
    Ok(Head { content })
}

struct RequestLine<'a> {
    method: &'a str,
    target: &'a str,
    /// HTTP/1.1.
    is_current: bool,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a str) -> Result<Self, Violation> {
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Violation::RequestLine);
        };
        if !is_method(method) {
            return Err(Violation::Method);
        }
        let is_current = match version {
            "HTTP/1.1" => true,
            "HTTP/1.0" => false,
            _ => return Err(Violation::Version),
        };
        Ok(Self { method, target, is_current })
    }
}

/// True for a method that a policy can be about: some servers read `get` as `GET`.
pub(crate) fn is_method(method: &str) -> bool {
    let ok = |b: u8| b.is_ascii_uppercase() || b == b'-';
    (1..=METHOD_MAX).contains(&method.len())
        && method.bytes().all(ok)
        && !matches!(method, "CONNECT" | "PRI")
}

fn read_fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Fields<'a>, Violation> {
    let mut fields = Fields::default();
    for (count, line) in lines.enumerate() {
        if count >= HEADERS_MAX {
            return Err(Violation::TooManyHeaders);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Violation::Folded);
        }
        let colon = line.iter().position(|&b| b == b':').ok_or(Violation::FieldName)?;
        let (name, value) = line.split_at(colon);
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(Violation::FieldName);
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let value = value.strip_prefix(b":").unwrap_or(value);
        read_field(&mut fields, &name, value)?;
    }
    Ok(fields)
}

fn read_field<'a>(fields: &mut Fields<'a>, name: &str, value: &'a [u8]) -> Result<(), Violation> {
    if LOOKALIKES.contains(&name) {
        return Err(Violation::Lookalike);
    }
    let (list, violation) = match name {
        "host" => (&mut fields.host, Violation::Host),
        "content-length" => (&mut fields.length, Violation::ContentLength),
        "transfer-encoding" => (&mut fields.coding, Violation::TransferEncoding),
        "upgrade" => (&mut fields.upgrade, Violation::Upgrade),
        "http2-settings" => return Err(Violation::Upgrade),
        "connection" => {
            let options = String::from_utf8_lossy(value).to_ascii_lowercase();
            fields.asks_upgrade |= options.split(',').any(|option| option.trim() == "upgrade");
            return Ok(());
        }
        _ => return Ok(()),
    };
    let text = str::from_utf8(value).ok().filter(|text| text.is_ascii()).ok_or(violation)?;
    list.push(text.trim_matches([' ', '\t']));
    Ok(())
}

/// Characters of a token, RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn check_target(
    request: &RequestLine<'_>,
    fields: &Fields<'_>,
    origin: &Origin,
) -> Result<(), Violation> {
    let [host] = fields.host.as_slice() else { return Err(Violation::HostCount) };
    let host = Authority::parse(host).ok_or(Violation::Host)?;
    if host.port.is_some_and(|port| port != origin.port) {
        return Err(Violation::Port);
    }
    let target = request.target;
    if !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(Violation::Target);
    }
    if target.starts_with('/') || (target == "*" && request.method == "OPTIONS") {
        return Ok(());
    }
    let (scheme, rest) = target.split_once("://").ok_or(Violation::Target)?;
    if !scheme.eq_ignore_ascii_case(origin.scheme) {
        return Err(Violation::Target);
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let named = Authority::parse(authority).ok_or(Violation::TargetHost)?;
    if named.host != host.host || named.port.is_some_and(|port| port != origin.port) {
        return Err(Violation::TargetHost);
    }
    Ok(())
}

fn content(request: &RequestLine<'_>, fields: &Fields<'_>) -> Result<Content, Violation> {
    let content = match (fields.length.as_slice(), fields.coding.as_slice()) {
        ([], []) => Content::None,
        ([length], []) => match parse_length(length).ok_or(Violation::ContentLength)? {
            0 => Content::None,
            length => Content::Length(length),
        },
        (_, []) => return Err(Violation::ContentLength),
        ([], ["chunked"]) if request.is_current => Content::Chunked,
        ([], _) => return Err(Violation::TransferEncoding),
        (_, _) => return Err(Violation::TwoLengths),
    };
    match fields.upgrade.as_slice() {
        [] => Ok(content),
        [protocol]
            if protocol.eq_ignore_ascii_case("websocket")
                && fields.asks_upgrade
                && request.is_current
                && request.method == "GET"
                && content == Content::None =>
        {
            Ok(Content::Upgrade)
        }
        _ => Err(Violation::Upgrade),
    }
}

/// A decimal number without sign, without leading zeros.
fn parse_length(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|&length| plain && length <= LENGTH_MAX)
}
