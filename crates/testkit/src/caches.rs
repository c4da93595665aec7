//! Caches between Envoy and the origin, as processes: Varnish and nginx, started with the files of `envoy/`. They listen
//! on a socket in a directory of their own, which needs no free port.

use super::envoy::{Directory, Envoy};
use super::module_under_test::built_module;
use super::{DEADLINE, eventually, installed, send_signal};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running cache. It is killed when it is dropped.
pub struct Cache {
    child: Child,
    directory: Directory,
}

impl Cache {
    /// Varnish with `envoy/varnish.vcl`, in front of this port; none where there is no `varnishd`.
    pub fn varnish(origin: u16) -> Option<Cache> {
        let binary = installed("varnishd", "caches")?;
        let recipe = recipe("varnish.vcl", &[(".port = \"8001\"", &format!(".port = \"{origin}\""))]);
        Some(Cache::start(|directory| {
            fs::write(directory.file("varnish.vcl"), recipe).expect("the recipe can be written");
            let mut command = Command::new(binary);
            // No jail: it would want a user of its own.
            command.args(["-j", "none", "-F", "-s", "malloc,32m", "-n"]).arg(directory.file("work"));
            command.arg("-a").arg(format!("{},mode=666", directory.file("socket").display()));
            command.arg("-f").arg(directory.file("varnish.vcl"));
            command
        }))
    }

    /// nginx with `envoy/nginx.conf`, in front of this port; none where there is no `nginx`.
    pub fn nginx(origin: u16) -> Option<Cache> {
        Cache::nginx_configured(|socket| {
            // Only root may write into the default folders.
            let folders = "http {\n    client_body_temp_path body;\n    proxy_temp_path proxy;";
            let changes = [
                ("server 127.0.0.1:8001;", format!("server 127.0.0.1:{origin};")),
                ("listen 127.0.0.1:8004;", format!("listen {socket};")),
                ("http {", folders.to_owned()),
            ];
            recipe("nginx.conf", &changes.each_ref().map(|(from, to)| (*from, to.as_str())))
        })
    }

    /// nginx with these `servers`, in which `SOCKET` is the place where it listens; none where there is no `nginx`.
    pub fn nginx_with(servers: &str) -> Option<Cache> {
        Cache::nginx_configured(|socket| {
            // As root, its workers would be of a user who cannot read the project's files.
            format!(
                "user root;\npid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\nclient_body_temp_path body;\n\
                 proxy_temp_path proxy;\n{}\n}}\n",
                servers.replace("SOCKET", socket)
            )
        })
    }

    /// nginx with the configuration that `configuration` makes for the place where it listens.
    fn nginx_configured(configuration: impl FnOnce(&str) -> String) -> Option<Cache> {
        let binary = installed("nginx", "caches")?;
        Some(Cache::start(|directory| {
            let socket = format!("unix:{}", directory.file("socket").display());
            fs::write(directory.file("nginx.conf"), configuration(&socket)).expect("the configuration can be written");
            let mut command = Command::new(binary);
            command.arg("-p").arg(directory.file("")).arg("-c").arg(directory.file("nginx.conf"));
            command.args(["-e", "stderr", "-g", "daemon off;"]);
            command
        }))
    }

    fn start(command: impl FnOnce(&Directory) -> Command) -> Cache {
        let directory = Directory::new().expect("a directory for the cache");
        // Its workers may be of another user.
        fs::set_permissions(directory.file(""), fs::Permissions::from_mode(0o755))
            .expect("the directory can be opened");
        let log = File::create(directory.file("log")).expect("a log for the cache");
        let mut command = command(&directory);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut cache = Cache { child, directory };
        let socket = cache.socket();
        eventually(DEADLINE, "the cache listens", || {
            if let Some(status) = cache.child.try_wait().ok().flatten() {
                panic!("the cache ended with {status}:\n{}", cache.log());
            }
            UnixStream::connect(&socket).ok()
        });
        cache
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.file("socket")
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.file("log")).unwrap_or_default()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // SIGTERM ends its workers too; SIGKILL would leave them.
        send_signal("TERM", self.child.id());
        let _ = self.child.wait();
    }
}

/// A file of `envoy/`, with `changes` made. Panics if the file lacks a text to change.
pub fn recipe(name: &str, changes: &[(&str, &str)]) -> String {
    let file = super::root().join("envoy").join(name);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{} has no {from:?}", file.display());
        text.replace(from, to)
    })
}

/// An Envoy of two workers with the file `name` of `envoy/`, `changes` made in it, and these experiments from the first
/// request on. Its route leads to the address `origin`, and no port is fixed.
pub fn start_envoy(name: &str, changes: &[(&str, &str)], experiments: &Value, origin: &str) -> Envoy {
    let inline = format!("inline: {experiments}");
    let module = format!("filename: {}", Value::from(built_module().to_string_lossy()));
    let places = [
        ("filename: dist/edgesplit.wasm", module.as_str()),
        ("# inline: {schema: 1, revision: inline, experiments: []}", &inline),
        ("{socket_address: {address: 127.0.0.1, port_value: 8001}}", origin),
        ("port_value: 10000}", "port_value: 0}"),
        ("port_value: 9901}", "port_value: 0}"),
    ];
    let yaml = recipe(name, &[&places, changes].concat());
    // Nothing listens there.
    let yaml = ["8002", "8003"]
        .iter()
        .fold(yaml, |yaml, port| yaml.replace(&format!("port_value: {port}}}"), "port_value: 1}"));
    Envoy::try_start_with(&yaml, 2).unwrap_or_else(|error| panic!("{error}"))
}

/// This port of the loopback interface, as an address in Envoy's configuration.
pub fn on_port(port: u16) -> String {
    format!("{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}")
}

/// This socket, as an address in Envoy's configuration.
pub fn on_socket(socket: &Path) -> String {
    format!("{{pipe: {{path: {}}}}}", Value::from(socket.to_string_lossy()))
}
