"""Synthetic results of an evaluation and of augmentation, as a report is made of them."""

from collections.abc import Sequence
from typing import Any

from dyprag.evaluation.metrics import answer_presence, score
from dyprag.evaluation.results import Judged, Shown, result_rows

SIZES = {"vanilla": 0.0, "rag": 740.0, "prag": 1_500_000.0, "dyprag": 740.0}
RIGHT = {"vanilla": 1, "rag": 4, "prag": 3, "dyprag": 2, "prag-wrong": 2}  # of six questions
GOLD = Shown("d1", "Engines", "Ada built it.</script><!--", 2.5, True)


def answer(method: str, number: int, right: bool, **changes: Any) -> Judged:
    output = "Ada. </script><script>alert(1)</script>" if right else "<b>Bob</b> | nobody"
    passages = () if method == "vanilla" else (GOLD, Shown("d2", "", "Ships sail.", 1.0, False))
    values: dict[str, Any] = {
        "dataset": "demo", "variant": "", "method": method, "question_id": f"q{number}", "question": f"Who | {number}?",
        "answers": ("Ada", "Ada L."), "type": ("single", "multihop")[number % 3 == 0],
        "split": ("seen", "unseen")[number % 2], "output": output, "tokens": 5, "seconds": 0.25, "first_token": 0.05,
        "retrievals": len(passages) // 2, "prompt": f"Tell me: {method} {number}", "passages": passages,
        "retrieval": None, "score": score(output, ["Ada", "Ada L."]),
        "present": answer_presence(output, ["Ada", "Ada L."]),
    }  # fmt: skip
    return Judged(**(values | changes))


def run(methods: Sequence[str] = tuple(RIGHT), **changes: Any) -> list[Judged]:
    return [answer(method, n, n < RIGHT[method], **changes) for method in methods for n in range(6)]


JUDGED = run()
ROWS = result_rows(JUDGED, SIZES)
GRID = [*run(variant="width=2"), *run(("vanilla", "dyprag"), variant="width=4")]
SEVERAL = [*run(dataset="popqa"), *run(dataset="hotpotqa")]


def augmented(product: str, number: int, **changes: Any) -> dict[str, Any]:
    return {"document_id": f"d{number}", "product": product, "wanted": 3, "accepted": 2 + number % 2, "dropped": 1,
            "rounds": 2, "requests": 4, "retries": 1, "tokens_in": 900, "tokens_out": 350, "cost": 0.001,
            "latency": 2.0, "quality": '{"support": 0.9}', "seconds": 3.5,
            "reasons": '{"it loses 1911": 1, "it is the same as another one": 2}', **changes}  # fmt: skip


AUGMENTED = [augmented(product, number) for product in ("rewrites", "qa_pairs") for number in range(10)]
