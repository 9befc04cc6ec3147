//! A browser that is driven by chromedriver: WebDriver is HTTP and JSON, and this is as much of it as is needed.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a page may take for what it does by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Chromium without a window, with a profile of its own. Both programs end when it is dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// `scratch` takes its profile.
    pub(crate) fn start(scratch: &Path) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver runs; .ci/install-referees installs it");
        let lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let mut ports = lines.map_while(Result::ok).filter_map(|line| {
            line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let port = ports.next().expect("chromedriver says its port");
        let mut browser = Self { driver, port, session: String::new() };
        let profile = format!("--user-data-dir={}", scratch.join("profile").display());
        // Nothing beside the page: no look-ups in the background, no shared memory that a container has little of.
        let options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
            "--disable-component-update", "--disable-background-networking", profile,
        ] });
        // A page that goes on listening never counts as loaded for certain; what is awaited is said by each test.
        let wanted = json!({
            "pageLoadStrategy": "eager",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let body = json!({ "capabilities": { "alwaysMatch": wanted } });
        let answer = browser.ask("POST", "/session", &body);
        browser.session = answer["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    pub(crate) fn open(&self, url: &str) {
        self.command("POST", "url", &json!({ "url": url }));
    }

    /// What a function body returns in the page.
    pub(crate) fn script(&self, script: &str) -> Value {
        self.command("POST", "execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true in the page.
    pub(crate) fn wait_for(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.script(&format!("return Boolean({expression});")) != Value::Bool(true) {
            let text = self.script("return document.body.innerText;");
            assert!(Instant::now() < deadline, "in vain: {expression}; {text}; {:?}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clicks as a person does: where the element is, if nothing is in front of it.
    pub(crate) fn click(&self, selector: &str) {
        let wanted = json!({ "using": "css selector", "value": selector });
        let element = self.command("POST", "element", &wanted);
        let id =
            element.as_object().and_then(|it| it.values().next()?.as_str()).expect("an element").to_owned();
        self.command("POST", &format!("element/{id}/click"), &json!({}));
    }

    /// Presses keys where the focus is.
    pub(crate) fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
            })
            .collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.command("POST", "actions", &json!({ "actions": [keyboard] }));
    }

    /// A window so wide, in light or dark.
    pub(crate) fn look(&self, width: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// The whole page as PNG, in the directory of the variable MQTALLY_SCREENSHOTS, if it is set.
    pub(crate) fn screenshot(&self, name: &str) {
        let Some(directory) = std::env::var_os("MQTALLY_SCREENSHOTS") else { return };
        let wanted = json!({ "format": "png", "captureBeyondViewport": true });
        let data = self.devtools("Page.captureScreenshot", &wanted);
        let data = data["data"].as_str().expect("a picture");
        let picture = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, data).expect("base64");
        std::fs::write(Path::new(&directory).join(format!("{name}.png")), picture).expect("written");
    }

    /// What the console and the network complained of since it was asked last.
    pub(crate) fn log(&self) -> Vec<String> {
        let entries = self.command("POST", "se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| format!("{}: {}", entry["level"], entry["message"])).collect()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}/{path}", self.session), body)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, mut answer) = self
            .try_to_ask(method, path, body)
            .unwrap_or_else(|error| panic!("no answer to {method} {path} {body}: {error}"));
        assert!(status.contains(" 200 "), "{method} {path} {body}: {status}{answer}");
        answer["value"].take()
    }

    /// The first line of the answer, and its body. The connection stays open: the body is as long as is said.
    fn try_to_ask(&self, method: &str, path: &str, body: &Value) -> io::Result<(String, Value)> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let (mut status, mut length) = (String::new(), 0);
        reader.read_line(&mut status)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok((status, serde_json::from_slice(&body)?))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session, and only with it.
        let ended = self.try_to_ask("DELETE", &format!("/session/{}", self.session), &json!({}));
        let is_over = ended.as_ref().is_ok_and(|(status, _)| status.contains(" 200 "));
        if !is_over && !std::thread::panicking() {
            panic!("Chromium is left behind: {ended:?}");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
