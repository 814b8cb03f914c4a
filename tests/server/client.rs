//! Starts a server on a port of its own, and speaks HTTP to it.

use crate::common::Temp;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// A running server; it is killed at the end of its test.
pub struct Server {
    pub child: Child,
    pub port: u16,
    // Kept open: a server whose stdout is gone would notice.
    _stdout: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {text}", self.status))
    }

    /// A header's value, in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()).next()
    }
}

impl Server {
    /// On any free port, with its pictures in `out` of the folder.
    pub fn start(dir: &Temp, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lienzo"));
        command.current_dir(dir.join(".")).env("LIENZO_CACHE_DIR", dir.join(".cache"));
        command.args(["serve", "--port", "0", "--output", "out", "-t", "2"]).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the first line");
        let port = line.trim().strip_prefix("http://127.0.0.1:").and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("the first line is no address: {line:?}"));
        Self { child, port, _stdout: stdout }
    }

    /// Sends a request; the head has no Host of its own unless one is given.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
        self.try_send(method, path, headers, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// The same for a server that may be gone.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: 127.0.0.1:{}\r\n", self.port);
        }
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        if let Some(body) = body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(body.unwrap_or_default())?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        let end = all.windows(4).position(|w| w == b"\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok(Answer { status, head, body: all[end + 4..].to_vec() })
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], Some(body.to_string().as_bytes()))
    }

    /// Brings a picture; its sha256.
    pub fn upload(&self, path: &Path) -> String {
        let bytes = std::fs::read(path).expect("a picture");
        let answer = self.send("POST", "/api/uploads", &[("Content-Type", "image/png")], Some(&bytes));
        assert!(matches!(answer.status, 200 | 201), "{}", answer.json());
        answer.json()["sha256"].as_str().expect("a sha256").to_owned()
    }

    /// Draws an order, and waits for the end of its job.
    pub fn draw(&self, order: &Value) -> Value {
        let answer = self.post("/api/jobs", order);
        assert!(matches!(answer.status, 200 | 202), "{order}: {}", answer.json());
        self.ended(answer.json()["id"].as_str().expect("an id"))
    }

    /// A job's record once it has ended.
    pub fn ended(&self, id: &str) -> Value {
        let begun = Instant::now();
        loop {
            let job = self.get(&format!("/api/jobs/{id}")).json();
            if matches!(job["state"].as_str(), Some("done" | "failed" | "cancelled")) {
                return job;
            }
            assert!(begun.elapsed() < PATIENCE, "{job} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a job runs.
    pub fn runs(&self, id: &str) {
        let begun = Instant::now();
        while self.get(&format!("/api/jobs/{id}")).json()["state"] != "running" {
            assert!(begun.elapsed() < PATIENCE, "{id} does not begin");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The file of a job's picture.
    pub fn picture(&self, job: &Value, index: usize) -> Vec<u8> {
        let url = job["pictures"][index]["url"].as_str().unwrap_or_else(|| panic!("no picture {index}: {job}"));
        let answer = self.get(&format!("/{url}"));
        assert_eq!((answer.status, answer.header("content-type").as_deref()), (200, Some("image/png")));
        answer.body
    }
}

/// A job that takes long enough to be watched and stopped, on any machine.
pub fn slow(seed: u64) -> Value {
    serde_json::json!({"prompt": "a red apple", "seed": seed, "steps": 1000, "width": 128, "height": 128})
}

/// The records on the disk, each of them readable.
pub fn records(dir: &Temp) -> Vec<Value> {
    let names = std::fs::read_dir(dir.join("out/jobs")).expect("the records");
    let paths = names.map(|e| e.expect("a record").path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("a record");
        serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    paths.map(read).collect()
}
