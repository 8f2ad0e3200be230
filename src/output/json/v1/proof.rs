//! One step of a self-test as one object on one line.

use std::io::{self, Write};

use serde::Serialize;

use super::SCHEMA;
use crate::output::proof::Step;

#[derive(Serialize)]
struct StepLineV1<'s> {
    schema: &'static str,
    kind: &'static str,
    step: &'static str,
    outcome: &'static str,
    after_ms: Option<f64>,
    message: &'s str,
}

pub(crate) fn write_step(out: &mut dyn Write, step: &Step) -> io::Result<()> {
    let line = StepLineV1 {
        schema: SCHEMA,
        kind: "self-test",
        step: step.name,
        outcome: step.outcome.name(),
        after_ms: step.after.map(|after| (after.as_secs_f64() * 1e6).round() / 1e3),
        message: &step.said,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
