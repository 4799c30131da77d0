//! A small client of a running server: its API, and its data plane.

mod more;

use std::time::Duration;

use bytes::Bytes;
use courier_protocol::node::{Body, BoxError};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::folder::Folder;

/// An answer of the API is never longer than this.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// An error answer is read no further than this.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Longest wait for a connection: servers are near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an answer of the API. Creating a sandbox on a busy machine takes seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-access-token");
const SANDBOX_ID: HeaderName = HeaderName::from_static("e2b-sandbox-id");
const SANDBOX_PORT: HeaderName = HeaderName::from_static("e2b-sandbox-port");

/// Why a call of the server gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// No server is known.
    #[error(
        "no server runs for the data folder {folder}: start one with `courier serve`, or name one \
         with --url URL"
    )]
    NoServer {
        /// The data folder.
        folder: String,
    },
    /// A server, but no key for it.
    #[error(
        "there is no API key for {url}: set COURIER_API_KEY, or run as the owner of the data folder"
    )]
    NoKey {
        /// The server.
        url: String,
    },
    /// The text is no address of a server.
    #[error("{url:?} is not the address of a server: use http://HOST:PORT")]
    Url {
        /// The text.
        url: String,
    },
    /// Nobody answers.
    #[error("the server at {url} does not answer; is it running?")]
    Unreachable {
        /// The server.
        url: String,
        /// What was met.
        #[source]
        source: BoxError,
    },
    /// It said no.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// Its answer cannot be understood.
    #[error(
        "the server at {url} gave an answer that cannot be understood; is it a courier server?"
    )]
    Odd {
        /// The server.
        url: String,
        /// What was met.
        #[source]
        source: BoxError,
    },
}

impl ApiError {
    /// True when the server knows nothing by that id.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }
}

/// A server that answers API calls.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    url: String,
    key: HeaderValue,
    http: Client<HttpConnector, Body>,
}

impl Api {
    /// True where the user named a server, or one runs for the data folder.
    pub(crate) fn is_there(config: &Config) -> anyhow::Result<bool> {
        Ok(config.url.is_some() || Folder::new(&config.data).running_server()?.is_some())
    }

    /// The server that the user named, or the one that runs for the data folder.
    pub(crate) fn find(config: &Config) -> anyhow::Result<Self> {
        let folder = Folder::new(&config.data);
        let url = match &config.url {
            Some(url) => url.clone(),
            None => match folder.running_server()? {
                Some(info) => info.url,
                None => {
                    let folder = config.data.display().to_string();
                    return Err(ApiError::NoServer { folder }.into());
                }
            },
        };
        let key = match &config.api_key {
            Some(key) => Some(key.clone()),
            None => folder.read_api_key()?,
        };
        let Some(key) = key else { return Err(ApiError::NoKey { url }.into()) };
        Ok(Self::new(&url, &key)?)
    }

    /// A server by address and key.
    pub(crate) fn new(url: &str, key: &str) -> Result<Self, ApiError> {
        let bad = || ApiError::Url { url: url.to_owned() };
        let parsed: Uri = url.parse().map_err(|_no_uri| bad())?;
        if parsed.scheme_str() != Some("http") || parsed.authority().is_none() {
            return Err(bad());
        }
        let mut key = HeaderValue::try_from(key)
            .map_err(|_not_a_header| ApiError::NoKey { url: url.to_owned() })?;
        key.set_sensitive(true);
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let http =
            Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { url: url.trim_end_matches('/').to_owned(), key, http })
    }

    /// Calls the API without a body.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let answer = self.call(Method::GET, path, Bytes::new()).await?;
        self.understand(&answer)
    }

    /// Calls the API with a JSON body.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let answer = self.call(Method::POST, path, self.json(body)?).await?;
        self.understand(&answer)
    }

    /// Replaces something by a JSON body.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let answer = self.call(Method::PUT, path, self.json(body)?).await?;
        self.understand(&answer)
    }

    /// Asks for something that comes bit by bit, for as long as there is more of it.
    pub(crate) async fn stream(&self, path: &str) -> Result<Body, ApiError> {
        let request = self.request(Method::GET, path, Bytes::new())?;
        let response = self.in_time(self.send(request)).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let (status, body) = self.in_time(self.collect(response)).await?;
        Err(refusal(status, &body))
    }

    /// Turns a connection of its own into one of another protocol.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        protocol: &'static str,
    ) -> Result<TokioIo<Upgraded>, ApiError> {
        let mut request = self.request(Method::GET, path, Bytes::new())?;
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
        let response = self.in_time(self.send(request)).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = hyper::upgrade::on(response).await;
            return upgraded.map(TokioIo::new).map_err(|source| self.odd(source.into()));
        }
        let status = response.status();
        let said = self.in_time(async { Ok(beginning(response.into_body()).await) }).await?;
        Err(refusal(status, &said))
    }

    /// Deletes something.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), ApiError> {
        self.call(Method::DELETE, path, Bytes::new()).await.map(|_empty| ())
    }

    fn json(&self, body: &impl Serialize) -> Result<Bytes, ApiError> {
        let body = serde_json::to_vec(body).map_err(|source| self.odd(source.into()))?;
        Ok(body.into())
    }

    fn understand<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, ApiError> {
        serde_json::from_slice(answer).map_err(|source| self.odd(source.into()))
    }

    fn odd(&self, source: BoxError) -> ApiError {
        ApiError::Odd { url: self.url.clone(), source }
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ApiError> {
        let request = self.request(method, path, body)?;
        let answer = async { self.collect(self.send(request).await?).await };
        let (status, body) = self.in_time(answer).await?;
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Body>, ApiError> {
        let mut request = Request::new(whole(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.url)
            .parse()
            .map_err(|source: http::uri::InvalidUri| self.odd(source.into()))?;
        request.headers_mut().insert(API_KEY, self.key.clone());
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(request)
    }

    /// The whole of an answer.
    async fn collect(&self, response: Response<Body>) -> Result<(StatusCode, Bytes), ApiError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
        let body = body.collect().await.map_err(|source| self.odd(source))?;
        Ok((status, body.to_bytes()))
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(elapsed) => {
                Err(ApiError::Unreachable { url: self.url.clone(), source: elapsed.into() })
            }
        }
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, ApiError> {
        let response = self.http.request(request).await.map_err(|source| {
            ApiError::Unreachable { url: self.url.clone(), source: source.into() }
        })?;
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }

    /// Sends a request to the guest daemon of a sandbox, by the data plane.
    pub(crate) async fn guest(
        &self,
        id: &HeaderValue,
        token: Option<&HeaderValue>,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, ApiError> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        *request.uri_mut() =
            format!("{}{path}", self.url).parse().map_err(|source: http::uri::InvalidUri| {
                ApiError::Odd { url: self.url.clone(), source: source.into() }
            })?;
        let headers = request.headers_mut();
        // The data plane goes by the headers only where the host's name says nothing.
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        headers.insert(SANDBOX_ID, id.clone());
        headers.insert(SANDBOX_PORT, HeaderValue::from(courier_protocol::envd::PORT));
        if let Some(token) = token {
            headers.insert(ACCESS_TOKEN, token.clone());
        }
        self.send(request).await
    }
}

/// A body that is all there.
pub(crate) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// What an error answer begins with, as much as came. (`Limited` would do the same, but with our boxed
/// error the compiler cannot show then that the future is `Send`.)
async fn beginning(mut body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ERROR_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    bytes
}

/// What an error answer says, for people.
fn refusal(status: StatusCode, body: &[u8]) -> ApiError {
    #[derive(serde::Deserialize)]
    struct Said {
        message: String,
    }
    let message = match (status, serde_json::from_slice::<Said>(body)) {
        (StatusCode::UNAUTHORIZED, _) => {
            "the server does not know this API key: see the file api-key in its data folder"
                .to_owned()
        }
        (_, Ok(said)) => said.message,
        (_, Err(_not_ours)) => format!("the server answered {status}"),
    };
    ApiError::Refused { status, message }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_http_address_is_refused() {
        for url in ["", "127.0.0.1:3000", "https://a", "file:///x", "http://"] {
            assert!(matches!(Api::new(url, "k"), Err(ApiError::Url { .. })), "{url}");
        }
        assert_eq!(Api::new("http://127.0.0.1:3000/", "k").unwrap().url, "http://127.0.0.1:3000");
    }

    #[test]
    fn an_error_answer_is_told_in_the_servers_words() {
        let error = refusal(StatusCode::NOT_FOUND, br#"{"code":404,"message":"no such sandbox"}"#);
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "no such sandbox");
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, b"<html>").to_string(),
            "the server answered 502 Bad Gateway"
        );
    }

    /// Answers one request with `answer`; returns what was asked, up to the end of its header.
    pub(super) async fn answer_one(listener: tokio::net::TcpListener, answer: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _client) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap().to_ascii_lowercase()
    }

    pub(super) async fn listener() -> (tokio::net::TcpListener, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (listener, url)
    }

    #[tokio::test]
    async fn a_request_for_a_guest_names_the_sandbox_and_carries_its_token_but_not_the_key() {
        let (listener, url) = listener().await;
        let api = Api::new(&url, "e2b_00").unwrap();
        let id = HeaderValue::from_static("i0123456789abcdefghij");
        let token = HeaderValue::from_static("secret");
        let request = Request::get("/files?path=a").body(whole(Bytes::new())).unwrap();
        let answer = "HTTP/1.1 204 No Content\r\n\r\n";
        let (asked, given) =
            tokio::join!(answer_one(listener, answer), api.guest(&id, Some(&token), request));
        assert_eq!(given.unwrap().status(), StatusCode::NO_CONTENT);
        for part in [
            "get /files?path=a http/1.1",
            "host: localhost",
            "e2b-sandbox-id: i0123456789abcdefghij",
            "e2b-sandbox-port: 49983",
            "x-access-token: secret",
        ] {
            assert!(asked.contains(part), "{part} is not in {asked}");
        }
        assert!(!asked.contains("e2b_00"), "{asked}");
    }

    #[tokio::test]
    async fn an_answer_that_is_not_ours_is_odd_and_a_server_that_is_gone_is_unreachable() {
        let (listener, url) = listener().await;
        let api = Api::new(&url, "e2b_00").unwrap();
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
        let (_asked, given) =
            tokio::join!(answer_one(listener, answer), api.get::<serde_json::Value>("/v1/info"));
        assert!(matches!(given, Err(ApiError::Odd { .. })), "{given:?}");
        let given = api.get::<serde_json::Value>("/v1/info").await;
        assert!(matches!(given, Err(ApiError::Unreachable { .. })), "{given:?}");
    }
}
