//! What the node relies on: readiness, greeting, new epochs, the end.

use std::time::{Duration, Instant};

use courier_protocol::envd::process::{ListRequest, ListResponse};
use http::StatusCode;
use http_body_util::BodyExt as _;

use crate::client::{Client, Daemon, shell};

#[tokio::test]
async fn it_is_ready_takes_its_greeting_and_refuses_unknown_paths() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    assert_eq!(client.get("/ready").await.0, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/health").await.0, StatusCode::NO_CONTENT);
    let (status, body) = client.get("/no/such").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body, r#"{"code":404,"message":"/no/such does not exist"}"#);
    let init = r#"{"envVars":{"A":"1"},"defaultUser":"root","defaultWorkdir":"/usr",
        "sandboxId":"i00000000000000000000","templateId":"base","timestamp":1,"diskBytes":5,
        "nameserver":"192.0.0.1","caBundle":""}"#;
    let request = http::Request::post("http://guest/init").body(init.into()).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    response.collect().await.unwrap();
    assert_eq!(client.get("/envs").await.1, r#"{"A":"1"}"#);
    let text =
        client.shell("echo $A $E2B_SANDBOX_ID $E2B_TEMPLATE_ID; pwd").await.rest().await.text();
    assert_eq!(text, "1 i00000000000000000000 base\n/usr\n");
}

#[tokio::test]
async fn commands_outlive_an_epoch_and_a_new_one_finds_them() {
    let mut daemon = Daemon::start().await;
    let mut events = daemon.client().shell("sleep 1000").await;
    let pid = events.started().await;
    let client = Client::open(daemon.channel.as_mut().unwrap(), 2).await;
    let list: ListResponse = client.unary("List", &ListRequest {}).await.unwrap();
    assert_eq!(list.processes.first().map(|process| process.pid), Some(pid));
    assert!(daemon.client().send(http::Request::new(Default::default())).await.is_err());
}

#[tokio::test]
async fn when_the_channel_closes_the_daemon_ends_and_takes_its_commands_along() {
    let mut daemon = Daemon::start().await;
    let mut events = daemon.client().start(&shell("exec sleep 1000")).await;
    let pid = events.started().await;
    drop(events);
    daemon.hang_up();
    let (child, deadline) = (&mut daemon.child, Instant::now() + Duration::from_secs(20));
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "the daemon still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(status.success(), "{status}");
    while std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|text| !text.is_empty())
    {
        assert!(Instant::now() < deadline, "the command still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
