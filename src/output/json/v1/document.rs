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
        let mut list = self.begin_list(key)?;
        for item in items {
            list.element(&item)?;
        }
        list.end()
    }

    pub(super) fn begin_list(&mut self, key: &str) -> io::Result<List<'_, 'w>> {
        self.key(key)?;
        self.out.write_all(b"[")?;
        Ok(List { out: &mut self.out, before: b"\n" })
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

/// A list that is being written.
pub(super) struct List<'d, 'w> {
    out: &'d mut BufWriter<&'w mut dyn Write>,
    /// What separates the next element from what stands before it.
    before: &'static [u8],
}

impl List<'_, '_> {
    pub(super) fn element<T: Serialize>(&mut self, item: &T) -> io::Result<()> {
        self.out.write_all(self.before)?;
        self.before = b",\n";
        serde_json::to_writer(&mut self.out, item)?;
        Ok(())
    }

    pub(super) fn end(self) -> io::Result<()> {
        self.out.write_all(b"]")
    }
}
