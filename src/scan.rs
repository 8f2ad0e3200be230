//! The program on one screen: collect, enrich, expose, match.
