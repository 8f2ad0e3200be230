//! Systems without network namespaces.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Child, ExitCode};

use super::Refusal;

pub fn on_stage() -> bool {
    false
}

pub fn folder() -> Option<&'static Path> {
    None
}

pub fn enter(_arguments: &mut Vec<OsString>) -> Option<ExitCode> {
    None
}

pub fn possible() -> bool {
    false
}

/// # Errors
/// Always.
pub fn spawn(_folder: &Path, _arguments: &[OsString]) -> io::Result<Child> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "the demo needs Linux network namespaces"))
}

impl Refusal {
    pub fn from_code(_code: Option<i32>) -> Option<Self> {
        None
    }
}

#[derive(Debug)]
pub struct Door;

impl Door {
    /// # Errors
    /// Always.
    pub fn open() -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has it yet"))
    }

    pub fn pid(&self) -> u32 {
        0
    }

    pub fn folder(&self) -> &Path {
        Path::new("")
    }
}

#[derive(Debug)]
pub struct Stage;

impl Stage {
    /// # Errors
    /// Always.
    pub fn open() -> Result<Self, Refusal> {
        Err(Refusal { why: "the demo needs Linux network namespaces".to_owned(), help: None })
    }
}
