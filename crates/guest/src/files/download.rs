//! `GET /files`: the content of one file.
//!
//! A small file is read whole with the call that opens it, so its length is what was read and not
//! what its status says: files of procfs and sysfs have no length, or a wrong one. A large file is
//! streamed with the length of its status.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::filesystem::error::FilesystemError;
use crate::http::{self as answers, Response};

use super::conditions::{self, Answer, Encoding, Validators};
use super::error::FilesError;
use super::reader::{FileBody, Reader};
use super::sink::{not_a_file, refuse_special};

/// Bytes of a file that are read where the request is handled. That takes some microseconds, and a
/// change of threads, in a sandbox, some hundreds.
pub(super) const SMALL_MAX: usize = 64 * 1_024;

/// A file that was opened.
struct Opened {
    status: Metadata,
    content: Content,
}

/// What is known of its content.
enum Content {
    /// All of it.
    Whole(Bytes),
    /// How long it is.
    Sized { file: File, size: u64 },
    /// How it begins; it has no length that could be trusted.
    Endless { file: File, first: Bytes },
}

/// Answers with the content of the file at `path`.
///
/// # Errors
/// [`FilesError`].
pub(crate) async fn download(
    path: PathBuf,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, FilesError> {
    let encoding = conditions::encoding(headers);
    if encoding == Encoding::Neither {
        return Err(FilesError::NotAcceptable);
    }
    let opened = open(&path)?;
    let validators = validators(&opened.status);
    let mut response = match opened.content {
        // A client asks for the length of an empty file: it is sent as it is.
        Content::Whole(bytes) if encoding == Encoding::Gzip && !bytes.is_empty() => {
            compressed(Reader::of_bytes(bytes))
        }
        Content::Sized { file, .. } if encoding == Encoding::Gzip => {
            compressed(Reader::to_end(file, Bytes::new()))
        }
        Content::Endless { file, first } if encoding == Encoding::Gzip => {
            compressed(Reader::to_end(file, first))
        }
        Content::Endless { file, first } => answers::typed(
            StatusCode::OK,
            TYPE_UNKNOWN,
            FileBody::boxed(Reader::to_end(file, first)),
        ),
        Content::Whole(bytes) => {
            let size = length(&bytes);
            conditional(headers, &validators, size, |start, end| {
                let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
                let part = range.and_then(|(start, end)| {
                    bytes.get(start..end).map(|_| bytes.slice(start..end))
                });
                Ok(answers::full(part.unwrap_or_default()))
            })?
        }
        Content::Sized { file, size } => conditional(headers, &validators, size, |start, end| {
            rustix::fs::seek(&file, SeekFrom::Start(start))
                .map_err(|errno| FilesystemError::io("seek in", &path, errno))?;
            Ok(FileBody::boxed(Reader::exactly(file, end - start)))
        })?,
    };
    describe(&mut response, &path);
    if *method == Method::HEAD {
        *response.body_mut() = answers::empty();
    }
    Ok(response)
}

/// Opens a file without ever waiting, whatever is at `path`, and reads it when it is small.
fn open(path: &Path) -> Result<Opened, FilesystemError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NXIO) => return Err(not_a_file(path, "socket or device")),
        Err(errno) => return Err(FilesystemError::io("open", path, errno)),
    };
    refuse_special(&file, path)?;
    let status = file.metadata().map_err(|source| FilesystemError::io("stat", path, source))?;
    let size = status.size();
    if size > length_of(SMALL_MAX) {
        return Ok(Opened { status, content: Content::Sized { file, size } });
    }
    let first =
        read_small(&file, size).map_err(|errno| FilesystemError::io("read", path, errno))?;
    let content = if first.len() < SMALL_MAX {
        Content::Whole(first.into())
    } else {
        Content::Endless { file, first: first.into() }
    };
    Ok(Opened { status, content })
}

/// Reads to the end, or [`SMALL_MAX`] bytes.
fn read_small(file: &File, size: u64) -> Result<Vec<u8>, Errno> {
    // One byte more than the status says shows the end with the second call.
    let expected = usize::try_from(size).unwrap_or(SMALL_MAX);
    let mut bytes = Vec::with_capacity((expected + 1).clamp(4_096, SMALL_MAX));
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.reserve((SMALL_MAX - bytes.len()).min(bytes.len().max(4_096)));
        }
        match rustix::io::read(file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() >= SMALL_MAX => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn compressed(reader: Reader) -> Response {
    let mut response =
        answers::typed(StatusCode::OK, TYPE_UNKNOWN, FileBody::boxed(reader.compressed()));
    let gzip = HeaderValue::from_static("gzip");
    response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
    response
}

/// Answers with all of a file, a part of it, or nothing, as the headers ask.
fn conditional(
    headers: &HeaderMap,
    validators: &Validators,
    size: u64,
    body: impl FnOnce(u64, u64) -> Result<answers::Body, FilesystemError>,
) -> Result<Response, FilesystemError> {
    let answer = conditions::answer(headers, validators, size);
    let (status, range) = match answer {
        Answer::Whole => (StatusCode::OK, Some((0, size))),
        Answer::Part { start, end } => (StatusCode::PARTIAL_CONTENT, Some((start, end))),
        Answer::NotModified => (StatusCode::NOT_MODIFIED, None),
        Answer::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
        Answer::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let mut response = match range {
        Some((start, end)) => answers::typed(status, TYPE_UNKNOWN, body(start, end)?),
        None => answers::status(status),
    };
    let content_range = match answer {
        Answer::Part { start, end } => Some(format!("bytes {start}-{}/{size}", end - 1)),
        Answer::Unsatisfiable => Some(format!("bytes */{size}")),
        Answer::Whole | Answer::NotModified | Answer::PreconditionFailed => None,
    };
    let fields = response.headers_mut();
    if let Some((start, end)) = range {
        fields.insert(header::CONTENT_LENGTH, (end - start).into());
    }
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let texts = [
        (header::CONTENT_RANGE, content_range),
        (header::ETAG, Some(validators.etag.clone())),
        (header::LAST_MODIFIED, Some(httpdate::fmt_http_date(validators.modified))),
    ];
    for (name, text) in texts {
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            fields.insert(name, value);
        }
    }
    Ok(response)
}

/// Says what the content is, and under which name to keep it.
fn describe(response: &mut Response, path: &Path) {
    let name = path.file_name().unwrap_or(OsStr::new("file")).to_string_lossy();
    let has_body = response.headers().contains_key(header::CONTENT_TYPE);
    let fields = response.headers_mut();
    fields.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if has_body {
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    }
    if let Ok(value) = HeaderValue::try_from(disposition(&name)) {
        fields.insert(header::CONTENT_DISPOSITION, value);
    }
}

/// `inline`, with the name in ASCII and, when that is not all of it, in full (RFC 6266).
fn disposition(name: &str) -> String {
    let is_plain = |char: char| char.is_ascii_graphic() && !matches!(char, '"' | '\\' | '%');
    let ascii: String =
        name.chars().map(|char| if is_plain(char) || char == ' ' { char } else { '_' }).collect();
    if ascii == name {
        return format!("inline; filename=\"{name}\"");
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escaped: String = name
        .bytes()
        .map(|byte| if is_token(byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect();
    format!("inline; filename=\"{ascii}\"; filename*=UTF-8''{escaped}")
}

/// The type of what has no better one.
const TYPE_UNKNOWN: &str = "application/octet-stream";

/// The type that a file's extension stands for.
fn content_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "txt" | "log" | "md" | "py" | "rs" | "sh" | "toml" | "yaml" | "yml" | "c" | "h" | "go"
        | "ts" => "text/plain; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "xml" => "text/xml; charset=utf-8",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "tar" => "application/x-tar",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "wasm" => "application/wasm",
        _ => TYPE_UNKNOWN,
    }
}

fn validators(status: &Metadata) -> Validators {
    let (seconds, nanos) = (status.mtime(), status.mtime_nsec());
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Validators {
        etag: format!("\"{seconds:x}.{nanos:x}-{:x}-{:x}\"", status.size(), status.ino()),
        modified: SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH),
    }
}

fn length(bytes: &Bytes) -> u64 {
    length_of(bytes.len())
}

fn length_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_ascii_are_given_in_both_forms() {
        assert_eq!(disposition("a b.txt"), "inline; filename=\"a b.txt\"");
        assert_eq!(
            disposition("é\"\n.txt"),
            "inline; filename=\"___.txt\"; filename*=UTF-8''%C3%A9%22%0A.txt"
        );
    }

    #[test]
    fn the_end_of_a_small_file_is_found_whatever_its_status_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for length in [0, 1, 4_095, 4_096, 4_097, SMALL_MAX - 1] {
            std::fs::write(&path, vec![7; length]).unwrap();
            for size in [0, 1, length_of(length), length_of(SMALL_MAX)] {
                let bytes = read_small(&File::open(&path).unwrap(), size).unwrap();
                assert_eq!(bytes.len(), length, "with a size of {size}");
            }
        }
        std::fs::write(&path, vec![7; SMALL_MAX + 1]).unwrap();
        let bytes = read_small(&File::open(&path).unwrap(), 0).unwrap();
        assert_eq!(bytes.len(), SMALL_MAX);
    }
}
