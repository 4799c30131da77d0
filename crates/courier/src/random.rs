//! Random bytes of the kernel.

use anyhow::Context as _;
use rustix::rand::{GetRandomFlags, getrandom};

/// So many random bytes.
pub(crate) fn bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    // Up to 256 bytes come whole (getrandom(2)).
    const { assert!(N <= 256) };
    let length = getrandom(&mut bytes, GetRandomFlags::empty());
    let length = length.context("the kernel gives no random bytes")?;
    anyhow::ensure!(length == N, "the kernel gave {length} random bytes instead of {N}");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_draws_differ() {
        assert_ne!(super::bytes::<32>().unwrap(), super::bytes::<32>().unwrap());
    }
}
