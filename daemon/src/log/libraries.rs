//! What libraries say through `tracing`, as JSON lines of the same shape as our own: the event's name is `log`.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use stonekeep_engine::context::SystemClock;
use stonekeep_format::Clock as _;
use stonekeep_process::lines::{self, About, Level};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Writes each event as one line. Spans are left out: what a line is about stands in its fields.
pub(super) struct Lines;

/// A library's line. Its own fields stand apart, for they may have any name.
#[derive(Serialize)]
#[serde(tag = "event", rename = "log")]
struct Line<'t> {
    target: &'t str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Value>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let text = line(event.metadata(), |fields| event.record(fields));
        writeln!(writer, "{}", text.map_err(|_| fmt::Error)?)
    }
}

fn line(metadata: &Metadata<'_>, record: impl FnOnce(&mut Fields)) -> serde_json::Result<String> {
    let mut fields = Fields::default();
    record(&mut fields);
    let message = fields.0.remove("message");
    let said = Line { target: metadata.target(), message, fields: fields.0 };
    lines::line(SystemClock.now(), level(*metadata.level()), About::default(), &said)
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        _ => Level::Debug,
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_of_a_library_has_the_shape_of_our_own() {
        let kept = Kept::default();
        let into = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || into.clone())
            .event_format(Lines)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "somebody", at = "noon", tries = 3_u64, "it\nstumbled");
        });
        let text = String::from_utf8(kept.0.lock().expect("no panic").clone()).expect("text");
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (&line["level"], &line["event"], &line["target"], &line["message"]),
            (&"warn".into(), &"log".into(), &"somebody".into(), &"it\nstumbled".into())
        );
        assert_eq!(line["fields"], serde_json::json!({ "at": "noon", "tries": 3 }));
    }
}
