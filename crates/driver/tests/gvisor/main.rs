//! The gVisor driver passes the suite on the real launcher and the real runsc, and leaves nothing.
//! Needs root, runsc and mkfs.erofs.

mod rig;

use courier_driver::conformance;
use courier_driver::leaks::find_leaks;
use rig::GvisorRig;

#[tokio::test(flavor = "multi_thread")]
async fn the_gvisor_driver_conforms_and_leaves_nothing_behind() {
    let Some(rig) = GvisorRig::start("suite").await else { return };
    conformance::run(&rig).await;
    assert_eq!(find_leaks(rig.dir()).await.unwrap(), []);
    rig.stop().await;
}
