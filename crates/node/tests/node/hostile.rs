//! Guests that lie, flood, hang and break off. The node stays whole and says whose fault it was.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier_node::LocalNode;
use courier_protocol::node::{Body, Node as _, NodeError};
use courier_types::{EndReason, ObservedState};
use http::Request;
use http_body_util::{BodyExt as _, Empty};

use crate::driver::{TestDriver, node, spec};
use crate::front::PATIENCE;
use crate::guest::Manner;

fn get(path: &str) -> Request<Body> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    Request::builder().uri(path).body(body).unwrap()
}

async fn with_guest(manner: Manner) -> (Arc<TestDriver>, LocalNode) {
    let driver = Arc::new(TestDriver::new(manner));
    let node = node(Arc::clone(&driver));
    if manner == Manner::Polite {
        node.create(spec(1, None)).await.unwrap();
    }
    (driver, node)
}

#[tokio::test]
async fn a_guest_that_never_answers_well_never_starts_and_leaves_nothing() {
    for manner in [
        Manner::NoMachine,
        Manner::Silent,
        Manner::Garbage,
        Manner::Hangup,
        Manner::Rubbish,
        Manner::Unwilling,
    ] {
        let (driver, node) = with_guest(manner).await;
        let created = node.create(spec(1, None)).await;
        let expected =
            matches!(created, Err(NodeError::NotStarted { reason: EndReason::NeverStarted, .. }));
        assert!(expected, "{manner:?}: {created:?}");
        assert_eq!(driver.count(), 0, "{manner:?}");
        let mut report = node.next_report().await;
        while !report.state.is_terminal() {
            report = node.next_report().await;
        }
        assert_eq!(report.state, ObservedState::Error { reason: EndReason::NeverStarted });
        assert!(report.detail.is_some_and(|detail| !detail.is_empty()), "{manner:?}");
    }
}

#[tokio::test]
async fn a_request_without_an_answer_fails_in_time_and_the_sandbox_goes_on() {
    let (_driver, node) = with_guest(Manner::Polite).await;
    let id = spec(1, None).id;
    let silent = node.request(&id, get("/process.Process/Silent")).await;
    assert!(matches!(silent, Err(NodeError::Guest { .. })), "{silent:?}");
    let fine = node.request(&id, get("/health")).await.unwrap();
    assert_eq!(fine.status(), 204);
}

#[tokio::test]
async fn a_flood_of_headers_is_refused_and_the_sandbox_goes_on() {
    let (_driver, node) = with_guest(Manner::Polite).await;
    let id = spec(1, None).id;
    let flood = node.request(&id, get("/process.Process/ManyHeaders")).await;
    assert!(matches!(flood, Err(NodeError::Guest { .. })), "{flood:?}");
    assert!(node.request(&id, get("/health")).await.is_ok());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_no_end() {
    let (_driver, node) = with_guest(Manner::Polite).await;
    let id = spec(1, None).id;
    let answer = node.request(&id, get("/process.Process/Break")).await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn an_endless_answer_is_held_back_by_a_client_that_does_not_read() {
    let (_driver, node) = with_guest(Manner::Polite).await;
    let id = spec(1, None).id;
    let endless = node.request(&id, get("/process.Process/Endless")).await.unwrap();
    assert!(node.request(&id, get("/health")).await.is_ok());
    let mut body = endless.into_body();
    let mut bytes = 0;
    while bytes < 20 << 20 {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap();
        bytes += frame.unwrap().unwrap().into_data().unwrap().len();
    }
    drop(body);
    assert!(node.request(&id, get("/health")).await.is_ok());
}

#[tokio::test]
async fn a_crowd_that_does_not_read_is_thinned_out_before_it_holds_up_the_sandbox_for_good() {
    let (_driver, node) = with_guest(Manner::Polite).await;
    let id = spec(1, None).id;
    let mut held = Vec::new();
    for _stream in 0..100 {
        let answer = node.request(&id, get("/process.Process/Endless")).await.unwrap();
        held.push(answer.into_body());
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
    let shown = node.request(&id, get("/process.Process/Show")).await.unwrap();
    let shown = tokio::time::timeout(PATIENCE, shown.into_body().collect()).await;
    assert!(shown.unwrap().is_ok());
    let mut cut = 0;
    for body in &mut held {
        // What was cut off never looks like a proper end.
        if tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().is_err() {
            cut += 1;
        }
    }
    assert!((1..100).contains(&cut), "{cut} of 100 were cut off");
}

#[tokio::test]
async fn a_crowd_of_cancelled_streams_does_not_cost_the_sandbox() {
    let (_driver, node) = with_guest(Manner::Polite).await;
    let id = spec(1, None).id;
    for _round in 0..30 {
        let mut held = Vec::new();
        for _stream in 0..100 {
            held.push(node.request(&id, get("/process.Process/Endless")).await.unwrap());
        }
        drop(held);
    }
    assert!(node.request(&id, get("/health")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_cancelled_while_the_guest_sends_do_not_cost_the_sandbox() {
    let (_driver, node) = with_guest(Manner::Polite).await;
    let id = spec(1, None).id;
    for _stream in 0..1_500 {
        drop(node.request(&id, get("/process.Process/Endless")).await.unwrap());
    }
    assert!(node.request(&id, get("/health")).await.is_ok());
}

#[tokio::test]
async fn a_request_whose_own_body_breaks_off_is_not_called_the_guests_doing() {
    let (_driver, node) = with_guest(Manner::Polite).await;
    let (mut sender, body) = http_body_util::Channel::<Bytes, std::io::Error>::new(1);
    let mut request = get("/process.Process/Show");
    *request.body_mut() = body.map_err(Into::into).boxed_unsync();
    *request.method_mut() = http::Method::POST;
    tokio::spawn(async move {
        sender.send_data(Bytes::from_static(b"half")).await.unwrap();
        sender.abort(std::io::Error::other("hung up"));
    });
    let id = spec(1, None).id;
    let Err(NodeError::Guest { source, .. }) = node.request(&id, request).await else {
        unreachable!("an answer to half a request")
    };
    assert_eq!(source.to_string(), "the request broke off before its end");
}

#[tokio::test]
async fn more_requests_than_allowed_are_refused_and_let_in_when_others_end() {
    let (_driver, node) = with_guest(Manner::Polite).await;
    let id = spec(1, None).id;
    let mut held = Vec::new();
    let refused = loop {
        match node.request(&id, get("/process.Process/Stream")).await {
            Ok(answer) => held.push(answer),
            Err(error) => break error,
        }
        // The guest's own bound on streams comes first here, and shows as a late answer.
        if held.len() >= 2_000 {
            break NodeError::Full { what: "never".to_owned() };
        }
    };
    assert!(matches!(refused, NodeError::Full { .. } | NodeError::Guest { .. }), "{refused:?}");
    assert!(held.len() <= 1_024, "{}", held.len());
    drop(held);
    let fine = async {
        while node.request(&id, get("/health")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, fine).await.expect("room again");
}

#[tokio::test]
async fn a_guest_that_hangs_up_later_is_lost_and_destroyed() {
    let (driver, node) = with_guest(Manner::Polite).await;
    let id = spec(1, None).id;
    let mut body = node.request(&id, get("/process.Process/Stream")).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    driver.hang_up(&id);
    let broken = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap();
    assert!(matches!(broken, Some(Err(_))), "{broken:?}");
    let mut report = node.next_report().await;
    while !report.state.is_terminal() {
        report = tokio::time::timeout(PATIENCE, node.next_report()).await.unwrap();
    }
    assert_eq!(report.state, ObservedState::Error { reason: EndReason::GuestLost });
    assert_eq!(driver.count(), 0);
}
