//! What is taken in as a layer.

use std::io::{self, Read};

use courier_image::LayerError;

use crate::rig::{Rig, file, folder, link, tar};

fn compressed(tar: &[u8]) -> [Vec<u8>; 2] {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, tar).unwrap();
    [gzip.finish().unwrap(), zstd::encode_all(tar, 3).unwrap()]
}

#[test]
fn the_same_tree_is_the_same_layer_however_its_tar_is_compressed() {
    let rig = Rig::new();
    let tar = tar(&[folder("a"), file("a/b", "text")]);
    let layer = rig.store.add_layer(&*tar).unwrap();
    assert_eq!((layer.entries, layer.size_bytes), (2, tar.len() as u64));
    for archive in compressed(&tar) {
        assert_eq!(rig.store.add_layer(&*archive).unwrap(), layer);
    }
    assert_eq!(rig.names("layers"), [format!("{}.tar.zst", &layer.digest.to_string()[7..])]);
    assert!(rig.store.has_layer(&layer.digest).unwrap());
}

#[test]
fn a_tar_that_is_refused_leaves_nothing() {
    let rig = Rig::new();
    // The second one is out of order, so it is refused from the spool.
    for entries in [[file("a", "1"), file("b", "22")], [file("b", "1"), file("a", "22")]] {
        let tar = tar(&entries);
        for cut in [100, 512, 600, 1_024, 1_100, 1_536, 1_600, tar.len() - 1] {
            let error = rig.store.add_layer(&tar[..cut]).unwrap_err();
            assert!(
                matches!(error, LayerError::Archive(_) | LayerError::Content { .. }),
                "{error}"
            );
        }
    }
    let [gzip, zstd] = compressed(&tar(&[file("a", vec![7; 100_000])]));
    for archive in [&gzip[..gzip.len() - 1], &zstd[..zstd.len() - 1]] {
        rig.store.add_layer(archive).unwrap_err();
    }
    rig.store.add_layer(&b"no tar at all"[..]).unwrap_err();
    rig.store.add_layer(&*tar(&[file("a", ""), file("a/b", "")])).unwrap_err();
    assert_eq!((rig.names("layers").len(), rig.names("temporary").len()), (0, 0));
}

/// Gives some bytes, and then an error.
struct Breaks<'a>(&'a [u8]);

impl Read for Breaks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the line went down")),
            length => Ok(length),
        }
    }
}

#[test]
fn a_stream_that_breaks_leaves_nothing_and_says_so() {
    let rig = Rig::new();
    let tar = tar(&[file("a", vec![7; 5_000]), file("c", "2"), file("b", "3")]);
    for cut in (0..tar.len()).step_by(256) {
        let error = rig.store.add_layer(Breaks(&tar[..cut])).unwrap_err();
        let mut told = format!("{error}");
        let mut cause: &dyn std::error::Error = &error;
        while let Some(next) = cause.source() {
            cause = next;
            told = format!("{told}: {cause}");
        }
        assert!(told.contains("the line went down"), "{told}");
    }
    assert_eq!((rig.names("layers").len(), rig.names("temporary").len()), (0, 0));
}

#[test]
fn links_of_a_tar_out_of_order_keep_their_content() {
    let rig = Rig::new();
    let mixed = rig.add(&[file("z", "1"), link("a", "z"), file("m", "2"), link("b", "m")]);
    let sorted = rig.add(&[file("a", "1"), file("b", "2"), link("m", "b"), link("z", "a")]);
    assert_eq!(mixed, sorted);
}

#[test]
fn headers_that_no_memory_should_hold_are_refused() {
    let rig = Rig::new();
    let mut tar = courier_archive::Writer::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for number in 0..140 {
        let (mut header, _) = file(&format!("{number:03}"), "");
        for attribute in 0..10 {
            let name = format!("user.{attribute}").into_bytes();
            header.xattrs.insert(name, vec![b'v'; 65_536]);
        }
        tar.append(&header, io::empty()).unwrap();
    }
    let bytes = tar.finish().unwrap().finish().unwrap();
    let error = rig.store.add_layer(&*bytes).unwrap_err();
    assert!(matches!(error, LayerError::Headers { .. }), "{error}");
    assert_eq!((rig.names("layers").len(), rig.names("temporary").len()), (0, 0));
}
