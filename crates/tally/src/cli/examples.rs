//! What stands at the end of `--help`: lines to copy. A test runs each through the parser, so that none grows stale.

pub const SERVE: &str = "\
Examples:
  tally serve
  tally serve --data /var/lib/tally --listen 127.0.0.1:8080
  tally serve --config tally.toml

Files:
  tally-data/journal (the log), tally-data/lake (the tables), tally-data/dedup (ids), hash.key,
  keys.json, signing.keys
Environment:
  TALLY__SECTION__KEY sets any key of the configuration, such as TALLY__LOG__FORMAT=json";

pub const SEND: &str = "\
Examples:
  tally send events.ndjson more.ndjson.zst
  tally send clicks.csv --set kind=click --map campaign_id=campaign --map ad_id=creative
  tally send events.ndjson --resume --to http://127.0.0.1:8080

Exits with 0 if every event was accepted, else with 1.";

pub const GENERATE: &str = "\
Examples:
  tally generate --events 100000 --seed 7 --output events.ndjson.zst --truth truth.json";

pub const QUERY: &str = "\
Examples:
  tally query impressions,clicks,ctr --by campaign_id --order -clicks
  tally query clicks --by day --where country=DE,AT --from 2026-03-01 --zone Europe/Berlin
  tally query gross_clicks,duplicate_clicks,invalid_clicks --by campaign_id,month --format csv
  tally query users --by country --data ./tally-data
  tally query clicks,cost_micros --by campaign_id,day --output clicks.parquet

Metrics:
  impressions, clicks, conversions (counted), and the same with gross_, duplicate_, invalid_,
  invalid_givt_, invalid_sivt_ or quarantined_ in front; ctr, cvr, cpc, cpa, rpc, roas,
  cost_micros, revenue_micros, users
Dimensions:
  campaign_id, ad_id, variant, country, region, age_group, gender, device, os, browser,
  currency, placement_id, publisher_id, segment, kind, reason;
  and minute, hour, day, week, month";

pub const SQL: &str = "\
Examples:
  tally sql 'SELECT * FROM campaign_day ORDER BY bucket DESC LIMIT 10'
  tally sql 'SELECT country, sum(clicks) FROM geo_month GROUP BY 1' --format csv
  tally sql 'SELECT * FROM events' --output events.parquet
  tally sql 'SELECT users(users_sketch) FROM sketches.campaign_day' --data ./tally-data

Views:
  events; campaign_, geo_, audience_ and device_, each with minute, hour, day and month:
  `bucket`, dimensions, metrics. Money is in millionths; quotients are yours to compute:
  sum(clicks) * 1.0 / nullif(sum(impressions), 0)";

pub const VERIFY: &str = "\
Examples:
  tally verify
  tally verify --recount
  tally verify --recount --data ./tally-data";

pub const KEYS: &str = "\
Examples:
  tally keys create shop --scopes ingest
  tally keys create grafana --scopes query --expires 90d --data /var/lib/tally
  tally keys list
  tally keys revoke grafana

Use, so that it stands on no command line:
  tally query clicks --server http://tally.example:8080 --key-file grafana.key
  curl -H @header.txt ..   with the line `Authorization: Bearer tally_..` in header.txt";

pub const WHY: &str = "\
Examples:
  tally why 0199aa00-0000-7000-8000-000000000001
  tally why 0199aa00-0000-7000-8000-000000000001 --data ./tally-data";

pub const SIGN_LINK: &str = "\
Examples:
  tally sign-link --to https://shop.example/sale?id={click_id} --campaign spring --ad a1
  tally sign-link --to https://shop.example/ --expires 90d --server https://click.example
  tally sign-link --to https://shop.example/ --campaign spring --set cost_micros=250000 --new-key

Macros:
  {click_id}, {campaign_id}, {ad_id}, {placement_id}, {publisher_id}, {variant}, {country}, {subdivision},
  {timestamp}, {timestamp_ms}, {cachebuster}, {gdpr}, {gdpr_consent}, {gpp}, {gpp_sid}, {us_privacy}
Files:
  tally-data/signing.keys";

pub const POSTBACK_URL: &str = "\
Examples:
  tally postback-url --campaign spring --server https://tally.example
  tally postback-url --campaign spring --set click_id={aff_sub} --set txn_id={transaction_id}
  tally postback-url --set status= --set publisher_id={affiliate_id}

Files:
  tally-data/signing.keys";

pub const TAG: &str = "\
Examples:
  tally tag --server https://tally.example

On the page:
  <div data-tally-campaign-id=\"spring\" data-tally-ad-id=\"a1\" data-tally-placement-id=\"top\"> .. </div>";

pub const CHECK_CONFIG: &str = "\
Examples:
  tally check-config --defaults
  tally check-config --config tally.toml";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    /// As a shell splits them, as far as examples go: at spaces that stand in no quotes.
    fn words_of(line: &str) -> Vec<String> {
        let parts = line.split('\'').enumerate();
        let words = parts.flat_map(|(at, part)| match at % 2 {
            1 => vec![part.to_owned()],
            _ => part.split_whitespace().map(str::to_owned).collect(),
        });
        words.collect()
    }

    #[test]
    fn every_example_is_a_command_that_the_parser_takes() {
        let mut tried = 0;
        for text in [SERVE, SEND, GENERATE, QUERY, SQL, VERIFY, KEYS, WHY, SIGN_LINK, POSTBACK_URL, TAG, CHECK_CONFIG] {
            for line in text.lines().filter_map(|line| line.strip_prefix("  tally ")) {
                let words = std::iter::once("tally".to_owned()).chain(words_of(line));
                assert!(Cli::try_parse_from(words).is_ok(), "`tally {line}` is not understood");
                tried += 1;
            }
        }
        assert!(tried > 12, "only {tried} examples were tried");
    }
}
