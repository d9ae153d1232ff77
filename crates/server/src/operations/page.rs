//! The status page: how the exchange is, for people, when nothing else is there to look at.
//!
//! Invariant: it loads nothing but its own style, runs nothing, and shows nothing that is anybody's.

use std::fmt::Write as _;

use super::view::{Fact, MarketLine, Mood, Timing, View};
use crate::mail::letter::escape;

/// What may be loaded: our own style.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
/// How often the page loads itself anew, in seconds.
const REFRESH_SECONDS: u8 = 5;

/// Renders the page.
pub(super) fn html(view: &View) -> String {
    let class = match view.status {
        "operational" => "good",
        "degraded" => "warning",
        _ => "bad",
    };
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\"><meta name=\"robots\" content=\"noindex\">\
         <title>{0} · KrystalineX</title><link rel=\"stylesheet\" href=\"/status/style.css\"></head><body>\
         <header><h1>KrystalineX</h1><p class=\"state {class}\" role=\"status\">{0}</p>\
         <p class=\"time\"><time>{1}</time></p></header><main>",
        escape(&capital(view.status)),
        escape(&view.time)
    );
    problems(&mut html, &view.problems);
    markets(&mut html, &view.markets);
    timings(&mut html, view.window_seconds, &view.timings);
    html.push_str("<div class=\"cards\">");
    for section in &view.sections {
        let _ = write!(html, "<section class=\"card\"><h2>{}</h2><dl>", escape(section.title));
        section.facts.iter().for_each(|fact| self::fact(&mut html, fact));
        html.push_str("</dl></section>");
    }
    let _ = write!(
        html,
        "</div></main><footer><p>What this server knows, every {REFRESH_SECONDS} seconds. The same as numbers: \
         <a href=\"/metrics\">metrics</a>, <a href=\"/ready\">readiness</a>, \
         <a href=\"/api/health/trading\">trading</a>.</p></footer></body></html>"
    );
    html
}

fn problems(html: &mut String, problems: &[String]) {
    if problems.is_empty() {
        return;
    }
    html.push_str("<section class=\"problems\"><h2>What is wrong</h2><ul>");
    for problem in problems {
        let _ = write!(html, "<li>{}</li>", escape(problem));
    }
    html.push_str("</ul></section>");
}

fn markets(html: &mut String, markets: &[MarketLine]) {
    if markets.is_empty() {
        return;
    }
    html.push_str(
        "<section><h2>Markets</h2><div class=\"wide\"><table><thead><tr><th>Market</th><th>State</th>\
         <th class=\"n\">Last price</th><th class=\"n more\">Bid</th><th class=\"n more\">Ask</th>\
         <th class=\"n more\">Open orders</th>\
         <th class=\"n\">Last trade</th></tr></thead><tbody>",
    );
    for market in markets {
        let or = |value: &Option<String>| value.as_deref().map_or("–".to_owned(), escape);
        let ago = market.last_trade.as_ref().map(|age| format!("{age} ago"));
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td class=\"{}\">{}</td><td class=\"n\">{}</td><td class=\"n more\">{}</td>\
             <td class=\"n more\">{}</td><td class=\"n more\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&market.symbol),
            class(market.mood),
            escape(&market.state),
            or(&market.last_price),
            or(&market.bid),
            or(&market.ask),
            market.orders,
            or(&ago)
        );
    }
    html.push_str("</tbody></table></div></section>");
}

fn timings(html: &mut String, seconds: u64, timings: &[Timing]) {
    let _ = write!(
        html,
        "<section><h2>Times of the last {}</h2><div class=\"wide\"><table><thead><tr><th>What</th>\
         <th class=\"n\">How often</th><th class=\"n\">p50</th><th class=\"n\">p99</th></tr></thead><tbody>",
        super::view::span(std::time::Duration::from_secs(seconds))
    );
    for timing in timings {
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&timing.name),
            timing.count,
            escape(&timing.p50),
            escape(&timing.p99)
        );
    }
    html.push_str("</tbody></table></div></section>");
}

fn fact(html: &mut String, fact: &Fact) {
    let _ = write!(
        html,
        "<div><dt>{}</dt><dd class=\"{}\">{}</dd></div>",
        escape(&fact.name),
        class(fact.mood),
        escape(&fact.value)
    );
}

/// The class that colors it; a mood that is not good has a sign of its own, for who sees no colors.
fn class(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "good",
        Mood::Warning => "warning",
        Mood::Bad => "bad",
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::super::view::Section;
    use super::*;

    #[test]
    fn the_page_is_inert_and_shows_what_is_wrong_first() {
        let fact = Fact { name: "<b>".to_owned(), value: "<i>".to_owned(), mood: Mood::Bad };
        let view = View {
            status: "not trading",
            problems: vec!["the <queue>".to_owned()],
            time: "2026-01-01T00:00:00Z".to_owned(),
            window_seconds: 300,
            markets: Vec::new(),
            timings: Vec::new(),
            sections: vec![Section { title: "Money", facts: vec![fact] }],
        };
        let page = html(&view);
        for inert in ["the &lt;queue&gt;", "<dt>&lt;b&gt;</dt><dd class=\"bad\">&lt;i&gt;</dd>"] {
            assert!(page.contains(inert), "{page}");
        }
        for never in ["<script", "style=", "<b>", "onload"] {
            assert!(!page.contains(never), "{never}: {page}");
        }
        assert!(!POLICY.contains("unsafe"));
        assert!(page.find("What is wrong") < page.find("Money"));
    }
}
