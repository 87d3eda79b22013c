//! A headless Chromium, told what to do over its DevTools protocol: JSON between zero bytes, on the
//! pipes that `--remote-debugging-pipe` asks for. No driver and no WebSocket in between.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const PROGRAMS: &[&str] = &["chromium", "chromium-browser", "google-chrome", "chrome"];

/// A browser that says nothing for so long hangs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A browser with one page; it ends when dropped.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    last_id: u64,
    session: Option<String>,
    /// Errors that pages wrote to the console, and exceptions of their scripts.
    pub complaints: Vec<String>,
}

/// A program that can be started: `CHROMIUM`'s, or one of the usual names.
pub fn find() -> Option<String> {
    let named = std::env::var("CHROMIUM").ok();
    let programs = named.into_iter().chain(PROGRAMS.iter().map(|&name| name.to_owned()));
    let works = |program: &String| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    programs.into_iter().find(works)
}

impl Browser {
    /// Starts it, with its files in this folder.
    pub fn open(program: &str, folder: &Path) -> Self {
        // It wants its pipes at 3 and 4; a shell can put them there, and std cannot.
        let script = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut command = Command::new("sh");
        command.args(["-c", script, program, "--headless", "--remote-debugging-pipe"]);
        // Root, as in containers, may run it only without its own sandbox; the pages are ours.
        command.args([
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        command.args(["--hide-scrollbars", "about:blank"]);
        command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
        command.env("HOME", folder).env("XDG_CONFIG_HOME", folder);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let to = child.stdin.take().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            for message in out.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("it speaks JSON");
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let (session, complaints) = (None, Vec::new());
        let mut browser = Self { child, to, from, last_id: 0, session, complaints };
        let page = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// The result of a method.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = self.from.recv_timeout(ANSWERS_WITHIN);
            let mut message = message.unwrap_or_else(|_| panic!("{method}: no answer"));
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, event: &Value) {
        let params = &event["params"];
        let is_bad = match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" => params["type"] == "error" || params["type"] == "assert",
            "Log.entryAdded" => params["entry"]["level"] == "error",
            _ => false,
        };
        if is_bad {
            self.complaints.push(params.to_string());
        }
    }

    /// Sees pages as a window of this size; below 500 as a phone's.
    pub fn resize(&mut self, width: u32, height: u32) {
        let is_phone = width < 500;
        let size = json!({"width": width, "height": height, "mobile": is_phone,
            "deviceScaleFactor": if is_phone { 2 } else { 1 }});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Asks for the light or the dark look.
    pub fn color_scheme(&mut self, name: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": name}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Opens an address and waits until its page is complete.
    pub fn visit(&mut self, url: &str) {
        let gone = self.call("Page.navigate", json!({"url": url}));
        assert!(gone["errorText"].is_null(), "{gone}");
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        self.until(&format!(
            "document.readyState === 'complete' && location.pathname === '/{path}'"
        ));
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true; says what the page shows if it does not become so.
    pub fn until(&mut self, expression: &str) {
        for _ in 0..300 {
            if self.value(expression) == true {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let shown = self.value("document.body.innerText");
        panic!("within 30 s it did not become true that {expression}; the page shows {shown}");
    }

    /// A picture of the page, written where the environment's `STERNA_SCREENSHOTS` says, if it does.
    pub fn picture(&mut self, name: &str) {
        let Ok(folder) = std::env::var("STERNA_SCREENSHOTS") else { return };
        let params = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.call("Page.captureScreenshot", params);
        let bytes = from_base64(picture["data"].as_str().unwrap());
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut n_bits) = (Vec::new(), 0u32, 0);
    for letter in text.bytes().filter(|&letter| letter != b'=') {
        let six = LETTERS.iter().position(|&known| known == letter).expect("base64");
        bits = bits << 6 | six as u32;
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits) as u8);
        }
    }
    bytes
}

#[test]
fn base64_is_read() {
    assert_eq!(from_base64("U3Rlcm5h"), b"Sterna");
    assert_eq!(from_base64("/+8="), [0xff, 0xef]);
}
