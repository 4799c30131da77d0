//! Which RPC is which function.

use std::sync::Arc;

use courier_protocol::envd::filesystem::WatchDirResponse;
use courier_protocol::envd::process::Empty;

use crate::context::Context;
use crate::http::{Request, Response};
use crate::rpc;

/// Answers a call of `filesystem.Filesystem/{method}`.
pub(crate) async fn serve(context: Arc<Context>, method: &str, request: Request) -> Response {
    /// Serves a call of one message each way by a function of the module above.
    macro_rules! unary {
        ($function:ident) => {
            rpc::unary(request, |call, message| async move {
                let user = call.user(&context)?;
                super::$function(&context, &user, message).await
            })
            .await
        };
    }
    match method {
        "Stat" => unary!(stat),
        "MakeDir" => unary!(make_dir),
        "Move" => unary!(move_entry),
        "ListDir" => unary!(list_dir),
        "Remove" => unary!(remove),
        "CreateWatcher" => unary!(create_watcher),
        "GetWatcherEvents" => unary!(get_watcher_events),
        "RemoveWatcher" => unary!(remove_watcher),
        "WatchDir" => {
            rpc::server_stream(request, keepalive, |call, message| async move {
                let user = call.user(&context)?;
                let events = super::watch_dir(&context, &user, message).await?;
                Ok(call.bounded(events))
            })
            .await
        }
        _ => rpc::unknown_method(request.uri().path()),
    }
}

fn keepalive() -> WatchDirResponse {
    WatchDirResponse { keepalive: Some(Empty {}), ..WatchDirResponse::default() }
}
