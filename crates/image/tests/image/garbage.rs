//! What goes and what stays.

use courier_image::{CachedStep, Collected, Digest, StoreBounds};
use courier_types::BuildConfig;

use crate::rig::{Rig, bounds, file, open};
use crate::store::manifest;

fn step(layer: Digest) -> CachedStep {
    CachedStep { layer: Some(layer), config: BuildConfig::default() }
}

/// What went, without the bytes.
fn counts(collected: Collected) -> (u64, u64, u64) {
    (collected.layers, collected.steps, collected.images)
}

#[test]
fn what_a_build_or_a_step_needs_stays_and_the_rest_goes() {
    let rig = Rig::new();
    let [of_build, of_step, of_nobody] =
        ["1", "2", "3"].map(|text| rig.add(&[file("a", text)]).digest);
    rig.store.put_build("b", &manifest(vec![of_build])).unwrap();
    rig.store.remember_step(&Digest::of(b"key"), &step(of_step)).unwrap();
    let image = rig.store.image(&[of_build]).unwrap();
    rig.store.image(&[of_build, of_step]).unwrap();
    let collected = rig.store.collect_garbage().unwrap();
    assert_eq!(counts(collected), (1, 0, 1));
    assert!(collected.bytes > 0);
    assert!(image.exists());
    assert!(rig.store.has_layer(&of_build).unwrap() && rig.store.has_layer(&of_step).unwrap());
    assert!(!rig.store.has_layer(&of_nobody).unwrap());
    rig.store.remove_build("b").unwrap();
    assert_eq!(counts(rig.store.collect_garbage().unwrap()), (1, 0, 1));
    assert_eq!(rig.store.collect_garbage().unwrap(), Collected::default());
    assert_eq!(rig.names("layers").len(), 1);
}

#[test]
fn steps_that_were_used_longest_ago_go_first() {
    // Of a step and its layer, which take a block each.
    let size = {
        let rig = Rig::with(StoreBounds { steps: 0, ..bounds() });
        let layer = rig.add(&[file("a", "1")]).digest;
        rig.store.remember_step(&Digest::of(b"key"), &step(layer)).unwrap();
        rig.store.collect_garbage().unwrap().bytes
    };
    let rig = Rig::with(StoreBounds { step_cache_bytes: 2 * size + size / 2, ..bounds() });
    let keys = [b"1", b"2", b"3"].map(|text| {
        let layer = rig.add(&[file("a", text)]).digest;
        rig.store.remember_step(&Digest::of(text), &step(layer)).unwrap();
        Digest::of(text)
    });
    // The first becomes the last used.
    assert!(rig.store.cached_step(&keys[0]).unwrap().is_some());
    assert_eq!(counts(rig.store.collect_garbage().unwrap()), (1, 1, 0));
    let left = keys.map(|key| rig.store.cached_step(&key).unwrap().is_some());
    assert_eq!(left, [true, false, true]);
    // A layer that a build needs costs the steps nothing.
    let layer = rig.store.cached_step(&keys[0]).unwrap().unwrap().layer.unwrap();
    rig.store.put_build("b", &manifest(vec![layer])).unwrap();
    let another = rig.add(&[file("a", "4")]).digest;
    rig.store.remember_step(&Digest::of(b"4"), &step(another)).unwrap();
    assert_eq!(counts(rig.store.collect_garbage().unwrap()), (0, 0, 0));
    let few = open(rig.folder.path(), StoreBounds { steps: 1, ..bounds() });
    assert_eq!(counts(few.collect_garbage().unwrap()).1, 2);
}

#[test]
fn steps_without_a_layer_cost_what_they_say() {
    let rig = Rig::with(StoreBounds { step_cache_bytes: 1 << 20, ..bounds() });
    let env = [("LONG".to_owned(), "x".repeat(400_000))].into();
    let config = BuildConfig { env, ..BuildConfig::default() };
    for key in [b"1", b"2", b"3", b"4"] {
        let step = CachedStep { layer: None, config: config.clone() };
        rig.store.remember_step(&Digest::of(key), &step).unwrap();
    }
    assert_eq!(counts(rig.store.collect_garbage().unwrap()), (0, 2, 0));
}

#[test]
fn a_build_that_could_not_be_read_again_is_not_kept() {
    let rig = Rig::new();
    let layer = rig.add(&[file("a", "1")]).digest;
    let mut build = manifest(vec![layer]);
    // Short as a list, long as what is kept of it.
    build.config.env = (0..400_000).map(|number| (format!("{number:x}"), String::new())).collect();
    rig.store.put_build("b", &build).unwrap_err();
    assert_eq!(rig.store.build("b").unwrap(), None);
    rig.store.collect_garbage().unwrap();
}

#[test]
fn what_was_used_while_a_lease_lived_stays_until_it_ends() {
    let rig = Rig::new();
    let before = rig.add(&[file("a", "0")]).digest;
    let known = rig.add(&[file("a", "1")]).digest;
    let lease = rig.store.lease().unwrap();
    let added = rig.add(&[file("a", "2")]).digest;
    assert!(rig.store.has_layer(&known).unwrap());
    let image = rig.store.image(&[added]).unwrap();
    // Another store in the same folder is as another process.
    let other = open(rig.folder.path(), bounds());
    assert_eq!(counts(other.collect_garbage().unwrap()), (1, 0, 0));
    assert!(!rig.store.has_layer(&before).unwrap());
    assert!(image.exists());
    // A lease that began later keeps what is used from then on.
    let later = rig.store.lease().unwrap();
    assert!(rig.store.has_layer(&added).unwrap());
    drop(lease);
    assert_eq!(counts(other.collect_garbage().unwrap()), (1, 0, 1));
    assert!(rig.store.has_layer(&added).unwrap());
    drop(later);
    assert_eq!(counts(other.collect_garbage().unwrap()), (1, 0, 0));
    assert_eq!((rig.names("layers").len(), rig.names("images").len()), (0, 0));
}

#[test]
fn nothing_goes_while_it_is_not_known_what_a_build_needs() {
    let rig = Rig::new();
    let layer = rig.add(&[file("a", "1")]).digest;
    rig.store.put_build("b", &manifest(vec![layer])).unwrap();
    std::fs::write(rig.folder.path().join("builds/b"), "damaged").unwrap();
    assert!(rig.store.collect_garbage().is_err());
    assert!(rig.store.has_layer(&layer).unwrap());
}

#[test]
fn builds_of_one_process_are_never_robbed_by_the_collection_of_another() {
    let rig = Rig::new();
    let other = open(rig.folder.path(), bounds());
    std::thread::scope(|scope| {
        let building = scope.spawn(|| {
            for round in 0..40 {
                let lease = rig.store.lease().unwrap();
                let layer = rig.add(&[file("a", format!("{round}"))]).digest;
                let image = rig.store.image(&[layer]).unwrap();
                assert!(std::fs::File::open(image).is_ok());
                rig.store.put_build("b", &manifest(vec![layer])).unwrap();
                drop(lease);
            }
        });
        while !building.is_finished() {
            other.collect_garbage().unwrap();
        }
        building.join().unwrap();
    });
    other.collect_garbage().unwrap();
    assert_eq!((rig.names("layers").len(), rig.names("leases").len()), (1, 0));
}
