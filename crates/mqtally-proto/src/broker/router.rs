//! Subscriptions by topic filter: a trie of topic levels.
//!
//! Matching walks only the branches that a topic can take, so its cost grows with the topic's levels and the
//! subscriptions that match, not with the subscriptions there are.

use super::sessions::SessionKey;
use super::shared::{Group, shared};
use crate::packet::Qos;
use crate::topic::Shared;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// How a subscription wants its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) qos: Qos,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) identifier: Option<u32>,
}

/// One copy of a message that is to go to one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) session: SessionKey,
    /// The highest QoS granted by the subscriptions that match `[MQTT-3.3.4-2]`.
    pub(super) qos: Qos,
    pub(super) retain_as_published: bool,
    pub(super) identifiers: Vec<u32>,
}

impl Target {
    pub(super) fn new(session: SessionKey, grant: Grant) -> Self {
        Self {
            session,
            qos: grant.qos,
            retain_as_published: grant.retain_as_published,
            identifiers: grant.identifier.into_iter().collect(),
        }
    }

    fn merge(&mut self, grant: Grant) {
        self.qos = self.qos.max(grant.qos);
        self.retain_as_published |= grant.retain_as_published;
        self.identifiers.extend(grant.identifier);
    }
}

/// All subscriptions of all sessions.
#[derive(Debug)]
pub(super) struct Router {
    nodes: Vec<Node>,
    vacant: Vec<NodeKey>,
    /// Where the current walk keeps a session's target, indexed by session: `(walk, place)`.
    marks: Vec<(u64, usize)>,
    walk: u64,
    /// Branches still to be followed: a node and where the rest of the topic begins.
    branches: Vec<(NodeKey, usize)>,
    /// Shared groups that the current walk met.
    groups: Vec<(NodeKey, usize)>,
}

type NodeKey = u32;
const ROOT: NodeKey = 0;
/// The rest of a topic of which no level is left.
const END: usize = usize::MAX;

#[derive(Debug, Default)]
struct Node {
    parent: NodeKey,
    level: Box<str>,
    children: FxHashMap<Box<str>, NodeKey>,
    subscribers: BTreeMap<SessionKey, Grant>,
    groups: Vec<Group>,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            vacant: Vec::new(),
            marks: Vec::new(),
            walk: 0,
            branches: Vec::new(),
            groups: Vec::new(),
        }
    }
}

impl Router {
    /// Inserts or replaces the subscription of `session` to `filter`, which may be shared.
    pub(super) fn subscribe(&mut self, session: SessionKey, filter: &str, grant: Grant) {
        let group = shared(filter);
        let node = self.node_for(group.map_or(filter, |shared| shared.filter));
        let node = &mut self.nodes[node as usize];
        match group {
            None => {
                node.subscribers.insert(session, grant);
            }
            Some(shared) => Group::named(&mut node.groups, shared.name).insert(session, grant),
        }
    }

    /// Removes the subscription of `session` to `filter`, if there is one.
    pub(super) fn unsubscribe(&mut self, session: SessionKey, filter: &str) {
        let group = shared(filter);
        let Some(key) = self.find(group.map_or(filter, |shared| shared.filter)) else { return };
        let node = &mut self.nodes[key as usize];
        match group {
            None => {
                node.subscribers.remove(&session);
            }
            Some(shared) => Group::leave(&mut node.groups, shared.name, session),
        }
        self.prune(key);
    }

    /// Appends to `targets` one copy for each session that has ordinary subscriptions matching `topic`, except those of
    /// `publisher` with No Local, and finds the shared groups for [`Self::choose_members`].
    pub(super) fn match_topic(
        &mut self,
        topic: &str,
        publisher: Option<SessionKey>,
        targets: &mut Vec<Target>,
    ) {
        self.walk += 1;
        self.groups.clear();
        let no_wildcard_at_root = topic.starts_with('$');
        self.branches.push((ROOT, 0));
        while let Some((key, rest)) = self.branches.pop() {
            let wildcards = key != ROOT || !no_wildcard_at_root;
            let multi = self.child(key, "#").filter(|_| wildcards);
            if let Some(multi) = multi {
                self.collect(multi, publisher, targets);
            }
            if rest == END {
                self.collect(key, publisher, targets);
                continue;
            }
            let (level, rest) = first_level(topic, rest);
            let single = self.child(key, "+").filter(|_| wildcards);
            self.branches.extend(single.map(|child| (child, rest)));
            self.branches.extend(self.child(key, level).map(|child| (child, rest)));
        }
    }

    /// Appends to `targets` one member of each shared group of the last [`Self::match_topic`]: of those with the highest
    /// `rank`, the one whose turn it is.
    pub(super) fn choose_members(&mut self, rank: impl Fn(SessionKey, Qos) -> u8, targets: &mut Vec<Target>) {
        for &(node, group) in &self.groups {
            let chosen = self.nodes[node as usize].groups[group].choose(&rank);
            targets.extend(chosen.map(|(session, grant)| Target::new(session, grant)));
        }
    }

    /// One member of the shared group of `filter`, chosen as in [`Self::choose_members`].
    pub(super) fn choose_member(
        &mut self,
        filter: &str,
        rank: impl Fn(SessionKey, Qos) -> u8,
    ) -> Option<Target> {
        let Shared { name, filter } = shared(filter)?;
        let node = self.find(filter)?;
        let groups = &mut self.nodes[node as usize].groups;
        let group = groups.iter_mut().find(|group| group.is_named(name))?;
        group.choose(&rank).map(|(session, grant)| Target::new(session, grant))
    }

    fn collect(&mut self, key: NodeKey, publisher: Option<SessionKey>, targets: &mut Vec<Target>) {
        let node = &self.nodes[key as usize];
        for (&session, &grant) in &node.subscribers {
            if grant.no_local && publisher == Some(session) {
                continue;
            }
            let at = session.index();
            if self.marks.len() <= at {
                self.marks.resize(at + 1, (0, 0));
            }
            match self.marks[at] {
                (walk, place) if walk == self.walk => targets[place].merge(grant),
                _ => {
                    self.marks[at] = (self.walk, targets.len());
                    targets.push(Target::new(session, grant));
                }
            }
        }
        self.groups.extend((0..node.groups.len()).map(|group| (key, group)));
    }

    fn child(&self, key: NodeKey, level: &str) -> Option<NodeKey> {
        self.nodes[key as usize].children.get(level).copied()
    }

    fn find(&self, filter: &str) -> Option<NodeKey> {
        filter.split('/').try_fold(ROOT, |key, level| self.child(key, level))
    }

    fn node_for(&mut self, filter: &str) -> NodeKey {
        filter.split('/').fold(ROOT, |parent, level| match self.child(parent, level) {
            Some(child) => child,
            None => self.insert_child(parent, level),
        })
    }

    fn insert_child(&mut self, parent: NodeKey, level: &str) -> NodeKey {
        let node = Node { parent, level: level.into(), ..Node::default() };
        let key = match self.vacant.pop() {
            Some(key) => {
                self.nodes[key as usize] = node;
                key
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as NodeKey
            }
        };
        self.nodes[parent as usize].children.insert(level.into(), key);
        key
    }

    /// Removes `key` and those above it that have become empty.
    fn prune(&mut self, mut key: NodeKey) {
        while key != ROOT && self.nodes[key as usize].is_empty() {
            let node = std::mem::take(&mut self.nodes[key as usize]);
            self.nodes[node.parent as usize].children.remove(&node.level);
            self.vacant.push(key);
            key = node.parent;
        }
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.subscribers.is_empty() && self.groups.is_empty()
    }
}

/// The level of `topic` that begins at `from`, and where the next one begins.
fn first_level(topic: &str, from: usize) -> (&str, usize) {
    let rest = &topic[from..];
    match rest.find('/') {
        Some(slash) => (&rest[..slash], from + slash + 1),
        None => (rest, END),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(qos: Qos) -> Grant {
        Grant { qos, no_local: false, retain_as_published: false, identifier: None }
    }

    fn router(filters: &[&str]) -> Router {
        let mut router = Router::default();
        for (at, filter) in filters.iter().enumerate() {
            router.subscribe(SessionKey::from_index(at), filter, grant(Qos::AtLeastOnce));
        }
        router
    }

    fn matching(router: &mut Router, topic: &str) -> Vec<usize> {
        let mut targets = Vec::new();
        router.match_topic(topic, None, &mut targets);
        let mut sessions: Vec<usize> = targets.iter().map(|target| target.session.index()).collect();
        sessions.sort_unstable();
        sessions
    }

    #[test]
    fn filters_match_as_section_4_7_says() {
        let mut router =
            router(&["a/b", "a/+", "a/#", "#", "+/b", "a", "+", "/a", "$SYS/#", "$SYS/+", "a//b"]);
        let table: [(&str, &[usize]); 7] = [
            ("a/b", &[0, 1, 2, 3, 4]),
            ("a", &[2, 3, 5, 6]),
            ("a/bc", &[1, 2, 3]),
            ("/a", &[3, 7]),
            ("$SYS/x", &[8, 9]),
            ("a//b", &[2, 3, 10]),
            ("b", &[3, 6]),
        ];
        for (topic, expected) in table {
            assert_eq!(matching(&mut router, topic), expected, "{topic}");
        }
    }

    #[test]
    fn an_unsubscribed_filter_leaves_no_node_behind() {
        let mut router = router(&["a/b/c", "a/b", "$share/g/a/b/#"]);
        router.unsubscribe(SessionKey::from_index(0), "a/b/c");
        assert_eq!(matching(&mut router, "a/b/c"), []);
        assert_eq!(matching(&mut router, "a/b"), [1]);
        router.unsubscribe(SessionKey::from_index(1), "a/b");
        router.unsubscribe(SessionKey::from_index(2), "$share/g/a/b/#");
        assert!(router.nodes[0].is_empty());
        assert_eq!(router.vacant.len(), router.nodes.len() - 1);
    }

    #[test]
    fn a_filter_of_many_levels_is_walked_without_recursion() {
        let filter = vec!["+"; 30_000].join("/");
        let mut router = router(&[&filter]);
        assert_eq!(matching(&mut router, &vec!["x"; 30_000].join("/")), [0]);
    }
}
