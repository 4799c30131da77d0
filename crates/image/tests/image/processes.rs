//! What other processes do to a store: they hold it, die in it, and fill its disk.
//!
//! The other process is this test program, told to run one of the tests that are otherwise ignored,
//! in the folder of the store.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use courier_image::{HostError, ImageError, LayerError};

use crate::rig::{Rig, bounds, file, open, tar};

/// Longest time until another process does what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The file that tells the other process that it is one, and in the right folder.
const MARK: &str = "this-is-the-other-process";

/// Whether this is another process. Somebody may run all ignored tests.
fn is_other() -> bool {
    Path::new(MARK).exists()
}

/// Another process, which is killed when this goes.
struct Other(Child);

impl Other {
    fn new(test: &str, folder: &Path) -> Self {
        std::fs::write(folder.join(MARK), "").unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", test])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Waits for a line that it writes.
    fn says(&mut self, expected: &str) {
        let out = BufReader::new(self.0.stdout.as_mut().unwrap());
        let said = out.lines().any(|line| line.unwrap().contains(expected));
        assert!(said, "the other process ended without saying {expected:?}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
#[ignore = "run by the others as another process"]
fn other_holds_a_lease() {
    if !is_other() {
        return;
    }
    let store = open(Path::new("."), bounds());
    let _lease = store.lease().unwrap();
    store.add_layer(&*tar(&[file("a", "of another process")])).unwrap();
    println!("held");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
#[ignore = "run by the others as another process"]
fn other_adds_what_comes_in() {
    if !is_other() {
        return;
    }
    let store = open(Path::new("."), bounds());
    store.add_layer(std::io::stdin()).unwrap();
}

#[test]
#[ignore = "run by the others as another process"]
fn other_fills_the_disk() {
    if !is_other() {
        return;
    }
    let folder = Path::new(".");
    let store = open(folder, bounds());
    let noise: Vec<u8> = (0..400_000_u64)
        .flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect();
    // Three times the noise is more than the disk, in order and out of it.
    for names in [["a", "b", "c"], ["c", "b", "a"]] {
        let entries = names.map(|name| {
            let mut noise = noise.clone();
            noise.iter_mut().for_each(|byte| *byte ^= name.as_bytes()[0]);
            file(name, noise)
        });
        let error = store.add_layer(&*tar(&entries)).unwrap_err();
        let is_told = matches!(&error, LayerError::Host(HostError::Full { .. }));
        assert!(is_told && error.to_string().contains("the file system is full"), "{error}");
    }
    let zeros = ["a", "b"]
        .map(|name| store.add_layer(&*tar(&[file(name, vec![0; 5 << 20])])).unwrap().digest);
    let error = store.image(&zeros).unwrap_err();
    assert!(matches!(error, ImageError::Host(HostError::NoSpace { .. })), "{error}");
    for (folder, count) in [("temporary", 0), ("layers", 2), ("images", 0)] {
        assert_eq!(crate::rig::names(Path::new(folder)).len(), count, "{folder}");
    }
    store.add_layer(&*tar(&[file("a", "there is room again")])).unwrap();
    println!("it was full");
}

#[test]
fn what_another_process_uses_stays_until_it_is_gone() {
    let rig = Rig::new();
    let mut other = Other::new("processes::other_holds_a_lease", rig.folder.path());
    other.says("held");
    assert_eq!(rig.store.collect_garbage().unwrap().layers, 0);
    assert_eq!((rig.names("layers").len(), rig.names("leases").len()), (1, 1));
    drop(other);
    assert_eq!(rig.store.collect_garbage().unwrap().layers, 1);
    assert_eq!(rig.names("leases").len(), 0);
}

#[test]
fn a_process_that_is_killed_while_it_adds_a_layer_leaves_only_what_is_swept() {
    let Rig { store, folder } = Rig::new();
    drop(store);
    let mut other = Other::new("processes::other_adds_what_comes_in", folder.path());
    let tar = tar(&[file("a", vec![7; 1 << 20]), file("b", "never comes")]);
    other.0.stdin.as_mut().unwrap().write_all(&tar[..1 << 20]).unwrap();
    let temporary = folder.path().join("temporary");
    let began = Instant::now();
    while crate::rig::names(&temporary).is_empty() {
        assert!(began.elapsed() < PATIENCE, "the other process has begun nothing");
        std::thread::yield_now();
    }
    drop(other);
    assert_eq!(crate::rig::names(&temporary).len(), 1);
    let store = open(folder.path(), bounds());
    assert_eq!(crate::rig::names(&temporary).len(), 0);
    assert_eq!(crate::rig::names(&folder.path().join("layers")).len(), 0);
    store.add_layer(&*tar).unwrap();
}

#[test]
fn a_disk_that_becomes_full_is_told_and_nothing_is_left_on_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: mounting needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=8m none \"$1\" && cd \"$1\" && : > \"$3\" && \
                  exec \"$2\" --exact --ignored --nocapture \
                  processes::other_fills_the_disk";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-euc", script, "sh"])
        .args([folder.path(), &std::env::current_exe().unwrap(), Path::new(MARK)])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("it was full"), "{told}");
}
