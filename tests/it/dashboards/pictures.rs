//! Pictures of dashboards for the docs: drawn by us, of what the panels' own questions are answered. Made by hand:
//! `cargo test --features demo --test it dashboards::pictures -- --ignored`.

mod drawn;

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tollgate::clock::{Clock as _, SystemClock};

use super::asked::Asker;
use super::filled::{History, fill};
use super::grafana::{Dashboard, View, dashboards, text};
use super::traffic::Place;
use crate::support::prometheus::SCRAPE;

/// How long people talk for what Prometheus has to show.
const TALK: Duration = Duration::from_secs(75);

const SOME: History = History { rows: 9_000, orgs: 5, members: 60, days: 35, system: (60, 360) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it writes into docs/"]
async fn draw_every_dashboard() {
    let place = Place::start().await;
    fill(&place.server, &place.database, &SOME);
    let began = Instant::now();
    let mut round = 0_u64;
    while began.elapsed() < TALK {
        place.good_round().await;
        if round.is_multiple_of(3) {
            place.bad_round().await;
        }
        // People think before they go on.
        tokio::time::sleep(Duration::from_millis(300 + 150 * (round % 7))).await;
        round += 1;
    }
    place.reprice();
    let (server, database) = (&place.server, place.database.clone());
    let asker = Asker { server, database, role: place.operator(), password: String::new(), prometheus: Some(&place.prometheus) };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dashboards");
    std::fs::create_dir_all(&folder).expect("a folder");
    for dashboard in dashboards("operators") {
        let picture = draw(&asker, &dashboard).await;
        assert!(picture.len() < 150_000, "{} takes {} bytes", dashboard.file, picture.len());
        std::fs::write(folder.join(dashboard.file.replace(".json", ".svg")), picture).expect("a picture");
    }
}

/// Panels that read Prometheus show the minute that there was; the others the time that the dashboard begins with.
async fn draw(asker: &Asker<'_>, dashboard: &Dashboard) -> String {
    let to = SystemClock.now();
    let view = |range: SignedDuration, interval: Duration| View {
        from: to - range,
        to,
        interval,
        scrape: SCRAPE,
        chosen: [].into(),
        timescale: true,
    };
    let whole = super::speed::range(text(&dashboard.json["time"], "from"));
    let long = view(whole, Duration::from_secs(whole.unsigned_abs().as_secs() / 96));
    let short = view(SignedDuration::from_secs(70), Duration::from_secs(1));
    let preferred = [("org", "org-0"), ("member", "member-0")];
    let (long, short) = (asker.choose(dashboard, &long, &preferred).await, asker.choose(dashboard, &short, &[("org", "acme")]).await);
    let mut drawn = Vec::new();
    for panel in dashboard.panels() {
        let of_prometheus = panel.targets().iter().any(|target| text(&target["datasource"], "uid") == "prometheus");
        let view = if of_prometheus { &short } else { &long };
        let answers = asker.ask(panel, view).await.unwrap_or_else(|error| panic!("{error}"));
        drawn.push((panel, answers));
    }
    drawn::page(dashboard, &drawn)
}
