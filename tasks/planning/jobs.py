"""What a task is asked to do: the jobs of the stages that work on documents."""

from dataclasses import dataclass

from dyprag.augmentation.products import ProductName


@dataclass(frozen=True)
class Job:
    """One document's work in one stage: what to make, and the key of what it is made from."""

    document_id: str
    document_key: str
    key: str
    upstream: tuple[str, ...] = ()


@dataclass(frozen=True)
class AugmentJob:
    """One document's augmentation: its key, and the key of each product that it consists of."""

    document_id: str
    document_key: str
    key: str
    products: dict[ProductName, str]
