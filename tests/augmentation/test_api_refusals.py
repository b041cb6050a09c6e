"""Refusals of real endpoints: requests adapt to them, or the error names the cause and the remedy."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from augmenters import Made, maker
from llm_refusals import WORDS
from llm_server import Behaviour, LLMServer

from dyprag.augmentation.api import ApiAugmenter
from dyprag.augmentation.refusals import Refusal, read_refusal
from dyprag.corpora.documents import Document, QAPair
from dyprag.corpora.products import Product, ProductName
from dyprag.errors import DocumentError, DocumentTooLong, Stopped
from dyprag.storage.artifacts import Store
from dyprag.storage.journal import responses

LAMP = Document("lamp", "The Ostrel lamp was built in 1911 by Greta Olmsted. It stands 24 metres above Brevik Harbour.")


@pytest.fixture(scope="module")
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def made(server: LLMServer, store: Store) -> Made:
    return maker(server, store)


def write(augmenter: ApiAugmenter, product: ProductName = "qa_pairs", document: Document = LAMP) -> Product:
    return augmenter.begin(document, product, f"{document.id}-{product}").result(timeout=60)


def prompt_tokens(server: LLMServer) -> int:
    """The tokens of the shortest prompt that was sent."""
    return min(len(request.prompt) // 4 for request in server.requests)


@pytest.mark.parametrize("words", WORDS)
def test_the_answer_limit_shrinks_if_the_context_has_too_little_room(server: LLMServer, made: Made, words: str):
    augmenter = made(Behaviour(context=400, words=words), {"max_new_tokens": 512})
    product = write(augmenter)
    assert len(product.accepted) == 2
    assert server.requests[-1].status == 200
    assert len(server.requests) <= 3


@pytest.mark.parametrize("words", WORDS)
def test_a_document_too_long_for_the_context_fails_with_a_remedy(server: LLMServer, made: Made, words: str):
    long = Document("epic", f"{LAMP.text} " * 60)
    augmenter = made(Behaviour(context=500, words=words))
    with pytest.raises(
        DocumentTooLong, match=r"document 'epic': with the instructions .*corpus\.passage_tokens"
    ) as told:
        write(augmenter, document=long)
    assert "500" in str(told.value)
    assert len(server.requests) <= 5
    assert len(write(augmenter).accepted) == 2  # the next document is unaffected


@pytest.mark.parametrize("words", WORDS)
def test_notes_are_shortened_if_the_context_has_too_little_room(server: LLMServer, made: Made, words: str):
    """Notes about dropped items are included only if there is room, and never make the document too long."""
    script = ["invented"] + ["good"] * 20
    write(made(Behaviour(script=list(script)), {"qa_pairs": 12, "verify": False, "tries": 2}))
    first, second = (len(request.prompt) // 4 for request in server.requests)
    augmenter = made(
        Behaviour(script=list(script), context=first + 250, words=words), {"qa_pairs": 13, "verify": False, "tries": 2,
                                                                         "max_new_tokens": 90}
    )  # fmt: skip
    assert second > first + 100
    product = augmenter.begin(LAMP, "qa_pairs", words).result(timeout=60)
    assert product.accepted
    assert product.rounds == 2


def test_notes_stay_short_however_much_was_dropped(server: LLMServer, made: Made):
    """Many dropped items of a weak model must not fill the next prompt."""
    augmenter = made(
        Behaviour(invented=1.0, junk=500), {"qa_pairs": 60, "tries": 6, "verify": False}, answer_format="text"
    )
    write(augmenter)
    lengths = [len(request.prompt) for request in server.requests if request.product == "qa_pairs"]
    assert len(lengths) == 6
    assert max(lengths) < lengths[0] + 1600


def test_lists_are_limited_by_the_schema_or_else_truncated(server: LLMServer, made: Made):
    product = write(made(Behaviour(junk=40)))
    assert (len(product.accepted), len(product.dropped)) == (2, 0)
    assert server.requests[0].bounds == {"minItems", "maxItems"}
    product = made(Behaviour(junk=400), answer_format="text").begin(LAMP, "rewrites", "again").result(timeout=60)
    assert len(product.accepted) == 1
    assert len(product.dropped) <= 1


def words(value: object) -> str:
    """A test id that is equal in every process, unlike the order of a set."""
    return " ".join(sorted(value)) or "none" if isinstance(value, set) else str(value)


@pytest.mark.parametrize(
    ("unsupported", "left", "requests"),
    [
        ({"maxItems"}, set(), 2),
        ({"minLength", "maxLength"}, {"minItems", "maxItems"}, 1),
        ({"grammar"}, set(), 2),
        ({"json_schema"}, set(), 2),
    ],
    ids=words,
)
def test_refused_schema_bounds_are_left_out_from_then_on(
    server: LLMServer, made: Made, unsupported: set[str], left: set[str], requests: int
):
    augmenter = made(Behaviour(unsupported=unsupported, latency=0.05))
    begun = [augmenter.begin(Document(f"d{n}", LAMP.text), "qa_pairs", f"d{n}") for n in range(3)]
    assert all(len(product.result(timeout=60).accepted) == 2 for product in begun)
    assert server.requests[-1].bounds == left
    assert len(server.requests) <= 3 * requests
    before = len(server.requests)
    write(augmenter)
    assert len(server.requests) == before + 1


@pytest.mark.parametrize("unsupported", [set(), {"maxLength"}, {"minLength", "minItems"}, {"grammar"}], ids=words)
def test_after_an_endless_answer_the_schema_limits_text_lengths_if_supported(
    server: LLMServer, made: Made, unsupported: set[str]
):
    augmenter = made(Behaviour(script=["cut_item", "cut_item"], unsupported=unsupported))
    assert len(write(augmenter).accepted) == 2
    sent = [request.bounds for request in server.requests if request.status == 200]
    items, lengths = {"minItems", "maxItems"}, {"minLength", "maxLength"}
    assert sent[1] == (items | lengths if not unsupported else items if unsupported == {"maxLength"} else set())


def test_a_refused_answer_format_stops_the_run_if_it_is_configured(made: Made):
    augmenter = made(Behaviour(unsupported={"json_schema"}), answer_format="json_schema")
    with pytest.raises(Stopped, match=r"it refuses the answer format .*answer_format=auto"):
        write(augmenter)


def test_the_answer_limit_follows_that_of_the_endpoint_from_then_on(server: LLMServer, made: Made):
    augmenter = made(Behaviour(most_tokens=300), {"max_new_tokens": 2000})
    write(augmenter, "rewrites")
    assert [request.status for request in server.requests] == [400, 200]
    write(augmenter, "rewrites", Document("other", LAMP.text))
    assert len(server.requests) == 3


def test_no_seed_is_sent_unless_configured(server: LLMServer, made: Made):
    write(made(Behaviour(dies_of={"seed"}), retries=0))
    assert [request.seed for request in server.requests] == [None]
    write(made(send_seed=True, augment={"seed": 7}), "rewrites")
    assert [request.seed for request in server.requests] == [8]


def test_a_later_try_sends_another_seed_and_so_does_each_round(server: LLMServer, made: Made):
    seeds: list[int | None] = []
    for _ in range(3):
        augmenter = made(Behaviour(not_json=1.0), {"tries": 2}, send_seed=True)
        with pytest.raises(DocumentError, match="Run again to request new answers"):
            write(augmenter)
        seeds += [request.seed for request in server.requests if not request.repair]
    assert len(set(seeds)) == 6


def test_at_temperature_0_the_remedy_is_to_raise_it(made: Made):
    augmenter = made(Behaviour(not_json=1.0), {"tries": 1, "temperature": 0})
    with pytest.raises(DocumentError, match=r"Set augment\.temperature above 0"):
        write(augmenter)


def test_complete_items_of_a_cut_answer_are_kept_and_without_any_there_is_a_remedy(server: LLMServer, made: Made):
    assert len(write(made(augment={"max_new_tokens": 60})).accepted) >= 1
    augmenter = made(augment={"max_new_tokens": 12})
    with pytest.raises(DocumentError, match=r"it breaks off\)\. Raise augment\.max_new_tokens \(12\)"):
        write(augmenter, "rewrites")


def test_missing_pairs_are_made_by_rule_up_to_the_minimum(made: Made):
    product = write(made(Behaviour(invented=1.0), {"qa_pairs": 5, "least_pairs": 3, "tries": 1}))
    assert len(product.accepted) == product.filled == 3
    assert {one.marks["how"] for one in product.accepted} == {"gap"}
    for pair in product.items:
        assert isinstance(pair, QAPair)
        assert pair.answer in LAMP.text
        assert "___" in pair.question
    assert write(made(), document=Document("whole", LAMP.text)).filled == 0


def test_an_unknown_model_is_refused_with_the_served_ones(server: LLMServer, made: Made):
    augmenter = made(Behaviour(knows_models=True), model="nope")
    with pytest.raises(
        Stopped, match=r"it serves no model 'nope' \(404\); it serves m, another-model\. Set augment\.api\.mo"
    ):
        write(augmenter)


def test_a_url_without_v1_is_refused_with_the_right_one(server: LLMServer, made: Made):
    augmenter = made(base_url=server.root)
    with pytest.raises(Stopped, match=rf"Set augment\.api\.base_url={server.root}/v1"):
        write(augmenter)


def test_a_url_without_an_api_is_refused(server: LLMServer, made: Made):
    augmenter = made(base_url=f"{server.root}/blog")
    with pytest.raises(Stopped, match=r"no chat completions API \(404: .*base_url to the URL before /chat/completions"):
        write(augmenter)


def test_a_web_page_instead_of_answers_stops_the_run_but_between_answers_is_retried(made: Made):
    augmenter = made(Behaviour(web_page=1.0))
    with pytest.raises(Stopped, match=r"not with chat completions: .*a web page.*base_url"):
        write(augmenter)
    augmenter = made(Behaviour(script=["good", "web_page", "web_page", "web_page", "good"]))
    write(augmenter)
    assert write(augmenter, "rewrites").usage.retries == 3


@pytest.mark.parametrize(
    ("base_url", "reason"),
    [
        ("http://no-such-host.invalid/v1", "the host name cannot be resolved"),
        ("localhost:8000/v1", "not a valid URL"),
        ("https://127.0.0.1:{port}/v1", "does not speak TLS"),
    ],
)
def test_an_unreachable_url_is_not_retried(made: Made, base_url: str, reason: str):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        augmenter = made(base_url=base_url.format(port=plain.server_port), give_up_after=600)
        with pytest.raises(Stopped, match=reason):
            augmenter.begin(LAMP, "qa_pairs", "k").result(timeout=20)
        plain.shutdown()


def test_a_refused_extra_field_is_named(made: Made):
    augmenter = made(Behaviour(unsupported={"top_kk"}), extra_body={"top_kk": 5})
    with pytest.raises(Stopped, match=r"it refuses top_kk of augment\.api\.extra_body"):
        write(augmenter)


def test_a_server_that_is_down_is_not_blamed_on_the_only_document(server: LLMServer, made: Made):
    augmenter = made(retries=1, give_up_after=2)
    server.stop_listening()
    try:
        with pytest.raises(Stopped, match=rf"the endpoint {server.url}/: it has not answered for 2 seconds"):
            write(augmenter)
    finally:
        server.listen_again()


def test_timeouts_reduce_the_requests_in_flight(server: LLMServer, made: Made, messages: list[str]):
    augmenter = made(Behaviour(script=["hangs"] * 4), concurrency=8, timeout=1.0)
    begun = [augmenter.begin(Document(f"d{n}", LAMP.text), "qa_pairs", f"d{n}") for n in range(16)]
    assert all(product.result(timeout=60).accepted for product in begun)
    assert sum("No answer within 1 s (augment.api.timeout)" in message for message in messages) == 1
    assert augmenter.endpoint._slots.allowed < 8


def test_a_batch_line_with_a_refused_parameter_is_submitted_again_without_it(
    server: LLMServer, made: Made, store: Store
):
    augmenter = made(Behaviour(batch_seconds=0.1, unsupported={"temperature", "json_schema"}), batch=True)

    def once() -> list[BaseException | None]:
        begun = [augmenter.begin(Document(f"d{n}", LAMP.text), "qa_pairs", f"d{n}") for n in range(3)]
        failed = [product.exception(timeout=30) for product in begun]
        augmenter.hand_in()
        while augmenter.fetch().still_open:
            pass
        return failed

    assert all(once())
    assert all(once())  # without a schema
    assert all(once())  # without a temperature, too
    assert once() == [None] * 3
    assert {response.finish for response in responses(store)} == {"stop"}


BODY = {"model": "m", "messages": [], "max_tokens": 5000, "temperature": 0.7, "seed": 1,
        "response_format": {"type": "json_schema"}, "extra_body": {"top_kk": 1}}  # fmt: skip


@pytest.mark.parametrize(
    ("message", "param", "refusal"),
    [
        ("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.", None,
         Refusal("context", limit=8192, prompt=9000)),
        ("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.", None,
         Refusal("context", limit=272000, prompt=300000)),
        ("max_tokens=5000 cannot be greater than max_model_len=2048. Please request fewer output tokens.", "max_tokens",
         Refusal("answer", limit=2048)),
        ("the request exceeds the available context size. try increasing the context size or enable context shift",
         None, Refusal("context")),
        ("Input validation error: `inputs` must have less than 1024 tokens. Given: 2000", None,
         Refusal("context", limit=1024, prompt=2000)),
        ("The input (3000 tokens) is longer than the model's context length (2048 tokens).", None,
         Refusal("context", limit=2048, prompt=3000)),
        ("Requested token count exceeds the model's maximum context length of 2048 tokens. You requested a total of "
         "2300 tokens: 1800 tokens from the input messages and 500 tokens for the completion.", None,
         Refusal("context", limit=2048, prompt=1800)),
        ("prompt is too long: 210000 tokens > 200000 maximum", None, Refusal("context", limit=200000, prompt=210000)),
        ("Prompt contains 40000 tokens, too large for model with 32768 maximum context length", None,
         Refusal("context", prompt=40000)),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", None,
         Refusal("context", limit=1048576, prompt=1200000)),
        ("This model's maximum prompt length is 131072 but the request contains 538145 tokens.", None,
         Refusal("context", limit=131072, prompt=538145)),
        ("invalid schema for response format: response_format/json_schema: minItems is not supported", None,
         Refusal("schema", frozenset({"minItems"}))),
        ("The provided JSON schema contains features not supported by xgrammar.", None, Refusal("schema")),
        ("Unsupported value: 'temperature' does not support 0.7 with this model.", "temperature",
         Refusal("parameter", frozenset({"temperature"}))),
        ("Unrecognized request argument supplied: seed", None, Refusal("parameter", frozenset({"seed"}))),
        ("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
         "max_tokens", Refusal("parameter", frozenset({"max_tokens"}))),
        ('model "m" not found, try pulling it first', None, Refusal("model")),
        ("The response was filtered due to the prompt triggering a content management policy", None, Refusal("other")),
    ],
)  # fmt: skip
def test_refusals_of_many_servers_are_understood(message: str, param: str | None, refusal: Refusal):
    assert read_refusal(message, param, None, BODY) == refusal
