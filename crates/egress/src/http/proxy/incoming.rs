//! Answers on their way in: what the guest must not have is taken out of them.

use std::sync::Arc;

use http::Response;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http_body_util::BodyExt;
use hyper::body::Body;

use super::super::body::{Answer, ProxyBody, Rewriting};
use super::super::decode::Decoder;
use super::super::exchange::Exchange;
use super::super::fields;
use super::super::refusal::Refusal;
use super::Answered;
use crate::broker::Redactor;

/// Says where else the same is served, which would be over QUIC.
const ALT_SVC: HeaderName = HeaderName::from_static("alt-svc");

/// The guest's answer.
pub(super) fn answer(
    answered: Answered,
    is_head: bool,
    exchange: Arc<Exchange>,
) -> Result<Response<ProxyBody>, Refusal> {
    let Answered { response, lease, redactor } = answered;
    let (mut parts, body) = response.into_parts();
    check_coding(&parts.headers, redactor.is_some())?;
    clean(&mut parts.headers, redactor.as_ref());
    let has_content = !is_head && !body.is_end_stream();
    let rewriting = match redactor {
        Some(redactor) if has_content => {
            let decoder = Decoder::of(&parts.headers);
            let decoder = decoder.map_err(|error| Refusal::answer(error.to_string()))?;
            if decoder.is_some() {
                parts.headers.remove(CONTENT_ENCODING);
            }
            parts.headers.remove(CONTENT_LENGTH);
            Some(Rewriting::new(decoder, redactor))
        }
        Some(_) | None => None,
    };
    let mut answer = Response::new(Answer::new(body, rewriting, exchange, lease).boxed_unsync());
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    Ok(answer)
}

/// A transfer coding that hides what is looked for.
fn check_coding(headers: &HeaderMap, is_searched: bool) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if is_searched && !codings.all(is_plain) {
        return Err(Refusal::answer("the server used a transfer coding that cannot be searched"));
    }
    Ok(())
}

/// Takes away what the guest must not have.
pub(super) fn clean(headers: &mut HeaderMap, redactor: Option<&Redactor>) {
    fields::remove_hop_by_hop(headers);
    headers.remove(ALT_SVC);
    if let Some(redactor) = redactor {
        redactor.headers(headers);
    }
}
