//! Where messages go: what a reliable subscriber does with each delivery.

use crate::inbox::{Delivery, Outcome};
use serde::de::DeserializeOwned;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Does something with each delivery.
pub struct Handler(Function);

type Function = Box<dyn Fn(Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

impl Handler {
    /// A function of yours: it gets each delivery and decides. It should end within the inbox's lease.
    pub fn from_fn<F, R>(function: F) -> Self
    where
        F: Fn(Delivery) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        Self(Box::new(move |delivery| Box::pin(function(delivery))))
    }

    /// A function of yours that gets the JSON payload as a value. What is not such a value becomes a dead letter.
    pub fn typed<T, F, R>(function: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(T, Delivery) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        let function = Arc::new(function);
        Self::from_fn(move |delivery: Delivery| {
            let function = Arc::clone(&function);
            async move {
                match serde_json::from_slice(&delivery.payload) {
                    Ok(value) => function(value, delivery).await,
                    Err(error) => Outcome::DeadLetter {
                        error: format!("the payload is not what the handler takes: {error}"),
                    },
                }
            }
        })
    }

    /// Does what is to be done with a delivery, and says what became of it.
    pub async fn handle(&self, delivery: &Delivery) -> Outcome {
        (self.0)(delivery.clone()).await
    }

    /// How many deliveries it works on at once; more than these wait for their turn. A function takes any number.
    pub fn concurrency_max(&self) -> usize {
        usize::MAX
    }

    /// How long one delivery takes at most.
    pub fn time_max(&self) -> Option<Duration> {
        None
    }

    /// Ends a long-running program.
    pub async fn close(&self) {}
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}
