//! The 512 bytes that begin every entry: POSIX `ustar`, and what GNU tar made of it.

/// Everything in a tar comes in blocks of this many bytes.
pub(crate) const BLOCK_BYTES: usize = 512;

/// One field of a header: its offset and length in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field(usize, usize);

impl Field {
    /// Its length in bytes.
    pub(crate) const fn length(self) -> usize {
        self.1
    }
}

// POSIX.1-2017, pax, "ustar Interchange Format".
pub(crate) const NAME: Field = Field(0, 100);
pub(crate) const MODE: Field = Field(100, 8);
pub(crate) const UID: Field = Field(108, 8);
pub(crate) const GID: Field = Field(116, 8);
pub(crate) const SIZE: Field = Field(124, 12);
pub(crate) const MTIME: Field = Field(136, 12);
const CHECKSUM: Field = Field(148, 8);
const TYPE: Field = Field(156, 1);
pub(crate) const LINK: Field = Field(157, 100);
const MAGIC: Field = Field(257, 8);
pub(crate) const PREFIX: Field = Field(345, 155);

/// Magic and version of POSIX.
const POSIX: &[u8] = b"ustar\x0000";

/// Magic and version of GNU tar.
const GNU: &[u8] = b"ustar  \0";

/// Whose format a header is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Posix,
    /// What follows the link's name has another meaning there.
    Gnu,
}

/// One block.
#[derive(Clone)]
pub(crate) struct Block(pub(crate) [u8; BLOCK_BYTES]);

impl Block {
    pub(crate) const fn zero() -> Self {
        Self([0; BLOCK_BYTES])
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    pub(crate) fn bytes(&self, field: Field) -> &[u8] {
        self.0.iter().as_slice().get(field.0..field.0 + field.1).unwrap_or_default()
    }

    /// A field up to its first NUL.
    pub(crate) fn text(&self, field: Field) -> &[u8] {
        self.bytes(field).split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Writes the beginning of a field; the bytes fit.
    pub(crate) fn put(&mut self, field: Field, bytes: &[u8]) {
        let place = self.0.iter_mut().skip(field.0).take(field.1);
        for (to, from) in place.zip(bytes) {
            *to = *from;
        }
    }

    pub(crate) fn kind(&self) -> u8 {
        self.bytes(TYPE).first().copied().unwrap_or_default()
    }

    pub(crate) fn format(&self) -> Option<Format> {
        match self.bytes(MAGIC) {
            POSIX => Some(Format::Posix),
            GNU => Some(Format::Gnu),
            _other => None,
        }
    }

    /// Whether the checksum is that of the block.
    pub(crate) fn is_intact(&self) -> bool {
        octal(self.bytes(CHECKSUM)).is_some_and(|told| told == self.sum())
    }

    /// The sum of all bytes, where the checksum itself counts as spaces.
    fn sum(&self) -> u64 {
        let sum = |bytes: &[u8]| bytes.iter().copied().map(u64::from).sum::<u64>();
        let spaces = u64::from(b' ') * CHECKSUM.1 as u64;
        sum(&self.0) - sum(self.bytes(CHECKSUM)) + spaces
    }

    /// Makes it a POSIX header of that type, once everything else is in.
    pub(crate) fn seal(&mut self, kind: u8) {
        self.put(TYPE, &[kind]);
        self.put(MAGIC, POSIX);
        let sum = format!("{:06o}\0 ", self.sum());
        self.put(CHECKSUM, sum.as_bytes());
    }

    /// Writes a number in octal digits, padded, with a NUL behind; false where it does not fit.
    pub(crate) fn put_octal(&mut self, field: Field, number: u64) -> bool {
        let width = field.1 - 1;
        let text = format!("{number:0width$o}");
        let fits = text.len() == width;
        if fits {
            self.put(field, text.as_bytes());
        }
        fits
    }

    /// A number that is not negative, in octal or in GNU's base 256.
    pub(crate) fn unsigned(&self, field: Field) -> Option<u64> {
        u64::try_from(self.signed(field)?).ok()
    }

    /// A number, in octal or in GNU's base 256.
    pub(crate) fn signed(&self, field: Field) -> Option<i128> {
        let bytes = self.bytes(field);
        let (first, rest) = bytes.split_first()?;
        let start = match *first {
            0x80 => 0,
            0xff => -1,
            _octal => return octal(bytes).map(i128::from),
        };
        // At most 11 bytes follow, so nothing is lost.
        Some(rest.iter().fold(start, |number, byte| (number << 8) | i128::from(*byte)))
    }
}

/// Octal digits, with spaces before and spaces or NULs behind. A blank field is 0.
fn octal(field: &[u8]) -> Option<u64> {
    let end = field.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
    let digits = field.get(..end)?.trim_ascii_start();
    let is_octal = digits.iter().all(|digit| (b'0'..=b'7').contains(digit));
    is_octal.then(|| digits.iter().fold(0, |number, digit| number * 8 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(bytes: &[u8]) -> Option<i128> {
        let mut block = Block::zero();
        block.put(SIZE, bytes);
        block.signed(SIZE)
    }

    #[test]
    fn numbers_are_read_in_octal_and_in_base_256() {
        assert_eq!(size(b"00000000017\0"), Some(15));
        assert_eq!(size(b"       17 \0\0"), Some(15));
        assert_eq!(size(b"777777777777"), Some((1 << 36) - 1));
        assert_eq!(size(b""), Some(0));
        assert_eq!(size(b"\x80\0\0\0\0\0\0\0\0\0\x01\x02"), Some(258));
        assert_eq!(size(&[0xff; 12]), Some(-1));
        assert_eq!(size(&[&[0x80][..], &[0xff; 11]].concat()), Some((1 << 88) - 1));
        for not_a_number in [&b"18\0"[..], b"1 1", b"-1", b"0x1", b"\x811", b"1\x001"] {
            assert_eq!(size(not_a_number), None, "{not_a_number:?}");
        }
        let mut block = Block::zero();
        block.put(SIZE, &[&[0x80][..], &[0xff; 11]].concat());
        assert_eq!(block.unsigned(SIZE), None, "more than 64 bits are never cut");
    }

    #[test]
    fn a_changed_bit_breaks_the_checksum() {
        let mut block = Block::zero();
        block.put(NAME, b"a");
        assert!(block.put_octal(SIZE, 0o7777));
        assert!(!block.put_octal(MODE, 0o1_0000_0000));
        block.seal(b'0');
        assert!(block.is_intact());
        assert_eq!((block.kind(), block.format()), (b'0', Some(Format::Posix)));
        block.put(NAME, b"b");
        assert!(!block.is_intact());
    }
}
