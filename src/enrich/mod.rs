//! Facts about the holders and the place.
