//! A Chromium that a test drives: one page that stays open, controlled by Chromium's own protocol over a pipe.

use super::envoy::Directory;
use super::{DEADLINE, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// A browser with one page. It ends with its owner.
pub struct Browser {
    process: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Value,
    last_id: u64,
    /// What the page complained about: exceptions, and what the browser refused it.
    pub complaints: Vec<String>,
    _profile: Directory,
}

impl Browser {
    /// Opens `address`, 1200 pixels wide.
    pub fn open(program: &Path, address: &str) -> Browser {
        let profile = Directory::new().unwrap();
        let mut process = Command::new("sh")
            // Chromium reads commands from 3 and answers on 4.
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 0</dev/null 1>/dev/null"#])
            .arg(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--hide-scrollbars",
            ])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--lang=en-US"])
            .args(["--remote-debugging-pipe", &format!("--user-data-dir={}", profile.file("profile").display())])
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (to, out) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(out).split(0) {
                let Ok(message) = message else { return };
                if sender.send(serde_json::from_slice(&message).unwrap_or_default()).is_err() {
                    return;
                }
            }
        });
        let mut browser =
            Browser { process, to, from, session: Value::Null, last_id: 0, complaints: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "DOM", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.resize(1200, 1480);
        browser.call("Page.navigate", json!({"url": address}));
        browser
    }

    /// Calls a method of the protocol; gives its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": parameters});
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        let end = Instant::now() + DEADLINE;
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            let answer = self.from.recv_timeout(rest).unwrap_or_else(|error| panic!("{method}: {error}"));
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown") => {
                    let details = &answer["params"]["exceptionDetails"];
                    self.complaints.push(format!("{} {}", details["text"], details["exception"]["description"]));
                }
                Some("Log.entryAdded") => self.complaints.push(answer["params"]["entry"]["text"].to_string()),
                _ => {}
            }
            if answer["id"] == self.last_id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// What an expression in the page gives.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text that a person sees in the first element that `selector` finds; empty where there is none.
    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        let found = self.evaluate(&format!("document.querySelector({})?.innerText ?? ''", json!(selector)));
        found.as_str().unwrap_or_default().trim().to_owned()
    }

    /// Waits until the text there is one that `is` takes.
    #[track_caller]
    pub fn wait_for(&mut self, selector: &str, is: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let end = Instant::now() + DEADLINE;
        eventually(2 * DEADLINE, selector, || {
            last = self.text(selector);
            assert!(Instant::now() < end, "{selector}: still {last:?}; complaints: {:?}", self.complaints);
            is(&last).then(|| last.clone())
        })
    }

    /// Presses a key, such as `Tab` or `ArrowLeft`; a space and line feeds by their names, too.
    pub fn press(&mut self, key: &str) {
        let (key, text, code) = match key {
            "Enter" => ("Enter", "\r", 13),
            "Space" => (" ", " ", 32),
            "Tab" => ("Tab", "", 9),
            "ArrowLeft" => ("ArrowLeft", "", 37),
            other => panic!("{other}: add its code"),
        };
        for kind in [if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Makes the window so large, in pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// Writes a picture of the window, in WebP.
    pub fn picture(&mut self, file: &Path) {
        let parameters = json!({"format": "webp", "quality": 50});
        let answer = self.call("Page.captureScreenshot", parameters);
        std::fs::write(file, base64(answer["data"].as_str().unwrap())).unwrap();
    }

    /// Role and name of everything that a screen reader finds, in its order.
    pub fn read_out(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let nodes = nodes.iter().filter(|node| node["ignored"] == false);
        nodes.map(|node| (text(&node["role"]), text(&node["name"]))).collect()
    }
}

/// The bytes of a text in base64.
fn base64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already. Its children end when the pipe does.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
