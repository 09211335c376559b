//! The Postgres port, asked by the clients that people have: psql, psycopg, SQLAlchemy; and what the library leaves open.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::peers::python_with;
use super::server::{Launch, Server, click, eventually, metric, ndjson, said};

struct Postgres {
    server: Server,
    port: u16,
}

impl Postgres {
    fn with(settings: &[(&'static str, &str)]) -> Self {
        let port = free_port();
        let mut launch = Launch { is_logged: true, ..Launch::default() };
        launch.settings.push(("TALLY__POSTGRES__LISTEN", format!("127.0.0.1:{port}")));
        launch.settings.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let mut server = Server::prepare(launch);
        server.restart();
        Self { server, port }
    }

    /// With so many clicks of two campaigns.
    fn counted(clicks: u128, settings: &[(&'static str, &str)]) -> Self {
        let postgres = Self::with(settings);
        let events: Vec<Value> = (0..clicks).map(|id| click(id, if id % 3 == 0 { "one" } else { "two" })).collect();
        for events in events.chunks(10_000) {
            assert_eq!(postgres.server.post("/v1/events/batch", ndjson(events), &[]).0, 202);
        }
        postgres.server.wait_until_counted();
        postgres
    }

    fn url(&self) -> String {
        format!("postgresql://analyst@127.0.0.1:{}/tally", self.port)
    }

    fn psql(&self, arguments: &[&str]) -> Output {
        psql(&self.url(), &[], arguments)
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn psql(url: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new("psql");
    command.arg(url).args(["--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]).args(arguments);
    command.envs(environment.iter().copied()).output().unwrap()
}

fn has_psql() -> bool {
    if Command::new("psql").arg("--version").output().is_ok() {
        return true;
    }
    assert!(std::env::var("CI").is_err(), "CI must have psql: apt-get install postgresql-client");
    eprintln!("SKIPPED: there is no psql; install postgresql-client");
    false
}

#[test]
fn psql_finds_its_way() {
    if !has_psql() {
        return;
    }
    let postgres = Postgres::counted(30, &[]);
    let check = |command: &str, says: &[&str]| {
        let output = postgres.psql(&["-c", command]);
        assert!(output.status.success(), "{command}: {}", said(&output));
        for words in says {
            assert!(said(&output).contains(words), "{command}: {}", said(&output));
        }
    };
    check("SELECT campaign_id, clicks FROM campaign_day ORDER BY 1", &["one|10\ntwo|20"]);
    check("SELECT bucket FROM campaign_day LIMIT 1", &["2024-05-05 00:00:00"]);
    check("\\d", &["public|campaign_day|", "public|events|"]);
    check("\\dv", &["campaign_day"]);
    check("\\dt", &[]);
    check("\\d campaign_day", &["bucket|timestamp", "campaign_id|", "clicks|bigint", "cost_micros|numeric"]);
    check("\\l", &["tally"]);
    check("\\dn", &["public"]);
    check("EXPLAIN SELECT count(*) FROM events", &["logical_plan"]);
    check("SHOW server_version", &["16.6"]);
    check("SELECT version()", &["PostgreSQL 16.6 (Tally "]);
    check("BEGIN; SELECT 1; COMMIT", &["1"]);
}

#[test]
fn what_does_more_than_read_is_refused_and_nobody_can_take_a_view_from_others() {
    if !has_psql() {
        return;
    }
    let postgres = Postgres::counted(30, &[]);
    let file = postgres.server.data().join("stolen.csv");
    let copies = format!("COPY (SELECT 1) TO '{}'", file.display());
    let files = format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'", file.display());
    for command in [
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE events",
        "DROP VIEW campaign_day",
        "INSERT INTO events SELECT * FROM events",
        "DELETE FROM events",
        "UPDATE events SET kind = 'x'",
        "TRUNCATE events",
        &copies,
        "COPY events TO STDOUT",
        &files,
        "SET datafusion.runtime.memory_limit = '100G'",
        "SET datafusion.execution.target_partitions = 64",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
    ] {
        let output = postgres.psql(&["-c", command]);
        assert!(!output.status.success() && said(&output).contains("ERROR"), "{command}: {}", said(&output));
    }
    assert!(!file.exists(), "a file was written on the server");
    let output = postgres.psql(&["-c", "SELECT count(*) FROM events", "-c", "SELECT count(*) FROM campaign_day"]);
    assert_eq!(said(&output), "30\n2\n");
}

#[test]
fn a_cancelled_statement_and_one_over_its_timeout_stop() {
    if !has_psql() {
        return;
    }
    let postgres = Postgres::counted(30_000, &[]);
    let endless = "SELECT sum(value % 7) FROM generate_series(1, 100000000000000)";
    let output = postgres.psql(&["-c", "SET statement_timeout = '700ms'", "-c", endless]);
    assert!(said(&output).contains("canceling statement due to statement timeout"), "{}", said(&output));
    let idle = || {
        eventually("the statement lets go of the CPU", || {
            let before = postgres.server.cpu();
            std::thread::sleep(Duration::from_millis(500));
            postgres.server.cpu() - before < Duration::from_millis(200)
        });
    };
    idle();
    // psql sends a cancel request when it is interrupted.
    let mut child = Command::new("psql");
    child.arg(postgres.url()).args(["--no-psqlrc", "-c", endless]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the statement runs", || {
        let before = postgres.server.cpu();
        std::thread::sleep(Duration::from_millis(300));
        postgres.server.cpu() - before > Duration::from_millis(150)
    });
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(said(&output).contains("canceling statement due to user request"), "{}", said(&output));
    idle();
    assert_eq!(metric(&postgres.server.get("/metrics").1, "tally_postgres_cancelled_total"), 1.0);
}

#[test]
fn where_keys_are_required_only_keys_that_may_ask_come_in() {
    if !has_psql() {
        return;
    }
    let postgres = Postgres::with(&[("TALLY__SERVER__AUTH", "on")]);
    let data = postgres.server.data().to_str().unwrap().to_owned();
    let made = |name: &str, scope: &str| {
        let output = postgres.server.tally(&["keys", "create", name, "--scopes", scope, "--data", &data]);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (analyst, sender) = (made("analyst", "query"), made("sender", "ingest"));
    let login = |user: &str, password: &str| {
        let url = format!("postgresql://{user}@127.0.0.1:{}/tally", postgres.port);
        psql(&url, &[("PGPASSWORD", password)], &["-c", "SELECT 1"])
    };
    eventually("the server takes the keys", || login("analyst", &analyst).status.success());
    let last = if analyst.ends_with('0') { '1' } else { '0' };
    let wrong = format!("{}{last}", &analyst[..analyst.len() - 1]);
    for (user, password) in [
        ("analyst", ""),
        ("analyst", "guess"),
        ("analyst", &wrong[..]),
        ("nobody", &analyst),
        ("sender", &sender),
        ("analyst", &sender),
    ] {
        let output = login(user, password);
        assert!(!output.status.success(), "{user} came in with {password:?}");
        assert!(!said(&output).contains(&analyst), "the key is in an error");
    }
    assert!(said(&login("nobody", &analyst)).contains("no key \"nobody\" with this secret may ask"));
    let url = format!("postgresql://analyst@127.0.0.1:{}/other", postgres.port);
    let output = psql(&url, &[("PGPASSWORD", &analyst)], &["-c", "SELECT 1"]);
    assert!(said(&output).contains("there is no database \"other\""), "{}", said(&output));
    let revoked = postgres.server.tally(&["keys", "revoke", "analyst", "--data", &data]);
    assert!(revoked.status.success());
    eventually("a revoked key is refused", || !login("analyst", &analyst).status.success());
    let log = postgres.server.log();
    assert!(!log.contains(analyst.rsplit('_').next().unwrap()), "a secret was written down");
}

#[test]
fn a_session_ends_with_its_key_and_asks_no_faster_than_the_key_may() {
    if !has_psql() {
        return;
    }
    let postgres = Postgres::with(&[("TALLY__SERVER__AUTH", "on"), ("TALLY__LIMITS__KEY_PER_S", "1")]);
    let data = postgres.server.data().to_str().unwrap().to_owned();
    let output = postgres.server.tally(&["keys", "create", "analyst", "--scopes", "query", "--data", &data]);
    let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let asked = |statements: &[&str]| psql(&postgres.url(), &[("PGPASSWORD", &key)], statements);
    eventually("the server takes the key", || asked(&["-c", "SELECT 1"]).status.success());

    let many: Vec<&str> = std::iter::repeat_n(["-c", "SELECT 1"], 60).flatten().collect();
    let refused = said(&asked(&many));
    assert!(refused.contains("faster than"), "{refused}");
    eventually("it may ask again", || asked(&["-c", "SELECT 1"]).status.success());

    let mut command = Command::new("psql");
    command.arg(postgres.url()).args(["--no-psqlrc", "--tuples-only", "--no-align"]).env("PGPASSWORD", &key);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut open = command.spawn().unwrap();
    let mut statements = open.stdin.take().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    statements.write_all(b"SELECT 'before';\n").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(postgres.server.tally(&["keys", "revoke", "analyst", "--data", &data]).status.success());
    // A new key of the same name is not what the session was opened with.
    let output = postgres.server.tally(&["keys", "create", "analyst", "--scopes", "query", "--data", &data]);
    assert!(output.status.success(), "{}", said(&output));
    eventually("a revoked key is refused", || said(&asked(&["-c", "SELECT 1"])).contains("may ask"));
    let renewed = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let login = || psql(&postgres.url(), &[("PGPASSWORD", &renewed)], &["-c", "SELECT 1"]);
    eventually("the new key is taken", || login().status.success());
    statements.write_all(b"SELECT 'after';\n").unwrap();
    drop(statements);
    let output = open.wait_with_output().unwrap();
    let (rows, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(rows.trim(), "before", "{errors}");
    assert!(errors.contains("FATAL"), "{errors}");
}

/// A startup message for the database `tally`.
fn startup() -> Vec<u8> {
    let parameters = b"user\0analyst\0database\0tally\0\0";
    let length = u32::try_from(parameters.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), parameters].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

/// All that the server says until it closes.
fn spoken(port: u16, parts: &[Vec<u8>]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for part in parts {
        // The server may have closed in between: then there is nothing to lose.
        let _ = socket.write_all(part);
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn nobody_asks_without_or_after_a_failed_login() {
    let postgres = Postgres::with(&[("TALLY__SERVER__AUTH", "on")]);
    let query = message(b'Q', b"SELECT 4711 AS secret_answer\0");
    let parse = [message(b'P', b"\0SELECT 4711 AS secret_answer\0\0\0"), message(b'S', b"")].concat();
    let first = b"SCRAM-SHA-256\0\0\0\0\x0cn,,n=,r=abcd";
    let wrong = message(b'p', b"c=biws,r=abcd,p=AAAA");
    for attempt in [
        vec![startup(), query.clone()],
        vec![startup(), parse.clone()],
        vec![startup(), message(b'p', b"not-a-mechanism\0"), query.clone()],
        vec![startup(), message(b'p', first), wrong.clone(), query.clone(), parse.clone()],
        vec![message(b'p', first), query.clone()],
        vec![query.clone()],
    ] {
        let said = spoken(postgres.port, &attempt);
        assert!(!said.contains("4711") && !said.contains("secret_answer"), "{said:?}");
    }
    // A gigabyte before the login is not waited for.
    let huge = [vec![b'Q'], 0x3fff_0000_u32.to_be_bytes().to_vec(), vec![b'x'; 200_000]].concat();
    spoken(postgres.port, &[startup(), huge]);
    eventually("who comes next is asked for a login", || {
        let mut socket = TcpStream::connect(("127.0.0.1", postgres.port)).unwrap();
        socket.write_all(&startup()).unwrap();
        let mut kind = [0];
        socket.read_exact(&mut kind).is_ok() && kind == *b"R"
    });
}

#[test]
fn a_bad_certificate_stops_the_start_and_a_public_port_without_one_is_no_configuration() {
    let files = tempfile::tempdir().unwrap();
    let bad = files.path().join("bad.pem");
    std::fs::write(&bad, "no certificate").unwrap();
    let bad = bad.to_str().unwrap();
    let port = free_port();
    for (settings, says) in [
        (vec![("TALLY__TLS__CERTIFICATE", bad), ("TALLY__TLS__KEY", bad)], "bad.pem"),
        (
            vec![("TALLY__TLS__CERTIFICATE", "/nonexistent.pem"), ("TALLY__TLS__KEY", "/nonexistent.pem")],
            "/nonexistent.pem",
        ),
        (vec![("TALLY__POSTGRES__LISTEN", "0.0.0.0:0")], "which others can reach, and there is no TLS"),
    ] {
        let mut launch = Launch { is_logged: true, ..Launch::default() };
        launch.settings.push(("TALLY__POSTGRES__LISTEN", format!("127.0.0.1:{port}")));
        launch.settings.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let mut server = Server::prepare(launch);
        server.spawn();
        assert!(!server.wait_until_ended().success(), "{settings:?}");
        assert!(server.log().contains(says), "{settings:?}: {}", server.log());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it listens in plain text");
    }
}

#[test]
fn behind_tls_clients_connect_and_who_comes_in_plain_text_only_does_so_on_this_machine() {
    if !has_psql() {
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let mut launch = Launch { is_logged: true, ..Launch::default() };
    launch.settings.push(("TALLY__POSTGRES__LISTEN", format!("127.0.0.1:{port}")));
    launch.settings.push(("TALLY__TLS__CERTIFICATE", certificate.to_str().unwrap().to_owned()));
    launch.settings.push(("TALLY__TLS__KEY", key.to_str().unwrap().to_owned()));
    launch.settings.push(("TALLY__LOG__LEVEL", "info".to_owned()));
    let mut server = Server::prepare(launch);
    server.spawn();
    eventually("the port is open", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let root = certificate.to_str().unwrap();
    let url =
        format!("postgresql://a@localhost:{port}/tally?sslmode=verify-full&sslrootcert={root}&hostaddr=127.0.0.1");
    let output = psql(&url, &[], &["-c", "SELECT 'safe'", "-c", "\\conninfo"]);
    assert!(output.status.success() && said(&output).contains("safe"), "{}", said(&output));
    assert!(said(&output).contains("SSL") || said(&output).contains("TLS"), "{}", said(&output));
    drop(server);
}

#[test]
fn drivers_and_bi_tools_ask_as_they_do() {
    let Some(python) = python_with("psycopg, sqlalchemy", "psycopg[binary] sqlalchemy") else { return };
    let postgres = Postgres::counted(3_000, &[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/postgres.py");
    let output = Command::new(python).arg(script).arg(postgres.url()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("all fine"), "{}", said(&output));
}

/// PostgreSQL's driver for Java, where Debian puts it.
const JDBC: &str = "/usr/share/java/postgresql.jar";

#[test]
fn jdbc_asks_and_shows_what_there_is() {
    let has_java = Command::new("java").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_java || !std::path::Path::new(JDBC).exists() {
        eprintln!("SKIPPED: there is no Java with JDBC; install default-jdk-headless and libpostgresql-jdbc-java");
        return;
    }
    let postgres = Postgres::counted(3_000, &[]);
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/Postgres.java");
    let url = format!("jdbc:postgresql://127.0.0.1:{}/tally", postgres.port);
    let output = Command::new("java").args(["-cp", JDBC, program, &url]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("all fine"), "{}", said(&output));
}
