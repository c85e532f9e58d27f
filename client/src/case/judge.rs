//! What every member judges alike, from what every member knows: who may commit, and what a commit may do. SPEC.md 10.2.

use martlet_proto::case::{CaseContext, Role, SignedCommit};

use crate::{
    identity::{behind_leaf, signed_by},
    mls::{Member, PackageInfo, Staged},
};

/// A leaf as far as it says whose device it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeafKeys {
    /// The leaf signature key.
    pub(super) key: [u8; 32],
    /// The identity that vouches for it, if one does.
    pub(super) identity: Option<[u8; 32]>,
}

impl From<&Member> for LeafKeys {
    fn from(member: &Member) -> Self {
        Self {
            key: member.signature_key,
            identity: behind_leaf(&member.credential, &member.signature_key),
        }
    }
}

impl From<&PackageInfo> for LeafKeys {
    fn from(package: &PackageInfo) -> Self {
        Self {
            key: package.signature_key,
            identity: behind_leaf(&package.credential, &package.signature_key),
        }
    }
}

/// Whether this key is that of one of counsel's devices.
pub(super) fn is_counsel(context: &CaseContext, leaves: &[LeafKeys], key: &[u8; 32]) -> bool {
    let leaf = leaves.iter().find(|leaf| leaf.key == *key);
    let identity = leaf.and_then(|leaf| leaf.identity);
    identity.and_then(|identity| context.role(&identity)) == Some(Role::Counsel)
}

/// Whether everyone with a leaf is in the context, and everyone in the context has a leaf.
pub(super) fn fits(context: &CaseContext, leaves: &[LeafKeys]) -> bool {
    let known = |leaf: &LeafKeys| {
        leaf.identity
            .is_some_and(|identity| context.person(&identity).is_some())
    };
    let present = |identity: &[u8; 32]| leaves.iter().any(|leaf| leaf.identity == Some(*identity));
    leaves.iter().all(known) && context.people.iter().all(|person| present(&person.identity))
}

/// Whether one of counsel's devices signed this commit for this epoch.
pub(super) fn is_signed(
    context: &CaseContext,
    members: &[Member],
    group: &[u8; 16],
    epoch: u64,
    commit: &SignedCommit,
) -> bool {
    let leaves: Vec<LeafKeys> = members.iter().map(LeafKeys::from).collect();
    is_counsel(context, &leaves, &commit.leaf)
        && signed_by(
            &commit.leaf,
            &SignedCommit::signed(group, epoch, &commit.next, &commit.message),
            &commit.signature,
        )
}

/// The leaves of the epoch that a commit leads to.
fn leaves_after(members: &[Member], staged: &Staged) -> Vec<LeafKeys> {
    let stay = members
        .iter()
        .filter(|member| !staged.removed().contains(&member.index));
    stay.map(LeafKeys::from)
        .chain(staged.added().iter().map(LeafKeys::from))
        .collect()
}

/// Whether a commit that counsel signed is valid: made by the committer, before there is one by any device of
/// counsel, or by a device of counsel that names itself; naming one of counsel's devices; and with a context that names
/// exactly those who are in the group.
pub(super) fn is_valid(
    old: &CaseContext,
    members: &[Member],
    signer: &[u8; 32],
    staged: &Staged,
    new: &CaseContext,
) -> bool {
    let sender = members.iter().find(|member| member.index == staged.sender());
    let Some(committer) = new.committer else {
        return false;
    };
    let entitled = old.committer.is_none() || old.committer == Some(*signer) || committer == *signer;
    let after = leaves_after(members, staged);
    sender.is_some_and(|sender| sender.signature_key == *signer)
        && entitled
        && is_counsel(new, &after, &committer)
        && fits(new, &after)
}

#[cfg(test)]
mod tests {
    use martlet_proto::{
        Day, Secret, TokenHash,
        case::{Home, Person},
        link::RelayAddress,
    };

    use super::*;
    use crate::{
        entropy::Entropy,
        identity::sign_with_leaf,
        me::Me,
        mls::{Change, Group, Processed, keypackage},
    };

    const GROUP: [u8; 16] = [9; 16];

    fn context(people: &[(&Me, Role)], committer: Option<&Me>) -> CaseContext {
        let mut people: Vec<Person> = people
            .iter()
            .map(|(me, role)| Person {
                identity: me.identity().public(),
                role: *role,
                name: me.name().into(),
            })
            .collect();
        people.sort_by_key(|person| person.identity);
        CaseContext {
            version: 2,
            people,
            committer: committer.map(|me| *me.leaf_public()),
            homes: vec![Home {
                relay: RelayAddress {
                    addresses: vec!["192.0.2.1:4433".parse().unwrap()],
                    pin: martlet_proto::link::Pin::new([1; 32]),
                    door: martlet_proto::link::Door::new([4; 8]),
                },
                admission: None,
            }],
            keep: TokenHash::new([2; 32]),
            client_days: None,
            counsel_days: None,
        }
    }

    fn change(context: &CaseContext, add: Vec<Vec<u8>>, remove: Vec<u32>) -> Change {
        Change {
            add,
            remove,
            context: Some(postcard::to_allocvec(context).unwrap()),
            aad: Vec::new(),
        }
    }

    /// A client, counsel who leads, co-counsel, an interpreter; and somebody who is not in the case.
    struct Cast {
        me: [Me; 5],
        groups: Vec<Group>,
        context: CaseContext,
        entropy: Entropy,
    }

    impl Cast {
        fn package(&mut self, of: usize) -> (Vec<u8>, Vec<u8>) {
            let me = &self.me[of];
            let made = keypackage(
                self.entropy.secret(),
                me.leaf(),
                Some(me.keep_public()),
                1_790_000_000,
                1_800_000_000,
            )
            .unwrap();
            (made.public.clone(), made.private.to_vec())
        }

        fn new() -> Self {
            let mut entropy = Entropy::from_seed(&Secret::new([7; 32]));
            let me = ["Amal", "Ines", "Carol", "Bashir", "Dan"]
                .map(|name| Me::new(name.into(), None, Day(20_000), &mut entropy).unwrap());
            let roles = [Role::Client, Role::Counsel, Role::Counsel, Role::Interpreter];
            let people: Vec<_> = me.iter().zip(roles).collect();
            let context = context(&people, Some(&me[1]));
            let bytes = postcard::to_allocvec(&context).unwrap();
            let first = Group::create(entropy.secret(), me[0].leaf(), &GROUP, &bytes, None).unwrap();
            let mut cast = Self {
                me,
                groups: vec![first],
                context,
                entropy,
            };
            let packages: Vec<_> = (1..4).map(|of| cast.package(of)).collect();
            let add = packages.iter().map(|(public, _)| public.clone()).collect();
            let welcome = cast.groups[0]
                .commit(Change {
                    add,
                    ..Change::default()
                })
                .unwrap()
                .welcome
                .unwrap();
            cast.groups[0].merge_pending().unwrap();
            for (of, (_, private)) in (1..4).zip(packages) {
                let seed = cast.entropy.secret();
                cast.groups
                    .push(Group::join(seed, cast.me[of].leaf(), &private, &welcome).unwrap());
            }
            cast
        }

        /// Whether the client finds a commit of somebody's valid that leads to this context.
        fn is_valid(&mut self, by: usize, change: Change) -> bool {
            let commit = self.groups[by].commit(change).unwrap();
            let members = self.groups[0].members();
            let Processed::Commit(staged) = self.groups[0].process(&commit.message).unwrap() else {
                panic!("a commit");
            };
            let new: CaseContext = postcard::from_bytes(staged.context()).unwrap();
            is_valid(&self.context, &members, self.me[by].leaf_public(), &staged, &new)
        }

        /// Whether a commit that somebody signs as somebody counts as counsel's.
        fn is_signed(&self, by: usize, as_whom: usize, epoch: u64) -> bool {
            let next = martlet_proto::Incarnation::new([7; 16]);
            let signed = SignedCommit::signed(&GROUP, epoch, &next, b"commit");
            let commit = SignedCommit {
                leaf: *self.me[as_whom].leaf_public(),
                next,
                message: b"commit".to_vec(),
                signature: sign_with_leaf(&self.me[by].leaf().signer, &signed),
            };
            is_signed(&self.context, &self.groups[0].members(), &GROUP, 1, &commit)
        }

        fn led_by(&self, whom: usize) -> CaseContext {
            let mut context = self.context.clone();
            context.committer = Some(*self.me[whom].leaf_public());
            context
        }
    }

    #[test]
    fn only_counsels_signature_makes_a_commit_worth_trying() {
        let cast = Cast::new();
        assert!(cast.is_signed(1, 1, 1) && cast.is_signed(2, 2, 1));
        assert!(!cast.is_signed(3, 3, 1), "an interpreter's");
        assert!(!cast.is_signed(0, 0, 1), "the client's");
        assert!(!cast.is_signed(4, 4, 1), "a stranger's");
        assert!(!cast.is_signed(3, 1, 1), "an interpreter's in counsel's name");
        assert!(!cast.is_signed(1, 1, 2), "one of another epoch");
    }

    #[test]
    fn the_committer_commits_and_another_device_of_counsel_only_by_naming_itself() {
        let mut cast = Cast::new();
        let (ines, carol) = (cast.led_by(1), cast.led_by(2));
        assert!(cast.is_valid(1, change(&ines, vec![], vec![])));
        let mut cast = Cast::new();
        assert!(cast.is_valid(1, change(&carol, vec![], vec![])), "it hands over");
        let mut cast = Cast::new();
        assert!(cast.is_valid(2, change(&carol, vec![], vec![])), "it takes over");
        let mut cast = Cast::new();
        assert!(
            !cast.is_valid(2, change(&ines, vec![], vec![])),
            "it commits in another's place"
        );
        let mut cast = Cast::new();
        let bashir = cast.led_by(3);
        assert!(
            !cast.is_valid(1, change(&bashir, vec![], vec![])),
            "an interpreter's device cannot lead"
        );
        let mut cast = Cast::new();
        assert!(
            !cast.is_valid(3, change(&bashir, vec![], vec![])),
            "nor can it make itself"
        );
    }

    #[test]
    fn who_is_in_the_group_is_in_the_context_and_the_other_way_round() {
        let with_dan = |cast: &Cast| {
            let mut context = cast.led_by(1);
            context.people.push(Person {
                identity: cast.me[4].identity().public(),
                role: Role::Observer,
                name: "Dan".into(),
            });
            context.people.sort_by_key(|person| person.identity);
            context
        };
        let mut cast = Cast::new();
        let (context, (dan, _)) = (with_dan(&cast), cast.package(4));
        assert!(cast.is_valid(1, change(&context, vec![dan], vec![])));
        let mut cast = Cast::new();
        let context = with_dan(&cast);
        assert!(
            !cast.is_valid(1, change(&context, vec![], vec![])),
            "named but not added"
        );
        let mut cast = Cast::new();
        let (context, (dan, _)) = (cast.led_by(1), cast.package(4));
        assert!(
            !cast.is_valid(1, change(&context, vec![dan], vec![])),
            "added but not named"
        );
        let mut cast = Cast::new();
        let context = cast.led_by(1);
        let bashir = cast.groups[3].own_index();
        assert!(
            !cast.is_valid(1, change(&context, vec![], vec![bashir])),
            "removed but still named"
        );
    }

    /// What Amal makes of a Welcome into a group that somebody founded, in which Ines is said to commit.
    fn welcomed_into(cast: &mut Cast, founder: usize) -> bool {
        let people = [
            (&cast.me[0], Role::Client),
            (&cast.me[1], Role::Counsel),
            (&cast.me[4], Role::Interpreter),
        ];
        let context = context(&people, Some(&cast.me[1]));
        let bytes = postcard::to_allocvec(&context).unwrap();
        let seed = cast.entropy.secret();
        let mut group = Group::create(seed, cast.me[founder].leaf(), &GROUP, &bytes, None).unwrap();
        let (amal, private) = cast.package(0);
        let others = [1, 4].into_iter().filter(|of| *of != founder);
        let mut add: Vec<Vec<u8>> = others.map(|of| cast.package(of).0).collect();
        add.push(amal);
        let commit = group.commit(Change {
            add,
            ..Change::default()
        });
        let packet = martlet_proto::case::Packet {
            welcome: commit.unwrap().welcome.unwrap(),
            admission: None,
            rescue: None,
            secrets: None,
            incarnation: None,
        };
        super::super::begin::welcomed(&cast.me[0], &packet, &private, &mut cast.entropy).is_ok()
    }

    #[test]
    fn nobody_welcomes_in_counsels_name() {
        let mut cast = Cast::new();
        assert!(welcomed_into(&mut cast, 1));
        assert!(
            !welcomed_into(&mut cast, 4),
            "Dan, with a true key package of Ines's"
        );
    }

    #[test]
    fn a_leaf_that_its_identity_does_not_vouch_for_is_nobodys() {
        let mut cast = Cast::new();
        // Dan's device with a credential that Bashir's identity signed for another key.
        let mut leaf = cast.me[4].leaf().clone();
        leaf.credential = cast.me[3].leaf().credential.clone();
        let package = keypackage(cast.entropy.secret(), &leaf, None, 1_790_000_000, 1_800_000_000).unwrap();
        let context = cast.led_by(1);
        assert!(!cast.is_valid(1, change(&context, vec![package.public.clone()], vec![])));
    }
}
