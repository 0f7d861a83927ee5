//! The invitations that are open. Pure: time is given.
//!
//! A secret of 128 bits cannot be guessed; that attempts are limited all the same keeps a stranger
//! from making this node compute.

use super::error::{LinkError, Side};
use super::key::Fingerprint;
use super::token::Token;
use base::Rng;
use std::collections::VecDeque;
use std::time::Duration;

/// How long an invitation is good.
pub const INVITE_LASTS: Duration = Duration::from_secs(600);
/// Invitations that may be open at once.
const OPEN_MAX: usize = 16;
/// Wrong proofs that are looked at, in any span of this length.
const WRONG_MAX: usize = 5;
const WRONG_SPAN: Duration = Duration::from_secs(10);

/// What ties a proof to one connection and its two keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    /// Drawn from the secrets of the connection: both ends know it, nobody else.
    pub(crate) exported: [u8; 32],
    pub(crate) issuer: Fingerprint,
    pub(crate) joiner: Fingerprint,
}

impl Token {
    /// That whoever made this has the token, on that connection.
    pub(crate) fn proof(&self, binding: &Binding) -> blake3::Hash {
        proof(&self.secret, binding)
    }
}

fn proof(secret: &[u8; 16], binding: &Binding) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&blake3::derive_key("esker join v1", secret));
    hasher.update(&binding.exported).update(&binding.issuer.0).update(&binding.joiner.0);
    hasher.finalize()
}

/// Invitations of one node.
#[derive(Debug, Default)]
pub struct Invites {
    open: Vec<Invite>,
    /// When wrong proofs came.
    wrong: VecDeque<Duration>,
}

struct Invite {
    secret: [u8; 16],
    until: Duration,
}

impl std::fmt::Debug for Invite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Invite {{ until: {:?} }}", self.until)
    }
}

/// An invitation that is open, as it is kept over a restart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OpenInvite {
    /// The secret of its token.
    pub secret: [u8; 16],
    /// How long it is good for.
    pub remaining: Duration,
}

impl std::fmt::Debug for OpenInvite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenInvite {{ remaining: {:?} }}", self.remaining)
    }
}

impl Invites {
    /// Those that were open when the node ended, and still are.
    pub fn reopen(now: Duration, kept: &[OpenInvite]) -> Invites {
        let newest = kept.len().saturating_sub(OPEN_MAX);
        let open = kept.iter().skip(newest).filter(|invite| !invite.remaining.is_zero());
        let invite = |invite: &OpenInvite| Invite {
            secret: invite.secret,
            until: now.saturating_add(invite.remaining.min(INVITE_LASTS)),
        };
        Invites { open: open.map(invite).collect(), wrong: VecDeque::new() }
    }

    /// Those that are open.
    pub fn open(&self, now: Duration) -> Vec<OpenInvite> {
        let invite = |invite: &Invite| OpenInvite {
            secret: invite.secret,
            remaining: invite.until.saturating_sub(now),
        };
        let all = self.open.iter().map(invite);
        all.filter(|invite| !invite.remaining.is_zero()).collect()
    }

    /// Opens one, good for ten minutes. Of too many, the oldest is closed.
    pub fn issue(
        &mut self,
        now: Duration,
        issuer: Fingerprint,
        rng: &dyn Rng,
    ) -> Result<Token, LinkError> {
        let mut secret = [0; 16];
        let io = |source| LinkError::Socket { action: "get random bytes", source };
        rng.fill(&mut secret).map_err(io)?;
        self.expire(now);
        if self.open.len() >= OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push(Invite { secret, until: now.saturating_add(INVITE_LASTS) });
        Ok(Token { secret, issuer })
    }

    /// Whether any is open.
    pub fn is_open(&mut self, now: Duration) -> bool {
        self.expire(now);
        !self.open.is_empty()
    }

    /// Closes the invitation whose token was proved.
    pub(crate) fn redeem(
        &mut self,
        now: Duration,
        binding: &Binding,
        shown: &blake3::Hash,
    ) -> Result<(), LinkError> {
        let refused = |reason| Err(LinkError::Join { by: Side::Us, reason });
        self.expire(now);
        self.wrong.retain(|at| now.saturating_sub(*at) < WRONG_SPAN);
        if self.wrong.len() >= WRONG_MAX {
            return refused("too many attempts have failed; try again in ten seconds");
        }
        // Comparing hashes takes the same time wherever they differ, and all are compared.
        let mut found = None;
        for (at, invite) in self.open.iter().enumerate() {
            if proof(&invite.secret, binding) == *shown {
                found = Some(at);
            }
        }
        match found {
            Some(at) => {
                self.open.remove(at);
                Ok(())
            }
            None => {
                self.wrong.push_back(now);
                refused("no open invitation has this token: it is spent, too old, or of others")
            }
        }
    }

    fn expire(&mut self, now: Duration) {
        self.open.retain(|invite| now < invite.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::rng::SeededRng;

    const ISSUER: Fingerprint = Fingerprint([1; 32]);
    const JOINER: Fingerprint = Fingerprint([2; 32]);
    const BINDING: Binding = Binding { exported: [3; 32], issuer: ISSUER, joiner: JOINER };

    fn issue(invites: &mut Invites, now: Duration, seed: u64) -> Token {
        invites.issue(now, ISSUER, &SeededRng::new(seed)).unwrap()
    }

    #[test]
    fn a_token_is_good_once() {
        let mut invites = Invites::default();
        let token = issue(&mut invites, Duration::ZERO, 1);
        let proof = token.proof(&BINDING);
        invites.redeem(Duration::ZERO, &BINDING, &proof).unwrap();
        let error = invites.redeem(Duration::ZERO, &BINDING, &proof).unwrap_err();
        assert_eq!(error.code(), "JoinRefused");
        assert!(!invites.is_open(Duration::ZERO));
    }

    #[test]
    fn a_token_is_good_for_ten_minutes() {
        let mut invites = Invites::default();
        let (first, second) =
            (issue(&mut invites, Duration::ZERO, 1), issue(&mut invites, Duration::ZERO, 2));
        let last = INVITE_LASTS - Duration::from_nanos(1);
        invites.redeem(last, &BINDING, &first.proof(&BINDING)).unwrap();
        assert!(invites.redeem(INVITE_LASTS, &BINDING, &second.proof(&BINDING)).is_err());
    }

    #[test]
    fn a_proof_is_worth_nothing_on_another_connection_or_for_another_key() {
        let mut invites = Invites::default();
        let token = issue(&mut invites, Duration::ZERO, 1);
        let proof = token.proof(&BINDING);
        for other in [
            Binding { exported: [4; 32], ..BINDING },
            Binding { issuer: JOINER, ..BINDING },
            Binding { joiner: ISSUER, ..BINDING },
        ] {
            assert!(invites.redeem(Duration::ZERO, &other, &proof).is_err());
        }
        invites.redeem(Duration::ZERO, &BINDING, &proof).unwrap();
    }

    #[test]
    fn guessing_is_slowed_down() {
        let mut invites = Invites::default();
        let token = issue(&mut invites, Duration::ZERO, 1);
        let wrong = blake3::hash(b"a guess");
        for _ in 0..WRONG_MAX {
            invites.redeem(Duration::ZERO, &BINDING, &wrong).unwrap_err();
        }
        let error = invites.redeem(Duration::ZERO, &BINDING, &token.proof(&BINDING)).unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");
        invites.redeem(WRONG_SPAN, &BINDING, &token.proof(&BINDING)).unwrap();
    }

    #[test]
    fn invitations_that_were_kept_are_good_for_as_long_as_they_were() {
        let mut before = Invites::default();
        let (spent, left) =
            (issue(&mut before, Duration::ZERO, 1), issue(&mut before, Duration::ZERO, 2));
        before.redeem(Duration::ZERO, &BINDING, &spent.proof(&BINDING)).unwrap();
        let half = INVITE_LASTS / 2;
        let kept = before.open(half);
        for (waited, is_good) in [(half - Duration::from_nanos(1), true), (half, false)] {
            let start = Duration::from_secs(7);
            let mut after = Invites::reopen(start, &kept);
            assert!(after.redeem(start, &BINDING, &spent.proof(&BINDING)).is_err());
            let redeemed = after.redeem(start + waited, &BINDING, &left.proof(&BINDING));
            assert_eq!(redeemed.is_ok(), is_good);
        }
        let long = OpenInvite { secret: [1; 16], remaining: INVITE_LASTS * 9 };
        let reopened = Invites::reopen(Duration::ZERO, &[long; 40]);
        assert_eq!(reopened.open.len(), OPEN_MAX);
        assert!(reopened.open(INVITE_LASTS).is_empty());
    }

    #[test]
    fn open_invitations_are_bounded() {
        let mut invites = Invites::default();
        let tokens: Vec<Token> =
            (0..20).map(|seed| issue(&mut invites, Duration::ZERO, seed)).collect();
        assert_eq!(invites.open.len(), OPEN_MAX);
        invites.redeem(Duration::ZERO, &BINDING, &tokens[19].proof(&BINDING)).unwrap();
        assert!(invites.redeem(Duration::ZERO, &BINDING, &tokens[0].proof(&BINDING)).is_err());
    }
}
