//! What the tests of secrets share: two secrets, and a sandbox whose policy uses them.

use courier_tests::http::Whole;
use courier_tests::rig::Place;
use courier_tests::rig::journal::Request;
use courier_tests::sandbox::Sandbox;
use serde_json::{Value, json};

use crate::world::{LIFETIME_MS, World};

/// Name of the secret that is sent as a bearer credential, and exchanged.
pub(crate) const API: &str = "api-key";
/// Name of the secret that is Git's password.
pub(crate) const GIT: &str = "git-password";

/// A policy that uses both.
pub(crate) fn policy(user: &str) -> Value {
    json!({
        "rules": [
            {"allow": "allowed.test"},
            {"allow": "denied-path.brokered.test", "paths": ["/open/*"]},
            {"deny": "denied-path.brokered.test"},
            {"allow": "brokered.test"},
            {"allow": "*.brokered.test"},
            {"allow": "exchange.test"},
            {"allow": "git.test"},
            {"allow": "bound.test", "methods": ["GET"], "paths": ["/open/*"]},
        ],
        "credentials": [
            {"host": "brokered.test", "secret": API, "as": {"bearer": {}}},
            {"host": "*.brokered.test", "secret": API, "as": {"bearer": {}}},
            {"host": "exchange.test", "secret": API, "as": {"placeholder": {}}},
            {"host": "git.test", "secret": GIT, "as": {"basic": {"username": user}},
             "paths": ["/git/*"]},
        ],
    })
}

impl World {
    /// A value that a credential can have: it has characters that every encoding changes.
    pub(crate) fn value(&self) -> String {
        format!("s3cret+/{}\"%=~", self.canary())
    }

    /// Stores a secret, or gives it another value.
    #[track_caller]
    pub(crate) fn store(&self, name: &str, value: &str) {
        let body = json!({"value": value});
        let known = self.server.call("POST", &format!("/secrets/{name}"), Some(&body));
        if known.status == 404 {
            let body = json!({"name": name, "value": value});
            self.server.call("POST", "/secrets", Some(&body)).assert_status(201);
        } else {
            assert!(matches!(known.status, 200 | 204), "{}: {}", known.status, known.text());
        }
    }

    /// A sandbox whose policy uses the secrets, and which holds a token for one of them in its
    /// variable `TOKEN`.
    #[track_caller]
    pub(crate) fn brokered(&self) -> Sandbox<'_> {
        let (user, password) = &self.rig.world.credentials;
        if !self.knows(GIT) {
            self.store(GIT, password);
        }
        self.create_from(&json!({
            "template": "base",
            "timeout_ms": LIFETIME_MS,
            "egress": policy(user),
            "env": {"TOKEN": {"secret": API, "ttl_seconds": 900}},
        }))
    }

    fn knows(&self, name: &str) -> bool {
        self.server.call("GET", &format!("/secrets/{name}"), None).status == 200
    }

    /// The requests for a host that decoys received after `place`.
    #[track_caller]
    pub(crate) fn requests_for(&self, place: &Place, host: &str) -> Vec<Request> {
        let requests = self.rig.requests(place).into_iter();
        requests.filter(|request| request.host == host).collect()
    }

    /// Asks the server whether a token is worth anything.
    #[track_caller]
    pub(crate) fn introspect(&self, token: &str) -> Whole {
        let body = json!({"token": token});
        self.server.call("POST", "/v1/tokens/introspect", Some(&body))
    }
}
