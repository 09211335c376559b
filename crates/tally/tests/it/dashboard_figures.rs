//! What the dashboard shows is what the API answers: on every page, by currency, to the last event.

use serde_json::{Value, json};

use super::dashboard::{filled_server, seen};
use super::server::Server;
use super::tag::browser;

const FROM: &str = "2024-05-05T00:00:00Z";
const TO: &str = "2024-05-06T00:00:00Z";

/// The digits of a text.
fn number(place: &Value) -> u64 {
    let text = place.as_str().unwrap_or_else(|| panic!("no text but {place}"));
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number in {text:?}"))
}

fn analysis(server: &Server, name: &str, mut question: Value) -> Value {
    (question["from"], question["to"]) = (json!(FROM), json!(TO));
    let (status, body) = server.post(&format!("/v1/analyses/{name}"), question.to_string(), &[]);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The row of a table that begins so.
fn row<'a>(table: &'a Value, name: &str) -> &'a Vec<Value> {
    let rows = table.as_array().unwrap_or_else(|| panic!("no table but {table}"));
    let found = rows.iter().filter_map(Value::as_array).find(|row| row[0].as_str().unwrap().starts_with(name));
    found.unwrap_or_else(|| panic!("no row {name:?} in {table:#}"))
}

#[test]
fn the_figures_on_the_screen_are_those_of_the_api_with_a_thousand_campaigns() {
    if browser().is_none() {
        return;
    }
    let server = filled_server();
    let Some(done) = seen("figures", &server, "") else { return };
    let metrics = [
        "gross_impressions",
        "gross_clicks",
        "gross_conversions",
        "impressions",
        "clicks",
        "conversions",
        "duplicate_clicks",
        "invalid_clicks",
    ];
    let row = &server.ask(json!({"metrics": metrics}))[0];
    let of = |name: &str| row[name].as_u64().unwrap();
    assert_eq!((of("clicks"), of("duplicate_clicks"), of("invalid_clicks")), (1_000, 1_000, 100));
    for (card, expected) in [
        ("gross", of("gross_impressions") + of("gross_clicks") + of("gross_conversions")),
        ("net", of("impressions") + of("clicks") + of("conversions")),
        ("duplicate", of("duplicate_clicks")),
        ("invalid", of("invalid_clicks")),
        ("impressions", of("impressions")),
        ("clicks", of("clicks")),
    ] {
        assert_eq!(number(&done["cards"][card]), expected, "{card}: {done:#}");
    }
    let spend = "€125.00\n$125.00";
    assert_eq!(
        (&done["cards"]["spend"], &done["sums"]["cost_micros"]),
        (&json!(spend), &json!(spend)),
        "each for itself"
    );
    assert_eq!((number(&done["sums"]["clicks"]), done["rows"].as_u64()), (1_000, Some(100)), "{done:#}");
    let csv = done["csv"].as_str().unwrap();
    let header =
        "campaign_id,impressions,clicks,ctr,conversions,cvr,cost_micros_EUR,cost_micros_USD,revenue_micros_EUR,";
    assert!(csv.starts_with(header) && csv.contains(",0,250000,0,0,") && csv.contains("\ncampaign-0999,3,1,"), "{csv}");
    assert!(done["address"].as_str().unwrap().contains("/campaigns?range=custom"), "{done:#}");
}

#[test]
fn every_page_shows_what_the_api_answers() {
    if browser().is_none() {
        return;
    }
    let server = filled_server();
    let Some(done) = seen("tables", &server, "") else { return };
    let tables = &done["tables"];

    let countries = &tables["geography"]["Figures by country"];
    for (code, name) in [("DE", "Germany"), ("US", "United States"), ("JP", "Japan")] {
        let filters = json!([{"field": "country", "values": [code]}, {"field": "currency", "values": ["USD"]}]);
        let all = &server.ask(json!({"metrics": ["impressions", "clicks"], "filters": [filters[0]]}))[0];
        let dollars = &server.ask(json!({"metrics": ["cost_micros"], "filters": filters}))[0]["cost_micros"];
        let shown = row(countries, name);
        assert_eq!(
            [number(&shown[3]), number(&shown[4])],
            [&all["impressions"], &all["clicks"]].map(|of| of.as_u64().unwrap())
        );
        assert_eq!(
            shown[8],
            format!("${:.2}", dollars.as_f64().unwrap() / 1e6),
            "of the currency that was chosen: {shown:?}"
        );
    }

    let reasons = &tables["quality"]["Reasons"];
    for (reason, name) in [("same_id", "Same id"), ("declared_bot", "Declared robot")] {
        let filters = json!([{"field": "reason", "values": [reason]}]);
        let clicks = &server.ask(json!({"metrics": ["gross_clicks"], "filters": filters}))[0]["gross_clicks"];
        assert_eq!(number(&row(reasons, name)[3]), clicks.as_u64().unwrap(), "{reasons:#}");
    }

    let shown = row(&tables["campaign"]["The campaign by Ads"], "a");
    assert_eq!([&shown[2], &shown[3], &shown[7]], ["3", "1", "€0.25"], "{shown:?}");
    let shown = row(&tables["compare"]["Two periods"], "All");
    assert_eq!(shown[1], "3,000\nnone before", "{shown:?}");
    assert_eq!(shown[6], "€125.00\nnone before\n$125.00\nnone before", "{shown:?}");

    let test = analysis(&server, "ab-test", json!({"metric": "ctr", "split": "variant", "control": "a"}));
    let shown = row(&tables["compare"]["Variants beside the control"], "b");
    assert_eq!(number(&shown[1]), test["variants"][1]["trials"].as_u64().unwrap(), "{shown:?}");
    assert_eq!(shown[5], format!("{:.3}", test["tests"][0]["p_value"].as_f64().unwrap()), "{shown:?}");

    let steps = json!(["impression", "click", "conversion"].map(|kind| json!({"kind": kind})));
    let funnel = analysis(&server, "funnel", json!({"steps": steps, "window_s": 86_400, "segment": "country"}));
    let people: Vec<_> =
        funnel["steps"].as_array().unwrap().iter().map(|step| step["users"].as_u64().unwrap()).collect();
    assert_eq!(people, [1_000, 1_000, 250]);
    let shown: Vec<_> = done["funnel"].as_array().unwrap().iter().map(number).collect();
    assert_eq!(shown, people);
    let shown = row(&tables["funnel"]["The funnel by segment"], "Germany");
    assert_eq!(number(&shown[1]), 334, "{shown:?}");

    let heat = analysis(&server, "heatmap", json!({"columns": 24, "rows": 20}));
    assert_eq!(done["heat"]["fields"].as_u64().unwrap() as usize, heat["bins"].as_array().unwrap().len());
    let (with, without) = (&heat["clicks"], &heat["without_position"]);
    assert_eq!(done["heat"]["sums"], json!([with.to_string(), without.to_string()]));
    assert_eq!(done["heat"]["told"], "column 1, row 16: 100 clicks, 12.50%", "by the arrow keys");

    let forecast = analysis(&server, "forecast", json!({"metric": "clicks", "unit": "hour", "horizon": 24}));
    let expected: f64 = forecast["forecast"].as_array().unwrap().iter().map(|one| one["value"].as_f64().unwrap()).sum();
    assert_eq!(number(&done["forecast"]), expected.round() as u64);

    let shown = &tables["event"]["Fields of 00000000-0000-0000-0000-000000000005"];
    assert_eq!(row(shown, "campaign_id")[1], "campaign-0000");
    assert_eq!(done["verdicts"], json!(["counted", "duplicate"]));
    for (place, tier) in [("Events", "local"), ("Rollups", "local"), ("Journal", "local")] {
        assert_eq!(row(&tables["system"]["Storage by place"], place)[3], tier);
    }
}

/// What the first paint waits for, as it is sent: less than a first round trip of TCP carries (ten segments).
const BLOCKING_BYTES_MAX: u64 = 14_600;

/// How many milliseconds that takes stands in docs/performance.md: here, other tests use the same cores.
#[test]
fn the_first_paint_waits_for_two_style_sheets_and_the_theme_only() {
    if browser().is_none() {
        return;
    }
    let server = Server::start();
    let Some(done) = seen("paint", &server, "") else { return };
    eprintln!("first paint, all of the page: {} ms, {} ms", done["paints"], done["pages"]);
    assert_eq!(done["blocking"], json!(["style.css", "theme.js", "uPlot.min.css"]));
    let bytes = done["bytes"].as_u64().unwrap();
    assert!(bytes < BLOCKING_BYTES_MAX, "{bytes} bytes before the first paint");
}
