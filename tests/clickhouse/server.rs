//! A ClickHouse server for the tests, and queries of it.

use super::text;
use edgesplit_testkit::client::{Client, Reply};
use edgesplit_testkit::envoy::Directory;
use edgesplit_testkit::{DEADLINE, Failure, eventually, installed};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A ClickHouse that ends with its owner. Its data outlives its process.
pub(crate) struct ClickHouse {
    program: PathBuf,
    process: Child,
    pub(crate) port: u16,
    directory: Directory,
}

impl ClickHouse {
    /// None where it is not installed.
    pub(crate) fn start() -> Option<ClickHouse> {
        let program = installed("clickhouse-server", "clickhouse")?;
        let directory = Directory::new().unwrap();
        // A port that is free now: it cannot be asked which one it took.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| directory.file(name).display().to_string();
        let config = format!(
            "<yandex><logger><level>warning</level><console>1</console></logger><listen_host>127.0.0.1</listen_host>\
             <http_port>{port}</http_port><path>{}/</path><tmp_path>{}/</tmp_path><users_config>{}</users_config>\
             <default_profile>default</default_profile><default_database>default</default_database>\
             <mark_cache_size>67108864</mark_cache_size></yandex>",
            path("data"),
            path("tmp"),
            path("users.xml")
        );
        let user = |name: &str, password: &str| {
            format!(
                "<{name}><password>{password}</password><networks><ip>127.0.0.1</ip></networks>\
                 <profile>default</profile><quota>default</quota></{name}>"
            )
        };
        let users = format!(
            "<yandex><profiles><default/></profiles><quotas><default/></quotas><users>{}{}</users></yandex>",
            user("default", ""),
            user("edgesplit", "SECRET")
        );
        fs::write(directory.file("config.xml"), config).unwrap();
        fs::write(directory.file("users.xml"), users).unwrap();
        let process = ClickHouse::spawn(&program, &directory);
        let server = ClickHouse { program, process, port, directory };
        server.wait();
        Some(server)
    }

    fn spawn(program: &Path, directory: &Directory) -> Child {
        Command::new(program)
            .arg(format!("--config-file={}", directory.file("config.xml").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.file("log")).unwrap())
            .spawn()
            .unwrap()
    }

    fn wait(&self) {
        eventually(2 * DEADLINE, "ClickHouse answers", || {
            let reply = Client::new(self.port).get("/ping").try_send().ok()?;
            (reply.status == 200).then_some(())
        });
    }

    /// Kills it in the middle of its work.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The same server with the same data again.
    pub(crate) fn restart(&mut self) {
        self.process = ClickHouse::spawn(&self.program, &self.directory);
        self.wait();
    }

    fn ask(&self, statement: &str) -> Result<Reply, Failure> {
        Client::new(self.port).post("/").body(statement).try_send()
    }

    #[track_caller]
    pub(crate) fn run(&self, statement: &str) -> String {
        let reply = self.ask(statement).unwrap();
        assert_eq!(reply.status, 200, "{statement}: {}", reply.text());
        reply.text()
    }

    /// Creates the tables, one statement after the other.
    #[track_caller]
    pub(crate) fn load_schema(&self) {
        for statement in text("schema.sql").split(";\n") {
            let is_empty = statement.lines().all(|line| line.trim().is_empty() || line.starts_with("--"));
            if !is_empty {
                self.run(statement);
            }
        }
    }

    /// The rows that a query of the example returns. Counts are numbers, not texts.
    #[track_caller]
    pub(crate) fn rows(&self, file: &str) -> Vec<Value> {
        let query = format!("{} FORMAT JSONEachRow", text(file));
        let answer = Client::new(self.port).post("/?output_format_json_quote_64bit_integers=0").body(query).send();
        assert_eq!(answer.status, 200, "{file}: {}", answer.text());
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn number(&self, query: &str) -> u64 {
        self.run(query).trim().parse().unwrap()
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
