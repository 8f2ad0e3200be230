# What people type and what .ci/run calls: one place for each command.
set shell := ["bash", "-euo", "pipefail", "-c"]

# Everything that needs no rights: format, lints, unit tests and suite
check: format lints
    cargo test --locked --lib --test suite

format:
    cargo fmt --check

lints:
    cargo clippy --locked --all-targets -- -D warnings

# Regenerates what docs/ holds of the rules and checks the documentation of the code
docs:
    SOCKWARDEN_BLESS=1 cargo test --locked --quiet --test suite rules::
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

# Real kernel objects and programs in namespaces of their own; needs root. `just live rules::` for a part
live filter="":
    cargo test --locked --test live -- {{filter}}

# Every fuzz target for so many seconds, as many at once as there are processors
fuzz seconds="15":
    .ci/fuzz {{seconds}}

# Records this machine for tests and bug reports, to be read with --from
record dir:
    cargo run --locked --release -- snapshot --raw {{dir}}

# Licences and sources of what we depend on
deny:
    cargo deny --config .deny.toml check licenses bans sources
