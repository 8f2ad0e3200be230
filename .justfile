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

# The program in the kernel: clang makes the object that is committed (Debian 12's clang 14)
bpf out="src/collect/linux/bpf/events.bpf.o":
    clang -O2 -g -target bpf -mcpu=v3 -Wall -Werror -fdebug-compilation-dir=. \
        -I"/usr/include/$(gcc -print-multiarch)" -c src/collect/linux/bpf/events.bpf.c -o {{out}}
    llvm-strip --strip-debug {{out}}

# That the committed object is what its source says
bpf-check:
    #!/usr/bin/env bash
    set -euo pipefail
    made=$(mktemp)
    trap 'rm -f "$made"' EXIT
    just bpf "$made"
    cmp "$made" src/collect/linux/bpf/events.bpf.o
