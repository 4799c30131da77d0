//! What the guest daemon of a real sandbox answers a build: layers, files put in place, an image
//! made fit. Needs root, runsc, mkfs.ext4 and mkfs.erofs.

#![expect(clippy::unwrap_used, reason = "its helpers are tests too")]

mod rig;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use courier_archive::{EntryPath, Header, Kind, Writer};
use courier_client::{ClientError, Refusal, full};
use courier_protocol::envd::build::Unpack;
use http::Method;
use rig::{CA, PRESET, Sandbox, status_of};

/// An image with some accounts, links and a folder.
fn fill(root: &Path) {
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/:/x\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nnode:x:1000:\n").unwrap();
    fs::write(root.join("etc/pip.conf"), "the image's own").unwrap();
    fs::create_dir_all(root.join("etc/ssl/certs")).unwrap();
    fs::write(root.join("etc/ssl/certs/ca-certificates.crt"), "SYSTEM\n").unwrap();
    fs::create_dir_all(root.join("folder/deep")).unwrap();
    for name in ["one", "two", "deep/three"] {
        fs::write(root.join("folder").join(name), name).unwrap();
    }
    fs::hard_link(root.join("folder/one"), root.join("folder/same")).unwrap();
    symlink("folder", root.join("link")).unwrap();
    fs::write(root.join("usr/bin/suid"), "x").unwrap();
    fs::set_permissions(root.join("usr/bin/suid"), fs::Permissions::from_mode(0o4755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_has_what_changed_since_the_mark_and_nothing_else() {
    let Some(sandbox) = Sandbox::start(fill).await else { return };
    let unmarked = sandbox.client.layer_changes().await.unwrap_err();
    assert!(unmarked.to_string().contains("nothing was marked"), "{unmarked}");
    sandbox.client.mark_layer().await.unwrap();
    assert_eq!(sandbox.changed().await, [""; 0], "looking changes nothing");
    sandbox.write("/folder/one", "changed").await;
    sandbox.write("/new/file", "new").await;
    sandbox.client.remove("/folder/two").await.unwrap();
    let changes = sandbox.changes().await;
    let names: Vec<_> = changes.iter().map(|(header, _)| header.path.to_string()).collect();
    assert_eq!(names, ["folder", "folder/.wh.two", "folder/one", "new", "new/file"]);
    assert_eq!(changes[2].1, b"changed");
    assert_eq!(changes[4].1, b"new");
    assert_eq!(sandbox.changed().await, [""; 0], "a layer that went out moves the mark");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_and_emptied_folders_are_told_rightly() {
    let Some(sandbox) = Sandbox::start(fill).await else { return };
    sandbox.client.mark_layer().await.unwrap();
    sandbox.client.remove("/folder").await.unwrap();
    sandbox.write("/folder", "a file now").await;
    assert_eq!(sandbox.changed().await, ["folder"], "what was below goes without saying");
    sandbox.client.remove("/folder").await.unwrap();
    sandbox.write("/folder/one", "again").await;
    assert_eq!(sandbox.changed().await, ["folder", "folder/one"]);
    sandbox.client.remove("/folder").await.unwrap();
    sandbox.write("/folder/other", "made anew").await;
    assert_eq!(sandbox.changed().await, ["folder", "folder/.wh..wh..opq", "folder/other"]);
    sandbox.client.remove("/folder").await.unwrap();
    assert_eq!(sandbox.changed().await, [".wh.folder"]);
    sandbox.write("/touched", "").await;
    sandbox.client.remove("/touched").await.unwrap();
    assert_eq!(sandbox.changed().await, [""; 0], "what came and went is no change");
    sandbox.write("/.wh.trick", "").await;
    let refused = sandbox.client.layer_changes().await.unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::Invalid));
    assert!(refused.to_string().contains("/.wh.trick cannot be in a template"), "{refused}");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_file_system_is_a_layer_without_what_the_daemon_put_there() {
    let Some(sandbox) = Sandbox::start(fill).await else { return };
    assert!(sandbox.read("/etc/ssl/certs/ca-certificates.crt").await.contains(CA));
    assert_eq!(sandbox.read("/etc/pip.conf").await, PRESET);
    let all = sandbox.all().await;
    let find = |path: &str| all.iter().find(|(header, _)| header.path.to_string() == path);
    for own in [
        "etc/resolv.conf",
        "etc/pip.conf",
        "usr/local/bin/courier-guest",
        "usr/local/share/ca-certificates/courier-sandbox.crt",
        "run/courier-guest.sock",
    ] {
        assert!(find(own).is_none(), "{own}");
    }
    for mount in ["proc", "sys", "dev"] {
        assert_eq!(find(mount).unwrap().0.kind, Kind::Directory, "{mount}");
        assert!(!all.iter().any(|(header, _)| {
            header.path.parent().is_some_and(|parent| parent.to_string() == mount)
        }));
    }
    assert_eq!(find("etc/ssl/certs/ca-certificates.crt").unwrap().1, b"SYSTEM\n");
    assert_eq!(find("link").unwrap().0.kind, Kind::Symlink { target: b"folder".to_vec() });
    let target = EntryPath::new("folder/one").unwrap();
    assert_eq!(find("folder/same").unwrap().0.kind, Kind::Hardlink { target });
    assert_eq!(find("usr/bin/suid").unwrap().0.mode, 0o755, "no layer has set-ID bits");
    assert_eq!(all, sandbox.all().await, "the same files make the same layer");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_a_step_changed_is_in_the_layer_without_our_ca() {
    let Some(sandbox) = Sandbox::start(fill).await else { return };
    sandbox.client.mark_layer().await.unwrap();
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    sandbox.write(bundle, &format!("A\n{CA}B\n")).await;
    sandbox.write("/etc/pip.conf", "the step's own").await;
    sandbox.write("/etc/resolv.conf", "nameserver 9.9.9.9").await;
    let changes = sandbox.changes().await;
    let names: Vec<_> = changes.iter().map(|(header, _)| header.path.to_string()).collect();
    assert_eq!(names, ["etc/pip.conf", &bundle[1..]]);
    assert_eq!(changes[0].1, b"the step's own");
    assert_eq!(changes[1].1, b"A\nB\n");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_made_fit_as_often_as_one_likes() {
    let Some(sandbox) = Sandbox::start(fill).await else { return };
    let first = sandbox.client.provision().await.unwrap();
    assert_eq!(first.missing, ["/bin/sh", "/bin/bash"]);
    assert_eq!((first.user.name.as_str(), first.user.uid, first.user.gid), ("user", 1001, 1001));
    assert_eq!((first.user.home.as_str(), first.package_manager.as_deref()), ("/home/user", None));
    let group = sandbox.read("/etc/group").await;
    assert_eq!(group, "root:x:0:\nnode:x:1000:\nuser:x:1001:\nsudo:x:999:user\n");
    sandbox.client.mark_layer().await.unwrap();
    assert_eq!(sandbox.client.provision().await.unwrap(), first);
    assert_eq!(sandbox.changed().await, [""; 0], "what is fit stays as it is");
    assert_eq!(sandbox.read("/etc/group").await, group);
    let all = sandbox.all().await;
    let find = |path: &str| all.iter().find(|(header, _)| header.path.to_string() == path);
    let home = &find("home/user").unwrap().0;
    assert_eq!((home.mode, home.uid, home.gid), (0o755, 1001, 1001));
    assert_eq!(find("tmp").unwrap().0.mode, 0o1777);
    assert!(find("usr/bin/sudo").is_none());
    assert_eq!(sandbox.client.add_user("app").await.unwrap().uid, 1002);
    assert_eq!(sandbox.client.add_user("app").await.unwrap().uid, 1002);
    assert_eq!(sandbox.client.add_user("node").await.unwrap().uid, 1000);
    let refused = sandbox.client.add_user("a:b").await.unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::Invalid), "{refused}");
    assert_eq!(status_of(&sandbox, Method::GET, "/provision").await, 405);
    sandbox.stop().await;
}

/// An archive of files with their contents, and of links.
fn archive(files: &[(&str, &str)], links: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, text) in files {
        let kind = Kind::File { size: text.len() as u64 };
        let header = Header::new(EntryPath::new(*path).unwrap(), kind);
        writer.append(&header, text.as_bytes()).unwrap();
    }
    for (path, target) in links {
        let kind = Kind::Symlink { target: target.as_bytes().to_vec() };
        let header = Header::new(EntryPath::new(*path).unwrap(), kind);
        writer.append(&header, std::io::empty()).unwrap();
    }
    writer.finish().unwrap()
}

async fn copy(
    sandbox: &Sandbox,
    archive: &[u8],
    source: &str,
    destination: &str,
) -> Result<u64, ClientError> {
    let unpack = Unpack {
        source: source.into(),
        destination: destination.into(),
        workdir: "/work".into(),
        ..Unpack::default()
    };
    sandbox.client.unpack(&unpack, full(archive.to_vec())).await.map(|done| done.entries)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_into_a_sandbox_as_docker_does_it() {
    let Some(sandbox) = Sandbox::start(fill).await else { return };
    let sandbox = &sandbox;
    let files = archive(&[("a.txt", "a"), ("src/b.txt", "b"), ("src/sub/c.txt", "c")], &[]);
    assert_eq!(copy(sandbox, &files, "a.txt", "as.txt").await.unwrap(), 1);
    assert_eq!(sandbox.read("/work/as.txt").await, "a");
    copy(sandbox, &files, "a.txt", "/into/").await.unwrap();
    assert_eq!(sandbox.read("/into/a.txt").await, "a");
    // The image's own link on the way is followed.
    assert_eq!(copy(sandbox, &files, "src", "/link").await.unwrap(), 2);
    assert_eq!(sandbox.read("/folder/sub/c.txt").await, "c");
    assert_eq!(sandbox.read("/folder/two").await, "two", "folders are merged");
    assert_eq!(copy(sandbox, &files, ".", "all").await.unwrap(), 3);
    assert_eq!(sandbox.read("/work/all/src/b.txt").await, "b");
    let big = "x".repeat(3 << 20);
    copy(sandbox, &archive(&[("big", &big)], &[]), "big", "/big").await.unwrap();
    assert!(sandbox.read("/big").await == big);
    let missing = copy(sandbox, &files, "none", "/x").await.unwrap_err();
    assert_eq!(missing.refusal(), Some(Refusal::NotFound), "{missing}");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_archive_writes_through_a_link_or_out_of_its_folder() {
    let Some(sandbox) = Sandbox::start(fill).await else { return };
    let sandbox = &sandbox;
    // A link of the image below the destination is not followed.
    let through = archive(&[("link/planted", "x")], &[]);
    let refused = copy(sandbox, &through, ".", "/").await.unwrap_err();
    assert!(refused.to_string().starts_with("link/planted cannot be copied"), "{refused}");
    // Nor one of another part of the same copy.
    let links = archive(&[("b/e/planted", "x")], &[("a/e", "/etc")]);
    let refused = copy(sandbox, &links, "*", "/out/").await.unwrap_err();
    assert!(refused.to_string().contains("a/e"), "{refused}");
    // A header that the writer would never make.
    let mut climbing = archive(&[("xx/etc", "x")], &[]);
    climbing[..2].copy_from_slice(b"..");
    let sum: u32 =
        (0..512).filter(|at| !(148..156).contains(at)).map(|at| u32::from(climbing[at])).sum();
    climbing[148..154].copy_from_slice(format!("{:06o}", sum + 8 * 32).as_bytes());
    let refused = copy(sandbox, &climbing, ".", "/deep/er/").await.unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::Invalid));
    assert!(refused.to_string().contains("entry 1 (\"../etc\")"), "{refused}");
    let refused = copy(sandbox, b"no archive at all", ".", "/x").await.unwrap_err();
    assert!(refused.to_string().contains("ends here"), "{refused}");
    sandbox.stop().await;
}
