//! What a worker logs through: makes a record of each event, and sends it without waiting.

use std::fmt::{self, Write};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use multiproc_ipc::{Counter, Queue};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::relatives::current_name;

use super::record::{MESSAGE_BYTES, SPANS_BYTES, Sent, TARGET_BYTES, Text, WORKER_BYTES, number};

/// Sends what is logged in this process.
pub(super) struct Forward {
    queue: Queue<Sent>,
    /// What was dropped by anybody.
    dropped: Counter,
    /// What was dropped here, and not told yet.
    untold: AtomicU64,
}

impl Forward {
    pub(super) fn new(queue: Queue<Sent>, dropped: Counter) -> Forward {
        Forward { queue, dropped, untold: AtomicU64::new(0) }
    }

    fn send(&self, record: Sent) {
        let untold = record.dropped;
        // So that nothing is encoded in vain: that it may be full a moment later is no matter.
        if self.queue.is_full() || self.queue.try_send(record).is_err() {
            self.untold.fetch_add(untold + 1, Relaxed);
            self.dropped.add(1);
        }
    }
}

impl<S> Layer<S> for Forward
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields(Text::of_at_most(SPANS_BYTES));
        attributes.record(&mut fields);
        span.extensions_mut().replace(fields);
    }

    fn on_record(&self, id: &Id, values: &Values<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        // What is formatted may log something itself: not while others wait for the span.
        let mut more = Fields(Text::of_at_most(SPANS_BYTES));
        values.record(&mut more);
        if let Some(Fields(fields)) = span.extensions_mut().get_mut::<Fields>() {
            let between = if fields.text.is_empty() { "" } else { " " };
            let _ = write!(fields, "{between}{}", more.0.text);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut message = Fields(Text::of_at_most(MESSAGE_BYTES));
        event.record(&mut message);
        let mut spans = Text::of_at_most(SPANS_BYTES);
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            let between = if spans.text.is_empty() { "" } else { ":" };
            let _ = write!(spans, "{between}{}", span.name());
            match span.extensions().get::<Fields>() {
                Some(Fields(fields)) if !fields.text.is_empty() => {
                    let _ = write!(spans, "{{{}}}", fields.text);
                }
                _ => {}
            }
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.send(Sent {
            time: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
            level: number(LevelFilter::from_level(*event.metadata().level())),
            pid: std::process::id(),
            worker: cut(current_name(), WORKER_BYTES),
            target: cut(event.metadata().target(), TARGET_BYTES),
            spans,
            message: message.0,
            dropped: self.untold.swap(0, Relaxed),
        });
    }
}

/// The fields of an event, or a span, in the order in which they come: the message as it is, the others
/// with their names.
struct Fields(Text);

impl Fields {
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let between = if self.0.text.is_empty() { "" } else { " " };
        // It takes everything.
        let _ = match field.name() {
            "message" => write!(self.0, "{between}{value}"),
            name => write!(self.0, "{between}{name}={value}"),
        };
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.write(field, format_args!("{value}")),
            _ => self.write(field, format_args!("{value:?}")),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.write(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, format_args!("{value:?}"));
    }
}

/// The beginning of a text, of so many bytes at most.
fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}
