"""Keys: equal for equal work, different for anything that affects a result."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dyprag.corpora.documents import Document, content_key

KEY = content_key("adapter", ["text", "other"], {"rank": 2, "alpha": 32})


def test_a_key_has_32_hexadecimal_characters():
    assert len(KEY) == 32
    assert set(KEY) <= set("0123456789abcdef")


def test_a_key_depends_on_kind_inputs_and_settings():
    others = [
        content_key("embedding", ["text", "other"], {"rank": 2, "alpha": 32}),
        content_key("adapter", ["other", "text"], {"rank": 2, "alpha": 32}),
        content_key("adapter", ["textother"], {"rank": 2, "alpha": 32}),
        content_key("adapter", ["text", "other", ""], {"rank": 2, "alpha": 32}),
        content_key("adapter", ["text", "other"], {"rank": 4, "alpha": 32}),
        content_key("adapter", ["text", "other"], {"rank": 2}),
        content_key("adapter", ["text", "other"]),
    ]
    assert len({KEY, *others}) == len(others) + 1


JSON = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans() | st.none(), max_size=5)


@given(JSON, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_a_key_does_not_depend_on_the_order_of_the_settings(values: dict, order):
    shuffled = list(values.items())
    order.shuffle(shuffled)
    assert content_key("k", ["i"], values) == content_key("k", ["i"], dict(shuffled))


@given(st.lists(st.text(max_size=4), max_size=3), st.lists(st.text(max_size=4), max_size=3))
@settings(max_examples=50)
def test_different_inputs_have_different_keys(first: list[str], second: list[str]):
    assert (content_key("k", first) == content_key("k", second)) == (first == second)


def test_a_documents_key_depends_on_title_and_text_only():
    document = Document("a", "text", "title")
    assert Document("b", "text", "title").key == document.key
    keys = {
        document.key,
        Document("a", "text").key,
        Document("a", "other", "title").key,
        Document("a", "title", "text").key,
    }
    assert len(keys) == 4


def test_a_key_accepts_lone_surrogates():
    assert content_key("k", ["\ud83d"]) != content_key("k", ["\ud83e"])


def test_a_passage_starts_with_its_title():
    assert Document("a", "text", "title").passage == "title\ntext"
    assert Document("a", "text").passage == "text"
