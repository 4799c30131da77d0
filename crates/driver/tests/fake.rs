//! The fake passes the suite.

use std::io::{Read, Write};
use std::path::PathBuf;

use courier_driver::Driver;
use courier_driver::conformance::{self, Rig};
use courier_driver::fake::FakeDriver;
use courier_types::SandboxId;

struct FakeRig(FakeDriver);

#[async_trait::async_trait]
impl Rig for FakeRig {
    fn driver(&self) -> &dyn Driver {
        &self.0
    }

    fn image(&self) -> PathBuf {
        PathBuf::new()
    }

    async fn crash(&self, id: &SandboxId) {
        assert!(self.0.crash(id));
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
    conformance::run(&FakeRig(FakeDriver::new(echo))).await;
}
