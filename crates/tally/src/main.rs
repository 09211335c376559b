//! `tally`: counts ads events exactly. Parses the command line, loads the configuration, runs the command.

mod cli;
mod client;
mod commands;
mod config;
mod keys;
mod logging;
mod outbound;
mod rebuild;
mod resubmit;
mod serve;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use tokio::runtime::{Builder, Runtime};

use crate::cli::{Cli, Command};
use crate::config::Config;

/// Events are made on one thread and dropped on another, by the million. The system's allocator keeps over half as much memory again
/// after a minute of that (see docs/performance.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = runtime(&cli.command).and_then(|runtime| runtime.block_on(run(cli)));
    done.unwrap_or_else(|error| {
        say_error(&error);
        ExitCode::FAILURE
    })
}

/// For all but connections, which have threads of their own.
fn runtime(command: &Command) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all().max_blocking_threads(tally_lake::blocking_threads());
    if matches!(command, Command::Serve(_) | Command::Demo(_)) {
        builder.on_thread_start(tally_lake::step_back);
    }
    Ok(builder.build()?)
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(arguments) => {
            let config = Config::load(&arguments.overrides())?;
            logging::start(&config.log)?;
            serve::serve(&config).await?;
        }
        Command::Demo(arguments) => commands::demo::run(arguments).await?,
        Command::Send(arguments) => return commands::send::run(arguments).await,
        Command::Generate(arguments) => commands::generate::run(&arguments)?,
        Command::Query(arguments) => commands::query::run(arguments).await?,
        Command::Sql(arguments) => commands::sql::run(arguments).await?,
        Command::Verify(arguments) => return commands::verify::run(arguments).await,
        Command::Rebuild(arguments) => commands::rebuild::run(&arguments).await?,
        Command::Replay(arguments) => return commands::replay::run(&arguments).await,
        Command::Quarantine(arguments) => return commands::quarantine::run(arguments.what).await,
        Command::Keys(arguments) => commands::keys::run(&arguments.what)?,
        Command::Why(arguments) => commands::why::run(arguments).await?,
        Command::SignLink(arguments) => commands::sign_link::run(&arguments)?,
        Command::PostbackUrl(arguments) => commands::postback_url::run(&arguments)?,
        Command::Tag(arguments) => commands::say(tally_capture::tag_element(&arguments.server)),
        Command::Bench(arguments) => commands::bench::run(arguments).await?,
        Command::CheckConfig(arguments) => commands::check_config::run(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stderr, reason = "the last word of a command goes to the terminal")]
fn say_error(error: &anyhow::Error) {
    eprintln!("tally: {error:#}");
}
