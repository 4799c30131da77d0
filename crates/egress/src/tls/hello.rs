//! The ClientHello, as strictly as it can be read: which name a TLS client asks for.
//!
//! Whoever lets a connection pass unopened believes this name, and the server that the bytes go to
//! reads them with a parser of its own. So nothing passes here that two parsers could read
//! differently: every length must fit exactly, nothing may be there twice, and nothing may follow the
//! hello in its last record. The bytes that were judged are kept as they came and are the bytes that
//! are sent on.

use courier_types::egress::{HostError, HostName};

/// Longest ClientHello in bytes. Real ones have 200 to 2,000; those with post-quantum keys and
/// tickets up to some 6,000.
const HELLO_MAX: usize = 16 * 1024;
/// Most records that carry one hello. Real clients use one or two.
const RECORDS_MAX: usize = 32;
/// Longest payload of a record (RFC 8446, section 5.1).
const RECORD_MAX: usize = 16 * 1024;
/// Most protocols that a client may offer by ALPN.
const ALPN_MAX: usize = 32;
/// Most extensions. Real clients send some 20.
const EXTENSIONS_MAX: usize = 64;
/// Header of a record: type, version, length (RFC 8446, section 5.1).
const RECORD_HEADER: usize = 5;
/// Header of a handshake message: type, length (RFC 8446, section 4).
const MESSAGE_HEADER: usize = 4;

/// Most bytes that have to be kept until a hello is whole.
pub(crate) const BYTES_MAX: usize = HELLO_MAX + MESSAGE_HEADER + RECORDS_MAX * RECORD_HEADER;

/// Content type of a record that carries a handshake (RFC 8446, section 5.1).
pub(crate) const HANDSHAKE: u8 = 22;

const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const APPLICATION_PROTOCOLS: u16 = 16;

/// Extensions that hide the server name: ECH (RFC 9849), its list of outer extensions, its drafts
/// 8 to 12, and the draft before it (ESNI).
const HIDING: [u16; 8] = [0xfe0d, 0xfd00, 0xfe08, 0xfe09, 0xfe0a, 0xfe0b, 0xfe0c, 0xffce];

/// What a hello says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The server name, if there is one.
    pub(crate) server_name: Option<HostName>,
    /// Protocols for inside, in the client's order.
    pub(crate) alpn: Vec<Vec<u8>>,
    /// True when an extension is there that may hide another name.
    pub(crate) hides_name: bool,
}

/// Why bytes are no hello.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    /// Not TLS, or not a hello.
    #[error("the first message is no TLS ClientHello: {0}")]
    Malformed(&'static str),
    /// Beyond a bound.
    #[error("the TLS ClientHello has too many {0}")]
    TooLarge(&'static str),
    /// A server name that is none.
    #[error("the TLS server name is not a host name")]
    Name(#[source] HostError),
}

use HelloError::{Malformed, TooLarge};

/// Something is in the hello's last record that is not the hello's.
const FOLLOWED: HelloError = Malformed("something follows it in its record");

/// Reads a hello from the first bytes of a connection; `None` when it is not whole yet.
///
/// Bytes behind the hello's last record are not looked at: a client may send early data there.
///
/// # Errors
/// The bytes are no hello, whatever may follow.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Hello>, HelloError> {
    let Some(message) = message(bytes)? else { return Ok(None) };
    body(&message).map(Some)
}

/// Puts the handshake message together from its records; `None` when it is not whole yet.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, HelloError> {
    let mut records = Reader(bytes);
    let mut message = Vec::new();
    let mut room = RECORD_MAX;
    for _ in 0..RECORDS_MAX {
        let Some(payload) = record(&mut records, room)? else { return Ok(None) };
        message.extend_from_slice(payload);
        let Some(wanted) = message_len(&message)? else { continue };
        let Some(missing) = wanted.checked_sub(message.len()) else { return Err(FOLLOWED) };
        if missing == 0 {
            return Ok(Some(message.split_off(MESSAGE_HEADER)));
        }
        room = missing;
    }
    Err(TooLarge("records"))
}

/// Takes one record off, of at most `room` bytes; `None` when it is not whole yet. What can be
/// refused before that, is.
fn record<'a>(records: &mut Reader<'a>, room: usize) -> Result<Option<&'a [u8]>, HelloError> {
    let mut peek = Reader(records.0);
    match peek.u8() {
        None => return Ok(None),
        Some(HANDSHAKE) => {}
        Some(_) => return Err(Malformed("a record of another type")),
    }
    match (peek.u8(), peek.u8()) {
        (None, _) | (Some(3), None | Some(1..=3)) => {}
        (Some(_), _) => return Err(Malformed("a record of another version")),
    }
    let Some(len) = peek.u16() else { return Ok(None) };
    if len == 0 || usize::from(len) > RECORD_MAX {
        return Err(Malformed("an empty or oversized record"));
    }
    if usize::from(len) > room {
        return Err(FOLLOWED);
    }
    let Some(payload) = peek.take(usize::from(len)) else { return Ok(None) };
    *records = peek;
    Ok(Some(payload))
}

/// The length of the message with its header; `None` when that is not known yet.
fn message_len(message: &[u8]) -> Result<Option<usize>, HelloError> {
    let mut reader = Reader(message);
    if reader.u8().is_some_and(|kind| kind != CLIENT_HELLO) {
        return Err(Malformed("a handshake message of another type"));
    }
    let Some(len) = reader.u24() else { return Ok(None) };
    if len > HELLO_MAX {
        return Err(TooLarge("bytes"));
    }
    Ok(Some(len + MESSAGE_HEADER))
}

/// Reads the message without its header (RFC 8446, section 4.1.2; RFC 5246, section 7.4.1.2).
fn body(message: &[u8]) -> Result<Hello, HelloError> {
    let mut rest = Reader(message);
    let head = fixed_part(&mut rest);
    head.ok_or(Malformed("its fixed part"))?;
    let mut hello = Hello { server_name: None, alpn: Vec::new(), hides_name: false };
    if rest.0.is_empty() {
        // TLS 1.2 and before may come without extensions.
        return Ok(hello);
    }
    let list = rest.block16().ok_or(Malformed("its list of extensions"))?;
    if !rest.0.is_empty() {
        return Err(Malformed("something follows its extensions"));
    }
    extensions(list, &mut hello)?;
    Ok(hello)
}

/// Version, random, session id, cipher suites, compression methods.
fn fixed_part(rest: &mut Reader<'_>) -> Option<()> {
    let version = rest.u16()?;
    rest.take(32)?;
    let session = rest.block8()?;
    let suites = rest.block16()?;
    let compression = rest.block8()?;
    let ok = (0x0301..=0x0303).contains(&version)
        && session.len() <= 32
        && !suites.is_empty()
        && suites.len().is_multiple_of(2)
        && compression.contains(&0);
    ok.then_some(())
}

fn extensions(list: &[u8], hello: &mut Hello) -> Result<(), HelloError> {
    let mut rest = Reader(list);
    let mut seen: Vec<u16> = Vec::new();
    while !rest.0.is_empty() {
        let extension = rest.u16().zip(rest.block16());
        let (kind, body) = extension.ok_or(Malformed("a cut extension"))?;
        if seen.contains(&kind) {
            return Err(Malformed("an extension is there twice"));
        }
        if seen.len() == EXTENSIONS_MAX {
            return Err(TooLarge("extensions"));
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => hello.server_name = Some(server_name(body)?),
            APPLICATION_PROTOCOLS => hello.alpn = alpn(body)?,
            _ => hello.hides_name |= HIDING.contains(&kind),
        }
    }
    Ok(())
}

/// Exactly one name, of type `host_name` (RFC 6066, section 3).
fn server_name(body: &[u8]) -> Result<HostName, HelloError> {
    let mut outer = Reader(body);
    let list = outer.block16().filter(|_| outer.0.is_empty());
    let mut names = Reader(list.ok_or(Malformed("its server name"))?);
    let name = match (names.u8(), names.block16()) {
        (Some(0), Some(name)) if names.0.is_empty() => name,
        _ => return Err(Malformed("it has not exactly one server name")),
    };
    let text = std::str::from_utf8(name).ok().filter(|text| !text.ends_with('.'));
    let text = text.ok_or(Malformed("its server name has a trailing dot or is no text"))?;
    text.parse().map_err(HelloError::Name)
}

/// The client's protocols (RFC 7301, section 3.1).
fn alpn(body: &[u8]) -> Result<Vec<Vec<u8>>, HelloError> {
    let refused = || Malformed("its application protocols");
    let mut outer = Reader(body);
    let list = outer.block16().filter(|_| outer.0.is_empty());
    let mut rest = Reader(list.ok_or_else(refused)?);
    let mut protocols = Vec::new();
    while !rest.0.is_empty() {
        let name = rest.block8().filter(|name| !name.is_empty()).ok_or_else(refused)?;
        if protocols.len() == ALPN_MAX {
            return Err(TooLarge("application protocols"));
        }
        protocols.push(name.to_vec());
    }
    if protocols.is_empty() { Err(refused()) } else { Ok(protocols) }
}

/// Takes bytes off the front; a cut value takes nothing and is `None`.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u24(&mut self) -> Option<usize> {
        let bytes: [u8; 3] = self.take(3)?.try_into().ok()?;
        Some(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    fn block8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    fn block16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }
}

#[cfg(test)]
mod tests;
