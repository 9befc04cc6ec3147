//! What the broker promises, law by law, through its public interface and in virtual time.

mod bench;
mod connecting;
mod qos;
mod sessions;
