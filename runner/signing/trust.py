"""What a host believes: the keys of its configuration, what each may sign, and what a signed message is worth here.

Nothing of a signed message is looked at before one of its signatures has been found good.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from runner.protocol import signed
from runner.protocol.invalid import InvalidMessage
from runner.protocol.suggest import shown
from runner.protocol.units import format_time
from runner.signing.when import fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.protocol.signed import Envelope
    from runner.signing.keypairs import PublicKey

# Each costs a tenth of a millisecond, and what a large payload takes to be hashed.
MOST_TRIES: Final = 16
# What is sent by a schedule is the same envelope each time.
_REMEMBERED: Final = 1024
LARGEST_KEPT: Final = 64 * 1024
"""Characters of a payload in base64."""
# Whom a job runs as that names nobody, where the supervisor is root.
_DEFAULT_USER: Final = "cron-runner-job"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key and what it may sign: globs of jobs and of users; ``until`` in unix seconds, None for ever."""

    public: PublicKey
    keyid: str
    jobs: tuple[str, ...] = ("*",)
    users: tuple[str, ...] = ("*",)
    until: float | None = None


@dataclass(slots=True)
class Trust:
    """A host's [signing] with its keys loaded."""

    group: str
    require: bool = False
    fresh: bool = False
    keys: Sequence[TrustedKey] = ()
    now: Callable[[], float] = time.time
    _good: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def open(self, value: Mapping[str, object]) -> Proof:
        """What a signed message says; raises InvalidMessage where it is not to be believed."""
        envelope = signed.read(value)
        keyids = self._signers(envelope)
        payload = signed.payload_of(envelope.payload)
        table = envelope.table(payload)
        job = table.get("job")
        now = self.now()
        may, why = [], list[str]()
        for key in (key for key in self.keys if key.keyid in keyids):
            if key.until is not None and now >= key.until:
                why.append(f"key {key.keyid} was good until {format_time(key.until)}")
            elif isinstance(job, str) and not _match(job, key.jobs):
                why.append(f"key {key.keyid} may not sign job {shown(job)}: its jobs are {', '.join(key.jobs)}")
            else:
                may.append(key)
        if not may:
            raise _not_allowed(f"signatures: {'; '.join(dict.fromkeys(why))}; have it signed with a key that may")
        self._check_group(table, may[0].keyid)
        standing: dict[str, object] = {name: table.pop(name) for name in signed.STANDING if name in table}
        table.update(fresh(table, standing, payload, now, strict=self.fresh))
        return Proof(table, tuple(may), value)

    def refuse_unsigned(self, table: Mapping[str, object]) -> None:
        """Raise InvalidMessage where an unsigned message is not taken."""
        if self.require:
            job = table.get("job")
            about = f"of job {shown(job)} " if isinstance(job, str) else ""
            raise InvalidMessage(
                f"the message {about}is not signed, and this host takes only signed ones ([signing] require); "
                "sign it: `cron-runner send --key`, or `cron-runner jobs apply --key`",
                reason="not_signed",
            )

    def _check_group(self, table: Mapping[str, object], keyid: str) -> None:
        if "group" not in table:
            raise InvalidMessage("group: is missing; a signed message names the group that it is for")
        if table["group"] != self.group:
            job = table.get("job")
            about = f"job {shown(job)}" if isinstance(job, str) else "a message without a job"
            raise _not_allowed(
                f"group: {about} is signed by key {keyid} for group {shown(table['group'])}, and this host is of"
                f' "{self.group}"; send it to the other one\'s queue'
            )

    def _signers(self, envelope: Envelope) -> set[str]:
        """The keys of which it has a good signature; raises InvalidMessage where there are none."""
        data, tries = envelope.signed, 0
        good, wrong = set[str](), dict[str, None]()
        known = {key.keyid: key.public for key in self.keys}
        for signature in envelope.signatures:
            for keyid in (signature.keyid,) if signature.keyid else tuple(known):
                if keyid not in known or tries == MOST_TRIES:
                    continue
                tries += 1
                if self._fits(known[keyid], keyid, data, signature.sig):
                    good.add(keyid)
                else:
                    wrong[keyid] = None
        if good:
            return good
        if wrong:
            raise InvalidMessage(
                f"signatures: that of key {', '.join(wrong)} does not fit: the message was changed after it was signed,"
                " or signed with another key; have it signed again",
                reason="bad_signature",
            )
        named = ", ".join(shown(one.keyid)[1:-1] for one in envelope.signatures if one.keyid) or "without a name"
        raise InvalidMessage(
            f"signatures: this host knows no key {named}; sign with one that it knows, or give it the public key as"
            " [[signing.keys]]",
            reason="bad_signature",
        )

    def _fits(self, public: PublicKey, keyid: str, data: bytes, sig: bytes) -> bool:
        mark = hashlib.sha256(b"%s %d %s" % (keyid.encode(), len(sig), sig) + data).digest()
        if mark in self._good:
            self._good.move_to_end(mark)
            return True
        if not public.fits(data, sig):
            return False
        self._good[mark] = None
        if len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)
        return True


@dataclass(frozen=True, slots=True)
class Proof:
    """A message whose signature is good: its fields, and the keys that may sign its job."""

    table: Mapping[str, object]
    keys: tuple[TrustedKey, ...]
    envelope: Mapping[str, object]

    def allow(self, job: str, user: str) -> str:
        """The id of the key that lets the job run as that user; raises InvalidMessage where none may."""
        user = user or _DEFAULT_USER
        for key in self.keys:
            if _match(user, key.users):
                return key.keyid
        who = "; ".join(f"key {key.keyid} may sign for {', '.join(key.users)}" for key in self.keys)
        raise _not_allowed(f'user: job "{job}" would run as {shown(user)}, and {who}; have it signed by one that may')

    @property
    def kept(self) -> Mapping[str, object] | None:
        """As it came, for a run of the same once more; None where it is too large to be kept."""
        # Nearly all of it is the payload; the signatures have their own bounds.
        if len(str(self.envelope["payload"])) > LARGEST_KEPT:
            return None
        return {name: said for name, said in self.envelope.items() if name != "run"}


def _match(name: str, globs: Sequence[str]) -> bool:
    return "*" in globs or any(fnmatchcase(name, glob) for glob in globs)


def _not_allowed(text: str) -> InvalidMessage:
    return InvalidMessage(text, reason="not_allowed")
