//! What the framing guard refuses, each with its text.

use super::head::{HEAD_MAX, HEADERS_MAX};

/// Why a stream of HTTP/1 requests is refused: some other parser could read it as other requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// A line ends in LF alone.
    #[error("a line ends without a carriage return")]
    BareLineFeed,
    /// A CR that no LF follows.
    #[error("a carriage return stands alone")]
    BareCarriageReturn,
    /// NUL or another control character.
    #[error("the head has a control character")]
    ControlCharacter,
    /// Longer than [`HEAD_MAX`].
    #[error("the head is longer than {} KiB", HEAD_MAX / 1024)]
    HeadTooLong,
    /// More than [`HEADERS_MAX`].
    #[error("the head has more than {HEADERS_MAX} fields")]
    TooManyHeaders,
    /// Not `METHOD TARGET VERSION`.
    #[error("the request line is not a method, a target and a version with one space between them")]
    RequestLine,
    /// Not one of the methods that can be judged.
    #[error("the method is not made of capital letters, or is CONNECT")]
    Method,
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("the version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// Not a path, `*` for OPTIONS or an absolute URL of this connection's scheme.
    #[error("the target is not a path")]
    Target,
    /// The absolute URL names another host than `Host`.
    #[error("the target names another host than the Host header")]
    TargetHost,
    /// A field's name is not a token, or there is space around it.
    #[error("a field's name is not a name")]
    FieldName,
    /// A field goes on in the next line.
    #[error("a field is folded over several lines")]
    Folded,
    /// No `Host`, or several.
    #[error("there is not exactly one Host header")]
    HostCount,
    /// The host is none.
    #[error("the Host header is not a host name or an IPv4 address")]
    Host,
    /// The port is not the one that was dialled.
    #[error("the Host header names another port than the connection's")]
    Port,
    /// Both lengths.
    #[error("there are both Content-Length and Transfer-Encoding")]
    TwoLengths,
    /// Several, or no number, or too large.
    #[error("there is not exactly one decimal Content-Length")]
    ContentLength,
    /// Anything but `chunked`, once, in HTTP/1.1.
    #[error("the transfer coding is not exactly \"chunked\" in HTTP/1.1")]
    TransferEncoding,
    /// `Content_Length` and the like, which some servers read as the real thing.
    #[error("a field's name is that of a framing field with underscores")]
    Lookalike,
    /// Content where many servers expect none, and read it as the next request.
    #[error("a GET, HEAD or TRACE request has content")]
    Content,
    /// An upgrade to something else than WebSocket, or not a whole one.
    #[error("only a whole upgrade to WebSocket is carried, and no h2c")]
    Upgrade,
    /// Bytes behind an upgrade request before it was answered.
    #[error("there are bytes behind an upgrade that was not answered")]
    AfterUpgrade,
    /// A chunk's size is not 1 to 16 hexadecimal digits, or it has an extension.
    #[error("a chunk's size is not a plain hexadecimal number")]
    ChunkSize,
    /// A chunk is longer or shorter than its size.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// Fields behind the last chunk.
    #[error("there are trailer fields")]
    Trailers,
}
