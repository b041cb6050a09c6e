"""The facts files: generated documents stay the same, and invalid entries are errors with file and reason."""

import shutil
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import pytest

from dyprag.errors import ConfigError
from dyprag.translators.lessons.fact_files import FOLDER
from dyprag.translators.lessons.invented import invented_lessons
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.lessons.names import read_subject_kinds, subject_kinds
from dyprag.translators.lessons.wordings import Band, facts, read_facts, read_manners
from dyprag.translators.lessons.words import read_words

# Fingerprints of the documents and questions that the packaged translator was trained on. After an intended change of
# the facts, translators must be trained and recall measured again.
LISTS: dict[tuple[Band, int, str, int], str] = {
    ("closed", 0, "train", 60): "3e9ae106ae9b7e48",
    ("closed", 0, "test", 60): "c6bc6a535d404334",
    ("closed", 7, "train", 200): "df67fc8fb7b9be24",
    ("closed", 20260, "test", 200): "b3e33d926ed48024",
    ("open", 0, "train", 60): "e31c89f614a67c53",
    ("open", 0, "test", 60): "8a57080bfca57912",
    ("open", 7, "train", 200): "73fd93ba7477028b",
    ("open", 20260, "test", 200): "df50c2e500263610",
}
BY_KIND = {
    "person": "315d9d9b255d3e13",
    "company": "0f189bc8a6e5ffcc",
    "town": "f25e75510d1fec84",
    "ship": "001d10ca8b9adb5a",
    "book": "87998db9fce0e0a1",
    "film": "3a4192a770d7fc9d",
    "band": "40e284a0e33c7027",
    "festival": "c212f4c21c4c9944",
    "school": "d5d97d697a419296",
    "museum": "76249dfe4ae7ea9a",
    "plant": "4578060216d44d2e",
    "machine": "7590fb2ba0f8f598",
    "river": "e878f0f902a551e0",
    "island": "96e6de372d97155c",
    "horse": "b8789c18f27ed7b4",
    "restaurant": "9d28a834ad719082",
    "club": "d8d7aedad37ab59e",
}


def fingerprint(lessons: Sequence[Lesson]) -> str:
    digest = blake2b(digest_size=8)
    for lesson in lessons:
        pairs = [(pair.question, pair.answer, pair.full_answer) for pair in lesson.pairs]
        digest.update(repr((lesson.document.id, lesson.document.title, lesson.document.text, pairs)).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("arguments", LISTS)
def test_the_documents_of_a_seed_never_change(arguments):
    band, seed, split, count = arguments
    assert fingerprint(invented_lessons(band, count, seed, split)) == LISTS[arguments]


def test_the_documents_of_each_kind_of_subject_never_change():
    made = {
        kind: fingerprint(
            [*invented_lessons("closed", 20, 3, "train", (kind,)), *invented_lessons("open", 20, 3, "test", (kind,))]
        )
        for kind in dict.fromkeys(subject_kinds())
    }
    assert made == BY_KIND


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "facts"))


def change(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_new_kind_of_fact_is_one_entry(folder: Path):
    entry = """
lucky number:
  about: [person]
  answers: [count]
  predicates: ["believes in the number {v}"]
  statements: ["{P} lucky number is {v}"]
  labels: [Lucky number]
  questions: ["What is {name}'s lucky number?", "Which number does {name} believe in?"]
  full_answer: "{name} believes in {v}."
"""
    before = facts("person", "open")
    with (folder / "people.yaml").open("a", encoding="utf-8") as file:
        file.write(entry)
    known = read_facts(folder)
    assert [fact.key for fact in known["person", "open"] if fact not in before] == ["lucky number"]
    assert known["person", "closed"] == facts("person", "closed")


@pytest.mark.parametrize(
    ("file", "old", "new", "entry", "reason"),
    [
        ("people.yaml", "answers: [profession]", "answers: [proffesion]", "occupation", "answers: 'proffesion'"),
        ("people.yaml", "about: [person]", "about: [persons]", "occupation", "about: 'persons' is not one of"),
        ("people.yaml", "a living as {a} {v}", "a living as {value}", "occupation", "predicates 2: .*slot {value}"),
        ("people.yaml", "earned a living as {a} {v}", "works", "occupation", "predicates 2: 'works' lacks {v}"),
        ("people.yaml", "a living as {a} {v}", "a living as {v", "occupation", "predicates 2: .*not belong to a slot"),
        ("people.yaml", "{P} occupation is that", "the job is that", "occupation", "statements 1: .*{O}, {P}, {S}"),
        ("people.yaml", "What does {name} do", "What does one do", "occupation", "questions 2: .*lacks {name}"),
        ("people.yaml", "  labels: [Occ", "  lables: [Occ", "occupation", "labels: Field required|lables: Unexpected"),
        ("people.yaml", "\nhome:", "\nbirthplace:", "birthplace", r"it occurs more than once \(line \d+\)"),
        ("people.yaml", "[city, place]", "[city, city]", "birthplace", "answers: 'city' occurs more than once"),
        ("things.yaml", "\nport:", "\noccupation:", "occupation", "another file has an entry of this name"),
        ("words.yaml", "amber, beige", "amber, amber", "answers", "colour: 'amber' occurs more than once"),
        ("words.yaml", "  codas:", "  codes:", "name_parts", "codas: Field required"),
        ("subjects.yaml", '"{company}"', '"Acme"', "company", "names 1: 'Acme' needs one of {company}"),
        ("subjects.yaml", "company:\n", "choir: {nouns: [choir], names: ['{word}']}\ncompany:\n", "choir", "it has 0 "),
    ],
)  # fmt: skip
def test_an_invalid_entry_is_an_error_with_file_and_reason(
    folder: Path, file: str, old: str, new: str, entry: str, reason: str
):
    change(folder, file, old, new)
    with pytest.raises(ConfigError) as raised:
        read_facts(folder)
    assert raised.value.subject == f"facts file {folder / file}, entry '{entry}'"
    raised.match(reason)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("labelled: 0.6", "labelled: 6", "5 labelled: Input should be less than or equal to 1"),
        ("A portrait of {name}.", "A portrait.", "2 openings 1: 'A portrait.' lacks {name}"),
        ("nobody expected {O} to", "nobody expected it to", r"12: .* needs one of {O}, {P}, {S}"),
    ],
)
def test_an_invalid_style_or_filler_is_an_error(folder: Path, old: str, new: str, reason: str):
    change(folder, "styles.yaml", old, new)
    with pytest.raises(ConfigError, match=reason):
        read_manners(folder)


def test_values_that_yaml_would_convert_stay_text(folder: Path):
    change(folder, "words.yaml", "amber, beige", "no, 1911, null")
    assert read_words(folder).answers["colour"][:3] == ("no", "1911", "null")


@pytest.mark.parametrize("content", [b"a: [", b"\xff", b"", b"- a list"])
def test_a_file_without_entries_is_an_error(folder: Path, content: bytes):
    (folder / "subjects.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"subjects\.yaml"):
        read_subject_kinds(folder)


def test_a_missing_file_is_named(folder: Path):
    (folder / "things.yaml").unlink()
    with pytest.raises(ConfigError, match=r"things\.yaml.*cannot be read"):
        read_facts(folder)
