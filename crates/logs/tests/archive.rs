//! The archive of logs, in a folder and on a small S3 server of the test's own.
#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use stint_logs::Excerpt;
use stint_logs::archive::{Archive, Run};

fn run(container: &str, restart_count: u32) -> Run {
    let pod_uid = "01234567-89ab-cdef-0123-456789abcdef".to_owned();
    Run { pod_uid, container: container.to_owned(), restart_count }
}

/// Entries of 48 bytes each.
fn excerpt(first: u64, count: usize) -> Excerpt {
    let entry = |number| format!("1970-01-01T00:00:00.000000000Z stdout F {number:07}\n");
    let entries: String = (first / 48..).take(count).map(entry).collect();
    Excerpt { first_offset: first, entries: entries.into_bytes() }
}

/// What is put comes back, part by part, and nothing of other runs does.
async fn check(archive: &Archive) {
    assert_eq!(archive.parts(&run("main", 0)).await.unwrap(), []);
    let (one, two) = (excerpt(0, 1_000), excerpt(48_000, 10));
    assert_eq!(one.end_offset(), two.first_offset);
    archive.put(&run("main", 0), &one, false).await.unwrap();
    assert!(!archive.parts(&run("main", 0)).await.unwrap()[0].is_end);
    archive.put(&run("main", 0), &two, true).await.unwrap();
    // Again, as after a restart.
    archive.put(&run("main", 0), &one, false).await.unwrap();
    archive.put(&run("main", 1), &excerpt(96, 3), true).await.unwrap();
    archive.put(&run("main-2", 0), &excerpt(0, 3), true).await.unwrap();
    let parts = archive.parts(&run("main", 0)).await.unwrap();
    assert_eq!(parts.iter().map(|part| part.is_end).collect::<Vec<_>>(), [false, true]);
    assert_eq!(archive.get(&run("main", 0), parts[0]).await.unwrap(), one);
    assert_eq!(archive.get(&run("main", 0), parts[1]).await.unwrap(), two);
    assert_eq!(archive.parts(&run("main", 1)).await.unwrap().len(), 1);
    assert_eq!(archive.parts(&run("other", 0)).await.unwrap(), []);
}

#[tokio::test]
async fn r13_a_folder_is_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/logs", folder.path().display());
    check(&Archive::open(&url).unwrap()).await;
    // As documented, for those who read it without stint.
    let name =
        "01234567-89ab-cdef-0123-456789abcdef/main.0.00000000000000048000-00000000000000048480.end.log.zst";
    let path = folder.path().join("logs").join(name);
    let content = zstd::stream::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(content, excerpt(48_000, 10).entries);
    // What is not what was uploaded is an error, not an end of the log.
    std::fs::write(&path, "no zstd").unwrap();
    let archive = Archive::open(&url).unwrap();
    let parts = archive.parts(&run("main", 0)).await.unwrap();
    assert!(archive.get(&run("main", 0), parts[1]).await.is_err());
    for wrong in ["no url", "ftp://host/path", "file://host/path", "s3:///path"] {
        assert!(Archive::open(wrong).is_err(), "{wrong}");
    }
    for (with_credentials, says) in [
        ("s3://key:of-a-bucket@bucket/path", "holds credentials"),
        ("s3://key:of-a/bucket@bucket/path", "s3://…"),
        ("az://container:of-a-bucket@account.dfs.core.windows.net/path", "holds credentials"),
    ] {
        let refused = Archive::open(with_credentials).err().unwrap().to_string();
        assert!(refused.contains(says) && !refused.contains("of-a"), "{refused}");
    }
    let account = [("AZURE_STORAGE_ACCOUNT_KEY".to_owned(), "a2V5".to_owned())];
    for azure in [
        "abfss://container@account.dfs.core.windows.net/path",
        "abfss://container@account.dfs.core.windows.net",
    ] {
        drop(Archive::open_with(azure, account.clone()).unwrap());
    }
}

type Objects = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// The few calls of S3 that are needed, for one bucket: signed requests, of any signature.
async fn s3() -> String {
    async fn list(
        State(objects): State<Objects>,
        Query(query): Query<HashMap<String, String>>,
        headers: HeaderMap,
    ) -> Response {
        if !headers.get("authorization").is_some_and(|value| value.to_str().unwrap().contains("the-key-id")) {
            return StatusCode::FORBIDDEN.into_response();
        }
        let prefix = query.get("prefix").cloned().unwrap_or_default();
        let objects = objects.lock().unwrap();
        let found = objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        let contents: String = found
            .map(|(key, content)| {
                format!(
                    "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>e</ETag></Contents>",
                    content.len()
                )
            })
            .collect();
        let text = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>");
        ([("content-type", "application/xml")], text).into_response()
    }
    async fn put(State(objects): State<Objects>, Path(key): Path<String>, content: Bytes) -> Response {
        objects.lock().unwrap().insert(key, content);
        [("etag", "e")].into_response()
    }
    async fn read(State(objects): State<Objects>, Path(key): Path<String>) -> Response {
        match objects.lock().unwrap().get(&key) {
            Some(content) => {
                let headers = [("etag", "e"), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")];
                (headers, content.clone()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
    let routes = Router::new()
        .route("/bucket", get(list))
        .route("/bucket/{*key}", get(read).put(put))
        .with_state(Objects::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

#[tokio::test]
async fn r13_a_bucket_is_an_archive() {
    let endpoint = s3().await;
    let environment = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "the-key-id"),
        ("AWS_SECRET_ACCESS_KEY", "a-secret"),
        ("AWS_REGION", "nowhere-1"),
        ("NOT_FOR_US", "x"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let archive = Archive::open_with("s3://bucket/some/path", environment).unwrap();
    check(&archive).await;
}
