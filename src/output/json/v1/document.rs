//! The frame of a document: keys and list elements are written as they come, one element a line,
//! so that nothing is held and a line tool can still read it.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::SCHEMA;

#[derive(Serialize)]
struct Tool {
    name: &'static str,
    version: &'static str,
}

pub(super) struct Document<'w> {
    out: BufWriter<&'w mut dyn Write>,
    /// Whether the object that is being written has a key already.
    started: bool,
}

impl<'w> Document<'w> {
    pub(super) fn begin(out: &'w mut dyn Write, kind: &str) -> io::Result<Self> {
        let mut document = Self { out: BufWriter::with_capacity(1 << 16, out), started: false };
        document.out.write_all(b"{")?;
        document.field("schema", &SCHEMA)?;
        document.field("kind", &kind)?;
        document.field("tool", &Tool { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") })?;
        Ok(document)
    }

    pub(super) fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> io::Result<()> {
        self.key(key)?;
        serde_json::to_writer(&mut self.out, value)?;
        Ok(())
    }

    pub(super) fn list<T: Serialize>(&mut self, key: &str, items: impl Iterator<Item = T>) -> io::Result<()> {
        self.key(key)?;
        self.out.write_all(b"[")?;
        let mut before: &[u8] = b"\n";
        for item in items {
            self.out.write_all(before)?;
            serde_json::to_writer(&mut self.out, &item)?;
            before = b",\n";
        }
        self.out.write_all(b"]")
    }

    pub(super) fn object(
        &mut self,
        key: &str,
        body: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        self.key(key)?;
        self.out.write_all(b"{")?;
        self.started = false;
        body(self)?;
        self.started = true;
        self.out.write_all(b"}")
    }

    pub(super) fn end(mut self) -> io::Result<()> {
        self.out.write_all(b"}\n")?;
        self.out.flush()
    }

    fn key(&mut self, key: &str) -> io::Result<()> {
        self.out.write_all(if self.started { b",\n" } else { b"\n" })?;
        self.started = true;
        serde_json::to_writer(&mut self.out, key)?;
        self.out.write_all(b":")
    }
}
