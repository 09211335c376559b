//! `tally send`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use tally_traffic::{Encoding, Resume, SendOptions, progress_bar, send};

use super::say;
use crate::cli::{EncodingArgument, SendArguments};
use crate::client::api_key;

pub async fn run(arguments: SendArguments) -> Result<ExitCode> {
    let to = arguments
        .to
        .parse()
        .with_context(|| format!("--to {:?} is no URL; write http://127.0.0.1:8080", arguments.to))?;
    let options = SendOptions {
        api_key: api_key(&arguments.key)?,
        batch_events: arguments.batch as usize,
        concurrency: arguments.concurrency,
        encoding: match arguments.encoding {
            EncodingArgument::Zstd => Encoding::Zstd,
            EncodingArgument::Gzip => Encoding::Gzip,
            EncodingArgument::None => Encoding::None,
        },
        retry_s_max: arguments.retry_s,
        resume: if arguments.resume { Resume::Beside } else { Resume::No },
        map: pairs("--map", &arguments.map)?,
        set: pairs("--set", &arguments.set)?,
        ..SendOptions::to(to)
    };
    let report = send(&arguments.files, &options, &progress_bar()).await?;
    for error in &report.errors {
        let field = error.field.as_deref().map(|field| format!("`{field}`: ")).unwrap_or_default();
        let cure = error.cure.as_deref().map(|cure| format!("; {cure}")).unwrap_or_default();
        say(format!("{}:{}: {field}{}{cure}", error.file.display(), error.line, error.what));
    }
    let seconds = report.elapsed.as_secs_f64();
    say(format!(
        "{} events accepted, {} rejected, {} skipped, {} retries, in {seconds:.1} s ({:.0} events/s)",
        report.accepted,
        report.rejected,
        report.skipped,
        report.retries,
        report.sent as f64 / seconds.max(0.001),
    ));
    Ok(if report.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn pairs(option: &str, texts: &[String]) -> Result<Vec<(String, String)>> {
    let pair = |text: &String| text.split_once('=').map(|(field, value)| (field.to_owned(), value.to_owned()));
    texts.iter().map(|text| pair(text).with_context(|| format!("{option} {text:?} has no `=`"))).collect()
}
