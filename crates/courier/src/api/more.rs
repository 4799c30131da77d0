//! What few commands ask of a server: bodies with DELETE, calls without an answer, uploads.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use serde::Serialize;

use super::{Api, ApiError, refusal};
use courier_protocol::node::Body;

impl Api {
    /// Deletes something that a JSON body names.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn delete_with(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), ApiError> {
        self.call(Method::DELETE, path, self.json(body)?).await.map(|_empty| ())
    }

    /// Asks for something to be done that has no answer.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn tell(&self, path: &str) -> Result<(), ApiError> {
        self.call(Method::POST, path, Bytes::new()).await.map(|_empty| ())
    }

    /// The same with a JSON body.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn tell_with(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), ApiError> {
        self.call(Method::POST, path, self.json(body)?).await.map(|_empty| ())
    }

    /// Uploads to an address that a server named. It says itself what may be put there: our key stays
    /// here, for the address may be somebody else's.
    ///
    /// # Errors
    /// [`ApiError`]; there is no limit on the time, for there is none on the way.
    pub(crate) async fn upload(&self, url: &str, length: u64, body: Body) -> Result<(), ApiError> {
        let whole =
            if url.starts_with('/') { format!("{}{url}", self.url) } else { url.to_owned() };
        let mut request = Request::new(body);
        *request.method_mut() = Method::PUT;
        *request.uri_mut() =
            whole.parse().map_err(|source: http::uri::InvalidUri| self.odd(source.into()))?;
        if request.uri().scheme_str() != Some("http") {
            return Err(ApiError::Url { url: whole });
        }
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let response = self.send(request).await?;
        let (status, body) = self.in_time(self.collect(response)).await?;
        if status.is_success() { Ok(()) } else { Err(refusal(status, &body)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer_one, listener};
    use super::*;
    use crate::api::whole;

    #[tokio::test]
    async fn an_upload_has_its_length_and_no_key() {
        let (listener, url) = listener().await;
        let api = Api::new(&url, "e2b_00").unwrap();
        let answer = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        let body = whole(Bytes::from_static(b"abc"));
        let (asked, given) =
            tokio::join!(answer_one(listener, answer), api.upload("/up?token=t", 3, body));
        given.unwrap();
        assert!(asked.starts_with("put /up?token=t http/1.1"), "{asked}");
        assert!(asked.contains("content-length: 3") && !asked.contains("e2b_00"), "{asked}");
        let body = whole(Bytes::new());
        let elsewhere = api.upload("https://store.test/x", 0, body).await;
        assert!(matches!(elsewhere, Err(ApiError::Url { .. })), "{elsewhere:?}");
    }
}
