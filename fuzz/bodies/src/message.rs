//! What two nodes say to each other, and the records of a roster: hostile bytes behind digests that
//! are right.

use crate::damage::damage;
use crate::input::Input;
use base::Stamp;
use replication::protocol::audit::message::Say;
use replication::protocol::bulk::Bulk;
use replication::protocol::frame::{CONTROL_LEN_MAX, Kind};
use replication::protocol::message::Message;
use replication::reconcile::{Comparison, ElementDigest, ElementKey, Elements, Sketch};
use replication::roster::{Life, Member};

const CONTROL: [Kind; 9] = [
    Kind::Hello,
    Kind::HelloAck,
    Kind::Subscribe,
    Kind::Offer,
    Kind::Want,
    Kind::Statement,
    Kind::Heartbeat,
    Kind::Goodbye,
    Kind::Heal,
];
const BULK: [Kind; 5] =
    [Kind::DeltaHead, Kind::DeltaChunk, Kind::DeltaEnd, Kind::TablesHead, Kind::FileBytes];

/// What the channel of audits carries.
pub(crate) const AUDIT: [Kind; 8] = [
    Kind::Reconcile,
    Kind::AuditAsk,
    Kind::AuditOpen,
    Kind::AuditHead,
    Kind::AuditChunk,
    Kind::AuditGone,
    Kind::AuditEnd,
    Kind::AuditStop,
];

/// Decodes a message. One that decodes comes back from its own bytes, which are of bounded length;
/// damaged again it is an error or another message.
pub fn message(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => control(&mut input),
        1 => bulk(&mut input),
        3 => audit(&mut input),
        _ => records(&mut input),
    }
}

fn control(input: &mut Input<'_>) {
    let kind = CONTROL[input.below(CONTROL.len())];
    let Ok(message) = Message::decode(kind, input.clone().rest()) else { return };
    let mut bytes = message.encode().unwrap().to_vec();
    assert!(bytes.len() <= CONTROL_LEN_MAX);
    assert_eq!(Message::decode(kind, &bytes).unwrap(), message);
    damage(&mut bytes, input);
    let _ = Message::decode(kind, &bytes);
}

fn bulk(input: &mut Input<'_>) {
    let kind = BULK[input.below(BULK.len())];
    let bytes = input.rest();
    if let Ok((round, bulk)) = Bulk::decode(kind, bytes) {
        assert_eq!(bulk.kind(), kind);
        assert_eq!(bulk.encode(round), bytes, "a payload has one encoding");
    }
}

/// What auditors say, and a comparison that is told it: it ends or goes on, and holds no more names
/// than there are.
fn audit(input: &mut Input<'_>) {
    let kind = AUDIT[input.below(AUDIT.len())];
    let bytes = input.clone().rest();
    if let Ok((round, say)) = Say::decode(kind, bytes) {
        assert_eq!(say.kind(), kind);
        let again = say.encode(round);
        assert_eq!(Say::decode(kind, &again).unwrap(), (round, say), "it comes back");
    }
    let mut comparison = Comparison::new(Sketch::of(Few).unwrap());
    if input.byte().is_multiple_of(2) {
        comparison.open();
    }
    while !input.is_empty() {
        let frame = input.bytes(300);
        if comparison.receive(&[&[1, 0], frame].concat()).is_err() {
            break;
        }
        assert!(comparison.found().ours.len() <= usize::from(Few::COUNT));
    }
}

/// A few elements.
struct Few;

impl Few {
    const COUNT: u8 = 60;
}

impl Elements for Few {
    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Option<&ElementDigest>) -> bool,
    ) -> base::Result<()> {
        let key = ElementKey::of_group(b"group");
        for number in 0..Few::COUNT {
            let name = [b'k', 0, number];
            let is_inside = name[..] >= *from && to.is_none_or(|to| name[..] < *to);
            let digest = key.digest(&name, Stamp::default(), false);
            let digest = Some(&digest).filter(|_| !number.is_multiple_of(7));
            if is_inside && !each(&name, digest) {
                break;
            }
        }
        Ok(())
    }
}

fn records(input: &mut Input<'_>) {
    let bytes = input.rest();
    if let Ok(member) = Member::decode(bytes) {
        assert_eq!(Member::decode(&member.encode()), Ok(member));
    }
    if let Ok(life) = Life::decode(bytes) {
        assert_eq!(Life::decode(&life.encode()), Ok(life));
    }
}
