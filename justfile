# Recipes for people; `.ci/run` runs the same commands. `just --list` shows them.

# The tests that need nothing but Rust and a C compiler.
test:
    cargo test --workspace

# Formatting, clippy, documentation: no warnings.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The tests that need outside programs: mosquitto, mosquitto-clients, Python with paho-mqtt, PostgreSQL.
referees:
    cargo test -p mqtally-cli --test referees
    cargo test -p mqtally --test postgres
    cargo test -p mqtally-cli --test postgres_sub

# Clients that break one promise each, and which promises they are found to break.
client-mutants:
    cargo test -p mqtally-harness --test subjects -- --nocapture

# Brokers that are not ours, judged in full; writes docs/brokers.md. Some twenty minutes.
brokers:
    .ci/install-referees
    .ci/install-brokers
    cargo test --release -p mqtally-cli --test brokers -- --ignored --nocapture

# The whole job, as a user runs it.
run:
    cargo run --release -- test

# Thousands of whole runs in virtual time, as CI does it.
sim runs="2000":
    cargo run --release -- sim --runs {{runs}}

# The same for an hour, from a random seed on; it ends with the first that is not kept.
sim-long:
    cargo build --release
    timeout 1h target/release/mqtally sim --runs 1000000000 || test $? -eq 124

# 10,000 lawful histories that nothing is found in, and 1,000 unlawful ones that are all found.
sim-histories:
    MQTALLY_SIM_SEEDS=10000 MQTALLY_SIM_MUTATED=1000 \
        cargo test --release -p mqtally-harness --test simulation

# Every mutant, and what is found of it: as the wire shows it, in simulated runs, between sockets, over kill -9, and of clients.
kill-matrix:
    cargo test -p mqtally-history --test checker kill_matrix -- --nocapture
    cargo test -p mqtally-harness --test simulation broken:: -- --nocapture
    cargo test -p mqtally-harness --test run_mutants -- --nocapture
    cargo test -p mqtally-harness --test run_restart mutant_ -- --nocapture
    cargo test -p mqtally-harness --test subjects -- --nocapture

# What a message costs: codec, checker, broker, client, outbox and inbox, each beside a rival or a limit.
bench:
    cargo bench -p mqtally-proto --bench codec
    cargo bench -p mqtally-history --bench check
    cargo bench -p mqtally-harness --bench broker
    cargo bench -p mqtally-harness --bench proxy
    cargo bench -p mqtally --bench publish
    cargo bench -p mqtally --bench publisher
    cargo bench -p mqtally --bench inbox
    cargo bench -p mqtally --bench subscriber
    cargo bench -p mqtally --bench postgres

# kill -9 of the broker under traffic, many rounds.
torture-broker rounds="100":
    MQTALLY_KILL_ROUNDS={{rounds}} cargo test --release -p mqtally-cli --test broker -- --nocapture kill

# kill -9 of the subscriber at random and at every crash point: what was acknowledged has one effect.
torture-sub rounds="500":
    MQTALLY_KILL_ROUNDS={{rounds}} cargo test --release -p mqtally-cli --test torture_sub -- --nocapture

# kill -9 of the publisher at random and at every crash point: what was accepted arrives.
torture-pub rounds="4":
    MQTALLY_KILL_ROUNDS={{rounds}} cargo test --release -p mqtally --test publisher_kill -- --nocapture
    MQTALLY_KILL_ROUNDS={{rounds}}0 cargo test --release -p mqtally-cli --test torture_pub -- --nocapture

# Coverage-guided fuzzing of TARGET (decode, broker or session) by libFuzzer, with the ordinary toolchain.
fuzz target="decode" seconds="60":
    cd fuzz && RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1" \
        cargo run --release --target "$(rustc -vV | sed -n 's/^host: //p')" --bin {{target}} -- \
        -max_total_time={{seconds}} -max_len=4096

# Licences, advisories, sources (needs cargo-deny).
deny:
    cargo deny check
