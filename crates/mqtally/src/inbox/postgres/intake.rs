//! Arrivals: which are new, and where they go; packet ids of QoS 2.

use super::desk::{Desk, Error, expect_rows};
use crate::inbox::arrival::{Accepted, Arrival, Cause, ConflictPolicy, Exchange, Verdict};
use crate::inbox::dead_letter::{ErrorNote, Reason};
use crate::inbox::key::{KeyId, body_hash};
use crate::inbox::record::encode_properties;
use bytes::BytesMut;
use mqtally_proto::packet::Qos;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::error::Error as StdError;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// Remembers keys that are in no bucket, and answers with them. In order of the keys, so that two members that wait for each
/// other's rows cannot both wait. One that another member is just remembering is waited for, and is then not answered.
const REMEMBER: &str = "
    INSERT INTO ids(bucket, id, body)
    SELECT (SELECT bucket FROM clock), a.id, a.body FROM unnest($1::uuid[], $2::bigint[]) AS a(id, body)
    WHERE NOT EXISTS (SELECT FROM ids k WHERE k.id = a.id)
    ORDER BY a.id ON CONFLICT DO NOTHING RETURNING id";
const REMEMBER_OTHER: &str = "
    INSERT INTO ids_other(bucket, id, body)
    SELECT (SELECT bucket FROM clock), a.id, a.body FROM unnest($1::uuid[], $2::bigint[]) AS a(id, body)
    WHERE NOT EXISTS (SELECT FROM ids_other k WHERE k.id = a.id AND k.body = a.body)
    ORDER BY a.id, a.body ON CONFLICT DO NOTHING RETURNING id, body";
const BODIES: &str = "
    SELECT id, body FROM ids WHERE id = ANY($1) UNION ALL SELECT id, body FROM ids_other WHERE id = ANY($1)";
const STORE: &str = "
    INSERT INTO inbox(channel, seq, lane, received_ms, qos, retain, replay, key, topic, props, payload)
    SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::boolean[],
                         $7::bigint[], $8::text[], $9::text[], $10::bytea[], $11::bytea[])";
const STORE_DEAD: &str = "
    INSERT INTO dead(seq, lane, received_ms, qos, retain, replay, key, topic, props, payload,
                     died_ms, attempts, reason, errors)
    SELECT *, $11, 0, $12, $13
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::boolean[],
                $6::bigint[], $7::text[], $8::text[], $9::bytea[], $10::bytea[])";

const CONFLICT_ERROR: &str = "its key is known with another body";

/// By key: the bodies that it came with.
type Bodies = FxHashMap<KeyId, Vec<u64>>;

impl Desk {
    /// Stores `arrivals` in order and says what each was.
    pub(super) async fn accept(&mut self, arrivals: &[Arrival]) -> Result<Vec<Accepted>, Error> {
        self.counts.received += i64::try_from(arrivals.len()).unwrap_or(i64::MAX);
        let open = self.open_exchanges_of(arrivals).await?;
        let verdicts = self.judge(arrivals, &open).await?;
        self.count_verdicts(arrivals, &verdicts);
        let stored = |wanted: fn(&Verdict) -> bool| {
            let kept = arrivals.iter().zip(&verdicts).enumerate().filter(move |(_, (_, v))| wanted(v));
            kept.map(|(at, (arrival, _))| (at, arrival)).collect::<Vec<_>>()
        };
        let live =
            stored(|verdict| matches!(verdict, Verdict::New | Verdict::Conflict(ConflictPolicy::Process)));
        let dead = stored(|verdict| matches!(verdict, Verdict::Conflict(ConflictPolicy::DeadLetter)));
        let mut accepted: Vec<_> =
            verdicts.iter().map(|verdict| Accepted { sequence: None, verdict: *verdict }).collect();
        let numbers = self.take_numbers(live.len() + dead.len())?;
        let (for_live, for_dead) = numbers.split_at(live.len());
        for ((at, _), number) in live.iter().zip(for_live) {
            accepted[*at].sequence = Some(number.cast_unsigned());
        }
        self.store(&live, for_live).await?;
        self.store_dead(&dead, for_dead).await?;
        Ok(accepted)
    }

    /// Remembers the packet ids of QoS 2 arrivals; says which were remembered before.
    async fn open_exchanges_of(&mut self, arrivals: &[Arrival]) -> Result<Vec<bool>, Error> {
        let mut fresh = Vec::new();
        let mut open = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            // What was read before the session was lost is still a message; its packet id means nothing any more.
            let known = match arrival.exchange {
                Some(Exchange { session, packet_id })
                    if arrival.qos == Qos::ExactlyOnce && session == self.session.cast_unsigned() =>
                {
                    let known = !self.exchanges.insert(packet_id);
                    fresh.extend((!known).then_some(i32::from(packet_id)));
                    known
                }
                _ => false,
            };
            open.push(known);
        }
        if !fresh.is_empty() {
            let sql = "INSERT INTO qos2_in(member, packet_id) SELECT $1, unnest($2::int[])";
            self.execute(sql, &[&self.member, &fresh]).await?;
        }
        Ok(open)
    }

    async fn judge(&mut self, arrivals: &[Arrival], open: &[bool]) -> Result<Vec<Verdict>, Error> {
        let also: Vec<_> = keyed(arrivals, open).flat_map(|(_, key)| key.also.iter().copied()).collect();
        let mut known = self.bodies_of(&also).await?;
        let candidates = candidates(arrivals, open, &known);
        let mut fresh = self.remember(&candidates).await?;
        let rest: Vec<_> = candidates.keys().copied().filter(|id| !fresh.contains(id)).collect();
        known.extend(self.bodies_of(&rest).await?);

        let (mut verdicts, mut others) = (vec![Verdict::New; arrivals.len()], BTreeMap::new());
        for (at, arrival) in arrivals.iter().enumerate() {
            let Some(key) = arrival.key.as_ref().filter(|_| !open[at]) else {
                verdicts[at] = if open[at] { Verdict::ExchangeOpen } else { Verdict::New };
                continue;
            };
            let body = body_hash(&arrival.payload);
            let first = fresh.remove(&key.id);
            let came_with = |id| known.get(id).is_some_and(|bodies: &Vec<u64>| bodies.contains(&body));
            if came_with(&key.id) || key.also.iter().any(came_with) {
                verdicts[at] = Verdict::Duplicate(Cause::of(arrival));
                continue;
            }
            known.entry(key.id).or_default().push(body);
            if !first {
                verdicts[at] = Verdict::Conflict(self.settings.conflict);
                others.insert((key.id, body), at);
            }
        }
        for at in self.known_meanwhile(others).await? {
            verdicts[at] = Verdict::Duplicate(Cause::of(&arrivals[at]));
        }
        Ok(verdicts)
    }

    /// Remembers other bodies of known keys. Answers with the places of those that another member was quicker with.
    async fn known_meanwhile(
        &mut self,
        mut others: BTreeMap<(KeyId, u64), usize>,
    ) -> Result<Vec<usize>, Error> {
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = others.keys().map(|(id, _)| Id(*id)).collect();
        let bodies: Vec<_> = others.keys().map(|(_, body)| body.cast_signed()).collect();
        for row in self.query(REMEMBER_OTHER, &[&ids, &bodies]).await? {
            others.remove(&(row.get::<_, Id>(0).0, row.get::<_, i64>(1).cast_unsigned()));
        }
        Ok(others.into_values().collect())
    }

    async fn remember(&mut self, candidates: &BTreeMap<KeyId, u64>) -> Result<FxHashSet<KeyId>, Error> {
        if candidates.is_empty() {
            return Ok(FxHashSet::default());
        }
        let ids: Vec<_> = candidates.keys().copied().map(Id).collect();
        let bodies: Vec<_> = candidates.values().map(|body| body.cast_signed()).collect();
        let rows = self.query(REMEMBER, &[&ids, &bodies]).await?;
        self.counts.keys += i64::try_from(rows.len()).unwrap_or(i64::MAX);
        Ok(rows.iter().map(|row| row.get::<_, Id>(0).0).collect())
    }

    async fn bodies_of(&mut self, ids: &[KeyId]) -> Result<Bodies, Error> {
        let mut bodies = Bodies::default();
        if !ids.is_empty() {
            let ids: Vec<_> = ids.iter().copied().map(Id).collect();
            for row in self.query(BODIES, &[&ids]).await? {
                bodies.entry(row.get::<_, Id>(0).0).or_default().push(row.get::<_, i64>(1).cast_unsigned());
            }
        }
        Ok(bodies)
    }

    fn count_verdicts(&mut self, arrivals: &[Arrival], verdicts: &[Verdict]) {
        for (arrival, verdict) in arrivals.iter().zip(verdicts) {
            let cause = match verdict {
                Verdict::New => continue,
                Verdict::Conflict(_) => {
                    self.counts.conflicts += 1;
                    continue;
                }
                Verdict::ExchangeOpen => Cause::Redelivery,
                Verdict::Duplicate(cause) => *cause,
            };
            self.copies.count(&arrival.topic, cause);
            match cause {
                Cause::Redelivery => self.counts.redelivered += 1,
                Cause::PublishedAgain => self.counts.published_again += 1,
                Cause::Replay => self.counts.replayed_again += 1,
            }
        }
    }

    /// They came with the transaction's beginning, one for each arrival.
    fn take_numbers(&mut self, count: usize) -> Result<Vec<i64>, Error> {
        let taken: Vec<_> = self.numbers.drain(..count.min(self.numbers.len())).collect();
        expect_rows(taken.len() as u64, count, "a number").map(|()| taken)
    }

    async fn store(&mut self, arrivals: &[(usize, &Arrival)], numbers: &[i64]) -> Result<(), Error> {
        if arrivals.is_empty() {
            return Ok(());
        }
        let mut channels = Vec::with_capacity(arrivals.len());
        for (_, arrival) in arrivals {
            let channel = (self.settings.channel_of)(&arrival.topic);
            self.channels.insert(channel);
            channels.push(i16::from(channel));
        }
        self.counts.stored += i64::try_from(arrivals.len()).unwrap_or(i64::MAX);
        let c = Columns::of(arrivals, numbers);
        self.execute(
            STORE,
            &[
                &channels,
                &numbers,
                &c.lanes,
                &c.received,
                &c.qos,
                &c.retain,
                &c.replay,
                &c.keys,
                &c.topics,
                &c.properties,
                &c.payloads,
            ],
        )
        .await
        .map(drop)
    }

    async fn store_dead(&mut self, arrivals: &[(usize, &Arrival)], numbers: &[i64]) -> Result<(), Error> {
        if arrivals.is_empty() {
            return Ok(());
        }
        self.counts.dead_lettered += i64::try_from(arrivals.len()).unwrap_or(i64::MAX);
        let wall = self.settings.time.wall();
        let errors = ErrorNote::chain(None, wall, CONFLICT_ERROR);
        let (died_ms, reason) = (wall.as_ms().cast_signed(), Reason::Conflict.name());
        let c = Columns::of(arrivals, numbers);
        self.execute(
            STORE_DEAD,
            &[
                &numbers,
                &c.lanes,
                &c.received,
                &c.qos,
                &c.retain,
                &c.replay,
                &c.keys,
                &c.topics,
                &c.properties,
                &c.payloads,
                &died_ms,
                &reason,
                &errors,
            ],
        )
        .await
        .map(drop)
    }

    /// PUBREL came: forgets the packet ids. Answers which were known.
    pub(super) async fn release(&mut self, packet_ids: &[u16]) -> Result<Vec<bool>, Error> {
        let known: Vec<_> = packet_ids.iter().map(|packet_id| self.exchanges.remove(packet_id)).collect();
        let gone: Vec<_> = packet_ids.iter().zip(&known).filter(|(_, known)| **known).collect();
        if !gone.is_empty() {
            let gone: Vec<_> = gone.into_iter().map(|(packet_id, _)| i32::from(*packet_id)).collect();
            let sql = "DELETE FROM qos2_in WHERE member = $1 AND packet_id = ANY($2)";
            self.execute(sql, &[&self.member, &gone]).await?;
        }
        Ok(known)
    }

    /// The broker lost this member's session: drops its packet ids, which it will use anew. Answers how many.
    pub(super) async fn session_lost(&mut self) -> Result<u64, Error> {
        let sql = "UPDATE member SET session = session + 1 WHERE id = $1 RETURNING session";
        self.session = self.one(sql, &[&self.member]).await?.get(0);
        self.exchanges.clear();
        self.counts.session_losses += 1;
        self.execute("DELETE FROM qos2_in WHERE member = $1", &[&self.member]).await
    }

    /// The session's number and its packet ids.
    pub(super) fn open_exchanges(&self) -> (u32, Vec<u16>) {
        let mut packet_ids: Vec<_> = self.exchanges.iter().copied().collect();
        packet_ids.sort_unstable();
        (self.session.cast_unsigned(), packet_ids)
    }
}

fn keyed<'a>(
    arrivals: &'a [Arrival],
    open: &'a [bool],
) -> impl Iterator<Item = (&'a Arrival, &'a crate::inbox::key::Key)> {
    let closed = arrivals.iter().zip(open).filter(|(_, open)| !**open);
    closed.filter_map(|(arrival, _)| Some((arrival, arrival.key.as_ref()?)))
}

/// Keys to remember, each with the body that it first comes with; in their order.
fn candidates(arrivals: &[Arrival], open: &[bool], known: &Bodies) -> BTreeMap<KeyId, u64> {
    let mut candidates = BTreeMap::new();
    for (arrival, key) in keyed(arrivals, open) {
        let counts_as_known = |id: &KeyId| known.contains_key(id) || candidates.contains_key(id);
        if !key.also.iter().any(counts_as_known) {
            candidates.entry(key.id).or_insert_with(|| body_hash(&arrival.payload));
        }
    }
    candidates
}

/// Messages by column, as `unnest` takes them.
struct Columns<'a> {
    lanes: Vec<i64>,
    received: Vec<i64>,
    qos: Vec<i16>,
    retain: Vec<bool>,
    replay: Vec<i64>,
    keys: Vec<Option<String>>,
    topics: Vec<&'a str>,
    properties: Vec<Vec<u8>>,
    payloads: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(arrivals: &[(usize, &'a Arrival)], numbers: &[i64]) -> Self {
        fn each<'a, T>(arrivals: &[(usize, &'a Arrival)], column: impl Fn(&'a Arrival) -> T) -> Vec<T> {
            arrivals.iter().map(|(_, arrival)| column(arrival)).collect()
        }
        // A message without a lane is alone in one of its own.
        let lane = |((_, arrival), number): (&(usize, &Arrival), &i64)| {
            arrival.lane.map_or(*number, |lane| lane.0.cast_signed())
        };
        Self {
            lanes: arrivals.iter().zip(numbers).map(lane).collect(),
            received: each(arrivals, |arrival| {
                arrival.received_at.as_ms().min(i64::MAX as u64).cast_signed()
            }),
            qos: each(arrivals, |arrival| i16::from(arrival.qos as u8)),
            retain: each(arrivals, |arrival| arrival.retain),
            replay: each(arrivals, |arrival| i64::from(arrival.replay)),
            keys: each(arrivals, |arrival| arrival.key.as_ref().map(|key| storable(&key.text))),
            topics: each(arrivals, |arrival| &*arrival.topic),
            properties: each(arrivals, |arrival| encode_properties(&arrival.properties)),
            payloads: each(arrivals, |arrival| &arrival.payload[..]),
        }
    }
}

/// PostgreSQL's texts cannot hold U+0000. Two keys that differ only in it are still two: their identities differ.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{2400}")
}

/// A key as the type `uuid`: 16 bytes without a length.
#[derive(Debug)]
pub(super) struct Id(pub(super) KeyId);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    accepts!(UUID);
}
