use std::collections::HashSet;

use proptest::prelude::*;
use tally_model::{Cell, CellKey, Counts, Grain, Kind, bucket_start_us};

use super::*;

fn fact(kind: Kind, class: Class, occurred_at_us: i64, ad_id: &str, user: u64) -> Fact<'_> {
    Fact {
        kind,
        class,
        occurred_at_us,
        campaign_id: "c",
        currency: Some("EUR"),
        ad_id,
        variant: None,
        country: Some("DE"),
        region: "eu",
        age_group: None,
        gender: Some("f"),
        device: "mobile",
        os: "ios",
        browser: "safari",
        user_hash: Some(user),
        cost_micros: 100,
        revenue_micros: 7,
    }
}

fn cells_of(facts: &[Fact<'_>]) -> Vec<Cell> {
    let mut builder = RollupBuilder::default();
    facts.iter().for_each(|fact| builder.add(fact));
    builder.finish().iter().map(|cell| cell.to_cell()).collect()
}

fn total(cells: &[Cell], grain: Grain, view: View) -> Counts {
    let mut sum = Counts::default();
    cells.iter().filter(|c| c.key.grain == grain && c.key.view == view).for_each(|c| sum.merge(&c.counts));
    sum
}

#[test]
fn a_late_event_is_added_to_the_windows_that_it_belongs_to() {
    let (now, last_month) = (1_700_000_000_000_000, 1_697_000_000_000_000);
    let cells = cells_of(&[
        fact(Kind::Click, Class::Counted, now, "a", 1),
        fact(Kind::Click, Class::Counted, last_month, "a", 1),
    ]);
    for grain in Grain::ALL {
        let buckets: Vec<i64> = cells
            .iter()
            .filter(|cell| cell.key.grain == grain && cell.key.view == View::Geo)
            .map(|cell| cell.key.bucket_us)
            .collect();
        assert_eq!(buckets, [bucket_start_us(grain, last_month), bucket_start_us(grain, now)]);
    }
}

#[test]
fn what_does_not_count_costs_nothing_and_has_no_users() {
    let cells = cells_of(&[
        fact(Kind::Click, Class::Counted, 0, "a", 1),
        fact(Kind::Click, Class::Duplicate, 0, "a", 2),
        fact(Kind::Click, Class::InvalidGivt, 0, "a", 3),
    ]);
    let day = cells.iter().find(|c| c.key.grain == Grain::Day && c.key.view == View::Campaign).unwrap();
    assert_eq!((day.counts.cost_micros, day.counts.revenue_micros, day.counts.received()), (100, 7, 3));
    assert_eq!(day.counts.of(Kind::Click, Class::Duplicate), 1);
    assert_eq!(day.users.as_ref().unwrap().estimate().round(), 1.0);
}

proptest! {
    /// However events are cut into batches, and in whatever order, the parts add up to the same at every grain.
    #[test]
    fn parts_add_up(
        events in prop::collection::vec((0usize..3, 0usize..5, 0i64..5_000_000_000_000, 0usize..3, 0u64..9), 1..120),
        cut in 0usize..120,
    ) {
        let ads = ["a", "b", "c"];
        let facts: Vec<Fact<'_>> = events
            .iter()
            .map(|(kind, class, at, ad, user)| fact(Kind::ALL[*kind], Class::ALL[*class], *at, ads[*ad], *user))
            .collect();
        let whole = cells_of(&facts);
        let (one, two) = facts.split_at(cut.min(facts.len()));
        let parts = [cells_of(two), cells_of(one)].concat();
        let keys: HashSet<CellKey> = whole.iter().map(|cell| cell.key.clone()).collect();
        prop_assert_eq!(keys.len(), whole.len(), "a cell came twice");
        for grain in Grain::ALL {
            for view in View::ALL {
                prop_assert_eq!(total(&whole, grain, view), total(&parts, grain, view));
                prop_assert_eq!(total(&whole, grain, view).received(), facts.len() as u64);
            }
        }
    }
}

#[test]
fn users_of_a_coarse_cell_are_those_of_its_hours_each_once() {
    let hour_us = 3_600_000_000;
    let facts: Vec<_> = (0..600)
        .map(|n| fact(Kind::Click, Class::Counted, n % 50 * hour_us, ["a", "b"][n as usize % 2], n as u64 % 200))
        .collect();
    let cells = cells_of(&facts);
    let users = |grain: Grain, view: View, ad: Option<&str>| -> Vec<i64> {
        let cells = cells.iter().filter(|cell| cell.key.grain == grain && cell.key.view == view);
        let cells = cells.filter(|cell| ad.is_none() || cell.key.values[0].as_deref() == ad);
        cells.map(|cell| cell.users.as_ref().unwrap().estimate().round() as i64).collect()
    };
    assert_eq!(users(Grain::Month, View::Campaign, Some("a")), [100]);
    assert_eq!(users(Grain::Month, View::Geo, None), [200]);
    assert_eq!(users(Grain::Day, View::Geo, None), [96, 96, 8], "fifty hours are two days and two hours");
    assert_eq!(users(Grain::Hour, View::Geo, None), [4; 50]);
    assert!(cells.iter().all(|cell| cell.key.grain != Grain::Minute || cell.users.is_none()));
}

#[test]
fn equal_facts_give_equal_cells_in_whatever_order_they_came_in() {
    let mut facts = Vec::new();
    for (ad_id, country) in [("z", Some("US")), ("b", None), ("a", Some("DE")), ("", Some("FR"))] {
        for minute in [9, 3, 61, 100_000] {
            let at_us = minute * 60_000_000;
            facts.push(Fact { country, currency: None, ..fact(Kind::Click, Class::Counted, at_us, ad_id, 1) });
            facts.push(Fact { country, campaign_id: "a", ..fact(Kind::Click, Class::Duplicate, at_us, ad_id, 1) });
        }
    }
    let told = |facts: &[Fact<'_>]| {
        let cells = cells_of(facts);
        let told = |cell: &Cell| (cell.key.clone(), cell.counts, cell.users.as_ref().map(tally_model::Users::to_bytes));
        cells.iter().map(told).collect::<Vec<_>>()
    };
    let before = told(&facts);
    facts.reverse();
    assert_eq!(told(&facts), before);
}
