"""Records of data sets in their official forms, the real slices beside the checkout, and what tests do with them."""

import json
from pathlib import Path

import pytest

from dyprag.corpora.datasets import DataSet
from dyprag.corpora.documents import Question

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data sets at {DATA}")


def write_json(path: Path, value: object) -> Path:
    """Write a value as JSON, in a folder that need not exist; gives the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def texts_of(dataset: DataSet, question: Question) -> list[str]:
    """The texts of a question's gold documents."""
    texts = {document.id: document.text for document in dataset.documents}
    return [texts[identity] for identity in question.documents]


HOP = {
    "_id": "h1",
    "type": "bridge",
    "question": "Who designed the bridge at Quarn?",
    "answer": "Tomas Reil",
    "supporting_facts": [["Quarn", 1], ["Osk bridge", 0], ["Quarn", 0]],
    "context": [
        ["Osk bridge", ["Tomas Reil designed it.", " It is long."]],
        ["Fog", ["Fog is wet."]],
        ["Quarn", ["Quarn is a town.", " It has a bridge."]],
    ],
}
POP_HEADER = "id\tprop\tobj\ts_wiki_title\tquestion\tpossible_answers\n"
POP_ROW = '7\toccupation\tpoet\tMara Vell\tWhat is her occupation?\t"[""poet"", ""bard""]"\n'


def iirc(qid: str, answer: dict, *context: tuple[str, str]) -> dict:
    """A question as IIRC has it, with the (passage, text) of its context."""
    spans = [{"passage": passage, "text": text, "indices": [0, len(text)]} for passage, text in context]
    return {"qid": qid, "question": f"{qid}?", "answer": answer, "context": spans, "question_links": []}


RAGTRUTH = {
    "source_id": "14292", "task_type": "QA", "source": "MARCO", "prompt": "Briefly answer …",
    "source_info": {
        "question": "how to cook beets",
        "passages": "passage 1:Wash them.\n\npassage 2:Boil, as passage 3: says.\n\npassage 3:Eat.\n\n",
    },
}  # fmt: skip
