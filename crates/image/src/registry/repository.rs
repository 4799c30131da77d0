//! One repository of a registry: documents and blobs by their path, with the login that it wants,
//! over the redirects that it answers with. Logins and tokens never follow a redirect.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use courier_protocol::node::RegistryLogin;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Uri};
use tokio::time::{sleep, timeout};
use url::Url;

use super::auth::{AuthError, Challenge, basic, bearer};
use super::bounds::PullBounds;
use super::dial::{Endpoint, Standing};
use super::error::FetchError;
use super::settings::{RegistrySettings, Site};
use super::web::{Answer, Web, WebError};

/// Most redirects of one answer: one is usual, to where the registry has its bytes.
const REDIRECTS_MAX: usize = 5;
/// Largest answer of a token service in bytes.
const TOKEN_ANSWER_MAX: u64 = 64 * 1024;
/// Docker's name for the digest of what is sent (distribution specification, "Pulling manifests").
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A document and what its head said.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: Option<String>,
    pub(super) content_digest: Option<String>,
}

/// A repository, for the time of one pull.
#[derive(Debug)]
pub(super) struct Repository<'a> {
    pub(super) web: &'a Web,
    pub(super) settings: &'a RegistrySettings,
    pub(super) bounds: &'a PullBounds,
    pub(super) site: Site,
    pub(super) login: Option<&'a RegistryLogin>,
    /// What the registry took at last.
    authorization: Mutex<Option<HeaderValue>>,
}

/// How often something was tried.
#[derive(Debug)]
pub(super) struct Tries<'a> {
    bounds: &'a PullBounds,
    done: u32,
}

impl<'a> Tries<'a> {
    pub(super) const fn new(bounds: &'a PullBounds) -> Self {
        Self { bounds, done: 0 }
    }

    /// Waits until it may be tried again, or says that it was tried often enough.
    pub(super) async fn after(&mut self, error: FetchError) -> Result<(), FetchError> {
        self.done += 1;
        if self.done >= self.bounds.tries || !error.passes() {
            return Err(error);
        }
        let doubled = self.bounds.pause.saturating_mul(1 << (self.done - 1).min(16));
        let asked = match &error {
            FetchError::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            FetchError::Web(_)
            | FetchError::Auth(_)
            | FetchError::Missing
            | FetchError::Redirect => Duration::ZERO,
        };
        sleep(doubled.max(asked).min(self.bounds.pause_max)).await;
        Ok(())
    }
}

impl<'a> Repository<'a> {
    pub(super) const fn new(
        (web, settings, bounds): (&'a Web, &'a RegistrySettings, &'a PullBounds),
        site: Site,
        login: Option<&'a RegistryLogin>,
    ) -> Self {
        Self { web, settings, bounds, site, login, authorization: Mutex::new(None) }
    }

    /// All of what is at a path below the repository.
    pub(super) async fn document(
        &self,
        path: &str,
        accept: &'static str,
        most: u64,
    ) -> Result<Fetched, FetchError> {
        let mut tries = Tries::new(self.bounds);
        loop {
            let allowed = self.bounds.document;
            let fetched = timeout(allowed, self.fetched(path, accept, most)).await;
            match fetched.unwrap_or(Err(WebError::Slow { allowed }.into())) {
                Ok(fetched) => return Ok(fetched),
                Err(error) => tries.after(error).await?,
            }
        }
    }

    async fn fetched(
        &self,
        path: &str,
        accept: &'static str,
        most: u64,
    ) -> Result<Fetched, FetchError> {
        let answer = self.open(path, accept).await?;
        let content_type = answer.text(&header::CONTENT_TYPE).map(str::to_owned);
        let content_digest = answer.text(&CONTENT_DIGEST).map(str::to_owned);
        Ok(Fetched { bytes: answer.whole(most).await?, content_type, content_digest })
    }

    /// What is at a path below the repository, to be read piece by piece. Tried once.
    pub(super) async fn open(
        &self,
        path: &str,
        accept: &'static str,
    ) -> Result<Answer, FetchError> {
        let url = self.site.base.join(path).map_err(|_never| WebError::Address)?;
        let accept = HeaderValue::from_static(accept);
        let answer = self.ask(&url, &accept).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return self.settled(answer, url, &accept).await;
        }
        self.log_in(&answer.headers).await?;
        let answer = self.ask(&url, &accept).await?;
        self.settled(answer, url, &accept).await
    }

    async fn ask(&self, url: &Url, accept: &HeaderValue) -> Result<Answer, WebError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.clone());
        if let Some(value) = self.authorization() {
            headers.insert(header::AUTHORIZATION, value);
        }
        self.web.get(url, self.site.standing, headers).await
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows redirects to an answer that is one.
    async fn settled(
        &self,
        mut answer: Answer,
        mut url: Url,
        accept: &HeaderValue,
    ) -> Result<Answer, FetchError> {
        for _redirect in 0..REDIRECTS_MAX {
            if !is_redirect(answer.status) {
                return self.judged(answer);
            }
            url = self.elsewhere(&answer, &url)?;
            let at = Endpoint::of(&url).ok_or(WebError::Address)?;
            let standing = self.settings.standing(self.site.standing, &at);
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.clone())]);
            answer = self.web.get(&url, standing, headers).await?;
        }
        if is_redirect(answer.status) {
            return Err(FetchError::Redirect);
        }
        self.judged(answer)
    }

    fn judged(&self, answer: Answer) -> Result<Answer, FetchError> {
        match answer.status {
            StatusCode::OK => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.refused().into()),
            StatusCode::NOT_FOUND => Err(FetchError::Missing),
            status => Err(FetchError::Status { status, retry_after: retry_after(&answer) }),
        }
    }

    /// Where an answer redirects to: a place with TLS, or one at the very same host and port of a
    /// registry without.
    fn elsewhere(&self, answer: &Answer, from: &Url) -> Result<Url, FetchError> {
        let location = answer.text(&header::LOCATION).ok_or(FetchError::Redirect)?;
        let next = from.join(location).map_err(|_no_url| FetchError::Redirect)?;
        let base = &self.site.base;
        let plain = base.scheme() == "http" && next.origin() == base.origin();
        if next.scheme() != "https" && !plain {
            return Err(FetchError::Redirect);
        }
        Ok(next)
    }

    const fn refused(&self) -> AuthError {
        if self.login.is_some() { AuthError::LoginRefused } else { AuthError::LoginWanted }
    }

    /// Becomes whom the registry wants to see.
    async fn log_in(&self, headers: &HeaderMap) -> Result<(), FetchError> {
        let value = match Challenge::of(headers, &self.site.base)? {
            Challenge::Basic => basic(self.login.ok_or(AuthError::LoginWanted)?)?,
            Challenge::Bearer { realm } => self.token(realm).await?,
        };
        let mut authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        *authorization = Some(value);
        Ok(())
    }

    async fn token(&self, mut realm: Url) -> Result<HeaderValue, FetchError> {
        // For no more than is needed here, whatever the registry proposes.
        let scope = format!("repository:{}:pull", self.site.repository);
        realm.query_pairs_mut().append_pair("scope", &scope);
        let at = Endpoint::of(&realm).ok_or(WebError::Address)?;
        let standing: Standing = self.settings.standing(self.site.standing, &at);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(login) = self.login {
            headers.insert(header::AUTHORIZATION, basic(login)?);
        }
        let answer = self.judged(self.web.get(&realm, standing, headers).await?);
        let answer = answer.map_err(|error| match error {
            FetchError::Missing | FetchError::Redirect => AuthError::Token.into(),
            other @ (FetchError::Web(_) | FetchError::Auth(_) | FetchError::Status { .. }) => other,
        })?;
        Ok(bearer(&answer.whole(TOKEN_ANSWER_MAX).await?)?)
    }

    /// The registry's host, for messages.
    pub(super) fn registry(&self) -> String {
        let authority: Option<Uri> = self.site.base.as_str().parse().ok();
        authority.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default()
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Seconds only: who gives a date (RFC 9110, section 10.2.3) is asked as any other.
fn retry_after(answer: &Answer) -> Option<Duration> {
    answer.text(&header::RETRY_AFTER)?.parse().ok().map(Duration::from_secs)
}
