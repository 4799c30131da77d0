//! Buffers that come back when what is in them has been sent. Fresh memory costs a page fault for
//! each 4 KiB, and those are dear in a sandbox: a download without reuse takes twice as long.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of one size, to be used again.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    /// Bytes of each.
    size: usize,
    /// How many wait at most; those beyond are freed.
    most: usize,
    buffers: Mutex<Vec<Box<[u8]>>>,
}

impl Pool {
    /// A pool that keeps at most so many buffers of so many bytes.
    pub(crate) fn new(size: usize, most: usize) -> Self {
        Self(Arc::new(Kept { size, most, buffers: Mutex::default() }))
    }

    /// A buffer, with any content.
    pub(crate) fn take(&self) -> Buffer {
        let kept = self.0.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_else(|| vec![0; self.0.size].into_boxed_slice());
        Buffer { bytes, length: 0, pool: self.clone() }
    }
}

/// One of them; dropped, it goes back.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
    pool: Pool,
}

impl Buffer {
    /// At most so many bytes of it, to be written to.
    pub(crate) fn room(&mut self, most: usize) -> &mut [u8] {
        let most = most.min(self.bytes.len());
        self.bytes.get_mut(..most).unwrap_or_default()
    }

    /// Its first bytes; it goes back when nobody has them any more.
    pub(crate) fn into_bytes(mut self, length: usize) -> Bytes {
        if length == 0 {
            return Bytes::new();
        }
        self.length = length.min(self.bytes.len());
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = self.pool.0.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.pool.0.most {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_bytes_are_gone_and_no_more_are_kept_than_agreed() {
        let pool = Pool::new(8, 1);
        let waiting = |pool: &Pool| pool.0.buffers.lock().unwrap().len();
        let mut first = pool.take();
        first.room(100).fill(7);
        let bytes = first.into_bytes(3);
        assert_eq!((&bytes[..], waiting(&pool)), (&[7; 3][..], 0));
        let second = pool.take();
        drop(bytes);
        assert_eq!(waiting(&pool), 1);
        drop(second);
        assert_eq!(waiting(&pool), 1);
        assert_eq!(pool.take().room(100), [7, 7, 7, 7, 7, 7, 7, 7], "it is the first one again");
        assert!(pool.take().into_bytes(0).is_empty());
    }
}
