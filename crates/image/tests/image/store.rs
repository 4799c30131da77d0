//! Builds, steps, and what of the store's own files is believed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

use courier_image::{BuildManifest, CachedStep, Digest, HostError, ImageError, StoreError};
use courier_image::{LayerError, StoreBounds};
use courier_types::{BuildConfig, Timestamp};

use crate::rig::{Rig, bounds, digests, file, open};

pub(crate) fn manifest(layers: Vec<Digest>) -> BuildManifest {
    let created = Timestamp::from_micros(7);
    BuildManifest { layers, config: BuildConfig::default(), image_digest: None, created }
}

fn step(layer: Option<Digest>) -> CachedStep {
    CachedStep { layer, config: BuildConfig::default() }
}

/// The only file in a folder of the store.
fn only(rig: &Rig, folder: &str) -> PathBuf {
    let names = rig.names(folder);
    assert_eq!(names.len(), 1, "{names:?}");
    rig.folder.path().join(folder).join(&names[0])
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn builds_and_steps_come_back_as_they_were_put() {
    let rig = Rig::new();
    let layer = rig.add(&[file("a", "1")]).digest;
    let build = manifest(vec![layer]);
    rig.store.put_build("b-1.x", &build).unwrap();
    assert_eq!(rig.store.build("b-1.x").unwrap(), Some(build));
    assert_eq!(rig.store.builds().unwrap(), ["b-1.x"]);
    let key = Digest::of(b"key");
    assert_eq!(rig.store.cached_step(&key).unwrap(), None);
    for step in [step(Some(layer)), step(None)] {
        rig.store.remember_step(&key, &step).unwrap();
        assert_eq!(rig.store.cached_step(&key).unwrap(), Some(step));
    }
    rig.store.remove_build("b-1.x").unwrap();
    rig.store.remove_build("b-1.x").unwrap();
    assert_eq!(rig.store.build("b-1.x").unwrap(), None);
}

#[test]
fn names_that_lead_elsewhere_are_no_builds() {
    let rig = Rig::new();
    for name in ["", ".", "..", ".a", "a/b", "../a", "a\0", "a b", &"a".repeat(129)] {
        let refused = rig.store.put_build(name, &manifest(Vec::new()));
        assert!(matches!(refused, Err(StoreError::Reference { .. })), "{name}");
        assert!(rig.store.build(name).is_err() && rig.store.remove_build(name).is_err());
    }
}

#[test]
fn what_needs_a_layer_that_is_not_there_is_refused() {
    let rig = Rig::new();
    let missing = Digest::of(b"nothing");
    assert!(matches!(
        rig.store.put_build("b", &manifest(vec![missing])),
        Err(StoreError::NoLayer { digest }) if digest == missing
    ));
    assert!(rig.store.remember_step(&missing, &step(Some(missing))).is_err());
    assert!(matches!(
        rig.store.image(&[missing]),
        Err(ImageError::NoLayer { layer }) if layer == missing
    ));
}

#[test]
fn a_bit_that_flips_anywhere_in_a_layer_is_told_with_its_name() {
    let rig = Rig::new();
    let layer = rig.add(&[file("a", "some text"), file("b", vec![7; 3_000])]).digest;
    let path = only(&rig, "layers");
    let mut harmless = 0;
    for at in 0..fs::metadata(&path).unwrap().len() {
        flip(&path, usize::try_from(at).unwrap());
        match rig.store.image(&[layer]) {
            // Some bits of a frame's header only say how much memory it takes.
            Ok(image) => {
                harmless += 1;
                let names = crate::read_back::read(&image);
                assert_eq!(crate::read_back::content(&names, "a"), "some text");
                fs::remove_file(image).unwrap();
            }
            Err(error) => {
                let told = error.to_string();
                assert!(told.contains(&layer.to_string()), "byte {at}: {told}");
            }
        }
        flip(&path, usize::try_from(at).unwrap());
    }
    assert!(harmless < 3, "{harmless}");
    assert_eq!((rig.names("images").len(), rig.names("temporary").len()), (0, 0));
    rig.store.image(&[layer]).unwrap();
}

#[test]
fn another_layer_in_a_layers_place_is_told() {
    let rig = Rig::new();
    let layer = rig.add(&[file("a", "one")]).digest;
    let path = only(&rig, "layers");
    let other = rig.add(&[file("a", "two")]).digest;
    let other_path = path.with_file_name(format!("{}.tar.zst", &other.to_string()[7..]));
    fs::copy(&other_path, &path).unwrap();
    assert!(matches!(
        rig.store.image(&[layer]),
        Err(ImageError::Corrupted { layer: told, source: None }) if told == layer
    ));
    // Adding it again mends it.
    rig.add(&[file("a", "one")]);
    rig.store.image(&[layer]).unwrap();
}

#[test]
fn a_build_that_is_cut_or_changed_is_told_with_its_name() {
    let rig = Rig::new();
    rig.store.put_build("the-build", &manifest(Vec::new())).unwrap();
    let path = only(&rig, "builds");
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let error = rig.store.build("the-build").unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{cut}: {error}");
        assert!(error.to_string().contains("the-build"), "{error}");
    }
    for at in 0..whole.len() {
        fs::write(&path, &whole).unwrap();
        flip(&path, at);
        assert!(rig.store.build("the-build").is_err(), "byte {at}");
    }
    // A damaged step is only forgotten.
    let key = Digest::of(b"key");
    rig.store.remember_step(&key, &step(None)).unwrap();
    flip(&only(&rig, "steps"), 80);
    assert_eq!(rig.store.cached_step(&key).unwrap(), None);
    assert_eq!(rig.names("steps").len(), 0);
}

#[test]
fn equal_layers_give_equal_images_and_another_daemon_another_one() {
    let entries = [file("a", "1"), file("b", vec![9; 5_000])];
    let rigs = [Rig::new(), Rig::new()];
    let images = rigs.each_ref().map(|rig| rig.store.image(&[rig.add(&entries).digest]).unwrap());
    assert_eq!(images[0].file_name(), images[1].file_name());
    assert_eq!(fs::read(&images[0]).unwrap(), fs::read(&images[1]).unwrap());
    let rig = &rigs[0];
    fs::write(rig.folder.path().join("daemon"), "another daemon").unwrap();
    let other = rig.store.image(&[rig.add(&entries).digest]).unwrap();
    assert_ne!(other, images[0]);
    let names = crate::read_back::read(&other);
    assert_eq!(crate::read_back::content(&names, "usr/local/bin/courier-guest"), "another daemon");
}

#[test]
fn an_image_that_many_want_at_once_is_made_once() {
    let rig = Rig::new();
    let layer = rig.add(&[file("a", vec![1; 100_000])]).digest;
    let begin = Barrier::new(8);
    std::thread::scope(|scope| {
        let wanted = || {
            begin.wait();
            rig.store.image(&[layer]).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(wanted)).collect();
        for thread in threads {
            assert!(thread.join().unwrap().is_file());
        }
    });
    assert_eq!((rig.names("images").len(), rig.names("temporary").len()), (1, 0));
}

#[test]
fn what_a_crash_left_goes_when_nobody_else_has_the_store_open() {
    let rig = Rig::new();
    let left = rig.folder.path().join("temporary/left");
    fs::write(&left, "half a layer").unwrap();
    let other = open(rig.folder.path(), bounds());
    assert!(left.exists(), "it may be of the store that is open");
    let Rig { store, folder } = rig;
    drop((store, other));
    let _again = open(folder.path(), bounds());
    assert!(!left.exists());
}

#[test]
fn too_little_space_is_told_before_anything_is_written() {
    let full = Rig::with(StoreBounds { reserve_bytes: u64::MAX, ..bounds() });
    let tar = crate::rig::tar(&[file("a", "1")]);
    let error = full.store.add_layer(&*tar).unwrap_err();
    assert!(matches!(error, LayerError::Host(HostError::NoSpace { .. })), "{error}");
    let error = full.store.image(&[]).unwrap_err();
    assert!(matches!(error, ImageError::Host(HostError::NoSpace { .. })), "{error}");
    assert_eq!((full.names("layers").len(), full.names("temporary").len()), (0, 0));
}

#[test]
fn an_image_has_a_bounded_number_of_layers() {
    let rig = Rig::with(StoreBounds { layers: 2, ..bounds() });
    let layers = digests(&["1", "2", "3"].map(|text| rig.add(&[file("a", text)])));
    rig.store.image(&layers[..2]).unwrap();
    assert!(matches!(rig.store.image(&layers), Err(ImageError::TooMany { count: 3, most: 2 })));
}

#[test]
fn a_store_can_be_used_by_several_threads() {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    let rig = Rig::new();
    shared(&rig.store);
    let lease = Arc::new(rig.store.lease().unwrap());
    std::thread::spawn(move || drop(lease)).join().unwrap();
    assert_eq!(rig.names("leases").len(), 0);
}

#[test]
fn nobody_else_can_look_into_a_store_or_hold_its_locks() {
    let rig = Rig::new();
    rig.store.image(&[rig.add(&[file("a", "1")]).digest]).unwrap();
    let mode = |name: &str| {
        let meta = fs::metadata(rig.folder.path().join(name)).unwrap();
        std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777
    };
    for folder in ["layers", "builds", "steps", "images", "leases", "flights", "temporary"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    assert_eq!((mode("lock"), mode("gate")), (0o600, 0o600));
}
