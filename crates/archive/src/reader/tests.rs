use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::Writer;

fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

/// A block whose fields are `edit`ed before its checksum is made.
fn block(name: &str, kind: u8, edit: impl FnOnce(&mut Block)) -> Vec<u8> {
    let mut block = Block::zero();
    block.put(block::NAME, name.as_bytes());
    for field in [block::MODE, block::UID, block::GID, block::SIZE, block::MTIME] {
        block.put_octal(field, 0);
    }
    edit(&mut block);
    block.seal(kind);
    block.0.to_vec()
}

fn entry(name: &str, kind: u8) -> Vec<u8> {
    block(name, kind, |_| {})
}

fn link(name: &str, kind: u8, target: &str) -> Vec<u8> {
    block(name, kind, |block| block.put(block::LINK, target.as_bytes()))
}

/// An extended header or a file with that content.
fn with_content(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = block(name, kind, |block| {
        assert!(block.put_octal(block::SIZE, content.len() as u64));
    });
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|length: &usize| *length == rest + length.to_string().len()).unwrap();
    with_content("x", b'x', format!("{length} {key}={value}\n").as_bytes())
}

fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK_BYTES]
}

/// What an archive holds: headers and contents.
fn read_with(bytes: &[u8], bounds: Bounds) -> Result<Vec<(Header, Vec<u8>)>, ReadError> {
    let mut reader = Reader::new(bytes, bounds);
    let mut entries = Vec::new();
    while let Some(mut entry) = reader.next_entry()? {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).ok();
        entries.push((entry.header, content));
    }
    Ok(entries)
}

fn read(parts: &[Vec<u8>]) -> Result<Vec<(Header, Vec<u8>)>, ReadError> {
    read_with(&[parts.concat(), end()].concat(), Bounds::CONTEXT)
}

#[track_caller]
fn refused(parts: &[Vec<u8>]) -> String {
    read(parts).unwrap_err().to_string()
}

#[track_caller]
fn names(parts: &[Vec<u8>]) -> Vec<String> {
    read(parts).unwrap().iter().map(|(header, _)| header.path.to_string()).collect()
}

#[test]
fn what_is_wrong_with_an_entry_is_told_with_its_name() {
    assert_eq!(
        refused(&[entry("a", b'0'), entry("../b", b'0')]),
        "entry 2 (\"../b\") of the archive: the path leads upwards by '..'"
    );
    for (name, told) in [
        ("/etc/passwd", "the path is absolute"),
        ("a/../b", "the path leads upwards by '..'"),
        ("a//b", "the path has an empty or '.' component"),
        ("a/", "the path has an empty or '.' component"),
        ("", "the path is empty"),
        (".", "only a folder can be the root"),
    ] {
        let message = refused(&[entry(name, b'0')]);
        assert!(message.ends_with(told) && message.contains(name), "{name:?}: {message}");
    }
    let nul = refused(&[pax("path", "a\0b"), entry("a", b'0')]);
    assert!(nul.contains("(\"a\\x00b\")") && nul.ends_with("contains a NUL"), "{nul}");
    let long = refused(&[pax("path", &"a/".repeat(3_000)), entry("a", b'0')]);
    assert!(long.ends_with("longer than 4094 bytes") && long.len() < 600, "{long}");
}

#[test]
fn only_known_kinds_are_taken() {
    for (kind, told) in [
        (b'3', "devices are not taken"),
        (b'4', "devices are not taken"),
        (b'S', "sparse files are not taken"),
        (b'7', "entries of type 7 are not taken"),
        (b'\n', "entries of type \\n are not taken"),
        (b'D', "entries of type D are not taken"),
    ] {
        assert!(refused(&[entry("dev", kind)]).ends_with(told));
    }
    let sparse = refused(&[pax("GNU.sparse.major", "1"), entry("a", b'0')]);
    assert!(sparse.ends_with("sparse files are not taken"), "{sparse}");
    let bytes = [entry("dev/null", b'3'), entry("a", b'6'), end()].concat();
    let entries = read_with(&bytes, Bounds::LAYER).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].0.kind, Kind::Fifo);
}

#[test]
fn nothing_is_said_twice_or_below_what_is_no_folder() {
    for parts in [
        [entry("a", b'0'), entry("a", b'0')],
        [entry("a", b'0'), entry("./a", b'6')],
        [entry("a/b", b'0'), link("a", b'2', "/etc")],
        [entry("a", b'5'), link("a", b'2', "/etc")],
        [entry("a", b'5'), block("a", b'5', |block| assert!(block.put_octal(block::MODE, 0o700)))],
    ] {
        assert!(refused(&parts).ends_with("the path comes twice"));
    }
    let below = refused(&[link("a", b'2', "/etc"), entry("a/passwd", b'0')]);
    assert!(
        below.ends_with("(\"a/passwd\") of the archive: a above it is not a folder"),
        "{below}"
    );
    assert_eq!(names(&[entry("a/b/c", b'0'), entry("a", b'5'), entry("a/", b'5')]), ["a/b/c", "a"]);
}

#[test]
fn a_hard_link_leads_to_an_earlier_file() {
    assert_eq!(names(&[entry("a", b'0'), link("b", b'1', "./a")]), ["a", "b"]);
    for parts in [
        [link("b", b'1', "a"), entry("a", b'0')],
        [entry("a", b'5'), link("b", b'1', "a")],
        [entry("a", b'0'), link("b", b'1', "/a")],
        [entry("a", b'0'), link("b", b'1', "../a")],
        [entry("a", b'0'), link("b", b'1', "")],
    ] {
        let message = refused(&parts);
        assert!(message.contains("\"b\""), "{message}");
    }
    assert!(refused(&[link("a", b'2', "")]).contains("target of the link"));
}

#[test]
fn sizes_never_have_two_meanings() {
    let huge = block("a", b'0', |block| {
        block.put(block::SIZE, &[&[0x80][..], &[0xff; 11]].concat());
    });
    assert!(refused(&[huge]).ends_with("the size is not a number in its range"));
    let near = block("a", b'0', |block| {
        block.put(block::SIZE, &[&[0x80, 0, 0, 0][..], &[0xff; 8]].concat());
    });
    assert!(refused(&[near]).ends_with("the size is not a number in its range"));
    let negative = block("a", b'0', |block| block.put(block::SIZE, &[0xff; 12]));
    assert!(refused(&[negative]).ends_with("the size is not a number in its range"));
    let two = [pax("size", "512"), with_content("a", b'0', b"123")];
    assert!(refused(&two).ends_with("say the same thing twice, or disagree"));
    for kind in *b"1256" {
        let content = with_content("a", kind, b"entry");
        assert!(!refused(&[content]).is_empty());
    }
    let long = [with_content("x", b'L', b"b\0"), pax("path", "c"), entry("a", b'0')];
    assert!(refused(&long).ends_with("say the same thing twice, or disagree"));
    assert_eq!(names(&[with_content("x", b'L', b"b\0"), entry("a", b'0')]), ["b"]);
    assert!(refused(&[pax("path", "b"), pax("path", "c"), entry("a", b'0')]).contains("twice"));
}

#[test]
fn an_archive_that_ends_early_or_late_is_refused() {
    let file = with_content("a", b'0', b"1234");
    let whole = [file.clone(), end()].concat();
    for length in 0..whole.len() {
        let cut = read_with(&whole[..length], Bounds::CONTEXT).unwrap_err();
        assert!(matches!(cut.problem, Problem::Truncated), "of {length}: {cut}");
    }
    for behind in [&b"x"[..], &file] {
        let trailing = read_with(&[&whole, behind].concat(), Bounds::CONTEXT).unwrap_err();
        assert!(matches!(trailing.problem, Problem::Trailing));
    }
    let split = [file.clone(), vec![0; BLOCK_BYTES], file].concat();
    let trailing = read_with(&split, Bounds::CONTEXT).unwrap_err();
    assert!(matches!(trailing.problem, Problem::Trailing));
    assert!(read_with(&[whole, vec![0; 8 * BLOCK_BYTES]].concat(), Bounds::CONTEXT).is_ok());
    let lone = read(&[pax("path", "a")]).unwrap_err();
    assert!(matches!(lone.problem, Problem::Truncated));
}

#[test]
fn every_bound_ends_an_archive() {
    let parts = [entry("folder/a", b'0'), with_content("folder/b", b'0', &[7; 600])].concat();
    let bytes = [parts, end()].concat();
    let of = |bounds| read_with(&bytes, bounds).map(|entries| entries.len());
    assert_eq!(of(Bounds { entries: 2, bytes: 3_072, ..Bounds::CONTEXT }).unwrap(), 2);
    let told = |bounds| of(bounds).unwrap_err().problem;
    assert!(matches!(told(Bounds { entries: 1, ..Bounds::CONTEXT }), Problem::Entries { most: 1 }));
    let bytes_max = Bounds { bytes: 3_071, ..Bounds::CONTEXT };
    assert!(matches!(told(bytes_max), Problem::Bytes { most: 3_071 }));
    let paths = Bounds { path_bytes: 21, ..Bounds::CONTEXT };
    assert!(matches!(told(paths), Problem::Paths { most: 21 }));
    assert!(of(Bounds { path_bytes: 22, ..Bounds::CONTEXT }).is_ok());
}

#[test]
fn a_header_is_read_strictly() {
    let mut broken = entry("a", b'0');
    broken[0] = b'b';
    assert!(refused(&[broken]).ends_with("the checksum does not match"));
    let owner =
        block("a", b'0', |block| block.put(block::UID, &[0x80, 0, 0, 0, 0xff, 255, 255, 255]));
    assert!(refused(&[owner]).ends_with("the uid is not a number in its range"));
    assert!(refused(&[pax("gid", "4294967295"), entry("a", b'0')]).contains("the gid is not"));
    let far = [pax("mtime", "9999999999999"), entry("a", b'0')];
    assert!(refused(&far).contains("the mtime is not"));
    let mode = block("a", b'0', |block| assert!(block.put_octal(block::MODE, 0o104_755)));
    assert_eq!(read(&[mode]).unwrap()[0].0.mode, 0o4755);
    let global = with_content("x", b'g', b"12 size=123\n");
    assert!(refused(&[global, entry("a", b'0')]).contains("global extended headers"));
}

#[test]
fn whiteouts_are_only_taken_of_layers_and_only_where_they_say_something() {
    let hidden = entry("a/.wh.b", b'0');
    assert!(refused(std::slice::from_ref(&hidden)).contains("'.wh.'"));
    let bytes = [hidden, entry("a/b", b'0'), end()].concat();
    let entries = read_with(&bytes, Bounds::LAYER).unwrap();
    assert_eq!(entries[0].0.whiteout(), Some(crate::Whiteout::Of(path("a/b"))));
    for malformed in [entry(".wh.a", b'5'), with_content(".wh.a", b'0', b"x"), entry(".wh.", b'0')]
    {
        let bytes = [malformed, end()].concat();
        let told = read_with(&bytes, Bounds::LAYER).unwrap_err();
        assert!(matches!(told.problem, Problem::Whiteout));
    }
}

#[test]
fn nothing_is_read_after_an_error() {
    let bytes = [entry("/a", b'0'), entry("b", b'0'), end()].concat();
    let mut reader = Reader::new(&bytes[..], Bounds::CONTEXT);
    assert!(reader.next_entry().is_err());
    assert!(matches!(reader.next_entry().unwrap_err().problem, Problem::Refused));
}

#[test]
fn what_common_programs_write_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = "n".repeat(120);
    std::fs::create_dir_all(folder.path().join("tree").join(&long)).unwrap();
    std::fs::write(folder.path().join("tree/file"), vec![7; 1_000]).unwrap();
    std::fs::hard_link(folder.path().join("tree/file"), folder.path().join("tree/hard")).unwrap();
    std::os::unix::fs::symlink(format!("/{long}"), folder.path().join("tree/soft")).unwrap();
    for format in ["gnu", "pax", "ustar"] {
        let mut command = std::process::Command::new("tar");
        let command = command.arg(format!("--format={format}")).args(["--sort=name", "-c"]);
        // The oldest format has no room for long names.
        let is_long = format != "ustar";
        let command =
            if is_long { command } else { command.args(["--exclude=soft", "--exclude=n*"]) };
        let output = command.arg("-C").arg(folder.path()).arg("./tree").output().unwrap();
        let entries = read_with(&output.stdout, Bounds::CONTEXT).unwrap();
        let file = &entries.iter().find(|(header, _)| header.path == path("tree/file")).unwrap();
        assert_eq!(file.1, [7; 1_000], "{format}");
        let hard = entries.iter().find(|(header, _)| header.path == path("tree/hard")).unwrap();
        assert_eq!(hard.0.kind, Kind::Hardlink { target: path("tree/file") }, "{format}");
        let deep = path(&format!("tree/{long}"));
        assert_eq!(entries.iter().any(|(header, _)| header.path == deep), is_long, "{format}");
        let soft = entries.iter().find(|(header, _)| header.path == path("tree/soft"));
        let target = format!("/{long}").into_bytes();
        let expected = is_long.then_some(Kind::Symlink { target });
        assert_eq!(soft.map(|(header, _)| header.kind.clone()), expected, "{format}");
    }
}

/// A name of one component.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-c]{1,2}".prop_map(String::into_bytes),
        prop::collection::vec(1..=255_u8, 1..200)
            .prop_map(|name| name.into_iter().map(|b| if b == b'/' { b'_' } else { b }).collect()),
    ]
}

/// A header whose link, if it is one, has yet to be given a target.
fn header() -> impl Strategy<Value = Header> {
    let numbers = (0..0o10000_u32, 0..u32::MAX, 0..u32::MAX);
    let mtime = (-(1_i64 << 40)..=1 << 40, prop_oneof![Just(0), 0..1_000_000_000_u32]);
    let xattr = ("user\\.[a-z=\n]{1,8}", prop::collection::vec(any::<u8>(), 0..64));
    let xattr = xattr.prop_map(|(name, value)| (name.into_bytes(), value));
    let xattrs = prop::collection::vec(xattr, 0..3);
    (prop::collection::vec(name(), 1..5), 0..5_u8, numbers, mtime, xattrs).prop_filter_map(
        "a path",
        |(names, kind, (mode, uid, gid), mtime, xattrs)| {
            let path = EntryPath::new(names.join(&b'/')).ok()?;
            let kind = match kind {
                0 => Kind::File { size: u64::from(uid) % 2_000 },
                1 => Kind::Directory,
                2 => Kind::Symlink { target: names.join(&b'/') },
                3 => Kind::Fifo,
                _ => Kind::Hardlink { target: path.clone() },
            };
            // A pax key ends at its first equals sign.
            let xattrs = xattrs.into_iter().filter(|(name, _)| !name.contains(&b'='));
            let xattrs: BTreeMap<_, _> = xattrs.collect();
            Some(Header { path, kind, mode, uid, gid, mtime, xattrs })
        },
    )
}

/// Entries of which none contradicts those before it.
fn entries(headers: Vec<Header>) -> Vec<Header> {
    let mut taken: Vec<Header> = Vec::new();
    for mut header in headers {
        let contradicts = taken.iter().any(|other| {
            other.path == header.path
                || other.path.is_in(&header.path)
                || (header.path.is_in(&other.path) && other.kind != Kind::Directory)
        });
        if contradicts || header.path.name().starts_with(b".wh.") {
            continue;
        }
        if let Kind::Hardlink { target } = &mut header.kind {
            let Some(other) = taken.iter().find(|other| other.kind != Kind::Directory) else {
                continue;
            };
            *target = other.path.clone();
        }
        taken.push(header);
    }
    taken
}

proptest! {
    #[test]
    fn what_is_written_is_read(headers in prop::collection::vec(header(), 0..12)) {
        let headers = entries(headers);
        let content = |header: &Header| vec![header.mode as u8; header.size() as usize];
        let write = || {
            let mut writer = Writer::new(Vec::new());
            for header in &headers {
                writer.append(header, &content(header)[..]).unwrap();
            }
            writer.finish().unwrap()
        };
        let bytes = write();
        prop_assert_eq!(&bytes, &write());
        let expected: Vec<_> =
            headers.iter().map(|header| (header.clone(), content(header))).collect();
        prop_assert_eq!(read_with(&bytes, Bounds::CONTEXT).unwrap(), expected);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        headers in prop::collection::vec(header(), 0..4),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        seal in any::<bool>(),
    ) {
        let mut writer = Writer::new(Vec::new());
        for header in entries(headers) {
            writer.append(&header, io::repeat(0)).unwrap();
        }
        let mut bytes = writer.finish().unwrap();
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
            // Most edits would only break a checksum.
            if seal {
                let start = place / BLOCK_BYTES * BLOCK_BYTES;
                let mut block = Block(bytes[start..start + BLOCK_BYTES].try_into().unwrap());
                if block.format().is_some() {
                    block.seal(block.kind());
                    bytes[start..start + BLOCK_BYTES].copy_from_slice(&block.0);
                }
            }
        }
        for bounds in [Bounds::CONTEXT, Bounds::LAYER] {
            if let Ok(entries) = read_with(&bytes, bounds) {
                for (header, content) in entries {
                    prop_assert_eq!(content.len() as u64, header.size());
                }
            }
        }
    }
}

#[test]
fn no_link_leads_to_what_says_that_something_is_gone() {
    // In another order, the link would be the file and the whiteout a link.
    let archive = [entry(".wh.a", b'0'), link("!", b'1', ".wh.a"), end()].concat();
    let error = read_with(&archive, Bounds::LAYER).unwrap_err();
    assert!(matches!(error.problem, Problem::LinkTarget { .. }), "{error}");
}

#[test]
fn what_is_taken_can_be_written_and_taken_again() {
    // As many attributes as one extended header has room for, where the path stands in another one.
    let name = ["n".repeat(200).as_str(); 20].join("/");
    let mut records = Vec::new();
    for number in 0..15 {
        let value = "v".repeat(65_536);
        records.extend(pax_record(&format!("SCHILY.xattr.user.{number}"), &value));
    }
    let left = (1 << 20) - records.len() - 100;
    records.extend(pax_record("SCHILY.xattr.user.z", &"v".repeat(left)));
    let archive = [
        with_content("././@LongLink", b'L', name.as_bytes()),
        with_content("x", b'x', &records),
        entry("f", b'0'),
        end(),
    ]
    .concat();
    let error = read_with(&archive, Bounds::LAYER).map(|entries| {
        let mut writer = Writer::new(Vec::new());
        writer.append(&entries[0].0, std::io::empty()).unwrap();
        assert_eq!(read_with(&writer.finish().unwrap(), Bounds::LAYER).unwrap(), entries);
    });
    assert!(matches!(error.unwrap_err().problem, Problem::Xattr));
}

fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|length: &usize| *length == rest + length.to_string().len()).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}
