"""Question writers: what they learn from, their prompts and training, and which of their questions are kept."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TEXTS, random_adapters, write_jsonl
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from dyprag.adapters.injection import inject
from dyprag.adapters.likelihood import likelihoods
from dyprag.augmentation.local import LocalAugmenter
from dyprag.augmentation.scored import ScoredPair
from dyprag.augmentation.writer.asking import Draft, QuestionWriter, in_turns, offered_answers, rivals_of, sound
from dyprag.augmentation.writer.lessons import Asked, WriterLesson, grounded, writer_lessons
from dyprag.augmentation.writer.prompts import ask_prompt, ask_sample, read_draft
from dyprag.augmentation.writer.training import POOL, drawn, fresh_writer, learn_to_write, step_tree, writing_loss
from dyprag.config import AugmentSettings
from dyprag.config.writer import WriterSettings
from dyprag.corpora.documents import Document, QAPair
from dyprag.errors import CorpusError
from dyprag.model.base import BaseModel
from dyprag.translators.lessons.human import is_held_out

MILL = Document(
    "mill",
    "The mill at Aldersby was built in 1764 for a cloth merchant. Its wheel, nine metres wide, was made by Oda Renn. "
    "Visitors pay two crowns.",
    "Aldersby Mill",
)
BUILT, WHEEL, PAY = (
    "The mill at Aldersby was built in 1764 for a cloth merchant.",
    "Its wheel, nine metres wide, was made by Oda Renn.",
    "Visitors pay two crowns.",
)
QUICK = WriterSettings(steps=4, documents=2, rank=2, alpha=4, first_layer=0, warmup=1, learning_rate=1e-2)


def asked(question: str, *answers: str, kind: str = "extractive") -> dict[str, Any]:
    return {"question": question, "answers": list(answers), "type": kind}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (asked("When was the mill built?", "1764"), Asked(BUILT, "1764", "When was the mill built?")),
        (asked("Who made the wheel?", "oda renn."), Asked(WHEEL, "Oda Renn", "Who made the wheel?")),
        (asked("Who made the wheel ?", "Oda Renn"), Asked(WHEEL, "Oda Renn", "Who made the wheel?")),
        # the shorter of several answers, in the sentence that shares more words with the question
        (
            asked("How wide is the wheel?", "nine metres wide", "nine metres"),
            Asked(WHEEL, "nine metres", "How wide is the wheel?"),
        ),
        (asked("who made the wheel", "Oda Renn"), None),  # written carelessly
        (asked("Was the mill built in 1764?", "yes", kind="boolean"), None),
        (asked("Who made the wheel of Oda Renn?", "Oda Renn"), None),  # gives its answer away
        (asked("Which sailor painted four portraits?", "Oda Renn"), None),  # asks about something else
        (asked("When was the mill at Aldersby built?", "176"), None),  # a part of a word
    ],
)  # fmt: skip
def test_only_questions_that_one_sentence_answers_are_lessons(question: dict[str, Any], expected: Asked | None):
    assert grounded(MILL, question) == expected


def passages(folder: Path, name: str, count: int, words: int = 30) -> list[str]:
    """Write a set of passages, each with two questions. Returns their texts."""
    texts = [f"Lamp {n} of {name} was built in {1500 + n} by Greta Olmsted. {'It shines far. ' * (words // 3)}"
             for n in range(count)]  # fmt: skip
    rows = [
        {"id": f"{name}-{n}", "title": "", "text": text, "questions": [
            asked(f"Who built lamp {n} of {name}?", "Greta Olmsted"),
            asked(f"When was lamp {n} of {name} built?", str(1500 + n)),
        ]}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    write_jsonl(folder / f"{name}.jsonl", rows)
    return texts


def test_lessons_leave_out_what_is_held_out_and_spread_the_sets(tmp_path: Path):
    texts = {name: passages(tmp_path, name, count) for name, count in (("big", 60), ("small", 20), ("covidqa", 30))}
    training = writer_lessons(tmp_path, "training")
    kept = {name: {t.strip() for t in each if not is_held_out(t.strip())} for name, each in texts.items()}
    assert {x.document.text for x in training} == kept["big"] | kept["small"]
    held_out = writer_lessons(tmp_path, "held-out")
    assert {x.document.text for x in held_out} == {
        t.strip() for name in ("big", "small") for t in texts[name] if is_held_out(t.strip())
    }
    assert {x.source for x in writer_lessons(tmp_path, "other-kinds")} == {"covidqa"}
    half = Counter(x.source for x in training[: len(training) // 2])
    assert abs(half["small"] - len(kept["small"]) / 2) <= 1
    assert all(len(x.asked) == 2 for x in training)


def test_lessons_can_be_short_and_rich(tmp_path: Path):
    passages(tmp_path, "long", 5, words=90)
    passages(tmp_path, "short", 5)
    assert {x.source for x in writer_lessons(tmp_path, "training", most_words=60)} == {"short"}
    with pytest.raises(CorpusError, match="single sentence"):
        writer_lessons(tmp_path, "training", least_questions=3)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 3))
def test_a_lesson_comes_again_only_after_all_others(lengths: list[int], documents: int, seed: int):
    settings = WriterSettings(documents=documents, seed=seed)
    turns = 3
    steps = turns * len(lengths) * POOL
    counts = Counter(index for step in range(steps) for index in drawn(lengths, settings, step))
    assert set(counts) == set(range(len(lengths)))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_sample_ends_with_what_the_writer_should_write(base: BaseModel):
    sample = ask_sample(base.tokenizer, MILL, Asked(WHEEL, "Oda Renn", "Who made the wheel?"))
    prompt, written = sample.ids[: sample.prompt_length], sample.ids[sample.prompt_length :]
    assert prompt == ask_prompt(base.tokenizer, MILL, WHEEL)
    assert written[-1] == base.tokenizer.eos_token_id
    assert read_draft(base.tokenizer.decode(written[:-1])) == ("Oda Renn", "Who made the wheel?")
    given_answer = base.tokenizer.decode(ask_prompt(base.tokenizer, MILL, WHEEL, "Oda Renn"))
    assert base.tokenizer.decode(sample.ids[:-1]).startswith(given_answer)


ABOUT_THE_MILL = (Asked(WHEEL, "Oda Renn", "Who made the wheel?"), Asked(BUILT, "1764", "When was it built?"))
LESSONS = [
    WriterLesson(MILL, ABOUT_THE_MILL, "x"),
    *(WriterLesson(Document(i, text, i), (Asked(text, text.split()[-1], f"What about {i}?"),), "x")
      for i, text in TEXTS.items()),
]  # fmt: skip


@pytest.mark.parametrize("first_layer", [0, 1])
def test_the_loss_is_that_of_each_question_alone(lively: BaseModel, first_layer: int):
    settings = QUICK.model_copy(update={"first_layer": first_layer})
    adapters = random_adapters(lively)
    tree = step_tree(lively, LESSONS[:2], settings)
    losses = []
    for lesson in LESSONS[:2]:
        for each in lesson.asked:
            sample = ask_sample(lively.tokenizer, lesson.document, each)
            ids = torch.tensor([sample.ids])
            with torch.no_grad(), inject(lively, adapters, first_layer):
                logits = lively.model(input_ids=ids).logits[0, sample.prompt_length - 1 : -1]
            losses.append(cross_entropy(logits, ids[0, sample.prompt_length :], reduction="none"))
    torch.testing.assert_close(
        writing_loss(lively, adapters, tree, first_layer), torch.cat(losses).mean(), atol=1e-4, rtol=1e-4
    )


def test_training_lowers_the_loss_and_resumes_where_it_stopped(lively: BaseModel, tmp_path: Path):
    def trained(settings: WriterSettings, checkpoint: Path | None, stop: int = 0) -> tuple[dict[str, Any], list[float]]:
        writer = fresh_writer(lively, settings)

        def on_step(number: int, losses: object) -> None:
            if number == stop:
                raise KeyboardInterrupt

        curve = learn_to_write(lively, writer, LESSONS, settings, on_step, checkpoint)
        return dict(writer.state_dict()), [x.total for x in curve]

    longer = QUICK.model_copy(update={"steps": 40, "learning_rate": 1e-2})
    whole, curve = trained(longer, None)
    assert sum(curve[-5:]) < 0.98 * sum(curve[:5])  # a random model of 32 dimensions cannot fall far
    path = tmp_path / "writer.safetensors"
    import dyprag.translators.training as training

    patch = pytest.MonkeyPatch()
    patch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    with patch.context(), pytest.raises(KeyboardInterrupt):
        trained(longer, path, stop=20)
    patch.undo()
    assert path.exists()
    resumed, curve_again = trained(longer, path)
    assert curve_again == curve
    for name, weights in whole.items():
        assert torch.equal(weights, resumed[name])


@pytest.mark.parametrize(
    ("sentence", "answer", "question", "kept"),
    [
        (BUILT, "1764", "When was the mill at Aldersby built?", "1764"),
        (WHEEL, "oda renn", "Who made the wheel of Aldersby Mill?", "Oda Renn"),
        (WHEEL, "Oda Renn.", "Who made the wheel of the mill?", "Oda Renn"),
        (WHEEL, "Oda", "Who made the wheel of the mill at Brindle?", ""),  # a name that the passage has not
        (WHEEL, "Jan Abbot", "Who made the wheel of the mill?", ""),  # not in the sentence
        (WHEEL, "Oda Renn", "Was the wheel made by Oda Renn?", ""),  # gives the answer away
        (WHEEL, "Oda Renn", "Who painted forty quiet portraits?", ""),  # about something else
        (WHEEL, "nine metres", "How wide is it?", ""),  # depends on an earlier question
        (WHEEL, "Oda Renn", "Who made the wheel of the mill", ""),
        (WHEEL, "", "Who made the wheel of the mill?", ""),
        (PAY, "two crowns", "How many crowns do visitors pay at the mill?", "two crowns"),
        (PAY, "Visitors", "How many visitors pay crowns at the mill?", ""),
    ],
)
def test_a_sound_question_asks_for_its_answer_in_the_passages_words(
    sentence: str, answer: str, question: str, kept: str
):
    assert sound(MILL, sentence, answer, question) == kept


def test_each_sentence_has_its_turn_and_the_surest_question_comes_first():
    def pair(name: str, sureness: float) -> ScoredPair:
        return ScoredPair(QAPair(name, name, name), {"how": "writer", "likelihood": sureness, "question": -1.0})

    pairs = [("one", pair("a", -3)), ("one", pair("b", -1)), ("two", pair("c", -2)), ("one", pair("d", -2))]
    assert [each.pair.question for each in in_turns(pairs)] == ["b", "c", "d", "a"]


def test_likelihoods_with_an_adapter_are_those_of_the_injected_model(lively: BaseModel):
    adapter = random_adapters(lively)
    prompts = [ask_prompt(lively.tokenizer, MILL, sentence) for sentence in (WHEEL, BUILT, PAY)]
    answers = [lively.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (" Oda Renn", " 1764", " two")]
    expected = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([[*prompt, *answer]])
        with torch.no_grad(), inject(lively, adapter):
            logits = lively.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected.append(float(logits.gather(1, ids[0, len(prompt) :, None]).mean()))
    assert likelihoods(lively, prompts, answers, 2, adapter) == pytest.approx(expected, abs=1e-4)
    assert likelihoods(lively, prompts, answers) != pytest.approx(expected, abs=1e-3)


def test_rivals_are_other_answers_of_the_passage_that_the_question_does_not_name():
    draft = Draft(WHEEL, "nine metres", "How wide is the wheel that Oda Renn made?", -0.1)
    other = Draft(BUILT, "cloth merchant", "For whom was the mill built?", -0.1)
    near = Draft(WHEEL, "nine metres wide", "How wide is the wheel?", -0.1)
    rivals = rivals_of(draft, offered_answers(MILL, [draft, other, near]))
    answers = [answer for _, answer in rivals]
    assert "1764" in answers
    assert "cloth merchant" in answers
    assert not {"Oda Renn", "nine metres", "nine metres wide"} & set(answers)
    assert all(answer in sentence for sentence, answer in rivals)


def test_a_writer_whose_questions_fail_leaves_gaps(base: BaseModel):
    """A random model asks nothing sound, and no document fails of it."""
    settings = AugmentSettings(qa_pairs=2, rewrites=0, least_pairs=1)
    writer = random_adapters(base, rank=2)
    assert QuestionWriter(base, writer, 0).pairs(MILL) == []
    augmenter = LocalAugmenter(base, settings, writer)
    (pairs,) = augmenter.qa_pairs_many([MILL])
    assert not isinstance(pairs, Exception)
    assert {each.marks["how"] for each in pairs} == {"gap"}


def test_table_rows_are_asked_about_by_rule_beside_a_writer(base: BaseModel):
    document = replace(MILL, text="Bridge: Old Bridge; Built: 1399; Length: 64 m.\n\n" + MILL.text)
    augmenter = LocalAugmenter(base, AugmentSettings(qa_pairs=3, rewrites=0, least_pairs=1), random_adapters(base))
    (pairs,) = augmenter.qa_pairs_many([document])
    assert not isinstance(pairs, Exception)
    assert {each.pair.question for each in pairs if each.marks["how"] == "rule"} >= {
        "Aldersby Mill: In which year was Old Bridge built?"
    }
