//! The RPCs against a real file system, as the user who runs the tests.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use courier_protocol::envd::filesystem::{EventType, FileType, FilesystemEvent};
use futures_util::StreamExt as _;

use super::*;
use crate::user::Accounts;

/// A sandbox's root with a user, and a folder of theirs to work in.
struct Fixture {
    root: tempfile::TempDir,
    context: Context,
    user: User,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(root.path()).unwrap().join("home");
        fs::create_dir_all(&home).unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let status = fs::metadata(&home).unwrap();
        let (uid, gid) = (status.uid(), status.gid());
        let passwd = format!("user:x:{uid}:{gid}::{}:/bin/sh\n", home.display());
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        fs::write(root.path().join("etc/group"), format!("staff:x:{gid}:\n")).unwrap();
        let context = Context::new(Accounts::under(root.path()));
        let user = context.user(None).unwrap();
        Self { root, context, user }
    }

    fn home(&self) -> &Path {
        &self.user.home
    }

    async fn make_dir(&self, path: &str) -> Result<EntryResponse, ConnectError> {
        make_dir(&self.context, &self.user, PathRequest { path: path.into() }).await
    }

    async fn stat(&self, path: &str) -> Result<EntryResponse, ConnectError> {
        stat(&self.context, &self.user, PathRequest { path: path.into() }).await
    }

    async fn write(&self, path: &str, text: &'static str) {
        let body = crate::http::full(text);
        let request = http::Request::post(format!("/files?path={path}"))
            .header("content-type", "application/octet-stream")
            .body(body)
            .unwrap();
        let response = crate::files::handle(&self.context, request).await;
        assert_eq!(response.status(), 200);
    }

    fn watch(&self, path: &str, recursive: bool) -> WatchDirRequest {
        WatchDirRequest { path: path.into(), recursive, ..WatchDirRequest::default() }
    }

    async fn polled(&self, request: WatchDirRequest) -> String {
        create_watcher(&self.context, &self.user, request).await.unwrap().watcher_id
    }

    async fn poll(&self, id: &str) -> Result<Vec<FilesystemEvent>, ConnectError> {
        let request = WatcherRequest { watcher_id: id.into() };
        Ok(get_watcher_events(&self.context, &self.user, request).await?.events)
    }

    #[track_caller]
    fn assert_told(events: &[FilesystemEvent], expected: &[(&str, EventType)]) {
        let told: Vec<_> = events.iter().map(|event| (event.name.as_str(), event.kind())).collect();
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn directories_are_made_with_their_parents_and_only_once() {
    let fixture = Fixture::new();
    let entry = fixture.make_dir("a/b/../c").await.unwrap().entry.unwrap();
    assert_eq!(entry.path, fixture.home().join("a/c").to_str().unwrap());
    assert_eq!((entry.kind(), entry.permissions.as_str()), (FileType::Directory, "drwxr-xr-x"));
    assert_eq!((entry.owner.as_str(), entry.group.as_str()), ("user", "staff"));
    assert!(!fixture.home().join("a/b").exists(), "the path is normalised first");
    let again = fixture.make_dir("~/a").await.unwrap_err();
    assert_eq!(again.code, Code::AlreadyExists);
    fs::write(fixture.home().join("file"), "").unwrap();
    for path in ["file", "file/below"] {
        assert_eq!(fixture.make_dir(path).await.unwrap_err().code, Code::InvalidArgument, "{path}");
    }
    symlink("nowhere", fixture.home().join("broken")).unwrap();
    assert_eq!(fixture.make_dir("broken/x").await.unwrap_err().code, Code::InvalidArgument);
}

#[tokio::test]
async fn a_missing_path_is_not_found_and_a_bad_one_invalid() {
    let fixture = Fixture::new();
    let missing = fixture.stat("missing").await.unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
    let expected = format!("path '{}' does not exist", fixture.home().join("missing").display());
    assert_eq!(missing.message, expected);
    assert_eq!(fixture.stat("a\0b").await.unwrap_err().code, Code::InvalidArgument);
    fs::write(fixture.home().join("file"), "").unwrap();
    assert_eq!(fixture.stat("file/x").await.unwrap_err().code, Code::InvalidArgument);
    symlink("circle", fixture.home().join("circle")).unwrap();
    let circle = fixture.stat("circle/x").await.unwrap_err();
    assert_eq!(circle.code, Code::InvalidArgument);
    assert!(circle.message.contains("Too many levels of symbolic links"), "{circle}");
}

#[tokio::test]
async fn a_move_makes_parents_and_takes_whatever_is_there() {
    let fixture = Fixture::new();
    fs::write(fixture.home().join("a"), "text").unwrap();
    let ask = |source: &str, destination: &str| {
        let request = MoveRequest { source: source.into(), destination: destination.into() };
        move_entry(&fixture.context, &fixture.user, request)
    };
    let entry = ask("a", "new/b").await.unwrap().entry.unwrap();
    assert_eq!((entry.name.as_str(), entry.size), ("b", 4));
    assert_eq!(ask("a", "c").await.unwrap_err().code, Code::NotFound);
    assert!(!fixture.home().join("c").exists());
    fs::create_dir(fixture.home().join("full")).unwrap();
    fs::write(fixture.home().join("full/x"), "").unwrap();
    assert_eq!(ask("new", "full").await.unwrap_err().code, Code::AlreadyExists);
}

#[tokio::test]
async fn removing_what_is_not_there_is_fine() {
    let fixture = Fixture::new();
    fixture.make_dir("a/b").await.unwrap();
    for _twice in 0..2 {
        let request = PathRequest { path: "a".into() };
        remove(&fixture.context, &fixture.user, request).await.unwrap();
    }
    assert!(!fixture.home().join("a").exists());
    let root = PathRequest { path: "/".into() };
    let refused = remove(&fixture.context, &fixture.user, root).await.unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument);
}

#[tokio::test]
async fn one_write_of_a_new_file_is_exactly_three_events() {
    let fixture = Fixture::new();
    let id = fixture.polled(fixture.watch("", false)).await;
    fixture.write("new.txt", "hello").await;
    let three =
        |name| [(name, EventType::Create), (name, EventType::Chmod), (name, EventType::Write)];
    Fixture::assert_told(&fixture.poll(&id).await.unwrap(), &three("new.txt"));
    assert_eq!(fixture.poll(&id).await.unwrap(), [], "a poll drains");
    let existing = fixture.home().join("d/e");
    fs::create_dir_all(&existing).unwrap();
    let id = fixture.polled(fixture.watch("", true)).await;
    fixture.write("d/e/new.txt", "hello").await;
    Fixture::assert_told(&fixture.poll(&id).await.unwrap(), &three("d/e/new.txt"));
}

#[tokio::test]
async fn a_directory_made_under_a_recursive_watch_is_watched_at_once() {
    let fixture = Fixture::new();
    let id = fixture.polled(fixture.watch("", true)).await;
    fixture.write("a/b/new.txt", "hello").await;
    fs::write(fixture.home().join("a/later"), "").unwrap();
    Fixture::assert_told(
        &fixture.poll(&id).await.unwrap(),
        &[
            ("a", EventType::Create),
            ("a", EventType::Chmod),
            ("a/b", EventType::Create),
            ("a/b", EventType::Chmod),
            ("a/b/new.txt", EventType::Create),
            ("a/b/new.txt", EventType::Chmod),
            ("a/b/new.txt", EventType::Write),
            ("a/later", EventType::Create),
        ],
    );
}

#[tokio::test]
async fn what_a_command_puts_into_a_new_directory_is_told_though_it_was_faster() {
    let fixture = Fixture::new();
    let id = fixture.polled(fixture.watch("", true)).await;
    fs::create_dir_all(fixture.home().join("x/y")).unwrap();
    fs::write(fixture.home().join("x/y/f"), "text").unwrap();
    fs::write(fixture.home().join("x/g"), "").unwrap();
    Fixture::assert_told(
        &fixture.poll(&id).await.unwrap(),
        &[
            ("x", EventType::Create),
            ("x/g", EventType::Create),
            ("x/y", EventType::Create),
            ("x/y/f", EventType::Create),
            ("x/y/f", EventType::Write),
        ],
    );
    fs::write(fixture.home().join("x/y/after"), "").unwrap();
    let events = fixture.poll(&id).await.unwrap();
    Fixture::assert_told(&events, &[("x/y/after", EventType::Create)]);
}

#[tokio::test]
async fn moves_and_removals_keep_the_names_right() {
    let fixture = Fixture::new();
    let home = fixture.home();
    fs::create_dir_all(home.join("a/deep")).unwrap();
    fs::create_dir(fixture.root.path().join("outside")).unwrap();
    let id = fixture.polled(fixture.watch("", true)).await;
    fs::rename(home.join("a"), home.join("b")).unwrap();
    fs::write(home.join("b/deep/f"), "").unwrap();
    Fixture::assert_told(
        &fixture.poll(&id).await.unwrap(),
        &[("a", EventType::Rename), ("b", EventType::Create), ("b/deep/f", EventType::Create)],
    );
    let outside = fixture.root.path().join("outside/b");
    fs::rename(home.join("b"), &outside).unwrap();
    Fixture::assert_told(&fixture.poll(&id).await.unwrap(), &[("b", EventType::Rename)]);
    fs::write(outside.join("deep/unseen"), "").unwrap();
    assert_eq!(fixture.poll(&id).await.unwrap(), [], "it is not below the root any more");
    fs::rename(&outside, home.join("c")).unwrap();
    fs::remove_file(home.join("c/deep/f")).unwrap();
    Fixture::assert_told(&fixture.poll(&id).await.unwrap(), &[("c", EventType::Create)]);
    fs::remove_dir_all(home.join("c/deep")).unwrap();
    Fixture::assert_told(
        &fixture.poll(&id).await.unwrap(),
        &[("c/deep/unseen", EventType::Remove), ("c/deep", EventType::Remove)],
    );
    fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
    Fixture::assert_told(&fixture.poll(&id).await.unwrap(), &[(".", EventType::Chmod)]);
}

#[tokio::test]
async fn events_carry_the_entry_when_asked_for_and_there() {
    let fixture = Fixture::new();
    let mut request = fixture.watch("", false);
    request.include_entry = true;
    let id = fixture.polled(request).await;
    fixture.write("f", "hello").await;
    let events = fixture.poll(&id).await.unwrap();
    assert!(events.iter().all(|event| event.entry.as_ref().unwrap().size == 5));
    let path = fixture.home().join("f");
    assert_eq!(events[0].entry.as_ref().unwrap().path, path.to_str().unwrap());
    fs::remove_file(path).unwrap();
    assert_eq!(fixture.poll(&id).await.unwrap()[0].entry, None);
}

#[tokio::test]
async fn a_stream_begins_with_start_and_ends_when_it_is_dropped() {
    let fixture = Fixture::new();
    let events = watch_dir(&fixture.context, &fixture.user, fixture.watch("", false));
    let mut events = Box::pin(events.await.unwrap());
    assert!(events.next().await.unwrap().unwrap().start.is_some());
    fixture.write("f", "hello").await;
    for kind in [EventType::Create, EventType::Chmod, EventType::Write] {
        let event = tokio::time::timeout(Duration::from_secs(5), events.next()).await.unwrap();
        assert_eq!(event.unwrap().unwrap().filesystem.unwrap().kind(), kind);
    }
    let free = fixture.context.watches().free_slots();
    drop(events);
    let freed = async {
        while fixture.context.watches().free_slots() == free {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), freed).await.expect("the slot is given back");
}

#[tokio::test]
async fn a_watch_of_nothing_or_of_a_file_is_refused() {
    let fixture = Fixture::new();
    fs::write(fixture.home().join("f"), "").unwrap();
    for (path, code) in [("missing", Code::NotFound), ("f", Code::InvalidArgument)] {
        let request = fixture.watch(path, true);
        let refused = create_watcher(&fixture.context, &fixture.user, request).await.unwrap_err();
        assert_eq!(refused.code, code, "{path}");
    }
    assert_eq!(fixture.context.watches().free_slots(), watch::WATCHES_MAX);
}

#[tokio::test]
async fn a_removed_watcher_is_unknown_and_its_slot_free() {
    let fixture = Fixture::new();
    let id = fixture.polled(fixture.watch("", false)).await;
    assert_eq!(fixture.context.watches().free_slots(), watch::WATCHES_MAX - 1);
    let request = WatcherRequest { watcher_id: id.clone() };
    remove_watcher(&fixture.context, &fixture.user, request.clone()).await.unwrap();
    assert_eq!(fixture.context.watches().free_slots(), watch::WATCHES_MAX);
    let unknown = fixture.poll(&id).await.unwrap_err();
    assert_eq!(unknown.message, format!("watcher with id {id} not found"));
    let again = remove_watcher(&fixture.context, &fixture.user, request).await.unwrap_err();
    assert_eq!(again.code, Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_nobody_polls_expires() {
    let fixture = Fixture::new();
    let request = fixture.watch("", false);
    let watches = fixture.context.watches();
    let slot = watches.slot().unwrap();
    let path = path::resolve(&request.path, fixture.home()).unwrap();
    let tree = Arc::new(Tree::watch(path, Scope::Directory).unwrap());
    let watch = Watch::new(tree, Detail::Name, fixture.context.accounts().clone(), slot);
    let id = watches.add_polled(watch).unwrap();
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    watches.poll(&id).unwrap();
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    watches.poll(&id).unwrap();
    tokio::time::sleep(Duration::from_secs(3_700)).await;
    assert!(matches!(watches.poll(&id), Err(FilesystemError::UnknownWatcher { .. })));
    assert_eq!(watches.free_slots(), watch::WATCHES_MAX);
}

#[tokio::test]
async fn lost_events_are_told_once_and_the_watch_goes_on() {
    let fixture = Fixture::new();
    let id = fixture.polled(fixture.watch("", false)).await;
    // More than the kernel's queue and ours hold. Nothing is awaited, so nothing is read meanwhile.
    for number in 0..20_000 {
        fs::write(fixture.home().join(number.to_string()), "x").unwrap();
    }
    let lost = fixture.poll(&id).await.unwrap_err();
    assert_eq!(lost.code, Code::DataLoss);
    while fixture.poll(&id).await.is_ok_and(|events| !events.is_empty()) {}
    fixture.write("f", "hello").await;
    assert_eq!(fixture.poll(&id).await.unwrap().len(), 3);
}

#[tokio::test]
async fn there_are_only_so_many_watches() {
    let fixture = Fixture::new();
    let slots: Vec<_> =
        (0..watch::WATCHES_MAX).map(|_| fixture.context.watches().slot().unwrap()).collect();
    let request = fixture.watch("", false);
    let full = create_watcher(&fixture.context, &fixture.user, request.clone()).await.unwrap_err();
    assert_eq!(full.code, Code::ResourceExhausted);
    drop(slots);
    create_watcher(&fixture.context, &fixture.user, request).await.unwrap();
}
