//! Git's smart protocol by `git http-backend`, for those who know the password.

use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::Call;
use super::web::{Answer, Asked, plain};

/// Answers one request below `/git/`.
pub(super) async fn answer(asked: &Asked, call: &Call) -> Answer {
    let (user, password) = &call.world.credentials;
    let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let given = asked.parts.headers.get(header::AUTHORIZATION);
    if given.is_none_or(|given| given.as_bytes() != expected.as_bytes()) {
        let mut answer = plain(StatusCode::UNAUTHORIZED, "a password is needed");
        let realm = HeaderValue::from_static("Basic realm=\"git\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        return answer;
    }
    match backend(asked, call, user).await {
        Ok(output) => parse(&output),
        Err(error) => plain(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

/// Runs the program that comes with Git, as a web server does (RFC 3875).
async fn backend(asked: &Asked, call: &Call, user: &str) -> std::io::Result<Vec<u8>> {
    let header = |name: HeaderName| {
        let value = asked.parts.headers.get(name);
        value
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default()
    };
    let path = asked.parts.uri.path().trim_start_matches("/git");
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("GIT_PROJECT_ROOT", &call.world.repositories).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    command.env("REQUEST_METHOD", asked.parts.method.as_str()).env("PATH_INFO", path);
    command.env("QUERY_STRING", asked.parts.uri.query().unwrap_or_default());
    command.env("CONTENT_TYPE", header(header::CONTENT_TYPE)).env("REMOTE_USER", user);
    command.env("CONTENT_LENGTH", asked.body.len().to_string());
    command.env("HTTP_CONTENT_ENCODING", header(header::CONTENT_ENCODING));
    command.env("GIT_PROTOCOL", header(HeaderName::from_static("git-protocol")));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
    let body = asked.body.clone();
    // Beside the read: it may answer before it has read everything.
    tokio::spawn(async move { drop(input.write_all(&body).await) });
    Ok(child.wait_with_output().await?.stdout)
}

/// An answer from the program's headers and body.
fn parse(output: &[u8]) -> Answer {
    let end = output.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = output.split_at(end.map_or(0, |at| at + 4));
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body)).boxed());
    for line in String::from_utf8_lossy(head).lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().and_then(|code| code.parse().ok());
            *answer.status_mut() = code.unwrap_or(StatusCode::BAD_GATEWAY);
        } else if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}
