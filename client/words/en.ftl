# What failed (err-) and what to do (do-). The reader may be frightened: be calm, short and exact.

err-usage-text-too-long = the text is longer than 60,000 bytes; send it as a file
err-usage-text-empty = the text is empty
err-usage-name-too-long = the name or label is longer than 200 bytes
err-usage-document-too-large = the document is larger than 16 GiB
err-usage-not-a-file = this is not a regular file
err-usage-no-relay = no relay is known to this vault
err-usage-days = the number of days must be from 1 to 365
err-usage-ambiguous = this fits more than one; write more of it
err-usage-own-invite = this invite is your own
err-usage-case-ended = this case can no longer be written to
err-usage-not-counsel = only counsel can do this in a case
err-usage-not-committer = another of counsel's devices leads this case
do-not-committer = Nothing was changed. Do it on that device; if it is lost, lead the case from here with `martlet takeover CASE`.
err-usage-already-member = they are in this case already
err-usage-other-relay = their invite is on another relay than this case
do-other-relay = Nothing was changed. Ask them for an invite on this case's relay: `martlet relay add LINK`, then `martlet invite`.
err-usage-too-many-members = a case holds no more people or devices
err-usage-too-many-relays = a case names no more than 4 relays
err-usage-yourself = this cannot be done to oneself
do-yourself = Nothing was changed. Whoever leads a case cannot leave it; another of counsel's devices takes over first.
err-usage-no-rescue = this case knows nobody who could take this device in again
do-no-rescue = Ask the others, by voice or in person, to add you with a new invite of yours.
err-usage-change = the change cannot be made in this case
err-usage-not-this-device = this is done on the device that has your identity key
err-usage-in-use = this vault has cases or invites of its own already
do-in-use = Nothing was changed. Make a new vault on this device with `martlet init --home DIR`, and link that one.
do-usage = Nothing was done. See `martlet help` for how to write the command.
err-usage-case-restored = this case came out of an archive: it can be read, but nothing can be sent in it
do-case-restored = Ask counsel to take this device in again: `martlet rejoin CASE`. Until then `martlet read CASE --all` shows its letters.

err-bad-link = the invite or link cannot be read: { $detail }
do-bad-link = Copy the whole text again, from `martlet:` to its end. Spaces and capitals do not matter.
err-no-vault = there is no vault here
do-no-vault = Make one with `martlet init`, or say where it is with `--home`.
err-vault-exists = there is a vault here already
do-vault-exists = Nothing was changed. Use it as it is, or choose another folder with `--home`.
err-vault-busy = the vault is in use by another program
do-vault-busy = Wait until the other martlet is done, then try again. Nothing is lost.
err-wrong-passphrase = the passphrase does not open the vault
do-wrong-passphrase = Try again; capitals and spaces count. Nobody can reset a passphrase.
err-vault-damaged = the vault is damaged: { $detail }
do-vault-damaged = Do not delete it. Copy the folder somewhere safe, then ask for help.
err-vault-rolled-back = the vault is an older copy of itself
do-vault-rolled-back = Do not write from this copy. Use the newest one, or start anew with a new vault and invite.
err-archive-passphrase = the passphrase does not open the archive
do-archive-passphrase = Try again; capitals and spaces count. If it is surely right, the file is damaged: use another copy.
err-archive-damaged = this is no whole archive: { $detail }
do-archive-damaged = Nothing was restored. Use another copy of the archive; if that fails too, update martlet and try again.
err-file-exists = there is a file of this name already
do-file-exists = Nothing was written. Choose another name; martlet never overwrites a file.
err-disk-full = the disk is full
do-disk-full = Free some space on this device, then run it again. What was stored is safe.
err-file = a file cannot be used: { $detail }
do-file = Check that the file or folder exists and that you may use it, then try again.

err-unreachable = the relay cannot be reached
do-unreachable = Nothing is lost. Check the internet connection, then run `martlet sync`.

err-wrong-pin = the relay's key is not the one pinned; nothing was sent
do-wrong-pin = Somebody may be in between. Do not go on; try another network, or ask for a new link.
err-wrong-card-hash = the card's hash is not the one in the invite; nothing was sent
err-wrong-card-signature = the card's signature is wrong; nothing was sent
err-wrong-card-package = a key package in the card belongs to somebody else; nothing was sent
do-wrong-card = This may not be the person you mean. Ask them, by voice or in person, for a new invite.
err-wrong-document = the document is not what its letter says it is
do-wrong-document = The document was not kept. Ask its sender to send it again.

err-expired = the relay no longer holds the document
do-expired = Ask its sender to send the document again.
err-invite-expired = the invite has expired or was withdrawn
do-invite-expired = Ask for a new invite.
err-not-found-case = there is no such case
do-not-found-case = `martlet cases` lists the cases.
err-not-found-member = there is no such member in the case
do-not-found-member = `martlet cases` lists the members of each case.
err-not-found-ask = this member does not ask to be taken in again
do-not-found-ask = They run `martlet rejoin` on their device first.
err-not-found-admission = this device does not know the right to open channels on that relay
do-not-found-admission = Ask counsel for the relay's link.
err-not-found-device = there is no such device
do-not-found-device = `martlet device list` lists your devices.
err-not-found-document = there is no such document in the case
do-not-found-document = `martlet read CASE --all` lists the documents of a case.
err-not-found-invite = there is no such invite
do-not-found-invite = `martlet invites` lists your invites.

err-refused = the relay refused: { $detail }
do-refused = What was to be sent is kept. Try again later; if it goes on, ask whoever runs the relay.
err-protocol = the relay or a peer breaks the protocol: { $detail }
do-protocol = Nothing was shown that could not be checked. Update martlet; if it goes on, tell whoever runs the relay.
err-partly = interrupted; running it again goes on from here
do-partly = Run the same command again; it goes on where it stopped.
err-internal = internal error: { $detail }
do-internal = This is a fault of martlet. Your vault is kept; please report it.

# Beside a case.
warn-relay-differs = WARNING: the relay showed different things to different people. Talk to the others another way.
warn-relay-forgot = The relay lost this case's channel. Letters wait here until counsel's device is online.
warn-lost = This device cannot follow the case any more. It has asked counsel to be taken in again; call them, so that they know it is you.
warn-removed = You were removed from this case. What came before stays here; nothing new is read or sent.
warn-silent = Nothing came from counsel's devices for three days. The relay may be holding it back: do not take silence for peace, reach counsel another way.
warn-asks = Somebody asks to be taken in again with a new device. Speak with them first, then: martlet readmit CASE MEMBER
warn-restored = Restored from an archive: it can be read. To write in it again, ask to be taken in: `martlet rejoin CASE`.
warn-unknown = WARNING: something is wrong that this version has no words for. Update martlet.

# The prompts.
err-passphrase-empty = the passphrase is empty
err-passphrase-differs = the two passphrases differ
err-passphrase-needed = a passphrase is needed: use `--passphrase-file FILE` or `--passphrase-fd N`, or run it in a terminal
ask-passphrase = Passphrase:
ask-archive = Passphrase of the archive:
ask-again = The same again:
ask-how = A passphrase made for you: 1 for six words, 2 for digits. Or press Enter to type your own:
tell-made = Your passphrase, shown only once. Write it down and hide it well; spaces count. Nobody can reset it.
tell-archive = The archive needs a passphrase of its own, which you will need to restore it.
tell-backed-up = The archive is written. Whoever has it and its passphrase can read everything in it: keep the two apart.
tell-restored = The vault is restored. Its cases can be read; to write in them again, ask to be taken in: `martlet rejoin`.

keeping = Letters are kept:
keeping-hold = Deletion is stopped on this device. To let it go on: martlet hold CASE off
isolation-shared = Cases share a connection to each relay, but for those that are apart. To give each its own: martlet isolation case
isolation-case = Each case has a connection of its own. A relay still sees that they come from one internet address at about the same time.
keeping-asked = The device that leads the case makes the change; a notice in the case says when. Letters whose time is over are then deleted for good on that side.

proxy-none = No proxy is used.
proxy-used = Relays are reached through this proxy, and in no other way: { $detail }
doctor-no-relay = No relay is known yet. One comes with an invite or a link.
doctor-road = This road leads there.
doctor-other-road = This network does not let it through. Letters take another road by themselves; you need do nothing.
doctor-no-road = This network does not let it through.
doctor-no-proxy = The relay is not reached through the proxy. Is the proxy running? To use none: `martlet proxy off`
doctor-reached = Letters get through from here.
doctor-unreached = No road leads there from here. Nothing is lost: what you write is kept and goes out later. Try another network, mobile data in place of Wi-Fi, or a proxy: `martlet proxy HOST:PORT`
doctor-clock = The date of this device is right.
doctor-clock-off = The date of this device is wrong. Set it right, or letters may not be taken.
