//! The link as smoltcp wants it: one packet in, packets out, none lost for want of room.

use std::cell::RefCell;

use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use super::LINK_MTU;
use super::link::{Link, Sent};

/// What smoltcp may count on. What the guest sends is not checked: nothing between both ends damages
/// a packet, and a guest that lies can do so with a right checksum. What we send has checksums, for
/// guests that look.
fn capabilities() -> DeviceCapabilities {
    let mut checksum = ChecksumCapabilities::ignored();
    checksum.ipv4 = Checksum::Tx;
    checksum.tcp = Checksum::Tx;
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = LINK_MTU;
    capabilities.checksum = checksum;
    capabilities
}

thread_local! {
    /// Where a packet is put together before the kernel copies it. smoltcp writes every byte of a
    /// packet, so none of an earlier one remains.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; LINK_MTU]);
}

/// The link for one use of a connection.
#[derive(Debug)]
pub(super) struct Device<'a> {
    link: &'a Link,
    ingress: Option<&'a [u8]>,
    unsent: &'a mut Option<Box<[u8]>>,
}

impl<'a> Device<'a> {
    /// A link, a packet that came, and the place for one that the link has no room for. What is
    /// there already is sent first, and nothing else before it.
    pub(super) fn new(
        link: &'a Link,
        ingress: Option<&'a [u8]>,
        unsent: &'a mut Option<Box<[u8]>>,
    ) -> Self {
        if unsent.as_ref().is_some_and(|packet| link.send(packet) == Sent::Done) {
            *unsent = None;
        }
        Self { link, ingress, unsent }
    }
}

impl phy::Device for Device<'_> {
    type RxToken<'t>
        = Ingress<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Egress<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Ingress<'_>, Egress<'_>)> {
        let packet = self.ingress.take()?;
        Some((Ingress(packet), Egress { link: self.link, unsent: self.unsent }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Egress<'_>> {
        self.unsent.is_none().then_some(Egress { link: self.link, unsent: self.unsent })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}

/// A packet that came.
#[derive(Debug)]
pub(super) struct Ingress<'t>(&'t [u8]);

impl phy::RxToken for Ingress<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// The way out for one packet.
#[derive(Debug)]
pub(super) struct Egress<'t> {
    link: &'t Link,
    unsent: &'t mut Option<Box<[u8]>>,
}

impl phy::TxToken for Egress<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < length {
                scratch.resize(length, 0);
            }
            let (packet, _) = scratch.split_at_mut(length);
            let result = write(packet);
            // An immediate answer to a packet may find another one waiting: it is lost then, which
            // the guest's TCP makes good.
            if self.unsent.is_none() && self.link.send(packet) == Sent::Full {
                *self.unsent = Some((&*packet).into());
            }
            result
        })
    }
}
