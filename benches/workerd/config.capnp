using Workerd = import "/workerd/workerd.capnp";

# The ports are given on the command line.
const config :Workerd.Config = (
  services = [(name = "main", worker = (
    modules = .modules,
    compatibilityDate = .compatibilityDate,
    bindings = [(name = "origin", service = "origin")],
  )), .origin],
  sockets = .sockets,
);

const withEvents :Workerd.Config = (
  services = [(name = "main", worker = (
    modules = .modules,
    compatibilityDate = .compatibilityDate,
    bindings = [(name = "origin", service = "origin"), (name = "queue", service = "queue")],
  )), .origin, (name = "queue", external = (address = "127.0.0.1:1", http = ()))],
  sockets = .sockets,
);

const modules :List(Workerd.Worker.Module) = [(name = "worker", esModule = embed "bundle.mjs")];
const compatibilityDate :Text = "2026-01-01";
const origin :Workerd.Service = (name = "origin", external = (address = "127.0.0.1:1", http = ()));
const sockets :List(Workerd.Socket) = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")];
