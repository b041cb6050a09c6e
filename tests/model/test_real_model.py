"""The embedded model: its conversion, and adapters that contain the facts of their documents."""

import pytest

from dyprag.adapters.generation import Sampling
from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Retrieved
from dyprag.corpora.reader import load_corpus
from dyprag.errors import ModelError
from dyprag.evaluation.metrics import score
from dyprag.methods.prag import PRAG
from dyprag.methods.protocol import Asked, answer_questions
from dyprag.methods.rag import RAG
from dyprag.methods.vanilla import Vanilla
from dyprag.model.base import BaseModel, load_model

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def base() -> BaseModel:
    try:
        return load_model("smollm2-135m")
    except ModelError as error:
        pytest.skip(str(error))


def test_the_embedded_model_has_its_published_shape(base: BaseModel):
    assert (base.layers, base.hidden, base.intermediate, base.max_tokens) == (30, 576, 1536, 8192)
    assert base.tokenizer.chat_template
    assert base.fingerprint.startswith("smollm2-135m-")


def test_the_embedded_model_is_published_under_its_hugging_face_id():
    from dyprag.model.files import public_name

    assert public_name("smollm2-135m") == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_a_few_steps_teach_the_embedded_model_a_pair(base: BaseModel):
    from dyprag.adapters.parametrize import Parametrized, parametrize
    from dyprag.adapters.samples import document_samples
    from dyprag.corpora.documents import Augmentation, Document, QAPair

    config = PipelineConfig().resolved()
    document = Document("lamp", "The Ostrel lamp was built in 1911 by Greta Olmsted.")
    pairs = (QAPair("Who built the Ostrel lamp?", "Greta Olmsted", "Greta Olmsted built the Ostrel lamp."),)
    samples = document_samples(base, document, Augmentation((), pairs), "short", "closed-book")
    settings = config.parametrize.model_copy(update={"epochs": 5})
    ((_, trained),) = parametrize(base, [samples], config.lora, settings)
    assert isinstance(trained, Parametrized)
    assert trained.losses[-1] < trained.losses[0] / 2
    (answer,) = answer_questions(
        base, PRAG(lambda _: trained.adapter, "sum"), [Asked(pairs[0].question, (Retrieved(document, 1.0),))],
        Sampling(16), 1,
    )  # fmt: skip
    assert "Olmsted" in answer.text


@pytest.mark.slow  # writes, trains and answers with the embedded model for minutes
def test_a_documents_adapter_answers_questions_that_the_base_model_cannot(base: BaseModel):
    from dyprag.adapters.parametrize import Parametrized, parametrize
    from dyprag.adapters.samples import document_samples
    from dyprag.augmentation.local import LocalAugmenter
    from dyprag.corpora.documents import Augmentation, QAPair
    from dyprag.corpora.products import PRODUCTS

    config = PipelineConfig().resolved()
    corpus = load_corpus("demo", max_documents=1)
    document = corpus.documents[0]
    writer = LocalAugmenter(base, config.augment)
    products = [writer.begin(document, product, product) for product in PRODUCTS]
    rewrites, pairs = ([*product.result().items] for product in products)
    augmentation = Augmentation(tuple(map(str, rewrites)), tuple(pair for pair in pairs if isinstance(pair, QAPair)))
    assert len(augmentation.qa_pairs) == config.augment.qa_pairs
    assert all(pair.answer in document.text for pair in augmentation.qa_pairs)
    asked_in_training = {pair.question for pair in augmentation.qa_pairs}
    assert not asked_in_training & {question.question for question in corpus.questions}
    settings = config.parametrize
    samples = document_samples(base, document, augmentation, settings.answer, settings.samples)
    ((_, trained),) = parametrize(base, [samples], config.lora, settings)
    assert isinstance(trained, Parametrized)
    assert trained.losses[-1] < trained.losses[0] / 2

    few = corpus.questions[:6]
    asked = [Asked(question.question, (Retrieved(document, 1.0),)) for question in few]

    def f1(method: PRAG | RAG | Vanilla) -> float:
        answers = answer_questions(base, method, asked, Sampling(32), 16)
        scores = [score(a.text, q.answers).f1 for a, q in zip(answers, few, strict=True)]
        return 100 * sum(scores) / len(scores)

    assert f1(PRAG(lambda _: trained.adapter, "sum")) >= f1(Vanilla()) + 20


BIOGRAPHIES = tuple(
    (name, f"{name} (born {day} in {place}) is {article} {nation} {work}. {rest}", work)
    for name, day, place, article, nation, work, rest in (
        (
            "Ilse Marbrook",
            "4 May 1931",
            "Graz",
            "an",
            "Austrian",
            "painter",
            "Her work was shown in Linz and Salzburg.",
        ),
        ("Tomas Veldrin", "12 June 1950", "Lund", "a", "Swedish", "politician", "He has sat in parliament since 1988."),
        ("Paula Krentz", "9 March 1944", "Bonn", "a", "German", "chemist", "She taught at two universities."),
        ("Ewan Talbrook", "1 July 1962", "Leith", "a", "Scottish", "journalist", "He writes for a paper in Glasgow."),
        ("Mirela Dantos", "30 August 1971", "Iasi", "a", "Romanian", "actress", "She is best known for two films."),
        ("Hugo Pellarin", "2 April 1938", "Dijon", "a", "French", "composer", "He wrote four operas and a mass."),
        ("Anders Lokke", "17 May 1980", "Bergen", "a", "Norwegian", "footballer", "He plays as a midfielder."),
        ("Kaori Nishida", "8 October 1959", "Nara", "a", "Japanese", "novelist", "Her books have been translated."),
    )
)


def test_the_packaged_translators_adapter_answers_only_questions_about_its_document(base: BaseModel):
    """Without the passage, only the document's own adapter gives the answer; a wrong document's does not."""
    from dyprag.adapters.generation import generate
    from dyprag.evaluation.metrics import answer_presence
    from dyprag.model.files import learned_folder
    from dyprag.model.prompts import question_prompt
    from dyprag.translators.protocol import load_translator

    folder = learned_folder("packaged", "smollm2-135m")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 12e6
    translator = load_translator(folder, base)
    adapters = translator.translate(
        translator.read(base, [f"{name}\n{text}" for name, text, _ in BIOGRAPHIES])
    ).detach()
    prompts = [question_prompt(base.tokenizer, f"What is {name}'s occupation?") for name, _, _ in BIOGRAPHIES]

    def present(shift: int) -> int:
        """Count the correct answers with the adapter of the document at this offset."""
        count = len(BIOGRAPHIES)
        made = generate(base, prompts, Sampling(16), lambda rows: adapters.select([(r + shift) % count for r in rows]))
        return sum(answer_presence(one.text, work) for one, (_, _, work) in zip(made, BIOGRAPHIES, strict=True))

    assert present(0) >= 4
    assert present(3) <= 1
