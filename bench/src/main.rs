//! Simulates what a repository stores and costs, by the real engine.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use chrono::TimeDelta;
use clap::Parser;
use rand::{SeedableRng, rngs::StdRng};
use serde::Deserialize;
use stonekeep_bench::{Database, Stored, World};
use stonekeep_format::tier::{Every, Tier};

const DAY_SECS: u64 = 86_400;

/// Simulate hourly snapshots and print what they store and cost, beside one full copy per hour.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Options {
    /// Keep each snapshot for DAYS
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    keep_days: u64,
    /// Simulate so many times the keep before measuring
    #[arg(long, value_name = "TIMES", default_value_t = 3)]
    keeps: u64,
    /// Divide the database into N slices of 8 MiB of heap
    #[arg(long, value_name = "N", default_value_t = 400)]
    slices: usize,
    /// Rows of 100 bytes in a slice
    #[arg(long, value_name = "N", default_value_t = 80_000)]
    rows_per_slice: u64,
    /// Bytes of a slice as stored
    #[arg(long, value_name = "BYTES", default_value_t = 2_500_000)]
    slice_bytes: u64,
    /// Change this share of all rows per hour
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    change: f64,
    /// Change rows within the newest share of the table only; several: one line each
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_value = "0.03")]
    locality: Vec<f64>,
    /// Remove versions so many days after their locks have ended
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    grace_days: u32,
    /// Begin the random numbers here
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Take prices from FILE
    #[arg(long, value_name = "FILE", default_value = "bench/prices.toml")]
    prices: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Prices {
    storage_gb_month: f64,
    put_per_thousand: f64,
    get_per_thousand: f64,
}

/// What was measured at the end.
struct Measured {
    stored: Stored,
    puts_per_day: f64,
    reads_per_day: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(simulate(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Nobody reads it if standard error is closed.
            drop(writeln!(io::stderr(), "simulate: {message}"));
            ExitCode::from(70)
        }
    }
}

async fn simulate(options: &Options) -> Result<(), String> {
    let text = std::fs::read_to_string(&options.prices)
        .map_err(|error| format!("{}: {error}", options.prices.display()))?;
    let prices: Prices = toml::from_str(&text).map_err(|error| error.to_string())?;
    let say = |line: &str| writeln!(io::stdout(), "{line}").map_err(|error| error.to_string());
    say(
        "locality   stored       of one full copy per hour   documents    puts/day   reads/day   $/month",
    )?;
    for locality in &options.locality {
        let measured = run(options, *locality).await?;
        say(&line(options, &prices, *locality, &measured))?;
    }
    Ok(())
}

/// Simulates until the steady state, and then a day more for the requests.
async fn run(options: &Options, locality: f64) -> Result<Measured, String> {
    let tier = Tier {
        name: "hourly".to_owned(),
        every: Every::Hour,
        keep: Duration::from_secs(options.keep_days * DAY_SECS),
    };
    let begin = "2026-01-01T00:15:00Z".parse().map_err(|error| format!("{error}"))?;
    let world = World::new(begin, vec![tier], chrono_tz::UTC, options.grace_days).await;
    let world = world.map_err(|error| format!("{error:?}"))?;
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut database = Database::new(options.slices);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of some billions of rows"
    )]
    let rows = (options.rows_per_slice as f64 * options.slices as f64 * options.change) as u64;
    let hours = options.keep_days * 24 * options.keeps;
    let mut calls = (0, 0);
    for hour in 0..hours + 24 {
        if hour == hours {
            calls = world.store.calls();
        }
        world.snapshot(&database).await.map_err(|error| error.to_string())?;
        database.change(rows, locality, &mut random);
        world.pass(TimeDelta::hours(1));
    }
    let stored = world.stored();
    let (puts, reads) = world.store.calls();
    #[expect(clippy::cast_precision_loss, reason = "some thousands of calls")]
    Ok(Measured {
        stored,
        puts_per_day: (puts - calls.0) as f64,
        reads_per_day: (reads - calls.1) as f64,
    })
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn line(options: &Options, prices: &Prices, locality: f64, measured: &Measured) -> String {
    let segments = measured.stored.slices as f64 * options.slice_bytes as f64;
    let stored = segments + measured.stored.document_bytes as f64;
    let copy = options.slices as f64 * options.slice_bytes as f64;
    let copies = 24.0 * (options.keep_days as f64 + f64::from(options.grace_days));
    let dollars = stored / 1e9 * prices.storage_gb_month
        + 30.0 * measured.puts_per_day / 1e3 * prices.put_per_thousand
        + 30.0 * measured.reads_per_day / 1e3 * prices.get_per_thousand;
    format!(
        "{:<10} {:>8.2} GB  {:>23.2} %   {:>8.1} MB   {:>8}   {:>9}   {:>7.2}",
        locality,
        stored / 1e9,
        100.0 * stored / (copy * copies),
        measured.stored.document_bytes as f64 / 1e6,
        measured.puts_per_day,
        measured.reads_per_day,
        dollars
    )
}
