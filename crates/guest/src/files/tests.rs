//! The HTTP API against a real file system, as the user who runs the tests.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::*;
use crate::http::{Body, BoxError, full};
use crate::user::Accounts;

/// A sandbox's root with a user.
struct Fixture {
    _root: tempfile::TempDir,
    context: Context,
    home: std::path::PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(root.path()).unwrap().join("home");
        fs::create_dir_all(&home).unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let status = fs::metadata(&home).unwrap();
        let line = format!("{}:{}::{}:/bin/sh", status.uid(), status.gid(), home.display());
        fs::write(root.path().join("etc/passwd"), format!("user:x:{line}\nada:x:{line}\n"))
            .unwrap();
        let context = Context::new(Accounts::under(root.path()));
        Self { _root: root, context, home }
    }

    async fn ask(&self, request: http::request::Builder, body: Body) -> Answer {
        let (head, body) = handle(&self.context, request.body(body).unwrap()).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { head, body }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = http::Request::get(format!("/files?path={path}"));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.ask(request, answers::empty()).await
    }

    async fn post(&self, query: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let request = http::Request::post(format!("/files{query}"));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.ask(request, body).await
    }

    async fn post_form(&self, query: &str, body: impl Into<Bytes>) -> Answer {
        self.post(query, &[("content-type", "multipart/form-data; boundary=XX")], full(body)).await
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.home.join(path)).unwrap()
    }
}

const RAW: (&str, &str) = ("content-type", "application/octet-stream");

struct Answer {
    head: http::response::Parts,
    body: Bytes,
}

impl Answer {
    #[track_caller]
    fn assert_error(&self, status: u16, part: &str) {
        let error: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(
            (self.head.status.as_u16(), &error["code"]),
            (status, &status.into()),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }

    fn json(&self) -> serde_json::Value {
        assert_eq!(self.head.status, 200, "{:?}", self.body);
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A form of files, each a path and its content.
fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (path, content) in files {
        let head = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{path}\"\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XX--\r\n");
    body
}

/// Bytes that do not repeat soon.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A body in frames of 16 KiB, as HTTP/2 has them.
fn framed(bytes: Vec<u8>) -> Body {
    let bytes = Bytes::from(bytes);
    let frames: Vec<_> = (0..bytes.len())
        .step_by(16_384)
        .map(|at| bytes.slice(at..bytes.len().min(at + 16_384)))
        .map(|bytes| Ok::<_, BoxError>(Frame::data(bytes)))
        .collect();
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

#[tokio::test]
async fn a_raw_upload_comes_back_byte_for_byte() {
    let fixture = Fixture::new();
    for length in [1, 70_000, 3_000_001] {
        let content = noise(length);
        let answer = fixture.post("?path=a/b.bin", &[RAW], framed(content.clone())).await;
        let path = fixture.home.join("a/b.bin");
        let path = path.to_str().unwrap();
        assert_eq!(
            answer.json(),
            serde_json::json!([{"name": "b.bin", "path": path, "type": "file"}])
        );
        let answer = fixture.get("a/b.bin", &[]).await;
        assert_eq!(answer.header("content-length"), Some(length.to_string().as_str()));
        assert!(answer.body == content, "of {length} bytes");
    }
    assert_eq!(fs::metadata(fixture.home.join("a/b.bin")).unwrap().mode() & 0o777, 0o644);
}

#[tokio::test]
async fn an_empty_file_says_so_in_its_length() {
    let fixture = Fixture::new();
    fixture.post("?path=empty", &[RAW], answers::empty()).await.json();
    for headers in [&[][..], &[("accept-encoding", "gzip")], &[("range", "bytes=0-")]] {
        let answer = fixture.get("empty", headers).await;
        assert_eq!(
            (answer.head.status.as_u16(), answer.header("content-length")),
            (200, Some("0"))
        );
        assert_eq!(answer.header("content-encoding"), None);
    }
}

#[tokio::test]
async fn a_form_writes_each_file_to_the_whole_path_of_its_name() {
    let fixture = Fixture::new();
    let absolute = fixture.home.join("x/abs.txt");
    let large = noise(1_500_000);
    let body = form(&[
        ("dir/one.txt", b"1"),
        (absolute.to_str().unwrap(), b"2"),
        ("~/large", &large),
        ("empty", b""),
    ]);
    let headers = [("content-type", "multipart/form-data; boundary=XX")];
    let answer = fixture.post("", &headers, framed(body)).await.json();
    let names: Vec<_> = answer.as_array().unwrap().iter().map(|file| &file["name"]).collect();
    assert_eq!(names, ["one.txt", "abs.txt", "large", "empty"]);
    assert_eq!(
        (fixture.read("dir/one.txt"), fixture.read("x/abs.txt")),
        (b"1".to_vec(), b"2".to_vec())
    );
    assert!(fixture.read("large") == large && fixture.read("empty").is_empty());
}

#[tokio::test]
async fn the_path_of_the_query_goes_before_the_name_of_the_part() {
    let fixture = Fixture::new();
    fixture.post_form("?path=there.txt", form(&[("here.txt", b"x")])).await.json();
    assert_eq!(fixture.read("there.txt"), b"x");
    assert!(!fixture.home.join("here.txt").exists());
    let answer = fixture.post_form("?path=twice", form(&[("a", b"1"), ("b", b"2")])).await;
    answer.assert_error(400, "multiple files to the same path");
    assert_eq!(fixture.read("twice"), b"1", "the first one was written");
    let same = fixture.post_form("?path=", form(&[("d/../a", b"1"), ("./a", b"2")])).await;
    same.assert_error(400, "multiple files to the same path");
}

#[tokio::test]
async fn gzip_goes_both_ways() {
    let fixture = Fixture::new();
    let content = [noise(700_000), vec![0; 900_000]].concat();
    fixture.post("?path=f", &[RAW], full(content.clone())).await.json();
    let packed = fixture.get("f", &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.header("vary"), Some("Accept-Encoding"));
    assert!(packed.body.len() < 750_000);
    let gzipped = [RAW, ("content-encoding", "gzip")];
    fixture.post("?path=g", &gzipped, framed(packed.body.to_vec())).await.json();
    assert!(fixture.read("g") == content);
    let headers =
        [("content-type", "multipart/form-data; boundary=XX"), ("content-encoding", "gzip")];
    fixture.post("?path=form", &[RAW], full(form(&[("h", b"in a form")]))).await.json();
    let packed = fixture.get("form", &[("accept-encoding", "gzip")]).await;
    fixture.post("", &headers, full(packed.body)).await.json();
    assert_eq!(fixture.read("h"), b"in a form");
    let small = fixture.get("h", &[("accept-encoding", "gzip, deflate")]).await;
    assert_eq!(&small.body[..], b"in a form", "a library's default list is no wish for gzip");
    fixture.post("?path=x", &gzipped, full("no gzip")).await.assert_error(400, "not valid gzip");
    let brotli = [RAW, ("content-encoding", "br")];
    fixture.post("?path=x", &brotli, full("x")).await.assert_error(400, "expected gzip");
    fixture.get("h", &[("accept-encoding", "br, *;q=0")]).await.assert_error(406, "identity");
}

#[tokio::test]
async fn ranges_and_conditions_are_answered_as_the_standard_says() {
    let fixture = Fixture::new();
    for length in [10, 2_000_000] {
        let content = noise(length);
        fixture.post("?path=f", &[RAW], full(content.clone())).await.json();
        let last = length - 1;
        let part = fixture.get("f", &[("range", "bytes=2-"), ("accept-encoding", "gzip")]).await;
        assert_eq!(part.head.status, 206);
        assert_eq!(part.header("content-range"), Some(format!("bytes 2-{last}/{length}").as_str()));
        assert!(part.body == content[2..]);
        let part = fixture.get("f", &[("range", "bytes=-3")]).await;
        assert_eq!(
            (part.header("content-length"), &part.body[..]),
            (Some("3"), &content[length - 3..])
        );
        let beyond = fixture.get("f", &[("range", "bytes=9999999-")]).await;
        assert_eq!(beyond.head.status, 416);
        assert_eq!(beyond.header("content-range"), Some(format!("bytes */{length}").as_str()));
        let whole = fixture.get("f", &[]).await;
        let (etag, modified) =
            (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
        for known in [("if-none-match", etag), ("if-modified-since", modified)] {
            let answer = fixture.get("f", &[known]).await;
            assert_eq!((answer.head.status.as_u16(), answer.body.len()), (304, 0));
        }
        let other = fixture.get("f", &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await;
        assert_eq!((other.head.status.as_u16(), other.body.len()), (200, length));
    }
}

#[tokio::test]
async fn files_without_a_true_length_are_read_to_their_end() {
    let fixture = Fixture::new();
    let answer = fixture.get("/proc/sys/kernel/random/boot_id", &[]).await;
    assert_eq!(answer.body.len(), 37);
    assert_eq!(answer.header("content-length"), Some("37"));
    let packed = fixture.get("/proc/self/status", &[("accept-encoding", "gzip")]).await;
    assert_eq!(&packed.body[..2], b"\x1f\x8b");
}

#[tokio::test]
async fn what_is_no_file_is_refused_without_waiting() {
    let fixture = Fixture::new();
    let fifo = fixture.home.join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.home.join("socket")).unwrap();
    for (path, kind) in [
        ("", "is a directory"),
        ("fifo", "FIFO"),
        ("socket", "socket"),
        ("/dev/null", "device"),
        ("%00", "NUL"),
        ("~root/x", "home directory"),
    ] {
        let deadline = Duration::from_secs(5);
        let get = tokio::time::timeout(deadline, fixture.get(path, &[])).await.unwrap();
        get.assert_error(400, kind);
        if !path.is_empty() {
            let query = format!("?path={path}");
            let post =
                tokio::time::timeout(deadline, fixture.post(&query, &[RAW], full("x"))).await;
            post.unwrap().assert_error(400, kind);
        }
    }
    fs::create_dir(fixture.home.join("dir")).unwrap();
    fixture.post("?path=dir", &[RAW], full("x")).await.assert_error(400, "is a directory");
    fixture.post("?path=fifo/x", &[RAW], full("x")).await.assert_error(400, "not a directory");
}

#[tokio::test]
async fn missing_paths_and_unknown_users_are_told_in_the_words_of_the_wire() {
    let fixture = Fixture::new();
    let expected = format!("path '{}' does not exist", fixture.home.join("a/b").display());
    fixture.get("a/b", &[]).await.assert_error(404, &expected);
    let unknown = fixture.get("a&username=nobody-here", &[]).await;
    unknown.assert_error(401, "invalid username: 'nobody-here'");
    let basic = fixture.get("a", &[("authorization", "Basic Ym9iOg==")]).await;
    basic.assert_error(401, "invalid username: 'bob'");
    fixture.post("?username=bob&path=x", &[RAW], full("x")).await.assert_error(401, "'bob'");
    fixture
        .get("missing&username=ada", &[("authorization", "Basic Ym9iOg==")])
        .await
        .assert_error(404, "does not exist");
}

#[tokio::test]
async fn an_upload_that_makes_no_sense_is_refused() {
    let fixture = Fixture::new();
    fixture.post("", &[RAW], full("x")).await.assert_error(400, "path query parameter is required");
    let text = [("content-type", "text/plain")];
    fixture.post("?path=x", &text, full("x")).await.assert_error(400, "unsupported content type");
    fixture.post_form("", form(&[("", b"x")])).await.assert_error(400, "needs a filename");
    fixture.post_form("", "--XX\r\nnonsense").await.assert_error(400, "ended before");
    let none = [("content-type", "multipart/form-data")];
    fixture.post("", &none, full("x")).await.assert_error(400, "no boundary");
    let long = format!("?path={}", "x".repeat(300));
    fixture.post(&long, &[RAW], full("x")).await.assert_error(400, "too long");
    fixture.post("?path=%zz", &[RAW], full("x")).await.assert_error(400, "hexadecimal");
    let put = fixture.ask(http::Request::put("/files?path=x"), full("x")).await;
    put.assert_error(405, "GET, HEAD, POST");
}

#[tokio::test]
async fn a_body_that_is_cut_off_fails_and_what_had_arrived_stays() {
    let fixture = Fixture::new();
    let frames = [
        Ok(Frame::data(Bytes::from(vec![7; 600_000]))),
        Ok(Frame::data(Bytes::from_static(b"more"))),
        Err(BoxError::from("connection reset")),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let answer = fixture.post("?path=f", &[RAW], body).await;
    answer.assert_error(400, "ended early");
    answer.assert_error(400, "connection reset");
    assert_eq!(fixture.read("f").len(), 600_000);
}

#[tokio::test]
async fn metadata_is_kept_and_replaced_by_the_next_write() {
    let fixture = Fixture::new();
    let first = [RAW, ("X-Metadata-Author", "Ada"), ("x-metadata-tag", "a b")];
    let answer = fixture.post("?path=f", &first, full("1")).await.json();
    assert_eq!(answer[0]["metadata"], serde_json::json!({"author": "Ada", "tag": "a b"}));
    let path = fixture.home.join("f");
    assert_eq!(metadata::read(&path).get("author").map(String::as_str), Some("Ada"));
    fixture.post("?path=f", &[RAW, ("x-metadata-tag", "c")], full("2")).await.json();
    assert_eq!(
        metadata::read(&path),
        metadata::Metadata::from([("tag".to_owned(), "c".to_owned())])
    );
    fixture.post("?path=f", &[RAW], full("3")).await.json();
    assert_eq!(metadata::read(&path), metadata::Metadata::new());
    let bad = fixture.post("?path=f", &[RAW, ("x-metadata-", "c")], full("4")).await;
    bad.assert_error(400, "metadata key");
    assert_eq!(fixture.read("f"), b"3");
}

#[tokio::test]
async fn a_full_disk_is_told_as_such() {
    let fixture = Fixture::new();
    // Every write to it fails as on a full disk, but it is a device: look through the device check.
    let full_disk = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let source = rustix::io::write(&full_disk, b"x").unwrap_err();
    let error = FilesError::from(FilesystemError::io("write", Path::new("/f"), source));
    let body = error.answer();
    assert_eq!(body.status(), StatusCode::INSUFFICIENT_STORAGE);
    let body = body.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&body);
    assert!(
        text.contains("not enough disk space available: cannot write '/f': No space"),
        "{text}"
    );
    drop(fixture);
}

#[tokio::test]
async fn files_compose_into_one_and_go() {
    let fixture = Fixture::new();
    fixture.post_form("", form(&[("1", b"one,"), ("2", b"two")])).await.json();
    let ask = |body: &'static str| fixture.ask(http::Request::post("/files/compose"), full(body));
    let answer = ask(r#"{"source_paths":["1","2","1"],"destination":"new/all"}"#).await.json();
    let path = fixture.home.join("new/all");
    let expected =
        serde_json::json!({"name": "all", "path": path.to_str().unwrap(), "type": "file"});
    assert_eq!(answer, expected);
    assert_eq!(fixture.read("new/all"), b"one,twoone,");
    assert!(!fixture.home.join("1").exists() && !fixture.home.join("2").exists());
    assert_eq!(fs::read_dir(fixture.home.join("new")).unwrap().count(), 1, "no part is left");
    let missing = ask(r#"{"source_paths":["nope"],"destination":"new/all"}"#).await;
    missing.assert_error(404, "does not exist");
    ask(r#"{"source_paths":["new"],"destination":"x"}"#).await.assert_error(400, "is a directory");
    ask(r#"{"source_paths":["new/all"],"destination":"new/../new/all"}"#)
        .await
        .assert_error(400, "cannot be the same");
    ask(r#"{"source_paths":[],"destination":"x"}"#).await.assert_error(400, "must not be empty");
    ask(r#"{"source_paths":["a"]}"#).await.assert_error(400, "destination is required");
    ask("nonsense").await.assert_error(400, "invalid request body");
    assert_eq!(fixture.read("new/all"), b"one,twoone,");
}

#[tokio::test]
async fn a_head_request_has_the_headers_and_no_body() {
    let fixture = Fixture::new();
    fixture.post("?path=f.txt", &[RAW], full("hello")).await.json();
    let answer = fixture.ask(http::Request::head("/files?path=f.txt"), answers::empty()).await;
    assert_eq!((answer.header("content-length"), answer.body.len()), (Some("5"), 0));
    assert_eq!(answer.header("content-disposition"), Some("inline; filename=\"f.txt\""));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}
