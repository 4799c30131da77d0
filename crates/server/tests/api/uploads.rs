//! Archives of COPY steps: whole and well-formed, or not there.

use std::io::Write as _;

use axum::body::Body;
use courier_protocol::node::StepKind;
use courier_server::Config;
use http::Request;
use serde_json::{Value, json};

use crate::builds::Asked;
use crate::world::{Answer, World, config};

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A tar archive of one file.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    let mut field = |at: usize, text: &str| {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", content.len()));
    field(136, "00000000000\0");
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = block.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

/// The way of an upload: path and query of the URL that the server gave out.
async fn link(world: &World, template: &str) -> (bool, String) {
    let path = format!("/templates/{template}/files/{HASH}");
    let mut request = world.request("GET", &path, None);
    request.headers_mut().insert("host", "127.0.0.1:3000".parse().unwrap());
    let answer = world.send(request).await.ok(201).json();
    let url = answer["url"].as_str().unwrap();
    let way = url.strip_prefix("http://127.0.0.1:3000").unwrap().to_owned();
    (answer["present"].as_bool().unwrap(), way)
}

/// Uploads without a key.
async fn put(world: &World, way: &str, bytes: &[u8], length: Option<usize>) -> Answer {
    let mut request = Request::builder().method("PUT").uri(way);
    if let Some(length) = length {
        request = request.header("content-length", length);
    }
    world.send(request.body(Body::from(bytes.to_vec())).unwrap()).await
}

fn start() -> Value {
    json!({"steps": [{"type": "COPY", "args": ["*.txt", "/app/", "", ""], "filesHash": HASH}]})
}

#[tokio::test]
async fn an_archive_is_uploaded_once_and_comes_back_as_it_was() {
    let world = World::new().await;
    let asked = Asked::named(&world, "mine").await;
    let (present, way) = link(&world, "mine").await;
    assert!(!present);
    let archive = tar("a.txt", b"hello");
    put(&world, &way, &archive, Some(archive.len())).await.ok(204);
    assert!(link(&world, &asked.template).await.0);
    asked.start(&world, start()).await;
    asked.wait(&world, "ready").await;
    assert_eq!(world.builder.archives(), std::slice::from_ref(&archive));
    // What the node knows an archive by is what is in it, not what its client calls it.
    let StepKind::Copy { files, source, .. } = world.builder.last_order().steps[0].kind.clone()
    else {
        panic!("no COPY");
    };
    assert_ne!(files, HASH);
    assert_eq!((files.len(), source.as_str()), (64, "."));
    // The same URL may be used again, for other bytes.
    let second = tar("a.txt", b"other");
    put(&world, &way, &second, Some(second.len())).await.ok(204);
    let again = Asked::named(&world, "mine").await;
    again.start(&world, start()).await;
    again.wait(&world, "ready").await;
    assert_eq!(world.builder.archives(), [archive, second]);
    let world = world.crash_and_restart().await;
    assert!(link(&world, "mine").await.0);
}

#[tokio::test]
async fn a_gzipped_archive_is_taken_and_what_is_malformed_or_cut_is_not() {
    let world = World::new().await;
    Asked::named(&world, "mine").await;
    let (_present, way) = link(&world, "mine").await;
    let good = tar("a.txt", b"hello");
    let long = tar("a.txt", &[7; 2_000]);
    for (bytes, length, status, part) in [
        (&b""[..], Some(0), 400, "empty"),
        (b"not a tar", Some(9), 400, "malformed"),
        (&tar("../evil", b"x"), None, 411, "Content-Length"),
        (&tar("../evil", b"x"), Some(2_048), 400, "../evil"),
        (&tar("/etc/passwd", b"x"), Some(2_048), 400, "/etc/passwd"),
        (&good[..700], Some(700), 400, "malformed"),
        (&long[..2_000], Some(2_000), 400, "malformed"),
        (&good, Some(good.len() + 1), 400, "announced"),
        (&good, Some(good.len() - 1), 400, "announced"),
        (&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0], Some(8), 400, "malformed"),
        (&[0x28, 0xb5, 0x2f, 0xfd, 0], Some(5), 400, "zstd"),
        (&good, Some(1 << 40), 413, "at most"),
    ] {
        put(&world, &way, bytes, length).await.error(status, part);
        assert!(!link(&world, "mine").await.0, "{part}");
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&good).unwrap();
    let gzip = gzip.finish().unwrap();
    put(&world, &way, &gzip, Some(gzip.len())).await.ok(204);
    assert!(link(&world, "mine").await.0);
}

#[tokio::test]
async fn only_a_ticket_of_that_project_and_hash_lets_in() {
    let world = World::new().await;
    Asked::named(&world, "mine").await;
    let (_present, way) = link(&world, "mine").await;
    let archive = tar("a.txt", b"hello");
    let (path, ticket) = way.split_once("?ticket=").unwrap();
    let other = path.replace(HASH, &HASH.replace('0', "1"));
    let foreign = path.replacen("/p", "/p0", 1);
    for way in [
        format!("{other}?ticket={ticket}"),
        format!("{foreign}?ticket={ticket}"),
        format!("{path}?ticket={}", ticket.replace("1:", "1:A")),
        format!("{path}?ticket={}", "A".repeat(500)),
        path.to_owned(),
    ] {
        put(&world, &way, &archive, Some(archive.len())).await.error(403, "gave out");
    }
    world.get("/templates/mine/files/zz").await.error(400, "64 digits");
    world.get(&format!("/templates/nope/files/{HASH}")).await.error(404, "nope");
    world.get(&format!("/templates/base/files/{HASH}")).await.error(403, "installation");
    let world = world.of_another_project().await;
    Asked::named(&world, "mine").await;
    put(&world, &way, &archive, Some(archive.len())).await.ok(204);
    assert!(!link(&world, "mine").await.0, "it is another project's");
}

#[tokio::test]
async fn a_project_has_so_many_bytes_of_archives_and_the_oldest_go() {
    let sizes = Config { upload_max_bytes: 4_096, uploads_max_bytes: 4_096, ..config() };
    let world = World::with(sizes).await;
    Asked::named(&world, "mine").await;
    let (_present, way) = link(&world, "mine").await;
    let archive = tar("a.txt", &[1; 1_500]);
    put(&world, &way, &archive, Some(archive.len())).await.ok(204);
    let big = tar("a.txt", &[2; 4_096]);
    put(&world, &way, &big, Some(big.len())).await.error(413, "at most 4096");
    assert!(link(&world, "mine").await.0);
    let second = HASH.replace('0', "f");
    let path = format!("/templates/mine/files/{second}");
    let mut request = world.request("GET", &path, None);
    request.headers_mut().insert("host", "h".parse().unwrap());
    let answer = world.send(request).await.ok(201).json();
    let way = answer["url"].as_str().unwrap().strip_prefix("http://h").unwrap().to_owned();
    put(&world, &way, &archive, Some(archive.len())).await.ok(204);
    assert!(!link(&world, "mine").await.0, "the older one made room");
    // What was replaced takes room until no build can want it, so one cannot replace for ever.
    let third = tar("a.txt", &[3; 1_500]);
    put(&world, &way, &third, Some(third.len())).await.ok(204);
    let fourth = tar("a.txt", &[4; 1_500]);
    put(&world, &way, &fourth, Some(fourth.len())).await.error(429, "must go first");
}
