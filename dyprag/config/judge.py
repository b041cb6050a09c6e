"""The settings of the LLM that judges answers (§4)."""

from dyprag.config.api import ApiSettings
from dyprag.config.base import Section, basic, expert
from dyprag.config.evaluate import Method


class JudgeSettings(Section):
    """An LLM that compares two methods' answers (§4, knowledge internalization)."""

    api: ApiSettings = basic(ApiSettings(), "Its endpoint; without a model's name nobody judges.")
    pairs: tuple[tuple[Method, Method], ...] = expert((("dyprag-combine", "rag"),), "Which methods are compared.")
    tries: int = expert(3, "Times that a malformed verdict is asked for.", ge=1)
