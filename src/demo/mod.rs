//! Harmless examples in a private namespace.
