//! What a member counts. Each has a row of its own, so that members do not wait for each other; the store's numbers are sums.

macro_rules! counts {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What was counted since the last commit; columns of the table `member`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub(super) struct Counts { $($(#[doc = $doc])* pub(super) $name: i64,)* }

        pub(super) const NAMES: &[&str] = &[$(stringify!($name),)*];

        impl Counts {
            pub(super) fn values(&self) -> [i64; NAMES.len()] {
                [$(self.$name,)*]
            }

            pub(super) fn from_values(values: [i64; NAMES.len()]) -> Self {
                let [$($name,)*] = values;
                Self { $($name,)* }
            }
        }
    };
}

counts! {
    received,
    redelivered,
    published_again,
    replayed_again,
    conflicts,
    retries,
    processed,
    failed,
    dead_lettered,
    replayed,
    /// Dead letters that were deleted for good.
    purged,
    session_losses,
    /// Dedup keys that were remembered.
    keys,
    /// Rows put into `inbox`, and taken out of it.
    stored,
    removed,
}

/// Adds `$2` and so on to the row of the member `$1`.
pub(super) fn add_sql() -> String {
    let columns = NAMES.iter().zip(2..).map(|(name, at)| format!("{name} = {name} + ${at}"));
    format!("UPDATE member SET {} WHERE id = $1", columns.collect::<Vec<_>>().join(", "))
}

/// The sums over all members.
pub(super) fn sum_sql() -> String {
    let columns = NAMES.iter().map(|name| format!("coalesce(sum({name}), 0)::bigint"));
    format!("SELECT {} FROM member", columns.collect::<Vec<_>>().join(", "))
}
