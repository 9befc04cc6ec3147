# Recipes for people; `.ci/run` runs the same commands. `just --list` shows them.

# The tests that need nothing but Rust and a C compiler.
test:
    cargo test --workspace

# Formatting, clippy, documentation: no warnings.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The tests that need outside programs: mosquitto, mosquitto-clients, Python with paho-mqtt.
referees:
    cargo test -p mqtally-cli --test referees

# The whole job, as a user runs it.
run:
    cargo run --release -- test

# Cost of the codec, of the checker, and of the broker beside mosquitto (when it is on PATH).
bench:
    cargo bench -p mqtally-proto --bench codec
    cargo bench -p mqtally-history --bench check
    cargo bench -p mqtally-harness --bench broker

# kill -9 of the broker under traffic, many rounds.
torture-broker rounds="100":
    MQTALLY_KILL_ROUNDS={{rounds}} cargo test --release -p mqtally-cli --test broker -- --nocapture kill

# Coverage-guided fuzzing of TARGET (decode, broker or session) by libFuzzer, with the ordinary toolchain.
fuzz target="decode" seconds="60":
    cd fuzz && RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1" \
        cargo run --release --target "$(rustc -vV | sed -n 's/^host: //p')" --bin {{target}} -- \
        -max_total_time={{seconds}} -max_len=4096

# Licences, advisories, sources (needs cargo-deny).
deny:
    cargo deny check
