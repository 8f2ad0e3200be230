//! Every form in which an answer is written.
