//! What a build asks of the sandbox that its steps run in: layers out, files in, an image made fit.

use std::time::Duration;

use courier_protocol::envd::build::{
    ALL_PATH, Account, CHANGES_PATH, MARK_PATH, PROVISION_PATH, Provisioned, UNPACK_PATH,
    USERS_PATH, Unpack, Unpacked, user_query,
};
use courier_protocol::node::Body;
use http::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::files::accept;
use crate::{ClientError, GuestClient, drain, empty};

/// Longest wait for the head of an answer: the whole file system is looked through before it comes,
/// which takes seconds for 100,000 files on a busy machine.
const LOOK_DEADLINE: Duration = Duration::from_secs(300);

/// Longest wait for an archive to be unpacked, its upload included.
const UNPACK_DEADLINE: Duration = Duration::from_secs(1_800);

/// Most bytes of an answer in JSON.
const ANSWER_LIMIT_BYTES: usize = 64 * 1_024;

impl GuestClient {
    /// Makes the file system one that sandboxes can be made from. May be repeated.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn provision(&self) -> Result<Provisioned, ClientError> {
        let answer = self.ask(PROVISION_PATH, (Method::POST, PROVISION_PATH), empty()).await?;
        read(answer).await
    }

    /// The user of that name, made with a group and a home where there is none.
    ///
    /// # Errors
    /// See [`ClientError`]; a name that cannot be one is [`crate::Refusal::Invalid`].
    pub async fn add_user(&self, name: &str) -> Result<Account, ClientError> {
        let uri = format!("{USERS_PATH}?{}", user_query(name));
        read(self.ask(USERS_PATH, (Method::POST, &uri), empty()).await?).await
    }

    /// Lets changes of the file system count from now on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn mark_layer(&self) -> Result<(), ClientError> {
        self.ask(MARK_PATH, (Method::POST, MARK_PATH), empty()).await.map(drop)
    }

    /// What has changed since the mark, as a layer: a tar that the guest may have made up. `None`
    /// where nothing has. Once it was read to its end, the mark is where it was taken.
    ///
    /// # Errors
    /// See [`ClientError`]. A body that breaks off is no layer.
    pub async fn layer_changes(&self) -> Result<Option<Body>, ClientError> {
        let answer = self.ask(CHANGES_PATH, (Method::GET, CHANGES_PATH), empty()).await?;
        Ok((answer.status() != StatusCode::NO_CONTENT).then(|| answer.into_body()))
    }

    /// The whole file system, as a layer.
    ///
    /// # Errors
    /// As of [`GuestClient::layer_changes`].
    pub async fn layer_all(&self) -> Result<Body, ClientError> {
        Ok(self.ask(ALL_PATH, (Method::GET, ALL_PATH), empty()).await?.into_body())
    }

    /// Puts files of an archive in place.
    ///
    /// # Errors
    /// See [`ClientError`]: [`crate::Refusal::NotFound`] where the source is not in the archive,
    /// [`crate::Refusal::Denied`] for an unknown owner, [`crate::Refusal::Invalid`] for an archive
    /// that is refused. What was put in place before stays.
    pub async fn unpack(&self, unpack: &Unpack, archive: Body) -> Result<Unpacked, ClientError> {
        let uri = format!("{UNPACK_PATH}?{}", unpack.to_query());
        read(self.ask(UNPACK_PATH, (Method::POST, &uri), archive).await?).await
    }

    /// Sends a request and lets a success through.
    async fn ask(
        &self,
        what: &'static str,
        (method, uri): (Method, &str),
        body: Body,
    ) -> Result<Response<Body>, ClientError> {
        let request = self.request(method, uri).body(body);
        let request = request.map_err(|error| ClientError::Request(error.into()))?;
        let after = if what == UNPACK_PATH { UNPACK_DEADLINE } else { LOOK_DEADLINE };
        let answer = tokio::time::timeout(after, self.transport.send(request)).await;
        accept(what, answer.map_err(|_elapsed| ClientError::Late { what, after })??).await
    }
}

/// A short answer in JSON.
async fn read<T: DeserializeOwned>(answer: Response<Body>) -> Result<T, ClientError> {
    let bytes = drain(answer.into_body(), ANSWER_LIMIT_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|error| ClientError::protocol(error.to_string()))
}
