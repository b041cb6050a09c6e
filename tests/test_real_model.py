"""The embedded model itself: its conversion, and that a document's adapter really carries the document."""

import pytest

from dyprag.config import PipelineConfig
from dyprag.corpus import load_corpus
from dyprag.errors import ModelError
from dyprag.evaluation.metrics import score
from dyprag.generation import Sampling
from dyprag.methods import PRAG, RAG, Asked, Vanilla, answer_questions
from dyprag.models import BaseModel, load_model

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def base() -> BaseModel:
    try:
        return load_model("smollm2-135m")
    except ModelError as error:
        pytest.skip(str(error))


def test_the_embedded_model_is_what_it_says(base: BaseModel):
    assert (base.layers, base.hidden, base.intermediate, base.max_tokens) == (30, 576, 1536, 8192)
    assert base.tokenizer.chat_template
    assert base.fingerprint.startswith("smollm2-135m-")


def test_a_document_s_adapter_answers_questions_about_it_that_the_bare_model_cannot(base: BaseModel):
    from dyprag.augmentation.local import LocalAugmenter
    from dyprag.augmentation.products import PRODUCTS
    from dyprag.documents import Augmentation, QAPair, Retrieved
    from dyprag.parametrize import Parametrized, parametrize
    from dyprag.samples import document_samples

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

    asked = [Asked(question.question, (Retrieved(document, 1.0),)) for question in corpus.questions]

    def f1(method: PRAG | RAG | Vanilla) -> float:
        answers = answer_questions(base, method, asked, Sampling(config.evaluate.max_new_tokens), 16)
        scores = [score(a.text, q.answers).f1 for a, q in zip(answers, corpus.questions, strict=True)]
        return 100 * sum(scores) / len(scores)

    assert f1(PRAG(lambda _: trained.adapter, "sum")) >= f1(Vanilla()) + 20
