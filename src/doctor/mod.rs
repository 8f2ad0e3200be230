//! What this user on this machine can and cannot see, each ability tried.
