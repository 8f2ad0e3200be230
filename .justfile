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

# The programs in the kernel: clang makes the objects that are committed (Debian 12's clang 14)
bpf out="src/collect/linux/bpf":
    for name in events iter; do \
        clang -O2 -g -target bpf -mcpu=v3 -Wall -Werror -fdebug-compilation-dir=. \
            -I"/usr/include/$(gcc -print-multiarch)" \
            -c "src/collect/linux/bpf/$name.bpf.c" -o "{{out}}/$name.bpf.o"; \
        llvm-strip --strip-debug "{{out}}/$name.bpf.o"; \
    done

# That the committed objects are what their sources say
bpf-check:
    #!/usr/bin/env bash
    set -euo pipefail
    made=$(mktemp -d)
    trap 'rm -r "$made"' EXIT
    just bpf "$made"
    for name in events iter; do
        cmp "$made/$name.bpf.o" "src/collect/linux/bpf/$name.bpf.o"
    done
