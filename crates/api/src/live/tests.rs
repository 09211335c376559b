use axum::http::{HeaderValue, Request, StatusCode};
use futures::StreamExt;
use tower::ServiceExt;

use super::*;

fn feed() -> (watch::Sender<Frame>, Arc<Live>) {
    let (frames, newest) = watch::channel(Frame::from_static("old"));
    (frames, Live::new(newest, &mut Registry::default()))
}

async fn ask(live: &Arc<Live>, path: &str) -> Response {
    live_router(Arc::clone(live)).oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_slow_viewer_gets_the_newest_figures_and_not_all_that_it_missed() {
    let (frames, live) = feed();
    let mut viewer = live.viewer().unwrap();
    for nth in 1..=3 {
        frames.send_replace(nth.to_string().into());
    }
    assert_eq!(viewer.next().await.unwrap().as_str(), "3");
    drop(frames);
    assert!(viewer.next().await.is_none(), "the server stops");
}

#[tokio::test]
async fn the_stream_begins_with_a_new_frame_and_ends_with_the_server() {
    let (frames, live) = feed();
    let answer = ask(&live, "/v1/live/events").await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert!(live.is_watched());
    let mut body = answer.into_body().into_data_stream();
    frames.send_replace(Frame::from_static("{}"));
    assert_eq!(&body.next().await.unwrap().unwrap()[..], b"data: {}\n\n");
    drop(frames);
    assert!(body.next().await.is_none());
    drop(body);
    assert!(!live.is_watched());
}

#[tokio::test]
async fn one_more_than_there_are_places_is_refused_until_somebody_goes() {
    let (_frames, live) = feed();
    let mut viewers: Vec<Viewer> = (0..CONNECTIONS_MAX).map(|_| live.viewer().unwrap()).collect();
    let refused = ask(&live, "/v1/live/events").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!((live.refused.get(), live.connections.get()), (1, CONNECTIONS_MAX as i64));
    viewers.pop();
    assert_eq!(ask(&live, "/v1/live/events").await.status(), StatusCode::OK);
}

#[test]
fn a_page_of_another_server_gets_no_figures() {
    let asked = |origin: Option<&'static str>| {
        let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("tally.example:8080"))]);
        headers.extend(origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))));
        is_of_one_origin(&headers)
    };
    assert!(asked(None) && asked(Some("http://tally.example:8080")) && asked(Some("https://tally.example:8080")));
    for other in ["http://evil.example", "http://tally.example", "null", "http://tally.example:8080.evil.example", ""] {
        assert!(!asked(Some(other)), "{other}");
    }
}
