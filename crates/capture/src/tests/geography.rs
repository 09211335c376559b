//! Where an event's visitor was: what the event says, then the CDN, then the file.

use axum::http::Method;

use super::{CLICK, Door, LOOPBACK, STRANGER, request};
use crate::geo::fixture::mmdb;

/// Behind our own proxy, which says whose request it was.
const PROXY: &str = "10.0.0.1:443";
const BERLIN: &str = "198.51.100.4";

fn geo_file(folder: &tempfile::TempDir, country: &str, part: &str) -> std::path::PathBuf {
    let path = folder.path().join("geo.mmdb");
    std::fs::write(&path, mmdb(&[("198.51.100.0/24", country, Some(part)), ("203.0.113.0/24", "FR", None)])).unwrap();
    path
}

async fn place(door: &Door, path: &str, peer: &str, headers: &[(&str, &str)], body: &str) -> [Option<String>; 2] {
    let before = door.events().len();
    door.send(request(Method::POST, path, peer, headers, body.to_owned())).await.expect(202);
    let event = door.events().into_iter().max_by_key(|event| event.received_at_us).unwrap();
    assert_eq!((before, door.events().len()), (0, 1), "one event for each door");
    [event.country.map(|country| country.as_str().to_owned()), event.subdivision.map(|part| part.as_str().to_owned())]
}

#[tokio::test]
async fn the_event_goes_before_the_cdn_and_the_cdn_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = geo_file(&folder, "DE", "BE");
    let forwarded = ("x-forwarded-for", BERLIN);
    let cdn = [forwarded, ("cf-ipcountry", "US"), ("cf-region-code", "TX")];
    let unknown = [forwarded, ("cf-ipcountry", "XX")];
    let says = |field: &str| CLICK.replace('}', &format!(",{field}}}"));
    for (path_of, peer, headers, body, expected) in [
        ("/v1/events", PROXY, &cdn[..], CLICK.to_owned(), [Some("US"), Some("US-TX")]),
        ("/v1/events", PROXY, &unknown[..], CLICK.to_owned(), [Some("DE"), Some("DE-BE")]),
        ("/v1/events", PROXY, &[forwarded][..], CLICK.to_owned(), [Some("DE"), Some("DE-BE")]),
        ("/v1/events", PROXY, &cdn[..], says(r#""country":"JP""#), [Some("JP"), None]),
        ("/v1/events", PROXY, &cdn[..], says(r#""subdivision":"GB-ENG""#), [Some("GB"), Some("GB-ENG")]),
        // Nobody else is believed, and is where the file says.
        ("/v1/events", STRANGER, &cdn[..], CLICK.to_owned(), [Some("FR"), None]),
        // A server of ours says who it was, also in a batch.
        ("/v1/events", LOOPBACK, &[][..], says(r#""ip":"198.51.100.9""#), [Some("DE"), Some("DE-BE")]),
        ("/v1/events/batch", LOOPBACK, &[][..], says(r#""ip":"198.51.100.9""#), [Some("DE"), Some("DE-BE")]),
        ("/v1/events/batch", LOOPBACK, &[][..], CLICK.to_owned(), [None, None]),
    ] {
        let door = Door::with_geo_file(&path);
        let found = place(&door, path_of, peer, headers, &body).await;
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{path_of} {peer} {headers:?} {body}");
    }
}

#[tokio::test]
async fn a_newer_file_takes_the_place_of_the_older_one_while_the_door_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::with_geo_file(&geo_file(&folder, "DE", "BE"));
    std::fs::write(folder.path().join("geo.mmdb"), "half a file").unwrap();
    door.capture.refresh();
    assert_eq!(door.metric(r#"tally_capture_files_read_total{file="geography",outcome="failed"}"#), 1.0);
    geo_file(&folder, "AT", "9");
    door.capture.refresh();
    let found = place(&door, "/v1/events", PROXY, &[("x-forwarded-for", BERLIN)], CLICK).await;
    assert_eq!(found.each_ref().map(Option::as_deref), [Some("AT"), Some("AT-9")]);
}
