//! Asking a person, at a terminal.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, IsTerminal, Read, Write},
};

use async_trait::async_trait;
use stonekeep_engine::restore::{Confirm, Question};
use stonekeep_process::output::printable;
use tokio_util::sync::CancellationToken;

use crate::progress::Progress;

/// The longest answer that is read, in bytes: a database name has at most 63.
const ANSWER_BYTES_MAX: u64 = 1024;

/// The terminal this process was started from, whatever its standard input is: `yes | stonekeep restore` is no answer.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub(crate) progress: std::sync::Arc<Progress>,
    pub(crate) cancel: CancellationToken,
}

#[async_trait]
impl Confirm for Terminal {
    async fn confirm(&self, question: &Question) -> bool {
        let question = question.clone();
        let progress = std::sync::Arc::clone(&self.progress);
        let answer = tokio::task::spawn_blocking(move || progress.pause(|| ask(&question)));
        tokio::select! {
            answer = answer => answer.unwrap_or(false),
            () = self.cancel.cancelled() => false,
        }
    }
}

/// Shows the question and reads one line. Without a terminal, or when it ends, the answer is no.
fn ask(question: &Question) -> bool {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    terminal
        .ok()
        .filter(IsTerminal::is_terminal)
        .is_some_and(|terminal| answered(&terminal, question))
}

fn answered(mut terminal: &File, question: &Question) -> bool {
    let prompt =
        format!("\n{}\nType the name of the database to go on: ", printable(&question.to_string()));
    let mut answer = String::new();
    let shown = terminal.write_all(prompt.as_bytes()).and_then(|()| terminal.flush());
    let read =
        shown.and_then(|()| BufReader::new(terminal.take(ANSWER_BYTES_MAX)).read_line(&mut answer));
    read.is_ok() && answer.trim_end_matches(['\r', '\n']) == question.database
}
