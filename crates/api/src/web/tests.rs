use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use tower::ServiceExt;

use super::*;

/// What the whole dashboard may weigh as it is sent.
const GZIP_BYTES_MAX: usize = 250 * 1_024;

async fn get_file(path: &str, encoding: &str) -> Response {
    let request = Request::get(path).header(header::ACCEPT_ENCODING, encoding).body(Body::empty()).unwrap();
    web_router().oneshot(request).await.unwrap()
}

async fn body_of(response: Response) -> Bytes {
    axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap()
}

fn files_in(folder: &Path, name: &str, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = format!("{name}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files_in(&entry.path(), &format!("{name}/"), into);
        } else {
            into.insert(name);
        }
    }
}

#[test]
fn every_file_of_the_folder_is_served_and_nothing_else() {
    let mut found = BTreeSet::new();
    files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("web"), "", &mut found);
    found.retain(|name| name != "index.html" && !name.ends_with(".LICENSE"));
    let served: BTreeSet<String> = SOURCES.iter().map(|source| source.name.to_owned()).collect();
    assert_eq!(found, served, "left: the folder, right: the list in web.rs");
}

#[test]
fn it_all_weighs_less_than_its_bound() {
    let bytes: usize = SITE.assets.iter().chain([&SITE.document]).map(|file| file.gzip.as_ref().unwrap().len()).sum();
    assert!(bytes < GZIP_BYTES_MAX, "{bytes} bytes compressed");
}

#[test]
fn the_chart_library_is_the_one_that_was_released() {
    // uPlot 1.6.32 of npm, https://registry.npmjs.org/uplot/-/uplot-1.6.32.tgz: `dist/uPlot.iife.min.js` and `dist/uPlot.min.css`.
    for (name, sha256) in [
        ("vendor/uPlot.iife.min.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
        ("vendor/uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
    ] {
        let source = SOURCES.iter().find(|source| source.name == name).unwrap();
        let hash: String = Sha256::digest(source.text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, sha256, "{name} was changed; change what uses it instead");
    }
}

#[test]
fn nothing_is_asked_of_another_server_and_nothing_is_inline() {
    for source in SOURCES.iter().filter(|source| !source.name.starts_with("vendor/")) {
        for forbidden in ["http://", "https://", "innerHTML", "eval(", "style=\""] {
            let text = source.text.replace("http://www.w3.org/", "");
            assert!(!text.contains(forbidden), "{} holds {forbidden}", source.name);
        }
    }
    assert!(!DOCUMENT.contains("<style") && !DOCUMENT.contains("style=") && !DOCUMENT.contains(" on"));
    assert!(
        DOCUMENT.matches("<script").count()
            == DOCUMENT.matches("<script src=").count()
                + DOCUMENT.matches("<script type=\"module\" src=").count()
                + DOCUMENT.matches("<script defer src=").count()
    );
}

#[tokio::test]
async fn the_document_names_files_that_are_there_and_are_kept_for_ever() {
    let document = String::from_utf8(body_of(get_file("/campaigns", "").await).await.to_vec()).unwrap();
    assert!(!document.contains("HASH"));
    let paths: Vec<&str> = document.split('"').filter(|text| text.starts_with(ASSETS_PATH)).collect();
    assert!(paths.len() > 3, "{paths:?}");
    for path in paths {
        let answer = get_file(path, "gzip, br").await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], FOREVER);
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
        let plain = get_file(path, "identity").await;
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        assert!(body_of(plain).await.len() >= body_of(answer).await.len(), "{path}");
    }
}

#[tokio::test]
async fn every_page_has_the_strict_policy() {
    for page in PAGES {
        let answer = get_file(page, "gzip").await;
        assert_eq!(answer.status(), StatusCode::OK, "{page}");
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert!(is_web(page));
    }
    assert!(!is_web("/v1/query") && !is_web("/metrics"));
}
