//! Files: written and read as streams, shown, listed, made, moved and removed.

use courier_protocol::envd::filesystem::{
    EntryInfo, EntryResponse, ListDirRequest, ListDirResponse, MoveRequest, PathRequest,
};
use courier_protocol::envd::process::Empty;
use courier_protocol::node::Body;
use courier_protocol::percent;
use http::{Method, Response, StatusCode, header};
use serde::Deserialize;

use crate::rpc::drain_error;
use crate::{ClientError, GuestClient, Refusal, drain, empty};

/// Most bytes of the answer to a write.
const WRITTEN_LIMIT_BYTES: usize = 64 * 1_024;

/// Where a file is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteTarget {
    /// Guest path; relative to the user's home.
    pub path: String,
    /// Bytes that will come, where known: the guest then refuses what does not fit at once.
    pub length: Option<u64>,
}

/// A file that is being read.
pub struct FileContent {
    /// Its bytes.
    pub body: Body,
    /// How many the guest announced. A guest may lie.
    pub announced_length: Option<u64>,
}

impl std::fmt::Debug for FileContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileContent")
            .field("announced_length", &self.announced_length)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    message: String,
}

impl GuestClient {
    fn files_uri(&self, path: &str) -> String {
        let user = self
            .user
            .as_ref()
            .map(|user| format!("&username={}", percent::encode(user)))
            .unwrap_or_default();
        format!("/files?path={}{user}", percent::encode(path))
    }

    /// Writes a file from a stream; parents are made, an old file is replaced. The whole has no
    /// deadline of its own: the transport notices when the guest stops taking bytes.
    ///
    /// # Errors
    /// See [`ClientError`]; a full disk is [`Refusal::Exhausted`].
    pub async fn write_file(&self, target: &WriteTarget, body: Body) -> Result<(), ClientError> {
        let mut request = self
            .request(Method::POST, &self.files_uri(&target.path))
            .header(header::CONTENT_TYPE, "application/octet-stream");
        if let Some(length) = target.length {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        let request = request.body(body).map_err(|error| ClientError::Request(error.into()))?;
        let answer = self.transport.send(request).await?;
        let answer = accept("a file write", answer).await?;
        drain(answer.into_body(), WRITTEN_LIMIT_BYTES).await?;
        Ok(())
    }

    /// Reads a file as a stream.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn read_file(&self, path: &str) -> Result<FileContent, ClientError> {
        let request = self
            .request(Method::GET, &self.files_uri(path))
            .body(empty())
            .map_err(|error| ClientError::Request(error.into()))?;
        let answer = self.send("a file read", request).await?;
        let answer = accept("a file read", answer).await?;
        let announced_length = answer
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        Ok(FileContent { body: answer.into_body(), announced_length })
    }

    /// Shows one entry.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stat(&self, path: &str) -> Result<EntryInfo, ClientError> {
        self.entry("/filesystem.Filesystem/Stat", path).await
    }

    /// Makes a directory and its parents.
    ///
    /// # Errors
    /// See [`ClientError`]; one that is there is [`Refusal::AlreadyExists`].
    pub async fn make_dir(&self, path: &str) -> Result<EntryInfo, ClientError> {
        self.entry("/filesystem.Filesystem/MakeDir", path).await
    }

    async fn entry(&self, method: &'static str, path: &str) -> Result<EntryInfo, ClientError> {
        let answer: EntryResponse =
            self.unary(method, &PathRequest { path: path.to_owned() }).await?;
        answer.entry.ok_or_else(|| ClientError::protocol(format!("{method} showed no entry")))
    }

    /// Lists a directory, down to `depth` levels.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_dir(&self, path: &str, depth: u32) -> Result<Vec<EntryInfo>, ClientError> {
        let request = ListDirRequest { path: path.to_owned(), depth };
        let answer: ListDirResponse =
            self.unary("/filesystem.Filesystem/ListDir", &request).await?;
        Ok(answer.entries)
    }

    /// Removes an entry with everything below it; one that is not there is removed already.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove(&self, path: &str) -> Result<(), ClientError> {
        let request = PathRequest { path: path.to_owned() };
        let Empty {} = self.unary("/filesystem.Filesystem/Remove", &request).await?;
        Ok(())
    }

    /// Moves an entry; parents of the destination are made.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rename(&self, source: &str, to: &str) -> Result<EntryInfo, ClientError> {
        let request = MoveRequest { source: source.to_owned(), destination: to.to_owned() };
        let answer: EntryResponse = self.unary("/filesystem.Filesystem/Move", &request).await?;
        answer.entry.ok_or_else(|| ClientError::protocol("Move showed no entry"))
    }
}

/// Lets a success through; turns anything else into a refusal.
pub(crate) async fn accept(
    what: &'static str,
    answer: Response<Body>,
) -> Result<Response<Body>, ClientError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = drain_error(what, answer.into_body()).await?;
    let message = serde_json::from_slice::<ErrorBody>(&body)
        .map_or_else(|_not_json| format!("HTTP status {}", status.as_u16()), |body| body.message);
    let refusal = match status {
        StatusCode::NOT_FOUND => Refusal::NotFound,
        StatusCode::BAD_REQUEST => Refusal::Invalid,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Refusal::Denied,
        StatusCode::INSUFFICIENT_STORAGE => Refusal::Exhausted,
        _other => Refusal::Other,
    };
    Err(ClientError::refused(refusal, &message))
}
