//! Layers as whoever wrote the specification would lay them on each other by hand, against images
//! read back.

use std::collections::{BTreeMap, BTreeSet};

use courier_archive::{EntryPath, Header, Kind};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use crate::read_back::{self, Found, Names, What};
use crate::rig::{DAEMON, Rig, fifo, file, folder, gone, link, opaque, symlink};

/// A thing in the model; its number makes two names of one thing equal, and nothing else.
#[derive(Debug, Clone)]
struct Thing {
    number: usize,
    what: What,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
}

#[derive(Debug, Default)]
struct Model {
    names: BTreeMap<EntryPath, Thing>,
    things: usize,
}

/// A layer that cannot be laid on those before it.
#[derive(Debug)]
struct Unfit;

impl Model {
    fn thing(&mut self, header: &Header, what: What) -> Thing {
        self.things += 1;
        Thing {
            number: self.things,
            what,
            mode: header.mode,
            owner: (header.uid, header.gid),
            mtime: header.mtime,
        }
    }

    fn remove(&mut self, at: &EntryPath) {
        self.names.retain(|name, _| !name.is_in(at));
    }

    fn apply(&mut self, layer: &[(Header, Vec<u8>)]) -> Result<(), Unfit> {
        let mut sorted = layer.to_vec();
        sorted.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        for (header, _) in &sorted {
            match header.whiteout() {
                Some(courier_archive::Whiteout::Of(at)) => self.remove(&at),
                Some(courier_archive::Whiteout::Opaque(Some(at))) => {
                    self.names.retain(|name, _| name == &at || !name.is_in(&at));
                }
                Some(courier_archive::Whiteout::Opaque(None)) => self.names.clear(),
                None => {}
            }
        }
        let mut things = BTreeMap::new();
        for (header, _) in sorted.iter().filter(|(header, _)| header.whiteout().is_none()) {
            self.parents(header)?;
            let is_folder = |thing: &Thing| thing.what == What::Folder;
            let stays = header.kind == Kind::Directory
                && self.names.get(&header.path).is_some_and(is_folder);
            if !stays {
                self.remove(&header.path);
            }
            // All names of one thing in a layer are names of what the first of them was.
            let (first, content) = first_of(&sorted, header);
            let thing = match things.get(&first.path) {
                Some(thing) => Thing::clone(thing),
                None => self.thing(first, what_of(first, content)),
            };
            things.insert(first.path.clone(), thing.clone());
            self.names.insert(header.path.clone(), thing);
        }
        Ok(())
    }

    fn parents(&mut self, header: &Header) -> Result<(), Unfit> {
        let mut above: Vec<EntryPath> =
            std::iter::successors(header.path.parent(), EntryPath::parent).collect();
        above.reverse();
        for parent in above {
            match self.names.get(&parent).map(|thing| &thing.what) {
                Some(What::Folder) => {}
                Some(_) => return Err(Unfit),
                None => {
                    let mut implied = Header::new(parent.clone(), Kind::Directory);
                    implied.mtime = header.mtime;
                    let thing = self.thing(&implied, What::Folder);
                    self.names.insert(parent, thing);
                }
            }
        }
        Ok(())
    }

    /// What every image has besides its layers.
    fn place_guest(&mut self) {
        let (mut daemon, content) = file("usr/local/bin/courier-guest", DAEMON);
        daemon.mode = 0o755;
        let mut entries = vec![(daemon, content)];
        entries.push(symlink("usr/bin/sudo", "/usr/local/bin/courier-guest"));
        for (name, mode) in [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("tmp", 0o1777)] {
            let (mut header, _) = folder(name);
            header.mode = mode;
            entries.push((header, Vec::new()));
        }
        self.apply(&entries).unwrap();
    }
}

/// What a hard link is a link to in the end; what is none, itself.
fn first_of<'a>(layer: &'a [(Header, Vec<u8>)], header: &'a Header) -> (&'a Header, &'a [u8]) {
    let mut path = &header.path;
    loop {
        let (header, content) = layer.iter().find(|(other, _)| other.path == *path).unwrap();
        match &header.kind {
            Kind::Hardlink { target } => path = target,
            _ => return (header, content),
        }
    }
}

fn what_of(header: &Header, content: &[u8]) -> What {
    match &header.kind {
        Kind::Directory => What::Folder,
        Kind::File { .. } => What::File(content.to_vec()),
        Kind::Symlink { target } => What::Symlink(target.clone()),
        Kind::Fifo => What::Fifo,
        Kind::Hardlink { .. } => unreachable!("a link leads to what is none"),
    }
}

/// Names for generated paths: few, so that layers meet; one sorts before `.`, one before `/`.
const NAMES: [&str; 5] = ["a", "b", "-c", "a.d", "e\u{ff}"];

/// Sizes about the boundaries of blocks.
const SIZES: [usize; 7] = [0, 1, 100, 4_095, 4_096, 4_097, 9_000];

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..4).prop_map(|names| names.join("/"))
}

fn any_entry() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let content = (prop::sample::select(&SIZES[..]), any::<u8>());
    let entry =
        (0..9_u8, any_path(), any_path(), content).prop_map(|(kind, at, other, (size, byte))| {
            match kind {
                0..=2 => file(&at, vec![byte; size]),
                3 | 4 => folder(&at),
                // Never a folder's name, so nothing is below it.
                5 => symlink(&format!("{at}s"), &other),
                6 => gone(&at),
                7 => opaque(&at),
                _ => fifo(&at),
            }
        });
    (entry, 0..8_u32, (-2..3_i64, 0..1_000_000_000_u32)).prop_map(
        |((mut header, data), n, time)| {
            if header.whiteout().is_none() {
                header.mode ^= n << 9 | n;
                (header.uid, header.gid) = (n * 70_000, n);
                header.mtime = time;
            }
            (header, data)
        },
    )
}

/// Entries of which a tar can be made: no name twice, nothing below what is no folder; with links to
/// some of them, here and there.
fn any_layer() -> impl Strategy<Value = Vec<(Header, Vec<u8>)>> {
    let links = prop::collection::vec((any_path(), any::<prop::sample::Index>()), 0..4);
    (prop::collection::vec(any_entry(), 1..12), links).prop_map(|(entries, links)| {
        let mut layer: Vec<(Header, Vec<u8>)> = Vec::new();
        for entry in entries {
            if fits(&layer, &entry.0) {
                layer.push(entry);
            }
        }
        for (at, target) in links {
            let targets: Vec<Header> = layer
                .iter()
                .map(|(header, _)| header.clone())
                .filter(|header| header.kind != Kind::Directory && header.whiteout().is_none())
                .collect();
            if targets.is_empty() {
                break;
            }
            let target = target.get(&targets);
            // Nothing is ever below a symbolic link's other name either.
            let is_symlink = target.path.name().ends_with(b"s");
            let at = if is_symlink { format!("{at}s") } else { at };
            let (entry, _) = link(&at, std::str::from_utf8(target.path.as_bytes()).unwrap());
            let header = Header { path: entry.path, kind: entry.kind, ..target.clone() };
            if fits(&layer, &header) {
                layer.push((header, Vec::new()));
            }
        }
        layer
    })
}

fn fits(layer: &[(Header, Vec<u8>)], new: &Header) -> bool {
    layer.iter().all(|(old, _)| {
        let is_folder = |header: &Header| header.kind == Kind::Directory;
        let is_below = |low: &Header, high: &Header| low.path.is_in(&high.path) && !is_folder(high);
        old.path != new.path && !is_below(new, old) && !is_below(old, new)
    })
}

/// Compares an image read back with the model.
fn compare(model: &Model, read: &Names) -> Result<(), TestCaseError> {
    let expected: BTreeSet<&[u8]> = model.names.keys().map(EntryPath::as_bytes).collect();
    let found: BTreeSet<&[u8]> = read.keys().map(Vec::as_slice).collect();
    prop_assert_eq!(expected, found);
    let mut inodes: BTreeMap<usize, u64> = BTreeMap::new();
    for (name, thing) in &model.names {
        let found = &read[name.as_bytes()];
        let links = match thing.what {
            What::Folder => {
                let is_subfolder = |(other, below): &(&EntryPath, &Thing)| {
                    below.what == What::Folder && other.parent().as_ref() == Some(name)
                };
                2 + model.names.iter().filter(is_subfolder).count()
            }
            _ => model.names.values().filter(|other| other.number == thing.number).count(),
        };
        let inode = *inodes.entry(thing.number).or_insert(found.inode);
        let expected = Found {
            what: thing.what.clone(),
            mode: thing.mode,
            owner: thing.owner,
            mtime: thing.mtime,
            links: u32::try_from(links).unwrap(),
            inode,
        };
        prop_assert_eq!(&expected, found, "{}", name);
    }
    let distinct: BTreeSet<u64> = inodes.values().copied().collect();
    prop_assert_eq!(distinct.len(), inodes.len(), "two things are one inode");
    Ok(())
}

proptest! {
    #![proptest_config(Config::with_cases(256))]

    #[test]
    fn an_image_is_its_layers_laid_on_each_other(
        layers in prop::collection::vec(any_layer(), 1..5),
    ) {
        let rig = Rig::new();
        let mut model = Model::default();
        let mut digests = Vec::new();
        let mut fits = true;
        for layer in &layers {
            digests.push(rig.add(layer).digest);
            fits = fits && model.apply(layer).is_ok();
        }
        let image = rig.store.image(&digests);
        prop_assert_eq!(fits, image.is_ok(), "{:?}", image);
        if let Ok(image) = image {
            model.place_guest();
            compare(&model, &read_back::read(&image))?;
        }
    }

    #[test]
    fn the_order_of_a_tars_entries_does_not_matter(
        (layer, shuffled) in any_layer()
            .prop_flat_map(|layer| (Just(layer.clone()), Just(layer).prop_shuffle())),
    ) {
        // Links stay behind what they are links to.
        let (links, others): (Vec<_>, Vec<_>) = shuffled
            .into_iter()
            .partition(|(header, _)| matches!(header.kind, Kind::Hardlink { .. }));
        let mut again = others;
        for (header, _) in &layer {
            again.extend(links.iter().find(|(other, _)| other.path == header.path).cloned());
        }
        let rig = Rig::new();
        prop_assert_eq!(rig.add(&layer), rig.add(&again));
        prop_assert_eq!(rig.names("layers").len(), 1);
        prop_assert_eq!(rig.names("temporary").len(), 0);
    }
}

#[test]
fn the_model_tells_layers_that_do_not_fit() {
    let mut model = Model::default();
    model.apply(&[file("a", "1")]).unwrap();
    assert!(model.apply(&[file("a/b", "2")]).is_err());
}
