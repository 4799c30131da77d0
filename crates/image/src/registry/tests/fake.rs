//! A registry that says whatever a test wants, under every name below `test`, with TLS or without;
//! a way to it and to nowhere else; and layers in memory.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::super::*;
use crate::Digest;

/// How an answer's body is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// As its head says.
    Whole,
    /// Without a length in its head.
    NoLength,
    /// Broken off after so many bytes.
    Cut(usize),
    /// Nothing more after so many bytes, on an open connection.
    Stall(usize),
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) shape: Shape,
}

impl Answer {
    pub(super) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), shape: Shape::Whole }
    }

    pub(super) fn body(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn shape(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }
}

/// A request: its host, its target, and who it says to be.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) host: String,
    pub(super) target: String,
    pub(super) authorization: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    /// By host and target. The last one of several stays.
    answers: HashMap<String, VecDeque<Answer>>,
    /// For requests of that host without this `Authorization`, this challenge.
    locked: Option<(String, String, String)>,
    asked: Vec<Asked>,
    dialled: Vec<(String, Standing)>,
}

/// The registry, and the only way to it.
#[derive(Debug, Clone)]
pub(super) struct Fake {
    state: Arc<Mutex<State>>,
    at: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        let names = vec!["registry.test".to_owned(), "other.test".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let certificate = made.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider());
        let client = client.with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider());
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = Arc::new(server.with_single_cert(vec![certificate], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let fake = Self { state: Arc::default(), at, tls: Arc::new(client) };
        let state = Arc::clone(&fake.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&server), Arc::clone(&state)));
            }
        });
        fake
    }

    pub(super) fn registries(&self, settings: RegistrySettings, bounds: PullBounds) -> Registries {
        Registries::new(settings, Arc::new(self.clone()), Arc::clone(&self.tls), bounds)
    }

    /// What is answered at `HOST/TARGET`, one after the other.
    pub(super) fn answers(&self, at: &str, answers: impl IntoIterator<Item = Answer>) {
        let answers = answers.into_iter().collect();
        self.state.lock().unwrap().answers.insert(at.to_owned(), answers);
    }

    /// Requests to the host need the authorization, or are told the challenge.
    pub(super) fn lock(&self, host: &str, authorization: &str, challenge: &str) {
        let lock = (host.to_owned(), authorization.to_owned(), challenge.to_owned());
        self.state.lock().unwrap().locked = Some(lock);
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    pub(super) fn dialled(&self) -> Vec<(String, Standing)> {
        self.state.lock().unwrap().dialled.clone()
    }
}

#[async_trait]
impl Dial for Fake {
    async fn connect(
        &self,
        to: &Endpoint,
        standing: Standing,
    ) -> Result<Box<dyn Stream>, DialError> {
        self.state.lock().unwrap().dialled.push((to.to_string(), standing));
        if !to.host.to_string().ends_with(".test") {
            return Err(DialError::OutOfReach(format!("{} is out of reach", to.host)));
        }
        let failed = |source: std::io::Error| DialError::Failed {
            what: "no answer",
            source: Box::new(source),
        };
        Ok(Box::new(TcpStream::connect(self.at).await.map_err(failed)?))
    }
}

async fn connection(stream: TcpStream, tls: Arc<ServerConfig>, state: Arc<Mutex<State>>) {
    let mut first = [0];
    if !matches!(stream.peek(&mut first).await, Ok(1)) {
        return;
    }
    // The first byte of a TLS handshake (RFC 8446, section 5.1).
    if first == [22] {
        if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
            serve(stream, &state).await;
        }
    } else {
        serve(stream, &state).await;
    }
}

async fn serve<S: Stream>(mut stream: S, state: &Mutex<State>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let answer = answer(&String::from_utf8(head).unwrap(), state);
    let mut text = format!("HTTP/1.1 {} X\r\n", answer.status);
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !matches!(answer.shape, Shape::NoLength) {
        text.push_str(&format!("content-length: {}\r\n", answer.body.len()));
    }
    text.push_str("\r\n");
    let body = match answer.shape {
        Shape::Whole | Shape::NoLength => &answer.body[..],
        Shape::Cut(at) | Shape::Stall(at) => &answer.body[..at],
    };
    // A client that has seen enough goes away.
    drop(stream.write_all(text.as_bytes()).await);
    drop(stream.write_all(body).await);
    drop(stream.flush().await);
    if matches!(answer.shape, Shape::Stall(_)) {
        // Until the client goes away.
        drop(stream.read_u8().await);
    }
    drop(stream.shutdown().await);
}

fn answer(head: &str, state: &Mutex<State>) -> Answer {
    let header = |wanted: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned())
    };
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let (host, authorization) = (header("host").unwrap(), header("authorization"));
    let mut state = state.lock().unwrap();
    let asked = Asked { host: host.clone(), target: target.clone(), authorization };
    state.asked.push(asked.clone());
    if let Some((locked, needed, challenge)) = &state.locked
        && *locked == host
        && asked.authorization.as_ref() != Some(needed)
    {
        return Answer::status(401).header("www-authenticate", challenge);
    }
    let Some(answers) = state.answers.get_mut(&format!("{host}{target}")) else {
        return Answer::status(404);
    };
    if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
}

/// Layers in memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    kept: Mutex<HashMap<BlobDigest, Vec<u8>>>,
    begun: Mutex<usize>,
    failed: Mutex<usize>,
}

impl Memory {
    pub(super) fn kept(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    pub(super) fn content(&self, diff_id: &BlobDigest) -> Option<Vec<u8>> {
        self.kept.lock().unwrap().get(diff_id).cloned()
    }

    /// Waits until a layer is being read.
    pub(super) async fn begins(&self) {
        until(|| *self.begun.lock().unwrap() > 0).await;
    }

    /// Waits until a layer was begun and not kept.
    pub(super) async fn fails(&self) {
        until(|| *self.failed.lock().unwrap() > 0).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let looking = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), looking).await.unwrap();
}

impl Layers for Memory {
    fn find(&self, diff_id: &BlobDigest) -> Result<Option<Digest>, LayersError> {
        Ok(self.content(diff_id).map(|tar| Digest::of(&tar)))
    }

    fn add(&self, diff_id: &BlobDigest, tar: &mut dyn Read) -> Result<Digest, LayersError> {
        *self.begun.lock().unwrap() += 1;
        let mut bytes = Vec::new();
        if let Err(error) = tar.read_to_end(&mut bytes) {
            *self.failed.lock().unwrap() += 1;
            return Err(error.into());
        }
        let digest = Digest::of(&bytes);
        self.kept.lock().unwrap().insert(*diff_id, bytes);
        Ok(digest)
    }
}
