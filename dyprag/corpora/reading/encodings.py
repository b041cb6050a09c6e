"""Bytes as letters: by a byte order mark, or as UTF-8; of any other encoding, which one it probably is and how a file
is converted.

An encoding without a mark is a guess that is wrong for some short texts, and a wrong letter would be in an adapter
before anybody saw it. So it is named in the error and never taken.
"""

import codecs
import io
from collections.abc import Iterable, Iterator

from dyprag.errors import DocumentError

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_LOOKED_AT = 1 << 16  # bytes that a guess is made from
_WESTERN = frozenset("àâäáãåæçèéêëìíîïñòóôöõøùúûüÿßœÀÂÄÁÃÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÖÕØÙÚÛÜŸŒ‘’‚“”„–—…•€£§°«»¿¡©®™·´`\xa0")
_MOST_WESTERN = 0.3  # of a text's bytes: Western European texts are ASCII for the greatest part
# How iconv calls what may be found, by Python's name.
_ICONV = {
    "cp1250": "CP1250", "cp1251": "CP1251", "cp1252": "CP1252", "cp1253": "CP1253", "cp1254": "CP1254",
    "cp1255": "CP1255", "cp1256": "CP1256", "cp1257": "CP1257", "koi8_r": "KOI8-R", "koi8_u": "KOI8-U",
    "gb2312": "GB18030", "gbk": "GB18030", "gb18030": "GB18030", "big5": "BIG5", "cp950": "BIG5",
    "shift_jis": "CP932", "cp932": "CP932", "euc_jp": "EUC-JP", "euc_jis_2004": "EUC-JP", "euc_kr": "CP949",
    "cp949": "CP949", "mac_roman": "MACINTOSH", "tis_620": "CP874", "cp874": "CP874",
}  # fmt: skip


def letters_of(data: bytes) -> str:
    """The text that bytes are.

    Raises:
        DocumentError: they are no text, or not UTF-8 and without the mark of another encoding.
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
    """The error for bytes that are in another encoding than they should be.

    Args:
        data: by which the encoding is guessed.
        of: what the byte's number counts in, where that is not the whole file: " of it".
    """
    encoding = error.encoding.upper().removesuffix("-SIG")
    reason = f"it is not {encoding} (byte {error.start:,}{of} is {error.object[error.start]:#04x})"
    return DocumentError("", reason, conversion(data))


def binary(data: bytes) -> DocumentError:
    """The error for bytes with NULs among them: UTF-16 without its mark, or no text."""
    for name in ("UTF-16LE", "UTF-16BE"):
        text = data[:_LOOKED_AT].decode(name, "ignore")
        if sum(letter.isascii() and (letter.isprintable() or letter.isspace()) for letter in text) > len(text) / 2:
            return DocumentError("", f"it seems to be {name} without a byte order mark", _iconv(name))
    return DocumentError("", "it is a binary file, not text", "Remove it, or convert it to text.")


def conversion(data: bytes) -> str:
    """How a file that is not UTF-8 is converted: the remedy of an error."""
    few = data[:_LOOKED_AT]
    western = few.decode("cp1252", "replace")
    odd = [letter for letter in western if ord(letter) > 127]
    if len(odd) <= _MOST_WESTERN * len(western) and _WESTERN.issuperset(odd):
        return _iconv("CP1252")
    from charset_normalizer import from_bytes

    best = from_bytes(few).best()
    return _iconv(_ICONV.get(best.encoding if best else "", "CP1252"))


def _iconv(name: str) -> str:
    return f"Convert it, for example: iconv -f {name} -t UTF-8 OLD > NEW."


def lines_of(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream of bytes, each with its end (any of the three), in UTF-8 and without a mark.

    Raises:
        UnicodeDecodeError: it has the mark of another encoding and is not in it.
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
