//! The live figures: takes in what the lake has committed, and tells whoever looks, each second and after a commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tally_api::{Frame, Live};
use tally_model::{Class, Clock, Counts, Kind};
use tally_pipeline::{LIVE_WINDOW_S, LivePart, LiveView, LiveWindow, Progress, Urgency};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The windows slide by the second.
const EVERY: Duration = Duration::from_secs(1);
/// Commits may come faster than anybody looks.
const AT_LEAST: Duration = Duration::from_millis(250);
/// Campaigns that are told: more than fit on a screen. The report has them all.
const CAMPAIGNS_MAX: usize = 100;

/// Shared by the sink, which adds, and the loop, which tells.
pub(crate) struct LiveFigures {
    window: Mutex<LiveWindow>,
    /// Where the pipeline is told whether anybody looks.
    urgency: Arc<Urgency>,
    clock: Arc<dyn Clock>,
    cells: Gauge,
    unnamed: Counter,
}

impl LiveFigures {
    pub fn new(clock: Arc<dyn Clock>, urgency: Arc<Urgency>, registry: &mut Registry) -> Arc<Self> {
        let figures =
            Self { window: Mutex::default(), urgency, clock, cells: Gauge::default(), unnamed: Counter::default() };
        let registry = registry.sub_registry_with_prefix("tally_live");
        registry.register("cells", "Campaigns in seconds that the live figures hold", figures.cells.clone());
        registry.register(
            "unnamed_events",
            "Events that the live figures of their campaign lack, for want of room",
            figures.unnamed.clone(),
        );
        Arc::new(figures)
    }

    pub fn add(&self, part: LivePart) {
        let mut window = self.window();
        let unnamed = window.add(part, self.now_s());
        self.unnamed.inc_by(unnamed);
        self.cells.set(i64::try_from(window.cells()).unwrap_or(i64::MAX));
    }

    fn frame(&self, progress: &Progress) -> Frame {
        let now_us = self.clock.now_us();
        let view = self.window().view(now_us.div_euclid(1_000_000), CAMPAIGNS_MAX);
        as_json(&view, now_us, progress.watermark_us).to_string().into()
    }

    fn now_s(&self) -> i64 {
        self.clock.now_us().div_euclid(1_000_000)
    }

    /// Locked to add or to sum up, never while anything waits.
    fn window(&self) -> MutexGuard<'_, LiveWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the newest figures for as long as somebody looks. Viewers are let go when this is dropped.
pub(crate) async fn run(
    figures: Arc<LiveFigures>,
    live: Arc<Live>,
    mut progress: watch::Receiver<Progress>,
    frames: watch::Sender<Frame>,
) {
    loop {
        let told = Instant::now();
        let is_watched = live.is_watched();
        figures.urgency.set_watched(is_watched);
        if is_watched {
            let newest = progress.borrow_and_update().clone();
            frames.send_replace(figures.frame(&newest));
        }
        tokio::select! {
            () = sleep_until(told + EVERY) => {}
            Ok(()) = progress.changed() => sleep_until(told + AT_LEAST).await,
        }
    }
}

/// Times are in milliseconds since the Unix epoch. `seconds` has a list for each figure, as charts want them.
fn as_json(view: &LiveView, now_us: i64, watermark_us: i64) -> Value {
    let campaigns = view.campaigns.iter().map(|campaign| {
        json!({
            "campaign_id": &*campaign.campaign_id,
            "minute": figures_of(&campaign.minute),
            "five_minutes": figures_of(&campaign.five_minutes),
        })
    });
    let column = |of: &dyn Fn(&Counts) -> u64| view.seconds.iter().map(of).collect::<Vec<_>>();
    json!({
        "at_ms": now_us.div_euclid(1_000),
        "watermark_ms": (watermark_us > 0).then(|| watermark_us.div_euclid(1_000)),
        "minute": figures_of(&view.minute),
        "five_minutes": figures_of(&view.five_minutes),
        "campaigns": campaigns.collect::<Vec<_>>(),
        "campaigns_total": view.campaigns_total,
        "unnamed_events": view.unnamed,
        "seconds": {
            "from_s": view.at_s - LIVE_WINDOW_S + 1,
            "counted": column(&|counts| of_class(counts, Class::Counted)),
            "duplicate": column(&|counts| of_class(counts, Class::Duplicate)),
            "invalid": column(&invalid),
            "clicks": column(&|counts| counts.of(Kind::Click, Class::Counted)),
        },
    })
}

fn figures_of(counts: &Counts) -> Value {
    let gross = |kind: Kind| Class::ALL.iter().map(|class| counts.of(kind, *class)).sum::<u64>();
    json!({
        "received": counts.received(),
        "counted": of_class(counts, Class::Counted),
        "duplicate": of_class(counts, Class::Duplicate),
        "invalid": invalid(counts),
        "quarantined": of_class(counts, Class::Quarantined),
        "impressions": counts.of(Kind::Impression, Class::Counted),
        "clicks": counts.of(Kind::Click, Class::Counted),
        "conversions": counts.of(Kind::Conversion, Class::Counted),
        "gross_clicks": gross(Kind::Click),
        "cost_micros": counts.cost_micros,
        "revenue_micros": counts.revenue_micros,
    })
}

fn of_class(counts: &Counts, class: Class) -> u64 {
    Kind::ALL.iter().map(|kind| counts.of(*kind, class)).sum()
}

fn invalid(counts: &Counts) -> u64 {
    of_class(counts, Class::InvalidGivt) + of_class(counts, Class::InvalidSivt)
}
