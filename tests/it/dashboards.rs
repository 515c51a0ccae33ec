//! Every panel of every dashboard, asked what Grafana would ask: of a real Prometheus and a real PostgreSQL that a real Tollgate
//! filled. A question that is wrong, or that nothing answers, fails.

mod asked;
mod at_rest;
mod filled;
mod grafana;
mod lint;
mod pictures;
mod provisioning;
mod speed;
mod traffic;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tollgate::clock::{Clock as _, SystemClock};
use tollgate::scripted::User;

use crate::support::prometheus::SCRAPE;
use asked::{Answer, Asker, Shows};
use at_rest::Rest;
use grafana::{Dashboard, Panel, View, dashboards};
use traffic::{ADA, Place};

/// How long panels may take until they show something.
const PATIENCE: Duration = Duration::from_mins(2);

/// The last two minutes, looked at closely.
fn view(timescale: bool) -> View {
    let to: Timestamp = SystemClock.now();
    View { from: to - SignedDuration::from_mins(2), to, interval: Duration::from_secs(1), scrape: SCRAPE, chosen: [].into(), timescale }
}

/// Asks every one of these panels until each shows what it must, while rounds of traffic go on. What was said last of those that
/// do not. Answers what each was answered.
async fn until_they_show(
    asker: &Asker<'_>,
    of: &[Dashboard],
    must: impl Fn(Panel<'_>) -> Option<Shows>,
    round: impl AsyncFn(),
) -> Vec<(String, Vec<Answer>)> {
    let mut good = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    let mut left: Vec<(Panel<'_>, Shows)> = of.iter().flat_map(Dashboard::panels).filter_map(|panel| Some((panel, must(panel)?))).collect();
    let timescale =
        asker.server.sql(&asker.database, "SELECT COUNT(*) FROM pg_extension WHERE extname = 'timescaledb'").as_deref() == Ok("1");
    // A reader sees no functions of TimescaleDB's, so that its data source does not use them.
    let timescale = timescale && asker.prometheus.is_some();
    loop {
        round().await;
        let mut still = Vec::new();
        let (mut said, mut wrong) = (String::new(), String::new());
        for dashboard in of.iter().filter(|dashboard| left.iter().any(|(panel, _)| std::ptr::eq(panel.dashboard, *dashboard))) {
            let member = User::new(ADA).id;
            let view = asker.choose(dashboard, &view(timescale), &[("org", "acme"), ("member", &member)]).await;
            for (panel, must) in left.iter().filter(|(panel, _)| std::ptr::eq(panel.dashboard, dashboard)) {
                let answers = asker.ask(*panel, &view).await.unwrap_or_else(|error| {
                    wrong += &error;
                    Vec::new()
                });
                if answers.iter().any(|answer| answer.shows(panel.kind()) < *must) {
                    still.push((*panel, *must));
                    said += &[&panel.name(), " must show ", &format!("{must:?}:\n"), &shown(&answers), "\n"].concat();
                } else {
                    good.push((panel.name(), answers));
                }
            }
        }
        assert!(wrong.is_empty(), "questions are wrong:\n{wrong}");
        left = still;
        if left.is_empty() {
            return good;
        }
        assert!(Instant::now() < deadline, "{} panels do not show what they must:\n{said}", left.len());
    }
}

fn shown(answers: &[Answer]) -> String {
    let text = format!("{answers:?}");
    text.chars().take(600).collect()
}

/// On a good day every panel has something to show, but for those that are about what goes wrong. Then all of that happens, and
/// they do too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_is_answered() {
    let place = Place::start().await;
    let operators = dashboards("operators");
    let asker = Asker {
        server: &place.server,
        database: place.database.clone(),
        role: place.operator(),
        password: String::new(),
        prometheus: Some(&place.prometheus),
    };
    let healthy = |panel: Panel<'_>| match at_rest::of(panel) {
        Rest::Shows => Some(Shows::Something),
        Rest::Zero => Some(Shows::Zeros),
        Rest::Empty(_) => None,
    };
    until_they_show(&asker, &operators, healthy, async || place.good_round().await).await;
    for case in at_rest::Case::ALL {
        let filled = |panel: Panel<'_>| matches!(at_rest::of(panel), Rest::Empty(of) if of == case).then_some(Shows::Something);
        match case {
            at_rest::Case::StoreAway => place.redis.pause(),
            at_rest::Case::Repriced => place.reprice(),
            at_rest::Case::BadDay => {}
        }
        until_they_show(&asker, &operators, filled, async || place.round_of(case).await).await;
        place.redis.resume();
    }
    provisioning::admins_of_an_org_see_theirs_and_nothing_else(&place).await;
}
