//! `edgesplit run`: an Envoy with the filter in front of a site, and a config that is watched.
//!
//! - `watch`: the config file, and which of its changes are served;
//! - `plugin`: the plugin configuration for this machine;
//! - `collector`: takes the events, and notes the first exposure of each variant;
//! - `introduction`: the text at the start.

mod collector;
mod introduction;
mod plugin;
mod watch;

use crate::config::{ConfigArguments, Setting};
use crate::counts::Counts;
use crate::dashboard::{self, Monitor};
use crate::envoy_config::{EnvoyConfig, Origin, PLUGIN};
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::Input;
use crate::http_url::HttpUrl;
use crate::local::config_service::ConfigService;
use crate::local::proxy::Proxy;
use crate::screen::Screen;
use crate::signals::Stop;
use collector::Collector;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watch::{Change, Watched};

/// Intervals between checks of the file and the signals, and between counts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The arguments of `edgesplit run`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The origin: the URL of your site, such as http://localhost:3000.
    #[arg(long, value_name = "URL", value_parser = Origin::parse)]
    origin: Origin,
    #[command(flatten)]
    config: ConfigArguments,
    /// Another module than the one in this command, such as the native libedgesplit.so.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let stop = Stop::listen()?;
    let Some(Input::File(file)) = args.config.input() else {
        return Err("run watches a file: give it as --config FILE".to_owned());
    };
    let Some(setting) = Setting::read(&args.config.setting)?.map(Arc::new) else { return Ok(EXIT_PROBLEMS) };
    let Some(mut watched) = Watched::open(file, Arc::clone(&setting))? else { return Ok(EXIT_PROBLEMS) };
    let plugin = plugin::adapted(setting.plugin.as_ref().map(|plugin| &plugin.value), watched.format());
    let cannot = |error: std::io::Error| format!("cannot listen on 127.0.0.1: {error}");
    let configs = ConfigService::start_on(0, watched.json()).map_err(cannot)?;
    let collector = Collector::start().map_err(cannot)?;
    let started = Proxy::start(args.module.as_deref(), |slots| {
        let services = [("experiments", configs.port()), ("collector", collector.port())];
        let module = slots.module.to_string_lossy();
        let (plugin, origin) = (&plugin.to_string(), &args.origin);
        EnvoyConfig { proxy: slots.proxy, admin: slots.admin, origin, module: &module, plugin, services: &services }
            .yaml()
    });
    let proxy = match started {
        // Ctrl-C reaches Envoy as well.
        Err(_) if stop.is_requested() => return Ok(EXIT_OK),
        started => started?,
    };
    let monitor = Monitor {
        envoys: vec![HttpUrl::local(proxy.ports.admin)],
        config: Some(Input::Url(HttpUrl::local(configs.port()).page("/experiments.json"))),
        setting,
    };
    let dashboard = dashboard::start(monitor)?;
    let mut screen = Screen::new();
    screen.print(&introduction::introduction(
        &args.origin,
        args.config.setting.plugin.plugin.as_ref(),
        &plugin,
        &watched,
        proxy.ports,
        &dashboard,
    ))?;
    let mut running = Running { screen, proxy, configs, collector };
    let result = running.watch(&mut watched, &stop);
    running.proxy.stop();
    result.map(|()| EXIT_OK)
}

/// The running parts.
struct Running {
    screen: Screen,
    proxy: Proxy,
    configs: ConfigService,
    collector: Collector,
}

impl Running {
    fn watch(&mut self, watched: &mut Watched, stop: &Stop) -> Result<(), String> {
        let mut next_count = Instant::now();
        while !stop.is_requested() {
            match watched.look() {
                Some(Change::Accepted(message)) => {
                    self.configs.set_body(watched.json());
                    self.screen.print(&message)?;
                }
                Some(Change::Refused(message)) => self.screen.print(&message)?,
                None => {}
            }
            for exposure in self.collector.first_exposures() {
                self.screen.print(&exposure)?;
            }
            if Instant::now() >= next_count {
                next_count += COUNT_INTERVAL;
                self.configs.server.take_requests();
                // An Envoy that is stopping does not answer; the check below notices its end.
                if let Ok(mut counts) = Counts::read(&self.proxy.admin, PLUGIN) {
                    counts.revision = watched.revision();
                    self.screen.status(&counts.line())?;
                }
            }
            if let Some(error) = self.proxy.exited() {
                // Ctrl-C may have reached Envoy first.
                std::thread::sleep(POLL_INTERVAL);
                return if stop.is_requested() { Ok(()) } else { Err(error) };
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        self.screen.print("stopped")
    }
}
