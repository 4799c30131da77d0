//! How layers are laid on each other where it is easy to be wrong.

use courier_image::{Conflict, ImageError};

use crate::read_back::{self, Names, What, content};
use crate::rig::{Rig, file, folder, gone, link, opaque, symlink};

type Layers<'a> = [&'a [(courier_archive::Header, Vec<u8>)]];

#[track_caller]
fn laid(layers: &Layers<'_>) -> Names {
    read_back::read(&try_laid(layers).unwrap().1)
}

fn try_laid(layers: &Layers<'_>) -> Result<(Rig, std::path::PathBuf), ImageError> {
    let rig = Rig::new();
    let digests: Vec<_> = layers.iter().map(|layer| rig.add(layer).digest).collect();
    let image = rig.store.image(&digests)?;
    Ok((rig, image))
}

#[test]
fn a_hard_link_keeps_its_content_when_its_target_is_replaced_by_a_higher_layer() {
    let names = laid(&[&[file("a", "old"), link("b", "a")], &[file("a", "new")]]);
    assert_eq!((content(&names, "a"), content(&names, "b")), ("new".into(), "old".into()));
    assert_eq!((names[&b"a"[..]].links, names[&b"b"[..]].links), (1, 1));
    let names = laid(&[&[file("a", "old"), link("b", "a")], &[gone("a")]]);
    assert_eq!(content(&names, "b"), "old");
    assert!(!names.contains_key(&b"a"[..]));
}

#[test]
fn the_first_name_of_a_file_has_its_content_wherever_the_tar_has_it() {
    let rig = Rig::new();
    let plain = rig.add(&[file("a", "text"), link("b", "a"), link("c", "a")]);
    for entries in [
        [file("b", "text"), link("a", "b"), link("c", "b")],
        [file("c", "text"), link("b", "c"), link("a", "b")],
        [file("a", "text"), link("c", "a"), link("b", "c")],
    ] {
        assert_eq!(rig.add(&entries), plain);
    }
    let names = read_back::read(&rig.store.image(&[plain.digest]).unwrap());
    assert_eq!(names[&b"c"[..]].links, 3);
}

#[test]
fn folders_and_files_replace_each_other() {
    let names = laid(&[
        &[folder("a"), file("a/x", "1"), file("b", "2")],
        &[file("a", "3"), folder("b"), file("b/y", "4")],
    ]);
    assert_eq!((content(&names, "a"), content(&names, "b/y")), ("3".into(), "4".into()));
    assert!(!names.contains_key(&b"a/x"[..]));
}

#[test]
fn what_a_layer_hides_is_only_what_is_below_it() {
    let lower: &[_] = &[folder("a"), file("a/x", "1"), file("a/y", "2"), file("z", "3")];
    let names = laid(&[lower, &[opaque("a"), file("a/-", "4"), file("a/y", "5"), gone("z")]]);
    assert_eq!((content(&names, "a/-"), content(&names, "a/y")), ("4".into(), "5".into()));
    assert!(!names.contains_key(&b"a/x"[..]) && !names.contains_key(&b"z"[..]));
    // The same name again means a new thing.
    let names = laid(&[lower, &[gone("a"), folder("a"), file("a/new", "6")]]);
    assert!(!names.contains_key(&b"a/x"[..]) && names.contains_key(&b"a/new"[..]));
    let names = laid(&[lower, &[gone("nothing/there"), gone("z/below"), opaque("z")]]);
    assert_eq!(content(&names, "z"), "3");
}

#[test]
fn a_folder_that_a_lower_layer_has_as_a_symbolic_link_is_where_that_leads() {
    let lower: &[_] = &[folder("usr"), folder("usr/lib"), symlink("lib", "usr/lib")];
    let names = laid(&[lower, &[file("lib/x", "1")]]);
    assert_eq!(content(&names, "usr/lib/x"), "1");
    assert_eq!(names[&b"lib"[..]].what, What::Symlink(b"usr/lib".to_vec()));
    // A folder that is said to be one takes the link's place.
    let names = laid(&[lower, &[folder("lib"), file("lib/x", "1")]]);
    assert_eq!(names[&b"lib"[..]].what, What::Folder);
    let names = laid(&[lower, &[file("usr/lib/x", "1")], &[gone("lib/x")]]);
    assert!(!names.contains_key(&b"usr/lib/x"[..]));
}

#[test]
fn a_symbolic_link_never_leads_out_of_the_image() {
    let lower: &[_] =
        &[symlink("up", "../../../.."), symlink("root", "/"), symlink("s", "/r/../t")];
    let names = laid(&[lower, &[file("up/a", "1"), file("root/b", "2"), file("s/c", "3")]]);
    for (path, text) in [("a", "1"), ("b", "2"), ("t/c", "3")] {
        assert_eq!(content(&names, path), text);
    }
}

#[test]
fn what_does_not_fit_is_told_with_the_layer_and_the_entry() {
    for (lower, upper, told) in [
        (file("a", "1"), file("a/b", "2"), "a/b lies below something that is no folder"),
        (symlink("a", "a"), file("a/b", "2"), "a/b lies below symbolic links that lead in circles"),
    ] {
        let error = try_laid(&[&[lower], &[upper]]).err().unwrap();
        assert!(matches!(
            &error,
            ImageError::Conflict {
                source: Conflict::NotFolder { .. } | Conflict::Circle { .. },
                ..
            }
        ));
        assert!(error.to_string().contains(told), "{error}");
        assert!(error.to_string().contains("layer sha256:"), "{error}");
    }
    let far = "a/".repeat(600);
    let error = try_laid(&[&[symlink("a", &far)], &[file("a/b", "")]]).err().unwrap();
    assert!(matches!(error, ImageError::Conflict { .. }), "{error}");
    let error = try_laid(&[&[file("usr", "no folder")]]).err().unwrap();
    assert!(matches!(error, ImageError::Guest { .. }), "{error}");
    let long = format!("/{}/x", "n".repeat(300));
    let error = try_laid(&[&[symlink("a", &long)], &[file("a/b", "")]]).err().unwrap();
    assert!(matches!(error, ImageError::Conflict { .. }), "{error}");
}

#[test]
fn the_guest_daemon_takes_the_place_of_what_a_layer_has_there() {
    let names = laid(&[&[
        folder("usr/local/bin/courier-guest"),
        file("usr/local/bin/courier-guest/x", ""),
        file("usr/bin/sudo", "sudo"),
        symlink("proc", "/etc"),
    ]]);
    assert_eq!(content(&names, "usr/local/bin/courier-guest"), "guest daemon");
    let sudo = What::Symlink(b"/usr/local/bin/courier-guest".to_vec());
    assert_eq!(names[&b"usr/bin/sudo"[..]].what, sudo);
    assert_eq!(names[&b"proc"[..]].what, What::Symlink(b"/etc".to_vec()));
}
