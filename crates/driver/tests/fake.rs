//! The fake passes the suite.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;

use courier_driver::conformance::{self, DESTINATION, Rig};
use courier_driver::fake::FakeDriver;
use courier_driver::{Driver, LINK_GUEST, Machine};
use courier_types::SandboxId;

struct FakeRig {
    driver: FakeDriver,
    /// The guests' ends of links, which stay open.
    links: Mutex<Vec<OwnedFd>>,
}

#[async_trait::async_trait]
impl Rig for FakeRig {
    fn driver(&self) -> &dyn Driver {
        &self.driver
    }

    fn image(&self) -> PathBuf {
        PathBuf::new()
    }

    async fn crash(&self, id: &SandboxId) {
        assert!(self.driver.crash(id));
    }

    fn send_packet(&self, machine: &Machine) {
        let link = self.driver.take_link(&machine.id).expect("one packet for each machine");
        // The header of an empty IPv4 packet, without its checksum.
        let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend(LINK_GUEST.octets());
        packet.extend(DESTINATION.octets());
        rustix::io::write(&link, &packet).expect("write to the link");
        self.links.lock().expect("no panic").push(link);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_driver_conforms() {
    let echo = |guest| {
        std::thread::spawn(move || {
            let mut guest = std::fs::File::from(guest);
            let mut record = [0; 1024];
            while let Ok(count @ 1..) = guest.read(&mut record) {
                guest.write_all(&record[..count]).unwrap();
            }
        });
    };
    let rig = FakeRig { driver: FakeDriver::new(echo), links: Mutex::default() };
    conformance::run(&rig).await;
}
