//! What Linux and the tools of EROFS's authors say about an image.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use courier_archive::Header;

use crate::read_back;
use crate::rig::{Rig, fifo, file, folder, link, symlink};

/// A tree with everything that is laid out in a way of its own.
fn everything() -> Vec<(Header, Vec<u8>)> {
    let mut entries = vec![folder("many"), folder("empty"), fifo("pipe"), link("z/link", "z/two")];
    for size in [0, 1, 4_031, 4_032, 4_033, 4_095, 4_096, 4_097, 300_000] {
        entries.push(file(&format!("f{size:06}"), content_of(size)));
        if (1..4_096).contains(&size) {
            entries.push(symlink(&format!("s{size:06}"), &"t".repeat(size)));
        }
    }
    // Folders with their last block behind the inode, too long for that, full, and of many blocks.
    for (folder, count, length) in
        [("d1", 2_000, 40), ("d2", 1, 255), ("d3", 15, 255), ("d4", 100, 26), ("d5", 3_000, 5)]
    {
        for number in 0..count {
            entries.push(file(&format!("many/{folder}/{number:0length$}"), "x"));
        }
    }
    entries.push(file("z/two", "two names"));
    entries.push(file("holes", [vec![1], vec![0; 1_000_000], vec![2]].concat()));
    let (mut old, content) = file("before-1970", "old");
    (old.mtime, old.mode) = ((-1_000, 999_999_999), 0o6751);
    (old.uid, old.gid) = (4_000_000_000, 70_000);
    old.xattrs.insert(b"user.name".to_vec(), b"value".to_vec());
    entries.push((old, content));
    // Links come behind what they are links to.
    let at = entries.iter().position(|(header, _)| header.path.name() == b"link").unwrap();
    let link = entries.remove(at);
    entries.push(link);
    entries
}

fn content_of(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn output(mut command: Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("left out: {command:?} is not installed");
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

#[test]
fn the_checker_of_erofs_finds_nothing_wrong() {
    let rig = Rig::new();
    let image = rig.store.image(&[rig.add(&everything()).digest]).unwrap();
    let Some(told) = checked(&image) else { return };
    assert!(!told.contains("<E>"), "{told}");
    // It does look: a changed first block has another checksum.
    let mut bytes = fs::read(&image).unwrap();
    bytes[4_000] ^= 1;
    fs::write(&image, bytes).unwrap();
    let told = checked(&image).unwrap();
    assert!(told.contains("chksum"), "{told}");
}

/// What the checker says; its status does not always tell.
fn checked(image: &Path) -> Option<String> {
    let mut check = Command::new("fsck.erofs");
    check.arg("--extract").arg(image);
    let output = output(check)?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn linux_reads_what_the_other_reader_reads() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: mounting needs root");
        return;
    }
    let rig = Rig::new();
    let image = rig.store.image(&[rig.add(&everything()).digest]).unwrap();
    let target = rig.folder.path().join("mounted");
    fs::create_dir(&target).unwrap();
    let listed = |format: &str, only: &str| {
        mounted(
            &image,
            &target,
            &format!("find . -mindepth 1 {only} -printf '{format}\\n' | LC_ALL=C sort"),
        )
    };
    let names = read_back::read(&image);
    let mut expected: Vec<String> = names
        .iter()
        .map(|(path, found)| {
            let (kind, size) = match &found.what {
                read_back::What::Folder => ('d', None),
                read_back::What::File(content) => ('f', Some(content.len())),
                read_back::What::Symlink(target) => ('l', Some(target.len())),
                read_back::What::Fifo => ('p', Some(0)),
            };
            let size = size.map_or_else(String::new, |size| size.to_string());
            let path = String::from_utf8(path.clone()).unwrap();
            let (uid, gid) = found.owner;
            format!("{path} {kind} {:o} {} {uid} {gid} {size}", found.mode, found.links)
        })
        .collect();
    expected.sort();
    let mut found = listed("%P %y %m %n %U %G %s", "! -type d");
    found += &listed("%P %y %m %n %U %G ", "-type d");
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    let script = "for f in f?????? holes z/link; do sha256sum < $f; done; readlink s004032 | wc -c; \
                  stat -c %y before-1970; ls many/d1 | wc -l; cat many/d1/*1999";
    let sums: String = [0, 1, 4_031, 4_032, 4_033, 4_095, 4_096, 4_097, 300_000]
        .map(content_of)
        .into_iter()
        .chain([[vec![1], vec![0; 1_000_000], vec![2]].concat(), b"two names".to_vec()])
        .map(|content| format!("{}  -\n", &courier_image::Digest::of(&content).to_string()[7..]))
        .collect();
    let rest = "4033\n1969-12-31 23:43:20.999999999 +0000\n2000\nx";
    assert_eq!(mounted(&image, &target, &format!("export TZ=UTC; {script}")), sums + rest);
}

/// What a script says in the root of an image that is mounted for it alone.
#[track_caller]
fn mounted(image: &Path, target: &Path, script: &str) -> String {
    let mount = "mount -o loop,ro -t erofs \"$1\" \"$2\" && cd \"$2\" && eval \"$3\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-euc", mount, "sh"])
        .args([image, target])
        .arg(script)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}
