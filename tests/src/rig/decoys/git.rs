//! Git's smart protocol, for those who know the password.

use http_body_util::BodyExt as _;

use super::Call;
use super::web::{Answer, Asked};
use crate::git_server::{Backend, knows, password_needed};

/// Answers one request below `/git/`.
pub(super) async fn answer(asked: &Asked, call: &Call) -> Answer {
    let (user, password) = &call.world.credentials;
    let answer = if knows(&asked.parts, user, password) {
        let path = asked.parts.uri.path().trim_start_matches("/git");
        let backend = Backend { repositories: &call.world.repositories, path };
        backend.answer(&asked.parts, asked.body.clone(), Some(user)).await
    } else {
        password_needed()
    };
    answer.map(|body| body.boxed())
}
