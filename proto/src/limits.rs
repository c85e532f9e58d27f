//! Every limit of the protocol, in one place. SPEC.md, section 9.

use crate::Class;

/// The most envelopes that one `append` or `seal` carries.
pub const ITEMS_MAX: usize = 4;
/// The most bytes of a frame after its length field: four of the largest envelopes and what stands around them.
pub const FRAME_BYTES_MAX: usize = 264 << 10;
/// The most envelope bytes in one answer to `read`; at least one slot is given even if it is larger.
pub const PAGE_BYTES_MAX: usize = 256 << 10;
/// The most slots in one answer to `read`.
pub const PAGE_SLOTS_MAX: usize = 512;
/// Requests that one stream may have unanswered.
pub const IN_FLIGHT_MAX: usize = 64;
/// Streams that one connection may have open.
pub const STREAMS_MAX: u32 = 16;
/// Channels that one connection may follow.
pub const FOLLOWS_MAX: usize = 1024;
/// Pushes that wait for one slow stream before the relay says GAP.
pub const PUSHES_WAITING_MAX: usize = 32;
/// Seconds without a packet after which a connection is over.
pub const IDLE_SECS_MAX: u64 = 120;
/// Calls that the relay decides in one turn.
pub const TURN_CALLS_MAX: usize = 1024;

/// Days that an ordinary entry of a case lives.
pub const CASE_ENTRY_DAYS: u32 = 30;
/// Days that a sealed-in entry of a case, and the channel's record, live after the last keeper entry or `open`.
pub const CASE_KEPT_DAYS: u32 = 400;
/// Days that an inbox or a card lives after the last `open`.
pub const INBOX_DAYS: u32 = 90;
/// Days that a document lives after the last `open`.
pub const FILE_DAYS: u32 = 30;
/// Bytes of every case channel's quota that only its keeper may use.
pub const KEEPER_RESERVE_BYTES: u64 = 256 << 10;
/// A jump of the clock by more days than this holds expiry until the operator agrees.
pub const CLOCK_JUMP_DAYS: u32 = 7;

/// The most bytes of envelopes that a channel holds.
pub const fn quota_bytes(class: Class) -> u64 {
    match class {
        Class::Case => 64 << 20,
        Class::Inbox => 4 << 20,
        Class::File => 20 << 30,
        Class::Card => 1 << 20,
    }
}

/// The most bytes of a text that a letter carries.
pub const TEXT_BYTES_MAX: usize = 60_000;
/// The most bytes of a document.
pub const DOCUMENT_BYTES_MAX: u64 = 16 << 30;
/// The most bytes of a name, a label or a file name in the protocol.
pub const NAME_BYTES_MAX: usize = 200;
/// Days that a card is valid for at most.
pub const CARD_DAYS_MAX: u32 = 30;
/// The most key packages in a card: one for each of counsel's devices.
pub const CARD_PACKAGES_MAX: usize = 4;
/// The most devices of counsel in a case: each gets its share of the keep token.
pub const COUNSEL_DEVICES_MAX: usize = 8;
/// The most devices of one person in a case.
pub const PERSON_DEVICES_MAX: usize = 4;
/// Key packages that a new device offers beyond the cases it is to join at once.
pub const SPARE_PACKAGES: usize = 4;
/// The most relays that a case names.
pub const HOMES_MAX: usize = 4;
/// The most people in a case.
pub const PEOPLE_MAX: usize = 32;
/// The most letter ids in one receipt.
pub const RECEIPT_IDS_MAX: usize = 256;
/// Seconds between two commits of which neither removes somebody: courtesy to slow lines, never a rule of validity.
pub const COMMIT_GAP_SECS: u64 = 3600;
/// Days after which a device asks for fresh keys.
pub const REFRESH_DAYS: u32 = 30;
/// Days after which a letter that was not receipted by everyone is sent again.
pub const RESEND_DAYS: u32 = 25;
/// Days that the client's side keeps letters, unless it is agreed otherwise.
pub const CLIENT_DAYS: u32 = 30;
/// Days for which letters are kept longer that were not read or have not reached everybody.
pub const GRACE_DAYS: u32 = 30;
/// Days for which the name of a deleted letter is known.
pub const GONE_DAYS: u32 = 120;
/// Hours without a word of counsel's devices after which the relay's silence is shown.
pub const SILENCE_HOURS: u64 = 72;
/// Days that a member waits in a channel that vanished and came back before it asks counsel for help.
pub const HOLD_DAYS: u32 = 3;
/// Addresses in a relay link at most.
pub const LINK_ADDRESSES_MAX: usize = 4;

/// Seconds that reaching a relay may take, all its addresses together.
pub const CONNECT_SECS_MAX: u64 = 10;
/// Seconds that reaching a relay may take through a proxy.
pub const PROXY_SECS_MAX: u64 = 60;
/// Milliseconds after which the next address of a relay is tried beside those before it.
pub const ATTEMPT_GAP_MS: u64 = 250;
/// Milliseconds of silence, with an answer waited for, after which the other road is tried.
pub const LISTEN_GAP_MS: u64 = 2000;
/// Milliseconds that the road which was good last has for itself.
pub const ROAD_GAP_MS: u64 = 3000;
/// Seconds for which it is remembered which road was good.
pub const ROAD_SECS: u64 = 600;
/// The change of the size of datagrams that is worth a try: so there is one try of the largest, and not a search that takes
/// more bytes than a letter.
pub const DATAGRAM_STEP_BYTES: u16 = 130;
/// Seconds after which a client whose connection is idle shows that it lives.
pub const KEEP_ALIVE_SECS: u64 = 25;
/// Seconds that an answer may take on the stream of a case's calls.
pub const ANSWER_SECS_MAX: u64 = 60;
/// Seconds that an answer may take on the stream of a document, where megabytes may be on their way before it.
pub const DOCUMENT_ANSWER_SECS_MAX: u64 = 600;
/// Bytes that a client gathers before it writes them.
pub const WRITE_BYTES_MAX: usize = 512 << 10;
/// Bytes of one record of a client's archive: a case with its members, or a letter.
pub const ARCHIVE_RECORD_BYTES_MAX: usize = 256 << 10;
