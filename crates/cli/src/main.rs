//! The `edgesplit` command.

fn main() -> std::process::ExitCode {
    edgesplit_cli::run()
}
