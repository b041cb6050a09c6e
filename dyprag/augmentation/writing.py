"""Write one product through an endpoint: request missing items, check them, and repeat until done (§3.1)."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from dyprag.augmentation.answers import BREAKS_OFF, read_items, schema
from dyprag.augmentation.checks import UNSUPPORTED, check_item, doubt, same_answer
from dyprag.augmentation.prompt_files import PromptFile, prompt_file
from dyprag.augmentation.questions import gap_pair
from dyprag.augmentation.refusals import PromptTooLong, Unanswered
from dyprag.augmentation.spans import Candidate, candidates
from dyprag.config import AugmentSettings
from dyprag.corpora.documents import Document, QAPair
from dyprag.corpora.products import Accepted, Dropped, Item, Message, ProductName, Response
from dyprag.corpora.text.languages import is_english

Ask = Callable[[str, tuple[Message, ...], Any], Awaitable[Response]]
NOTES = (1200, 300, 0)  # maximum characters of notes about earlier rounds; the next value if they do not fit
LONGEST_NOTE = 160
MOST_ITEMS = 2  # maximum items read from an answer, as a multiple of the requested number
FEW = 3  # items to request with limited lengths; a fixed number, so that a server compiles one schema
MOST_REPAIRED = 4000  # characters of a faulty answer that the repair prompt contains


class Writing:
    """Writes one product in rounds, each of which requests the missing items, up to `augment.tries`."""

    def __init__(self, document: Document, product: ProductName, settings: AugmentSettings, ask: Ask) -> None:
        self._document, self._product, self._settings, self._ask = document, product, settings, ask
        self.accepted: list[Accepted] = []
        self.dropped: list[Dropped] = []
        self.rounds = 0
        self.filled = 0  # number of accepted pairs made by rule
        self.usable = False  # whether any answer had the requested form
        self.last_fault = ""
        self._endless = False  # whether the last answer was cut off within its first item

    async def run(self) -> None:
        """Run rounds until the product is complete or the tries are used up.

        Raises:
            PromptTooLong: the document and the instructions do not fit the endpoint's context.
            Unanswered: the model declines, or writes nothing but thoughts.
        """
        wanted = getattr(self._settings, self._product)
        while len(self.accepted) < wanted and self.rounds < self._settings.tries:
            self.rounds += 1
            missing = wanted - len(self.accepted)
            items = list(dict.fromkeys(await self._items(missing)))[: MOST_ITEMS * missing]
            self.usable = self.usable or bool(items)
            verified = await self._verified(items, missing)
            for item in items:
                self._judge(item, verified, wanted)
        if self._product == "qa_pairs" and self.usable:
            self._fill(min(self._settings.least_pairs, wanted))

    def _judge(self, item: Item, verified: dict[Item, Accepted | Dropped], wanted: int) -> None:
        verdict = self._checked(item)
        if self._open(item, verdict):
            if isinstance(verdict, Accepted) and self._settings.verify and item not in verified:
                return  # not verified, because enough other items were accepted
            verdict = verified.get(item, verdict)
        if isinstance(verdict, Dropped):
            self.dropped.append(verdict)
            self.last_fault = verdict.reason
        elif len(self.accepted) < wanted:
            self.accepted.append(verdict)

    def _fill(self, least: int) -> None:
        """Add gap questions made by rule, up to the number of pairs that training needs.

        The document can then be trained on even if the endpoint's model failed. Each sentence is used once before any
        is used twice.
        """
        silent = () if is_english(self._document.text) else ("",)
        turns: Counter[str] = Counter()
        spans: list[tuple[int, Candidate]] = []
        for candidate in candidates(self._document.title, self._document.text):
            spans.append((turns[candidate.sentence], candidate))
            turns[candidate.sentence] += 1
        for _, candidate in sorted(spans, key=lambda span: span[0]):
            if len(self.accepted) >= least:
                return
            verdict = self._checked(gap_pair(self._document.title, candidate, *silent))
            if isinstance(verdict, Accepted):
                self.accepted.append(Accepted(verdict.item, {**verdict.marks, "how": "gap"}))
                self.filled += 1

    async def _items(self, count: int) -> list[Item]:
        """Run one round: the valid items of an answer, after a request to repair it if there are none."""
        response, messages = await self._asked(count, self._form(count))
        items, fault = read_items(response.answer, self._product, response.finish == "length")
        self._endless = not items and fault == BREAKS_OFF
        if fault and not items and response.answer.strip():
            answered: Message = {"role": "assistant", "content": response.answer[:MOST_REPAIRED]}
            repair = (*messages, answered, *self._prompt("repair").messages(error=fault))
            try:
                response = await self._ask(f"repair {self.rounds}", repair, self._form(count))
                items, fault = read_items(response.answer, self._product, response.finish == "length")
            except PromptTooLong:
                pass  # the next round requests the items again
        self.last_fault = fault or self.last_fault
        return items

    def _form(self, count: int) -> dict[str, Any]:
        """The schema of the next answer: few short items if the last answer was cut off within its first."""
        return schema(self._product, min(count, FEW), short=True) if self._endless else schema(self._product, count)

    async def _asked(self, count: int, form: Any) -> tuple[Response, tuple[Message, ...]]:
        """Get a round's answer, with as many notes as fit the endpoint's context. Returns it with the messages."""
        notes = list(dict.fromkeys(self._notes(most) for most in NOTES))
        for number, note in enumerate(notes, start=1):
            messages = self._prompt(self._product).messages(document=self._document.passage, count=count, notes=note)
            try:
                return await self._ask(f"ask {self.rounds}", messages, form), messages
            except PromptTooLong:
                if number == len(notes):
                    raise
        raise AssertionError("there is always a last note")

    async def _verified(self, items: list[Item], missing: int) -> dict[Item, Accepted | Dropped]:
        """Verify doubtful pairs by asking the model their questions with the passage.

        Nothing is requested if there are enough other accepted pairs.
        """
        if not self._settings.verify:
            return {}
        verdicts = [(index, item, self._checked(item)) for index, item in enumerate(items)]
        doubtful = [
            (index, item, verdict)
            for index, item, verdict in verdicts
            if isinstance(item, QAPair) and self._open(item, verdict)
        ]
        if (
            sum(isinstance(verdict, Accepted) for *_, verdict in verdicts)
            - sum(isinstance(verdict, Accepted) for *_, verdict in doubtful)
            >= missing
        ):
            return {}
        answers = await asyncio.gather(*(self._verify(*doubt) for doubt in doubtful), return_exceptions=True)
        for answer in answers:  # raise only after all were requested or added to a batch
            if isinstance(answer, BaseException):
                raise answer
        return {
            item: answer
            for (_, item, _), answer in zip(doubtful, answers, strict=True)
            if not isinstance(answer, BaseException)
        }

    async def _verify(self, index: int, pair: QAPair, verdict: Accepted | Dropped) -> Accepted | Dropped:
        reason = verdict.reason if isinstance(verdict, Dropped) else doubt(self._document, pair)
        messages = self._prompt("verify").messages(document=self._document.passage, question=pair.question)
        try:
            response = await self._ask(f"verify {self.rounds}.{index}", messages, None)
        except (PromptTooLong, Unanswered):
            return Dropped(pair, reason)
        if same_answer(response.answer, pair.answer):
            return verdict if isinstance(verdict, Accepted) else Accepted(pair, {"support": 1.0, "by": "model"})
        return Dropped(pair, f"{reason}, and with the passage the model answers otherwise")

    def _checked(self, item: Item) -> Accepted | Dropped:
        return check_item(self._document, item, self.accepted, self._settings)

    def _open(self, item: Item, verdict: Accepted | Dropped) -> bool:
        """Whether the model should verify an item, because only its support in the passage is doubtful."""
        if isinstance(verdict, Dropped):
            return verdict.reason == UNSUPPORTED
        return isinstance(item, QAPair) and bool(doubt(self._document, item))

    def _notes(self, most: int) -> str:
        """Notes for the prompt about earlier rounds: accepted items, then the latest dropped ones.

        `most` is the maximum number of characters.
        """
        if self._product == "qa_pairs":
            asked = [item.item for item in self.accepted] + [item.item for item in reversed(self.dropped)]
            lines: Iterable[str] = (pair.question for pair in asked if isinstance(pair, QAPair))
            first = "These questions have been asked; ask others:"
        else:
            lines = (dropped.reason for dropped in reversed(self.dropped))
            first = "Versions of this kind were not accepted:"
        shown: list[str] = []
        for line in dict.fromkeys(lines):
            cut = line if len(line) <= LONGEST_NOTE else f"{line[: LONGEST_NOTE - 1]}…"
            if sum(map(len, shown)) + len(cut) > most:
                break
            shown.append(cut)
        return "\n".join([first, *(f"- {line}" for line in shown)]) if shown else ""

    def _prompt(self, name: str) -> PromptFile:
        return prompt_file(name, self._settings.prompts)
