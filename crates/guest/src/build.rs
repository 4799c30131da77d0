//! What the node asks for while a template is built: the image made fit, what a step changed as a
//! layer, files of the build's context put in place. No client can reach any of it.
//!
//! Everything works below a root directory that is handed in: the sandbox's own, or in tests another
//! one. A daemon that is not a sandbox's pid 1 has none, and answers 503.

mod accounts;
mod attributes;
mod changes;
mod layer;
mod own;
mod place;
mod provision;
mod stream;
mod tree;
mod unpack;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use courier_protocol::envd::build::{
    ALL_PATH, CHANGES_PATH, LAYER_TYPE, MARK_PATH, PROVISION_PATH, UNPACK_PATH, USERS_PATH, Unpack,
};
use courier_protocol::percent;
use http::{Method, StatusCode};

use crate::context::Context;
use crate::http::{self as answers, Request, Response};
use changes::{Change, ChangesError, Look};
pub(crate) use own::Own;
use tree::{Tree, TreeError};

/// The look that changes are held against; none before the first mark.
#[derive(Debug, Default)]
pub(crate) struct Mark(Mutex<Option<Arc<Look>>>);

impl Mark {
    fn get(&self) -> Option<Arc<Look>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, look: Look) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(look));
    }
}

/// Why a layer was not begun.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("nothing was marked")]
    Unmarked,
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Changes(#[from] ChangesError),
}

/// Which layer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    All,
    Changes,
}

/// Whether a path is one of these.
pub(crate) fn is_path(path: &str) -> bool {
    [PROVISION_PATH, USERS_PATH, MARK_PATH, CHANGES_PATH, ALL_PATH, UNPACK_PATH].contains(&path)
}

/// Answers a request to one of these paths.
pub(crate) async fn handle(context: Arc<Context>, request: Request) -> Response {
    let Some(root) = context.root() else {
        let told = "this daemon is not a sandbox's first process";
        return answers::error(StatusCode::SERVICE_UNAVAILABLE, told);
    };
    match (request.method(), request.uri().path()) {
        (&Method::POST, PROVISION_PATH) => {
            blocking(move || provision::answer(provision::provision(&root))).await
        }
        (&Method::POST, USERS_PATH) => {
            let query = request.uri().query().unwrap_or_default().to_owned();
            blocking(move || add_user(&root, &query)).await
        }
        (&Method::POST, MARK_PATH) => blocking(move || mark(&context, &root)).await,
        (&Method::GET, CHANGES_PATH) => {
            blocking(move || layer(&context, root, Extent::Changes)).await
        }
        (&Method::GET, ALL_PATH) => blocking(move || layer(&context, root, Extent::All)).await,
        (&Method::POST, UNPACK_PATH) => unpack_body(context, root, request).await,
        _ => answers::error(StatusCode::METHOD_NOT_ALLOWED, "use the other method"),
    }
}

/// Answers on a thread that may block.
async fn blocking(answer: impl FnOnce() -> Response + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(answer).await {
        Ok(answer) => answer,
        Err(error) => answers::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn add_user(root: &std::path::Path, query: &str) -> Response {
    let name = query.strip_prefix("name=").and_then(percent::decode);
    match name.and_then(|name| String::from_utf8(name).ok()) {
        Some(name) => provision::answer(accounts::ensure(root, &name)),
        None => answers::error(StatusCode::BAD_REQUEST, "there is no name"),
    }
}

fn mark(context: &Context, root: &std::path::Path) -> Response {
    match Tree::open(root).and_then(|tree| look(&tree)) {
        Ok(look) => {
            context.mark().set(look);
            answers::status(StatusCode::NO_CONTENT)
        }
        Err(error) => refuse(&error.into()),
    }
}

/// All entries as they are now.
fn look(tree: &Tree) -> Result<Look, TreeError> {
    let mut look = Look::new();
    tree.walk(&Own::is_at, &mut |path, stamp| look.push((path, stamp)))?;
    Ok(look)
}

/// Begins a layer; a thread of its own writes it while it is sent.
fn layer(context: &Arc<Context>, root: PathBuf, extent: Extent) -> Response {
    let (tree, now, changes) = match find(context, root, extent) {
        Ok(found) => found,
        Err(error) => return refuse(&error),
    };
    if changes.is_empty() {
        // The times of folders may have changed.
        context.mark().set(now);
        return answers::status(StatusCode::NO_CONTENT);
    }
    let own = Arc::clone(&context.settings().own);
    let (sink, body) = stream::outgoing();
    let breaker = sink.breaker();
    let context = Arc::clone(context);
    tokio::task::spawn_blocking(move || match layer::write(&tree, &own, &changes, sink) {
        Ok(sink) => sink.end(move || {
            if extent == Extent::Changes {
                context.mark().set(now);
            }
        }),
        Err(error) => {
            // Whoever reads learns only that it broke off.
            answers::tell(&format_args!("a layer was not written: {error}"));
            breaker.fail(error);
        }
    });
    answers::typed(StatusCode::OK, LAYER_TYPE, body)
}

fn find(
    context: &Context,
    root: PathBuf,
    extent: Extent,
) -> Result<(Tree, Look, Vec<Change>), LookError> {
    let tree = Tree::open(&root)?;
    let before = match extent {
        Extent::All => None,
        Extent::Changes => Some(context.mark().get().ok_or(LookError::Unmarked)?),
    };
    let now = look(&tree)?;
    let changes = match before {
        None => changes::all(&now)?,
        Some(before) => changes::between(&before, &now)?,
    };
    Ok((tree, now, changes))
}

fn refuse(error: &LookError) -> Response {
    let status = match error {
        LookError::Unmarked => StatusCode::CONFLICT,
        LookError::Changes(_) | LookError::Tree(TreeError::Path { .. }) => StatusCode::BAD_REQUEST,
        LookError::Tree(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    answers::error(status, &error.to_string())
}

async fn unpack_body(context: Arc<Context>, root: PathBuf, request: Request) -> Response {
    let Some(order) = request.uri().query().and_then(Unpack::from_query) else {
        return answers::error(StatusCode::BAD_REQUEST, "the query is not one of an unpack");
    };
    let (body, task) = stream::arriving(request.into_body());
    let unpacked = tokio::task::spawn_blocking(move || {
        unpack::unpack(&root, context.accounts(), &order, body)
    });
    let answer = match unpacked.await {
        Ok(Ok(unpacked)) => answers::json(StatusCode::OK, &unpacked),
        Ok(Err(error)) => answers::error(error.status(), &error.to_string()),
        Err(error) => answers::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    stream::drain(task).await;
    answer
}
