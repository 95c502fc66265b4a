//! Traces in Chrome's trace event format, which Perfetto opens.

use std::fmt::Write as _;

/// A worker's stay in a launch, or an event between.
#[derive(Clone, Debug)]
pub struct Span {
    /// The queue: 0 is the real-time one.
    pub queue: usize,
    /// What ran, or what happened.
    pub name: String,
    /// Nanoseconds from the start of the run.
    pub start: u64,
    /// The end; equal to the start for an event without duration.
    pub end: u64,
    /// Tiles that ended in it.
    pub tiles: u64,
    /// Whether the worker left before the launch had no more tiles for it.
    pub preempted: bool,
}

/// The JSON text of the spans of each worker; `queues` names the models.
pub fn to_json(workers: &[Vec<Span>], queues: &[String]) -> String {
    let mut events = Vec::new();
    for (worker, spans) in workers.iter().enumerate() {
        events.push(format!(
            r#"{{"name":"thread_name","ph":"M","pid":1,"tid":{worker},"args":{{"name":"worker {worker}"}}}}"#
        ));
        for span in spans {
            let queue = queues.get(span.queue).map_or("", String::as_str);
            let category = if span.preempted { format!("{queue},preempted") } else { queue.into() };
            let mut event = format!(r#"{{"name":{},"cat":{},"#, quoted(&span.name), quoted(&category));
            let at = span.start as f64 / 1e3;
            let _ = match span.end - span.start {
                0 => write!(event, r#""ph":"i","s":"t","ts":{at:.3},"#),
                length => write!(event, r#""ph":"X","ts":{at:.3},"dur":{:.3},"#, length as f64 / 1e3),
            };
            let _ = write!(event, r#""pid":1,"tid":{worker},"args":{{"queue":{},"#, quoted(queue));
            let _ = write!(event, r#""tiles":{},"preempted":{}}}}}"#, span.tiles, span.preempted);
            events.push(event);
        }
    }
    format!("{{\"traceEvents\":[\n{}\n]}}\n", events.join(",\n"))
}

/// A string as JSON writes it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_events() {
        let span = |name: &str, start, end, preempted| Span {
            queue: 0,
            name: name.into(),
            start,
            end,
            tiles: 3,
            preempted,
        };
        let spans = vec![span("a\"b", 1500, 2500, true), span("preempt", 3000, 3000, false)];
        let text = to_json(&[spans], &["rt".into()]);
        assert!(text.contains(
            r#"{"name":"a\"b","cat":"rt,preempted","ph":"X","ts":1.500,"dur":1.000,"pid":1,"tid":0,"#
        ));
        assert!(text.contains(r#""args":{"queue":"rt","tiles":3,"preempted":true}}"#));
        assert!(text.contains(r#""ph":"i","s":"t","ts":3.000"#));
    }
}
