//! The yardstick: an axum route that parses a small JSON body and answers, in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Body {
    field: String,
    value: String,
}

/// Serves until it is killed; prints its address first.
pub async fn serve() {
    let router = Router::new().route("/echo", post(async |Json(body): Json<Body>| Json(body)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

/// The running yardstick.
pub struct Bare {
    child: Child,
    /// Its host and port.
    pub host: String,
}

impl Bare {
    /// Starts this program again as the yardstick.
    pub fn start() -> Self {
        let own = std::env::current_exe().unwrap();
        let mut child = Command::new(own).arg("--bare").stdout(Stdio::piped()).spawn().unwrap();
        let mut host = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut host).unwrap();
        Self { child, host: host.trim().to_owned() }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
