//! What is asked for, and by whom: GET and HEAD of four paths, without a body.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::HttpBody as _,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use stonekeep_config::StatusConfig;
use tokio::sync::Semaphore;

use super::{figures, page, words};
use crate::board::{Board, view::View};

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// What `prometheus-client` writes.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Names of the own host: whoever is on loopback is asked for by one of these. A page in a browser on this host that calls us by
/// another name has been given our address for its own (DNS rebinding).
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Views of the board at a time (1): each is a copy of all that it remembers, 20 MB for each repository at most, and so much text
/// again. Others wait for their turn, as long as their connection lasts.
const RENDERS_MAX: usize = 1;

/// What every answer is made of.
#[derive(Debug, Clone)]
struct App {
    board: Arc<Board>,
    show_names: bool,
    /// Whether we must be asked for by one of [`OWN_NAMES`].
    is_loopback: bool,
    /// Whose turn it is to have a view.
    turn: Arc<Semaphore>,
}

/// Returns what answers at this address.
pub(super) fn app(board: Arc<Board>, status: &StatusConfig, at: Option<SocketAddr>) -> Router {
    let app = App {
        board,
        show_names: status.show_names,
        is_loopback: at.is_none_or(is_loopback),
        turn: Arc::new(Semaphore::new(RENDERS_MAX)),
    };
    Router::new()
        .route("/", get(status_page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is nothing here\n") })
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

/// Whether it is the own host's, also where IPv6 has it as `::ffff:127.0.0.1`.
fn is_loopback(at: SocketAddr) -> bool {
    at.ip().to_canonical().is_loopback()
}

/// Refuses what nobody needs to ask, and says on every answer what a browser may do with it: show it, and nothing else.
async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&app, &request) {
        Some((status, why)) => (status, format!("{why}\n")).into_response(),
        None => next.run(request).await,
    };
    let is_refused = response.status() == StatusCode::METHOD_NOT_ALLOWED;
    let headers = response.headers_mut();
    if is_refused {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    protect(headers);
    response
}

fn refusal(app: &App, request: &Request) -> Option<(StatusCode, &'static str)> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "this is to be read: GET and HEAD alone"));
    }
    if !request.body().is_end_stream() {
        return Some((StatusCode::PAYLOAD_TOO_LARGE, "a request has no body here"));
    }
    if app.is_loopback && !is_own_name(request.headers()) {
        let why = "ask for localhost, 127.0.0.1 or [::1]: this address is the own host's";
        return Some((StatusCode::MISDIRECTED_REQUEST, why));
    }
    None
}

/// Whether there is one name, and it is ours, with any port.
fn is_own_name(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(Ok(host)), None) = (hosts.next().map(HeaderValue::to_str), hosts.next()) else {
        return false;
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    OWN_NAMES.iter().any(|name| {
        let rest = host.get(..name.len()).filter(|host| host.eq_ignore_ascii_case(name));
        let rest = rest.map(|_| &host[name.len()..]);
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
    })
}

fn protect(headers: &mut HeaderMap) {
    let fixed = [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_SECURITY_POLICY, page::POLICY.clone());
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

impl App {
    /// Makes something of what may be shown, one at a time.
    async fn view<T>(&self, render: impl FnOnce(&View) -> T + Send) -> T {
        // Closed by nobody.
        let _turn = self.turn.acquire().await;
        render(&self.board.view(self.show_names))
    }
}

async fn status_page(State(app): State<App>) -> Response {
    answer(StatusCode::OK, HTML, app.view(|view| page::render(view).into_string()).await)
}

async fn metrics(State(app): State<App>) -> Response {
    match app.view(figures::text).await {
        Ok(text) => answer(StatusCode::OK, METRICS, text),
        Err(_) => {
            let why = "the figures cannot be written\n".to_owned();
            answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, why)
        }
    }
}

async fn health(State(app): State<App>) -> Response {
    match app.board.alive() {
        Ok(()) => answer(StatusCode::OK, TEXT, "alive\n".to_owned()),
        Err(silent) => {
            let why = format!("the schedules were last looked at {} ago\n", words::time(silent));
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, why)
        }
    }
}

async fn readiness(State(app): State<App>) -> Response {
    if app.board.ready() {
        return answer(StatusCode::OK, TEXT, "ready\n".to_owned());
    }
    let why = "not every repository was looked at yet\n".to_owned();
    answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_own(hosts: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        is_own_name(&headers)
    }

    #[test]
    fn an_address_of_the_own_host_is_known_in_any_form() {
        for (at, is_own) in [
            ("127.0.0.1:9620", true),
            ("127.9.9.9:9620", true),
            ("[::1]:9620", true),
            ("[::ffff:127.0.0.1]:9620", true),
            ("[::ffff:10.0.0.1]:9620", false),
            ("0.0.0.0:9620", false),
            ("[::]:9620", false),
        ] {
            assert_eq!(is_loopback(at.parse().expect("an address")), is_own, "{at}");
        }
    }

    #[test]
    fn on_loopback_only_the_own_hosts_names_are_answered() {
        for good in ["localhost", "LocalHost:9620", "127.0.0.1:1", "127.0.0.1", "[::1]", "[::1]:80"]
        {
            assert!(is_own(&[good]), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9620",
            "localhost:9620.evil.example",
            "::1",
            "[::1]x",
            "127.0.0.2",
        ] {
            assert!(!is_own(&[bad]), "{bad}");
        }
        assert!(!is_own(&[]));
        assert!(!is_own(&["localhost", "evil.example"]));
    }
}
