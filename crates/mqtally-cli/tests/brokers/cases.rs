//! Which brokers, and how each is started.

use std::path::{Path, PathBuf};

/// A broker in one configuration.
pub(crate) struct Case {
    /// Its name, and behind a comma what is not as it comes.
    pub(crate) name: &'static str,
    /// Which version, and where from.
    pub(crate) version: &'static str,
    /// The configuration, in a sentence.
    pub(crate) about: &'static str,
    /// Start command; `{root}` is this repository.
    pub(crate) command: &'static str,
    /// More flags of `mqtally test`.
    pub(crate) flags: &'static [&'static str],
    pub(crate) needs_epmd: bool,
}

const FILES: &str = "crates/mqtally-cli/tests/brokers/files";

pub(crate) const CASES: [Case; 8] = [
    Case {
        name: "mosquitto",
        version: "2.0.11 (Debian 12)",
        about: "Without a configuration file: on loopback, anonymous clients, at most 20 messages in flight and 1,000 queued for a client, nothing stored.",
        command: "mosquitto -p {port}",
        flags: &[],
        needs_epmd: false,
    },
    Case {
        name: "mosquitto, durable",
        version: "2.0.11 (Debian 12)",
        about: "`persistence true`, saved with every change (`autosave_on_changes`), no limit on messages in flight or queued; fewer messages, since it writes everything with every change.",
        command: "mosquitto -p {port} -c {dir}/mosquitto.conf",
        flags: &["--messages", "100"],
        needs_epmd: false,
    },
    Case {
        name: "aedes",
        version: "1.2.0 (npm), Node 20 or later",
        about: "`Aedes.createBroker()` behind a TCP server; everything in memory. It speaks MQTT 3.1.1.",
        command: "node {root}/target/brokers/aedes/aedes.mjs {port}",
        flags: &[],
        needs_epmd: false,
    },
    Case {
        name: "aedes, on disk",
        version: "1.2.0 with aedes-persistence-level 9.2.0 (npm)",
        about: "The same with its LevelDB persistence.",
        command: "node {root}/target/brokers/aedes/aedes.mjs {port} {dir}/state",
        flags: &[],
        needs_epmd: false,
    },
    Case {
        name: "amqtt",
        version: "0.12.1 (PyPI)",
        about: "The plugins of its default configuration; clients are anonymous, and for those it keeps no messages, on purpose. It speaks MQTT 3.1.1.",
        command: "{dir}/amqtt.sh {root}/target/brokers/amqtt/bin/amqtt {port} {dir} anonymous",
        flags: &[],
        needs_epmd: false,
    },
    Case {
        name: "amqtt, with users",
        version: "0.12.1 (PyPI)",
        about: "The same, and clients log in with a user name, so that their sessions count.",
        command: "{dir}/amqtt.sh {root}/target/brokers/amqtt/bin/amqtt {port} {dir}",
        flags: &["--user", "ann"],
        needs_epmd: false,
    },
    Case {
        name: "RabbitMQ",
        version: "3.10.8 with rabbitmq_mqtt (Debian 12)",
        about: "As it comes, with the MQTT plugin, which speaks MQTT 3.1.1, documents that it has no QoS 2, and is not told so here.",
        command: "{dir}/rabbitmq.sh {port} {dir}",
        flags: &[],
        needs_epmd: true,
    },
    Case {
        name: "RabbitMQ, QoS 0 and 1",
        version: "3.10.8 with rabbitmq_mqtt (Debian 12)",
        about: "The same, and the run is told that there is no QoS 2 (`--max-qos 1`).",
        command: "{dir}/rabbitmq.sh {port} {dir}",
        flags: &["--max-qos", "1"],
        needs_epmd: true,
    },
];

impl Case {
    /// The flags that make `mqtally test` judge it, with `root` for this repository.
    pub(crate) fn arguments(&self, root: &str) -> Vec<String> {
        let mut arguments = vec!["--broker-cmd".to_owned(), self.command.replace("{root}", root)];
        if self.command.contains("{dir}/") {
            arguments.extend(["--broker-files".to_owned(), format!("{root}/{FILES}")]);
        }
        arguments.extend(self.flags.iter().map(|flag| (*flag).to_owned()));
        arguments
    }

    /// What a bash in this repository needs to do it again: the arguments as an array `broker`.
    pub(crate) fn preparation(&self, seed: &str) -> String {
        let quoted = |word: String| if word.contains([' ', '$', '{']) { format!("\"{word}\"") } else { word };
        let arguments: Vec<String> = self.arguments("$PWD").into_iter().map(quoted).collect();
        let mut lines = format!("broker=(--seed {seed} {})\n", arguments.join(" "));
        if self.flags.contains(&"--user") {
            lines += "export MQTALLY_PASSWORD=secret\n";
        }
        if self.needs_epmd {
            lines += "export ERL_EPMD_PORT=43690; epmd -address 127.0.0.1 -port $ERL_EPMD_PORT &\n";
        }
        lines
    }
}

pub(crate) fn named(name: &str) -> &'static Case {
    CASES.iter().find(|case| case.name == name).expect("it is one of them")
}

/// This repository.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the repository")
}
