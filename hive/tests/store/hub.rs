//! A hub for tests: listings and redirects on one port, the bytes on another, like the real one. It records its requests, and
//! can be set to answer badly.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use rbee_hive::store::{RetryLimits, Store, StoreConfig};
use rbee_schema::{Failure, HubFile, ModelReference};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const TOKEN: &str = "hf_secret";

/// Answer to the next request for bytes.
pub(crate) enum Answer {
    /// This number of bytes, then the connection is cut.
    Cut(usize),
    /// This number of bytes, then nothing until the gate opens.
    Hold(usize, watch::Receiver<bool>),
    /// A status and no bytes.
    Status(u16),
    /// The whole file, whatever range was requested.
    WithoutRange,
    /// Other bytes than those listed, as many as were requested.
    OtherBytes,
}

/// Digests in the listing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    Large,
    GitObject,
    /// Neither size nor digest, as on some mirrors.
    Bare,
}

/// A request for bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

pub(crate) struct Talk {
    pub(crate) files: BTreeMap<String, Bytes>,
    pub(crate) listed: Listed,
    /// Wrong sizes in the listing.
    pub(crate) wrong_sizes: BTreeMap<String, u64>,
    /// Refusals of the next listings: the status, and the hub's code.
    pub(crate) refusals: VecDeque<(u16, &'static str)>,
    /// Answer instead of a listing.
    pub(crate) garbage: Option<&'static str>,
    pub(crate) answers: VecDeque<Answer>,
    pub(crate) listings: Vec<Option<String>>,
    pub(crate) seen: Vec<Seen>,
}

#[derive(Clone)]
struct Shared {
    talk: Arc<Mutex<Talk>>,
    bytes_at: SocketAddr,
}

pub(crate) struct FakeHub {
    pub(crate) endpoint: String,
    shared: Shared,
    servers: Vec<JoinHandle<()>>,
}

impl FakeHub {
    pub(crate) async fn start(files: &[(&str, Bytes)]) -> Self {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect();
        let talk = Talk {
            files,
            listed: Listed::Large,
            wrong_sizes: BTreeMap::new(),
            refusals: VecDeque::new(),
            garbage: None,
            answers: VecDeque::new(),
            listings: Vec::new(),
            seen: Vec::new(),
        };
        let (hub, bytes) = (listener().await, listener().await);
        let at = |listener: &TcpListener| listener.local_addr().expect("a bound socket has an address");
        let endpoint = format!("http://{}", at(&hub));
        let shared = Shared { talk: Arc::new(Mutex::new(talk)), bytes_at: at(&bytes) };
        let front = Router::new()
            .route("/api/models/{owner}/{name}/revision/{revision}", get(listing))
            .route("/{owner}/{name}/resolve/{commit}/{*path}", get(resolve))
            .with_state(shared.clone());
        let back = Router::new().route("/bytes/{*path}", get(content)).with_state(shared.clone());
        let servers = [(hub, front), (bytes, back)].map(|(listener, router)| {
            tokio::spawn(async move { axum::serve(listener, router).await.expect("the test's server runs") })
        });
        Self { endpoint, shared, servers: servers.into() }
    }

    pub(crate) fn talk(&self) -> MutexGuard<'_, Talk> {
        self.shared.talk.lock().expect("no test panicked with it")
    }

    /// Ranges of the requests for bytes.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        self.talk().seen.iter().map(|seen| seen.range.clone()).collect()
    }

    /// Stops both servers.
    pub(crate) async fn stop(&mut self) {
        for server in self.servers.drain(..) {
            server.abort();
            let _ = server.await;
        }
    }

    /// A store that fetches from this hub, with short pauses.
    pub(crate) fn store(&self, folder: &Path) -> Store {
        Store::open(self.config(folder)).expect("a store")
    }

    pub(crate) fn config(&self, folder: &Path) -> StoreConfig {
        let retry = RetryLimits { attempts: 3, first_pause: Duration::from_millis(1), ..RetryLimits::default() };
        StoreConfig { endpoint: self.endpoint.clone(), retry, ..StoreConfig::new(folder) }
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

fn token(headers: &HeaderMap) -> Option<String> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

async fn listing(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut talk = shared.talk.lock().expect("no test panicked with it");
    talk.listings.push(token(&headers));
    if let Some((status, code)) = talk.refusals.pop_front() {
        let status = StatusCode::from_u16(status).expect("a status");
        return (status, [("x-error-code", code)], "no").into_response();
    }
    if let Some(garbage) = talk.garbage {
        return garbage.into_response();
    }
    let mut siblings = Vec::new();
    for (path, bytes) in &talk.files {
        let size = talk.wrong_sizes.get(path).copied().unwrap_or(bytes.len() as u64);
        let object = &sha256(path.as_bytes())[..40];
        siblings.push(match talk.listed {
            Listed::Large => format!(
                r#"{{"rfilename":"{path}","size":{size},"blobId":"{object}","lfs":{{"sha256":"{}","size":{size},"pointerSize":134}}}}"#,
                sha256(bytes)
            ),
            Listed::GitObject => format!(r#"{{"rfilename":"{path}","size":{size},"blobId":"{object}"}}"#),
            Listed::Bare => format!(r#"{{"rfilename":"{path}"}}"#),
        });
    }
    let body = format!(r#"{{"id":"o/r","sha":"{COMMIT}","siblings":[{}]}}"#, siblings.join(","));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn resolve(
    State(shared): State<Shared>,
    UrlPath((_, _, commit, path)): UrlPath<(String, String, String, String)>,
) -> Response {
    let talk = shared.talk.lock().expect("no test panicked with it");
    let Some(bytes) = talk.files.get(&path).filter(|_| commit == COMMIT) else {
        return (StatusCode::NOT_FOUND, [("x-error-code", "EntryNotFound")], "Entry not found").into_response();
    };
    let headers = [
        ("location", format!("http://{}/bytes/{path}?signature=abc", shared.bytes_at)),
        ("x-repo-commit", COMMIT.to_owned()),
        ("x-linked-size", bytes.len().to_string()),
        ("x-linked-etag", format!("\"{}\"", sha256(bytes))),
    ];
    (StatusCode::FOUND, headers, "").into_response()
}

async fn content(State(shared): State<Shared>, UrlPath(path): UrlPath<String>, headers: HeaderMap) -> Response {
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut talk = shared.talk.lock().expect("no test panicked with it");
    talk.seen.push(Seen { path: path.clone(), range: range.clone(), token: token(&headers) });
    let Some(whole) = talk.files.get(&path).cloned() else { return StatusCode::NOT_FOUND.into_response() };
    let answer = talk.answers.pop_front();
    let span = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let span = span.filter(|_| !matches!(answer, Some(Answer::WithoutRange)));
    let from = span.map_or(0, |(from, _)| from.parse().expect("a range begins with a number"));
    let end = span.and_then(|(_, end)| end.parse::<usize>().ok()).map_or(whole.len(), |last| last + 1);
    if from >= whole.len() {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let requested = whole.slice(from..end);
    let mut response = Response::builder().header(header::CONTENT_LENGTH, requested.len());
    if span.is_some() {
        let content_range = format!("bytes {from}-{}/{}", end - 1, whole.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, content_range);
    }
    let cut = || Err(io::Error::other("the test cuts the connection"));
    let body = match answer {
        None | Some(Answer::WithoutRange) => Body::from(requested),
        Some(Answer::OtherBytes) => Body::from(vec![b'?'; requested.len()]),
        Some(Answer::Status(status)) => {
            return StatusCode::from_u16(status).expect("a status").into_response();
        }
        Some(Answer::Cut(after)) => {
            // The bytes are sent before the connection is cut.
            let sent = stream::once(async move { Ok(requested.slice(..after)) });
            let end = stream::once(async move {
                tokio::task::yield_now().await;
                cut()
            });
            Body::from_stream(sent.chain(end))
        }
        Some(Answer::Hold(after, mut gate)) => {
            let (begin, rest) = (requested.slice(..after), requested.slice(after..));
            let sent = stream::once(async move { Ok::<_, io::Error>(begin) });
            let held = stream::once(async move {
                gate.wait_for(|open| *open).await.map_err(io::Error::other)?;
                Ok(rest)
            });
            Body::from_stream(sent.chain(held))
        }
    };
    response.body(body).expect("a response")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Pseudorandom bytes.
pub(crate) fn weights(size: usize) -> Bytes {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

pub(crate) fn reference(text: &str) -> ModelReference {
    text.parse().expect("a reference")
}

pub(crate) fn hub_file(text: &str) -> HubFile {
    text.parse().expect("a file on the hub")
}

/// Waits for something that must happen. The limit is for a test that fails.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), what).await.expect("it comes within a minute")
}

/// Sends a value to the test, if it still receives.
pub(crate) fn send<T>(sender: &mpsc::UnboundedSender<T>, what: T) {
    let _ = sender.send(what);
}

/// Provides a file without reporting progress.
pub(crate) async fn provide(store: &Store, text: &str) -> Result<std::path::PathBuf, Failure> {
    store.provide(&reference(text), |_| {}).await
}

/// Files under a folder, without the store's lock files.
pub(crate) fn files_under(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(folder).expect("under it").display().to_string();
            if name.starts_with(".locks") || name.starts_with("lost+found") {
                continue;
            }
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(name),
            }
        }
    }
    found.sort();
    found
}
