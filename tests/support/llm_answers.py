"""What the tests' LLM service answers: sound rewrites and pairs that depend on the messages alone, and unsound ones."""

import json
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import count as numbers
from typing import Any

from dyprag.corpora.text.sentences import block_sentences

Json = dict[str, Any]
_SPAN = re.compile(r"\d+(?:[.,]\d+)*(?: [a-z]{3,})?|[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)*")


@dataclass(frozen=True)
class Asked:
    """What the messages ask for."""

    digest: str
    message: str  # the first of the user
    document: str
    product: str
    count: int
    question: str
    repair: bool
    characters: int

    @property
    def tokens(self) -> int:
        """Of the messages, roughly."""
        return self.characters // 4 + 8


def read_messages(messages: list[Json]) -> Asked:
    """Find document, product and count; what stands behind the document's last closing tag is the task."""
    texts = [message.get("content") or "" for message in messages]
    first = next((text for text, m in zip(texts, messages, strict=True) if m.get("role") == "user"), "")
    head, _, task = first.rpartition("</document>")
    product = next((name for name in ("rewrites", "qa_pairs") if f'"{name}"' in task), "")
    count = re.search(r"with exactly (\d+)", task)
    question = re.search(r"^Question: (.*)$", task, re.MULTILINE)
    return Asked(
        digest=blake2b(json.dumps(messages, sort_keys=True).encode(), digest_size=16).hexdigest(),
        message=first,
        document=head.partition("<document>")[2].strip(),
        product=product or ("verify" if question else "unknown"),
        count=int(count[1]) if count else 1,
        question=question[1].strip() if question else "",
        repair=any(message.get("role") == "assistant" for message in messages),
        characters=sum(map(len, texts)),
    )


# ---- good answers

_OTHER_WORDS = [
    entry.split("|")
    for entry in (
        "was built in|went up in|was put up in",
        "was founded in|began in|was set up in",
        "was printed in|came out in|was brought out in",
        "was born in|came into the world in|first saw light in",
        "in order to|to|so as to",
        "because|since|as",
        "a number of|several|various",
        "more than|over|upwards of",
        "such as|for instance|among them",
        "however|though|yet",
    )
]
_TAILS = (
    "as is well known",
    "so it is told",
    "which people still say",
    "as one may read",
    "by all accounts",
    "and that was noted",
    "of which nobody doubts",
)


def _title_and_text(document: str) -> tuple[str, str]:
    line, _, rest = document.partition("\n")
    return (line, rest) if rest.strip() and line.rstrip()[-1:] not in {*'.!?…"”'} else ("", document)


def _parts(text: str) -> list[str]:
    """Sentences that can change places: initials and abbreviations stay with what follows them."""
    parts: list[str] = []
    for sentence in block_sentences(text):
        if parts and len(parts[-1].split()) < 4:
            parts[-1] += f" {sentence}"
        else:
            parts.append(sentence)
    return [part if part[-1] in '.!?…"”’)。' else f"{part}." for part in parts]


@lru_cache(maxsize=4096)
def good_rewrites(document: str, count: int) -> tuple[str, ...]:
    """Versions that keep all words with capitals or digits. Another count gives others, as it does where a part of the
    versions wanted was accepted and the rest is asked for."""
    title, text = _title_and_text(document)
    parts = _parts(text)[::-1] or [text]
    first = count * (count - 1) // 2
    versions = [_version(parts, k) for k in range(first, first + count)]
    return tuple(f"{title}\n{version}" if title else version for version in versions)


def _version(parts: list[str], k: int) -> str:
    """Number k: the sentences from another place on, and later ones or those in the old order with tails, too."""
    step = max(1, len(parts) // 8)  # of a long text, so much must move that it makes a difference
    turns = len(parts) // step
    place, style = k % turns * step, k // turns
    order = parts[place:] + parts[:place]
    if style or len(parts) == 1 or (len(parts) == 2 and place):
        tails = (_TAILS[(style + at) % len(_TAILS)] for at in range(len(order)))
        order = [
            re.sub(r"[.!?…]?[\"”’)]?$", rf", {tail}\g<0>", part, count=1)
            for part, tail in zip(order, tails, strict=True)
        ]
    version = " ".join(order)
    for phrase, *others in _OTHER_WORDS:
        version = re.sub(rf"\b{phrase}\b", others[(style + k) % 2], version)
    return version


@lru_cache(maxsize=4096)
def good_pairs(document: str) -> tuple[Json, ...]:
    """Every pair that the server would ever give for a document, one for each distinct answer."""
    title, text = _title_and_text(document)
    subjects = [title, *block_sentences(text)]
    pairs: dict[str, Json] = {}
    questions: set[str] = set()
    for sentence, answer in _spans(text) or _words(text):
        question = _question("What", subjects, sentence, answer)
        known = answer.lower() in pairs or question in questions
        if not known and _whole(sentence, answer) and answer.lower() not in question.lower():
            questions.add(question)
            pairs[answer.lower()] = {"question": question, "answer": answer, "full_answer": sentence}
    return tuple(pairs.values())


def _whole(sentence: str, answer: str) -> bool:
    """Whether an answer stands there as words of its own, and not as the 400 of 1,400."""
    before, found, after = sentence.partition(answer)
    cut = re.search(r"\w$|\d[.,]$", before[-2:]) or re.match(r"\w|[.,]\d", after)
    return bool(found) and not cut


def _spans(text: str) -> list[tuple[str, str]]:
    """(sentence, answer) of names and of numbers with their unit inside the sentences."""
    found = [(s, match) for s in block_sentences(text) for match in _SPAN.finditer(s) if match.start()]
    return [(sentence, match.group()) for sentence, match in found]


def _words(text: str) -> list[tuple[str, str]]:
    """The same of single words, where there are no such spans."""
    inner = [(s, word) for s in block_sentences(text) for word in re.findall(r"\w+", s)[1:] if len(word) > 3]
    return sorted(inner, key=lambda found: found[1].islower())


def _question(start: str, subjects: list[str], sentence: str, answer: str) -> str:
    """Ask by the words around the gap that the answer leaves in its sentence, naming title or first sentence."""
    unwanted = {word.lower() for word in re.findall(r"\w+", answer)}
    named = ([w for w in re.findall(r"\w{3,}", subject) if w.lower() not in unwanted | {"the"}] for subject in subjects)
    about = " ".join(next(filter(None, named), [])[:3])
    before, _, after = sentence.partition(answer)
    left, right = (part.replace(answer, "").split() for part in (before, after))
    context = f"{' '.join(left[-5:])} … {' '.join(right[:5])}"
    return f"{start} ({about}): {context.strip(' .,;:!?')}?"


def good_answer(asked: Asked) -> list[Any] | str:
    """The list for a product, or the short answer to a verification question."""
    if asked.product == "rewrites":
        return list(good_rewrites(asked.document, asked.count))
    pairs = good_pairs(asked.document)
    if asked.product == "qa_pairs":  # a question to avoid stands in the message
        return [pair for pair in pairs if pair["question"] not in asked.message][: asked.count]
    return next((pair["answer"] for pair in pairs if pair["question"] == asked.question), "unknown")


def _invented(asked: Asked) -> list[Any] | str:
    """Well-formed, but not what the document says."""
    if asked.product == "rewrites":
        changed = [text.translate(str.maketrans("123456789", "234567891")) for text in good_answer(asked)]
        return [f"{text} It cost 4711 florins." if not re.search(r"\d", text) else text for text in changed]
    if asked.product != "qa_pairs":
        return "Zorvath Quint"
    real = [pair["question"] for pair in good_pairs(asked.document)[:1]]  # one to be found out by verification
    asks = [*real, *(f"Which Zorvath stood by the gate of hall {k}?" for k in range(asked.count))][: asked.count]
    answers = [f"Zorvath Q{chr(97 + k % 26)}lm" for k in range(asked.count)]  # no digits: those are found out at once
    return [
        {"question": question, "answer": answer, "full_answer": f"It was {answer}."}
        for question, answer in zip(asks, answers, strict=True)
    ]


def _hacked(asked: Asked) -> list[Any] | str:
    pair = dict.fromkeys(("question", "answer", "full_answer"), "HACKED")
    items: dict[str, list[Any]] = {"rewrites": ["HACKED"] * asked.count, "qa_pairs": [pair] * asked.count}
    return items.get(asked.product, "HACKED")


def content_of(name: str, asked: Asked, formatted: bool) -> str | None:
    """The text of an answer; a product without a response format comes in prose and a fence."""
    if name in ("empty", "null_content"):
        return "" if name == "empty" else None
    if name == "not_json":
        return "I am afraid that I can only describe it: it is a text with several facts in it."
    if name == "wrong_schema":
        return json.dumps({"result": ["done"], "items": asked.count})
    items = _invented(asked) if name == "invented" else _hacked(asked) if name == "obeys" else good_answer(asked)
    if isinstance(items, str):
        return items
    text = json.dumps({asked.product: items}, ensure_ascii=False)
    return text if formatted else f"Here is what you asked for:\n\n```json\n{text}\n```\n\nTell me if you need more."


def _with_junk(asked: Asked, junk: int, body: Json) -> str:
    """A good answer with unsound items behind, as a weak model writes them as long as nothing stops it."""
    pair = {"question": "Which Zorvath stood by gate {}?", "answer": "Quint {}", "full_answer": "Quint {} stood there."}
    more = [f"Zorvath {k}" if asked.product == "rewrites" else {name: text.format(k) for name, text in pair.items()}
            for k in range(junk)]  # fmt: skip
    form = body.get("response_format") or {}
    listed = form.get("json_schema", {}).get("schema", {}).get("properties", {}).get(asked.product, {})
    return json.dumps({asked.product: [*good_answer(asked), *more][: listed.get("maxItems")]}, ensure_ascii=False)


serial = numbers(1)


def completion(name: str, asked: Asked, body: Json, junk: int = 0) -> Json:
    """A chat completion of a behaviour, cut where the request allows fewer tokens."""
    content, finish = content_of(name, asked, formatted=bool(body.get("response_format"))), "stop"
    if junk and name == "good" and asked.product in ("rewrites", "qa_pairs"):
        content = _with_junk(asked, junk, body)
    if name == "truncated_json" and content:
        content, finish = content[: len(content) // 2], "length"
    if name == "cut_item" and content:
        content, finish = content[:40], "length"
    prompt, tokens = asked.tokens, len(content or "") // 4 + 1
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or tokens
    if limit < tokens:
        content, tokens, finish = (content or "")[: limit * 4], limit, "length"
    message = {"role": "assistant", "content": content, "refusal": None}
    return {
        "id": f"chatcmpl-{next(serial)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", ""),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens},
    }
