//! JSON. Each schema version has types of its own, so that renaming a field inside breaks nobody.

pub mod v1;
