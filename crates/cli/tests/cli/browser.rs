//! The dashboard and the playground in a real browser, on a server that is really asked.
//!
//! `STERNA_SCREENSHOTS=FOLDER` keeps pictures of both, for a person to look at.

mod devtools;

use super::serve::{Server, greedy};
use devtools::Browser;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The page fits its window, or its reader must scroll sideways.
const FITS: &str = "document.documentElement.scrollWidth <= window.innerWidth";

/// Windows by name: width and height.
const WINDOWS: [(&str, u32, u32); 2] = [("desktop", 1280, 900), ("phone", 390, 844)];

#[test]
fn people_see_agents_at_work_and_get_answers() {
    let Some(program) = devtools::find() else {
        println!(
            "skipped: no Chromium on the path to see the pages with (Debian: apt-get install \
             chromium; or name one in CHROMIUM)"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let mut browser = Browser::open(&program, folder.path());
    browser.resize(1280, 900);
    browser.color_scheme("light");
    dashboard(&server, &mut browser);
    playground(&server, &mut browser);
    for (page, name) in [("", "dashboard"), ("chat", "playground")] {
        browser.visit(&format!("http://{}/{page}", server.address));
        browser.until("document.body.innerText.includes('austen-4m')");
        for (window, width, height) in WINDOWS {
            browser.resize(width, height);
            assert_eq!(browser.value(FITS), true, "{name} is too wide for a {window}");
        }
    }
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}

/// Ends what goes on meanwhile, also when a check fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn dashboard(server: &Server, browser: &mut Browser) {
    browser.visit(&format!("http://{}/", server.address));
    browser.until("document.getElementById('models').innerText.includes('austen-4m')");
    // Nobody has asked yet, which it says.
    browser.until("document.getElementById('agents').innerText.includes('nobody')");
    for (window, width, height) in WINDOWS {
        browser.resize(width, height);
        browser.picture(&format!("dashboard-{window}-empty"));
    }
    browser.resize(1280, 900);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        for agent in ["planner", "a-reviewer-with-a-rather-long-name"] {
            let is_over = &is_over;
            scope.spawn(move || {
                let head = format!("X-Agent-Id: {agent}\r\n");
                let mut body = greedy(&format!("{agent} said that she had been"), 150);
                // Or the second answer and all others were the first one, kept.
                body["cache"] = json!({ "no-cache": true });
                let body = body.to_string();
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(server.ask("POST", "/v1/completions", &head, &body).0, 200);
                }
            });
        }
        let row = "[...document.querySelectorAll('#agents tr')].find(r => \
                   r.innerText.includes('planner'))";
        browser.until(&format!("!!{row}"));
        // What it has been given grows while one looks.
        let given = format!("Number({row}.lastElementChild.innerText.replaceAll(',', ''))");
        let first = browser.value(&given).as_f64().expect("a number");
        browser.until(&format!("{given} > {first}"));
        let rate = "Number(document.querySelector('#tiles .value').innerText.split(' ')[0]\
                    .replaceAll(',', '')) > 0";
        browser.until(rate);
        for (window, width, height) in WINDOWS {
            browser.resize(width, height);
            assert_eq!(browser.value(FITS), true, "the dashboard at work is too wide: {window}");
            for look in ["dark", "light"] {
                browser.color_scheme(look);
                browser.picture(&format!("dashboard-{window}-{look}"));
            }
        }
    });
    browser.resize(1280, 900);
    // At rest it agrees with what programs read.
    let generated = server.stats()["new_tokens"].as_u64().unwrap();
    let shown = "Number(document.querySelector('#models tr:last-child').children[7].innerText\
                 .replaceAll(',', ''))";
    browser.until(&format!("{shown} === {generated}"));
}

fn playground(server: &Server, browser: &mut Browser) {
    browser.visit(&format!("http://{}/chat", server.address));
    browser.until("document.getElementById('model').value === 'austen-4m'");
    browser.picture("playground-desktop-empty");
    // Counts how often the answer's text grew.
    browser.value(
        "window.grew = 0; new MutationObserver(() => window.grew += 1).observe(\
         document.getElementById('chat'), {subtree: true, childList: true, characterData: true})",
    );
    let say = |browser: &mut Browser, text: &str| {
        let text = json!(text);
        browser.value(&format!(
            "document.getElementById('text').value = {text}; \
             document.getElementById('form').requestSubmit()"
        ));
    };
    say(browser, "Who was Mr. Darcy, and what did she think of him?");
    let note =
        "document.querySelector('.turn.assistant:last-child small:last-of-type')?.innerText ?? ''";
    browser.until(&format!("({note}).includes('generated')"));
    let answer = "document.querySelector('.turn.assistant span').innerText";
    assert!(browser.value(answer).as_str().unwrap().len() > 20);
    let grew = browser.value("window.grew").as_u64().unwrap();
    assert!(grew > 5, "an answer of many tokens came in {grew} pieces");
    for (window, width, height) in WINDOWS {
        browser.resize(width, height);
        assert_eq!(browser.value(FITS), true, "the playground with an answer: {window}");
        for look in ["dark", "light"] {
            browser.color_scheme(look);
            browser.picture(&format!("playground-{window}-{look}"));
        }
    }
    browser.resize(1280, 900);
    // What the server refuses is said, in its words.
    browser.value("document.getElementById('most').value = 99999");
    say(browser, "Too much");
    browser.until("document.querySelector('.turn.assistant:last-child .bad') !== null");
    browser.picture("playground-desktop-refused");
    // That the request was refused is in the console too, as the browser's own words.
    browser.complaints.retain(|complaint| !complaint.contains("status of 400"));
}
