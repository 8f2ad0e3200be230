//! Every form in which an answer is written. Nothing here looks at the host: what is not in the
//! values handed in does not exist.

#![forbid(unsafe_code)]

mod clean;
mod view;

pub use clean::Clean;
pub use view::{
    Ability, Column, Comparison, Disagreement, Examination, Explained, Format, ListOptions, Outcome,
    Question, RuleRow, SortKey, Style, Trace, Tried, View, Why,
};
