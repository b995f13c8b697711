//! Writes manual pages and shell completions of both binaries, from their command lines: `pages DIR DATE` makes
//! `DIR/PROGRAM/man/*.1`, dated so, and `DIR/PROGRAM/completions/*`. Run by `deb.sh`, which packs them; installed nowhere.

use std::{fs, io, path::Path, process::ExitCode};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

#[path = "../../daemon/src/cli.rs"]
mod daemon;
#[path = "../../restore-cli/src/cli.rs"]
#[expect(dead_code, reason = "it is described here, and parsed nowhere")]
mod reader;

/// What Debian has completions for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// `EX_USAGE` of `sysexits.h`.
const USAGE: u8 = 64;

fn main() -> io::Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(date)) = (args.next(), args.next()) else {
        return Ok(ExitCode::from(USAGE));
    };
    for program in [daemon::Cli::command(), reader::Cli::command()] {
        let dir = Path::new(&dir).join(program.get_name());
        write_pages(&program, &date, &dir.join("man"))?;
        write_completions(program, &dir.join("completions"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One page for the program and one for each of its commands.
fn write_pages(program: &Command, date: &str, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut program = program.clone();
    program.build();
    let version = format!("Stonekeep {}", program.get_version().unwrap_or_default());
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set());
    for command in commands.chain([&program]) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let page = Man::new(command.clone()).title(name.to_uppercase()).date(date);
        let mut text = Vec::new();
        page.manual("Stonekeep").source(version.as_str()).render(&mut text)?;
        // What a command line shows last is no extra in a manual.
        let text = String::from_utf8_lossy(&text).replace(".SH EXTRA", ".SH NOTES");
        fs::write(dir.join(format!("{name}.1")), text)?;
    }
    Ok(())
}

fn write_completions(mut program: Command, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let name = program.get_name().to_owned();
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut program, &name, dir)?;
    }
    Ok(())
}
