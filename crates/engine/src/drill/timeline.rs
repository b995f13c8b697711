//! What took how long: a listener that hears the phases of a drill and hands every event on.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use stonekeep_format::{Clock, drill::DrillPhase};

use crate::events::{Event, Listener, Phase};

/// The phases so far.
#[derive(Debug)]
pub(super) struct Timeline {
    clock: Arc<dyn Clock>,
    begun_at: DateTime<Utc>,
    inner: Arc<dyn Listener>,
    phases: Mutex<Vec<DrillPhase>>,
}

impl Timeline {
    /// Begins now.
    pub(super) fn new(clock: Arc<dyn Clock>, inner: Arc<dyn Listener>) -> Self {
        let begun_at = clock.now();
        Self { clock, begun_at, inner, phases: Mutex::default() }
    }

    /// Ends the last phase and returns all.
    pub(super) fn end(&self) -> Vec<DrillPhase> {
        let now = self.elapsed_ms();
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        close(&mut phases, now);
        std::mem::take(&mut phases)
    }

    /// Takes what was restored so far out of the recovery time: it is begun again.
    pub(super) fn forget_restore(&self) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        phases.iter_mut().for_each(|phase| phase.is_restore = false);
    }

    /// Milliseconds since the beginning; none if the clock was set back.
    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from((self.clock.now() - self.begun_at).num_milliseconds()).unwrap_or(0)
    }

    fn begin(&self, phase: Phase) {
        let now = self.elapsed_ms();
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        close(&mut phases, now);
        phases.push(DrillPhase {
            name: phase.as_str().to_owned(),
            begun_ms: now,
            duration_ms: 0,
            bytes: 0,
            rows: 0,
            is_restore: is_restore(phase),
        });
    }

    fn add(&self, bytes: u64, rows: u64) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        // Looking at objects is told in their bytes, and reads none of them.
        let moving = phases.last_mut().filter(|last| last.name != Phase::Verifying.as_str());
        if let Some(last) = moving {
            last.bytes = last.bytes.saturating_add(bytes);
            last.rows = last.rows.saturating_add(rows);
        }
    }
}

fn close(phases: &mut [DrillPhase], now: u64) {
    if let Some(last) = phases.last_mut() {
        last.duration_ms = now.saturating_sub(last.begun_ms);
    }
}

/// Whether `stonekeep restore` has this phase, too.
const fn is_restore(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Preparing
            | Phase::Schema
            | Phase::Loading
            | Phase::Finishing
            | Phase::Comparing
            | Phase::Analyzing
    )
}

impl Listener for Timeline {
    fn hear(&self, event: &Event) {
        match event {
            Event::Phase { phase, .. } => self.begin(*phase),
            Event::Progress { bytes, rows } => self.add(*bytes, *rows),
            _ => {}
        }
        self.inner.hear(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::events::Silence;

    #[derive(Debug, Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> DateTime<Utc> {
            DateTime::from_timestamp_millis(self.0.load(Ordering::Relaxed)).expect("a time")
        }
        fn sleep(
            &self,
            _duration: std::time::Duration,
        ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(std::future::ready(()))
        }
    }

    #[test]
    fn what_is_begun_again_counts_once() {
        let timeline = Timeline::new(Arc::new(Hand::default()), Arc::new(Silence));
        timeline.begin(Phase::Preparing);
        timeline.forget_restore();
        timeline.begin(Phase::Preparing);
        let counted: Vec<bool> = timeline.end().iter().map(|phase| phase.is_restore).collect();
        assert_eq!(counted, [false, true]);
    }

    #[test]
    fn a_phase_lasts_until_the_next_and_has_what_came_in_it() {
        let clock = Arc::new(Hand::default());
        let timeline = Timeline::new(Arc::clone(&clock) as _, Arc::new(Silence));
        let tell = |at: i64, phase| {
            clock.0.store(at, Ordering::Relaxed);
            timeline.hear(&Event::Phase { phase, bytes_expected: None, rows_expected: None });
        };
        tell(5, Phase::Verifying);
        tell(7, Phase::Loading);
        timeline.hear(&Event::Progress { bytes: 10, rows: 1 });
        timeline.hear(&Event::Progress { bytes: 5, rows: 2 });
        tell(27, Phase::Removing);
        clock.0.store(30, Ordering::Relaxed);
        let told: Vec<_> = timeline
            .end()
            .into_iter()
            .map(|each| {
                (each.name, each.begun_ms, each.duration_ms, each.bytes, each.rows, each.is_restore)
            })
            .collect();
        let wanted = [
            ("verifying", 5, 2, 0, 0, false),
            ("loading", 7, 20, 15, 3, true),
            ("removing", 27, 3, 0, 0, false),
        ];
        assert_eq!(told, wanted.map(|(name, a, b, c, d, e)| (name.to_owned(), a, b, c, d, e)));
    }
}
