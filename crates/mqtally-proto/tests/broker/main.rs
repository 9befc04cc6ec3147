//! What the broker promises, law by law, through its public interface and in virtual time.

mod bench;
mod connecting;
mod disorder;
mod expiry;
mod limits;
mod qos;
mod retained;
mod sessions;
mod shared;
mod simulation;
mod subscribing;
mod wills;
