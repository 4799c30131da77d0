//! One record: what it looks like, and which are refused.

use crate::ChannelError;

/// Most payload bytes of one record.
pub const PAYLOAD_MAX: usize = 65_536;

/// Bytes of a record's header: kind, then epoch in little endian.
pub(crate) const HEADER_BYTES: usize = 5;

/// Most records of other epochs that are dropped within one. An end that has read `open` sends none;
/// until then it can only send what it had at hand, far less than this.
pub(crate) const STALE_RECORDS_MAX: u32 = 65_536;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An epoch begins, and every other one is over. Only the host says so.
    Open,
    /// Bytes of the stream.
    Data,
    /// The epoch is over, both ways.
    Close,
}

impl Kind {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Data => 2,
            Self::Close => 3,
        }
    }
}

/// Which end of the socket this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Host,
    Guest,
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) epoch: u32,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.epoch.to_le_bytes();
        [self.kind.number(), a, b, c, d]
    }

    /// Checks a received record of `bytes` bytes, header included; tells its header.
    pub(crate) fn decode(
        side: Side,
        header: [u8; HEADER_BYTES],
        bytes: usize,
    ) -> Result<Self, ChannelError> {
        let payload = bytes.checked_sub(HEADER_BYTES).ok_or(ChannelError::Short { bytes })?;
        if payload > PAYLOAD_MAX {
            return Err(ChannelError::Oversized);
        }
        let [number, a, b, c, d] = header;
        let kind = match number {
            1 if side == Side::Guest => Kind::Open,
            2 => Kind::Data,
            3 => Kind::Close,
            kind => return Err(ChannelError::Kind { kind }),
        };
        if (kind == Kind::Data) == (payload == 0) {
            return Err(ChannelError::Payload { kind: number, bytes: payload });
        }
        Ok(Self { kind, epoch: u32::from_le_bytes([a, b, c, d]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_on_the_other_side() {
        let header = Header { kind: Kind::Data, epoch: 0xfeed_beef };
        assert_eq!(Header::decode(Side::Host, header.encode(), 6), Ok(header));
    }

    #[test]
    fn what_must_not_be_sent_is_refused() {
        let open = Header { kind: Kind::Open, epoch: 1 }.encode();
        assert_eq!(Header::decode(Side::Host, open, 5), Err(ChannelError::Kind { kind: 1 }));
        assert!(Header::decode(Side::Guest, open, 5).is_ok());
        let close = Header { kind: Kind::Close, epoch: 1 }.encode();
        let with_payload = ChannelError::Payload { kind: 3, bytes: 1 };
        assert_eq!(Header::decode(Side::Guest, close, 6), Err(with_payload));
        let empty = Header { kind: Kind::Data, epoch: 1 }.encode();
        assert!(Header::decode(Side::Guest, empty, 5).is_err());
        assert!(Header::decode(Side::Guest, [9; 5], 5).is_err());
        assert_eq!(Header::decode(Side::Host, [2; 5], 4), Err(ChannelError::Short { bytes: 4 }));
    }
}
