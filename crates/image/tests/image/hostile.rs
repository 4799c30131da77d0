//! Layers that were made to cost the host more than they are worth.

use std::io::{self, Read};
use std::sync::mpsc;
use std::time::Duration;

use courier_archive::{Bounds, Header};
use courier_image::{Conflict, HostError, ImageError, Layer, LayerError, Store, StoreBounds};

use crate::rig::{Rig, bounds, digests, file, link, open, tar};

/// Longest time that a refusal or a layer of some MiB may take, on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// Takes a tar in, unless that takes too long.
fn add_in_time(store: &Store, tar: Vec<u8>) -> Result<Layer, LayerError> {
    let (store, (sender, receiver)) = (store.clone(), mpsc::channel());
    let adding = std::thread::spawn(move || sender.send(store.add_layer(&*tar)));
    let added = receiver.recv_timeout(DEADLINE).expect("the layer is taken or refused in time");
    adding.join().unwrap().unwrap();
    added
}

/// A path as long as paths may be.
fn long_path() -> String {
    let path = [&["0".repeat(255)][..]; 16].concat().join("/");
    path[..path.len() - 1].to_owned()
}

#[test]
fn a_chain_of_links_takes_no_longer_than_its_length() {
    let rig = Rig::new();
    // Out of order, so that all of it goes through the spool.
    let mut entries = vec![file("z", "content"), link("00000", "z")];
    entries.extend((1..50_000).map(|n| link(&format!("{n:05}"), &format!("{:05}", n - 1))));
    let chain = add_in_time(&rig.store, tar(&entries)).unwrap();
    let mut star = vec![file("z", "content")];
    star.extend((0..50_000).map(|n| link(&format!("{n:05}"), "z")));
    assert_eq!(add_in_time(&rig.store, tar(&star)).unwrap(), chain);
}

#[test]
fn links_to_a_long_name_by_a_short_one_are_bounded_too() {
    let rig = Rig::new();
    let long = long_path();
    let many = |target: &str| -> Vec<(Header, Vec<u8>)> {
        (0..40_000).map(|n| link(&format!("2{n:05}"), target)).collect()
    };
    // In order: a link to the long name, and links to that link.
    let mut sorted = vec![file(&long, "content"), link("1", &long)];
    sorted.extend(many("1"));
    // Out of order: the same, and a long name that comes to be the first of all.
    let mut spooled = vec![file("9", "")];
    spooled.extend(sorted.clone());
    let mut led = vec![file("9", "content"), link(&long, "9")];
    led.extend(many("9"));
    for entries in [sorted, spooled, led] {
        let error = add_in_time(&rig.store, tar(&entries)).unwrap_err();
        assert!(matches!(error, LayerError::Headers { .. }), "{error}");
    }
    assert_eq!((rig.names("layers").len(), rig.names("temporary").len()), (0, 0));
}

/// Files of zeros, in order, and one that is not.
fn zeros(mebibytes: usize, last: &str) -> Vec<u8> {
    let mut tar = courier_archive::Writer::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for number in 0..mebibytes {
        let header = Header {
            kind: courier_archive::Kind::File { size: 1 << 20 },
            ..file(&format!("m{number:04}"), "").0
        };
        tar.append(&header, io::repeat(0).take(1 << 20)).unwrap();
    }
    tar.append(&file(last, "").0, io::empty()).unwrap();
    tar.finish().unwrap().finish().unwrap()
}

#[test]
fn what_is_written_out_of_order_leaves_the_host_its_reserve() {
    // In memory, where nobody else takes room meanwhile.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let space = rustix::fs::statvfs(folder.path()).unwrap();
    let free = space.f_bavail * space.f_frsize;
    let reserve_bytes = free.saturating_sub(100 << 20);
    let store = open(folder.path(), StoreBounds { reserve_bytes, ..bounds() });
    store.add_layer(&*zeros(256, "z")).unwrap();
    let error = store.add_layer(&*zeros(256, "a")).unwrap_err();
    let is_full = |error: &LayerError| {
        matches!(error, LayerError::Host(HostError::NoSpace { .. } | HostError::Full { .. }))
    };
    assert!(is_full(&error), "{error}");
    assert_eq!(crate::rig::names(&folder.path().join("temporary")).len(), 0);
}

#[test]
fn bounds_of_a_layer_count_what_comes_out_of_its_compression() {
    let layer = Bounds { bytes: 1 << 20, ..Bounds::LAYER };
    let rig = Rig::with(StoreBounds { layer, ..bounds() });
    let error = rig.store.add_layer(&*zeros(2, "z")).unwrap_err();
    assert!(matches!(error, LayerError::Archive(_)), "{error}");
}

#[test]
fn layers_that_are_small_one_by_one_are_bounded_together() {
    let rig = Rig::with(StoreBounds { image_bytes: 5 << 20, ..bounds() });
    let layers = [rig.add(&[file("a", vec![7; 3 << 20])]), rig.add(&[file("a", vec![8; 3 << 20])])];
    rig.store.image(&[layers[0].digest]).unwrap();
    let error = rig.store.image(&digests(&layers)).unwrap_err();
    let source = Conflict::TooLarge { most: 5 << 20 };
    assert!(
        matches!(&error, ImageError::Conflict { layer, source: why } if *layer == layers[1].digest && *why == source),
        "{error}"
    );
}
