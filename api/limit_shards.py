"""How the limits' asks are spread over a Valkey cluster.

A script may only touch keys of one hash slot, so subjects are put into a fixed number of shards by a hash
of their name. A shard's name stands in braces at the head of its keys, which makes their slot the same.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

# Enough for a cluster of sixteen primaries to share the load, and few enough for one flush to ask them all.
SHARDS: Final = 16

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode


@dataclass(frozen=True, slots=True)
class Shard:
    """The asks of one shard: a key that finds its server, the argument, their places in the whole."""

    tag: str
    argument: bytes
    places: tuple[int, ...]


def split_into_shards(argument: bytes) -> list[Shard]:
    """Split the script's argument (see ``limit_script``) by the shards of its subjects."""
    by_tag: dict[str, list[tuple[int, list[Any]]]] = {}
    for place, (subject, *rest) in enumerate(_unpack(argument)):
        tag = f"{{tw{zlib.crc32(subject.encode()) % SHARDS}}}"
        by_tag.setdefault(tag, []).append((place, [f"{tag}{subject}", *rest]))
    return [
        Shard(tag, _pack([ask for _, ask in asks]), tuple(place for place, _ in asks))
        for tag, asks in by_tag.items()
    ]


def join_shards(shards: Sequence[Shard], answers: Sequence[bytes]) -> bytes:
    """Put the shards' answers into the order of the whole."""
    whole: list[Any] = [None] * sum(len(shard.places) for shard in shards)
    for shard, answer in zip(shards, answers, strict=True):
        for place, granted in zip(shard.places, _unpack(answer), strict=True):
            whole[place] = granted
    return _pack(whole)
