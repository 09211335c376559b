//! Claims about who is let through, on requests without a socket.

use std::time::Duration;

use axum::body::Body;
use tally_capture::LimitSettings;
use tally_model::{ManualClock, SeededEntropy};

use super::*;
use crate::keys::{Key, KeyFile};

const NOW_US: i64 = 1_700_000_000_000_000;
const STRANGER: &str = "192.0.2.1:1";
const LOOPBACK: &str = "127.0.0.1:1";

struct House {
    folder: tempfile::TempDir,
    access: Access,
    clock: Arc<ManualClock>,
    registry: Registry,
}

impl House {
    fn new(is_required: bool) -> Self {
        Self::with(is_required, LimitSettings::default())
    }

    fn with(is_required: bool, limits: LimitSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at_us(NOW_US));
        let mut registry = Registry::default();
        let keyring = Keyring::open(Self::file(&folder), &mut registry).unwrap();
        let parts = AccessParts {
            keyring: Arc::new(keyring),
            is_required,
            limits: Arc::new(Limits::new(&limits, clock.clone(), &mut registry)),
            clock: clock.clone(),
        };
        let access = Access::new(parts, &mut registry);
        Self { folder, access, clock, registry }
    }

    fn file(folder: &tempfile::TempDir) -> KeyFile {
        KeyFile::new(folder.path().join("keys.json"))
    }

    /// A key that lasts for a minute, known to the server already.
    fn key(&self, name: &str, scopes: &[Scope]) -> String {
        let entropy = SeededEntropy::new(name.bytes().map(u64::from).sum());
        let now_s = NOW_US / 1_000_000;
        let (key, token) = Key::new(name, scopes.to_vec(), now_s, Some(now_s + 60), &entropy);
        self.change(|keys| keys.push(key));
        token.reveal()
    }

    fn revoke_all(&self) {
        self.change(Vec::clear);
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Key>)) {
        let changed = Self::file(&self.folder).change(&SeededEntropy::new(1), |keys| {
            change(keys);
            Ok(())
        });
        changed.unwrap();
        self.access.parts.keyring.refresh();
    }

    /// Who sends, where capture is told so, or why the request is refused.
    fn admit(&self, path: &str, peer: &str, headers: &[(&str, &str)]) -> Result<Option<Caller>, &'static str> {
        let mut builder = Request::builder().uri(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut request = builder.body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        self.access.admit(&mut request).map_err(|refusal| refusal.reason())?;
        Ok(request.extensions().get::<Caller>().copied())
    }

    fn with_key(&self, path: &str, key: &str) -> Result<bool, &'static str> {
        let bearer = format!("Bearer {key}");
        let by_bearer = self.admit(path, STRANGER, &[("authorization", &bearer)]);
        assert_eq!(self.admit(path, STRANGER, &[("x-api-key", key)]), by_bearer, "{path}");
        by_bearer.map(|caller| caller.is_some())
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// Each endpoint, and the scope that it takes; none where it is open.
const ENDPOINTS: [(&str, Option<Scope>); 24] = [
    ("/healthz", None),
    ("/readyz", None),
    ("/v1/click?campaign_id=c", None),
    ("/v1/pixel.gif", None),
    ("/tag.js", None),
    ("/tag-0123456789abcdef.js", None),
    ("/", None),
    ("/campaigns", None),
    ("/assets/0123456789ab/app.js", None),
    ("/session", None),
    ("/v1/events", None),
    ("/v1/events/batch", Some(Scope::Ingest)),
    ("/v1/events/0199aa00-0000-7000-8000-000000000001", Some(Scope::Query)),
    ("/v1/query", Some(Scope::Query)),
    ("/v1/sql", Some(Scope::Query)),
    ("/v1/exports/0/file", Some(Scope::Query)),
    ("/v1/verify", Some(Scope::Query)),
    ("/v1/quarantine", Some(Scope::Query)),
    ("/v1/live", Some(Scope::Query)),
    ("/v1/live/events", Some(Scope::Query)),
    ("/metrics", Some(Scope::Query)),
    ("/v1/admin/rebuild", Some(Scope::Admin)),
    ("/v1/admin/quarantine/resubmit", Some(Scope::Admin)),
    ("/v1/of-tomorrow", Some(Scope::Query)),
];

#[test]
fn where_keys_are_required_each_endpoint_takes_its_own_scope_and_no_other() {
    let house = House::new(true);
    let scopes = [Scope::Ingest, Scope::Query, Scope::Admin];
    let keys = scopes.map(|scope| (scope, house.key(scope.as_str(), &[scope])));
    for (path, needed) in ENDPOINTS {
        let expected = needed.map_or(Ok(None), |_| Err("no_key"));
        assert_eq!(house.admit(path, LOOPBACK, &[]), expected, "{path}");
        for (scope, key) in &keys {
            let is_refused = needed.is_some_and(|needed| needed != *scope);
            // A server's own event, sent with a key that is not for that.
            let is_refused = is_refused || (path == "/v1/events" && *scope != Scope::Ingest);
            assert_eq!(house.with_key(path, key).err(), is_refused.then_some("missing_scope"), "{path} with {scope:?}");
        }
    }
    let both = house.key("both", &[Scope::Query, Scope::Admin]);
    assert_eq!([house.with_key("/v1/query", &both), house.with_key("/v1/admin/rebuild", &both)], [Ok(false); 2]);
}

#[test]
fn where_no_key_is_required_everything_is_open_and_what_changes_figures_only_from_here() {
    let house = House::new(false);
    for (path, needed) in ENDPOINTS {
        let expected = if needed == Some(Scope::Admin) { Err("not_from_here") } else { Ok(None) };
        assert_eq!(house.admit(path, STRANGER, &[]), expected, "{path}");
        assert_eq!(house.admit(path, LOOPBACK, &[]), Ok(None), "{path}");
    }
    let rebuild = |peer: &str, header: &str| house.admit("/v1/admin/rebuild", peer, &[(header, "x")]);
    assert_eq!(rebuild("[::1]:1", "accept"), Ok(None));
    assert_eq!(rebuild("[::ffff:127.0.0.1]:1", "accept"), Ok(None));
    assert_eq!(rebuild("[::ffff:192.0.2.1]:1", "accept"), Err("not_from_here"));
    for header in FROM_ELSEWHERE {
        assert_eq!(rebuild(LOOPBACK, header), Err("not_from_here"), "with {header}");
    }
    assert_eq!(house.with_key("/v1/admin/rebuild", &house.key("boss", &[Scope::Admin])), Ok(false));
}

#[test]
fn a_key_that_is_shown_is_held_to_what_it_is_also_where_none_is_needed() {
    let house = House::new(false);
    let key = house.key("sender", &[Scope::Ingest]);
    assert_eq!(house.with_key("/v1/events", &key), Ok(true), "capture is told who sends");
    assert_eq!(house.with_key("/v1/click", &key), Ok(false), "a person clicks, whatever the headers say");
    assert_eq!(house.with_key("/v1/query", &key), Err("missing_scope"));
    let forged = format!("{}_{}", &key[..14], "0".repeat(64));
    assert!(Token::parse(&forged).is_some_and(|token| key.contains(&token.id.to_string())), "{forged}");
    for wrong in [&forged, "tally_", "tally_00000000_00", &key[..key.len() - 1]] {
        assert_eq!(house.with_key("/v1/events", wrong), Err("unknown_key"), "{wrong}");
    }
    house.revoke_all();
    assert_eq!(house.with_key("/v1/events", &key), Err("unknown_key"));
}

#[test]
fn the_credentials_of_a_proxy_in_front_are_not_taken_for_a_key() {
    let house = House::new(false);
    for others in ["Basic dGFsbHk6eA==", "Bearer eyJhbGciOi", "nonsense"] {
        assert_eq!(house.admit("/v1/query", STRANGER, &[("authorization", others)]), Ok(None), "{others}");
    }
}

#[test]
fn a_key_ends_when_it_says_without_anybody_touching_the_file() {
    let house = House::new(true);
    let key = house.key("short", &[Scope::Query]);
    house.clock.advance_ms(59_999);
    assert_eq!(house.with_key("/metrics", &key), Ok(false));
    house.clock.advance_ms(1);
    assert_eq!(house.with_key("/metrics", &key), Err("expired_key"));
}

#[test]
fn a_broken_file_leaves_the_last_good_keys_in_force_until_it_is_mended() {
    let house = House::new(true);
    let key = house.key("k", &[Scope::Query]);
    let file = House::file(&house.folder);
    let whole = std::fs::read(file.path()).unwrap();
    std::fs::write(file.path(), &whole[..20]).unwrap();
    for _ in 0..3 {
        house.access.parts.keyring.refresh();
        assert_eq!(house.with_key("/v1/query", &key), Ok(false));
    }
    assert!(house.metrics().contains("reload_failures_total 1"), "{}", house.metrics());
    std::fs::write(file.path(), &whole).unwrap();
    house.revoke_all();
    assert_eq!(house.with_key("/v1/query", &key), Err("unknown_key"));
}

#[test]
fn a_file_that_is_deleted_takes_all_keys_with_it() {
    let house = House::new(true);
    let key = house.key("k", &[Scope::Query]);
    std::fs::remove_file(House::file(&house.folder).path()).unwrap();
    house.access.parts.keyring.refresh();
    assert_eq!(house.with_key("/v1/query", &key), Err("unknown_key"));
}

#[test]
fn metrics_name_the_keys_there_are_and_no_others() {
    let house = House::new(true);
    let key = house.key("grafana", &[Scope::Query]);
    house.clock.advance_ms(5_000);
    assert_eq!(house.with_key("/metrics", &key), Ok(false));
    let line = r#"key_last_used_timestamp_seconds{key="grafana"} 1700000005"#;
    assert!(house.metrics().contains(line), "{}", house.metrics());
    house.revoke_all();
    assert!(!house.metrics().contains("grafana"), "{}", house.metrics());
}

#[tokio::test]
async fn a_refusal_says_what_is_missing_and_how_to_get_it_but_not_what_was_shown() {
    let house = House::new(true);
    let key = house.key("grafana", &[Scope::Query]);
    let check = |refusal: Refusal, status: u16, challenge: &str, says: &str| {
        let response = house.access.refuse(refusal.clone());
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let found = response.headers().get("www-authenticate").map_or("", |value| value.to_str().unwrap());
        assert_eq!(found, challenge);
        assert!(refusal.to_string().contains(says), "{refusal}");
    };
    check(Refusal::NoKey { scope: Scope::Query }, 401, "Bearer realm=\"tally\"", "scope `query`; make one");
    check(Refusal::UnknownKey, 401, "Bearer realm=\"tally\", error=\"invalid_token\"", "revoked");
    let missing = Refusal::MissingScope { name: "grafana".into(), scope: Scope::Admin };
    let challenge = "Bearer realm=\"tally\", error=\"insufficient_scope\", scope=\"admin\"";
    check(missing, 403, challenge, "`grafana` lacks the scope `admin`");
    check(Refusal::Elsewhere("from the network"), 403, "", "only taken from the machine itself");
    assert!(house.metrics().contains(r#"refused_total{reason="missing_scope"} 1"#), "{}", house.metrics());
    assert!(!house.metrics().contains(&key[6..14]));
}

#[test]
fn a_key_that_asks_too_much_is_told_when_to_come_back() {
    let house = House::with(true, LimitSettings { key_per_s: 1, ..LimitSettings::default() });
    let (busy, other) = (house.key("busy", &[Scope::Query]), house.key("other", &[Scope::Query]));
    let bearer = format!("bearer {busy}");
    let ask = || house.admit("/v1/query", STRANGER, &[("Authorization", &bearer)]);
    assert_eq!((0..12).filter(|_| ask().is_ok()).count(), 10);
    assert_eq!(ask(), Err("rate_limited"));
    assert_eq!(house.with_key("/v1/query", &other), Ok(false));
    house.clock.advance_ms(Duration::from_secs(1).as_millis() as i64);
    assert_eq!((ask(), ask()), (Ok(None), Err("rate_limited")));
}

#[test]
fn a_session_opens_the_figures_for_as_long_as_its_key_and_its_time_last() {
    let house = House::new(true);
    let key = house.key("boss", &[Scope::Query, Scope::Admin, Scope::Ingest]);
    let now_s = NOW_US / 1_000_000;
    let keyring = &house.access.parts.keyring;
    let open =
        |for_s: i64| keyring.open_session(&Token::parse(&key).unwrap(), for_s, now_s).map(|session| session.reveal());
    let (short, long) = (open(30).unwrap(), open(1_000).unwrap());
    let show = |path: &str, session: &str| {
        let cookies = format!("other=1; {SESSION_COOKIE}={session}");
        house.admit(path, STRANGER, &[("cookie", &cookies)])
    };
    for (path, is_let_in) in
        [("/v1/query", true), ("/v1/live", true), ("/v1/admin/rebuild", false), ("/v1/events/batch", false)]
    {
        assert_eq!(show(path, &short).is_ok(), is_let_in, "{path}");
    }
    assert_eq!(show("/v1/events", &short), Ok(None), "who signed in to look does not speak for others");
    assert_eq!(show("/v1/query", "nonsense"), Err("no_key"));
    house.clock.advance_ms(30_000);
    assert_eq!((show("/v1/query", &short), show("/v1/query", &long)), (Err("ended_session"), Ok(None)));
    house.clock.advance_ms(30_000);
    assert_eq!(show("/v1/query", &long), Err("ended_session"), "it does not outlive its key");
    let sender = house.key("sender", &[Scope::Ingest]);
    let refused = keyring.open_session(&Token::parse(&sender).unwrap(), 30, now_s);
    assert_eq!(refused.map(|_| ()).map_err(|refusal| refusal.reason()), Err("missing_scope"));
}

#[test]
fn a_session_ends_when_its_key_is_revoked_and_is_not_asked_for_where_no_key_is() {
    let house = House::new(true);
    let key = house.key("team", &[Scope::Query]);
    let session = house.access.parts.keyring.open_session(&Token::parse(&key).unwrap(), 30, NOW_US / 1_000_000);
    let cookie = format!("{SESSION_COOKIE}={}", session.map(|session| session.reveal()).unwrap());
    assert_eq!(house.admit("/v1/query", STRANGER, &[("cookie", &cookie)]), Ok(None));
    house.revoke_all();
    assert_eq!(house.admit("/v1/query", STRANGER, &[("cookie", &cookie)]), Err("ended_session"));
    assert_eq!(House::new(false).admit("/v1/query", LOOPBACK, &[("cookie", &cookie)]), Ok(None));
}
