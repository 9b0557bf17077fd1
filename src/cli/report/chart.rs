//! A chart of accesses by day, as SVG.

use crate::cli::args::time::rfc3339_secs;
use maud::{Markup, html};

const HEIGHT: u64 = 120;
const BAR: u64 = 16;

/// Bars of what was opened, and above them of what was not.
pub fn by_day(days: &[(u64, u64, u64)]) -> Markup {
    let most = days.iter().map(|(_, opened, not)| opened + not).max().unwrap_or(0).max(1);
    let height = |count: u64| if count == 0 { 0 } else { (count * HEIGHT / most).max(1) };
    let width = days.len() as u64 * BAR;
    html! {
        svg class="chart" role="img" viewBox={ "0 0 " (width) " " (HEIGHT + 18) }
            aria-label={ "Accesses by day; the busiest day has " (most) ". The table below has the numbers." } {
            @for (at, (day, opened, not)) in (0_u64..).zip(days) {
                @let (below, above) = (height(*opened), height(*not).min(HEIGHT - height(*opened).min(HEIGHT)));
                g {
                    title { (date(*day)) ": " (opened) " opened, " (not) " not opened" }
                    rect class="opened" x=(at * BAR + 2) y=(HEIGHT - below) width=(BAR - 4) height=(below) {}
                    rect class="failed" x=(at * BAR + 2) y=(HEIGHT - below - above) width=(BAR - 4) height=(above) {}
                }
            }
            line class="axis" x1="0" x2=(width) y1=(HEIGHT) y2=(HEIGHT) {}
            @if let (Some(first), Some(last)) = (days.first(), days.last()) {
                text x="0" y=(HEIGHT + 14) { (date(first.0)) }
                text x=(width) y=(HEIGHT + 14) text-anchor="end" { (date(last.0)) }
            }
        }
    }
}

/// The day of a time (ms), in UTC.
pub fn date(ms: u64) -> String {
    rfc3339_secs(ms).chars().take(10).collect()
}
