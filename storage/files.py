"""Checksums of files, and flushing files to disk so that they survive a power failure."""

import hashlib
import os
from pathlib import Path


def file_checksum(path: Path) -> str:
    """The BLAKE2b checksum of a file's content: 32 hexadecimal characters."""
    return size_and_checksum(str(path))[1]


def size_and_checksum(path: str) -> tuple[int, str]:
    """A file's size in bytes and its checksum. Reads without a Python stream, which would take half of the time for
    many small files."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while block := os.read(descriptor, 1 << 16):
            digest.update(block)
            size += len(block)
    finally:
        os.close(descriptor)
    return size, digest.hexdigest()


def flush(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
