"""The per-question browser of the HTML report: all answers as embedded JSON, and the script that shows them.

Passages and prompts are stored once and referred to by index. The script inserts texts as text only, never as HTML.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dyprag.evaluation.results import Judged

MOST_PROMPTS = 8_000_000  # total characters above which prompts are left out, to keep the page fast
SCRIPT = Path(__file__).with_name("browser.js").read_text(encoding="utf-8")


class Numbered:
    """Numbers distinct values in order of first occurrence."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        """Return a value's number; a new value gets the next one."""
        return self._numbers.setdefault(value, len(self._numbers))

    @property
    def values(self) -> list[Any]:
        """The values, in order of their numbers."""
        return list(self._numbers)


def browser(judged: Sequence[Judged]) -> str:
    """Render the browser's HTML: container, data and script; empty without answers."""
    if not judged:
        return ""
    return (
        '<h2 id="every-answer">Every answer</h2>\n'
        "<noscript><p>The browser of all answers needs JavaScript.</p></noscript>\n"
        f'<div id="browser"></div>\n<script type="application/json" id="data">{escaped(data(judged))}</script>\n'
        f"<script>{SCRIPT}</script>"
    )


def escaped(value: Any) -> str:
    """Serialise JSON for a script element: the text can neither end the element nor begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def data(judged: Sequence[Judged]) -> dict[str, Any]:
    """Build the data for the script. Names are in lists, and referred to by index.

    questions: [data set, question, answers, type, split, id, believed answers].
    passages: [id, title, text].
    answers: [question, variant, method, output, extracted part, F1 and EM in percent or null, present or null, tokens,
    seconds, seconds before the first token, retrievals, [[passage, score, gold], …], prompt or null, share of
    unsupported words in percent or null].
    """
    variants, methods, datasets, questions, passages, prompts = (Numbered() for _ in range(6))
    keep = sum(map(len, {item.prompt for item in judged})) <= MOST_PROMPTS
    answers = []
    for item in judged:
        question = (
            datasets.number(item.dataset), item.question, item.answers, item.type, item.split, item.question_id,
            item.believed,
        )  # fmt: skip
        scored = item.score
        answers.append([
            questions.number(question), variants.number(item.variant), methods.number(item.method), item.output,
            scored.extracted if scored else "", _percent(scored.f1) if scored else None,
            _percent(scored.em) if scored else None, item.present, item.tokens, round(item.seconds, 3),
            round(item.first_token, 3), item.retrievals,
            [[passages.number((p.id, p.title, p.text)), round(p.score, 3), p.gold] for p in item.passages],
            prompts.number(item.prompt) if keep and item.prompt else None,
            None if item.unsupported is None else _percent(item.unsupported),
        ])  # fmt: skip
    return {
        "datasets": datasets.values, "variants": variants.values, "methods": methods.values,
        "questions": questions.values, "passages": passages.values, "prompts": prompts.values if keep else None,
        "answers": answers,
    }  # fmt: skip


def _percent(share: float) -> float:
    return round(100 * share, 1)
