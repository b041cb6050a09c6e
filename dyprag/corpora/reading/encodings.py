"""Decode bytes as UTF-8 or by a byte order mark; for other encodings, suggest how to convert the file.

Guessing an encoding fails for some short texts, and wrong characters would go unnoticed into adapters. The guess is
therefore shown in the error, but never used to decode.
"""

import codecs
import io
from collections.abc import Iterable, Iterator

from dyprag.errors import DocumentError

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_SAMPLE = 1 << 16  # number of bytes used for a guess
_WESTERN = frozenset("àâäáãåæçèéêëìíîïñòóôöõøùúûüÿßœÀÂÄÁÃÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÖÕØÙÚÛÜŸŒ‘’‚“”„–—…•€£§°«»¿¡©®™·´`\xa0")
_MOST_WESTERN = 0.3  # maximum share of non-ASCII bytes in Western European texts
# Names of encodings for iconv, by their names in Python.
_ICONV = {
    "cp1250": "CP1250", "cp1251": "CP1251", "cp1252": "CP1252", "cp1253": "CP1253", "cp1254": "CP1254",
    "cp1255": "CP1255", "cp1256": "CP1256", "cp1257": "CP1257", "koi8_r": "KOI8-R", "koi8_u": "KOI8-U",
    "gb2312": "GB18030", "gbk": "GB18030", "gb18030": "GB18030", "big5": "BIG5", "cp950": "BIG5",
    "shift_jis": "CP932", "cp932": "CP932", "euc_jp": "EUC-JP", "euc_jis_2004": "EUC-JP", "euc_kr": "CP949",
    "cp949": "CP949", "mac_roman": "MACINTOSH", "tis_620": "CP874", "cp874": "CP874",
}  # fmt: skip


def letters_of(data: bytes) -> str:
    """Decode bytes.

    Raises:
        DocumentError: the bytes are not text, or are in another encoding than UTF-8 without a byte order mark.
    """
    name = _marked(data) or "utf-8-sig"
    try:
        text = data.decode(name)
    except UnicodeDecodeError as error:
        raise undecodable(error, data) from error
    if "\0" in text:
        raise binary(data)
    return text


def undecodable(error: UnicodeDecodeError, data: bytes, of: str = "") -> DocumentError:
    """Return the error for bytes that cannot be decoded.

    Args:
        error: the decoding error.
        data: the bytes from which the actual encoding is guessed.
        of: what the position of the byte refers to if not to the file, such as " of the line".
    """
    encoding = error.encoding.upper().removesuffix("-SIG")
    reason = f"it is not {encoding} (byte {error.start:,}{of} is {error.object[error.start]:#04x})"
    return DocumentError("", reason, conversion(data))


def binary(data: bytes) -> DocumentError:
    """Return the error for bytes that contain NULs: UTF-16 without a byte order mark, or not text."""
    for name in ("UTF-16LE", "UTF-16BE"):
        text = data[:_SAMPLE].decode(name, "ignore")
        if sum(letter.isascii() and (letter.isprintable() or letter.isspace()) for letter in text) > len(text) / 2:
            return DocumentError("", f"it appears to be {name} without a byte order mark", _iconv(name))
    return DocumentError("", "it is a binary file, not text", "Remove it, or convert it to text.")


def conversion(data: bytes) -> str:
    """Return the remedy for a file that is not UTF-8: a command that converts it."""
    sample = data[:_SAMPLE]
    western = sample.decode("cp1252", "replace")
    non_ascii = [letter for letter in western if ord(letter) > 127]
    if len(non_ascii) <= _MOST_WESTERN * len(western) and _WESTERN.issuperset(non_ascii):
        return _iconv("CP1252")
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    return _iconv(_ICONV.get(best.encoding if best else "", "CP1252"))


def _iconv(name: str) -> str:
    return f"Convert it, for example: iconv -f {name} -t UTF-8 OLD > NEW."


def lines_of(stream: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream of bytes in UTF-8, each with its line break (of any kind), without a byte order mark.

    Raises:
        UnicodeDecodeError: the stream has the byte order mark of another encoding but is not in this encoding.
    """
    first = True
    for piece in _unmarked(stream):
        for line in piece.splitlines(keepends=True):
            yield line.removeprefix(codecs.BOM_UTF8) if first else line
            first = False


def _unmarked(stream: Iterable[bytes]) -> Iterator[bytes]:
    pieces = iter(stream)
    first = next(pieces, b"")
    name = _marked(first)
    if name is None:
        yield first
        yield from pieces
    else:
        yield from io.BytesIO(b"".join((first, *pieces)).decode(name).encode("utf-8"))


def _marked(data: bytes) -> str | None:
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)
