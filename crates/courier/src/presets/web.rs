//! Fetches one page of an index, from the node: a small answer, a few redirects, the machine's CAs.

use std::sync::{Arc, OnceLock};

use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::mirror::{Login, port_of};

/// Most bytes of a page: the pages of single packages have some hundred KiB.
const PAGE_MAX: usize = 8 * 1024 * 1024;
/// Most redirects of one question.
const REDIRECTS_MAX: usize = 4;
/// As whom we ask.
const USER_AGENT: &str = concat!("courier/", env!("CARGO_PKG_VERSION"));

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    /// No connection.
    #[error("it cannot be connected to")]
    Connect(#[source] std::io::Error),
    /// No TLS: the machine has no certificate that could be trusted.
    #[error("TLS cannot be spoken")]
    Tls(#[source] rustls::Error),
    /// The host of an address is none that a certificate could have.
    #[error("its host cannot be checked")]
    Name(#[source] InvalidDnsNameError),
    /// It does not speak HTTP.
    #[error("it does not speak HTTP/1.1")]
    Http(#[source] hyper::Error),
    /// The request cannot be written.
    #[error("it cannot be asked")]
    Request(#[source] http::Error),
    /// It says no.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// A redirect that is not followed.
    #[error("it redirects too often, or to what is not followed")]
    Redirect,
    /// A page that is too large.
    #[error("its answer is larger than {} MiB", PAGE_MAX / 1024 / 1024)]
    TooLarge,
}

/// What an index said.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Every address on the way, the last one is the page's own.
    pub(crate) way: Vec<Url>,
    /// What it is.
    pub(crate) content_type: String,
    /// What is in it.
    pub(crate) body: Bytes,
}

/// A client with the machine's certificates.
pub(crate) struct Web {
    extra: Vec<Vec<u8>>,
    tls: OnceLock<Result<Arc<ClientConfig>, rustls::Error>>,
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Web").finish_non_exhaustive()
    }
}

enum Answer {
    Page(String, Bytes),
    Elsewhere(String),
}

impl Web {
    /// Trusts the machine's CA certificates and those in `extra`, each one a text of PEM
    /// certificates. They are read when they are first needed; one that cannot be read only means
    /// less trust.
    pub(crate) const fn new(extra: Vec<Vec<u8>>) -> Self {
        Self { extra, tls: OnceLock::new() }
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, WebError> {
        self.tls.get_or_init(|| trusting(&self.extra)).clone().map_err(WebError::Tls)
    }

    /// The page at an address. A login goes to the host of the first address only.
    pub(crate) async fn get(
        &self,
        url: Url,
        login: Option<&Login>,
        accept: &'static str,
    ) -> Result<Page, WebError> {
        let mut way = vec![url];
        while let Some(url) = way.last().filter(|_url| way.len() <= REDIRECTS_MAX) {
            let same = way.first().is_some_and(|first| first.origin() == url.origin());
            match self.ask(url, login.filter(|_login| same), accept).await? {
                Answer::Page(content_type, body) => return Ok(Page { way, content_type, body }),
                Answer::Elsewhere(location) => {
                    let next = url.join(&location).map_err(|_no_url| WebError::Redirect)?;
                    let safe = next.scheme() == "https" || next.scheme() == url.scheme();
                    if !safe || !next.has_host() {
                        return Err(WebError::Redirect);
                    }
                    way.push(next);
                }
            }
        }
        Err(WebError::Redirect)
    }

    async fn ask(
        &self,
        url: &Url,
        login: Option<&Login>,
        accept: &'static str,
    ) -> Result<Answer, WebError> {
        let host = url.host_str().unwrap_or_default();
        let tcp = TcpStream::connect((host, port_of(url))).await.map_err(WebError::Connect)?;
        let request = request(url, login, accept).map_err(WebError::Request)?;
        if url.scheme() != "https" {
            return exchange(tcp, request).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(WebError::Name)?;
        let connecting = TlsConnector::from(self.tls()?).connect(name, tcp);
        exchange(connecting.await.map_err(WebError::Connect)?, request).await
    }
}

fn trusting(extra: &[Vec<u8>]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let extra = extra.iter().flat_map(|text| CertificateDer::pem_slice_iter(text));
    roots.add_parsable_certificates(extra.filter_map(Result::ok));
    let mut tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

fn request(
    url: &Url,
    login: Option<&Login>,
    accept: &'static str,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut request = Request::get(target)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, accept)
        .header(header::CONNECTION, "close");
    if let Some(login) = login {
        let mut value = HeaderValue::from_bytes(&login.header())?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(Empty::new())
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Answer, WebError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(WebError::Http)?;
    let asking = async {
        let answer = sender.send_request(request).await.map_err(WebError::Http)?;
        read(answer).await
    };
    // The connection moves the bytes for as long as there is an answer to wait for.
    tokio::pin!(asking, connection);
    tokio::select! {
        biased;
        answer = &mut asking => answer,
        ended = &mut connection => match ended {
            Ok(()) => asking.await,
            Err(error) => Err(WebError::Http(error)),
        },
    }
}

async fn read(answer: http::Response<Incoming>) -> Result<Answer, WebError> {
    let (parts, mut body) = answer.into_parts();
    let text = |name| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    if parts.status.is_redirection() {
        return Ok(Answer::Elsewhere(text(header::LOCATION)));
    }
    if parts.status != StatusCode::OK {
        return Err(WebError::Status(parts.status));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(piece) = frame.map_err(WebError::Http)?.data_ref() {
            bytes.extend_from_slice(piece);
        }
        if bytes.len() > PAGE_MAX {
            return Err(WebError::TooLarge);
        }
    }
    Ok(Answer::Page(text(header::CONTENT_TYPE), bytes.into()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives these answers, one a connection, and returns what it was asked.
    async fn serve(answers: Vec<String>) -> (Url, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/simple/", listener.local_addr().unwrap()).parse().unwrap();
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                asked.push(String::from_utf8(head).unwrap());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (url, asked)
    }

    fn web() -> Web {
        Web::new(Vec::new())
    }

    fn login() -> Login {
        Login::Bearer(courier_types::egress::SecretValue::new(b"canary".to_vec()))
    }

    #[tokio::test]
    async fn a_page_is_fetched_over_redirects_and_the_way_is_told() {
        let to = "HTTP/1.1 301 Moved\r\nlocation: /other/\r\ncontent-length: 0\r\n\r\n";
        let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\npage";
        let (url, asked) = serve(vec![to.into(), page.into()]).await;
        let page = web().get(url.clone(), Some(&login()), "text/html").await.unwrap();
        assert_eq!((&page.body[..], page.content_type.as_str()), (&b"page"[..], "text/html"));
        assert_eq!(page.way, [url.clone(), url.join("/other/").unwrap()]);
        let asked = asked.await.unwrap();
        assert!(asked[0].starts_with("GET /simple/ HTTP/1.1\r\n"), "{}", asked[0]);
        assert!(asked.iter().all(|head| head.contains("authorization: Bearer canary")));
    }

    #[tokio::test]
    async fn a_login_does_not_follow_a_redirect_to_another_place() {
        let page = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let (other, other_asked) = serve(vec![page.into()]).await;
        let to = format!("HTTP/1.1 302 Found\r\nlocation: {other}\r\ncontent-length: 0\r\n\r\n");
        let (url, asked) = serve(vec![to]).await;
        web().get(url, Some(&login()), "*/*").await.unwrap();
        assert!(asked.await.unwrap()[0].contains("canary"));
        assert!(!other_asked.await.unwrap()[0].contains("canary"));
    }

    #[tokio::test]
    async fn what_redirects_without_end_or_answers_too_much_gives_no_page() {
        let to = "HTTP/1.1 302 Found\r\nlocation: /again/\r\ncontent-length: 0\r\n\r\n".to_owned();
        let (url, _asked) = serve(vec![to; 9]).await;
        assert!(matches!(web().get(url, None, "*/*").await, Err(WebError::Redirect)));
        let much = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(PAGE_MAX + 1));
        let (url, _asked) = serve(vec![much]).await;
        assert!(matches!(web().get(url, None, "*/*").await, Err(WebError::TooLarge)));
        let (url, _asked) = serve(vec!["HTTP/1.1 404 Not Found\r\n\r\n".into()]).await;
        assert!(matches!(web().get(url, None, "*/*").await, Err(WebError::Status(_))));
    }
}
