//! What the headers of a call say.

use std::time::Duration;

use base64::Engine as _;
use courier_protocol::envd::connect::{
    Code, Codec, ConnectError, ContentType, KEEPALIVE_HEADER, Shape, TIMEOUT_HEADER,
};
use futures_util::Stream;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, StatusCode, header};

use crate::context::Context;
use crate::http::{self as answers, Request, Response};
use crate::user::User;

/// Silence after which a stream sends a `keepalive`, where the caller does not say; envd's value.
const KEEPALIVE_DEFAULT: Duration = Duration::from_secs(90);

/// Shortest silence that a caller may ask for.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);

/// Longest silence that a caller may ask for.
const KEEPALIVE_MAX: Duration = Duration::from_secs(3_600);

/// Longest deadline that is kept: Connect's ten digits of milliseconds.
const TIMEOUT_MAX: Duration = Duration::from_millis(9_999_999_999);

/// One call: everything but its messages.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// How its messages are encoded.
    pub(crate) codec: Codec,
    /// How long the caller allows; none for ever.
    pub(crate) timeout: Option<Duration>,
    /// Silence after which a stream sends a `keepalive`.
    pub(crate) keepalive: Duration,
    username: Option<String>,
}

impl Call {
    /// Reads a request's head; the refusal is a whole answer.
    pub(super) fn of(request: &Request, shape: Shape) -> Result<Self, Box<Response>> {
        if request.method() != Method::POST {
            return Err(Box::new(answers::error(StatusCode::METHOD_NOT_ALLOWED, "use POST")));
        }
        let headers = request.headers();
        let codec = text(headers, header::CONTENT_TYPE.as_str())
            .and_then(ContentType::parse)
            .filter(|known| known.shape == shape)
            .ok_or_else(|| Box::new(unsupported(shape)))?
            .codec;
        let invalid = |error: &ConnectError| Box::new(super::failed_unary(error));
        let timeout = number(headers, TIMEOUT_HEADER).map_err(|error| invalid(&error))?;
        let keepalive = number(headers, KEEPALIVE_HEADER).map_err(|error| invalid(&error))?;
        Ok(Self {
            codec,
            timeout: timeout.map(Duration::from_millis).map(|timeout| timeout.min(TIMEOUT_MAX)),
            keepalive: keepalive.map_or(KEEPALIVE_DEFAULT, |seconds| {
                Duration::from_secs(seconds).clamp(KEEPALIVE_MIN, KEEPALIVE_MAX)
            }),
            username: basic_username(headers),
        })
    }

    /// The user that the call is made for.
    ///
    /// # Errors
    /// There is no such user: `unauthenticated`, in the words of the wire.
    pub(crate) fn user(&self, context: &Context) -> Result<User, ConnectError> {
        Ok(context.user(self.username.as_deref())?)
    }

    /// The events until the call's deadline, and then `deadline_exceeded`.
    pub(crate) fn bounded<A, S>(
        &self,
        events: S,
    ) -> impl Stream<Item = Result<A, ConnectError>> + Send + 'static + use<A, S>
    where
        A: Send + 'static,
        S: Stream<Item = Result<A, ConnectError>> + Send + 'static,
    {
        let deadline = self.timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
        futures_util::stream::unfold(Some((Box::pin(events), deadline)), |state| async move {
            let (mut events, mut deadline) = state?;
            let event = match &mut deadline {
                Some(deadline) => tokio::select! {
                    biased;
                    event = events.next() => event?,
                    () = deadline => Err(late()),
                },
                None => events.next().await?,
            };
            let goes_on = event.is_ok().then_some((events, deadline));
            Some((event, goes_on))
        })
    }
}

/// Waits for a future no longer than the caller allows.
pub(super) async fn within<F: Future>(
    timeout: Option<Duration>,
    future: F,
) -> Result<F::Output, ConnectError> {
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, future).await.map_err(|_elapsed| late()),
        None => Ok(future.await),
    }
}

fn late() -> ConnectError {
    ConnectError::new(Code::DeadlineExceeded, "context deadline exceeded")
}

fn unsupported(shape: Shape) -> Response {
    let message = match shape {
        Shape::Unary => "use content type application/json or application/proto",
        Shape::Stream => "use content type application/connect+json or application/connect+proto",
    };
    answers::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Result<Option<u64>, ConnectError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().ok().and_then(|text| text.trim().parse().ok()).map(Some).ok_or_else(|| {
        ConnectError::invalid_argument(format!("header {name} is not a whole number: {value:?}"))
    })
}

/// The user name of `Authorization: Basic`; the password says nothing here.
pub(crate) fn basic_username(headers: &HeaderMap) -> Option<String> {
    let (scheme, encoded) = text(headers, header::AUTHORIZATION.as_str())?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    Some(text.split_once(':').map_or(text.as_str(), |(name, _password)| name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let mut request = Request::new(answers::empty());
        *request.method_mut() = Method::POST;
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    }

    #[test]
    fn the_user_is_the_name_of_basic_authorisation() {
        let json = ("content-type", "application/json");
        let call = Call::of(&request(&[json, ("authorization", "Basic cm9vdDo=")]), Shape::Unary);
        assert_eq!(call.unwrap().username.as_deref(), Some("root"));
        let call = Call::of(&request(&[json, ("authorization", "Bearer x")]), Shape::Unary);
        assert_eq!(call.unwrap().username, None);
    }

    #[test]
    fn a_content_type_of_the_other_shape_is_refused_with_the_right_one() {
        let request = request(&[("content-type", "application/json")]);
        let refusal = Call::of(&request, Shape::Stream).unwrap_err();
        assert_eq!(refusal.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[test]
    fn a_deadline_that_is_no_number_is_refused() {
        let json = ("content-type", "application/json");
        let refusal = Call::of(&request(&[json, (TIMEOUT_HEADER, "soon")]), Shape::Unary);
        assert_eq!(refusal.unwrap_err().status(), StatusCode::BAD_REQUEST);
        let call = Call::of(&request(&[json, (TIMEOUT_HEADER, "1500")]), Shape::Unary).unwrap();
        assert_eq!(call.timeout, Some(Duration::from_millis(1500)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bounded_stream_ends_with_its_own_end_or_with_the_deadline() {
        let json = ("content-type", "application/json");
        let call = Call::of(&request(&[json, (TIMEOUT_HEADER, "50")]), Shape::Unary).unwrap();
        let short = futures_util::stream::iter([Ok(1), Ok(2)]);
        assert_eq!(call.bounded(short).collect::<Vec<_>>().await, [Ok(1), Ok(2)]);
        let endless = futures_util::stream::iter([Ok(1)]).chain(futures_util::stream::pending());
        assert_eq!(call.bounded(endless).collect::<Vec<_>>().await, [Ok(1), Err(late())]);
    }
}
